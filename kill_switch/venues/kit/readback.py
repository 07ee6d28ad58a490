"""Read an account's orders back: every list, then a look-up of each order that the lists contradict.

An `Adapter` owns one `ReadBackRunner`. The venue's adapter asks for the lists and hands over what each one shows; this
module ends the read-back in one `OrdersRead`. It also has the lists read when a connection begins to push orders.
It never judges whether an account is clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.venues.decode import Evidence, truncate
from kill_switch.venues.kit.book import NEVER, OrderBook
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.messages import OrdersRead, Outputs, WakeAfter

LOOK_UP = "look-up"  # the kind of the call that asks for one order by its id
REFRESH = "refresh"  # the tag of the timer that has the lists read
LISTS_PER_S = 2  # that are read because connections come back: no venue documents a limit below that
MAX_UNHURRIED_LOOK_UPS = 5  # orders that are looked up at once while no read-back waits for them
MAX_LOOK_UPS = 10  # of one read-back, so that reads stay within each venue's limit; the rest is for the next one
MAX_WHY = 600  # characters of what a read-back has against itself
NAMED = 3  # orders that a line of evidence names, at most
READ_HEDGE = 4  # a read takes its second route after that many times what a cancel waits: it is worth less


@dataclass(slots=True)
class ReadBack:
    """One read-back that was asked for at `asked_ns`, monotonic."""

    asked_ns: int
    missing: set[str]  # lists that have not been answered yet
    urgent: bool = True  # its look-ups go before everything else
    orders: dict[str, Order] = field(default_factory=dict)  # all that were shown and are not gone, by id
    troubles: list[str] = field(default_factory=list)  # why it is not complete
    whole: bool = False  # every list was answered and could be read: what they cover and do not show is gone
    looking: set[str] = field(default_factory=set)  # ids of the orders whose look-up is under way
    told_early: bool = False  # a list is late, and what the others have shown has been told

    @property
    def left(self) -> bool:
        """Say whether an order is alive, as far as the lists have shown."""
        return any(order.state is OrderState.LIVE for order in self.orders.values())


class ReadBackRunner:
    """Carry an account's read-backs out.

    Three things differ from venue to venue, and an adapter sets them after it was made: `order_request` returns what
    builds the request for one order by its id, or None if that cannot be asked; `refresh` reads every list, behind
    everything that is urgent; `count_cancelled` returns what an urgent read-back says in `OrdersRead.cancelled`, and
    begins to count anew.
    """

    def __init__(
        self,
        book: OrderBook,
        calls: CallStarter,
        evidence: Evidence,
        refresh: Callable[[Instant], Outputs],
        hedge_after_s: Callable[[], float],
    ) -> None:
        """Make a runner without a read-back under way; `hedge_after_s` returns what a cancel waits, in seconds."""
        self.order_request: Callable[[str], Build | None] = lambda order_id: None
        self.count_cancelled: Callable[[], int | None] = lambda: None
        self._book = book
        self._calls = calls
        self._evidence = evidence
        self._refresh = refresh
        self._hedge_after_s = hedge_after_s
        self._looking: set[str] = set()  # orders whose look-up is under way, for no read-back
        self._http_up = False
        self._refreshed_ns = NEVER  # when all lists were last asked for, because pushes began
        self._refresh_due = False  # they are to be again, a little later

    # when the lists are read

    def on_http_lane(self, *, up: bool) -> None:
        """Take note that the HTTP lane came up or went down; lists are read while it is up."""
        self._http_up = up

    def begin_pushes(self, conn: int, now: Instant) -> Outputs:
        """Take note that a connection pushes orders from now on, and read what was placed and ended before."""
        self._book.start_pushes(conn, now.mono_ns - 1)
        if not self._http_up or self._refresh_due:
            return ()  # the HTTP lane reads when it comes up
        due_ns = self._refreshed_ns + len(self._book.lists) * int(1e9 / LISTS_PER_S)
        if now.mono_ns < due_ns:  # connections come and go faster than the lists may be read
            self._refresh_due = True
            return (WakeAfter(REFRESH, (due_ns - now.mono_ns) / 1e9),)
        return self.on_refresh_timer(now)

    def on_refresh_timer(self, now: Instant) -> Outputs:
        """Have every list read now, if the HTTP lane is up."""
        self._refresh_due, self._refreshed_ns = False, now.mono_ns
        if not self._http_up:
            return ()
        # a strike that this same event leads to leaves later, and counts these lists as asked for before it
        return self._refresh(now._replace(mono_ns=now.mono_ns - 1))

    # what the lists show

    def take_list(self, read: ReadBack, name: str, orders: Iterable[Order], why: str, now: Instant) -> Outputs:
        """Take one list's answer into a read-back; the last list ends it, or begins the look-ups that it needs.

        `orders` are those that the answer shows and that are not gone; those of a list that failed count too. `why`
        says why there may be more; "": there are none. An order that is `unproven` and in no list contradicts the
        lists, and is looked up by its id.
        """
        read.missing.discard(name)
        listed = {order.id: order for order in orders}
        read.orders.update(listed)
        found = self._book.apply_listing(name, listed.values(), read.asked_ns, whole=not why)
        if why:
            read.troubles.append(why)
        return found if read.missing else (*self._look_up(read, now), *found)

    def tell_early(self, call: PendingCall) -> Outputs:
        """Tell what a read-back has shown so far if `call`, a list of it, is late: live orders do not wait for it."""
        match call.part:
            case (name, ReadBack(told_early=False) as read) if read.left:
                read.told_early = True
                why = self._evidence(f"{name}: no answer yet")
                return (OrdersRead(tuple(read.orders.values()), False, read.asked_ns, why),)
            case _:
                return ()

    # look-ups

    def _look_up(self, read: ReadBack, now: Instant) -> Outputs:
        unlisted = self._unlisted(read)
        read.whole = not read.troubles
        if not unlisted or read.troubles or read.left:  # if anything is left, nobody has to wait to strike
            return (*self._end_read(read), *(() if read.urgent else self.look_over(now)))
        if not read.urgent:  # what was placed since does not contradict the lists, and a kill needs the requests
            unlisted = [order for order in unlisted if self._book.word_ns(order.id) <= read.asked_ns]
        outputs: Outputs = ()
        for order in unlisted[:MAX_LOOK_UPS]:
            build = self.order_request(order.id)
            if build is not None:
                read.looking.add(order.id)
                outputs += self._calls.start_call(
                    LOOK_UP,
                    build,
                    now,
                    urgent=read.urgent,
                    hedge_after_s=READ_HEDGE * self._hedge_after_s(),
                    context=(read, order.id),
                    on_loss=self._on_look_up_lost,
                )
        return outputs or self._end_read(read)

    def look_over(self, now: Instant) -> Outputs:
        """Look up a few of the orders that are doubted, for no read-back: whether they count is to be known."""
        outputs: Outputs = ()
        for order_id in list(self._book.doubted)[: MAX_UNHURRIED_LOOK_UPS - len(self._looking)]:
            build = self.order_request(order_id)
            if build is not None and order_id not in self._looking:
                self._looking.add(order_id)
                outputs += self._calls.start_call(
                    LOOK_UP, build, now, context=(None, order_id), on_loss=self._on_look_up_lost
                )
        return outputs

    def looked_up(self, call: PendingCall, order: Order | None, why: str = "") -> Outputs:
        """Take what the venue says of one order: None is nothing, for the reason `why`; `GONE` is its end.

        `call` is the look-up; its context holds the read-back and the order's id.
        """
        read: ReadBack | None = call.part[0]
        order_id: str = call.part[1]
        book = self._book
        if read is None:
            self._looking.discard(order_id)
        else:
            read.looking.discard(order_id)
        if order is None:
            if read is not None:
                read.troubles.append(self._evidence(f"order {order_id} is in no list, and cannot be looked up: {why}"))
            elif order_id in book.doubted:  # it goes to the end: each has its turn
                book.doubted[order_id] = book.doubted.pop(order_id)
        elif order.state is OrderState.GONE:
            book.note_end(order)
            book.remove(order_id)
        elif order_id in book.orders:  # else its end has been stated meanwhile
            if order_id in book.unproven:  # else a list has shown it meanwhile
                book.confirm(order)
            if read is not None:
                read.orders[order_id] = order
        return () if read is None or read.looking else self._end_read(read)

    def _on_look_up_lost(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.looked_up(call, None, why)

    # the end

    def _unlisted(self, read: ReadBack) -> list[Order]:
        return [order for order_id, order in self._book.unproven.items() if order_id not in read.orders]

    def _end_read(self, read: ReadBack) -> Outputs:
        for order in self._book.shown_since(read.asked_ns):  # what this read's lists did not show yet, or no longer
            read.orders.setdefault(order.id, order)
        unlisted = self._unlisted(read)
        orders = tuple(read.orders.values())
        if unlisted or read.troubles:
            why = "; ".join([*read.troubles, *([self._evidence(describe_unlisted(unlisted))] if unlisted else [])])
            return (OrdersRead(orders, False, read.asked_ns, truncate(why, MAX_WHY)),)
        return (OrdersRead(orders, True, read.asked_ns, cancelled=self.count_cancelled() if read.urgent else None),)


def describe_unlisted(orders: Iterable[Order]) -> str:
    """Name orders that were seen alive and that no list shows."""
    ids = [order.id for order in orders]
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"seen alive, not seen to end, and in no list: {', '.join(ids[:NAMED])}{more}"
