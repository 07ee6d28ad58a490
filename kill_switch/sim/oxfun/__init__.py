"""Simulate OX.FUN."""
