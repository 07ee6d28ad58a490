"""Speak to CrossTrade."""
