"""A countdown at the venue that cancels an account's orders unless a client arms it again: a dead-man switch.

Venues keep one for each account. It is one-shot: once it has ended, it is off until it is armed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from kill_switch.sim.kit.exchange import DeadMan


class Later(Protocol):
    """Call a function after some seconds."""

    def __call__(self, seconds: float, call: Callable[..., object], *arguments: object) -> object: ...


class Countdown:
    """Call `on_end` when the armed time is over."""

    def __init__(self, later: Later, on_end: Callable[[], object]) -> None:
        self._later = later
        self._on_end = on_end
        self._ends_at: float | None = None  # CLOCK_MONOTONIC, in seconds
        self._armings = 0  # a timer of an earlier arming does nothing
        self._fired = 0

    def arm(self, seconds: float) -> None:
        """Start the countdown from its full length; 0 disarms it."""
        self._armings += 1
        self._ends_at = time.monotonic() + seconds if seconds > 0 else None
        if seconds > 0:
            self._later(seconds, self._end, self._armings)

    def state(self) -> DeadMan:
        """Return the seconds that are left, and how often it has ended."""
        left = None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())
        return DeadMan(left, self._fired)

    def _end(self, arming: int) -> None:
        if arming == self._armings and self._ends_at is not None:
            self._ends_at = None
            self._fired += 1
            self._on_end()
