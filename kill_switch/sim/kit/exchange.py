"""The matching side of a simulated venue: accounts, sessions, cancels in progress, account events.

`kit.venue` builds on it. It never parses a request or a message.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from email.utils import formatdate
from functools import lru_cache, partial
from typing import ClassVar, NamedTuple

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.faults import SPECS, Faults
from kill_switch.sim.kit.limits import Window
from kill_switch.sim.kit.options import Options, unknown
from kill_switch.sim.kit.server import Connection

# the subject of a channel's events, where its name differs from the subject
_PUSHES = {"orders": "order", "accounts": "balance", "pnl": "balance"}

_date = lru_cache(maxsize=8)(partial(formatdate, usegmt=True))


@dataclass(slots=True, eq=False)
class Session:
    """An open WebSocket."""

    connection: Connection
    account: Account | None = None
    channels: set[str] = field(default_factory=set)
    heard_at: float = 0.0
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    window: Window | None = None  # the limit on its messages, where the venue has one
    held: bytes | None = None  # the account event that the `reorder` fault holds back
    path: str = ""  # of the upgrade, for a venue that has several WebSockets
    sequence: Counter[str] = field(default_factory=Counter)  # the last number of each channel, and other counts


class DeadMan(NamedTuple):
    """An account's countdown at the venue, which cancels its orders when it ends."""

    fires_in_s: float | None  # seconds until it ends; None while it is not armed
    fired: int  # how often it has ended since the start


class ExchangeSim(ABC):
    """The accounts of one venue, and the engine that changes their orders.

    A venue whose engine is slow accepts a cancel first and executes it later. The faults of the order path (kept,
    partial, pending, filled, late and re-quoted orders) act between the two.
    """

    name: ClassVar[str]
    # the markets, as the venue's cancels name them; the first is the market of orders that name none
    symbols: tuple[str, ...]
    categories: tuple[str, ...] = ()  # kinds of product, where the venue distinguishes them; the first is the default
    # kinds of orders that the admin API can place, each of which a kill must remove
    kinds: ClassVar[tuple[str, ...]] = ("limit", "stop")
    not_covered: ClassVar[tuple[str, ...]] = ()  # what a kill does not reach: kinds of orders, machines of the venue
    # types of keys that `--key-type` selects instead of the usual one; they are values of the option `auth`
    key_types: ClassVar[tuple[str, ...]] = ()
    lists: ClassVar[tuple[str, ...]] = ()  # names of the lists of orders
    reads: ClassVar[tuple[str, ...]] = ()  # names of the other reads, as in the request log
    # names of the possible faults; `foreign_use` needs a rate limit that the programs of a user share
    supported: ClassVar[frozenset[str]] = frozenset(SPECS) - {"foreign_use"}
    order_channel: ClassVar[str] = "order"  # the channel of order events
    filled_state: ClassVar[str]  # the venue's word for a filled order
    cancelled_word: ClassVar[str] = "cancelled"  # and for a cancelled one

    def __init__(self, options: Options, accounts: int) -> None:
        self.base_options = options
        self.accounts = {account.name: account for account in map(self.make_account, range(1, accounts + 1))}
        self.faults = Faults(self.supported)
        self.sessions: dict[Connection, Session] = {}
        # logged-in sessions, by account
        self.listeners: dict[str, dict[Connection, Session]] = {name: {} for name in self.accounts}
        self.stopped = False
        self.hidden: set[str] = set()  # ids of orders that came to rest while the `unlisted` fault was on

    @property
    def symbol(self) -> str:
        """Return the market of orders that name none."""
        return self.symbols[0]

    def dead_man(self, account: Account) -> DeadMan | None:
        """Return the account's countdown; None at a venue that has none."""
        return None

    @abstractmethod
    def make_account(self, number: int) -> Account:
        """Create the account of this number, counted from 1."""

    @abstractmethod
    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create a resting order, with an id of the venue's format."""

    @abstractmethod
    def id_format(self, text: str) -> bool:
        """Return whether a text is an order id of the venue's format."""

    # what a venue overrides if it differs

    def order_events(self, account: Account, orders: Sequence[Order], news: str) -> Iterable[bytes]:
        """Return the order events, which each session gets.

        `news` is `opened`, `amended`, `pending`, `cancelled`, `expired` or `filled`.
        """
        return ()

    def show_pending(self, account: Account, orders: Sequence[Order]) -> None:
        """Show these orders as being cancelled, where the venue has such a state."""
        return

    def tell_equity(self, account: Account) -> None:
        """Send the events of a change of the account's money, where the venue has them."""
        return

    def cancelled_state(self, order: Order) -> str:
        """Return the venue's word for a cancelled order."""
        return self.cancelled_word

    def filled_as(self, order: Order) -> str:
        """Return the venue's word for this order, once it is filled."""
        return self.filled_state

    def push_cancel_too_late(self, account: Account, orders: Sequence[Order]) -> None:
        """Send the events of accepted cancels that came too late, where the venue has them."""
        return

    def push_orders(self, account: Account, orders: Sequence[Order], news: str) -> None:
        """Send order events to the sessions that want them."""
        if self.listeners[account.name]:
            for text in self.order_events(account, orders, news):
                self.emit(account, self.order_channel, text)

    def subscribe(self, session: Session, channel: str) -> None:
        """Add a private channel to a session; after the answer, `subscribed` is called for that of order events."""
        session.channels.add(channel)
        if channel == self.order_channel:
            self.later(0.001, self.subscribed, session)

    def subscribed(self, session: Session) -> None:
        """Send the resting orders as events to a session that has subscribed to them.

        Only the `snapshot` option does so.
        """
        account = session.account
        if self.base_options.snapshot and account is not None and account.open:
            for text in self.order_events(account, list(account.open.values()), "opened"):
                self.event(session, text, "order")

    def wants(self, session: Session, channel: str) -> bool:
        """Return whether a session gets the events of a private channel."""
        return channel in session.channels or self.base_options.events == "all"

    def account(self, name: object = None) -> Account:
        """Return an account by name, the first if none is named. Raises `ValueError` with the known names."""
        if name is None:
            return next(iter(self.accounts.values()))
        match = self.accounts.get(str(name))
        if match is None:
            raise ValueError(unknown(f"{self.name} account", name, self.accounts))
        return match

    def attach(self, session: Session, account: Account) -> None:
        """Log a session in."""
        session.account = account
        session.connection.account = account.name
        self.listeners[account.name][session.connection] = session

    def valid_id(self, text: str) -> bool:
        """Return whether a new order may have this id."""
        return self.id_format(text) and not any(text in account.open for account in self.accounts.values())

    # the clock

    def now(self) -> float:
        """Return the venue's wall-clock time in seconds, shifted by the `skew` fault."""
        skew = self.faults.peek("skew")
        return time.time() + (skew.seconds if skew else 0.0)

    def now_ns(self) -> int:
        """Return the venue's wall-clock time in nanoseconds, shifted by the `skew` fault."""
        skew = self.faults.peek("skew")
        return time.time_ns() + (int(skew.seconds * 1e9) if skew else 0)

    def date(self) -> str:
        """Return the venue's wall-clock time as an HTTP date, in whole seconds (RFC 9110 §6.6.1)."""
        return _date(int(self.now()))

    def later(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Call a function after `seconds`, or at once for 0; never after the simulator has stopped."""
        if seconds <= 0:
            call(*arguments)
        else:
            asyncio.get_running_loop().call_later(seconds, self._unless_stopped, call, *arguments)

    def _unless_stopped(self, call: Callable[..., object], *arguments: object) -> None:
        if not self.stopped:
            call(*arguments)

    # orders

    def rest(
        self, account: Account, count: int, symbol: str, kind: str, category: str = "", ids: Sequence[str] = ()
    ) -> list[Order]:
        """Place resting orders in an account's book, and send their events."""
        orders = [self.make_order(account, symbol, kind, category, number) for number in range(count)]
        for order, chosen in zip(orders, ids, strict=False):
            order.id = chosen
        account.rest(orders)
        fault = self.faults.peek("unlisted")
        if fault and fault.account in (None, account.name) and self.listeners[account.name]:
            self.hidden.update(order.id for order in orders)
        self.push_orders(account, orders, "opened")
        return orders

    def covered(self, account: Account) -> list[Order]:
        """Return the open orders that lists show and a cancel-all cancels: all except unlisted ones."""
        orders = list(account.open.values())
        return [order for order in orders if self.shows(order)] if self.faults.peek("unlisted") else orders

    def listed(self, account: Account, name: str, *, ended: bool = False) -> list[Order]:
        """Return the content of a list: the open orders, preceded by the ended ones if `ended`."""
        done = list(account.closed.values()) if ended else []
        if not self.faults.active:
            return [*done, *account.open.values()]
        if self.faults.hit_list("empty_reads", name, account.name):
            return []
        stale = self.faults.on("stale_reads", account.name)
        if stale is None or stale.list not in (None, name):
            return [*done, *self.covered(account)]
        return self._past(account, done, time.monotonic() - stale.seconds)

    def _past(self, account: Account, done: Sequence[Order], at_s: float) -> list[Order]:
        """Return the orders that were open at `at_s`, monotonic, as they came to rest.

        The orders of `done` that had ended by then come first.
        """
        there = [order for order in account.closed.values() if order.rested_s <= at_s < order.ended_s]
        there += [order for order in self.covered(account) if order.rested_s <= at_s]
        shown = [replace(order, state=order.rested_as or order.state, closed_ns=0) for order in there]
        return [*(order for order in done if order.ended_s <= at_s), *shown]

    def vanished(self, who: str | None) -> bool:
        """Return whether the `vanish` fault hides an account."""
        return self.faults.active and self.faults.on("vanish", who) is not None

    def check_target(self, fault: str, name: object) -> None:
        """Raise `ValueError` if a fault cannot be limited to this name."""
        self.account(name)

    def expire(self, session: Session) -> None:
        """End a session's login."""
        if session.account is not None:
            self.listeners[session.account.name].pop(session.connection, None)
            session.account = None

    def list_fails(self, account: Account, name: str) -> bool:
        """Return whether the `partial_list` fault affects the list of this name."""
        fault = self.faults.peek("partial_list")
        if fault is None or name != (fault.list or self.lists[-1]):
            return False
        return self.faults.hit("partial_list", "read", account.name) is not None

    def shows(self, order: Order) -> bool:
        """Return whether lists show an order while the `unlisted` fault is on."""
        return order.id not in self.hidden

    def bot(self, account: Account) -> None:
        """Place one order as a trading bot of this account would."""
        self.rest(account, 1, self.symbol, "limit", self.categories[0] if self.categories else "")

    def cancel(self, account: Account, orders: list[Order], *, whole: bool, single: bool = False) -> list[Order]:
        """Start to cancel orders; return those that the venue claims to cancel.

        `whole` marks a cancel-all. With `single`, `push_cancel_too_late` is called for orders that had ended before the
        engine executed the cancel.
        """
        wait, fill = self.base_options.engine_ms, False
        if self.faults.active:
            faults = self.faults
            if late := faults.hit("late_order", "cancel", account.name):
                self.later(max(late.ms, 0.001) / 1000, self.bot, account)
            if faults.hit("accept_but_keep", "cancel", account.name):
                return orders
            if whole and (partial := faults.hit("partial", "cancel", account.name)):
                orders = orders[: max(0, len(orders) - partial.keep)]
            if orders and (pending := faults.hit("pending", "cancel", account.name)):
                wait, fill = pending.ms, pending.fill
        if orders:
            if wait > 0:
                self.show_pending(account, orders)
            self.later(wait / 1000, self._settle, account, orders, fill, single)
        return orders

    def cancel_all(self, account: Account) -> list[Order]:
        """Cancel all orders; return those that the venue claims to cancel."""
        return self.cancel(account, self.covered(account), whole=True)

    def cancel_at_once(self, account: Account, orders: Sequence[Order] | None = None) -> None:
        """Cancel some orders, or all, as the engine itself does, untouched by faults: a countdown has ended."""
        self._settle(account, list(account.open.values()) if orders is None else orders, fill=False, single=False)

    def _settle(self, account: Account, orders: Sequence[Order], fill: bool, single: bool) -> None:
        at = self.now_ns()
        done: list[Order] = []
        lost: list[Order] = []
        for order in orders:
            if fill:
                there = account.trade(order, at, self.filled_as(order))
            else:
                there = account.end(order, self.cancelled_state(order), at)
            (done if there else lost).append(order)
        if done:
            self.push_orders(account, done, "filled" if fill else "cancelled")
        if lost and single:
            self.push_cancel_too_late(account, lost)
        if done and not fill and self.faults.hit("requote", "cancel", account.name):
            self.bot(account)

    def set_equity(self, account: Account, equity: Decimal, unrealised: Decimal | None) -> None:
        """Set an account's money; None keeps the unrealised part."""
        account.cash_before = account.cash
        account.equity = equity
        if unrealised is not None:
            account.unrealised = unrealised
            if unrealised and not account.positions:
                category = self.categories[0] if self.categories else ""
                account.move(self.symbol, Decimal("0.001"), Decimal(30_000), category)
        self.tell_equity(account)

    # events

    def emit(self, account: Account, channel: str, text: bytes) -> None:
        """Send an account event to every session that wants its channel."""
        for session in tuple(self.listeners[account.name].values()):
            if self.wants(session, channel):
                self.event(session, text, _PUSHES.get(channel, channel))

    def broadcast(self, account: Account, text: bytes, push: str) -> None:
        """Send an account event to every session of the account, whatever its subscriptions."""
        for session in tuple(self.listeners[account.name].values()):
            self.event(session, text, push)

    def event(self, session: Session, text: bytes, push: str) -> None:
        """Send an account event to a session; `push` is its subject: `order`, `position` or `balance`."""
        connection, faults = session.connection, self.faults
        if not faults.active:
            connection.say(text)
            return
        who = session.account.name if session.account else None
        if self.vanished(who) or faults.hit_push("lose_push", push, who):
            return
        late = faults.hit_push("late_push", push, who)
        wait_s = late.ms / 1000 if late else 0.0
        texts = [text]
        if fault := faults.hit("reorder", None, who):
            if session.held is None:
                session.held = text
                self.later(max(fault.ms, 1) / 1000, self._release, session, text, wait_s)
                return
            texts.append(session.held)
            session.held = None
        again = faults.hit("duplicate", None, who) is not None
        for each in texts:
            for _ in range(1 + again):
                self.later(wait_s, connection.say, each)

    def _release(self, session: Session, text: bytes, wait_s: float) -> None:
        if session.held is text:
            session.held = None
            self.later(wait_s, session.connection.say, text)

    def chunk(self, usual: int) -> int:
        """Return how many orders one event may contain: 1 while events are swapped, doubled, lost or late."""
        apart = ("reorder", "duplicate", "lose_push", "late_push")
        return 1 if self.faults.active and any(map(self.faults.peek, apart)) else usual
