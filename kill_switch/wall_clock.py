"""Detect that the wall clock was set, or that the machine slept.

Either event shows as a difference between the wall clock and the monotonic clock, which stops while the machine sleeps.
Schedules and the P&L trigger's days use this, and compute their times again after a jump. Pure: the caller passes the
current time.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant

AHEAD_S = 12 * 3600  # seconds; a clock that is set back by more had been wrong before; by less, it may be wrong now
JUMP_NS = 1_000_000_000  # a second; a time daemon's corrections are smaller and move no time that counts in seconds


class WallClock:
    """The wall clock's lead over the monotonic clock, compared at every call."""

    def __init__(self, now: Instant) -> None:
        self._ahead_ns = now.wall_ns - now.mono_ns

    def jumped_ns(self, now: Instant) -> int:
        """Return by how many nanoseconds the wall clock has jumped since the last call; 0 for a second or less."""
        before_ns, self._ahead_ns = self._ahead_ns, now.wall_ns - now.mono_ns
        moved_ns = self._ahead_ns - before_ns
        return moved_ns if abs(moved_ns) > JUMP_NS else 0


def wall_s(now: Instant) -> int:
    """Return the wall clock's time in whole seconds since 1970."""
    return now.wall_ns // 1_000_000_000
