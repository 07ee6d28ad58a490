"""Hold the adapter of Roxom and its parts."""
