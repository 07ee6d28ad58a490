"""Separate transfers from profit and loss, by the account log (docs/venues/kraken.md § 9). It sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.messages import Outputs, Transferred, UnexplainedMessage

TRANSFERS = frozenset(
    {"transfer", "cross-exchange transfer", "subaccount transfer", "admin transfer", "deposit", "withdrawal"}
)
FLEX = frozenset({"flex", "mc"})  # names of the multi-collateral account; the cash accounts are in no figure
INVERSE = ("f-", "fi_")  # how the names of inverse accounts begin; their figures are in their own coin


class _Unvalued(NamedTuple):
    asset: str
    amount: Decimal
    came_ns: int


class AccountLogReader:
    """The transfers of one account, each reported once.

    A transfer into the multi-collateral account of another asset than USD is valued as the next figures value it.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.last: Decimal | None = None  # the highest number of an entry; None: no snapshot has come yet
        self.compared_since_ms = 0  # the venue's time of the first figures, with which later ones are compared; 0: none
        self.count = 0  # transfers that were shown, of whatever account and asset
        self._unvalued: list[_Unvalued] = []
        self._prices: dict[str, Decimal] = {}  # asset → worth of one unit in USD, as figures have shown last

    def on_snapshot(self, entries: object, now: Instant) -> Outputs:
        """Process the log so far, as far as it is new: its pushes were lost between two connections.

        To the first connection, entries are new that are younger than the first figures.
        """
        log = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        log.sort(key=_number)
        if self.last is None:
            old = [entry for entry in log if not self._is_compared(entry)]
            self.last = max(map(_number, old), default=Decimal(0))
        return tuple(output for entry in log for output in self.on_entry(entry, now))

    def _is_compared(self, entry: Mapping[str, Any]) -> bool:
        at_ms = _at_ms(entry)
        return self.compared_since_ms > 0 and at_ms is not None and at_ms > self.compared_since_ms

    def on_entry(self, entry: object, now: Instant) -> Outputs:
        """Process one entry of the log."""
        if not isinstance(entry, dict):
            return (UnexplainedMessage("an entry of the account log that cannot be read"),)
        number = as_decimal(entry.get("id"))
        if number is not None and self.last is not None and number <= self.last:
            return ()  # another connection has pushed it
        self.last = self.last if number is None else number
        kind = as_text(entry.get("info")).lower()
        return self._on_transfer(entry, kind, now) if kind in TRANSFERS else ()

    def _on_transfer(self, entry: Mapping[str, Any], kind: str, now: Instant) -> Outputs:
        self.count += 1
        account, asset = as_text(entry.get("margin_account")).lower(), as_text(entry.get("asset")).upper()
        before, after = as_decimal(entry.get("old_balance")), as_decimal(entry.get("new_balance"))
        if not account or not asset or before is None or after is None:
            return (UnexplainedMessage(f"a {kind} that cannot be read"),)
        amount = after - before
        if account.startswith(INVERSE) or (account in FLEX and asset == "USD"):
            return (Transferred(asset, amount),)
        if account not in FLEX:
            return ()
        self._unvalued.append(_Unvalued(asset, amount, now.mono_ns))
        return ()

    def value(self, flex: Mapping[str, Any], asked_ns: int) -> Outputs | str:
        """Value the transfers by figures that were requested at `asked_ns`; return why the figures cannot be used."""
        self._note_prices(flex.get("currencies"))
        for each in self._unvalued:
            if each.came_ns > asked_ns:
                return "a transfer came after the request"
            if each.asset not in self._prices:
                return self._evidence(f"a transfer of {each.amount:f} {each.asset} has no value in USD")
        valued, self._unvalued = self._unvalued, []
        return tuple(Transferred("USD", each.amount * self._prices[each.asset]) for each in valued)

    def _note_prices(self, currencies: object) -> None:
        for asset, item in currencies.items() if isinstance(currencies, dict) else ():
            figures = item if isinstance(item, dict) else {}
            quantity, value = as_decimal(figures.get("quantity")), as_decimal(figures.get("value"))
            if quantity and value is not None and value / quantity > 0:
                self._prices[str(asset).upper()] = value / quantity


def _number(entry: Mapping[str, Any]) -> Decimal:
    return as_decimal(entry.get("id")) or Decimal(0)


def _at_ms(entry: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(as_text(entry.get("date"))).timestamp() * 1000
    except (ValueError, OverflowError):
        return None
