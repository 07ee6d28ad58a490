"""Follow what other programs use of a pool, by the venue's own statements, and how fast they begin to use more.

`pool_count.PoolCount` owns one. Times are monotonic nanoseconds.
"""

from __future__ import annotations

from typing import NamedTuple

from kill_switch.venues.kit.pools import Pool

STRETCH_NS = 2_000_000_000  # the length of a stretch of statements, at least
MEASURED_NS = 1_000_000_000  # a growth is measured over so long at least: another program's burst is none
GROWS_BY = 0.5  # part of what other programs leave: so much more they are taken to use soon, at most


class _Peak(NamedTuple):
    """The largest excess of a venue's count over ours within `STRETCH_NS` from `since_ns` on."""

    excess: float
    at_ns: int
    since_ns: int


class ForeignUse:
    """The units of one pool that other programs use.

    The largest use counts for as long as the pool takes to refill, because a venue's own window may just have begun.
    """

    __slots__ = ("_before", "_grows", "_grows_ns", "_peak", "_refill_ns", "_size", "_until_ns", "units")

    def __init__(self, pool: Pool) -> None:
        self.units = 0.0  # in use by others, as the venue's statements have shown
        self._size = pool.size
        self._refill_ns = int(pool.size / pool.rate * 1e9)
        self._until_ns = 0  # until when a smaller use does not replace it; 0: nothing has been stated
        self._before: _Peak | None = None
        self._peak: _Peak | None = None
        self._grows = 0.0  # units a nanosecond, as others' use grew when that was last seen
        self._grows_ns = 0  # until when that is believed if nothing newer shows it; 0: it has not been seen

    def state(self, used: float, ours: float, ours_ever: float, now_ns: int) -> None:
        """Note a statement of the venue: units in use, beside `ours` by our count, and `ours_ever` since it began.

        Requests under way are in our count and not in the venue's yet. So growth is measured between the largest
        excesses of two stretches. It is measured by all that we have ever used, because a window forgets.
        """
        units = max(0.0, used - ours)
        if units >= self.units or now_ns >= self._until_ns:
            self.units, self._until_ns = units, now_ns + self._refill_ns
        excess, before, peak = used - ours_ever, self._before, self._peak
        if peak is not None and now_ns - peak.since_ns >= STRETCH_NS:
            if before is not None:
                self._note_growth(before, peak, now_ns, is_whole=True)
            before, peak = self._before, self._peak = peak, None
        if peak is None or excess >= peak.excess:
            self._peak = _Peak(excess, now_ns, now_ns if peak is None else peak.since_ns)
            if before is not None and now_ns - before.at_ns >= MEASURED_NS:
                self._note_growth(before, self._peak, now_ns, is_whole=False)

    def expected(self, now_ns: int) -> float:
        """Return how many units others may use while the pool refills once, if they go on as they did last.

        Once they have been seen to use anything, they are taken to use `GROWS_BY` of the rest, until their growth is
        known. Statements come with our own requests only, so that it may stay unknown for as long as those wait.
        """
        most = GROWS_BY * (self._size - self.units)
        if self.units and not self._grows_ns:
            return self.units + most
        grown = self._grows * self._refill_ns if now_ns < self._grows_ns else 0.0
        return self.units + min(most, max(0.0, grown - self.units))

    def _note_growth(self, before: _Peak, peak: _Peak, now_ns: int, *, is_whole: bool) -> None:
        """Note a growth; a fall shows what a window has forgotten, and says nothing."""
        grows = (peak.excess - before.excess) / max(peak.at_ns - before.at_ns, MEASURED_NS)
        if grows > self._grows or (is_whole and grows >= 0) or now_ns >= self._grows_ns:
            self._grows, self._grows_ns = max(0.0, grows), now_ns + self._refill_ns
