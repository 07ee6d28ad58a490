"""Start an adapter's timers with a callback each. A tag is the key of its callback, and is never taken apart."""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.core.domain import Instant
from kill_switch.venues.messages import Outputs, WakeAfter

TimerHandler = Callable[[Instant], Outputs]


class TimerTable:
    """The timers of one adapter that have not run out yet."""

    __slots__ = ("_handlers", "_started")

    def __init__(self) -> None:
        self._handlers: dict[str, TimerHandler] = {}
        self._started = 0

    def start(self, seconds: float, on_end: TimerHandler) -> WakeAfter:
        """Return the timer that calls `on_end` with the moment of its end."""
        self._started += 1
        tag = f"timer {self._started}"
        self._handlers[tag] = on_end
        return WakeAfter(tag, seconds)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        """Process the end of a timer; ignore a tag that no timer of this table has."""
        on_end = self._handlers.pop(tag, None)
        return () if on_end is None else on_end(now)
