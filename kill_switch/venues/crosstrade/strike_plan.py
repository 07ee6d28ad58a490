"""Choose whom a strike at CrossTrade takes, and in which order: each NT account costs a token.

What the tokens do not reach at once waits for its turn (`crosstrade_turns`), so that nobody is left out for want of
them; accounts that need no cancel now are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.venues.crosstrade.replies import AccountOrder
from kill_switch.venues.crosstrade.tokens import is_id

READ_KEEPS = 2.0  # what a strike may do without leaves that many tokens for the read-back
TAKEN_S = 30.0  # a cancel that the venue has taken is not repeated for so long, unless a read says more
NEW_KILL_AFTER_S = 10.0  # a sweep strikes more often than that
MAX_SINGLES_PER_STRIKE = 10

Chosen = tuple[tuple[str, ...], list[str]]  # accounts, and orders by their ids


class StrikePlanner:
    """Know the NT accounts, their orders and what has been struck; say who is next."""

    def __init__(self, accounts: tuple[str, ...]) -> None:
        self._accounts = accounts
        self._owners: dict[str, str] = {}  # order → NT account
        self._holding: frozenset[str] = frozenset()  # accounts whose positions are to be closed
        self._struck_ns = -int(NEW_KILL_AFTER_S * 2e9)
        self._before: Mapping[str, Order] = {}  # what the last strike knew of
        self._read_since = False  # a complete read since then
        self._taken: dict[str, int] = {}  # account → when the venue has taken its cancel, since then
        self._turn = 0

    def owner(self, order: str) -> str:
        return self._owners.get(order, "")

    def listed(self, orders: Iterable[AccountOrder], kept: Iterable[str]) -> None:
        """Take a whole list of the orders; those `kept` are not in it, and have not ended either."""
        owners = {entry: self.owner(entry) for entry in kept}
        self._owners = owners | {entry.order.id: entry.account for entry in orders}
        self._read_since = True
        self._taken.clear()

    def shown(self, account_order: AccountOrder) -> None:
        """Take an order of a push, or of a list that is not whole."""
        self._owners[account_order.order.id] = account_order.account
        if account_order.order.state is OrderState.LIVE:
            self._taken.pop(account_order.account, None)

    def taken(self, account: str, now: Instant) -> None:
        """Take note that the venue has taken the account's cancel: what comes of it is for a read to show."""
        self._taken[account] = now.mono_ns

    def held(self, accounts: Iterable[str], *, whole: bool) -> None:
        """Take note of whose positions a read has shown, where they are to be closed.

        Not `whole`: there may be more, so those of before stay.
        """
        self._holding = frozenset(accounts) | (frozenset() if whole else self._holding)

    def first(self, now: Instant) -> bool:
        """Say whether a strike now would be a kill's first."""
        return now.mono_ns - self._struck_ns > NEW_KILL_AFTER_S * 1e9

    def is_every_account(self, left: float, closing: Collection[str], now: Instant) -> bool:
        """Say, without a look at the orders, whether a strike now takes every account; False: it may."""
        first = self.first(now)
        return (first or not closing) and self._most(left, first=first) >= len(self._accounts)

    def strike(self, book: Mapping[str, Order], left: float, closing: Collection[str], now: Instant) -> Chosen:
        """Choose for a strike that goes out now; a kill's first has no regard for what is `closing`."""
        first = self.first(now)
        old_ns = now.mono_ns if first else now.mono_ns - int(TAKEN_S * 1e9)
        self._taken = {name: taken_ns for name, taken_ns in self._taken.items() if taken_ns > old_ns}
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
        that are to be closed (which costs a token of its own); then those whose orders have outlived a strike; then
        the others, unless a read has shown them empty, or the venue has taken their cancel and nobody has read since.
        Orders that have outlived a strike are cancelled by their ids too. An account whose position is `closing` is
        left out, and its orders are cancelled by their ids, as long as they are few and that has not been in vain.
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
        new = {self.owner(order_id) for order_id in live - outlived} | self._holding
        stubborn = {order_id: self.owner(order_id) for order_id in book if order_id in outlived}
        singles = [order_id for order_id, account in stubborn.items() if account in accounts and is_id(order_id)]
        if most >= len(accounts):
            spare = int(left - READ_KEEPS) - len(accounts) - len(self._holding)
            return accounts, apart + singles[: max(0, min(spare, MAX_SINGLES_PER_STRIKE))]
        turned = [name for name in self._accounts[self._turn :] + self._accounts[: self._turn] if name in accounts]
        chosen = [name for name in turned if name in new]
        chosen += [name for name in turned if name in stubborn.values() and name not in chosen]
        if first or not self._read_since or "?" in new:
            chosen += [name for name in turned if name not in chosen]
        chosen = [name for name in chosen or turned[:1] if name not in self._taken]
        if self._holding and not first:
            chosen = chosen[:most]  # a flatten follows each, and waits for no turn
        return tuple(chosen), apart + singles[:MAX_SINGLES_PER_STRIKE]

    def _most(self, left: float, *, first: bool) -> int:
        return max(1, int(left) if first else int(left - 1) - len(self._holding))

    def _spared(
        self, live: frozenset[str], outlived: frozenset[str], closing: Collection[str]
    ) -> tuple[frozenset[str], list[str]]:
        """Say which accounts can do without an account-wide cancel, and what live orders they have."""
        spared: set[str] = set()
        apart: list[str] = []
        for name in closing:
            theirs = sorted(order_id for order_id in live if self.owner(order_id) == name)
            few = len(apart) + len(theirs) <= MAX_SINGLES_PER_STRIKE
            if few and all(is_id(order_id) and order_id not in outlived for order_id in theirs):
                spared.add(name)
                apart += theirs
        return frozenset(spared), apart


def _live(book: Mapping[str, Order]) -> frozenset[str]:
    return frozenset(order.id for order in book.values() if order.state is OrderState.LIVE)
