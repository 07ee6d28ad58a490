"""Count requests against a venue's rate limits."""

from __future__ import annotations

from collections import deque


class Window:
    """Allow `count` events in any `seconds`; 0 allows everything. Refused events do not count."""

    __slots__ = ("_seen", "count", "seconds")

    def __init__(self, count: int, seconds: float) -> None:
        self.count = count
        self.seconds = seconds
        self._seen: deque[float] = deque()

    def full(self, now: float) -> bool:
        """Say whether one more event at `now` would be one too many."""
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
    """Keep the windows of each client (an address or an account); an event passes when none of its windows is full."""

    def __init__(self, *rules: tuple[int, float]) -> None:
        self._rules = rules
        self._windows: dict[str, tuple[Window, ...]] = {}

    def allow(self, client: str, now: float) -> bool:
        """Count an event of this client, or refuse it."""
        windows = self._windows.get(client)
        if windows is None:
            windows = self._windows[client] = tuple(Window(count, seconds) for count, seconds in self._rules)
        if any(window.full(now) for window in windows):
            return False
        for window in windows:
            window.add(now)
        return True


class Bucket:
    """Hold up to `burst` tokens, `per_s` of which come back a second. A refused event takes none."""

    __slots__ = ("_at", "_level", "burst", "per_s")

    def __init__(self, burst: float, per_s: float) -> None:
        self.burst = burst
        self.per_s = per_s
        self._level = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take a token; False when there is none."""
        self._level = min(self.burst, self._level + max(0.0, now - self._at) * self.per_s)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
