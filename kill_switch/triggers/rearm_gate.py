"""Decide what a trigger has against a re-arm, and let it start over after one; the supervisor uses it.

A kind of trigger that judges each account by itself gets a case in each function here.
"""

from __future__ import annotations

from collections.abc import Collection

from kill_switch.triggers.base import Trigger, Unseen
from kill_switch.triggers.link import LinkTrigger
from kill_switch.triggers.order_rate import OrderRateTrigger
from kill_switch.triggers.pnl.trigger import PnlTrigger


def find_blocker(trigger: Trigger, accounts: Collection[str], *, force: bool) -> str | None:
    """Return why the trigger would fire again at once if these accounts were re-armed; None: it would not.

    `force` overrides what the trigger cannot see, and nothing that it sees.
    """
    match trigger:
        case LinkTrigger() | OrderRateTrigger():  # they judge each account by itself
            blockers: tuple[str | None, ...] = (trigger.rearm_blocker(accounts),)
        case PnlTrigger():
            blockers = trigger.rearm_blocker(), trigger.partial_rearm_blocker(accounts)
        case _:
            blockers = (trigger.rearm_blocker(),)
    return next((why for why in blockers if why and not (force and isinstance(why, Unseen))), None)


def find_blindness(trigger: Trigger, accounts: Collection[str], detail: str) -> str:
    """Return why the trigger is blind for these accounts ("": it is not).

    `detail` is the detail of its state if that is blind, else "". A trigger that has fired shows `tripped`, and may be
    blind too.
    """
    match trigger:
        case OrderRateTrigger():
            return trigger.blindness(accounts)  # the blindness of another account does not concern these
        case PnlTrigger():
            return trigger.blindness()
        case _:
            return detail


def start_over(trigger: Trigger, accounts: Collection[str]) -> None:
    """Start a trigger over, because a person has re-armed these accounts."""
    match trigger:
        case LinkTrigger() | OrderRateTrigger():
            trigger.on_rearmed(accounts)
        case _:
            trigger.on_rearmed()
