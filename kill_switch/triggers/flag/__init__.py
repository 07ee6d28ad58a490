"""Fire when a file appears."""
