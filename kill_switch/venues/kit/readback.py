"""Read an account's orders back: every list, then a look-up of each order that the lists contradict.

An `Adapter` owns one `ReadBackRunner`, requests the lists and passes their orders on. This module never judges whether
an account is clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.venues.decode import Evidence, truncate
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.list_rounds import NEVER
from kill_switch.venues.messages import OrdersRead, Outputs, WakeAfter

LOOK_UP = "look-up"  # the kind of the call that requests orders by their ids
REFRESH = "refresh"  # the tag of the timer after which the lists are read
AWAIT = "await pushes"  # the tag of the timer after which they are read without a connection that pushes
LISTS_PER_S = 2  # lists read a second because connections come back; no venue documents a lower limit
MAX_UNHURRIED_LOOK_UPS = 5  # look-ups at a time that no read-back waits for
MAX_LOOK_UPS = (
    10  # look-ups of a read-back, so that it stays within each venue's limit; the next read-back does the others
)
REOPENED_WITHIN_NS = 5_000_000_000  # a lane that is up again within that comes and goes
MIN_WAIT_S = 0.001  # a shorter timer could end at the same moment
PUSHES_WITHIN_S = 2.0  # after a start the lists wait so long for a connection that pushes orders: they are read once
MAX_WHY = 600  # characters of the reasons why a read-back is incomplete
NAMED = 3  # most orders that a line of evidence names


@dataclass(slots=True)
class ReadBack:
    """A read-back that was requested at `asked_ns`, monotonic."""

    asked_ns: int
    missing: set[str]  # lists that have not been answered yet
    urgent: bool = True  # its look-ups are urgent calls
    orders: dict[str, Order] = field(default_factory=dict)  # every order that was shown and is not gone, by id
    troubles: list[str] = field(default_factory=list)  # why it is incomplete
    whole: bool = False  # every list was answered and could be read: orders that they cover and omit are gone
    looking: set[str] = field(default_factory=set)  # ids of the orders whose look-up is under way
    look_ups: int = 0  # look-ups that it has started
    reported_early: bool = False  # a list is late, and the orders of the other lists have been reported

    @property
    def left(self) -> bool:
        """Return whether a list has shown a live order."""
        return any(order.state is OrderState.LIVE for order in self.orders.values())


class ReadBackRunner:
    """Run an account's read-backs; each ends in one `OrdersRead`.

    It also has the lists read when a connection begins to push orders. The adapter may replace four callbacks.
    `order_request` takes up to `orders_a_call` ids of orders, and returns the builder of the request for them. It
    returns None if the venue has no such call.
    `look_up_part` returns the context of a look-up's call, which begins with the read-back and the orders' ids.
    `count_cancelled` returns the `OrdersRead.cancelled` of an urgent read-back, and resets the count.
    `must_yield` returns whether another look-up could take units that the commands of a kill need. It is called with
    the moment, and whether the look-up is urgent.
    """

    def __init__(
        self,
        book: OrderBook,
        calls: CallStarter,
        evidence: Evidence,
        refresh: Callable[[Instant], Outputs],
        second_route_after_s: Callable[[], float],
    ) -> None:
        """Make a runner without a read-back under way.

        `refresh` requests every list with calls that are not urgent. `second_route_after_s` returns how many
        seconds a read waits before its second route.
        """
        self.order_request: Callable[[Sequence[str]], Build | None] = lambda ids: None
        self.orders_a_call = 1
        self.count_cancelled: Callable[[], int | None] = lambda: None
        self.look_up_part: Callable[[ReadBack | None, tuple[str, ...]], Any] = lambda read, ids: (read, ids)
        self.must_yield: Callable[[Instant, bool], bool] = lambda now, urgent: (
            calls.budget.wait_for_cancels_s(calls.budget.demand.read, now) > 0
        )
        self.lag_ns = 0  # a look-up may not know an order whose last message is younger, in ns
        self._reopened_ns = NEVER  # when the lists were last requested because the HTTP lane came up
        self._book = book
        self._calls = calls
        self._evidence = evidence
        self._refresh = refresh
        self._second_route_after_s = second_route_after_s
        self._looking: set[str] = set()  # orders whose look-up is under way without a read-back
        self._alone: set[str] = set()  # unproven orders that the answer for several has left out, or has refused
        self._http_up = False
        self.refreshed_ns = NEVER  # when all lists were last requested without a kill
        self._refresh_due = False  # a timer runs after which they are requested again
        self._awaits_pushes = False  # a timer runs that ends the wait for the first connection that pushes

    # refreshes

    def on_http_lane(self, *, up: bool) -> None:
        """Note that the HTTP lane came up or went down; lists are read only while it is up."""
        self._http_up = up

    def begin_pushes(self, conn: int, now: Instant) -> Outputs:
        """Note that a connection pushes orders from now on, and request the lists, which show earlier changes."""
        self._book.start_pushes(conn, now.mono_ns - 1)
        if not self._http_up or self._refresh_due:
            return ()  # the adapter reads the lists when the HTTP lane comes up
        due_ns = self.refreshed_ns + len(self._book.lists) * int(1e9 / LISTS_PER_S)
        if now.mono_ns < due_ns:  # connections come and go faster than `LISTS_PER_S` allows
            return self._refresh_after((due_ns - now.mono_ns) / 1e9)
        return self.on_refresh_timer(now)

    def refresh_with_pushes(self, now: Instant) -> Outputs:
        """Request every list after a start, once a connection pushes orders, or `PUSHES_WITHIN_S` later without one."""
        if self._refresh_due or self._awaits_pushes:
            return ()
        if self._book.is_pushed:
            return self._refresh_when_room(now, now)
        self._awaits_pushes = True
        return (WakeAfter(AWAIT, PUSHES_WITHIN_S),)

    def on_await_timer(self, now: Instant) -> Outputs:
        """Request every list, unless a connection that pushes orders has done so."""
        is_awaited, self._awaits_pushes = self._awaits_pushes, False
        return self.on_refresh_timer(now) if is_awaited and not self._refresh_due else ()

    def _refresh_after(self, seconds: float) -> Outputs:
        self._refresh_due = True
        return (WakeAfter(REFRESH, seconds),)

    def refresh_with_room(self, now: Instant) -> Outputs:
        """Request every list because the HTTP lane came up; if it comes and goes, once the venue's limits have room."""
        budget, is_again = self._calls.budget, now.mono_ns - self._reopened_ns < REOPENED_WITHIN_NS
        if is_again and (wait_s := budget.wait_s(budget.demand.read, now)):
            return self._refresh_after(max(wait_s, MIN_WAIT_S))
        self._reopened_ns = now.mono_ns
        return self._refresh(now)

    def on_refresh_timer(self, now: Instant) -> Outputs:
        """Request every list, if the HTTP lane is up, now or when the venue's limits have room."""
        # a strike that the same event causes leaves later, and must count these lists as requested before it
        return self._refresh_when_room(now, now._replace(mono_ns=now.mono_ns - 1))

    def _refresh_when_room(self, now: Instant, asked: Instant) -> Outputs:
        self._refresh_due = False
        if not self._http_up:
            return ()
        budget, is_first = self._calls.budget, not self._book.is_known
        wait = budget.wait_at_start_s if is_first else budget.wait_s
        if wait_s := wait(budget.demand.read, now):
            return self._refresh_after(max(wait_s, MIN_WAIT_S))
        self.refreshed_ns, self._awaits_pushes = now.mono_ns, False
        return self._refresh(asked)

    # lists

    def take_list(self, read: ReadBack, name: str, orders: Iterable[Order], why: str, now: Instant) -> Outputs:
        """Add a list's answer to a read-back; the last list ends the read-back, or starts its look-ups.

        `orders` are the orders of the answer that are not gone; orders of a failed list count too. `why` is the
        reason why there may be more orders; "": the list is whole. An order that is `unproven` and in no list
        contradicts the lists, and is looked up by its id.
        """
        read.missing.discard(name)
        listed = {order.id: order for order in orders}
        read.orders.update(listed)
        new_orders = self._book.apply_listing(name, listed.values(), read.asked_ns, whole=not why)
        if why:
            read.troubles.append(why)
        return new_orders if read.missing else (*self._look_up(read, now), *new_orders)

    def report_late_list(self, call: PendingCall) -> Outputs:
        """Return the live orders of a read-back so far, as incomplete, if `call` is a list of it that is late.

        It returns them once a read-back, and nothing for any other call.
        """
        match call.part:
            case (name, ReadBack(reported_early=False) as read, *_) if read.left:
                read.reported_early = True
                why = self._evidence(f"{name}: no answer yet")
                return (OrdersRead(tuple(read.orders.values()), False, read.asked_ns, why),)
            case _:
                return ()

    # look-ups

    def _look_up(self, read: ReadBack, now: Instant) -> Outputs:
        unlisted = self._unlisted(read)
        read.whole = not read.troubles
        if (
            not unlisted or read.troubles or read.left
        ):  # a live order is enough to strike again: no look-up has to end first
            return (*self._end_read(read), *(() if read.urgent else self.look_over(now)))
        if not read.urgent:  # later orders do not contradict the lists, and a kill needs the requests
            unlisted = [order for order in unlisted if self._book.word_ns(order.id) <= read.asked_ns]
        return self._ask(read, [order.id for order in unlisted], now) or self._end_read(read)

    def _ask(self, read: ReadBack, ids: Sequence[str], now: Instant) -> Outputs:
        """Look these orders up for a read-back, as far as its limit and the venue's have room."""
        outputs: Outputs = ()
        for group in islice(self._groups(ids), MAX_LOOK_UPS - read.look_ups):
            if read.look_ups and self.must_yield(now, read.urgent):
                break
            build = self.order_request(group)
            if build is not None:
                read.looking.update(group)
                read.look_ups += 1
                outputs += self._calls.start_call(
                    LOOK_UP,
                    build,
                    now,
                    urgent=read.urgent,
                    second_route_after_s=self._second_route_after_s(),
                    context=self.look_up_part(read, group),
                    on_loss=self._on_look_up_lost,
                )
        return outputs

    def look_over(self, now: Instant) -> Outputs:
        """Look up a few doubted orders without a read-back, so that they count again or leave the book."""
        outputs: Outputs = ()
        if len(self._looking) >= MAX_UNHURRIED_LOOK_UPS:
            return ()
        ids = [order_id for order_id in self._book.doubted if order_id not in self._looking]
        for group in islice(self._groups(ids), MAX_UNHURRIED_LOOK_UPS - len(self._looking)):
            if self.must_yield(now, False):
                break
            build = self.order_request(group)
            if build is not None:
                self._looking.update(group)
                outputs += self._calls.start_call(
                    LOOK_UP,
                    build,
                    now,
                    context=self.look_up_part(None, group),
                    on_loss=self._on_look_up_lost,
                )
        return outputs

    def _groups(self, ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield the ids of each look-up; those that are asked for alone come last."""
        self._alone &= self._book.unproven.keys()
        together = [order_id for order_id in ids if order_id not in self._alone]
        for start in range(0, len(together), self.orders_a_call):
            yield tuple(together[start : start + self.orders_a_call])
        yield from ((order_id,) for order_id in ids if order_id in self._alone)

    def is_new(self, order_id: str, now: Instant) -> bool:
        """Return whether the last message of an unproven order is younger than the venue's answers may be."""
        book = self._book
        return order_id in book.unproven and now.mono_ns - book.word_ns(order_id) < self.lag_ns

    def looked_up(
        self, call: PendingCall, orders: Iterable[Order], why: str, now: Instant, *, ask_alone: bool = False
    ) -> Outputs:
        """Process the answer of a look-up: its orders, a `GONE` order for an end; `why` it lacks the others.

        `call` is the look-up; its `part` holds the read-back, or None, and the orders' ids. `ask_alone`: an order that
        an answer for several lacks is looked up alone: what its absence means is known for a single order only.
        """
        read: ReadBack | None = call.part[0]
        ids: tuple[str, ...] = call.part[1]
        (self._looking if read is None else read.looking).difference_update(ids)
        orders = tuple(orders)
        for order in orders:
            self._take_looked_up(read, order)
        known = {order.id for order in orders}
        lacking = [order_id for order_id in ids if order_id not in known and order_id in self._book.unproven]
        if ask_alone and len(ids) > 1:
            self._alone.update(lacking)
            if read is None:
                return self.look_over(now)
            outputs = self._ask(read, lacking, now)
            return outputs if read.looking else self._end_read(read)
        self._note_lacking(read, lacking, why)
        return () if read is None or read.looking else self._end_read(read)

    def _take_looked_up(self, read: ReadBack | None, order: Order) -> None:
        book = self._book
        if order.state is OrderState.GONE:
            book.note_end(order)
            book.remove(order.id)
        elif order.id in book.orders:  # else its end has been stated since
            if order.id in book.unproven:  # else a list has shown it since
                book.confirm(order)
            if read is not None:
                read.orders[order.id] = order

    def _note_lacking(self, read: ReadBack | None, ids: Sequence[str], why: str) -> None:
        if read is not None and ids:
            words = f"order {ids[0]} is" if len(ids) == 1 else f"orders {_names(ids)} are"
            read.troubles.append(self._evidence(f"{words} in no list, and cannot be looked up: {why}"))
        if read is not None:
            return
        doubted = self._book.doubted
        for order_id in ids:
            if order_id in doubted:  # it goes to the end of the queue for look-ups
                doubted[order_id] = doubted.pop(order_id)

    def _on_look_up_lost(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.looked_up(call, (), why, now)

    # the end

    def _unlisted(self, read: ReadBack) -> list[Order]:
        return [order for order_id, order in self._book.unproven.items() if order_id not in read.orders]

    def _end_read(self, read: ReadBack) -> Outputs:
        for order in self._book.shown_since(
            read.asked_ns
        ):  # orders that this read-back's lists did not show yet, or no longer
            read.orders.setdefault(order.id, order)
        unlisted = self._unlisted(read)
        orders = tuple(read.orders.values())
        if unlisted or read.troubles:
            why = "; ".join([*read.troubles, *([self._evidence(describe_unlisted(unlisted))] if unlisted else [])])
            return (OrdersRead(orders, False, read.asked_ns, truncate(why, MAX_WHY)),)
        return (OrdersRead(orders, True, read.asked_ns, cancelled=self.count_cancelled() if read.urgent else None),)


def describe_unlisted(orders: Iterable[Order]) -> str:
    """Return a line that names orders which were seen alive and which no list shows."""
    return f"seen alive, not seen to end, and in no list: {_names([order.id for order in orders])}"


def _names(ids: Sequence[str]) -> str:
    unnamed = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"{', '.join(ids[:NAMED])}{unnamed}"
