"""The simulated CrossTrade."""
