"""State what a day is: what equity is measured against until the next reset, and how the record tells it. Pure.

A day begins at a wall time in a zone. Its date is what tells it from the day before, so that neither the hour that a
zone's clocks show twice nor a clock that is set back begins it a second time.
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

UNREADABLE = (KeyError, TypeError, ValueError, OSError, ArithmeticError)  # what reading a day back raises


class ResetTime(NamedTuple):
    """When a day begins."""

    hour: int
    minute: int
    zone: str

    def date(self, wall_ns: int) -> Date:
        """Return the date of the last reset before that instant, where the reset lives."""
        there = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).astimezone(ZoneInfo(self.zone))
        began = (there.hour, there.minute) >= (self.hour, self.minute)
        return there.date() if began else there.date() - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TradingDay:
    """What equity is measured against until the next reset."""

    date: Date
    why: str  # it began: "first", "reset", "re-arm", …
    since_ns: int  # wall time
    baseline: Decimal
    peak: Decimal
    warned: Mapping[str, int] = field(default_factory=dict)  # limit → the per cents that people know of
    taken_ns: int = 0  # monotonic; 0: in an earlier run

    def after_transfer(self, worth: Decimal) -> TradingDay:
        """Return it in money of after a transfer of so much."""
        return replace(self, baseline=self.baseline + worth, peak=self.peak + worth)

    def to_json(self) -> dict[str, object]:
        """Return it for the record."""
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
        """Read it back; raises one of `UNREADABLE` for what is none."""
        baseline, peak = Decimal(data["baseline"]), Decimal(data["peak"])
        if not (-MAX_EQUITY < baseline <= peak < MAX_EQUITY):
            raise ValueError("no baseline and peak")
        since_ns = int(data["since_ns"])
        datetime.fromtimestamp(since_ns // 1_000_000_000, UTC)  # or it raises: no time that can be told
        warned = {str(limit): int(part) for limit, part in dict(data["warned"]).items()}
        return TradingDay(Date.fromisoformat(data["date"]), str(data["why"]), since_ns, baseline, peak, warned)


class RestoredDay(NamedTuple):
    """What an earlier run has left."""

    day: TradingDay | None = None
    ended: tuple[TradingDay, ...] = ()  # days that a clock that is set may bring back, the latest last
    seen_ns: int | None = None  # when its last sample came, wall time; None: nobody knows
    transfers: tuple[Transfer, ...] = ()  # that figures may not contain yet
