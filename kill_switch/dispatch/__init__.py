"""Run the core against real lanes: engine commands go out, lane events come in."""
