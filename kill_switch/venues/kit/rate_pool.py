"""Count the reads of all accounts that share one limit of their venue's: half of the limit is for cancels.

A limit counts by address or by key, as the venue's documents say. Accounts of one daemon that share a limit share one
`RatePool`; `dispatch.connect` sees to that. A kill's first reads and what keeps lanes alive are counted and never wait.
Reads of a kill that gets nowhere wait until the pool has one for them.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant

AT_ONCE = 0.05  # of the limit: so many reads may go in a row
FOR_LONG = 0.4  # of the limit: so many come back in its time. A twentieth is for those that never wait
RESTED = 0.94  # of those that may go in a row: with fewer left, a kill does without reads that it does not need
OVERDRAWN_MOST = 5.0  # reads that did not wait delay the others by so many, at most


class RatePool:
    """Hold how many reads may still go; `count` requests in any `seconds` is what the venue allows."""

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
        """Return in how many seconds there is a read that may go; 0: now."""
        return max(0.0, (1 - self._count(now)) / self._per_s)

    def is_rested(self, now: Instant) -> bool:
        """Say whether hardly any read has gone of late: one that a kill does not need would take no other's place."""
        return self._count(now) >= RESTED * self._most

    def _count(self, now: Instant) -> float:
        return min(self._most, self._left + max(0, now.mono_ns - self._at_ns) * self._per_s / 1e9)
