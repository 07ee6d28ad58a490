"""Simulate trading venues over real TLS, WebSocket and HTTP on this machine.

Nothing here knows the adapters: signatures and payloads are written from the venues' documents a second time.
"""

from __future__ import annotations

from kill_switch.sim.main import VENUES, Ready, make_venues, read_options, run, serve

__all__ = ["VENUES", "Ready", "make_venues", "read_options", "run", "serve"]
