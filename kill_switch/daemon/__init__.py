"""Build the daemon out of its parts, run it, reload it and stop it."""
