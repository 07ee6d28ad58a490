"""Build one trigger of each kind from its configuration; the supervisor uses it at the start and at a reload.

A new kind of trigger gets a case here. The factory starts no task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import assert_never

from kill_switch.config import schema
from kill_switch.config.loader import Config
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Phase
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.journal.records import HeartbeatRecord, PnlRecord, ScheduleRecord
from kill_switch.triggers.base import Trigger
from kill_switch.triggers.earlier_runs import EarlierRuns
from kill_switch.triggers.flag.amender import ReasonAmender
from kill_switch.triggers.flag.directory import make_directory
from kill_switch.triggers.flag.trigger import FlagTrigger
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.link import LinkTrigger
from kill_switch.triggers.order_rate import OrderRateTrigger, OrderVisibility
from kill_switch.triggers.pnl.baseline import ResetTime
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.terms import PnlTerms
from kill_switch.triggers.pnl.trigger import PnlTrigger
from kill_switch.triggers.schedule import ScheduleTrigger
from kill_switch.triggers.silences import Silences
from kill_switch.triggers.stall_clock import StallClock
from kill_switch.venues.sharing import plan_cadences

SLACK_S = 1.0  # seconds; how much later than planned an equity reply may come


class TriggerFactory:
    """Build triggers that read their inputs from the dispatcher's sessions and from the intake."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        earlier: EarlierRuns,
        amender: ReasonAmender,
        *,
        stall_clock: StallClock,
        silences: Silences,
        drain_intake: Callable[[], None],
        announce: Callable[[Announce], None],
        clock: Callable[[], Instant],
    ) -> None:
        """Keep what triggers are built from; `drain_intake` reads all datagrams that wait in the intake's sockets."""
        self._dispatcher = dispatcher
        self._earlier = earlier
        self._amender = amender
        self._stall_clock = stall_clock
        self._silences = silences
        self._drain_intake = drain_intake
        self._announce = announce
        self._clock = clock

    def build(self, config: Config, name: str) -> Trigger:
        """Build the trigger with this name, with the last record that an earlier run left of it."""
        trigger_config = config.triggers[name]
        match trigger_config:
            case schema.FlagConfig():
                make = partial(make_directory, trigger_config.path.parent, config.daemon.runtime_dir)
                return FlagTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.path,
                    clock=self._clock,
                    make=make,
                    on_directory_made=self._amender.on_directory_made,
                    amend=self._amender.amend,
                )
            case schema.HeartbeatConfig():
                return HeartbeatTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.timeout_s,
                    trigger_config.start,
                    trigger_config.allow_bye,
                    clock=self._clock,
                    attention=self._stall_clock,
                    drain=self._drain_intake,
                    record=partial(self._dispatcher.record_durably, HeartbeatRecord.kind),
                    past=self._earlier.heartbeat(name),
                    tripped=all(self._phase(account).is_tripped for account in trigger_config.accounts),
                )
            case schema.ScheduleConfig():
                watched = self._earlier.watched_until.get(name)
                return ScheduleTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.cron,
                    trigger_config.timezone,
                    trigger_config.missed,
                    clock=self._clock,
                    seen=watched and watched.until,
                    last=watched and watched.last,
                    record=partial(self._dispatcher.record_durably, ScheduleRecord.kind),
                    past=self._earlier.schedules.get(name),
                    is_silenced=partial(self._silences.covers, name),
                )
            case schema.LinkConfig():
                return LinkTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.timeout_s,
                    clock=self._clock,
                    attention=self._stall_clock,
                    reachable=self._reachable,
                    troubles=self._lane_troubles,
                )
            case schema.PnlConfig():
                return self._build_pnl(config, name, trigger_config)
            case schema.OrderRateConfig():
                return OrderRateTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.max_new,
                    trigger_config.max_open,
                    trigger_config.window_s,
                    clock=self._clock,
                    attention=self._stall_clock,
                    look=self._orders,
                )
            case _:
                assert_never(trigger_config)

    def _build_pnl(self, config: Config, name: str, pnl_config: schema.PnlConfig) -> PnlTrigger:
        def record(data: Mapping[str, object]) -> None:
            self._earlier.pnls[name] = data
            self._dispatcher.record_durably(PnlRecord.kind, data)

        cadences = plan_cadences({each: known.member for each, known in config.accounts.items()}, config.measured)
        terms = PnlTerms(
            pnl_config.currency,
            pnl_config.rates,
            PnlLimits(pnl_config.max_loss, pnl_config.max_drawdown, pnl_config.floor),
            pnl_config.confirm,
            pnl_config.stale_after_s,
            pnl_config.warn_at,
            ResetTime(*pnl_config.reset),
            pnl_config.source == "accounts",
            max(cadences[account].equity_every_s for account in pnl_config.accounts) + SLACK_S,
        )
        return PnlTrigger(
            name,
            pnl_config.accounts,
            terms,
            clock=self._clock,
            attention=self._stall_clock,
            record=record,
            announce=self._announce,
            past=self._earlier.pnls.get(name),
            phase=self._phase,
        )

    # ── what triggers read of the accounts ────────────────────────────────────────────────────────────────────────

    def _phase(self, account: str) -> Phase:
        known = self._dispatcher.state.accounts.get(account)
        return Phase.ARMED if known is None else known.phase

    def _orders(self, account: str) -> OrderVisibility | None:
        session = self._dispatcher.sessions.get(account)
        if session is None:
            return None
        return OrderVisibility(session.status.sees_new_orders, session.venue.book.open_orders)

    def _lane_troubles(self, account: str) -> Mapping[str, str]:
        session = self._dispatcher.sessions.get(account)
        return {} if session is None else session.status.troubles()

    def _reachable(self) -> dict[str, bool]:
        return {name: session.status.is_reachable for name, session in self._dispatcher.sessions.items()}
