"""The benchmark: how long a kill takes on this machine, as `kill-switch bench` measures it."""
