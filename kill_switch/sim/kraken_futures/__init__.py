"""The simulated Kraken derivatives."""
