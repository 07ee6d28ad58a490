"""Request the lists of a KUNA read-back one by one, once the rate limit has refused one of them.

The adapter's `reader` is a `QueuedListReader`. § numbers are those of docs/venues/kuna.md.
"""

from __future__ import annotations

from typing import Any

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.order_list import ListPart, ListReader
from kill_switch.venues.kit.readback import ReadBack
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import Outputs, Replied, WakeAfter
from kill_switch.venues.retry_after import retry_after_s

TURN = "turn"  # the timer's tag
TURN_S = 0.5  # from a refusal to the next request: at 300 requests a minute one fits every 0.2 s on average
MAX_WAIT_S = 5.0  # a longer Retry-After is cut to this: a kill asks again sooner anyway
ACTIVE = "active"


class QueuedListReader(ListReader):
    """Hold the single read-back whose lists are requested in turn.

    The limit, 300 requests a minute, is assumed to be a sliding window (§ 7 has no number). When the window is full,
    three simultaneous requests would rarely all be accepted. A read-back that ended with the first refusal would leave
    the account unproven for as long. It waits only while no order is open and nothing has failed.

    An order moves from the other lists to the active list, and never back. So the active list is requested last, and
    again if it came before another list was refused: no order can be missed between two lists.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._read: ReadBack | None = None
        self._waiting: dict[str, ListPart] = {}  # lists that are still to come; the first is next
        self._out = False  # the next list has been requested
        self._timed = False  # the timer runs

    def read(self, now: Instant, *, urgent: bool) -> Outputs:
        """Request every list; a read-back in the queue becomes urgent instead, and no other begins.

        A routine read-back whose next list has been requested is dropped: its request may be held up for minutes.
        """
        if urgent and self._read is not None:
            if not self._out or self._read.urgent:
                self._read.urgent = True
                return ()
            self.drop()
        return super().read(now, urgent=urgent)

    def drop(self) -> None:
        """Drop the read-back: a strike is sent now, and lists that were requested before it may be outdated."""
        self._read = None
        self._waiting.clear()
        self._out = False

    def on_page(self, part: ListPart, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        read = part.read
        if replied.status == 429 and not read.orders and not read.troubles:
            return self._queue(part, call, retry_after_s(replied.headers, now.wall_ns))
        is_in_turn = self._take_turn(part, call)
        return (*super().on_page(part, call, reply, replied, now), *self._go_on(read, is_in_turn, now))

    def on_page_lost(self, part: ListPart, call: PendingCall, why: str, now: Instant) -> Outputs:
        is_in_turn = self._take_turn(part, call)
        return (*super().on_page_lost(part, call, why, now), *self._go_on(part.read, is_in_turn, now))

    def on_turn(self, now: Instant) -> Outputs:
        """Process the end of the timer `TURN`."""
        self._timed = False
        return self._ask_next(now)

    def _queue(self, part: ListPart, call: PendingCall, stated_s: float) -> Outputs:
        """Queue a refused list; a second read-back is not queued beside the first: it gets no further list."""
        if self._read is None:
            self._read = part.read
            self._waiting = {ACTIVE: part._replace(name=ACTIVE, order_list=self.by_name[ACTIVE])}
        if self._read is not part.read:
            return ()
        if call.asked_ns > part.read.asked_ns:
            self._out = False
        if part.name not in self._waiting:
            active = self._waiting.pop(ACTIVE)
            self._waiting |= {part.name: part, ACTIVE: active}
        if self._timed:
            return ()
        self._timed = True
        return (WakeAfter(TURN, max(TURN_S, min(stated_s, MAX_WAIT_S))),)

    def _take_turn(self, part: ListPart, call: PendingCall) -> bool:
        """Note a list that has come, before its read-back gets it; return whether it was requested from the queue."""
        if self._read is not part.read:
            return False
        is_in_turn = call.asked_ns > part.read.asked_ns and part.name in self._waiting
        if is_in_turn:
            del self._waiting[part.name]
            self._out = False
        part.read.missing.update(self._waiting)
        if not self._waiting:
            self._read = None
        return is_in_turn

    def _go_on(self, read: ReadBack, is_in_turn: bool, now: Instant) -> Outputs:
        """Request the next list; once an order is open or a list has failed, end the read-back without others."""
        if not (read.orders or read.troubles):
            return self._ask_next(now) if is_in_turn else ()
        if self._read is not read:
            return ()
        left = [part for part in self._waiting.values() if part.name in read.missing]
        self.drop()
        return tuple(output for part in left for output in self.end_list(part, (), "HTTP 429", now))

    def _ask_next(self, now: Instant) -> Outputs:
        if self._read is None or self._out:
            return ()
        self._out = True
        return self.request(next(iter(self._waiting.values())), now)
