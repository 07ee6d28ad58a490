"""Keep the orders of one account, as far as its venue has shown them, and tell which of them are new.

An `Adapter` owns one `OrderBook`; a venue's adapter hands it what pushes and lists show. It sends nothing.

An order is *known* once any message has shown it, and it is *counted* once. What is told of a new order depends on how
it came. A live push while the book is current: it was placed now. A list, or a push behind a gap: it was placed after
the lists that do not show it were asked for. Orders of the first whole lists were there before, and are not told; so
are ends: an order whose first word is its end, or a cancel under way, has not been placed by that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.core.latest import keep_latest
from kill_switch.venues.messages import OrderPlaced, OrderSeen, OrdersFound

PAST_IDS = 16_384  # orders that have left the book and are remembered: as many as one read may miss at once
NEVER = -(10**18)
LAPSED = frozenset({"filled", "closed", "expired", "rejected"})  # states in lower case that no cancel leads to
LATE_NS = 60_000_000_000  # a live push later than that behind the first word of its order says nothing of its placing


Seen = tuple[OrderSeen | OrderPlaced | OrdersFound, ...]


class OrderBook:
    """The orders of one account, and since when nothing of them can have been missed.

    `lists` names the lists that together show every order; the adapter sets it. `orders` has the live and pending
    orders by id. The adapter sets `now_ns`, monotonic, before it hands over what an event shows.
    """

    def __init__(self) -> None:
        self.lists: tuple[str, ...] = ("orders",)
        self.orders: dict[str, Order] = {}
        self.unproven: dict[str, Order] = {}  # alive by a word that no list covers: a push, a refused cancel
        self.doubted: dict[
            str, None
        ] = {}  # of these: a later word, or every list that was read since, contradicts that word
        self._turn = -1  # the list that was read in its turn last
        self.now_ns = 0  # when the event that is being taken came
        self._word_ns: dict[str, int] = {}  # unproven order → when that word came
        self._confirmed: set[str] = set()  # looked up and found alive, though no list shows them
        self._past: dict[
            str, int
        ] = {}  # orders that were in the book, the latest last → when their end was stated, or 0
        self._asked_ns: dict[str, int] = {}  # list → when its last whole answer was asked for
        self._round_ns = NEVER  # the earliest of these, once every list has one: what is older, the lists have shown
        self._shown: dict[str, set[str]] = {}  # list → the orders that it has shown and not left out since
        self._pushing: set[int] = set()  # connections that push orders now
        self._pushing_ns = 0  # since when, without a gap, one of them has
        self._awaited: dict[str, int] = {}  # known, and not by a live push; one within `LATE_NS` counts → known since
        self.on_whole_list: Callable[[], None] | None = None  # is called once a whole list has been applied
        self.tracing = False  # the next three are kept
        self.entered: dict[str, int] = {}  # orders that came into the book → when
        self.ended: dict[str, int] = {}  # orders whose end the venue has stated → when, if it was no cancel; else 0
        self.named_none = False  # the venue has named the orders that a command has cancelled, and there were none

    # what is known

    @property
    def is_known(self) -> bool:
        """Tell whether every list has been read whole once."""
        return self._round_ns != NEVER

    @property
    def is_current(self) -> bool:
        """Tell whether orders are pushed, and every list has been read whole since the last gap in that."""
        return bool(self._pushing) and self._round_ns >= self._pushing_ns

    @property
    def open_orders(self) -> int | None:
        """Count the open orders, without those that are doubted; None: the lists have not all been read yet."""
        return len(self.orders) - len(self.doubted) if self.is_known else None

    @property
    def stale(self) -> tuple[str, ...]:
        """Name the lists that have not been read whole since orders are pushed; none while they are not pushed."""
        if not self._pushing:
            return ()
        return tuple(name for name in self.lists if self._asked_ns.get(name, NEVER) < self._pushing_ns)

    def lists_due(self) -> tuple[str, ...]:
        """Name the lists that a probe is to read: each in its turn, one cheap call at a time, and what is stale."""
        self._turn = (self._turn + 1) % len(self.lists)
        return tuple(dict.fromkeys((self.lists[self._turn], *self.stale)))

    def start_pushes(self, conn: int, since_ns: int) -> None:
        """Take note that a connection pushes orders from `since_ns` on; another one may do so already."""
        if not self._pushing:
            self._pushing_ns = since_ns
            self._confirmed.clear()
        self._pushing.add(conn)

    def end_pushes(self, conn: int) -> None:
        """Take note that a connection pushes no more; without another one, a gap begins."""
        self._pushing.discard(conn)
        if not self._pushing:
            self._awaited.clear()

    def word_ns(self, order_id: str) -> int:
        """Return when the word came, monotonic, by which an unproven order is alive."""
        return self._word_ns[order_id]

    # what a kill counts

    def trace(self) -> None:
        """Keep from now on which orders come into the book and how they end; what was kept is dropped."""
        self.tracing = True
        self.entered.clear()
        self.ended.clear()
        self.named_none = False

    def stop_tracing(self) -> None:
        self.trace()
        self.tracing = False

    def note_cancelled(self, ids: Iterable[str], *, all_of_them: bool = False) -> None:
        """Take note of orders that the venue says it has cancelled; they need not be known.

        `all_of_them`: it names every order that the command has hit, and no other copy of the command can have hit any.
        """
        if not self.tracing:
            return
        self._keep_traced(self.ended, dict.fromkeys(ids, 0))
        self.named_none = self.named_none or (all_of_them and not self.ended)

    def note_open(self, ids: Iterable[str], since_ns: int) -> None:
        """Take note of orders that were open then, whatever has become of them."""
        if self.tracing:
            self._keep_traced(self.entered, {order_id: since_ns for order_id in ids if order_id not in self.entered})

    def note_end(self, order: Order, *, cancels: bool = True) -> None:
        """Take note of how an order has ended, as far as its status says; without `cancels`, of other ends only."""
        if not self.tracing:
            return
        status = order.status.lower()
        if status in LAPSED:
            self._keep_traced(self.ended, {order.id: max(1, self.now_ns)})
        elif cancels and "cancel" in status and "amend" not in status:
            self._keep_traced(self.ended, {order.id: 0})

    def _enter(self, ids: Iterable[str]) -> None:
        self._keep_traced(self.entered, dict.fromkeys(ids, self.now_ns))

    @staticmethod
    def _keep_traced(kept: dict[str, Any], added: Mapping[str, Any]) -> None:
        kept.update(added)
        if len(kept) > PAST_IDS:  # an answer to a strike is being read
            keep_latest(kept, PAST_IDS)

    # what pushes show

    def apply_push(self, order: Order, *, opened: bool = False) -> Seen:
        """Take a pushed order into the book; one that is new and alive is a fact, and so is that somebody placed it.

        `opened`: the venue says with this push that the order was placed, whatever has become of it. From a push that
        shows it alive on, no list alone proves that an order is gone: the list may not cover it.
        """
        listed, known = order.id in self.orders, order.id in self.orders or order.id in self._past
        if order.state is OrderState.GONE:
            self.note_end(order)
            self.remove(order.id)
        else:
            self._take_word(order)
            if self._past.get(order.id):  # its end was stated before: one of the two is late
                self.doubted[order.id] = None
        if order.state is not OrderState.LIVE and not opened:
            if not known:
                self._await_listing((order.id,))
            return ()
        placed = self._placed(order, known)
        return placed if listed or order.state is not OrderState.LIVE else (OrderSeen(order), *placed)

    def _placed(self, order: Order, known: bool) -> tuple[OrderPlaced | OrdersFound, ...]:
        """Say that a live push has shown a new order, if it has."""
        known_ns = self._awaited.pop(order.id, None)
        if known and (known_ns is None or self.now_ns - known_ns > LATE_NS):
            return ()
        if self.is_current:
            return (OrderPlaced(order),)
        return (OrdersFound((order.id,), self._round_ns),) if self.is_known else ()

    def _await_listing(self, ids: Iterable[str]) -> None:
        """Expect live pushes of orders that are known by another word, if no gap can have swallowed them."""
        if not self.is_current:
            return
        self._awaited.update(dict.fromkeys(ids, self.now_ns))
        keep_latest(self._awaited, PAST_IDS)

    def _take_word(self, order: Order) -> None:
        if self.tracing and order.id not in self.orders:
            self._enter((order.id,))
        self.unproven[order.id] = self.orders[order.id] = order
        self._word_ns[order.id] = self.now_ns
        self.doubted.pop(order.id, None)

    def remove(self, order_id: str) -> None:
        """Take an order out of the book whose end the venue has stated; what it says of it later is not news."""
        self._remember_gone(order_id, max(1, self.now_ns))

    def _unlist(self, order_id: str) -> None:
        """Take an order out of the book that a list covers and no longer shows."""
        self._remember_gone(order_id, 0)

    def claim(self, order: Order) -> tuple[OrderSeen, ...]:
        """Take an order that something else of the venue's names, a position for one: no list need cover it."""
        if order.id in self.orders or self._past.get(order.id):
            return ()
        if order.id not in self._past:
            self._await_listing((order.id,))
        self._take_word(order)
        return (OrderSeen(order),)

    def note_cancel_refused(self, order_id: str, symbol: str = "") -> None:
        """Take note that the venue has refused to cancel an order: no list alone proves any more that it is gone.

        `symbol` is what the refusal says of it, for an order that has left the book.
        """
        order = self.orders.get(order_id)
        if order is None and self._past.get(order_id, 1):
            return  # the venue has said its end, or nobody has ever seen it
        self._take_word(order or Order(order_id, symbol, OrderState.LIVE, "cancel refused"))

    def confirm(self, order: Order) -> None:
        """Take note that the venue, asked for this order, shows it alive: it counts, whatever the lists show."""
        self.unproven.pop(order.id, None)  # it goes to the end: each has its turn
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

    # what lists show

    def apply_listing(
        self, name: str, orders: Iterable[Order], asked_ns: int, *, whole: bool, kept: Collection[str] | None = None
    ) -> tuple[OrdersFound, ...]:
        """Take a list's orders that are not gone into the book; a whole list is the truth on its part of it.

        What a whole list has shown before and shows no longer is gone, but for `kept`; by default these are the orders
        that are `unproven`. An answer to a question older than that of the last whole one is no news. An end that was
        stated after the list was asked for stands against it.
        """
        if asked_ns < self._asked_ns.get(name, NEVER):
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
        if new and self.is_known:  # not while any list is missing: it may be one that has moved to this list
            ids = tuple(order_id for order_id in shown if order_id in new)
            facts = (OrdersFound(ids, self._round_ns),)
            self._await_listing(ids)
        if self.tracing:
            self._enter(shown.keys() - self.orders.keys())
        self.orders.update(shown)
        for order_id in (*(shown.keys() & self.unproven.keys()), *(shown.keys() & self.doubted.keys())):
            self._prove(order_id)
        if whole:
            self._asked_ns[name] = asked_ns
            self._leave_out(name, shown.keys(), self.unproven.keys() if kept is None else kept)
            self._shown[name] = set(shown)
            round_ns = min(self._asked_ns.get(order_id, NEVER) for order_id in self.lists)
            if round_ns > self._round_ns:
                self._round_ns = round_ns
                self._doubt()
            if self.on_whole_list is not None:
                self.on_whole_list()
        else:
            self._shown.setdefault(name, set()).update(shown)
        return facts

    def shown_since(self, asked_ns: int) -> Iterator[Order]:
        """Yield the open orders that a whole list has shown which was asked for after `asked_ns`."""
        for name, ids in self._shown.items():
            if self._asked_ns.get(name, NEVER) > asked_ns:
                yield from (self.orders[order_id] for order_id in ids if order_id in self.orders)

    def apply_probe(self, name: str, orders: Sequence[Order], asked_ns: int, *, whole: bool) -> Seen:
        """Take a list as `apply_listing` does, for a probe: a live order that is new is a fact of its own."""
        new = (one for one in orders if one.state is OrderState.LIVE and one.id not in self.orders)
        seen = tuple(OrderSeen(one) for one in new if self._past.get(one.id, 0) <= asked_ns)
        return (*seen, *self.apply_listing(name, orders, asked_ns, whole=whole))

    def _leave_out(self, name: str, shown: Collection[str], kept: Collection[str]) -> None:
        covered = self._shown.get(name, set()) if len(self.lists) > 1 else self.orders.keys()
        others = [ids for other, ids in self._shown.items() if other != name]
        for order_id in [
            order_id
            for order_id in covered
            if order_id not in shown and order_id not in kept and order_id in self.orders
        ]:
            if not any(order_id in ids for ids in others):
                self._unlist(order_id)

    def _doubt(self) -> None:
        """Doubt the orders of which every list has been asked since the word that they are alive, and shows none."""
        words, confirmed, round_ns = self._word_ns, self._confirmed, self._round_ns
        doubted = (order_id for order_id in self.unproven if words[order_id] < round_ns and order_id not in confirmed)
        self.doubted.update(dict.fromkeys(doubted))
