"""The CrossTrade adapter."""
