"""Rate limits of venues: sliding windows and token buckets.

The venues count requests with them. Times are in seconds, of any clock that does not go back.
"""

from __future__ import annotations

from collections import deque


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
