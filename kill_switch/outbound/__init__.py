"""Tell the outside: notifications, hooks, the health-check ping, metrics. Nothing here may delay a kill."""
