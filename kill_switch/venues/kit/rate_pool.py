"""Count the reads of all accounts that share a rate limit of their venue; half of the limit is kept for cancels.

`dispatch.connect` gives accounts of one daemon that share a limit one `RatePool`. A kill's first reads and keep-alive
reads are counted and never wait.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant

AT_ONCE = 0.05  # part of the limit: reads that may leave at once
FOR_LONG = 0.4  # part of the limit that is refilled within its time; a twentieth is left for reads that never wait
RESTED = 0.94  # part of `AT_ONCE`: with fewer reads left, a kill omits the reads that it can do without
OVERDRAWN_MOST = 5.0  # reads: the largest debt that reads which never wait may leave to the others


class RatePool:
    """Hold how many reads may still leave; the venue allows `count` requests within any `seconds`."""

    __slots__ = ("_at_ns", "_left", "_most", "_per_s")

    def __init__(self, count: int, seconds: float) -> None:
        self._most = self._left = count * AT_ONCE
        self._per_s = count * FOR_LONG / seconds
        self._at_ns = 0

    def take(self, now: Instant) -> None:
        """Count a read that leaves."""
        self._left = max(self._count(now) - 1, -OVERDRAWN_MOST)
        self._at_ns = now.mono_ns

    def wait_s(self, now: Instant) -> float:
        """Return in how many seconds the next read may leave; 0: now."""
        return max(0.0, (1 - self._count(now)) / self._per_s)

    def is_rested(self, now: Instant) -> bool:
        """Return whether the pool is nearly full: an optional read of a kill then delays no other read."""
        return self._count(now) >= RESTED * self._most

    def _count(self, now: Instant) -> float:
        return min(self._most, self._left + max(0, now.mono_ns - self._at_ns) * self._per_s / 1e9)
