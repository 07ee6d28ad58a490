"""Serve venues through ccxt, which encodes requests and decodes errors here, and sends nothing."""
