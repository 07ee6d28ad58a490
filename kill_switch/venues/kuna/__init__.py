"""Speak to KUNA."""
