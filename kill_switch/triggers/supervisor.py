"""Trigger supervisor: build the configured triggers, run each as a task, and restart a task that fails.

A trigger whose task has failed, or that has lost its input, is blind. `status` shows a blind trigger, and it is
announced once. With `on_blind = "fire"`, blindness is a reason to kill.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, assert_never

import anyio

from kill_switch.clock import boot_id
from kill_switch.config.loader import Config
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Reason
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.journal import history
from kill_switch.journal.history import WatchedUntil
from kill_switch.journal.records import StampsRecord
from kill_switch.triggers import rearm_gate
from kill_switch.triggers.base import Trigger, TriggerState
from kill_switch.triggers.blindness import BlindnessMonitor
from kill_switch.triggers.boot_timers import BootTimers
from kill_switch.triggers.earlier_runs import EarlierRuns
from kill_switch.triggers.factory import TriggerFactory
from kill_switch.triggers.flag.amender import ReasonAmender
from kill_switch.triggers.flag.trigger import FlagTrigger
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.intake.stamp_judge import StampJudge
from kill_switch.triggers.link import LinkTrigger
from kill_switch.triggers.order_rate import OrderRateTrigger
from kill_switch.triggers.pnl.trigger import PnlTrigger
from kill_switch.triggers.silences import NEVER, Silences, past_records
from kill_switch.triggers.stall_clock import StallClock
from kill_switch.triggers.succession import Succession
from kill_switch.venues.messages import Equity, OrderPlaced, OrdersFound, Transferred

log = logging.getLogger(__name__)

RESTART_AFTER_S = 1.0  # seconds before a failed task is started again; doubled at each failure in a row
RESTART_CAP_S = 30.0  # seconds; the pause does not grow beyond that
HEALTHY_S = 30.0  # seconds; after a task has run for so long, the pause begins at `RESTART_AFTER_S` again


class TriggerSupervisor:
    """Hold the triggers, by name, in the order of the configuration."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        intake: Intake,
        watched_until: Mapping[str, WatchedUntil],
        announce: Callable[[Announce], None],
        *,
        clock: Callable[[], Instant],
        entries: Sequence[Mapping[str, Any]] = (),
        renamed: Mapping[str, str] = MappingProxyType({}),
        identify: Callable[[int], object] = lambda uid: None,
        on_amended: Callable[[str, str, str], object] = lambda before, after, by: None,
    ) -> None:
        """Build the triggers, and connect the intake to them.

        `watched_until` has, by trigger, until when earlier runs watched it. `entries` are the journal's entries of
        earlier runs. `renamed` maps the new name of a trigger to its name in the last run. `identify` looks up the
        name of a user id and records it. `on_amended` gets the text of a reason before and after an amendment, and
        the owner of the flag's file.
        """
        self.stall_clock = StallClock(clock)
        self._dispatcher = dispatcher
        self._intake = intake
        self._task_failures: dict[str, str] = {}  # trigger → why its task ended
        self._begun = False  # the record of the daemon's start is written
        self._earlier = EarlierRuns(entries, watched_until, renamed)
        new_names = {was: name for name, was in renamed.items()}
        past_silences = [
            replace(record, trigger=new_names.get(record.trigger, record.trigger)) for record in past_records(entries)
        ]
        self.silences = Silences(dispatcher.record_durably, announce, clock, boot_id(), past_silences)
        self._clock = clock
        self._amender = ReasonAmender(dispatcher.record_durably, announce, identify, on_amended)
        self._factory = TriggerFactory(
            dispatcher,
            self._earlier,
            self._amender,
            stall_clock=self.stall_clock,
            silences=self.silences,
            drain_intake=intake.drain,
            announce=announce,
            clock=clock,
        )
        self._succession = Succession(self._earlier, dispatcher.record_durably, announce)
        self._blindness = BlindnessMonitor(announce, self._fire, clock)
        stamp_judge = StampJudge(intake.since, boot_id(), partial(dispatcher.record_durably, StampsRecord.kind))
        stamp_judge.restore(history.records_of_kind(entries, StampsRecord))
        self._boot_timers = BootTimers(clock, self._ready_accounts, stamp_judge.settles_ns)
        self.triggers: Mapping[str, Trigger] = {}
        self._heartbeats: Mapping[str, HeartbeatTrigger] = {}
        self._pnls: Mapping[str, PnlTrigger] = {}
        self._order_rates: Sequence[OrderRateTrigger] = ()
        self._install(config, {name: self._factory.build(config, name) for name in config.triggers}, stamp_judge)

    # ── the configuration ─────────────────────────────────────────────────────────────────────────────────────────

    def prepare_reload(
        self, config: Config, begun: Iterable[str], renamed: Mapping[str, str] = MappingProxyType({})
    ) -> Callable[[], None]:
        """Build the triggers that another configuration begins, and return a function that installs them.

        `begun` names these triggers. `renamed` maps the new name of a trigger to the name of its predecessor.
        """
        self._earlier.forget()
        for pnl in self._pnls.values():
            pnl.save()  # its successor reads this record
        triggers = {name: self._factory.build(config, name) for name in begun}

        def install() -> None:
            for name, trigger in triggers.items():
                if name in renamed:
                    self._succession.take_over(trigger, self.triggers[renamed[name]])
                else:
                    self._succession.inherit(trigger, self.triggers.get(name))
            self.silences.rename({name: renamed[name] for name in triggers if name in renamed})
            self._install(config, {name: triggers.get(name) or self.triggers[name] for name in config.triggers})

        return install

    def _install(self, config: Config, triggers: Mapping[str, Trigger], stamp_judge: StampJudge | None = None) -> None:
        for name, trigger in triggers.items():
            self._set_accounts(trigger, config.triggers[name].accounts)
        kept = {name for name, trigger in triggers.items() if trigger is self.triggers.get(name)}
        self._task_failures = {name: why for name, why in self._task_failures.items() if name in kept}
        self._blindness.retain(kept)
        self._on_blind = {name: trigger_config.on_blind for name, trigger_config in config.triggers.items()}
        self.triggers = triggers
        self._degraded = config.daemon.ready == "degraded"
        heartbeats = {name: t for name, t in triggers.items() if isinstance(t, HeartbeatTrigger)}
        for name in self._heartbeats.keys() - heartbeats.keys():
            self._succession.end_heartbeat(self._heartbeats[name], heartbeats.values())
        pnls = {name: t for name, t in triggers.items() if isinstance(t, PnlTrigger)}
        for name in self._pnls.keys() - pnls.keys():
            self._succession.end_pnl(name)
        self._heartbeats, self._pnls = heartbeats, pnls
        self._order_rates = [t for t in triggers.values() if isinstance(t, OrderRateTrigger)]
        self._boot_timers.set_heartbeats(heartbeats)
        if self._begun:
            self.silences.retain({name: trigger.kind for name, trigger in triggers.items()})
        self._intake.configure(heartbeats, pnls, stamp_judge)
        if self._begun:
            self.start_boot_timers()

    def _set_accounts(self, trigger: Trigger, accounts: tuple[str, ...]) -> None:
        """Set the accounts of a trigger; a tripped trigger starts over if an account joins it.

        Its reason concerned the other accounts only. A link and an order rate judge each account by itself.
        """
        before = self.triggers.get(trigger.name)
        has_joined = before is not None and not set(accounts) <= set(before.accounts)
        starts_over = has_joined and not isinstance(trigger, LinkTrigger | OrderRateTrigger)
        if starts_over and self._state(trigger)[0] is TriggerState.TRIPPED:
            trigger.on_rearmed()
        trigger.set_accounts(accounts)

    # ── inputs ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_fact(self, account: str, fact: Equity | Transferred | OrderPlaced | OrdersFound) -> None:
        """Pass a fact that a venue reports of an account to the triggers that watch for it."""
        match fact:
            case Equity(amounts, asked_ns):
                for pnl in self._pnls.values():
                    pnl.on_equity(account, amounts, asked_ns)
            case Transferred(currency, amount):
                for pnl in self._pnls.values():
                    pnl.on_transfer(account, currency, amount)
            case OrderPlaced(order):
                for rate in self._order_rates:
                    rate.on_order_placed(account, order.id)
            case OrdersFound(ids, since_ns):
                for rate in self._order_rates:
                    rate.on_orders_found(account, ids, since_ns)
            case _:
                assert_never(fact)

    def accounts_with_equity(self) -> tuple[str, ...]:
        """Return the accounts whose equity a pnl trigger watches."""
        pnls = self._pnls.values()
        return tuple(dict.fromkeys(name for pnl in pnls if pnl.terms.from_accounts for name in pnl.accounts))

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_boot_timers(self) -> None:
        """Start the time-outs of heartbeats whose accounts have all been ready, or have had `READY_WITHIN_S`.

        With `ready = "degraded"` no time-out waits for accounts. Call it at each look, from the moment on at which the
        record of the daemon's start is written, because it writes records too.
        """
        if not self._begun:
            self._begun = True
            self._succession.account_for_earlier_runs(self._heartbeats, self._pnls)
            self.silences.retain({name: trigger.kind for name, trigger in self.triggers.items()})
        self.silences.look()
        self._boot_timers.start_due(wait_for_accounts=not self._degraded)
        for heartbeat in self._heartbeats.values():
            heartbeat.save()

    def _ready_accounts(self) -> set[str]:
        return {name for name, session in self._dispatcher.sessions.items() if session.status.is_ready}

    async def run(self, trigger: Trigger) -> None:
        """Run a trigger forever; restart it when its task fails or ends."""
        wait_s = RESTART_AFTER_S
        while True:
            began_s = anyio.current_time()
            try:
                await trigger.run(self._fire)
                self._task_failures[trigger.name] = "its task ended; the daemon starts it again"
            except Exception as error:
                words, fields = "trigger %s failed; the daemon starts it again within %g s", {"trigger": trigger.name}
                log.exception(words, trigger.name, RESTART_CAP_S, extra=fields)
                failure = f"its task failed: {type(error).__name__}; the daemon starts it again, the log says more"
                self._task_failures[trigger.name] = failure
            if anyio.current_time() - began_s >= HEALTHY_S:
                wait_s = RESTART_AFTER_S
            await anyio.sleep(wait_s)
            wait_s = min(2 * wait_s, RESTART_CAP_S)
            self._task_failures.pop(trigger.name, None)

    def _fire(self, reason: Reason) -> bool:
        """Report a trigger's reason to the dispatcher, unless a silence holds it back; return whether one does.

        An earlier run's silence of a trigger that is a flag now is in force until the first look. It holds nothing.
        """
        trigger = self.triggers.get(reason.trigger)
        if (trigger is None or trigger.kind not in NEVER) and self.silences.hold(reason):
            return True
        self._dispatcher.fire(reason)
        self._amender.identify(reason.evidence)
        return False

    # ── states ────────────────────────────────────────────────────────────────────────────────────────────────────

    def states(self) -> dict[str, tuple[TriggerState, str]]:
        """Return the state of each trigger, with a detail for people; a trigger whose task has failed is blind.

        A silenced trigger that has not fired is `silenced`, and its detail has what it sees.
        """
        states, now = self._seen_states(), self._clock()
        for name, silence in self.silences.all_active().items():
            state, detail = states.get(name, (TriggerState.TRIPPED, ""))
            if state is not TriggerState.TRIPPED:
                seen = f"blind, {detail}" if state is TriggerState.BLIND else detail
                states[name] = TriggerState.SILENCED, f"{silence.describe(now)}; now: {seen}"
        return states

    def _seen_states(self) -> dict[str, tuple[TriggerState, str]]:
        """Return the state of each trigger as if none were silenced."""
        return {name: self._state(trigger) for name, trigger in self.triggers.items()}

    def _state(self, trigger: Trigger) -> tuple[TriggerState, str]:
        if trigger.name in self._task_failures:
            return TriggerState.BLIND, self._task_failures[trigger.name]
        try:
            return trigger.state()
        except Exception as error:  # the states of the other triggers must be shown all the same
            return TriggerState.BLIND, f"its state cannot be read: {type(error).__name__}"

    def fires_blind(self, name: str) -> bool:
        """Return whether blindness of that trigger is a reason to kill."""
        return self._on_blind[name] == "fire"

    def blind(self) -> int:
        """Return the number of blind triggers."""
        return sum(state is TriggerState.BLIND for state, _ in self._seen_states().values())

    def notice_blind(self) -> None:
        """Announce triggers that have become blind, and fire for those with `on_blind = "fire"`."""
        blind = {name: detail for name, (state, detail) in self._seen_states().items() if state is TriggerState.BLIND}
        firing = {
            name: self.triggers[name]
            for name in blind
            if self._on_blind[name] == "fire" and not self._blind_only_because_of_kill(name)
        }
        self._blindness.update(blind, firing)

    def _blind_only_because_of_kill(self, name: str) -> bool:
        """Return whether a trigger is blind only because a kill of some of its accounts is under way."""
        trigger = self.triggers[name]
        return isinstance(trigger, PnlTrigger) and name not in self._task_failures and trigger.is_excused_by_kill()

    # ── re-arms ───────────────────────────────────────────────────────────────────────────────────────────────────

    def watching(self, accounts: set[str]) -> Iterator[Trigger]:
        """Yield the triggers that watch any of the accounts."""
        return (trigger for trigger in self.triggers.values() if accounts.intersection(trigger.accounts))

    async def check_flags(self, accounts: set[str]) -> None:
        """Look for the files of all flags that watch any of the accounts; call it before `rearm_blockers`."""
        async with anyio.create_task_group() as group:
            for trigger in self.watching(accounts):
                if isinstance(trigger, FlagTrigger):
                    group.start_soon(trigger.look)

    def rearm_blockers(self, accounts: set[str], *, force: bool = False) -> Iterator[str]:
        """Yield why triggers that watch any of the accounts would fire again at once after a re-arm.

        `force` overrides what a trigger cannot see, and nothing that it sees.
        """
        states = self._seen_states()
        for trigger in self.watching(accounts):
            state, detail = states[trigger.name]
            blind = detail if state is TriggerState.BLIND else ""
            if trigger.name not in self._task_failures:
                blind = rearm_gate.find_blindness(trigger, accounts, blind)
            if blocker := rearm_gate.find_blocker(trigger, accounts, force=force):
                yield f"trigger {trigger.name}: {blocker}"
            elif blind and self._on_blind[trigger.name] == "fire":
                yield f'trigger {trigger.name}: it is blind, and has on_blind = "fire": {blind}'

    def on_rearmed(self, trigger: Trigger, accounts: Collection[str]) -> None:
        """Start a trigger over, because a person has re-armed these accounts."""
        rearm_gate.start_over(trigger, accounts)
