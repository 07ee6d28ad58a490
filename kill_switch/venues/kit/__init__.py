"""Hold the parts that every adapter owns: calls, the order book, read-backs, drills, limits. No part knows a venue."""
