"""Count the distinct orders that a kill has cancelled at one account: open in it, and absent from a clean read. Pure.

`Tally` is what the journal's records say of one account in one kill; `report` folds it. `Count` is the running side of
it: `dispatch` shows it what adapters know, and it returns what a record is to say. At most `NAMED` orders are named;
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

NAMED = 1000  # orders of one account and kill that are named; a name takes up to 40 bytes of the journal
LONGEST_ID = 128  # characters: a longer one is no order's id, and is only counted
POSITION = "position:"  # how the id of a position begins that a read shows as an order
KEPT = 16_384  # orders that are gone and are remembered, so that one that comes back is not counted twice
MOST_OPEN = 65_536  # orders that are taken for open: while no read is whole, none of a bot's quotes is seen to be gone


@dataclass(slots=True)
class Tally:
    """The orders of one account in one kill, as the records have named and counted them."""

    known: bool = False  # something has said which orders were open
    read: bool = False  # a whole read has been made since
    open: dict[str, None] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    more_open: int = 0  # besides those that are named
    more_gone: int = 0
    version: int = 0  # rises with each change of the names

    @property
    def cancelled(self) -> int | None:
        """Count the orders that were open and are gone; None: nobody knows."""
        return len(self.gone) + self.more_gone if self.known and self.read else None

    def take(self, told: Mapping[str, Any]) -> None:
        """Take what a record says of orders: `Count.changes` has made it."""
        self.known = True
        for one in told.get("open", ()):
            self.gone.pop(one, None)
            self.open[one] = None
        for one in told.get("gone", ()):
            self.open.pop(one, None)
            self.gone[one] = None
        for one in told.get("ended", ()):
            self.open.pop(one, None)
            self.gone.pop(one, None)
        self.more_open, self.more_gone = told.get("more", (self.more_open, self.more_gone))
        self.version += len(told) > ("more" in told)

    def show(self, left: int) -> None:
        """Take a whole read that counts, and the number of orders that it has shown."""
        self.read = True
        if left:
            return
        self.version += bool(self.open)
        self.gone |= self.open
        self.open.clear()
        self.more_open, self.more_gone = 0, self.more_gone + self.more_open

    def told(self, *, names: bool = True) -> dict[str, object]:
        """Return all of it in JSON's own values; without names, the named ones are counted with the others."""
        more = [self.more_open, self.more_gone] if names else [self.more_open + len(self.open), self._gone]
        named = {"open": list(self.open), "gone": list(self.gone)} if names else {}
        return {"known": self.known, "read": self.read, **named, "more": more}

    def name_as(self, other: Tally) -> None:
        """Give those that are only counted the names that another one has."""
        self.open, self.gone, self.version = other.open, other.gone, other.version
        self.more_open -= len(self.open)
        self.more_gone -= len(self.gone)

    @property
    def _gone(self) -> int:
        return len(self.gone) + self.more_gone

    @staticmethod
    def of(told: Mapping[str, Any]) -> Tally:
        """Read back what `told` has returned."""
        tally = Tally(bool(told["known"]), bool(told["read"]))
        tally.open, tally.gone = dict.fromkeys(told.get("open", ())), dict.fromkeys(told.get("gone", ()))
        tally.more_open, tally.more_gone = map(int, told["more"])
        return tally


class Traced(Protocol):
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


def follow(book: Traced) -> Standing | None:
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


class Count:
    """Follow the orders of one account through one kill."""

    def __init__(self, kill: str, began_ns: int, stood: Tally | None = None) -> None:
        """Begin with the kill's first strike, or go on where the record `stood`."""
        before = stood or Tally()
        self.kill = kill
        self._began_ns = began_ns  # monotonic: what is named as cancelled was open then, or came later
        self._strikes = 1 if before.known or before.read else 0  # earlier ones may have had an effect that is unknown
        self._known = self._told_known = before.known
        self._open = dict.fromkeys(before.open, 0)  # order → since when a read must have been asked for to end it
        self._gone = dict(before.gone)
        self._otherwise: dict[str, int] = {}  # no cancel ended it, the venue has said → when it said so
        self._names = {*before.open, *before.gone}
        self._more = [before.more_open, before.more_gone]
        self._told_more = list(self._more)
        self._earlier = before.more_open  # orders that were open before, and whose names nobody has any more
        self._forgotten = 0  # orders that are open by what is known, and that are only counted
        self._news: dict[str, str] = {}  # named order → what it has become since the last record
        self._asked_ns = 0  # when the last whole read was asked for
        self._shown: Collection[str] = ()  # what it has shown

    # what happens

    def struck(self, book: Traced, now_ns: int, standing: Standing | None = None) -> None:
        """Take a strike that has left; `standing` is what `follow` returned then, if it was called."""
        self._strikes += 1
        if standing is not None:  # what has changed since is the next answer's, or the next read's
            self._start(standing, now_ns)
        else:
            self._take(book, now_ns)

    def heard(self, book: Traced, now_ns: int, standing: Standing | None = None) -> None:
        """Take what the book has been told since; `standing` as for a strike."""
        if standing is not None:
            self._start(standing, now_ns)
        self._take(book, now_ns)

    def shown(self, book: Traced, orders: frozenset[str], asked_ns: int, now_ns: int, *, whole: bool) -> None:
        """Take a read that has shown these orders; `whole`: it would have shown any other that is open."""
        self._take(book, now_ns)
        new = orders - self._open.keys()
        if not whole or asked_ns < self._asked_ns:
            unseen = [one for one in new if one not in self._gone and one not in self._otherwise]
            self._recall(len(unseen))
            for one in unseen:
                self._add(one, asked_ns)
            return
        self._asked_ns, self._shown = asked_ns, orders
        self._recall(len(new))
        for one in new:
            self._see(one, asked_ns)
        self._go([one for one, since_ns in self._open.items() if since_ns <= asked_ns and one not in orders])
        unnamed = self._earlier + self._forgotten
        self._more[0] -= unnamed
        self._more[1] += unnamed
        self._earlier = self._forgotten = 0

    def adopt(self, kill: str, stood: Tally) -> None:
        """Go on as a part of another kill, of which the record has said this; it has our own records too."""
        self.kill = kill
        self._known = self._known or stood.known
        for one in stood.open:
            if one not in self._open and one not in self._gone and one not in self._otherwise:
                self._open[one] = 0
        for one in stood.gone:
            if one not in self._open:
                self._gone.setdefault(one)
        self._names |= {*stood.open, *stood.gone}
        for more in (self._more, self._told_more):
            more[0] += stood.more_open
            more[1] += stood.more_gone
        self._earlier += stood.more_open

    def changes(self) -> dict[str, object] | None:
        """Return what is new since the last record; None if nothing is, or nothing is known."""
        if not self._known or (self._told_known and not self._news and self._more == self._told_more):
            return None
        told: dict[str, object] = {}
        for what in ("open", "gone", "ended"):
            if ids := [one for one, state in self._news.items() if state == what]:
                told[what] = ids
        if self._more != self._told_more:
            told["more"] = list(self._more)
        self._news.clear()
        self._told_known, self._told_more = True, list(self._more)
        return told

    # what follows from it

    def _take(self, book: Traced, now_ns: int) -> None:
        """Take what the book has been told; the whole of it where nobody has followed it until now."""
        if (standing := follow(book)) is not None:
            self._start(standing, now_ns)
            return
        for one, since_ns in book.entered.items():
            self._see(one, since_ns)
        self._forget()
        for one, otherwise_ns in book.ended.items():
            if otherwise_ns:
                self._end_otherwise(one, otherwise_ns)
            elif one not in self._open and one not in self._gone and one not in self._otherwise:
                self._add(one, self._began_ns)
        if book.named_none and self._strikes <= 1:
            self._known = True
        book.trace()

    def _start(self, standing: Standing, now_ns: int) -> None:
        self._known = self._known or (self._strikes <= 1 and standing.known)
        doubted = frozenset(standing.doubted)
        self._see_all([one for one in standing.ids if one not in doubted], now_ns)

    def _forget(self) -> None:
        """Only count the oldest of very many orders that are open, but for those that are named."""
        if len(self._open) > MOST_OPEN:
            unnamed = [one for one in self._open if one not in self._names]
            old = set(unnamed[: len(self._open) - MOST_OPEN // 2])
            self._open = {one: since_ns for one, since_ns in self._open.items() if one not in old}
            self._forgotten += len(old)

    def _recall(self, count: int) -> None:
        """Take orders that a read shows, and that have not come into the book just now, for forgotten ones."""
        known = min(count, self._forgotten)
        self._forgotten -= known
        self._more[0] -= known

    def _see_all(self, ids: Sequence[str], since_ns: int) -> None:
        """Take orders for open; there may be thousands, and a strike's answers are on their way."""
        if self._open or self._gone or self._otherwise or self._earlier or self._asked_ns:
            for one in ids:
                self._see(one, since_ns)
            return
        named = [one for one in ids[:NAMED] if len(one) <= LONGEST_ID]
        self._known = self._known or bool(ids)
        self._open = dict.fromkeys(ids, since_ns)
        self._names.update(named)
        self._news.update(dict.fromkeys(named, "open"))
        self._more[0] += len(ids) - len(named)

    def _see(self, one: str, since_ns: int) -> None:
        """Take an order for open since then, whatever was said of it before."""
        if one in self._open or self._otherwise.get(one, -1) >= since_ns:
            return
        if one in self._gone:
            del self._gone[one]
            self._open[one] = since_ns
            self._tell(one, "open", 1, -1)
        else:
            self._otherwise.pop(one, None)
            self._add(one, since_ns)

    def _add(self, one: str, since_ns: int) -> None:
        """Take an order that nobody has shown before; the last whole read may have left it out already."""
        self._known = True
        if self._earlier:  # it is one of these
            self._earlier -= 1
            self._more[0] -= 1
        if len(self._names) < NAMED and len(one) <= LONGEST_ID:
            self._names.add(one)
        if self._asked_ns and self._asked_ns >= since_ns and one not in self._shown:
            self._gone[one] = None
            keep_latest(self._gone, KEPT)
            self._tell(one, "gone", 0, 1)
        else:
            self._open[one] = since_ns
            self._tell(one, "open", 1, 0)

    def _go(self, ids: Sequence[str]) -> None:
        named = [one for one in ids if one in self._names]
        for one in ids:
            del self._open[one]
        for one in named:
            self._tell(one, "gone", -1, 1)
        self._more[0] -= len(ids) - len(named)
        self._more[1] += len(ids) - len(named)
        self._gone.update(dict.fromkeys(ids))
        keep_latest(self._gone, KEPT)

    def _end_otherwise(self, one: str, at_ns: int) -> None:
        if one in self._open:
            del self._open[one]
            self._tell(one, "ended", -1, 0)
        elif one in self._gone:
            del self._gone[one]
            self._tell(one, "ended", 0, -1)
        self._otherwise[one] = at_ns
        keep_latest(self._otherwise, KEPT)

    def _tell(self, one: str, what: str, more_open: int, more_gone: int) -> None:
        """Have the next record say what has become of an order: by its name, or in numbers."""
        if one in self._names:
            self._news.pop(one, None)
            self._news[one] = what
        else:
            self._more[0] += more_open
            self._more[1] += more_gone


class Counts:
    """Hold the running count of each account's kill."""

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}

    def of(self, account: str, kill: str, now_ns: int) -> Count:
        """Return the account's count in this kill, which begins now if it is another than before."""
        count = self._counts.get(account)
        if count is None or count.kill != kill:
            count = self._counts[account] = Count(kill, now_ns)
        return count

    def resume(
        self, kills: Mapping[str, str], stood: Callable[[str, str], Tally | None], moved: Mapping[str, str]
    ) -> None:
        """Go on with the counts of these accounts' kills where a record has them, counts of our own included.

        `stood` returns what the record says of a kill and an account, `moved` has accounts that it knows by other names
        (old name → new name).
        """
        was = {now: old for old, now in moved.items()}
        for account, kill in kills.items():
            tally = stood(kill, was.get(account, account))
            if (count := self._counts.get(account)) is not None:
                count.adopt(kill, tally or Tally())
            elif tally is not None:
                self._counts[account] = Count(kill, 0, tally)


def names(orders: Iterable[Any]) -> frozenset[str]:
    """Return the ids of the orders of a read, without the positions that it shows as such."""
    return frozenset([order.id for order in orders if not order.id.startswith(POSITION)])
