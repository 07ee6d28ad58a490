"""Simulate Roxom."""
