"""Describe each trigger in a sentence: the accounts and the condition, as `check` prints it.

The author of a trigger can compare the sentence with the intention. Pure: the configuration alone is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import assert_never

from kill_switch.config.parsers import format_duration
from kill_switch.config.schema import (
    AnyTrigger,
    FlagConfig,
    HeartbeatConfig,
    LinkConfig,
    OrderRateConfig,
    PnlConfig,
    ScheduleConfig,
)

MAX_NAMES = 6  # accounts that a sentence names


def sentence(name: str, trigger: AnyTrigger, all_accounts: Sequence[str]) -> str:
    """Return the sentence: the orders that a trigger cancels, the condition, and its action when it is blind."""
    is_each = isinstance(trigger, LinkConfig | OrderRateConfig)
    whose = _accounts(trigger.accounts, () if is_each else all_accounts)
    if is_each:
        whose = whose.replace("of ", "of each of " if len(trigger.accounts) > 1 else "of ", 1)
    blind = "it fires" if trigger.on_blind == "fire" else "it only notifies"
    return f"{name} ({trigger.kind}) cancels {whose} {_when(trigger)}; when it is blind, {blind}"


def _accounts(names: Sequence[str], all_accounts: Sequence[str]) -> str:
    if len(names) == len(all_accounts) > 1:
        return "the orders of all accounts"
    shown = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
    return f"the orders of {shown}"


def _when(trigger: AnyTrigger) -> str:
    match trigger:
        case FlagConfig():
            return f"once the file {trigger.path} exists"
        case HeartbeatConfig():
            begins = "from the first beat on" if trigger.start == "first-beat" else "from the start on"
            bye = ", unless a goodbye was sent" if trigger.allow_bye else ""
            return f"when no beat has come for {_span(trigger.timeout_s)}, {begins}{bye}"
        case ScheduleConfig():
            late = "made up for" if trigger.missed == "fire" else "left out"
            return f"at the times of {trigger.cron!r} in {trigger.timezone}, and a missed time is {late}"
        case LinkConfig():
            return f"whose lanes have all been down for {_span(trigger.timeout_s)}"
        case PnlConfig():
            return f"when {' or '.join(_losses(trigger))}, in {trigger.confirm} samples in a row"
        case OrderRateConfig():
            return f"that has {' or '.join(_rates(trigger))}"
        case _:
            assert_never(trigger)


def _losses(trigger: PnlConfig) -> Iterator[str]:
    hour, minute, zone = trigger.reset
    whose = "their equity together" if trigger.source == "accounts" else "the equity that is sent to the intake"
    if trigger.max_loss is not None:
        reset = f"since {hour:02}:{minute:02} {zone}"
        yield f"{whose} has fallen by {_amount(trigger.max_loss)} {trigger.currency} {reset}"
    if trigger.max_drawdown is not None:
        yield f"{whose} is {_amount(trigger.max_drawdown)} {trigger.currency} below the day's peak"
    if trigger.floor is not None:
        yield f"{whose} is {_amount(trigger.floor)} {trigger.currency} or less"


def _rates(trigger: OrderRateConfig) -> Iterator[str]:
    window = _span(trigger.window_s)
    if trigger.max_new is not None:
        yield f"more than {trigger.max_new} new orders within {window}"
    if trigger.max_open is not None:
        yield f"more than {trigger.max_open} open orders during all of {window}"


def _amount(amount: Decimal) -> str:
    return f"{amount:,f}"


def _span(duration_s: float) -> str:
    return format_duration(duration_s)
