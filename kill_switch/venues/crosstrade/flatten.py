"""Flatten NT accounts, where that is wanted: a second flatten beside one that still works turns the position round.

A flatten cancels an account's orders and closes its positions with market orders (§4 of docs/venues/crosstrade.md).
It goes out once after a strike, to an account of which a read that was asked for *behind the answered cancels* shows
a position and no market order: such an order may be an earlier flatten's own, at work. It never goes out a second
time while the one before may be under way: as long as nobody has answered it, for a moment after that, in which its
market orders come into being, and while they are seen at work, within reason. So long an account's other orders are
cancelled by their ids alone: an account-wide cancel would keep the position. What became of a flatten shows in the
reads, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route
from kill_switch.venues.crosstrade.readback import UserRead
from kill_switch.venues.crosstrade.replies import AccountOrder, CancelReply
from kill_switch.venues.crosstrade.tokens import RequestFactory, path_of
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.messages import Call, Output, Outputs

CANCELLED_WITHIN_S = 1.5  # a strike that is not answered by then has gone out all the same
WANTED_S = 5.0  # a strike's wish is that old at most: a sweep reads sooner, and strikes again
UNANSWERED_S = 20.0  # a command that nobody answers may lie in the relay that long (16 s were measured, §3)
SETTLE_S = 2.0  # from the answer until what it has submitted shows in the list of orders, or has ended
CLOSING_S = 15.0  # a market order that rests for longer is stuck: it is cancelled like any other
MARKET = "market"


@dataclass(slots=True)
class Flatten:
    """The last flatten of one NT account."""

    tag: str
    until_ns: int  # a read that was asked for before this may show a position that it is closing
    stuck_ns: int = 0  # what it has submitted may be at work until then
    words: str = "flatten sent"


class Flattener:
    """Keep what strikes want flattened, and what is under way; without `on` nothing is ever wanted."""

    KINDS = frozenset({"flatten", "flatten-again"})

    def __init__(self, wire: RequestFactory, calls: CallStarter, *, on: bool) -> None:
        self._wire = wire
        self._calls = calls
        self._on = on
        self._wanted: dict[str, int] = {}  # account → from when on a read counts
        self._latest: dict[str, Flatten] = {}
        self._count = 0

    def request(self, accounts: Iterable[str], now: Instant) -> None:
        """Take note of a strike on these accounts."""
        if self._on:
            self._wanted.update(dict.fromkeys(accounts, now.mono_ns + int(CANCELLED_WITHIN_S * 1e9)))

    def void(self) -> None:
        """Drop every wish; a flatten that has left may still be at work, and stays known."""
        self._wanted.clear()

    def on_cancels_answered(self, account: str, now: Instant) -> None:
        """Take note that the account's cancels are answered."""
        if account in self._wanted:
            self._wanted[account] = min(self._wanted[account], now.mono_ns)

    def may_be_closing(self, account: str, asked_ns: int) -> bool:
        """Say whether a read that was asked for then may show what a flatten is about to close."""
        latest = self._latest.get(account)
        return latest is not None and asked_ns < latest.until_ns

    def accounts_closing(self, now: Instant) -> tuple[str, ...]:
        """Return the accounts whose positions may be closing now."""
        if not self._latest:
            return ()
        return tuple(account for account in self._latest if self.may_be_closing(account, now.mono_ns))

    def is_own_order(self, account_order: AccountOrder, asked_ns: int) -> bool:
        """Say whether a live order may be a flatten's own: to cancel it would keep the position."""
        return account_order.kind == MARKET and self.may_be_closing(account_order.account, asked_ns)

    def on_market_orders(self, read: UserRead) -> None:
        """Take note of the market orders that a read shows at work."""
        for name in _busy(read) & self._latest.keys():
            latest = self._latest[name]
            latest.until_ns = max(latest.until_ns, min(read.asked_ns + int(SETTLE_S * 1e9), latest.stuck_ns))

    def on_read(self, read: UserRead, now: Instant) -> tuple[tuple[Order, ...], Outputs]:
        """Flatten whom a strike wants flattened and may be; return the positions, as orders that are left."""
        holding = dict.fromkeys(held.account for held in read.positions)
        busy = _busy(read)
        due = self._due(read.asked_ns) - busy
        able = max(1, int(self._wire.bucket.left(now)) - 1)
        outputs: list[Output] = []
        for name in [name for name in holding if name in due and not self.may_be_closing(name, read.asked_ns)][:able]:
            outputs.extend(self._flatten(name, now))
        return tuple(self._shown(*held, read.asked_ns) for held in read.positions), tuple(outputs)

    def _due(self, asked_ns: int) -> frozenset[str]:
        """Return whom a read that was asked for then may have flattened; each strike's wish is granted once."""
        seen = {account: since_ns for account, since_ns in self._wanted.items() if since_ns <= asked_ns}
        for account in seen:
            del self._wanted[account]
        return frozenset(account for account, since_ns in seen.items() if asked_ns - since_ns <= WANTED_S * 1e9)

    def _shown(self, account: str, symbol: str, words: str, asked_ns: int) -> Order:
        latest = self._latest.get(account)
        status = words if latest is None else f"{words}, {latest.words}"
        life = OrderState.PENDING if self.may_be_closing(account, asked_ns) else OrderState.LIVE
        return Order(f"position:{account}:{symbol}", symbol, life, status)

    # the command

    def _flatten(self, account: str, now: Instant) -> Outputs:
        """Flatten an account, over one lane."""
        self._count += 1
        tag = f"f{self._count}"
        self._latest[account] = Flatten(tag, now.mono_ns + int(UNANSWERED_S * 1e9))
        conn = self._wire.carrier(now)
        if conn is not None:
            return (self._wire.rpc(conn, tag, "Flatten", {"account": account}, now),)
        build = self._wire.paid(self._wire.request("POST", f"{path_of(account)}/positions/flatten"))
        return self._calls.start_call("flatten", build, now, urgent=True, command=True, context=tag)

    def on_reply(self, tag: str, reply: CancelReply | None, now: Instant) -> None:
        """Take the answer: only a yes says when it is done, and only a no that nothing is under way."""
        latest = next((flatten for flatten in self._latest.values() if flatten.tag == tag), None)
        if latest is None or reply is None:
            return
        if reply.answer is CancelOutcome.ACCEPTED:
            latest.until_ns = now.mono_ns + int(SETTLE_S * 1e9)
            latest.stuck_ns = now.mono_ns + int(CLOSING_S * 1e9)
            latest.words = f"flatten {reply.words}"
            return
        latest.words = f"flatten not accepted: {reply.words}"
        if reply.answer is not CancelOutcome.UNKNOWN or reply.limited:
            latest.until_ns = 0

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Take the second route, but only if provably nothing left on the first."""
        if call.sent:
            return ()
        if call.kind == "flatten":
            again, context = "flatten-again", call.part
            outputs = self._calls.start_call(again, call.build, now, urgent=True, command=True, context=context)
            return tuple(output._replace(route=Route.FRESH) for output in outputs if isinstance(output, Call))
        self.on_reply(call.part, CancelReply(CancelOutcome.UNSENT, why), now)
        return ()


def _busy(read: UserRead) -> set[str]:
    """Return the accounts with an order that may be at the market; one of no type may be."""
    return {
        account_order.account
        for account_order in read.orders
        if account_order.kind in (MARKET, "") and account_order.order.state is not OrderState.GONE
    }
