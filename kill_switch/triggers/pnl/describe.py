"""Say where equity stands, for people: how much, how old, how much of each limit is gone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from kill_switch.triggers.pnl.day import DayTracker
from kill_switch.triggers.pnl.samples import Sample

INTAKE = "intake"  # the one account of figures from outside


def describe_standing(last: Sample, currency: str, age_s: float, ledger: DayTracker) -> str:
    """Write one line."""
    words = [f"equity {format_money(last.worth)} {currency}, {age_s:.1f} s old"]
    if ledger.day is None:
        words.append(f"the baseline stands after {ledger.samples_missing} more sample(s)")
    for limit, (fallen, most) in ledger.fallen(ledger.worth(last)).items():
        match limit:
            case "max_loss" if fallen <= 0:
                words.append(f"profit {format_money(-fallen)}, max_loss {format_money(most)}")
            case "max_loss":
                words.append(f"loss {format_money(fallen)} of {format_money(most)} ({fallen * 100 / most:.0f}%)")
            case "max_drawdown":
                words.append(f"drawdown {format_money(fallen)} of {format_money(most)} ({fallen * 100 / most:.0f}%)")
    if ledger.limits.floor is not None:
        words.append(f"floor {format_money(ledger.limits.floor)}")
    if ledger.day is not None:
        words.append(f"since {format_utc(ledger.day.since_ns)} ({ledger.day.why})")
    return ", ".join(words)


def figures_of(names: Sequence[str]) -> str:
    """Name whose figures are meant."""
    if list(names) == [INTAKE]:
        return "figure from outside"
    return f"figure of {', '.join(names)}" if len(names) == 1 else f"figures of {', '.join(names)}"


def format_money(amount: Decimal) -> str:
    """Write an amount: two places for what is large, eight for what is small."""
    text = f"{amount.quantize(Decimal('0.01') if abs(amount) >= 100 else Decimal('0.00000001')):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_utc(wall_ns: int) -> str:
    """Write an instant, to the second."""
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
