"""A trading day: its date, baseline and peak, and its form in the record. Pure.

A day begins at a wall time in a zone, and only its date tells it from the day before. So an hour that the zone's clocks
show twice, or a clock that is set back, does not begin it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import date as Date
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from kill_switch.triggers.pnl.equity_course import Transfer
from kill_switch.triggers.pnl.samples import MAX_EQUITY

UNREADABLE = (KeyError, TypeError, ValueError, OSError, ArithmeticError)  # exceptions that parsing a day raises


class ResetTime(NamedTuple):
    """The wall time at which a day begins."""

    hour: int
    minute: int
    zone: str

    def date(self, wall_ns: int) -> Date:
        """Return the date of the last reset before a wall time, in the reset's zone."""
        local = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).astimezone(ZoneInfo(self.zone))
        began = (local.hour, local.minute) >= (self.hour, self.minute)
        return local.date() if began else local.date() - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TradingDay:
    """The baseline and peak that equity is compared with until the next reset."""

    date: Date
    why: str  # why it began: "first", "reset", "re-arm", …
    since_ns: int  # wall time
    baseline: Decimal
    peak: Decimal
    warned: Mapping[str, int] = field(default_factory=dict)  # limit → per cents that were announced
    taken_ns: int = 0  # monotonic time of the baseline; 0: in an earlier run

    def after_transfer(self, worth: Decimal) -> TradingDay:
        """Return the day shifted by the worth of a transfer."""
        return replace(self, baseline=self.baseline + worth, peak=self.peak + worth)

    def to_json(self) -> dict[str, object]:
        """Return the day for the record."""
        return {
            "date": self.date.isoformat(),
            "why": self.why,
            "since_ns": self.since_ns,
            "baseline": str(self.baseline),
            "peak": str(self.peak),
            "warned": dict(self.warned),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TradingDay:
        """Parse a day of the record; raises one of `UNREADABLE` if it is none."""
        baseline, peak = Decimal(data["baseline"]), Decimal(data["peak"])
        if not (-MAX_EQUITY < baseline <= peak < MAX_EQUITY):
            raise ValueError("no baseline and peak")
        since_ns = int(data["since_ns"])
        datetime.fromtimestamp(since_ns // 1_000_000_000, UTC)  # raises for a time outside of the calendar
        warned = {str(limit): int(part) for limit, part in dict(data["warned"]).items()}
        return TradingDay(Date.fromisoformat(data["date"]), str(data["why"]), since_ns, baseline, peak, warned)


class RestoredDay(NamedTuple):
    """The days and transfers that an earlier run has left."""

    day: TradingDay | None = None
    ended: tuple[TradingDay, ...] = ()  # days that a clock that is set may bring back, the latest last
    seen_ns: int | None = None  # wall time of its last sample; None: unknown
    transfers: tuple[Transfer, ...] = ()  # that figures may not contain yet
