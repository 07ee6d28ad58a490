"""Run the pure core against lanes, timers and the journal."""
