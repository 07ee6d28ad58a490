"""Parse the record of an earlier run of a pnl trigger, and describe the loss that is not counted any more. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.baseline import UNREADABLE, RestoredDay, TradingDay
from kill_switch.triggers.pnl.describe import describe_uncounted
from kill_switch.triggers.pnl.equity_course import SETTLE_NS, Transfer
from kill_switch.triggers.pnl.samples import MAX_EQUITY, parse_equity

OTHER_FIGURES = "other figures than before"  # why the day of an earlier run does not continue
UNREADABLE_DAY = "the record of the day cannot be understood"


def restore_day(past: Mapping[str, Any] | None, meaning: Mapping[str, Any], now: Instant) -> tuple[RestoredDay, str]:
    """Return the days that an earlier run has left, or why its day does not continue.

    `past` is its last record. `meaning` says what figures mean now: accounts, currency and rates.
    """
    if past is None:
        return RestoredDay(), "first"
    if not _same(past.get("of"), meaning):
        return RestoredDay(), OTHER_FIGURES
    if past.get("day") is None:
        return RestoredDay(), "re-arm" if past.get("why") == "re-arm" else "first"
    try:
        seen_ns = past.get("seen_ns")
        ended = tuple(TradingDay.from_json(data) for data in past.get("ended", ()))
        transfers = tuple(_transfer(data, now) for data in past.get("transfers", ()))
        return RestoredDay(
            TradingDay.from_json(past["day"]), ended, None if seen_ns is None else int(seen_ns), transfers
        ), ""
    except UNREADABLE:
        return RestoredDay(), UNREADABLE_DAY


def last_equity(past: Mapping[str, Any] | None, meaning: Mapping[str, Any]) -> Decimal | None:
    """Return the last equity on record; None if there is none, or if it means something else now."""
    return parse_equity(past.get("equity")) if past is not None and _same(past.get("of"), meaning) else None


def _same(of: object, other: Mapping[str, Any]) -> bool:
    """Return whether figures mean the same, by value: the order of accounts and the spelling of rates do not count."""
    match of:
        case {"accounts": list() | tuple() as accounts, "currency": str(currency), "rates": Mapping() as rates}:
            try:
                worths = {name: Decimal(rate) for name, rate in rates.items()}
                others = {name: Decimal(rate) for name, rate in other["rates"].items()}
                return sorted(accounts) == sorted(other["accounts"]) and (currency, worths) == (
                    other["currency"],
                    others,
                )
            except UNREADABLE:
                return False
        case _:
            return False


def _transfer(data: Any, now: Instant) -> Transfer:
    """Parse a transfer; raises one of `UNREADABLE`. Its age is computed from the wall clock."""
    account, worth, reported_ns = data
    amount = Decimal(str(worth))
    if not (isinstance(account, str) and isinstance(reported_ns, int) and abs(amount) < MAX_EQUITY):
        raise ValueError("no transfer")
    age_ns = min(max(0, now.wall_ns - reported_ns), 2 * SETTLE_NS)
    return Transfer(account, amount, now.mono_ns - age_ns)


def describe_lost(past: Mapping[str, Any] | None) -> str:
    """Return the loss that an earlier run counted, in the currency of that run."""
    if past is None:
        return ""
    try:
        fallen = Decimal(past["day"]["baseline"]) - Decimal(past["equity"])
        return describe_uncounted(fallen, str(past["of"]["currency"])) if fallen > 0 else "nothing was lost before"
    except UNREADABLE:
        return "an unknown loss from before is not counted any more"
