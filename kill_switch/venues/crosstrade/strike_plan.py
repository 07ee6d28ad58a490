"""The plan of a CrossTrade strike: which NT accounts are cancelled account-wide, and which orders by id.

The adapter asks for a plan with each strike, and hands over lists, pushes and accepted cancels. Tokens are scarce, but
no account is left out for want of them: cancels without a token wait in `RequestQueue`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.venues.crosstrade.replies import AccountOrder
from kill_switch.venues.crosstrade.tokens import READ_KEEPS
from kill_switch.venues.crosstrade.user_wire import is_id

TAKEN_S = 30.0  # so long an accepted cancel is not repeated, unless a read shows orders
MAX_SINGLES_PER_STRIKE = 10

Plan = tuple[tuple[str, ...], list[str]]  # accounts to cancel account-wide, orders to cancel by id


class StrikePlanner:
    """Plan strikes from the orders, their NT accounts and the outcome of earlier strikes."""

    def __init__(self, accounts: tuple[str, ...]) -> None:
        self._accounts = accounts
        self._owners: dict[str, str] = {}  # order → NT account
        self._holding: frozenset[str] = frozenset()  # accounts whose positions are to be closed
        self._before: Mapping[str, Order] = {}  # the book at the latest strike
        self._read_since = False  # a whole list has come since the latest strike
        self._taken: dict[str, int] = {}  # account → when its cancel was accepted, monotonic; a whole list clears it
        self._turn = 0  # index of the account that is next in rotation

    def owner(self, order: str) -> str:
        """Return the NT account of an order, "" if it is unknown."""
        return self._owners.get(order, "")

    def owners(self, orders: Iterable[str]) -> frozenset[str]:
        """Return the NT accounts of these orders."""
        return frozenset(map(self.owner, orders))

    def on_whole_list(self, book: Collection[str]) -> None:
        """Note that a whole list was applied to the book; forget the owners of other orders."""
        self._owners = {order_id: owner for order_id, owner in self._owners.items() if order_id in book}
        self._read_since = True
        self._taken.clear()

    def on_order(self, account_order: AccountOrder) -> None:
        """Apply an order of a push or a list."""
        self._owners[account_order.order.id] = account_order.account
        if account_order.order.state is OrderState.LIVE:
            self._taken.pop(account_order.account, None)

    def on_cancel_accepted(self, account: str, now_ns: int) -> None:
        """Record that the venue has accepted the account's cancel now, monotonic; a read shows its effect."""
        self._taken[account] = now_ns

    def is_taken(self, account: str) -> bool:
        """Return whether the account's cancel was accepted, and nothing has shown a live order of it since."""
        return account in self._taken

    def on_positions(self, accounts: Iterable[str], *, whole: bool) -> None:
        """Record the accounts whose positions a read has shown; without `whole` the earlier ones are kept too."""
        self._holding = frozenset(accounts) | (frozenset() if whole else self._holding)

    def is_every_account(self, left: float) -> bool:
        """Return whether a kill's first strike surely cancels every account; False: only `plan` can tell.

        It does not iterate over the orders, so that a prebuilt command is decided at once. `left` is the number of
        tokens.
        """
        return self._most(left, first=True) >= len(self._accounts)

    def plan(
        self, book: Mapping[str, Order], left: float, closing: Collection[str], now: Instant, *, first: bool
    ) -> Plan:
        """Choose for a strike that is sent now; a kill's first strike ignores `closing`. Call `on_struck` after it."""
        old_ns = now.mono_ns if first else now.mono_ns - int(TAKEN_S * 1e9)
        self._taken = {name: taken_ns for name, taken_ns in self._taken.items() if taken_ns > old_ns}
        chosen, singles = self.choose(book, left, () if first else closing, first=first)
        if 0 < len(chosen) < len(self._accounts):
            self._turn = (self._accounts.index(chosen[-1]) + 1) % len(self._accounts)
        return chosen, singles

    def on_struck(self, book: Mapping[str, Order]) -> None:
        """Record the orders that were known when the strike was sent."""
        self._before, self._read_since = dict(book), False

    def choose(self, book: Mapping[str, Order], left: float, closing: Collection[str] = (), *, first: bool) -> Plan:
        """Choose the accounts to cancel account-wide and the orders to cancel by id, within `left` tokens.

        1. If there are tokens for every account: all accounts.
        2. Otherwise first accounts with orders that no strike has covered, or with positions to close (one more token
           each). Then accounts whose orders have survived a strike. Then the other accounts in rotation. Left out are
           accounts that a read has shown empty, and accounts whose cancel was accepted after the latest read.
        3. Orders that have survived a strike are cancelled by id too, because either may work where the other fails.
        4. An account whose position is `closing` gets no account-wide cancel. Its orders are cancelled by id, as long
           as they are few and none has survived a strike.
        """
        most = self._most(left, first=first)
        if most >= len(self._accounts) and not closing and not (self._before and self._read_since):
            return self._accounts, []  # no order has survived a strike: skip the pass over thousands of orders
        live = _live(book)
        survived = live & _live(self._before) if self._read_since else frozenset()
        spared, by_id = self._spared(live, survived, closing)
        accounts = tuple(name for name in self._accounts if name not in spared)
        if not accounts:
            return (), by_id
        new = {self.owner(order_id) for order_id in live - survived} | self._holding
        survivors = {order_id: self.owner(order_id) for order_id in book if order_id in survived}
        singles = [order_id for order_id, account in survivors.items() if account in accounts and is_id(order_id)]
        if most >= len(accounts):
            spare = int(left - READ_KEEPS) - len(accounts) - len(self._holding)
            return accounts, by_id + singles[: max(0, min(spare, MAX_SINGLES_PER_STRIKE))]
        in_rotation = [name for name in self._accounts[self._turn :] + self._accounts[: self._turn] if name in accounts]
        chosen = [name for name in in_rotation if name in new]
        chosen += [name for name in in_rotation if name in survivors.values() and name not in chosen]
        if first or not self._read_since or "?" in new:
            chosen += [name for name in in_rotation if name not in chosen]
        chosen = [name for name in chosen or in_rotation[:1] if name not in self._taken]
        if self._holding and not first:
            chosen = chosen[:most]  # each is followed by a flatten, which does not wait in the queue
        return tuple(chosen), by_id + singles[:MAX_SINGLES_PER_STRIKE]

    def _most(self, left: float, *, first: bool) -> int:
        return max(1, int(left) if first else int(left - 1) - len(self._holding))

    def _spared(
        self, live: frozenset[str], survived: frozenset[str], closing: Collection[str]
    ) -> tuple[frozenset[str], list[str]]:
        """Return the `closing` accounts that get no account-wide cancel, and their live orders, to cancel by id."""
        spared: set[str] = set()
        by_id: list[str] = []
        for name in closing:
            theirs = sorted(order_id for order_id in live if self.owner(order_id) == name)
            few = len(by_id) + len(theirs) <= MAX_SINGLES_PER_STRIKE
            if few and all(is_id(order_id) and order_id not in survived for order_id in theirs):
                spared.add(name)
                by_id += theirs
        return frozenset(spared), by_id


def _live(book: Mapping[str, Order]) -> frozenset[str]:
    return frozenset(order.id for order in book.values() if order.state is OrderState.LIVE)
