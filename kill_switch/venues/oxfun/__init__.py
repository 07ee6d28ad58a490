"""Speak to OX.FUN."""
