"""The answer to whether this daemon could kill now: drills, dry runs, clock skew, certificates."""
