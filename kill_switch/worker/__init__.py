"""Do what must never touch a kill in a process of its own: send, call, run commands, serve metrics."""
