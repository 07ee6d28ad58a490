"""Value transfers of other assets in the currency of the account's equity, at the venue's last price.

An adapter reports no equity while a transfer has no value: it would look like a profit or a loss, or hide one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        via: Sequence[str] = (),
    ) -> None:
        """Make it without transfers; `currency` is that of the equity.

        `price` returns the builder of the request for the price of a pair's first asset in its second.
        `read_price` reads the answer; it returns None if there is no price in it. An asset without a pair in the
        currency is priced in one of `via`. With `via`, an asset without any of these pairs counts as nothing: the
        venue's own figure has no worth of it either. Without, there is no equity until a price has come.
        """
        self.currency = currency
        self._price = price
        self._read_price = read_price
        self._calls = calls
        self._evidence = evidence
        self._via = via
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
        return self._request(PricePart(self, self._unvalued[0][0], self.currency), now)

    def _request(self, part: PricePart, now: Instant) -> Outputs:
        pair = (part.other, part.asset) if part.is_inverse else (part.asset, part.other)
        return self._calls.start_call("price", self._price(*pair), now, context=part, on_loss=part.on_loss)

    def on_price(self, part: PricePart, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Report the transfers of the priced asset; request the next pair if the venue refuses this one."""
        asset, is_refused = part.asset, reply.outcome is ReplyOutcome.REFUSED
        if is_refused and part.other == self.currency and not part.is_inverse:  # of USD and CAD, only USDCAD is a pair
            return self._request(part._replace(is_inverse=True), now)
        if is_refused and self._via and replied.status < 500:
            return self._go_on_via(part, now)
        price = self._read_price(reply.data) if reply.ok else None
        if price is None or price <= 0:
            why = "no price" if reply.ok else reply.evidence
            words = self._evidence(f"the account cannot be measured: a transfer of {asset} has no value: {why}")
            return (UnexplainedMessage(words),)
        amounts = [amount / price if part.is_inverse else amount * price for amount in self._take(asset)]
        return tuple(transfer for amount in amounts for transfer in self.report(part.other, amount))

    def _go_on_via(self, part: PricePart, now: Instant) -> Outputs:
        """Request the price in the next asset of `via`; behind the last one, the transfers count as nothing."""
        others = [other for other in (self.currency, *self._via) if other != part.asset]
        for other in others[others.index(part.other) + 1 :]:
            return self._request(PricePart(self, part.asset, other), now)
        self._take(part.asset)
        return (UnexplainedMessage(self._evidence(f"a transfer of {part.asset} counts as nothing: it has no price")),)

    def _take(self, asset: str) -> list[Decimal]:
        amounts = [amount for each, amount in self._unvalued if each == asset]
        self._unvalued = [(each, amount) for each, amount in self._unvalued if each != asset]
        return amounts


class PricePart(NamedTuple):
    """The request for the price of one asset in another."""

    values: TransferValues
    asset: str
    other: str
    is_inverse: bool = False  # the price is that of the other

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.values.on_price(self, reply, replied, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # it is requested again with the next figures
