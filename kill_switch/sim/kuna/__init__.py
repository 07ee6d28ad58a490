"""The simulated KUNA."""
