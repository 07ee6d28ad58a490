"""Run simulators and a daemon on this machine: the demo and the benchmark stand on it."""
