"""Simulators and a daemon on this machine, for the demo, the benchmark and the end-to-end tests."""
