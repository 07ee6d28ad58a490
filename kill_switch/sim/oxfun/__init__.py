"""The simulated OX.FUN."""
