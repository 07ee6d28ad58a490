"""Flatten NT accounts (`flatten = true`): cancel the account's orders and close its positions at the market (§ 4).

The adapter requests flattens with each strike; a read that shows a position sends them (docs/venues/crosstrade.md).
Never send a second flatten while one is in progress: both would close the position, and it would reverse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from kill_switch.core.domain import Instant, Order, OrderState, Route
from kill_switch.venues.crosstrade.replies import AccountOrder, is_limited
from kill_switch.venues.crosstrade.user_read import UserRead
from kill_switch.venues.crosstrade.user_wire import UserWire, path_of
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import Call, Output, Outputs, Replied

CANCELLED_WITHIN_S = 1.5  # a strike without an answer by then counts as sent and answered
WANTED_S = 5.0  # the age at which a strike's request expires: a sweep reads sooner, and strikes again
UNANSWERED_S = 20.0  # so long a command without an answer may wait in the relay (16 s were measured, § 3)
SETTLE_S = 2.0  # from the answer until the flatten's market orders show in a list or have ended
CLOSING_S = 15.0  # a market order that is still there after this is stuck: it is cancelled like any other
MARKET = "market"


@dataclass(slots=True)
class Flatten:
    """The latest flatten of one NT account; times are monotonic."""

    until_ns: int  # a read that was requested before this may show a position that the flatten is closing
    stuck_ns: int = 0  # until then its market orders may be working
    words: str = "flatten sent"


@dataclass(slots=True, eq=False)
class Flattener:
    """Hold the requested flattens and those in progress; without `on` no flatten is ever requested.

    A flatten is sent once after a strike, for an account of which a read shows a position and no market order. Such an
    order may be an earlier flatten. The read must have been requested after the strike's cancels were accepted, or
    could have been.

    A flatten is in progress while it is unanswered, for `SETTLE_S` after the answer, and while its market orders are
    seen working, at most `CLOSING_S`. Meanwhile the account's other orders are cancelled by id only, because an
    account-wide cancel would cancel the closing order too. Only reads show the outcome of a flatten.
    """

    wire: UserWire
    is_on: bool
    _wanted: dict[str, int] = field(default_factory=dict)  # account → a read requested from then on may flatten it
    _latest: dict[str, Flatten] = field(default_factory=dict)
    _count: int = 0

    def request(self, accounts: Iterable[str], now: Instant) -> None:
        """Request a flatten of the accounts that a strike is sent for."""
        if self.is_on:
            self._wanted.update(dict.fromkeys(accounts, now.mono_ns + int(CANCELLED_WITHIN_S * 1e9)))

    def drop_requests(self) -> None:
        """Drop every request; a flatten that was sent may still be in progress, and stays known."""
        self._wanted.clear()

    def on_cancels_accepted(self, account: str, now_ns: int) -> None:
        """Allow reads that are requested from now on, monotonic, to flatten the account."""
        if account in self._wanted:
            self._wanted[account] = min(self._wanted[account], now_ns)

    def may_be_closing(self, account: str, asked_ns: int) -> bool:
        """Return whether a read that was requested at `asked_ns` may show a position that a flatten is closing."""
        latest = self._latest.get(account)
        return latest is not None and asked_ns < latest.until_ns

    def accounts_closing(self, now: Instant) -> tuple[str, ...]:
        """Return the accounts whose positions may be closing now."""
        if not self._latest:
            return ()
        return tuple(account for account in self._latest if self.may_be_closing(account, now.mono_ns))

    def is_own_order(self, account_order: AccountOrder, asked_ns: int) -> bool:
        """Return whether a live order may be a flatten's own: to cancel it would keep the position."""
        return account_order.kind == MARKET and self.may_be_closing(account_order.account, asked_ns)

    def on_market_orders(self, listed: Iterable[AccountOrder], asked_ns: int) -> None:
        """Extend the flattens whose market orders a list shows working."""
        for name in _accounts_at_market(listed) & self._latest.keys() if self._latest else ():
            latest = self._latest[name]
            latest.until_ns = max(latest.until_ns, min(asked_ns + int(SETTLE_S * 1e9), latest.stuck_ns))

    def on_read(self, read: UserRead, now: Instant) -> tuple[tuple[Order, ...], Outputs]:
        """Send the flattens that a read of the positions allows; return the positions, each as an open order."""
        positions = read.positions or []
        holding = dict.fromkeys(held.account for held in positions)
        due = self._due(read.asked_ns) - _accounts_at_market(read.shown)
        able = max(1, int(self.wire.bucket.left(now)) - 1)
        outputs: list[Output] = []
        for name in [name for name in holding if name in due and not self.may_be_closing(name, read.asked_ns)][:able]:
            outputs.extend(self._flatten(name, now))
        return tuple(self._as_order(*held, read.asked_ns) for held in positions), tuple(outputs)

    def _due(self, asked_ns: int) -> frozenset[str]:
        """Return the accounts that a read requested at `asked_ns` may flatten, and drop their requests."""
        seen = {account: since_ns for account, since_ns in self._wanted.items() if since_ns <= asked_ns}
        for account in seen:
            del self._wanted[account]
        return frozenset(account for account, since_ns in seen.items() if asked_ns - since_ns <= WANTED_S * 1e9)

    def _as_order(self, account: str, symbol: str, words: str, asked_ns: int) -> Order:
        latest = self._latest.get(account)
        status = words if latest is None else f"{words}, {latest.words}"
        state = OrderState.PENDING if self.may_be_closing(account, asked_ns) else OrderState.LIVE
        return Order(f"position:{account}:{symbol}", symbol, state, status)

    # ── the command ───────────────────────────────────────────────────────────────────────────────────────────────

    def _flatten(self, account: str, now: Instant) -> Outputs:
        """Flatten an account, over one lane only."""
        self._count += 1
        latest = self._latest[account] = Flatten(now.mono_ns + int(UNANSWERED_S * 1e9))
        part = FlattenPart(latest, self.wire.calls)
        conn = self.wire.carrier(now)
        if conn is not None:
            return (self.wire.rpc(conn, f"f{self._count}", "Flatten", {"account": account}, part, now),)
        build = self.wire.build("POST", f"{path_of(account)}/positions/flatten")
        return self.wire.calls.start_call("flatten", build, now, urgent=True, command=True, context=part)


class FlattenPart(NamedTuple):
    """The command of a flatten, over one lane; `is_again`: on its second route."""

    latest: Flatten
    calls: CallStarter
    is_again: bool = False
    reads: bool = False

    def on_lost(self, now: Instant) -> Outputs:
        return ()  # it may have left: only reads show what became of it

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        """Apply the answer: an acceptance bounds the flatten's duration, a refusal ends it."""
        latest = self.latest
        if reply.ok:
            latest.until_ns = now.mono_ns + int(SETTLE_S * 1e9)
            latest.stuck_ns = now.mono_ns + int(CLOSING_S * 1e9)
            latest.words = f"flatten {reply.evidence}"
        elif reply.outcome is not ReplyOutcome.NO_ANSWER:
            latest.words = f"flatten not accepted: {reply.evidence}"
            if reply.outcome is ReplyOutcome.REFUSED or is_limited(reply):
                latest.until_ns = 0
        return ()

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.on_frame_reply(reply, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Send a lost flatten on the second route, if provably no byte of it was sent on the first."""
        if call.sent:
            return ()
        if self.is_again:
            self.latest.words, self.latest.until_ns = f"flatten not accepted: {why}", 0
            return ()
        part = self._replace(is_again=True)
        outputs = self.calls.start_call("flatten-again", call.build, now, urgent=True, command=True, context=part)
        return tuple(output._replace(route=Route.FRESH) for output in outputs if isinstance(output, Call))


def _accounts_at_market(listed: Iterable[AccountOrder]) -> set[str]:
    """Return the accounts with an open order that may be a market order; an order without a type may be."""
    return {
        account_order.account
        for account_order in listed
        if account_order.kind in (MARKET, "") and account_order.order.state is not OrderState.GONE
    }
