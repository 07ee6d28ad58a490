"""Views for a terminal: the status, reports, drills, dry runs and the journal."""
