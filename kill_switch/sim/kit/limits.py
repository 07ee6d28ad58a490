"""Rate limits of venues: sliding windows, token buckets, decaying counters, and pools of requests that cost.

The venues count requests with them. Times are in seconds, of any clock that does not go back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple


class Window:
    """Allow `count` events in any `seconds`; `count` 0 allows all. Refused events do not count."""

    __slots__ = ("_seen", "count", "seconds")

    def __init__(self, count: int, seconds: float) -> None:
        self.count = count
        self.seconds = seconds
        self._seen: deque[float] = deque()

    def full(self, now: float) -> bool:
        """Return whether an event at `now` would exceed the limit."""
        seen = self._seen
        edge = now - self.seconds
        while seen and seen[0] <= edge:
            seen.popleft()
        return 0 < self.count <= len(seen)

    def add(self, now: float) -> None:
        """Count an event."""
        if self.count:
            self._seen.append(now)


class Limiter:
    """The windows of each client (an address or an account); an event passes if none of its windows is full."""

    def __init__(self, *rules: tuple[int, float]) -> None:
        self._rules = rules
        self._windows: dict[str, tuple[Window, ...]] = {}

    def allow(self, client: str, now: float) -> bool:
        """Count an event of this client and return True, or return False if it exceeds a limit."""
        windows = self._windows.get(client)
        if windows is None:
            windows = self._windows[client] = tuple(Window(count, seconds) for count, seconds in self._rules)
        if any(window.full(now) for window in windows):
            return False
        for window in windows:
            window.add(now)
        return True


class Bucket:
    """A token bucket: at most `burst` tokens, refilled with `per_s` tokens a second. A refused event costs none."""

    __slots__ = ("_at", "_level", "burst", "per_s")

    def __init__(self, burst: float, per_s: float) -> None:
        self.burst = burst
        self.per_s = per_s
        self._level = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Remove a token and return True; return False if there is none."""
        self._level = min(self.burst, self._level + max(0.0, now - self._at) * self.per_s)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class DecayingCounter:
    """A counter that falls by `per_s` a second; a charge that would lift it above `most` is refused and costs nothing.

    `most` 0 allows all.
    """

    __slots__ = ("_at", "_level", "most", "per_s")

    def __init__(self, most: float, per_s: float) -> None:
        self.most = most
        self.per_s = per_s
        self._level = 0.0
        self._at = 0.0

    def level(self, now: float) -> float:
        """Return the counter's value at `now`."""
        self._level = max(0.0, self._level - max(0.0, now - self._at) * self.per_s)
        self._at = now
        return self._level

    def charge(self, cost: float, now: float) -> bool:
        """Add a cost and return True; return False if it does not fit."""
        if self.most and cost and self.level(now) + cost > self.most:
            return False
        self.level(now)
        self._level += cost
        return True


class CostWindow:
    """Allow costs of `most` in any `seconds`; a refused charge costs nothing. `most` 0 allows all."""

    __slots__ = ("_seen", "_sum", "most", "seconds")

    def __init__(self, most: float, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self._seen: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def spent(self, now: float) -> float:
        """Return the costs in the window that ends at `now`."""
        while self._seen and self._seen[0][0] <= now - self.seconds:
            self._sum -= self._seen.popleft()[1]
        return self._sum

    def frees_in(self, now: float) -> float:
        """Return the seconds until the oldest cost is forgotten."""
        return self._seen[0][0] + self.seconds - now if self._seen else 0.0

    def charge(self, cost: float, now: float) -> bool:
        """Add a cost and return True; return False if it does not fit."""
        spent = self.spent(now)
        if self.most and cost > 0 and spent + cost > self.most:
            return False
        self._seen.append((now, cost))
        self._sum += cost
        return True


class PoolSpec(NamedTuple):
    """A rate pool as the venue states it: `most` costs in any `seconds`, or a counter that falls by `per_s` a second.

    `shared_by` is `account` (all keys of an account) or `address` (all clients of a host).
    """

    name: str
    most: float
    seconds: float = 0.0
    per_s: float = 0.0
    shared_by: str = "account"


class RatePools:
    """The pools of all clients; a request passes if its cost fits into each."""

    def __init__(self, specs: Iterable[PoolSpec]) -> None:
        self._specs = tuple(specs)
        self._pools: dict[tuple[str, str], DecayingCounter | CostWindow] = {}

    def charge(self, cost: float, now: float, **clients: str) -> bool:
        """Charge a cost to each pool of these clients; return False if a pool is full.

        The names of `clients` are the values of `PoolSpec.shared_by`.
        """
        for spec in self._specs:
            key = (spec.name, clients[spec.shared_by])
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = (
                    CostWindow(spec.most, spec.seconds) if spec.seconds else DecayingCounter(spec.most, spec.per_s)
                )
            if not pool.charge(cost, now):
                return False
        return True
