"""Count the units of a pool that are in use, by the time at which requests have left.

`pool_count.PoolCount` owns one for its pool. Times are monotonic nanoseconds.
"""

from __future__ import annotations

from collections import deque

from kill_switch.venues.kit.pools import Pool

SLOTS = 20  # parts of a window, in which its requests are counted


class DecayingUse:
    """The units in use of a counter that decays, or that a token bucket lacks: never more than the pool's size."""

    __slots__ = ("_at_ns", "_most", "_over", "_per_ns", "_used", "ever")

    def __init__(self, pool: Pool) -> None:
        self.ever = 0.0  # units since it began to count
        self._most = pool.size
        self._per_ns = pool.per_s / 1e9
        self._used = 0.0
        self._over = 0.0  # units that a full counter cannot have counted
        self._at_ns = 0

    def add(self, weight: float, at_ns: int) -> None:
        self.ever += weight
        used = self.at(at_ns)
        self._over = max(0.0, used + weight - self._most) + (self._over if used else 0.0)
        self._used = min(used + weight, self._most)
        self._at_ns = max(self._at_ns, at_ns)

    def remove(self, weight: float, at_ns: int, now_ns: int) -> None:
        """Subtract what was added at `at_ns`, as far as it has not come back since by itself."""
        self.ever -= weight
        left = max(0.0, weight - max(0, now_ns - at_ns) * self._per_ns)
        uncounted = min(left, self._over)
        self._over -= uncounted
        self._used = max(0.0, self.at(now_ns) - (left - uncounted))
        self._at_ns = max(self._at_ns, now_ns)

    def at(self, now_ns: int) -> float:
        return max(0.0, self._used - max(0, now_ns - self._at_ns) * self._per_ns)

    def falls_to_s(self, limit: float, now_ns: int) -> float:
        """Return in how many seconds no more than `limit` is in use."""
        return max(0.0, (self.at(now_ns) - limit) / self._per_ns / 1e9)


class WindowUse:
    """The units used within the last seconds, counted in `SLOTS` parts of the window and one more."""

    __slots__ = ("_slot_ns", "_slots", "_used", "ever")

    def __init__(self, pool: Pool) -> None:
        self.ever = 0.0  # units since it began to count
        self._slot_ns = max(1, int(pool.window_s * 1e9 / SLOTS))
        self._slots: deque[tuple[int, float]] = deque()  # (number of the part, units)
        self._used = 0.0

    def add(self, weight: float, at_ns: int) -> None:
        slot = at_ns // self._slot_ns
        if self._slots and self._slots[-1][0] >= slot:
            last, held = self._slots.pop()
            self._slots.append((last, held + weight))
        else:
            self._slots.append((slot, weight))
        self._used += weight
        self.ever += weight

    def remove(self, weight: float, at_ns: int, now_ns: int) -> None:
        """Subtract what was added at `at_ns`, unless the window has passed since."""
        self.ever -= weight
        self.at(now_ns)
        slot = at_ns // self._slot_ns
        for place, (number, held) in enumerate(self._slots):
            if number == slot:
                self._slots[place] = (slot, held - weight)
                self._used -= weight

    def at(self, now_ns: int) -> float:
        first = now_ns // self._slot_ns - SLOTS
        while self._slots and self._slots[0][0] < first:
            self._used -= self._slots.popleft()[1]
        if not self._slots:
            self._used = 0.0
        return self._used

    def falls_to_s(self, limit: float, now_ns: int) -> float:
        """Return in how many seconds no more than `limit` is in use."""
        used = self.at(now_ns)
        for slot, weight in self._slots:
            if used <= limit:
                break
            used -= weight
            ends_ns = (slot + SLOTS + 1) * self._slot_ns
            if used <= limit:
                return max(0.0, (ends_ns - now_ns) / 1e9)
        return 0.0
