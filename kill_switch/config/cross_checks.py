"""Check each trigger against the accounts that it watches: keys may be valid alone and contradict each other.

The loader calls `problems` once accounts and triggers are read. Nothing is changed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, assert_never

from kill_switch.config.accounts import AccountConfig
from kill_switch.config.messages import config_path
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
from kill_switch.errors import Problem

if TYPE_CHECKING:
    from kill_switch.venues.kit.cadence import Cadence

MEASURES_TO_STALE = 3  # measurements within `stale_after`: one answer may be lost and the next one be late


def problems(
    triggers: Mapping[str, AnyTrigger], accounts: Mapping[str, AccountConfig], second_route_after_s: float
) -> Iterator[Problem]:
    """Yield a problem for each contradiction; accounts that could not be read are left out."""
    from kill_switch.venues.sharing import plan_cadences

    cadences = plan_cadences({name: account.member for name, account in accounts.items()}, measured(triggers))
    for name, trigger in triggers.items():
        watched = [accounts[account] for account in trigger.accounts if account in accounts]
        match trigger:
            case PnlConfig():
                yield from _pnl(config_path("triggers", name), trigger, watched, cadences)
            case OrderRateConfig():
                yield from _order_rate(config_path("triggers", name), trigger, watched, second_route_after_s)
            case FlagConfig() | HeartbeatConfig() | ScheduleConfig() | LinkConfig():
                pass
            case _:
                assert_never(trigger)


def measured(triggers: Mapping[str, AnyTrigger]) -> frozenset[str]:
    """Return the accounts whose equity a trigger needs from their venues."""
    pnls = [each for each in triggers.values() if isinstance(each, PnlConfig) and each.source == "accounts"]
    return frozenset(account for pnl in pnls for account in pnl.accounts)


def _pnl(path: str, pnl: PnlConfig, watched: list[AccountConfig], cadences: Mapping[str, Cadence]) -> Iterator[Problem]:
    if pnl.max_loss is None and pnl.max_drawdown is None and pnl.floor is None:
        yield Problem(path, "no limit", "expected at least one of max_loss, max_drawdown, floor")
    if pnl.currency in pnl.rates:
        yield Problem(config_path(path, "rates", pnl.currency), "the currency of the trigger itself", "leave it out")
    if pnl.source == "intake":
        if pnl.rates:
            hint = f"leave it out: figures from outside are in {pnl.currency}"
            yield Problem(config_path(path, "rates"), 'given, with source = "intake"', hint)
        return
    for account in watched:
        if not account.adapter_class.MEASURES_EQUITY:
            description = f"{account.name} at {account.venue} does not report its equity"
            hint = 'leave the account out, or let another program report: source = "intake"'
            yield Problem(config_path(path, "accounts"), description, hint)
    known = {pnl.currency, *pnl.rates}
    measured_in = {
        currency: account
        for account in reversed(watched)
        for currency in account.adapter_class.currencies(account.options)
    }
    for currency in sorted(measured_in.keys() - known):
        account = measured_in[currency]
        description = f"no rate for {currency}, in which {account.name} at {account.venue} is measured"
        hint = f'expected {currency} = "…": what one {currency} is worth in {pnl.currency}'
        yield Problem(config_path(path, "rates"), description, hint)
    slowest = max(watched, key=lambda account: cadences[account.name].equity_every_s, default=None)
    every_s = 0.0 if slowest is None else math.ceil(cadences[slowest.name].equity_every_s)
    if slowest is not None and pnl.stale_after_s < MEASURES_TO_STALE * every_s:
        least = format_duration(MEASURES_TO_STALE * every_s)
        hint = f"expected {least} or more: {slowest.name} is measured every {format_duration(every_s)}"
        if every_s > slowest.adapter_class.MEASURE_EVERY_S:
            hint += ", because of its venue's limits"
        yield Problem(config_path(path, "stale_after"), format_duration(pnl.stale_after_s), hint)


def _order_rate(
    path: str, rate: OrderRateConfig, watched: list[AccountConfig], second_route_after_s: float
) -> Iterator[Problem]:
    if rate.max_new is None and rate.max_open is None:
        yield Problem(path, "no limit", "expected at least one of max_new, max_open")
    for account in watched:
        if not account.build_adapter(second_route_after_s).pushes_orders:
            description = f"{account.name} at {account.venue} does not report new orders"
            yield Problem(
                config_path(path, "accounts"),
                description,
                "leave the account out: the trigger would not see its orders",
            )
