"""The queue of a KUNA read-back's lists, once the rate limit has refused one of them: they are requested one by one.

The adapter uses it with the timer `TURN`; `ReadQueue` makes no requests itself.
§ numbers are those of docs/venues/kuna.md.
"""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.readback import ReadBack
from kill_switch.venues.messages import Outputs, WakeAfter

TURN = "turn"  # the timer's tag
TURN_S = 0.5  # from a refusal to the next request: at 300 requests a minute one fits every 0.2 s on average
MAX_WAIT_S = 5.0  # a longer Retry-After is cut to this: a kill asks again sooner anyway
ACTIVE = "active"


class ReadQueue:
    """Hold the single read-back whose lists are requested in turn.

    The limit, 300 requests a minute, is assumed to be a sliding window (§ 7 has no number). When the window is full,
    three simultaneous requests would rarely all be accepted. A read-back that ended with the first refusal would leave
    the account unproven for as long.

    An order moves from the other lists to the active list, and never back. So the active list is requested last, and
    again if it came before another list was refused: no order can be missed between two lists.
    """

    def __init__(self, ask: Callable[[ReadBack, str, Instant], Outputs]) -> None:
        """Make an empty queue; `ask` requests a list, by its name, for a read-back."""
        self._ask = ask
        self._read: ReadBack | None = None
        self._waiting: list[str] = []  # lists that are still to come; the first is next
        self._out = False  # the next list has been requested
        self._timed = False  # the timer runs

    def join(self) -> bool:
        """Return whether a read-back is in the queue, and make it urgent: the caller begins no other.

        A routine read-back whose next list has been requested is dropped: its request may be held up for minutes.
        """
        if self._read is not None and self._out and not self._read.urgent:
            self.drop()
        if self._read is not None:
            self._read.urgent = True
        return self._read is not None

    def drop(self) -> None:
        """Drop the read-back: a strike is sent now, and lists that were requested before it may be outdated."""
        self._read = None
        self._waiting.clear()
        self._out = False

    def on_refused(self, read: ReadBack, name: str, asked_ns: int, retry_after: str) -> Outputs:
        """Queue a refused list; `asked_ns` is when it was requested, `retry_after` the header, in seconds.

        A second read-back is not queued beside the first: it gets no further list.
        """
        if self._read is None:
            self._read = read
            self._waiting = [ACTIVE]
        if self._read is not read:
            return ()
        if asked_ns > read.asked_ns:
            self._out = False
        if name not in self._waiting:
            self._waiting.insert(len(self._waiting) - 1, name)
        if self._timed:
            return ()
        self._timed = True
        stated_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return (WakeAfter(TURN, max(TURN_S, min(stated_s, MAX_WAIT_S))),)

    def on_list(self, read: ReadBack, name: str, asked_ns: int) -> bool:
        """Record a list that has come, before its read-back gets it; return whether it was requested from the queue."""
        if self._read is not read:
            return False
        in_turn = asked_ns > read.asked_ns and name in self._waiting
        if in_turn:
            self._waiting.remove(name)
            self._out = False
        read.missing.update(self._waiting)
        if not self._waiting:
            self._read = None
        return in_turn

    def end(self, read: ReadBack) -> tuple[str, ...]:
        """Remove the read-back from the queue; return the lists that are not requested any more."""
        if self._read is not read:
            return ()
        left = tuple(name for name in self._waiting if name in read.missing)
        self.drop()
        return left

    def ask_next(self, now: Instant) -> Outputs:
        """Request the next list, if one waits."""
        if self._read is None or self._out:
            return ()
        self._out = True
        return self._ask(self._read, self._waiting[0], now)

    def on_timer(self, now: Instant) -> Outputs:
        self._timed = False
        return self.ask_next(now)
