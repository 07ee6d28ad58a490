"""Run many timers on one timer of the event loop, because setting a timer is part of each strike and must be cheap.

The dispatcher and its sessions use it. A timer in the queue cannot be cancelled: `Appointment` ignores a stale one.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol

from kill_switch.core.domain import Instant


class Timer(Protocol):
    """A timer of the event loop."""

    def cancel(self) -> object: ...


CallLater = Callable[..., Timer]  # (seconds, function, *arguments)
_NEVER_NS = sys.maxsize


class TimerQueue:
    """Calls functions at their times, in the order of these times, never early."""

    def __init__(self, clock: Callable[[], Instant], later: CallLater) -> None:
        self._clock = clock
        self._later = later
        self._numbers = itertools.count()  # orders timers of the same instant by when they were set
        self._heap: list[tuple[int, int, Callable[..., object], tuple[object, ...]]] = []
        self._timer: Timer | None = None
        self._timer_ns = _NEVER_NS  # when `_timer` is due, monotonic

    def call_at(self, at_ns: int, function: Callable[..., object], *arguments: object) -> None:
        """Call `function` with `arguments` at a monotonic instant."""
        heappush(self._heap, (at_ns, next(self._numbers), function, arguments))
        if at_ns < self._timer_ns:
            self._schedule(at_ns)

    def forget(self, owner: object) -> None:
        """Drop the calls of an owner's methods: some would keep it and its connections in memory for half an hour."""
        self._heap[:] = [entry for entry in self._heap if getattr(entry[2], "__self__", None) is not owner]
        heapify(self._heap)

    def _schedule(self, at_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = at_ns
        self._timer = self._later(max(0.0, (at_ns - self._clock().mono_ns) / 1e9), self._run_due)

    def _run_due(self) -> None:
        """Call the functions that are due; if one raises, the others are called by the next timer."""
        heap, now_ns = self._heap, self._clock().mono_ns  # because an event loop may run a timer one clock tick early
        self._timer, self._timer_ns = None, _NEVER_NS
        try:
            while heap and heap[0][0] <= now_ns:
                _, _, function, arguments = heappop(heap)
                function(*arguments)
        finally:
            if heap and heap[0][0] < self._timer_ns:
                self._schedule(heap[0][0])


class Appointment:
    """A timer of one owner; setting it replaces its earlier time."""

    __slots__ = ("_alarms", "_at_ns", "_function")

    def __init__(self, alarms: TimerQueue, function: Callable[[], object]) -> None:
        self._alarms = alarms
        self._function = function
        self._at_ns = 0  # 0: none is set

    @property
    def is_set(self) -> bool:
        return self._at_ns != 0

    @property
    def at_ns(self) -> int:
        """When the function is called, monotonic; 0: no time is set."""
        return self._at_ns

    def is_set_until(self, at_ns: int) -> bool:
        """Return whether the function is called by then."""
        return 0 < self._at_ns <= at_ns

    def set(self, at_ns: int) -> None:
        """Call the function at a monotonic instant, and not at an earlier setting."""
        self._at_ns = at_ns
        self._alarms.call_at(at_ns, self._ring, at_ns)

    def cancel(self) -> None:
        """Cancel the timer."""
        self._at_ns = 0

    def _ring(self, at_ns: int) -> None:
        if at_ns == self._at_ns:
            self._at_ns = 0
            self._function()
