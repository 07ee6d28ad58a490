"""Speak to Roxom."""
