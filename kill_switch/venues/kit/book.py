"""Keep the orders of one account that its venue has shown, and report the new ones.

An `Adapter` owns one `OrderBook`, and passes it the orders of pushes and lists. It sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from kill_switch.core.domain import Order, OrderState
from kill_switch.core.latest import keep_latest
from kill_switch.venues.kit.awaited_pushes import AwaitedPushes
from kill_switch.venues.kit.kill_trace import PAST_IDS, KillTrace
from kill_switch.venues.kit.list_rounds import NEVER, ListRounds
from kill_switch.venues.messages import OrderPlaced, OrderSeen, OrdersFound

LATE_NS = 60_000_000_000  # a live push later than that after its order's first message proves no placing

Seen = tuple[OrderSeen | OrderPlaced | OrdersFound, ...]


class OrderBook(KillTrace):
    """The orders of one account, and since when no order can have been missed.

    `lists` names the lists that together show every order; the adapter sets it. `orders` has the live and pending
    orders by id. The adapter sets `now_ns`, monotonic, before it passes the orders of an event.

    An order is known once any message has shown it, and is reported once. A live push while the book is current:
    the order was placed now (`OrderPlaced`). A list, or a push after a gap: it was placed after the last request for
    the lists that did not show it (`OrdersFound`). Orders of the first whole lists are not reported: they are older.
    Nor is an order whose first message is its end or a pending cancel, because that message places no order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lists: tuple[str, ...] = ("orders",)
        self.orders: dict[str, Order] = {}
        self.unproven: dict[str, Order] = {}  # alive by a message that no list confirms: a push, a refused cancel
        # of these: orders whose message a later one, or every list that was read since, contradicts
        self.doubted: dict[str, None] = {}
        self.pushed_ns = 0  # when the last push of an order came, whatever it says
        self._word_ns: dict[str, int] = {}  # unproven order → when that message came
        self._confirmed: set[str] = set()  # looked up and found alive, although no list shows them
        # orders that were in the book, the latest last → when their end was stated, or 0
        self._past: dict[str, int] = {}
        self.rounds = ListRounds()
        self._pushing: set[int] = set()  # connections that push orders now
        self._pushing_ns = 0  # since when orders are pushed without a gap
        self.awaited = AwaitedPushes()  # a live push within `LATE_NS` still reports a placing
        self.on_whole_list: Callable[[], None] = lambda: None  # called after each whole list, late ones too

    # knowledge

    @property
    def is_known(self) -> bool:
        """Return whether every list has been read whole once."""
        return self.rounds.round_ns != NEVER

    @property
    def is_current(self) -> bool:
        """Return whether orders are pushed, and every list has been read whole since the last gap in the pushes."""
        return bool(self._pushing) and self.rounds.round_ns >= self._pushing_ns

    @property
    def open_orders(self) -> int | None:
        """Count the open orders, except the doubted ones; None: not every list has been read yet."""
        return len(self.orders) - len(self.doubted) if self.is_known else None

    @property
    def stale(self) -> tuple[str, ...]:
        """Name the lists that have not been read whole since orders are pushed; () while no connection pushes."""
        if not self._pushing:
            return ()
        return tuple(name for name in self.lists if self.rounds.is_old(name, self._pushing_ns))

    @property
    def is_pushed(self) -> bool:
        """Return whether a connection pushes orders now."""
        return bool(self._pushing)

    def start_pushes(self, conn: int, since_ns: int) -> None:
        """Note that a connection pushes orders from `since_ns` on, monotonic; another connection may push already."""
        if not self._pushing:
            self._pushing_ns = since_ns
            self._confirmed.clear()
        self._pushing.add(conn)

    def end_pushes(self, conn: int) -> None:
        """Note that a connection has stopped pushing; without another connection that pushes, a gap begins."""
        self._pushing.discard(conn)
        if not self._pushing:
            self.awaited.clear()

    def word_ns(self, order_id: str) -> int:
        """Return when the message came, monotonic, by which an unproven order is alive."""
        return self._word_ns[order_id]

    # pushes

    def apply_push(self, order: Order, *, opened: bool = False) -> Seen:
        """Apply a pushed order; return `OrderSeen` for a new live order, and `OrderPlaced` if it was placed now.

        `opened`: the push states that the order was placed, even if the order has ended since. After a push has shown
        an order alive, a list alone no longer proves that the order is gone: the list may not cover it.
        """
        self.pushed_ns = self.now_ns
        listed, known = order.id in self.orders, order.id in self.orders or order.id in self._past
        if order.state is OrderState.GONE:
            self.note_end(order)
            self.remove(order.id)
        else:
            self._take_word(order)
            if self._past.get(order.id):  # its end was stated before: one of the two messages is late
                self.doubted[order.id] = None
        if order.state is not OrderState.LIVE and not opened:
            if not known:
                self._await_listing((order.id,))
            return ()
        placed = self._placed(order, known)
        return placed if listed or order.state is not OrderState.LIVE else (OrderSeen(order), *placed)

    def _placed(self, order: Order, known: bool) -> tuple[OrderPlaced | OrdersFound, ...]:
        """Report the order of a live push if it is new."""
        known_ns = self.awaited.take(order.id)
        if known and (known_ns is None or self.now_ns - known_ns > LATE_NS):
            return ()
        if self.is_current:
            return (OrderPlaced(order),)
        return (OrdersFound((order.id,), self.rounds.round_ns),) if self.is_known else ()

    def _await_listing(self, ids: Iterable[str]) -> None:
        """Expect the live pushes of orders that another message has shown, if no gap can have lost the pushes."""
        if self.is_current:
            self.awaited.add(ids, self.now_ns)

    def _take_word(self, order: Order) -> None:
        if self.tracing and order.id not in self.orders:
            self._enter((order.id,))
        self.unproven[order.id] = self.orders[order.id] = order
        self._word_ns[order.id] = self.now_ns
        self.doubted.pop(order.id, None)

    def remove(self, order_id: str) -> None:
        """Remove an order whose end the venue has stated; later messages do not report it as new."""
        self._remember_gone(order_id, max(1, self.now_ns))

    def _unlist(self, order_id: str) -> None:
        """Remove an order that a list covers and no longer shows."""
        if symbol := self.orders[order_id].symbol:
            self.rounds.note_omitted(symbol, self.now_ns)
        self._remember_gone(order_id, 0)

    def claim(self, order: Order) -> tuple[OrderSeen, ...]:
        """Add an order that another message names, for example a position; the lists need not cover it."""
        if order.id in self.orders or self._past.get(order.id):
            return ()
        if order.id not in self._past:
            self._await_listing((order.id,))
        self._take_word(order)
        return (OrderSeen(order),)

    def note_cancel_refused(self, order_id: str, symbol: str = "") -> None:
        """Note that the venue has refused to cancel an order: a list alone no longer proves that it is gone.

        `symbol` is the refusal's symbol, for an order that has left the book.
        """
        order = self.orders.get(order_id)
        if order is None and self._past.get(order_id, 1):
            return  # the venue has stated its end, or no message has ever shown it
        self._take_word(order or Order(order_id, symbol, OrderState.LIVE, "cancel refused"))

    def trust_lists(self, ids: Iterable[str]) -> None:
        """Note that a list alone proves these orders gone again: the venue has accepted their cancels since."""
        for order_id in ids:
            self._prove(order_id)

    def confirm(self, order: Order) -> None:
        """Note that a look-up has shown this order alive: it counts, even if no list shows it."""
        self.unproven.pop(order.id, None)  # it goes to the end of the queue for look-ups
        self._past.pop(order.id, None)
        self._take_word(order)
        self._confirmed.add(order.id)

    def _remember_gone(self, order_id: str, ended_ns: int) -> None:
        self.orders.pop(order_id, None)
        self._prove(order_id)
        self._past.pop(order_id, None)
        self._past[order_id] = ended_ns
        keep_latest(self._past, PAST_IDS)

    def _prove(self, order_id: str) -> None:
        self.unproven.pop(order_id, None)
        self._word_ns.pop(order_id, None)
        self.doubted.pop(order_id, None)
        self._confirmed.discard(order_id)

    # lists

    def apply_listing(
        self, name: str, orders: Iterable[Order], asked_ns: int, *, whole: bool, kept: Collection[str] | None = None
    ) -> tuple[OrdersFound, ...]:
        """Apply a list's orders that are not gone; a whole list replaces its part of the book.

        An order that a whole list has shown before and omits now is gone, except the orders of `kept` (default: the
        unproven orders). The answer is ignored if it was requested before the last whole answer. An end that was
        stated after `asked_ns` wins over the list.
        """
        rounds = self.rounds
        if rounds.is_late(name, asked_ns):
            if whole:
                self.on_whole_list()
            return ()
        shown = {order.id: order for order in orders}
        again = shown.keys() & self._past.keys()
        for order_id in again:
            if self._past[order_id] > asked_ns:
                del shown[order_id]
            else:
                self._past[order_id] = 0
        new = shown.keys() - self.orders.keys() - again
        facts: tuple[OrdersFound, ...] = ()
        if new and self.is_known:  # not while a list is missing: the order may have moved to this list
            ids = tuple(order_id for order_id in shown if order_id in new)
            facts = (OrdersFound(ids, rounds.round_ns),)
            self._await_listing(ids)
        if self.tracing:
            self._enter(shown.keys() - self.orders.keys())
        self.orders.update(shown)
        for order_id in (*(shown.keys() & self.unproven.keys()), *(shown.keys() & self.doubted.keys())):
            self._prove(order_id)
        if whole:
            kept, is_only = self.unproven.keys() if kept is None else kept, len(self.lists) < 2
            for order_id in rounds.find_omitted(name, shown.keys(), self.orders.keys(), kept, is_only=is_only):
                self._unlist(order_id)
            if rounds.complete(name, shown.keys(), asked_ns, self.lists):
                self._doubt()
            self.on_whole_list()
        else:
            rounds.add(name, shown)
        return facts

    def shown_since(self, asked_ns: int) -> Iterator[Order]:
        """Return the open orders of whole lists that were requested after `asked_ns`, monotonic."""
        return (self.orders[order_id] for order_id in self.rounds.shown_since(asked_ns) if order_id in self.orders)

    def apply_probe(self, name: str, orders: Sequence[Order], asked_ns: int, *, whole: bool) -> Seen:
        """Apply the list of a probe as `apply_listing` does, and return `OrderSeen` for each new live order too."""
        new = (order for order in orders if order.state is OrderState.LIVE and order.id not in self.orders)
        seen = tuple(OrderSeen(order) for order in new if self._past.get(order.id, 0) <= asked_ns)
        return (*seen, *self.apply_listing(name, orders, asked_ns, whole=whole))

    def _doubt(self) -> None:
        """Doubt each unproven order that every list omits, if each list was requested after the order's message."""
        words, confirmed, round_ns = self._word_ns, self._confirmed, self.rounds.round_ns
        doubted = (order_id for order_id in self.unproven if words[order_id] < round_ns and order_id not in confirmed)
        self.doubted.update(dict.fromkeys(doubted))
