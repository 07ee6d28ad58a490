"""Report what moves in or out of the spot wallet, so that it is no profit and no loss (§ 5, § 9).

The account's equity is in one currency. A transfer of another asset is valued at the pair's last price. Until then no
equity is reported, and the pnl trigger is blind.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.binance.spot_replies import read_price
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.sessions import Message
from kill_switch.venues.messages import Outputs, Replied, Transferred, UnexplainedMessage

MAX_EVENTS = 4096  # events that are remembered: each connection pushes them


class SpotTransfers:
    """The transfers of one account, each reported once."""

    def __init__(self, currency: str, price: Callable[[str], Build], calls: CallStarter, evidence: Evidence) -> None:
        """Make it; `price` returns the builder of the request for a symbol's price."""
        self._currency = currency
        self._price = price
        self._calls = calls
        self._evidence = evidence
        self._seen: dict[tuple[str, ...], None] = {}
        self._unvalued: list[tuple[str, Decimal]] = []  # asset and amount

    @property
    def has_unvalued(self) -> bool:
        """Whether a transfer has no value yet, so that figures would show it as a profit or a loss."""
        return bool(self._unvalued)

    def on_balance_update(self, event: Message) -> Outputs:
        """Process a balanceUpdate: a deposit, a withdrawal or a transfer between wallets (§ 5)."""
        asset, amount = as_text(event.get("a")), as_decimal(event.get("d"))
        if not asset or amount is None:
            return (UnexplainedMessage("a balanceUpdate that cannot be read"),)
        name = tuple(as_text(event.get(key)) for key in ("E", "T", "a", "d"))
        if name in self._seen:
            return ()  # another connection has pushed it
        self._seen[name] = None
        keep_latest(self._seen, MAX_EVENTS)
        if asset == self._currency:
            return (Transferred(asset, amount),)
        self._unvalued.append((asset, amount))
        return ()

    def request_price(self, now: Instant) -> Outputs:
        """Request the price of the oldest transfer without a value."""
        return self._request(self._unvalued[0][0], now, inverse=False)

    def _request(self, asset: str, now: Instant, *, inverse: bool) -> Outputs:
        symbol = self._currency + asset if inverse else asset + self._currency
        part = PairPricePart(self, asset, inverse)
        return self._calls.start_call("price", self._price(symbol), now, context=part, on_loss=part.on_loss)

    def on_price(self, asset: str, reply: Reply, now: Instant, *, inverse: bool) -> Outputs:
        """Report the transfers of the priced asset; request the inverse pair if the venue has not the first."""
        if reply.outcome is ReplyOutcome.REFUSED and not inverse:
            return self._request(asset, now, inverse=True)
        price = read_price(reply.data) if reply.ok else None
        if price is None:
            why = "no price" if reply.ok else reply.evidence
            words = self._evidence(f"the account cannot be measured: a transfer of {asset} has no value: {why}")
            return (UnexplainedMessage(words),)
        amounts = [amount for each, amount in self._unvalued if each == asset]
        self._unvalued = [(each, amount) for each, amount in self._unvalued if each != asset]
        return tuple(Transferred(self._currency, amount / price if inverse else amount * price) for amount in amounts)


class PairPricePart(NamedTuple):
    """The request for the price of one asset."""

    transfers: SpotTransfers
    asset: str
    inverse: bool  # the price is that of the account's currency

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.transfers.on_price(self.asset, reply, now, inverse=self.inverse)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # it is requested again with the next figures
