"""The KUNA adapter."""
