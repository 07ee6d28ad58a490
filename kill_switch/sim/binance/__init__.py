"""The simulated Binance: spot, USD-M futures, COIN-M futures."""
