"""Measure when this process could hear: silence counts against a peer only while somebody listens.

A stopped process, a stalled event loop or a paused machine hears nothing; what was said meanwhile may never arrive,
because a socket's queue is short. So time in which our own clockwork stood still does not count as a peer's silence. It
is added to the peer's time limit, no more: a peer that is gone is found as soon as we have listened for long enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import anyio

from kill_switch.core.domain import Instant

TICK_S = 0.1
LATE_S = 0.1  # a tick later than that is a stall, not jitter


class StallMark(NamedTuple):
    """A moment of the monotonic clock, and how long the process had been deaf in all by then."""

    at_ns: int
    stalled_ns: int

    def heard_ns(self, until: StallMark) -> int:
        """Return for how long the process has listened from this mark until that one."""
        return until.at_ns - self.at_ns - (until.stalled_ns - self.stalled_ns)


class StallClock:
    """Add up the time in which the event loop stood still."""

    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._ticked_ns = clock().mono_ns
        self._stalled_ns = 0

    def stalled_ns(self, mono_ns: int) -> int:
        """Return all the deaf time until now, a stall that is only just over included."""
        gap_ns = mono_ns - self._ticked_ns
        if gap_ns > (TICK_S + LATE_S) * 1e9:
            self._stalled_ns += gap_ns - int(TICK_S * 1e9)
            self._ticked_ns = mono_ns
        return self._stalled_ns

    def mark(self, mono_ns: int) -> StallMark:
        """Return the moment with the deaf time until now."""
        return StallMark(mono_ns, self.stalled_ns(mono_ns))

    def tick(self, mono_ns: int) -> None:
        """Say that the clockwork turns."""
        self.stalled_ns(mono_ns)
        self._ticked_ns = mono_ns

    async def run(self) -> None:
        """Tick for ever, by the event loop's timer: to wake a task that sleeps would cost an idle daemon more."""
        loop = asyncio.get_running_loop()
        timer: asyncio.Handle | None = None

        def tick() -> None:
            nonlocal timer
            self.tick(self._clock().mono_ns)
            timer = loop.call_later(TICK_S, tick)

        tick()
        try:
            await anyio.sleep_forever()
        finally:
            if timer is not None:
                timer.cancel()
