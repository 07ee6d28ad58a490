"""Watch for trouble: each trigger owns one input and reports reasons."""
