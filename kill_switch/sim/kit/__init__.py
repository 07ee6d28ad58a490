"""The common parts of the simulated venues."""
