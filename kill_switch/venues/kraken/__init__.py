"""Kraken spot: its adapter, its replies and its transfers; the venue's facts are in docs/venues/kraken.md."""
