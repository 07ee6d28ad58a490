"""Simulate KUNA."""
