"""Choose whom a strike at CrossTrade takes when tokens are short: each NT account costs one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kill_switch.domain import Life, Now, Order
from kill_switch.venues.crosstrade_answers import Owned

READ_KEEPS = 2.0  # what a strike may do without leaves that many tokens for the read-back
SLACK = 5  # the first strike may exceed our count of the tokens by that many; ten violations in a row end the session
NEW_KILL_AFTER_S = 10.0  # a sweep strikes more often than that
SINGLES_PER_STRIKE = 10

Chosen = tuple[tuple[str, ...], list[str]]  # accounts, and orders by their ids


class Choice:
    """Know the NT accounts, their orders and what has been struck; say who is next."""

    def __init__(self, accounts: tuple[str, ...]) -> None:
        self._accounts = accounts
        self._owners: dict[str, str] = {}  # order → NT account
        self._holding: frozenset[str] = frozenset()  # accounts whose positions are to be closed
        self._struck_ns = -int(NEW_KILL_AFTER_S * 2e9)
        self._before: Mapping[str, Order] = {}  # what the last strike knew of
        self._read_since = False  # a complete read since then
        self._turn = 0

    def owner(self, order: str) -> str:
        return self._owners.get(order, "")

    def listed(self, orders: Iterable[Owned]) -> None:
        """Take a complete read of the orders."""
        self._owners = {one.order.id: one.account for one in orders}
        self._read_since = True

    def pushed(self, one: Owned) -> None:
        self._owners[one.order.id] = one.account

    def held(self, accounts: Iterable[str]) -> None:
        """Take note of whose positions a read has shown, where they are to be closed."""
        self._holding = frozenset(accounts)

    def first(self, now: Now) -> bool:
        """Say whether a strike now would be a kill's first."""
        return now.mono_ns - self._struck_ns > NEW_KILL_AFTER_S * 1e9

    def everybody(self, left: float, closing: Collection[str], now: Now) -> bool:
        """Say, without a look at the orders, whether a strike now takes every account; False: it may."""
        first = self.first(now)
        return (first or not closing) and self._most(left, first=first) >= len(self._accounts)

    def strike(self, book: Mapping[str, Order], left: float, closing: Collection[str], now: Now) -> Chosen:
        """Choose for a strike that goes out now; a kill's first has no regard for what is `closing`."""
        first = self.first(now)
        chosen, singles = self.choose(book, left, () if first else closing, first=first)
        if 0 < len(chosen) < len(self._accounts):
            self._turn = (self._accounts.index(chosen[-1]) + 1) % len(self._accounts)
        self._struck_ns = now.mono_ns
        return chosen, singles

    def struck(self, book: Mapping[str, Order]) -> None:
        """Take note of what a strike that has gone out knew of."""
        self._before, self._read_since = dict(book), False

    def choose(self, book: Mapping[str, Order], left: float, closing: Collection[str] = (), *, first: bool) -> Chosen:
        """Choose whom to strike, and which orders to cancel by their ids too; `left` is the number of tokens.

        Everybody, if the tokens allow. If not: first the accounts with orders that no strike has met, or with positions
        that are to be closed (which costs a token of its own); then, unless a read has shown the others empty, those in
        turn. Half of what is left of the tokens goes to accounts whose orders have outlived a strike, and the other
        half to those orders by their ids: one of the two may work. An account whose position is `closing` is left out,
        and its orders are cancelled by their ids, as long as they are few and that has not been in vain.
        """
        most = self._most(left, first=first)
        if most >= len(self._accounts) and not closing and not (self._before and self._read_since):
            return self._accounts, []  # nothing has outlived a strike: thousands of orders need not be looked at
        live = _live(book)
        outlived = live & _live(self._before) if self._read_since else frozenset()
        spared, apart = self._spared(live, outlived, closing)
        accounts = tuple(name for name in self._accounts if name not in spared)
        if not accounts:
            return (), apart
        new = {self.owner(one) for one in live - outlived} | self._holding
        stubborn = {one: self._owners[one] for one in book if one in outlived}
        singles = [one for one, account in stubborn.items() if account in accounts and _is_id(one)]
        if most >= len(accounts):
            spare = int(left - READ_KEEPS) - len(accounts) - len(self._holding)
            return accounts, apart + singles[: max(0, min(spare, SINGLES_PER_STRIKE))]
        turned = [name for name in self._accounts[self._turn :] + self._accounts[: self._turn] if name in accounts]
        chosen = [name for name in turned if name in new]
        again = [name for name in turned if name in stubborn.values() and name not in chosen]
        chosen = chosen[:most] + again[: max(0, (most - len(chosen) + 1) // 2)]
        if first or not chosen or not self._read_since or "?" in new:
            chosen += [name for name in turned if name not in chosen][: most - len(chosen)]
        return tuple(chosen), apart + singles[: max(0, min(most - len(chosen), SINGLES_PER_STRIKE))]

    def _most(self, left: float, *, first: bool) -> int:
        return max(1, int(left) + SLACK if first else int(left - 1) - len(self._holding))

    def _spared(
        self, live: frozenset[str], outlived: frozenset[str], closing: Collection[str]
    ) -> tuple[frozenset[str], list[str]]:
        """Say which accounts can do without an account-wide cancel, and what live orders they have."""
        spared: set[str] = set()
        apart: list[str] = []
        for name in closing:
            theirs = sorted(one for one in live if self.owner(one) == name)
            few = len(apart) + len(theirs) <= SINGLES_PER_STRIKE
            if few and all(_is_id(one) and one not in outlived for one in theirs):
                spared.add(name)
                apart += theirs
        return frozenset(spared), apart


def _live(book: Mapping[str, Order]) -> frozenset[str]:
    return frozenset(order.id for order in book.values() if order.life is Life.LIVE)


def _is_id(text: str) -> bool:
    """Say whether an id may go into a path: a GUID of 32 hexadecimal digits, or the number that a broker gave it."""
    return len(text) <= 64 and text.isascii() and text.isalnum()
