"""The engine's announcements to people: the event, the person who has acted, the remedy. Pure."""

from __future__ import annotations

from kill_switch.core.commands import Announce, RearmPending
from kill_switch.core.domain import Reason, Severity
from kill_switch.core.events import RearmAsked

ORDERS_LEFT_DO = "cancel them on the venue's own page; kill-switch report"
_MOST_NAMED = 3  # accounts that a command names


def kill_begun(reason: Reason) -> Announce:
    """Return that a reason has killed accounts; the report names the person again."""
    do = "find the cause and end it; then kill-switch rearm --reason …"
    return Announce(Severity.TRIP, f"{reason.trigger}: {reason.text}", do=do, by=reason.by)


def orders_left(account: str, left: int | None) -> Announce:
    """Return that an account is not clear at the deadline; the dispatcher adds the ids of its orders."""
    number = "an unknown number of" if left is None else str(left)
    return Announce(Severity.RESIDUE, f"{number} order(s) left, still chasing", account, do=ORDERS_LEFT_DO)


def approval_asked(event: RearmAsked, tripped: tuple[str, ...], pending: RearmPending) -> Announce:
    """Return that a re-arm waits for another person."""
    count = f"{pending.approvals} of {pending.needed} people"
    text = f"{event.user} has approved the re-arm of {', '.join(tripped)} ({event.text}): {count}; it stays tripped"
    scope = "".join(f" --scope {name}" for name in tripped) if len(tripped) <= _MOST_NAMED else ""
    do = f"another person than {event.user} types kill-switch rearm --reason …{scope}"
    return Announce(Severity.APPROVAL, text, do=do)


def rearmed(event: RearmAsked, tripped: tuple[str, ...]) -> Announce:
    """Return that a person has re-armed accounts."""
    return Announce(Severity.REARM, f"{', '.join(tripped)} re-armed by {event.user}: {event.text}")
