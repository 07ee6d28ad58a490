"""Simulate CrossTrade."""
