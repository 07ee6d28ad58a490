"""Fire on losses: figures of accounts come together, are measured against a day, and judged."""
