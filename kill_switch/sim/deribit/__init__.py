"""The simulated Deribit."""
