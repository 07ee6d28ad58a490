"""Record which orders the lists of an account have shown, and when their answers were requested.

`OrderBook` owns a `ListRounds`, and `probes`, `fan_out` and `readback` ask it. It decides nothing about an order, and
sends nothing. Times are monotonic nanoseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator

from kill_switch.core.latest import keep_latest
from kill_switch.venues.kit.kill_trace import PAST_IDS

NEVER = -(10**18)  # before every event


class ListRounds:
    """The whole answers of each list.

    `round_ns` is when the earliest of the last whole answers of all lists was requested: lists have shown every older
    order. It is `NEVER` until every list has been read whole.
    """

    __slots__ = ("_asked_ns", "_omitted", "_shown", "round_ns")

    def __init__(self) -> None:
        self.round_ns = NEVER
        self._asked_ns: dict[str, int] = {}  # list → when its last whole answer was requested
        self._shown: dict[str, set[str]] = {}  # list → orders that it has shown and not omitted since
        self._omitted: dict[str, int] = {}  # symbol → when a list last omitted an order of it without a stated end

    def is_old(self, name: str, since_ns: int) -> bool:
        """Return whether the last whole answer of a list was requested before `since_ns`."""
        return self._asked_ns.get(name, NEVER) < since_ns

    def is_late(self, name: str, asked_ns: int) -> bool:
        """Return whether an answer was requested before the last whole answer of its list was."""
        return asked_ns < self._asked_ns.get(name, NEVER)

    def shown_since(self, asked_ns: int) -> Iterator[str]:
        """Yield the orders of whole lists that were requested after `asked_ns`; some may have ended."""
        for name, ids in self._shown.items():
            if self._asked_ns.get(name, NEVER) > asked_ns:
                yield from ids

    def add(self, name: str, ids: Iterable[str]) -> None:
        """Note the orders of an answer that may not be whole."""
        self._shown.setdefault(name, set()).update(ids)

    def complete(self, name: str, ids: Collection[str], asked_ns: int, names: Iterable[str]) -> bool:
        """Note the orders of a whole answer; return whether the round of all lists, `names`, is a later one now."""
        self._asked_ns[name] = asked_ns
        self._shown[name] = set(ids)
        round_ns = min(self._asked_ns.get(list_name, NEVER) for list_name in names)
        if round_ns <= self.round_ns:
            return False
        self.round_ns = round_ns
        return True

    def find_omitted(
        self, name: str, shown: Container[str], orders: Collection[str], kept: Container[str], *, is_only: bool
    ) -> list[str]:
        """Return those of `orders`, except `kept`, that a list no longer shows, and that no other list has shown.

        `is_only`: the list is the account's only list, and covers every order. Call it before `complete`.
        """
        covered = orders if is_only else self._shown.get(name, set())
        others = [ids for other, ids in self._shown.items() if other != name]
        omitted = [known for known in covered if known not in shown and known not in kept and known in orders]
        return [known for known in omitted if not any(known in ids for ids in others)]

    def note_omitted(self, symbol: str, now_ns: int) -> None:
        """Note that a list has omitted an order of this symbol."""
        self._omitted.pop(symbol, None)
        self._omitted[symbol] = now_ns
        keep_latest(self._omitted, PAST_IDS)

    def omitted_symbols(self, lag_ns: int) -> list[str]:
        """Return the symbols of orders that a list has omitted, and that may be alive where lists lag by `lag_ns`.

        They are returned until every list was requested so long after the omission.
        """
        if not lag_ns:
            return []
        self._omitted = {symbol: at_ns for symbol, at_ns in self._omitted.items() if self.round_ns < at_ns + lag_ns}
        return list(self._omitted)
