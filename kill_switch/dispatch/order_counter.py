"""Count which orders a kill has cancelled at one account, later than its strikes and answers are carried out.

`AccountSession` calls this at each strike, answer and read; `core.tally` counts. At a strike and at an answer only what
the book would forget is kept. The rest is computed when the journal numbers the record: other accounts wait until then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kill_switch.core.domain import Now
from kill_switch.core.tally import Count, Counts, Standing, follow, names
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import OrdersRead

Changes = Mapping[str, object] | None


class DueChanges:
    """What one record is to say of the count (`tally.Due`)."""

    __slots__ = ("_counter", "_take", "_told")

    def __init__(self, counter: OrderCounter, take: Callable[[], Changes]) -> None:
        self._counter = counter
        self._take: Callable[[], Changes] | None = take
        self._told: Changes = None

    def changes(self) -> Changes:
        """Return the changes; compute those of earlier strikes and answers first."""
        if self._take is not None:
            self._counter.settle()
        return self._told

    def settle(self, on_error: Callable[[Exception], object]) -> None:
        take, self._take = self._take, None
        try:
            self._told = take() if take is not None else None
        except Exception as error:  # the record is written all the same
            on_error(error)


class OrderCounter:
    """Count the orders of one account through its kills."""

    def __init__(self, account: str, venue: Adapter, counts: Counts, on_error: Callable[[Exception], object]) -> None:
        """`on_error` is called with the exception of a count that cannot be computed."""
        self._account = account
        self._venue = venue
        self._counts = counts
        self._on_error = on_error
        self._due: list[DueChanges] = []  # in the order of the events

    def on_strike(self, kill: str, now: Now) -> DueChanges:
        """Return what the strike's record is to say; call it when the strike has left."""
        self.settle()  # an earlier strike's answers are no later strike's
        return self._later(partial(self._take_strike, kill, now.mono_ns, follow(self._venue)))

    def on_answer(self, kill: str, now: Now) -> DueChanges:
        """Return what the answer's record is to say."""
        return self._later(partial(self._take_answer, kill, now.mono_ns, follow(self._venue)))

    def on_read(self, kill: str, read: OrdersRead, now: Now) -> Changes:
        """Return what the record of a read says."""
        self.settle()
        count = self._count(kill, now.mono_ns)
        count.shown(self._venue, names(read.orders), read.asked_ns, now.mono_ns, whole=read.complete)
        return count.changes()

    def settle(self) -> None:
        """Compute what was left for later."""
        due, self._due = self._due, []
        for changes in due:
            changes.settle(self._on_error)

    def _later(self, take: Callable[[], Changes]) -> DueChanges:
        due = DueChanges(self, take)
        self._due.append(due)
        return due

    def _take_strike(self, kill: str, at_ns: int, standing: Standing | None) -> Changes:
        count = self._count(kill, at_ns)
        count.struck(self._venue, at_ns, standing)
        return count.changes()

    def _take_answer(self, kill: str, at_ns: int, standing: Standing | None) -> Changes:
        count = self._count(kill, at_ns)
        count.heard(self._venue, at_ns, standing)
        return count.changes()

    def _count(self, kill: str, at_ns: int) -> Count:
        return self._counts.of(self._account, kill, at_ns)
