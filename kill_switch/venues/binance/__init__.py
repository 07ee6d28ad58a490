"""Binance: the adapters of its products, their shared signatures and answers (docs/venues/binance.md)."""
