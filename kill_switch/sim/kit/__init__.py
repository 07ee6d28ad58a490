"""Offer what every simulated venue is made of."""
