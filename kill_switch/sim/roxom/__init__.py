"""The simulated Roxom."""
