"""The simulated Kraken, spot."""
