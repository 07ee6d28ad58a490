"""Measure event-loop stalls, so that stalled time does not count as a peer's silence.

A process that is stopped or starved receives nothing, and datagrams may be lost because a socket's queue is short. The
stalled time is added to a peer's time-out, and no more, so the loss of a peer is still detected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import anyio

from kill_switch.core.domain import Instant

TICK_S = 0.1  # seconds between two ticks
LATE_S = 0.1  # seconds; a tick that is later is a stall, not jitter


class StallMark(NamedTuple):
    """A moment of the monotonic clock, with the time that the event loop had stalled in all until then."""

    at_ns: int
    stalled_ns: int

    def listened_ns(self, until: StallMark) -> int:
        """Return for how many nanoseconds the process could listen between this mark and a later one."""
        return until.at_ns - self.at_ns - (until.stalled_ns - self.stalled_ns)


class StallClock:
    """Add up the time in which the event loop stalled."""

    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._ticked_ns = clock().mono_ns
        self._stalled_ns = 0

    def stalled_ns(self, mono_ns: int) -> int:
        """Return the stalled time until `mono_ns` in all, including a stall that has just ended."""
        gap_ns = mono_ns - self._ticked_ns
        if gap_ns > (TICK_S + LATE_S) * 1e9:
            self._stalled_ns += gap_ns - int(TICK_S * 1e9)
            self._ticked_ns = mono_ns
        return self._stalled_ns

    def mark(self, mono_ns: int) -> StallMark:
        """Return a mark of the moment `mono_ns`."""
        return StallMark(mono_ns, self.stalled_ns(mono_ns))

    def tick(self, mono_ns: int) -> None:
        """Note that the event loop runs at `mono_ns`."""
        self.stalled_ns(mono_ns)
        self._ticked_ns = mono_ns

    async def run(self) -> None:
        """Tick forever by a timer of the event loop: waking a task instead would cost an idle daemon more."""
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
