"""Simulated venues over real TLS, WebSocket and HTTP on this machine.

Tests, the demo, the benchmark and users run them. They share no code with the adapters: signatures and payloads are
written a second time, from the venues' documents.
"""

from __future__ import annotations

from kill_switch.sim.main import VENUES, Ready, make_venues, read_options, run, serve

__all__ = ["VENUES", "Ready", "make_venues", "read_options", "run", "serve"]
