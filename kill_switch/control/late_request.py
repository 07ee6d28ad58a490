"""Measure how long a request has waited for a daemon that hung, from the time that the request carries. Pure.

The client writes the monotonic time at which a person asked; caller and daemon are on one host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kill_switch import clock
from kill_switch.core.domain import Instant

ASKED = "asked_mono_ns"  # the key of a request: the caller's monotonic clock
LATE_S = 1.0  # seconds from which on a reason says how late it is


class RequestDelay(NamedTuple):
    """The delay of a request: fields for the reason's evidence, and words behind its text."""

    evidence: Mapping[str, object]
    words: str


def delay(request: Mapping[str, Any], now: Instant) -> RequestDelay:
    """Return the delay of a request; empty if it carries no time, or a time that cannot be true."""
    asked_ns = request.get(ASKED)
    if not isinstance(asked_ns, int) or not 0 < asked_ns <= now.mono_ns:
        return RequestDelay({}, "")
    late_ns = now.mono_ns - asked_ns
    asked_at = clock.iso(now.wall_ns - late_ns)
    late = f" (asked {late_ns / 1e9:.0f} s before, at {asked_at[11:19]}Z)" if late_ns >= LATE_S * 1e9 else ""
    return RequestDelay({"asked_at": asked_at}, late)
