"""What the simulated venues share."""
