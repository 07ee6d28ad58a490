"""Separate transfers from profit and loss, by the account log (docs/venues/kraken.md § 9). It sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import Evidence, as_decimal, as_text
from kill_switch.venues.kit.missed_pushes import MissedPushes
from kill_switch.venues.messages import Output, Outputs, Transferred, UnexplainedMessage

DOCUMENTED = ("transfer", "cross-exchange transfer", "subaccount transfer", "admin transfer")
TRANSFERS = frozenset({*DOCUMENTED, "deposit", "withdrawal"})
FLEX = frozenset({"flex", "mc"})  # names of the multi-collateral account; the cash accounts are in no figure
INVERSE = ("f-", "fi_")  # how the names of inverse accounts begin; their figures are in their own coin
MAX_ENTRIES = 4096  # transfers that are remembered
UNVALUED_S = 600.0  # after which a transfer of an asset that no figures show counts as profit or loss


class _Unvalued(NamedTuple):
    asset: str
    amount: Decimal
    came_ns: int


class AccountLogReader:
    """The transfers of one account, each reported once; rows may come twice, late, and in any order.

    A transfer into the multi-collateral account of another asset than USD is valued as the next figures value it.
    """

    def __init__(self, evidence: Evidence, on_pushed: Callable[[], None]) -> None:
        """`on_pushed` is called when a connection begins to push the log."""
        self.missed = MissedPushes()
        self.measured_ms = 0  # the venue's time of the last figures; 0: none were requested
        self.count = 0  # transfers of accounts that are in the figures
        self._evidence = evidence
        self._on_pushed = on_pushed
        self._pushing: set[int] = set()  # connections that push the log
        self._first_ms = 0  # the venue's time of the first figures, with which later ones are compared
        self._last = Decimal(0)  # the highest number of an entry
        self._seen: dict[Decimal, None] = {}  # numbers of transfers, the one that came last at the end
        self._unvalued: list[_Unvalued] = []
        self._prices: dict[str, Decimal] = {}  # asset → worth of one unit in USD, as figures have shown last

    # what is pushed

    @property
    def is_pushed(self) -> bool:
        """Whether a connection pushes the log."""
        return bool(self._pushing)

    def on_snapshot(self, conn: int, entries: object, now: Instant) -> Outputs:
        """Process the log as a connection shows it first; from now on the connection pushes what is new."""
        if not isinstance(entries, list):
            return (UnexplainedMessage("a snapshot of the account log that cannot be read"),)
        self._pushing.add(conn)
        self._on_pushed()
        return self.on_log(entries, now)

    def on_closed(self, conn: int) -> None:
        """Forget a connection: behind the last one, pushes may be missing since the last figures."""
        if conn in self._pushing:
            self._pushing.discard(conn)
            if not self._pushing:
                self.missed.note_closed(self.measured_ms)

    def note_measured(self, flex: Mapping[str, Any], at_ms: int) -> bool:
        """Keep the prices and the time of figures; return whether there are earlier ones, with which to compare."""
        self._note_prices(flex)
        self.measured_ms = at_ms
        if not self._first_ms:
            self._first_ms = at_ms
            self.missed.miss_since(at_ms)  # a snapshot that came before has reported nothing
        return self.missed.note_measured(at_ms, is_pushed=self.is_pushed)

    # its entries

    def on_log(self, entries: Iterable[object], now: Instant, *, is_young: bool = False) -> Outputs:
        """Process a part of the log; report the transfers that are new, and younger than the first figures.

        `is_young`: rows without a time are so too, because younger ones were requested. Else the number decides.
        """
        rows, outputs, last = list[tuple[Decimal, Mapping[str, Any]]](), list[Output](), self._last
        for entry in entries:
            row: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
            if (number := as_decimal(row.get("id"))) is not None:
                rows.append((number, row))
            else:  # reported again by each part, it would never end
                outputs.append(UnexplainedMessage("a row of the account log that cannot be read"))
        for number, row in sorted(rows, key=lambda row: row[0]):
            is_undated = time_ms(row.get("date")) is None or not self._first_ms
            if not is_undated or is_young or number > last > 0:
                outputs += self.on_entry(row, now)
            self._last = max(self._last, number)
        return tuple(outputs)

    def on_entry(self, entry: object, now: Instant) -> Outputs:
        """Process one entry that is new, if no other connection or part of the log has shown it."""
        if not isinstance(entry, dict):
            return (UnexplainedMessage("an entry of the account log that cannot be read"),)
        number, kind = as_decimal(entry.get("id")), as_text(entry.get("info")).lower()
        self._last = max(self._last, number or Decimal(0))
        at_ms = time_ms(entry.get("date"))
        is_old = at_ms is not None and at_ms <= self._first_ms  # the first figures contain it
        if kind not in TRANSFERS or number in self._seen or is_old:
            return ()
        if number is not None:
            self._seen[number] = None
            keep_latest(self._seen, MAX_ENTRIES)
        return self._on_transfer(entry, kind, now)

    def _on_transfer(self, entry: Mapping[str, Any], kind: str, now: Instant) -> Outputs:
        account, asset = as_text(entry.get("margin_account")).lower(), as_text(entry.get("asset")).upper()
        before, after = as_decimal(entry.get("old_balance")), as_decimal(entry.get("new_balance"))
        if not account or not asset or before is None or after is None:
            return (UnexplainedMessage(f"a {kind} that cannot be read"),)
        is_inverse, amount = account.startswith(INVERSE), after - before
        if not is_inverse and account not in FLEX:
            return ()
        self.count += 1
        if is_inverse or asset == "USD":
            return (Transferred(asset, amount),)
        self._unvalued.append(_Unvalued(asset, amount, now.mono_ns))
        return ()

    # their values

    def value(self, asked_ns: int, now_ns: int) -> Outputs | str:
        """Value the transfers by figures that were requested at `asked_ns`; return why the figures cannot be used.

        A transfer that no figures can value is given up after `UNVALUED_S`; times are monotonic.
        """
        outputs = list[Output]()
        for each in self._unvalued:
            price = self._prices.get(each.asset)
            if each.came_ns > asked_ns:
                return "a transfer came after the request"
            if price is not None:
                outputs.append(Transferred("USD", each.amount * price))
                continue
            words = self._evidence(f"a transfer of {each.amount:f} {each.asset} has no value in USD")
            if now_ns - each.came_ns < UNVALUED_S * 1e9:
                return words
            outputs.append(UnexplainedMessage(f"{words}: it counts as profit or loss"))
        self._unvalued = []
        return tuple(outputs)

    def _note_prices(self, flex: Mapping[str, Any]) -> None:
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
        return round(datetime.fromisoformat(text).timestamp() * 1000) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
