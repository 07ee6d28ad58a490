"""Build the record from which the next run of a pnl trigger continues its day. `restored_day` reads it back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from kill_switch.core.domain import Instant
from kill_switch.triggers.pnl.baseline import TradingDay
from kill_switch.triggers.pnl.day import DayTracker
from kill_switch.triggers.pnl.describe import format_utc
from kill_switch.triggers.pnl.samples import INTAKE, Sample
from kill_switch.triggers.pnl.terms import PnlTerms


def describe_meaning(accounts: Sequence[str], terms: PnlTerms) -> dict[str, object]:
    """Return what makes figures comparable: their accounts, currency and rates."""
    return {
        "accounts": list(accounts) if terms.from_accounts else [INTAKE],
        "currency": terms.currency,
        "rates": {currency: str(rate) for currency, rate in terms.rates.items()},
    }


def equity_of(last: Sample | None, known: Decimal | None) -> dict[str, object]:
    """Return the last equity: of this run with its time, else that of an earlier run."""
    if last is not None:
        return {"equity": str(last.worth), "seen_ns": last.at.wall_ns}
    return {} if known is None else {"equity": str(known)}


def day_of(tracker: DayTracker, now: Instant) -> dict[str, object]:
    """Return the day, the days that have ended, and the transfers that figures may not contain yet."""
    data: dict[str, object] = {}
    if tracker.transfers:
        ahead_ns = now.wall_ns - now.mono_ns
        data["transfers"] = [
            [transfer.account, str(transfer.worth), transfer.reported_ns + ahead_ns] for transfer in tracker.transfers
        ]
    if tracker.day is not None:
        data["day"] = tracker.day.to_json()
        data["ended"] = [day.to_json() for day in tracker.days.ended]
    return data


def make_evidence(reached: Sequence[str], terms: PnlTerms, tracker: DayTracker) -> Mapping[str, object]:
    """Return the evidence of a reason: the limits that are reached, the day, and the samples that reach them."""
    return {
        "reached": reached,
        "currency": terms.currency,
        "rates": {currency: str(rate) for currency, rate in terms.rates.items()},
        "limits": {name: str(limit) for name, limit in terms.limits._asdict().items() if limit is not None},
        **_day_evidence(tracker.day),
        "confirm": terms.confirm,
        "samples": [sample.evidence() for sample in tracker.basis_samples],
    }


def _day_evidence(day: TradingDay | None) -> dict[str, object]:
    if day is None:
        return {"baseline": None, "peak": None, "since": None}
    return {"baseline": str(day.baseline), "peak": str(day.peak), "since": format_utc(day.since_ns)}
