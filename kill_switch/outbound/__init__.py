"""Output to the outside: notifications, hooks, the outer ping, metrics. Nothing here may delay a kill."""
