"""Notice that the wall clock was set, or that the machine slept: it moves against the monotonic clock then.

Pure: time is told. What is computed from the wall clock is computed again after a jump. The monotonic clock stands
still while the machine sleeps, so that a wall clock that is set forward looks the same.
"""

from __future__ import annotations

from kill_switch.core.domain import Now

AHEAD_S = 12 * 3600  # a clock that is set back by more was wrong before; by less, it may be wrong now
JUMP_NS = 1_000_000_000  # less is a step of a time daemon's discipline, and moves no time that counts in seconds


class WallClock:
    """Compare the two clocks at every look."""

    def __init__(self, now: Now) -> None:
        self._ahead_ns = now.wall_ns - now.mono_ns

    def jumped_ns(self, now: Now) -> int:
        """Return by how much the wall clock has moved since the last look; 0 for a second or less."""
        before_ns, self._ahead_ns = self._ahead_ns, now.wall_ns - now.mono_ns
        moved_ns = self._ahead_ns - before_ns
        return moved_ns if abs(moved_ns) > JUMP_NS else 0


def wall_s(now: Now) -> int:
    """Return the wall clock's second."""
    return now.wall_ns // 1_000_000_000
