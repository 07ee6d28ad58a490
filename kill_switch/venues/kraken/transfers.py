"""Separate deposits, withdrawals and transfers from profit and loss (docs/venues/kraken.md § 9).

The account's equity is in one currency. A transfer of another asset is valued at the venue's last price. Until then no
equity is reported, and the pnl trigger is blind: the transfer neither looks like a loss nor hides one.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import quote

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import Outputs, Replied, Transferred, UnexplainedMessage

TRANSFERS = frozenset({"deposit", "withdrawal", "transfer"})  # types of ledger entries
REST_ASSETS = {"BTC": "XBT", "DOGE": "XDG", "ETH2": "ETH"}  # assets whose name over REST differs
MAX_ENTRIES = 4096  # ledger entries that are remembered: each connection pushes them


class TransferReader:
    """The transfers of one account, each reported once."""

    def __init__(self, currency: str, request: Callable[[str], Build], calls: CallStarter, evidence: Evidence) -> None:
        """Make a reader; `request` returns the builder of a public GET of this target."""
        self._currency = currency
        self._request = request
        self._calls = calls
        self._evidence = evidence
        self._seen: dict[str, None] = {}  # ids of ledger entries
        self._balances: dict[str, Decimal] = {}  # asset → its balance after the last message
        self._unvalued: list[tuple[str, Decimal]] = []  # asset and amount

    @property
    def has_unvalued(self) -> bool:
        """Whether a transfer has no value yet, so that figures would show it as a profit or a loss."""
        return bool(self._unvalued)

    def on_message(self, kind: object, entries: object) -> Outputs:
        """Process a message of `balances` of this type; a snapshot has no entries of the ledger."""
        outputs: Outputs = ()
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                outputs += self._on_update(entry) if kind == "update" else ()
                if (balance := as_decimal(entry.get("balance"))) is not None:
                    self._balances[as_text(entry.get("asset"))] = balance
                    keep_latest(self._balances, MAX_ENTRIES)
        return outputs

    def _on_update(self, entry: dict[str, Any]) -> Outputs:
        kind, entry_id = as_text(entry.get("type")), as_text(entry.get("ledger_id"))
        if kind not in TRANSFERS or (entry_id and entry_id in self._seen):
            return ()  # in the second case another connection has pushed it
        if entry_id:
            self._seen[entry_id] = None
            keep_latest(self._seen, MAX_ENTRIES)
        asset, amount = as_text(entry.get("asset")), as_decimal(entry.get("amount"))
        if amount is None or not asset:
            return (UnexplainedMessage(f"a {kind} that cannot be read"),)
        signed = -amount if kind == "withdrawal" and amount > 0 and not self._has_risen(entry, amount) else amount
        base = asset.partition(".")[0]  # DOT.S is staked DOT
        if base == self._currency:
            return (Transferred(base, signed),)
        self._unvalued.append((base, signed))
        words = f"{kind} of {abs(signed):f} {asset}: no equity is reported until it is valued in {self._currency}"
        return (UnexplainedMessage(self._evidence(words)),)

    def _has_risen(self, entry: dict[str, Any], amount: Decimal) -> bool:
        """Return whether an entry has added its amount: a withdrawal that has failed comes back as a withdrawal."""
        before, after = self._balances.get(as_text(entry.get("asset"))), as_decimal(entry.get("balance"))
        return before is not None and after is not None and after - before > amount / 2  # half: a fee goes off

    def request_price(self, now: Instant) -> Outputs:
        """Request the price of the oldest transfer without a value."""
        return self._request_pair(self._unvalued[0][0], now, inverse=False)

    def _request_pair(self, asset: str, now: Instant, *, inverse: bool) -> Outputs:
        name = REST_ASSETS.get(asset, asset)
        pair = quote(self._currency + name if inverse else name + self._currency, safe="")
        part = PricePart(self, asset, inverse)
        build = self._request(f"/0/public/Ticker?pair={pair}")
        return self._calls.start_call("price", build, now, context=part, on_loss=part.on_loss)

    def on_price(self, asset: str, reply: Reply, now: Instant, *, inverse: bool) -> Outputs:
        """Report the transfers of the priced asset; request the inverse pair if the venue refuses the first."""
        if reply.outcome is ReplyOutcome.REFUSED and not inverse:  # of USD and CAD, only USDCAD is a pair
            return self._request_pair(asset, now, inverse=True)
        price = _last_price(reply.data) if reply.ok else None
        if price is None:
            why = "no price" if reply.ok else reply.evidence
            return (UnexplainedMessage(f"the account cannot be measured: a transfer has no value: {why}"),)
        amounts = [amount for each, amount in self._unvalued if each == asset]
        self._unvalued = [(each, amount) for each, amount in self._unvalued if each != asset]
        return tuple(Transferred(self._currency, amount / price if inverse else amount * price) for amount in amounts)


class PricePart(NamedTuple):
    """The request for the price of one asset."""

    reader: TransferReader
    asset: str
    inverse: bool  # the pair's price is that of the account's currency

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.reader.on_price(self.asset, reply, now, inverse=self.inverse)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # it is requested again with the next figures


def _last_price(data: Any) -> Decimal | None:
    """Read the last trade's price of the only pair of a `Ticker` answer, whatever the pair's spelling."""
    if not isinstance(data, dict) or len(data) != 1:
        return None
    [pair] = data.values()
    last = pair.get("c") if isinstance(pair, dict) else None
    price = as_decimal(last[0]) if isinstance(last, list) and last else None
    return price if price is not None and price > 0 else None
