"""Texts about equity for people: how much there is, how old it is, how much of each limit is used up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.triggers.pnl.day import DayTracker
from kill_switch.triggers.pnl.equity_course import Transfer
from kill_switch.triggers.pnl.samples import INTAKE, Sample, SampleCollector


def describe_standing(last: Sample, currency: str, age_s: float, tracker: DayTracker) -> str:
    """Return one line about the last sample, which is `age_s` seconds old, and the limits."""
    words = [f"equity {format_money(last.worth)} {currency}, {age_s:.1f} s old"]
    if tracker.day is None:
        words.append(f"the baseline stands after {tracker.days.samples_missing} more sample(s)")
    for limit, (fallen, most) in tracker.falls(tracker.worth(last)).items():
        match limit:
            case "max_loss" if fallen <= 0:
                words.append(f"profit {format_money(-fallen)}, max_loss {format_money(most)}")
            case "max_loss":
                words.append(f"loss {format_money(fallen)} of {format_money(most)} ({fallen * 100 / most:.0f}%)")
            case "max_drawdown":
                words.append(f"drawdown {format_money(fallen)} of {format_money(most)} ({fallen * 100 / most:.0f}%)")
    if tracker.limits.floor is not None:
        words.append(f"floor {format_money(tracker.limits.floor)}")
    if tracker.day is not None:
        words.append(f"since {format_utc(tracker.day.since_ns)} ({tracker.day.why})")
    return ", ".join(words)


def announce_day(name: str, currency: str, tracker: DayTracker, lost: str) -> Announce | None:
    """Return the announcement of the day of trigger `name` that has begun; None if there is no day.

    `lost` says what an earlier run counted as lost and this one does not ("": nothing). A day that a person or the
    reset began is information. Any other beginning is a warning, because a loss may not be counted any more.
    """
    day, days = tracker.day, tracker.days
    if day is None:
        return None
    expected = day.why in ("first", "reset", "re-arm") and not days.end_reason
    words = f"trigger {name}: baseline {format_money(day.baseline)} {currency} ({day.why})"
    words += f": {days.end_reason}" if days.end_reason else ""
    if days.beside is not None:
        words += "; the limits of the day before apply beside it for a day"
    elif lost:
        words += f"; {lost}"
    elif days.uncounted_loss is not None and days.uncounted_loss > 0 and (not expected or day.why == "re-arm"):
        words += f"; {describe_uncounted(days.uncounted_loss, currency)}"
    return Announce(Severity.INFO if expected else Severity.WARN, words)


def announce_duplicate(name: str, currency: str, transfer: Transfer) -> Announce:
    """Return the warning of trigger `name` that a transfer was reported twice."""
    kind = "deposit" if transfer.worth > 0 else "withdrawal"
    amount = f"{format_money(abs(transfer.worth))} {currency}"
    words = f"the venue of {transfer.account} reported a {kind} of {amount} twice, and its equity shows one"
    return Announce(Severity.WARN, f"trigger {name}: {words}: it counts once")


def describe_uncounted(lost: Decimal, currency: str) -> str:
    """Return that an earlier loss is not counted any more."""
    return f"{format_money(lost)} {currency} that were lost before are not counted any more"


def describe_unrated(samples: SampleCollector) -> str:
    """Return which accounts hold a currency that has no rate; "": none."""
    return "; ".join(
        f"{name} holds {held}, and rates has none: add it to the trigger's rates"
        for name, held in samples.unrated.items()
    )


def describe_ignored(samples: SampleCollector) -> str:
    """Return how many figures were ignored, and why the last one was; "": none."""
    return f"{samples.ignored} figure(s) ignored, the last: {samples.why_ignored}" if samples.ignored else ""


def describe_in_doubt(transfers: Iterable[Transfer], currency: str) -> str:
    """Return how much was moved by transfers that no figure certainly contains; "": nothing."""
    worths = [abs(transfer.worth) for transfer in transfers]
    return f"{format_money(sum(worths, Decimal()))} {currency} moved, not found in the figures yet" if worths else ""


def name_figures(accounts: Sequence[str]) -> str:
    """Return a noun for the figures of these accounts."""
    if list(accounts) == [INTAKE]:
        return "figure from outside"
    return f"figure of {', '.join(accounts)}" if len(accounts) == 1 else f"figures of {', '.join(accounts)}"


def format_money(amount: Decimal) -> str:
    """Return an amount with up to two decimals if it is 100 or more, else with up to eight."""
    text = f"{amount.quantize(Decimal('0.01') if abs(amount) >= 100 else Decimal('0.00000001')):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_utc(wall_ns: int) -> str:
    """Return an instant in UTC as ISO 8601, to the second."""
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
