"""Value transfers of other assets in the currency of the account's equity, at the venue's last price.

An adapter reports no equity while a transfer has no value: it would look like a profit or a loss, or hide one.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.venues.decode import Evidence
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import Outputs, Replied, Transferred, UnexplainedMessage


class TransferValues:
    """The transfers of one account that have no value yet."""

    def __init__(
        self,
        currency: str,
        price: Callable[[str, str], Build],
        read_price: Callable[[Any], Decimal | None],
        calls: CallStarter,
        evidence: Evidence,
    ) -> None:
        """Make it without transfers; `currency` is that of the equity.

        `price` returns the builder of the request for the price of a pair's first asset in its second.
        `read_price` reads the answer; it returns None if there is no price in it.
        """
        self.currency = currency
        self._price = price
        self._read_price = read_price
        self._calls = calls
        self._evidence = evidence
        self._unvalued: list[tuple[str, Decimal]] = []  # asset and amount

    @property
    def are_missing(self) -> bool:
        """Whether a transfer has no value yet."""
        return bool(self._unvalued)

    def report(self, asset: str, amount: Decimal) -> tuple[Transferred, ...]:
        """Return a transfer in the account's currency; keep any other until `request_price` has found its value."""
        if asset == self.currency:
            return (Transferred(asset, amount),)
        self._unvalued.append((asset, amount))
        return ()

    def request_price(self, now: Instant) -> Outputs:
        """Request the price of the oldest transfer without a value."""
        return self._request(self._unvalued[0][0], now, inverse=False)

    def _request(self, asset: str, now: Instant, *, inverse: bool) -> Outputs:
        pair = (self.currency, asset) if inverse else (asset, self.currency)
        part = PricePart(self, asset, inverse)
        return self._calls.start_call("price", self._price(*pair), now, context=part, on_loss=part.on_loss)

    def on_price(self, asset: str, reply: Reply, now: Instant, *, inverse: bool) -> Outputs:
        """Report the transfers of the priced asset; request the inverse pair if the venue refuses the first."""
        if reply.outcome is ReplyOutcome.REFUSED and not inverse:  # of USD and CAD, only USDCAD is a pair
            return self._request(asset, now, inverse=True)
        price = self._read_price(reply.data) if reply.ok else None
        if price is None or price <= 0:
            why = "no price" if reply.ok else reply.evidence
            words = self._evidence(f"the account cannot be measured: a transfer of {asset} has no value: {why}")
            return (UnexplainedMessage(words),)
        amounts = [amount for each, amount in self._unvalued if each == asset]
        self._unvalued = [(each, amount) for each, amount in self._unvalued if each != asset]
        return tuple(Transferred(self.currency, amount / price if inverse else amount * price) for amount in amounts)


class PricePart(NamedTuple):
    """The request for the price of one asset."""

    values: TransferValues
    asset: str
    inverse: bool  # the price is that of the account's currency

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.values.on_price(self.asset, reply, now, inverse=self.inverse)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # it is requested again with the next figures
