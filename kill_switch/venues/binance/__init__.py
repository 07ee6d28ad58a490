"""Binance: the adapters of its products, and what they share: signatures, answers (docs/venues/binance.md)."""
