"""Separate transfers from profit and loss, by the account log (docs/venues/kraken.md § 9). It sends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.messages import Output, Outputs, Transferred, UnexplainedMessage

DOCUMENTED = ("transfer", "cross-exchange transfer", "subaccount transfer", "admin transfer")
TRANSFERS = frozenset({*DOCUMENTED, "deposit", "withdrawal"})
OVERLAP = 100  # rows before the last known one that are read again, because one of them may have been shown late
MAX_ENTRIES = 4096  # transfers that are remembered
FLEX = frozenset({"flex", "mc"})  # names of the multi-collateral account; the cash accounts are in no figure
INVERSE = ("f-", "fi_")  # how the names of inverse accounts begin; their figures are in their own coin


class _Unvalued(NamedTuple):
    asset: str
    amount: Decimal
    came_ns: int


class AccountLogReader:
    """The transfers of one account, each reported once; rows may come twice, late, and in any order.

    A transfer into the multi-collateral account of another asset than USD is valued as the next figures value it.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.compared_since_ms = 0  # the venue's time of the first figures, with which later ones are compared; 0: none
        self.count = 0  # transfers that were shown, of whatever account and asset
        self._last = Decimal(0)  # the highest number of an entry; 0: none has come
        self._floor: Decimal | None = None  # entries up to it are older than all figures; None: none has come
        self._seen: dict[Decimal, None] = {}  # numbers of transfers, the one that came last at the end
        self._unvalued: list[_Unvalued] = []
        self._prices: dict[str, Decimal] = {}  # asset → worth of one unit in USD, as figures have shown last

    @property
    def first_wanted(self) -> int | None:
        """The number from which the log is to be read, so that late rows are in it; None: by time, none has come."""
        known = max(self._last, self._floor or 0)
        return int(max(self._floor or 0, known - OVERLAP)) + 1 if known else None

    def on_log(self, entries: object, now: Instant) -> Outputs:
        """Process a part of the log; report the transfers that are new.

        In the first part, those are new that are younger than the first figures.
        """
        rows, outputs = list[tuple[Decimal, Mapping[str, Any]]](), list[Output]()
        for entry in entries if isinstance(entries, list) else ():
            number = as_decimal(entry.get("id")) if isinstance(entry, dict) else None
            if number is None:  # reported again by each part, it would never end
                outputs.append(UnexplainedMessage("a row of the account log that cannot be read"))
            else:
                rows.append((number, entry))
        rows.sort(key=lambda row: row[0])
        if self._floor is None and rows:
            self._floor = max((number for number, row in rows if not self._is_younger(row)), default=Decimal(0))
        for _, row in rows:
            if not self.compared_since_ms or self._is_younger(row, unknown=True):
                outputs += self.on_entry(row, now)
        return tuple(outputs)

    def _is_younger(self, row: Mapping[str, Any], *, unknown: bool = False) -> bool:
        """Return whether a row is younger than the first figures; `unknown` if its time cannot be read."""
        at_ms = time_ms(row.get("date"))
        return unknown if at_ms is None else at_ms > self.compared_since_ms > 0

    def on_entry(self, entry: object, now: Instant) -> Outputs:
        """Process one entry that is new, if no other connection or part of the log has shown it."""
        if not isinstance(entry, dict):
            return (UnexplainedMessage("an entry of the account log that cannot be read"),)
        number = as_decimal(entry.get("id"))
        if number is not None and (number in self._seen or number <= (self._floor or 0)):
            return ()
        self._last = max(self._last, number or Decimal(0))
        kind = as_text(entry.get("info")).lower()
        if kind not in TRANSFERS:
            return ()
        if number is not None:
            self._seen[number] = None
            keep_latest(self._seen, MAX_ENTRIES)
        return self._on_transfer(entry, kind, now)

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
        self.note_prices(flex)
        for each in self._unvalued:
            if each.came_ns > asked_ns:
                return "a transfer came after the request"
            if each.asset not in self._prices:
                return self._evidence(f"a transfer of {each.amount:f} {each.asset} has no value in USD")
        valued, self._unvalued = self._unvalued, []
        return tuple(Transferred("USD", each.amount * self._prices[each.asset]) for each in valued)

    def note_prices(self, flex: Mapping[str, Any]) -> None:
        """Keep what figures say an asset is worth, whether they are reported or not."""
        currencies = flex.get("currencies")
        for asset, item in currencies.items() if isinstance(currencies, dict) else ():
            figures = item if isinstance(item, dict) else {}
            quantity, value = as_decimal(figures.get("quantity")), as_decimal(figures.get("value"))
            if quantity and value is not None and value / quantity > 0:
                self._prices[str(asset).upper()] = value / quantity


def highest_number(entries: Iterable[object]) -> int:
    """Return the highest number of entries; 0 if none has one."""
    numbers = [as_decimal(entry.get("id")) or 0 for entry in entries if isinstance(entry, dict)]
    return int(max(numbers, default=0))


def time_ms(text: object) -> int | None:
    """Return the milliseconds of a time of the venue's (RFC 3339); None if it cannot be read."""
    try:
        return round(datetime.fromisoformat(as_text(text)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
