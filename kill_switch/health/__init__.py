"""Answer whether this daemon could kill now: drills, dry runs, clock skew."""
