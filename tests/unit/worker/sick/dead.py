"""It ends before it has begun."""

raise SystemExit(1)
