"""Wake many with one timer of the event loop: setting an alarm costs next to nothing, which a strike can afford.

None is taken back: whoever does not want it any more does not listen when it rings.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

from kill_switch.core.domain import Instant


class Timer(Protocol):
    def cancel(self) -> object: ...


CallLater = Callable[..., Timer]  # (seconds, function, *arguments)
_NEVER_NS = sys.maxsize


class TimerQueue:
    """Call functions when their time has come, in the order of their times, never before."""

    def __init__(self, clock: Callable[[], Instant], later: CallLater) -> None:
        self._clock = clock
        self._later = later
        self._numbers = itertools.count()  # of two alarms for the same instant, the one that was set first
        self._heap: list[tuple[int, int, Callable[..., object], tuple[object, ...]]] = []
        self._timer: Timer | None = None
        self._timer_ns = _NEVER_NS  # when it goes off

    def call_at(self, at_ns: int, function: Callable[..., object], *arguments: object) -> None:
        """Call the function at that monotonic instant."""
        heappush(self._heap, (at_ns, next(self._numbers), function, arguments))
        if at_ns < self._timer_ns:
            self._schedule(at_ns)

    def _schedule(self, at_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = at_ns
        self._timer = self._later(max(0.0, (at_ns - self._clock().mono_ns) / 1e9), self._run_due)

    def _run_due(self) -> None:
        """Call those whose time has come; if one raises, the others are called all the same, a moment later."""
        heap, now_ns = self._heap, self._clock().mono_ns  # an event loop may wake us a clock's grain too early
        self._timer, self._timer_ns = None, _NEVER_NS
        try:
            while heap and heap[0][0] <= now_ns:
                _, _, function, arguments = heappop(heap)
                function(*arguments)
        finally:
            if heap and heap[0][0] < self._timer_ns:
                self._schedule(heap[0][0])


class Appointment:
    """One alarm of its owner, which replaces its earlier one."""

    __slots__ = ("_alarms", "_at_ns", "_function")

    def __init__(self, alarms: TimerQueue, function: Callable[[], object]) -> None:
        self._alarms = alarms
        self._function = function
        self._at_ns = 0  # 0: none is set

    @property
    def is_set(self) -> bool:
        return self._at_ns != 0

    def set(self, at_ns: int) -> None:
        """Call the function at that monotonic instant, and not when an earlier one was set to."""
        self._at_ns = at_ns
        self._alarms.call_at(at_ns, self._ring, at_ns)

    def cancel(self) -> None:
        """Call nothing."""
        self._at_ns = 0

    def _ring(self, at_ns: int) -> None:
        if at_ns == self._at_ns:
            self._at_ns = 0
            self._function()
