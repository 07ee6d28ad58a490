"""Separate deposits, withdrawals and transfers from profit and loss (docs/venues/kraken.md § 9).

The account's equity is in one currency. A transfer of another asset is valued at the venue's last price.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.kit.transfer_values import TransferValues
from kill_switch.venues.messages import Outputs, UnexplainedMessage

TRANSFERS = frozenset({"deposit", "withdrawal", "transfer"})  # types of ledger entries
REST_ASSETS = {"BTC": "XBT", "DOGE": "XDG", "ETH2": "ETH"}  # assets whose name over REST differs
LEDGER_ASSETS = {  # names in the ledger of REST → the WebSocket's; others are the same
    **{f"Z{name}": name for name in ("USD", "EUR", "GBP", "CAD", "JPY", "AUD")},
    **{f"X{name}": name for name in ("ETH", "ETC", "LTC", "MLN", "REP", "XLM", "XMR", "XRP", "ZEC")},
    **{"XXBT": "BTC", "XBT": "BTC", "XXDG": "DOGE", "XDG": "DOGE"},
}
MAX_ENTRIES = 4096  # ledger entries that are remembered: each connection pushes them


class TransferReader:
    """The transfers of one account, each reported once."""

    def __init__(self, values: TransferValues, evidence: Evidence) -> None:
        self._values = values
        self._evidence = evidence
        self._seen: dict[str, None] = {}  # ids of ledger entries
        self._balances: dict[str, Decimal] = {}  # asset → its balance after the last message

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

    def on_ledger(self, entries: Mapping[str, Any], since_ms: int) -> Outputs:
        """Process entries of `Ledgers` by their id; report those after `since_ms` that no connection has pushed."""
        outputs: Outputs = ()
        for entry_id, item in entries.items():
            entry = item if isinstance(item, dict) else {}
            seconds = as_decimal(entry.get("time"))
            if seconds is None or seconds * 1000 > since_ms:
                outputs += self._on_entry(entry, entry_id, as_decimal(entry.get("amount")))
        return outputs

    def _on_update(self, entry: dict[str, Any]) -> Outputs:
        amount = as_decimal(entry.get("amount"))
        is_withdrawal = as_text(entry.get("type")) == "withdrawal"
        if amount is not None and amount > 0 and is_withdrawal and not self._has_risen(entry, amount):
            amount = -amount
        return self._on_entry(entry, as_text(entry.get("ledger_id")), amount)

    def _on_entry(self, entry: Mapping[str, Any], entry_id: str, amount: Decimal | None) -> Outputs:
        """Report an entry that is a transfer; `amount` has the sign of its direction."""
        kind, asset = as_text(entry.get("type")), as_text(entry.get("asset"))
        if kind not in TRANSFERS or (entry_id and entry_id in self._seen):
            return ()  # in the second case a connection or the ledger has shown it
        if entry_id:
            self._seen[entry_id] = None
            keep_latest(self._seen, MAX_ENTRIES)
        if amount is None or not asset:
            return (UnexplainedMessage(f"a {kind} that cannot be read"),)
        base = asset.partition(".")[0]  # DOT.S is staked DOT
        if facts := self._values.report(LEDGER_ASSETS.get(base, base), amount):
            return facts
        currency = self._values.currency
        words = f"{kind} of {abs(amount):f} {asset}: no equity is reported until it is valued in {currency}"
        return (UnexplainedMessage(self._evidence(words)),)

    def _has_risen(self, entry: dict[str, Any], amount: Decimal) -> bool:
        """Return whether an entry has added its amount: a withdrawal that has failed comes back as a withdrawal."""
        before, after = self._balances.get(as_text(entry.get("asset"))), as_decimal(entry.get("balance"))
        return before is not None and after is not None and after - before > amount / 2  # half: a fee goes off


def ticker(asset: str, other: str) -> str:
    """Return the target of the request for the last price of an asset in another one."""
    return f"/0/public/Ticker?pair={quote(''.join(REST_ASSETS.get(each, each) for each in (asset, other)), safe='')}"


def read_last_price(data: Any) -> Decimal | None:
    """Read the last trade's price of the only pair of a `Ticker` answer, whatever the pair's spelling."""
    if not isinstance(data, dict) or len(data) != 1:
        return None
    [pair] = data.values()
    last = pair.get("c") if isinstance(pair, dict) else None
    return as_decimal(last[0]) if isinstance(last, list) and last else None
