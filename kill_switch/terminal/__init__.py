"""Show status, reports and records on a terminal."""
