"""Count the orders that a kill has cancelled at one account, without delaying strikes and answers.

`AccountSession` calls it at each strike, answer and read; `core.order_tracker` does the counting. At a strike or an
answer it keeps only what the book would forget. The changes are computed when the journal numbers the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kill_switch.core.domain import Instant
from kill_switch.core.order_tracker import OrderTracker, OrderTrackerPool, Standing, follow, order_ids_of
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import OrdersRead

Changes = Mapping[str, object] | None


class OrderCountChanges:
    """Changes of the count for one record, computed on demand; implements `order_tracker.Due`."""

    __slots__ = ("_changes", "_counter", "at_ns", "is_strike", "kill", "standing")

    def __init__(
        self, counter: OrderCounter, kill: str, at_ns: int, standing: Standing | None, is_strike: bool
    ) -> None:
        """`at_ns` is when the strike left or the answer came, monotonic; `standing` is the result of `follow`."""
        self._counter: OrderCounter | None = counter  # None: the changes are computed
        self.kill = kill
        self.at_ns = at_ns
        self.standing = standing
        self.is_strike = is_strike
        self._changes: Changes = None

    def changes(self) -> Changes:
        """Return the changes; compute those of earlier strikes and answers first. Never raises."""
        if self._counter is not None:
            self._counter.settle()
        return self._changes

    def settle(self, changes: Changes) -> None:
        """Set the changes."""
        self._counter, self._changes = None, changes


class OrderCounter:
    """Counts the orders of an account through its kills."""

    def __init__(
        self, account: str, venue: Adapter, counts: OrderTrackerPool, on_error: Callable[[Exception], object]
    ) -> None:
        """`on_error` is called with the exception of a count that cannot be computed."""
        self._account = account
        self._venue = venue
        self._counts = counts
        self._on_error = on_error
        self._due: list[OrderCountChanges] = []  # in the order of the events

    def on_strike(self, kill: str, now: Instant) -> OrderCountChanges:
        """Return the changes for the strike's record; call it when the strike has left."""
        if self._due:  # so that answers to the earlier strike are not counted for this one
            self.settle()
        book = self._venue.book
        due = OrderCountChanges(self, kill, now.mono_ns, None if book.tracing else follow(book), True)
        self._due.append(due)
        return due

    def on_answer(self, kill: str, now: Instant) -> OrderCountChanges:
        """Return the changes for the answer's record."""
        book = self._venue.book
        due = OrderCountChanges(self, kill, now.mono_ns, None if book.tracing else follow(book), False)
        self._due.append(due)
        return due

    def on_read(self, kill: str, read: OrdersRead, now: Instant) -> Changes:
        """Return the changes for the read's record; None: there are none."""
        self.settle()
        count = self._count(kill, now.mono_ns)
        count.on_read(self._venue.book, order_ids_of(read.orders), read.asked_ns, now.mono_ns, whole=read.complete)
        return count.take_changes()

    def settle(self) -> None:
        """Compute all changes that are due, in the order of their events. Never raises."""
        dues, self._due = self._due, []
        for due in dues:
            try:
                due.settle(self._changes(due))
            except Exception as error:  # the record is written without a count
                due.settle(None)
                self._on_error(error)

    def _changes(self, due: OrderCountChanges) -> Changes:
        count = self._count(due.kill, due.at_ns)
        if due.is_strike:
            count.on_strike(self._venue.book, due.at_ns, due.standing)
        else:
            count.on_book_changed(self._venue.book, due.at_ns, due.standing)
        return count.take_changes()

    def _count(self, kill: str, at_ns: int) -> OrderTracker:
        return self._counts.counter(self._account, kill, at_ns)
