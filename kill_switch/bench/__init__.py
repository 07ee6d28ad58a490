"""Measure the kill on this machine."""
