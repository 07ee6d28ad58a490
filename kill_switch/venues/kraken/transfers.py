"""Separate deposits, withdrawals and transfers from profit and loss (docs/venues/kraken.md § 9).

The account's equity is in one currency. A transfer of another asset is valued at the venue's last price. Until then no
equity is reported, and the pnl trigger is blind: the transfer neither looks like a loss nor hides one.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import Outputs, Replied, Transferred, UnexplainedMessage

SIGNS = {"deposit": 1, "withdrawal": -1, "transfer": 0}  # type of a ledger entry → the sign of its amount; 0: its own
REST_ASSETS = {"BTC": "XBT", "DOGE": "XDG"}  # assets whose name over REST differs
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
        self._unvalued: list[tuple[str, Decimal]] = []  # asset and amount

    @property
    def has_unvalued(self) -> bool:
        """Whether a transfer has no value yet, so that figures would show it as a profit or a loss."""
        return bool(self._unvalued)

    def on_update(self, entries: object) -> Outputs:
        """Process a `balances` update; a snapshot has no entries of the ledger."""
        outputs: Outputs = ()
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and (kind := as_text(entry.get("type"))) in SIGNS:
                outputs += self._on_transfer(entry, kind)
        return outputs

    def _on_transfer(self, entry: dict[str, Any], kind: str) -> Outputs:
        entry_id = as_text(entry.get("ledger_id"))
        if entry_id and entry_id in self._seen:
            return ()  # another connection has pushed it
        if entry_id:
            self._seen[entry_id] = None
            keep_latest(self._seen, MAX_ENTRIES)
        asset, amount = as_text(entry.get("asset")), as_decimal(entry.get("amount"))
        if amount is None or not asset:
            return (UnexplainedMessage(f"a {kind} that cannot be read"),)
        signed = amount if not SIGNS[kind] else SIGNS[kind] * abs(amount)
        if asset == self._currency:
            return (Transferred(asset, signed),)
        self._unvalued.append((asset, signed))
        words = f"{kind} of {abs(signed):f} {asset}: no equity is reported until it is valued in {self._currency}"
        return (UnexplainedMessage(self._evidence(words)),)

    def request_price(self, now: Instant) -> Outputs:
        """Request the price of the oldest transfer without a value."""
        asset = self._unvalued[0][0]
        pair = quote(REST_ASSETS.get(asset, asset) + self._currency, safe="")
        build = self._request(f"/0/public/Ticker?pair={pair}")
        return self._calls.start_call("price", build, now, context=self, on_loss=self.on_loss)

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Report the transfers of the priced asset."""
        price = _last_price(reply.data) if reply.ok else None
        if price is None or not self._unvalued:
            why = "no price" if reply.ok else reply.evidence
            return (UnexplainedMessage(f"the account cannot be measured: a transfer has no value: {why}"),)
        asset = self._unvalued[0][0]
        amounts = [amount for each, amount in self._unvalued if each == asset]
        self._unvalued = [(each, amount) for each, amount in self._unvalued if each != asset]
        return tuple(Transferred(self._currency, amount * price) for amount in amounts)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Try again with the next figures."""
        return ()


def _last_price(data: Any) -> Decimal | None:
    """Read the last trade's price of the only pair of a `Ticker` answer, whatever the pair's spelling."""
    if not isinstance(data, dict) or len(data) != 1:
        return None
    [pair] = data.values()
    last = pair.get("c") if isinstance(pair, dict) else None
    price = as_decimal(last[0]) if isinstance(last, list) and last else None
    return price if price is not None and price > 0 else None
