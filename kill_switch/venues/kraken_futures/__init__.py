"""Kraken derivatives: its adapter, its replies, its WebSocket v1 and its transfers (docs/venues/kraken.md)."""
