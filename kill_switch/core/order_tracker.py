"""Count the distinct orders that a kill has cancelled at one account: open in it, and absent from a clean read. Pure.

`OrderTally` is what the journal's records say of one account in one kill; `report` folds it. `OrderTracker` is the
running side of it: `dispatch` shows it what adapters know, and it returns what a record is to say. At most `NAMED`
orders are named;
the others are only counted.

    an order is open      the book had it at the kill's first strike; or a push, a list or a read has shown it since;
                          or the venue has named it as cancelled since, and it must have been open for that
    it is cancelled       a later whole read does not show it, and the venue has not said that it ended otherwise
    it is neither         the venue has said that it was filled, or expired, or was rejected
    nobody knows          nothing was known of the orders at the first strike, and nothing has been shown since

Where a venue does not say how an order ended, an order that was filled meanwhile counts as cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from kill_switch.core.latest import keep_latest

MAX_NAMED = 1000  # orders of one account and kill that are named; a name takes up to 40 bytes of the journal
MAX_ID_LENGTH = 128  # characters: a longer one is no order's id, and is only counted
POSITION_PREFIX = "position:"  # how the id of a position begins that a read shows as an order
MAX_GONE_REMEMBERED = (
    16_384  # orders that are gone and are remembered, so that one that comes back is not counted twice
)
MAX_OPEN = 65_536  # orders that are taken for open: while no read is whole, none of a bot's quotes is seen to be gone


@dataclass(slots=True)
class OrderTally:
    """The orders of one account in one kill, as the records have named and counted them."""

    known: bool = False  # something has said which orders were open
    read: bool = False  # a whole read has been made since
    open: dict[str, None] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    unnamed_open: int = 0  # besides those that are named
    unnamed_gone: int = 0
    version: int = 0  # rises with each change of the names

    @property
    def cancelled(self) -> int | None:
        """Count the orders that were open and are gone; None: nobody knows."""
        return len(self.gone) + self.unnamed_gone if self.known and self.read else None

    def apply(self, fields: Mapping[str, Any]) -> None:
        """Take what a record says of orders: `OrderTracker.take_changes` has made it."""
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
        """Take a whole read that counts, and the number of orders that it has shown."""
        self.read = True
        if left:
            return
        if self.open:
            self.version += 1
            self.gone |= self.open
            self.open.clear()
        self.unnamed_open, self.unnamed_gone = 0, self.unnamed_gone + self.unnamed_open

    def to_json(self, *, names: bool = True) -> dict[str, object]:
        """Return all of it in JSON's own values; without names, the named ones are counted with the others."""
        unnamed = [self.unnamed_open, self.unnamed_gone] if names else [self.unnamed_open + len(self.open), self._gone]
        named = {"open": list(self.open), "gone": list(self.gone)} if names else {}
        return {"known": self.known, "read": self.read, **named, "more": unnamed}

    def copy_names(self, other: OrderTally) -> None:
        """Give those that are only counted the names that another one has."""
        self.open, self.gone, self.version = other.open, other.gone, other.version
        self.unnamed_open -= len(self.open)
        self.unnamed_gone -= len(self.gone)

    @property
    def _gone(self) -> int:
        return len(self.gone) + self.unnamed_gone

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> OrderTally:
        """Read back what `told` has returned."""
        tally = OrderTally(bool(fields["known"]), bool(fields["read"]))
        tally.open, tally.gone = dict.fromkeys(fields.get("open", ())), dict.fromkeys(fields.get("gone", ()))
        tally.unnamed_open, tally.unnamed_gone = map(int, fields["more"])
        return tally


class TracedBook(Protocol):
    """What a venue's book is to this module."""

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
    """The open orders of a book at the moment from which a count follows it."""

    known: bool  # every list had been read whole
    ids: Sequence[str]
    doubted: Sequence[str]  # of these


def follow(book: TracedBook) -> Standing | None:
    """Begin to follow a book, and return what it has; None if it is followed already: then it keeps what changes."""
    if book.tracing:
        return None
    standing = Standing(book.is_known, tuple(book.orders), tuple(book.doubted))
    book.trace()
    return standing


class Due(Protocol):
    """What a record is to say of a count, left for later: answers of other accounts are waiting to be read."""

    def changes(self) -> Mapping[str, object] | None:
        """Compute it once, and return it; None: the record says nothing. Never raises."""


def settled(kind: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record's data in plain values: with the changes of counts that the dispatcher has left for later."""
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
    rest = {key: value for key, value in part.items() if key != "orders"}
    return rest if changes is None else {**rest, "orders": changes}


class OrderTracker:
    """Follow the orders of one account through one kill."""

    def __init__(self, kill: str, began_ns: int, stood: OrderTally | None = None) -> None:
        """Begin with the kill's first strike, or go on where the record `stood`."""
        before = stood or OrderTally()
        self.kill = kill
        self._began_ns = began_ns  # monotonic: what is named as cancelled was open then, or came later
        self._strikes = 1 if before.known or before.read else 0  # earlier ones may have had an effect that is unknown
        self._known = self._recorded_known = before.known
        self._open = dict.fromkeys(before.open, 0)  # order → since when a read must have been asked for to end it
        self._gone = dict(before.gone)
        self._ended_otherwise: dict[str, int] = {}  # no cancel ended it, the venue has said → when it said so
        self._names = {*before.open, *before.gone}
        self._unnamed = [before.unnamed_open, before.unnamed_gone]
        self._recorded_unnamed = list(self._unnamed)
        self._earlier_unnamed = before.unnamed_open  # orders that were open before, and whose names nobody has any more
        self._forgotten = 0  # orders that are open by what is known, and that are only counted
        self._unrecorded: dict[str, str] = {}  # named order → what it has become since the last record
        self._asked_ns = 0  # when the last whole read was asked for
        self._last_read: Collection[str] = ()  # what it has shown

    # what happens

    def on_strike(self, book: TracedBook, now_ns: int, standing: Standing | None = None) -> None:
        """Take a strike that has left; `standing` is what `follow` returned then, if it was called."""
        self._strikes += 1
        if standing is not None:  # what has changed since is the next answer's, or the next read's
            self._start(standing, now_ns)
        else:
            self._absorb_book(book, now_ns)

    def on_book_changed(self, book: TracedBook, now_ns: int, standing: Standing | None = None) -> None:
        """Take what the book has been told since; `standing` as for a strike."""
        if standing is not None:
            self._start(standing, now_ns)
        self._absorb_book(book, now_ns)

    def on_read(self, book: TracedBook, orders: frozenset[str], asked_ns: int, now_ns: int, *, whole: bool) -> None:
        """Take a read that has shown these orders; `whole`: it would have shown any other that is open."""
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
        """Go on as a part of another kill, of which the record has said this; it has our own records too."""
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
        """Return what is new since the last record; None if nothing is, or nothing is known."""
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

    # what follows from it

    def _absorb_book(self, book: TracedBook, now_ns: int) -> None:
        """Take what the book has been told; the whole of it where nobody has followed it until now."""
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
        self._mark_all_open([one for one in standing.ids if one not in doubted], now_ns)

    def _forget(self) -> None:
        """Only count the oldest of very many orders that are open, but for those that are named."""
        if len(self._open) > MAX_OPEN:
            unnamed = [order_id for order_id in self._open if order_id not in self._names]
            old = set(unnamed[: len(self._open) - MAX_OPEN // 2])
            self._open = {order_id: since_ns for order_id, since_ns in self._open.items() if order_id not in old}
            self._forgotten += len(old)

    def _recall(self, count: int) -> None:
        """Take orders that a read shows, and that have not come into the book just now, for forgotten ones."""
        known = min(count, self._forgotten)
        self._forgotten -= known
        self._unnamed[0] -= known

    def _mark_all_open(self, ids: Sequence[str], since_ns: int) -> None:
        """Take orders for open; there may be thousands, and a strike's answers are on their way."""
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
        """Take an order for open since then, whatever was said of it before."""
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
        """Take an order that nobody has shown before; the last whole read may have left it out already."""
        self._known = True
        if self._earlier_unnamed:  # it is one of these
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
        """Have the next record say what has become of an order: by its name, or in numbers."""
        if order_id in self._names:
            self._unrecorded.pop(order_id, None)
            self._unrecorded[order_id] = change
        else:
            self._unnamed[0] += more_open
            self._unnamed[1] += more_gone


class OrderTrackerPool:
    """Hold the running count of each account's kill."""

    def __init__(self) -> None:
        self._counts: dict[str, OrderTracker] = {}

    def counter(self, account: str, kill: str, now_ns: int) -> OrderTracker:
        """Return the account's count in this kill, which begins now if it is another than before."""
        count = self._counts.get(account)
        if count is None or count.kill != kill:
            count = self._counts[account] = OrderTracker(kill, now_ns)
        return count

    def resume(
        self, kills: Mapping[str, str], stood: Callable[[str, str], OrderTally | None], moved: Mapping[str, str]
    ) -> None:
        """Go on with the counts of these accounts' kills where a record has them, counts of our own included.

        `stood` returns what the record says of a kill and an account, `moved` has accounts that it knows by other names
        (old name → new name).
        """
        was = {now: old for old, now in moved.items()}
        for account, kill in kills.items():
            tally = stood(kill, was.get(account, account))
            if (count := self._counts.get(account)) is not None:
                count.merge(kill, tally or OrderTally())
            elif tally is not None:
                self._counts[account] = OrderTracker(kill, 0, tally)


def order_ids_of(orders: Iterable[Any]) -> frozenset[str]:
    """Return the ids of the orders of a read, without the positions that it shows as such."""
    return frozenset([order.id for order in orders if not order.id.startswith(POSITION_PREFIX)])
