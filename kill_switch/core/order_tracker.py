"""Pure count of the distinct orders that a kill has cancelled at one account.

The dispatcher shows an `OrderTracker` the adapter's book, and records its changes. The kill report folds these records
into an `OrderTally`. At most `MAX_NAMED` orders have names there.

    an order is open      the book had it at the kill's first strike, or a push, a list or a read has shown it since;
                          or the venue has named it as cancelled since, so that it must have been open
    it is cancelled       a later whole read does not show it, and the venue has stated no other end
    it is neither         the venue has stated that it was filled, expired or rejected
    the count is unknown  no order was known at the first strike, and none has been shown since
"""

# Where a venue does not state how an order ended, an order that was filled meanwhile counts as cancelled.

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from kill_switch.core.latest import keep_latest

MAX_NAMED = 1000  # named orders of each account and kill; a name takes up to 40 bytes of the journal
MAX_ID_LENGTH = 128  # characters; an order with a longer id is only counted
POSITION_PREFIX = "position:"  # of the id of a position that a read shows as an order
MAX_GONE_REMEMBERED = 16_384  # gone orders that are remembered, so that an order that comes back is not counted twice
MAX_OPEN = 65_536  # open orders that are held; without a whole read, no order of a bot ends


@dataclass(slots=True)
class OrderTally:
    """The orders of an account in a kill, as the journal's records name and count them."""

    known: bool = False  # a record has named or counted the open orders
    read: bool = False  # a whole read has followed
    open: dict[str, None] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    unnamed_open: int = 0  # open orders without a name
    unnamed_gone: int = 0
    version: int = 0  # rises with each change of the names

    @property
    def cancelled(self) -> int | None:
        """Number of orders that were open and are gone; None: unknown."""
        return len(self.gone) + self.unnamed_gone if self.known and self.read else None

    def apply(self, fields: Mapping[str, Any]) -> None:
        """Apply the `orders` field of a record, which `OrderTracker.take_changes` has made."""
        self.known = True
        for order_id in fields.get("open", ()):
            self.gone.pop(order_id, None)
            self.open[order_id] = None
        for order_id in fields.get("gone", ()):
            self.open.pop(order_id, None)
            self.gone[order_id] = None
        for order_id in fields.get("ended", ()):
            self.open.pop(order_id, None)
            self.gone.pop(order_id, None)
        self.unnamed_open, self.unnamed_gone = fields.get("more", (self.unnamed_open, self.unnamed_gone))
        self.version += len(fields) > ("more" in fields)

    def on_read(self, left: int) -> None:
        """Apply a whole read that counts; `left` is the number of orders that it shows."""
        self.read = True
        if left:
            return
        if self.open:
            self.version += 1
            self.gone |= self.open
            self.open.clear()
        self.unnamed_open, self.unnamed_gone = 0, self.unnamed_gone + self.unnamed_open

    def to_json(self, *, names: bool = True) -> dict[str, object]:
        """Return the tally in JSON's plain values; without `names`, named orders are counted with the others."""
        unnamed = [self.unnamed_open, self.unnamed_gone] if names else [self.unnamed_open + len(self.open), self._gone]
        named = {"open": list(self.open), "gone": list(self.gone)} if names else {}
        return {"known": self.known, "read": self.read, **named, "more": unnamed}

    def copy_names(self, other: OrderTally) -> None:
        """Name orders that are only counted, as another tally of the same orders names them."""
        self.open, self.gone, self.version = other.open, other.gone, other.version
        self.unnamed_open -= len(self.open)
        self.unnamed_gone -= len(self.gone)

    @property
    def _gone(self) -> int:
        return len(self.gone) + self.unnamed_gone

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> OrderTally:
        """Return the tally that `to_json` has written."""
        tally = OrderTally(bool(fields["known"]), bool(fields["read"]))
        tally.open, tally.gone = dict.fromkeys(fields.get("open", ())), dict.fromkeys(fields.get("gone", ()))
        tally.unnamed_open, tally.unnamed_gone = map(int, fields["more"])
        return tally


class TracedBook(Protocol):
    """The part of an adapter's book that a count needs; `OrderBook` documents its members."""

    orders: dict[str, Any]
    doubted: dict[str, None]
    entered: dict[str, int]
    ended: dict[str, int]
    named_none: bool

    @property
    def is_known(self) -> bool: ...

    @property
    def tracing(self) -> bool: ...

    def trace(self) -> None: ...


class Standing(NamedTuple):
    """The open orders of a book at the moment from which a count follows the book."""

    known: bool  # every list had been read whole
    ids: Sequence[str]
    doubted: Sequence[str]  # of these


def follow(book: TracedBook) -> Standing | None:
    """Start to follow a book and return its open orders; None if it is followed already, and traces its changes."""
    if book.tracing:
        return None
    standing = Standing(book.is_known, tuple(book.orders), tuple(book.doubted))
    book.trace()
    return standing


class Due(Protocol):
    """Changes of a count that are computed later, because the answers of other accounts are waiting."""

    def changes(self) -> Mapping[str, object] | None:
        """Return the changes, computed once; None: the record has no `orders`. Never raises."""


def settled(kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record's data in plain values: each `Due` is replaced by the changes that it computes."""
    match kind:
        case "answer":
            return _settled(data)
        case "strike" if "sent" in data:
            return {**data, "sent": [_settled(sent) for sent in data["sent"]]}
        case _:
            return data


def _settled(part: Mapping[str, Any]) -> Mapping[str, Any]:
    orders = part.get("orders")
    if orders is None or isinstance(orders, Mapping):
        return part
    changes = orders.changes()
    others = {key: value for key, value in part.items() if key != "orders"}
    return others if changes is None else {**others, "orders": changes}


class OrderTracker:
    """Follows the orders of an account through a kill. Times are monotonic nanoseconds."""

    def __init__(self, kill: str, began_ns: int, stood: OrderTally | None = None) -> None:
        """Start at the kill's first strike; or go on from `stood`, the tally that the journal has of this kill."""
        before = stood or OrderTally()
        self.kill = kill
        self._began_ns = began_ns  # an order that is named as cancelled was open then, or came later
        self._strikes = (
            1 if before.known or before.read else 0
        )  # because an earlier strike may have had an unknown effect
        self._known = self._recorded_known = before.known
        self._open = dict.fromkeys(before.open, 0)  # order → a read must be asked for since then to end it
        self._gone = dict(before.gone)
        self._ended_otherwise: dict[str, int] = {}  # order that no cancel ended → when the venue stated that
        self._names = {*before.open, *before.gone}
        self._unnamed = [before.unnamed_open, before.unnamed_gone]
        self._recorded_unnamed = list(self._unnamed)
        self._earlier_unnamed = before.unnamed_open  # orders that were open before and have lost their names
        self._forgotten = 0  # open orders that are only counted, because there are very many
        self._unrecorded: dict[str, str] = {}  # named order → what it has become since the last record
        self._asked_ns = 0  # when the last whole read was asked for
        self._last_read: Collection[str] = ()  # the orders that it has shown

    # events

    def on_strike(self, book: TracedBook, now_ns: int, standing: Standing | None = None) -> None:
        """Apply a strike that has left; `standing` is the result of `follow` at that moment, if it was called."""
        self._strikes += 1
        if standing is not None:  # later changes of the book belong to the next answer or read
            self._start(standing, now_ns)
        else:
            self._absorb_book(book, now_ns)

    def on_book_changed(self, book: TracedBook, now_ns: int, standing: Standing | None = None) -> None:
        """Apply the changes that the book has traced; `standing` as for a strike."""
        if standing is not None:
            self._start(standing, now_ns)
        self._absorb_book(book, now_ns)

    def on_read(self, book: TracedBook, orders: frozenset[str], asked_ns: int, now_ns: int, *, whole: bool) -> None:
        """Apply a read that shows `orders`; `whole`: it covers every list, so that any other order is not open."""
        self._absorb_book(book, now_ns)
        new = orders - self._open.keys()
        if not whole or asked_ns < self._asked_ns:
            unseen = [
                order_id for order_id in new if order_id not in self._gone and order_id not in self._ended_otherwise
            ]
            self._recall(len(unseen))
            for order_id in unseen:
                self._add_order(order_id, asked_ns)
            return
        self._asked_ns, self._last_read = asked_ns, orders
        self._recall(len(new))
        for order_id in new:
            self._mark_open(order_id, asked_ns)
        self._mark_gone(
            [order_id for order_id, since_ns in self._open.items() if since_ns <= asked_ns and order_id not in orders]
        )
        unnamed = self._earlier_unnamed + self._forgotten
        self._unnamed[0] -= unnamed
        self._unnamed[1] += unnamed
        self._earlier_unnamed = self._forgotten = 0

    def merge(self, kill: str, stood: OrderTally) -> None:
        """Join another kill: `stood` is the journal's tally of that kill, which has this count's records too."""
        self.kill = kill
        self._known = self._known or stood.known
        for order_id in stood.open:
            if order_id not in self._open and order_id not in self._gone and order_id not in self._ended_otherwise:
                self._open[order_id] = 0
        for order_id in stood.gone:
            if order_id not in self._open:
                self._gone.setdefault(order_id)
        self._names |= {*stood.open, *stood.gone}
        for unnamed in (self._unnamed, self._recorded_unnamed):
            unnamed[0] += stood.unnamed_open
            unnamed[1] += stood.unnamed_gone
        self._earlier_unnamed += stood.unnamed_open

    def take_changes(self) -> dict[str, object] | None:
        """Return the changes since the last call, for a record; None if there are none or the orders are unknown."""
        if not self._known or (
            self._recorded_known and not self._unrecorded and self._unnamed == self._recorded_unnamed
        ):
            return None
        fields: dict[str, object] = {}
        for change in ("open", "gone", "ended"):
            if ids := [order_id for order_id, state in self._unrecorded.items() if state == change]:
                fields[change] = ids
        if self._unnamed != self._recorded_unnamed:
            fields["more"] = list(self._unnamed)
        self._unrecorded.clear()
        self._recorded_known, self._recorded_unnamed = True, list(self._unnamed)
        return fields

    # their effects

    def _absorb_book(self, book: TracedBook, now_ns: int) -> None:
        """Apply the changes that the book has traced; all its orders, if it was not followed until now."""
        if (standing := follow(book)) is not None:
            self._start(standing, now_ns)
            return
        for order_id, since_ns in book.entered.items():
            self._mark_open(order_id, since_ns)
        self._forget()
        for order_id, otherwise_ns in book.ended.items():
            if otherwise_ns:
                self._end_otherwise(order_id, otherwise_ns)
            elif order_id not in self._open and order_id not in self._gone and order_id not in self._ended_otherwise:
                self._add_order(order_id, self._began_ns)
        if book.named_none and self._strikes <= 1:
            self._known = True
        book.trace()

    def _start(self, standing: Standing, now_ns: int) -> None:
        self._known = self._known or (self._strikes <= 1 and standing.known)
        doubted = frozenset(standing.doubted)
        self._mark_all_open([order_id for order_id in standing.ids if order_id not in doubted], now_ns)

    def _forget(self) -> None:
        """Reduce more than `MAX_OPEN` open orders by half: the oldest without a name are only counted."""
        if len(self._open) > MAX_OPEN:
            unnamed = [order_id for order_id in self._open if order_id not in self._names]
            old = set(unnamed[: len(self._open) - MAX_OPEN // 2])
            self._open = {order_id: since_ns for order_id, since_ns in self._open.items() if order_id not in old}
            self._forgotten += len(old)

    def _recall(self, count: int) -> None:
        """Match `count` orders that a read shows, and that did not just enter the book, with forgotten orders."""
        known = min(count, self._forgotten)
        self._forgotten -= known
        self._unnamed[0] -= known

    def _mark_all_open(self, ids: Sequence[str], since_ns: int) -> None:
        """Mark orders as open, thousands at once: the answers to a strike are coming."""
        if self._open or self._gone or self._ended_otherwise or self._earlier_unnamed or self._asked_ns:
            for order_id in ids:
                self._mark_open(order_id, since_ns)
            return
        named = [order_id for order_id in ids[:MAX_NAMED] if len(order_id) <= MAX_ID_LENGTH]
        self._known = self._known or bool(ids)
        self._open = dict.fromkeys(ids, since_ns)
        self._names.update(named)
        self._unrecorded.update(dict.fromkeys(named, "open"))
        self._unnamed[0] += len(ids) - len(named)

    def _mark_open(self, order_id: str, since_ns: int) -> None:
        """Mark an order as open since `since_ns`, unless the venue stated its end later than that."""
        if order_id in self._open or self._ended_otherwise.get(order_id, -1) >= since_ns:
            return
        if order_id in self._gone:
            del self._gone[order_id]
            self._open[order_id] = since_ns
            self._note_change(order_id, "open", 1, -1)
        else:
            self._ended_otherwise.pop(order_id, None)
            self._add_order(order_id, since_ns)

    def _add_order(self, order_id: str, since_ns: int) -> None:
        """Add an order that is new to the count: open, or gone if the last whole read already lacks it."""
        self._known = True
        if self._earlier_unnamed:  # the order is probably among these
            self._earlier_unnamed -= 1
            self._unnamed[0] -= 1
        if len(self._names) < MAX_NAMED and len(order_id) <= MAX_ID_LENGTH:
            self._names.add(order_id)
        if self._asked_ns and self._asked_ns >= since_ns and order_id not in self._last_read:
            self._gone[order_id] = None
            keep_latest(self._gone, MAX_GONE_REMEMBERED)
            self._note_change(order_id, "gone", 0, 1)
        else:
            self._open[order_id] = since_ns
            self._note_change(order_id, "open", 1, 0)

    def _mark_gone(self, ids: Sequence[str]) -> None:
        named = [order_id for order_id in ids if order_id in self._names]
        for order_id in ids:
            del self._open[order_id]
        for order_id in named:
            self._note_change(order_id, "gone", -1, 1)
        self._unnamed[0] -= len(ids) - len(named)
        self._unnamed[1] += len(ids) - len(named)
        self._gone.update(dict.fromkeys(ids))
        keep_latest(self._gone, MAX_GONE_REMEMBERED)

    def _end_otherwise(self, order_id: str, at_ns: int) -> None:
        if order_id in self._open:
            del self._open[order_id]
            self._note_change(order_id, "ended", -1, 0)
        elif order_id in self._gone:
            del self._gone[order_id]
            self._note_change(order_id, "ended", 0, -1)
        self._ended_otherwise[order_id] = at_ns
        keep_latest(self._ended_otherwise, MAX_GONE_REMEMBERED)

    def _note_change(self, order_id: str, change: str, more_open: int, more_gone: int) -> None:
        """Note an order's change for the next record: by its name, or in the numbers of unnamed orders."""
        if order_id in self._names:
            self._unrecorded.pop(order_id, None)
            self._unrecorded[order_id] = change
        else:
            self._unnamed[0] += more_open
            self._unnamed[1] += more_gone


class OrderTrackerPool:
    """The trackers of all accounts, for the kill that each was last struck for."""

    def __init__(self) -> None:
        self._counts: dict[str, OrderTracker] = {}

    def counter(self, account: str, kill: str, now_ns: int) -> OrderTracker:
        """Return the account's tracker for this kill; it starts now if the kill is a new one."""
        count = self._counts.get(account)
        if count is None or count.kill != kill:
            count = self._counts[account] = OrderTracker(kill, now_ns)
        return count

    def resume(
        self, kills: Mapping[str, str], stood: Callable[[str, str], OrderTally | None], moved: Mapping[str, str]
    ) -> None:
        """Continue the counts of `kills` (account → kill) from the journal's tallies, and merge running counts.

        `stood` returns the journal's tally of a kill and an account. `moved` has old name → new name.
        """
        was = {now: old for old, now in moved.items()}
        for account, kill in kills.items():
            tally = stood(kill, was.get(account, account))
            if (count := self._counts.get(account)) is not None:
                count.merge(kill, tally or OrderTally())
            elif tally is not None:
                self._counts[account] = OrderTracker(kill, 0, tally)


def order_ids_of(orders: Iterable[Any]) -> frozenset[str]:
    """Return the ids of a read's orders, without positions that it shows as orders."""
    return frozenset([order.id for order in orders if not order.id.startswith(POSITION_PREFIX)])
