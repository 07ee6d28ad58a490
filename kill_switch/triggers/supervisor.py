"""Make the triggers that the configuration names, and keep each running: none can be silently absent.

A trigger whose task dies is blind, visibly, until it runs again; one that cannot see its input is too. Either is said
aloud once, and taken for a reason where the configuration says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, assert_never

import anyio

from kill_switch.clock import boot_id
from kill_switch.config import schema
from kill_switch.config.loader import Config
from kill_switch.core.domain import Instant, Phase, Reason, Severity
from kill_switch.core.engine import Announce
from kill_switch.core.on_change import OnChange
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.journal import history
from kill_switch.journal.history import WatchedUntil
from kill_switch.journal.records import AmendmentRecord, HeartbeatRecord, PnlRecord, ScheduleRecord, StampsRecord
from kill_switch.triggers import heartbeat
from kill_switch.triggers.base import Trigger, TriggerState, Unseen
from kill_switch.triggers.flag.trigger import FlagTrigger
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.intake.intake import Intake, IntakeCounters
from kill_switch.triggers.intake.stamp_judge import StampJudge
from kill_switch.triggers.link import LinkTrigger
from kill_switch.triggers.order_rate import OrderRateTrigger, OrderVisibility
from kill_switch.triggers.pnl import restored_day
from kill_switch.triggers.pnl.baseline import ResetTime
from kill_switch.triggers.pnl.day import PnlLimits
from kill_switch.triggers.pnl.trigger import PnlTerms, PnlTrigger
from kill_switch.triggers.schedule import ScheduleTrigger
from kill_switch.triggers.stall_clock import StallClock
from kill_switch.venues.messages import Equity, OrderPlaced, OrdersFound, Transferred

log = logging.getLogger(__name__)
T = TypeVar("T")

RESTART_AFTER_S = 1.0
RESTART_CAP_S = 30.0
HEALTHY_S = 30.0  # a task that has run for so long is started again as after its first failure
REMOVED = "removed"  # why nobody watches any more: the configuration has the trigger no longer
SLACK_S = 1.0  # accounts are asked every so often, and their answers come when they come


class TriggerSupervisor:
    """Hold the triggers, by name, in the order of the configuration."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        intake: Intake,
        seen: Mapping[str, WatchedUntil],
        announce: Callable[[Announce], None],
        *,
        clock: Callable[[], Instant],
        entries: Sequence[Mapping[str, Any]] = (),
        renamed: Mapping[str, str] = MappingProxyType({}),
        identify: Callable[[int], object] = lambda uid: None,
        on_amended: Callable[[str, str], object] = lambda words, after: None,
    ) -> None:
        """`seen` says, by trigger, until when earlier runs have watched it; `entries` are what they have recorded.

        `renamed` has triggers that had another name in the last run: new name → old name.
        `identify` has a user's name put on record, once it is found. `on_amended` gets what a reason was called, and
        what it is called now.
        """
        self.stall_clock = StallClock(clock)
        self._identify_user = identify
        self._on_amended = on_amended
        self._dispatcher = dispatcher
        self._announce = announce
        self._clock = clock
        self._task_failures: dict[str, str] = {}  # trigger → why its task died
        self._blind = OnChange()
        self._fired_blind: set[str] = set()  # of whom that has been a reason
        self._intake = intake
        self._begun = False
        self._waiting: dict[str, int] = {}  # heartbeats that count once their accounts are ready → since when they wait
        self._ready: set[str] = set()  # accounts that have been ready
        ledgers = history.records_of_kind(entries, PnlRecord)
        self._ledgers: dict[str, Mapping[str, Any]] = {one.trigger: one.to_json() for one in ledgers}
        self._beats = {one.trigger: one for one in history.records_of_kind(entries, HeartbeatRecord)}
        fired = {one.trigger: one for one in history.records_of_kind(entries, ScheduleRecord)}
        self._fired = _under_new_names(fired, renamed)
        self._seen = _under_new_names(seen, renamed)
        self._renamed = renamed
        intake.stamps = StampJudge(intake.since, boot_id(), partial(dispatcher.record_durably, StampsRecord.kind))
        intake.stamps.restore(history.records_of_kind(entries, StampsRecord))
        self.triggers: Mapping[str, Trigger] = {}
        self._install(config, {name: self._make(config, name) for name in config.triggers})

    def prepare_reload(
        self, config: Config, begun: Iterable[str], renamed: Mapping[str, str] = MappingProxyType({})
    ) -> Callable[[], None]:
        """Make the triggers that another configuration begins; return what puts it, with them, into effect.

        Those in `renamed`, new name → old name, go on from one that it ends.
        """
        self._seen, self._beats, self._fired = {}, {}, {}  # nobody has watched for these before
        self._renamed = {}
        for pnl in self._intake.pnls.values():
            pnl.save()  # what its successor goes on from
        triggers = {name: self._make(config, name) for name in begun}
        for name, trigger in triggers.items():
            if name not in renamed:
                self._inherit(trigger, self.triggers.get(name))

        def take() -> None:
            for name in [name for name in triggers if name in renamed]:
                self._take_over(triggers[name], self.triggers[renamed[name]])
            self._install(config, {name: triggers.get(name) or self.triggers[name] for name in config.triggers})

        return take

    def _install(self, config: Config, triggers: Mapping[str, Trigger]) -> None:
        for name, trigger in triggers.items():
            accounts = config.triggers[name].accounts
            before = self.triggers.get(name)
            joined = before is not None and not set(accounts) <= set(before.accounts)
            if joined and not isinstance(trigger, LinkTrigger) and self._state(trigger)[0] is TriggerState.TRIPPED:
                trigger.on_rearmed()  # what it has fired for was told of the others only; a link tells each by itself
            trigger.accounts = accounts  # of one that goes on, they may be others now
        kept = {name for name, trigger in triggers.items() if trigger is self.triggers.get(name)}
        self._task_failures = {name: why for name, why in self._task_failures.items() if name in kept}
        self._blind.retain(kept)
        self._fired_blind &= kept
        self._on_blind = {name: trigger_config.on_blind for name, trigger_config in config.triggers.items()}
        self.triggers = triggers
        self._degraded = config.daemon.ready == "degraded"
        heartbeats = {name: t for name, t in triggers.items() if isinstance(t, HeartbeatTrigger)}
        for name in self._intake.heartbeats.keys() - heartbeats.keys():
            self._end_heartbeat(self._intake.heartbeats[name], heartbeats.values())
        pnls = {name: t for name, t in triggers.items() if isinstance(t, PnlTrigger)}
        for name in self._intake.pnls.keys() - pnls.keys():
            self._end_pnl(name)
        now_ns = self._clock().mono_ns
        self._waiting = {name: self._waiting.get(name, now_ns) for name, t in heartbeats.items() if not t.booted}
        self._intake.heartbeats = heartbeats
        self._intake.pnls = pnls
        self._order_rates = [t for t in triggers.values() if isinstance(t, OrderRateTrigger)]
        if self._begun:
            self.start_boot_timers()

    def _inherit(self, trigger: Trigger, before: Trigger | None) -> None:
        """Let a trigger go on from the one that it replaces."""
        match trigger, before:
            case HeartbeatTrigger(), HeartbeatTrigger():
                trigger.continue_from(before)
            case ScheduleTrigger(), ScheduleTrigger():
                trigger.continue_from(before)
            case LinkTrigger(), LinkTrigger():
                trigger.continue_from(before)
            case OrderRateTrigger(), OrderRateTrigger():
                trigger.continue_from(before)
            case _:
                pass

    def _take_over(self, trigger: Trigger, before: Trigger) -> None:
        """Let a trigger go on from one of another name, and say so."""
        if not isinstance(trigger, HeartbeatTrigger) or not isinstance(before, HeartbeatTrigger):
            self._inherit(trigger, before)
            return
        trigger.take_over(before)
        if trigger.watched:
            self._announce(Announce(Severity.WARN, _goes_on(trigger, before.name)))

    def _end_heartbeat(self, ended: HeartbeatTrigger, others: Iterable[HeartbeatTrigger]) -> None:
        """Put on record that a heartbeat is watched no more; say aloud if its strategy may die unnoticed now."""
        ended.record_ended()
        if not ended.watched:
            return
        waiting = [other.name for other in others if not other.watched and set(other.accounts) & set(ended.accounts)]
        suffix = f"; {', '.join(waiting)} waits for a first beat" if waiting else ""
        self._announce(
            Announce(Severity.WARN, f"trigger {ended.name} is gone: nobody waits for its beats any more{suffix}")
        )

    def _make(self, config: Config, name: str) -> Trigger:
        trigger_config = config.triggers[name]
        match trigger_config:
            case schema.FlagConfig():
                make = partial(make_flag_directory, trigger_config.path.parent, config.daemon.runtime_dir)
                return FlagTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.path,
                    clock=self._clock,
                    make=make,
                    made=self._flag_directory_made,
                    amend=self._amend,
                )
            case schema.HeartbeatConfig():
                return HeartbeatTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.timeout_s,
                    trigger_config.start,
                    trigger_config.allow_bye,
                    clock=self._clock,
                    attention=self.stall_clock,
                    drain=self._intake.drain,
                    record=partial(self._dispatcher.record_durably, HeartbeatRecord.kind),
                    past=self._beats.get(self._renamed.get(name, name)),
                    tripped=any(self._phase(account).is_tripped for account in trigger_config.accounts),
                )
            case schema.ScheduleConfig():
                seen = self._seen.get(name)
                return ScheduleTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.cron,
                    trigger_config.timezone,
                    trigger_config.missed,
                    clock=self._clock,
                    seen=seen and seen.until,
                    last=seen and seen.last,
                    record=partial(self._dispatcher.record_durably, ScheduleRecord.kind),
                    past=self._fired.get(name),
                )
            case schema.LinkConfig():
                return LinkTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.timeout_s,
                    clock=self._clock,
                    attention=self.stall_clock,
                    reachable=self._reachable,
                    troubles=self._lane_troubles,
                )
            case schema.PnlConfig():
                return self._make_pnl(config, name, trigger_config)
            case schema.OrderRateConfig():
                return OrderRateTrigger(
                    name,
                    trigger_config.accounts,
                    trigger_config.max_new,
                    trigger_config.max_open,
                    trigger_config.window_s,
                    clock=self._clock,
                    attention=self.stall_clock,
                    look=self._orders,
                )
            case _:
                assert_never(trigger_config)

    def _make_pnl(self, config: Config, name: str, pnl_config: schema.PnlConfig) -> PnlTrigger:
        def record(data: Mapping[str, object]) -> None:
            self._ledgers[name] = data
            self._dispatcher.record_durably(PnlRecord.kind, data)

        terms = PnlTerms(
            pnl_config.currency,
            pnl_config.rates,
            PnlLimits(pnl_config.max_loss, pnl_config.max_drawdown, pnl_config.floor),
            pnl_config.confirm,
            pnl_config.stale_after_s,
            pnl_config.warn_at,
            ResetTime(*pnl_config.reset),
            pnl_config.source == "accounts",
            max(config.accounts[account].adapter_class.MEASURE_EVERY_S for account in pnl_config.accounts) + SLACK_S,
        )
        return PnlTrigger(
            name,
            pnl_config.accounts,
            terms,
            clock=self._clock,
            attention=self.stall_clock,
            record=record,
            announce=self._announce,
            past=self._ledgers.get(name),
            phase=self._phase,
        )

    def on_fact(self, account: str, fact: Equity | Transferred | OrderPlaced | OrdersFound) -> None:
        """Hand what a venue tells of an account to the triggers that watch for it."""
        match fact:
            case Equity(amounts, asked_ns):
                for pnl in self._intake.pnls.values():
                    pnl.on_equity(account, amounts, asked_ns)
            case Transferred(currency, amount):
                for pnl in self._intake.pnls.values():
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
        """Name the accounts whose equity somebody watches."""
        pnls = self._intake.pnls.values()
        return tuple(dict.fromkeys(name for pnl in pnls if pnl.terms.from_accounts for name in pnl.accounts))

    def start_boot_timers(self) -> None:
        """Begin to count for heartbeats whose accounts have all been ready, or have had their time.

        With `ready = "degraded"`, the daemon is ready as it is, and nobody waits for an account.
        To be called again and again, from the record of the daemon's start on: it writes records too.
        """
        if not self._begun:
            self._begun = True
            self._say_gone()
        if self._waiting:
            self._ready |= {name for name, session in self._dispatcher.sessions.items() if session.status.is_ready}
            within_s = 0.0 if self._degraded else heartbeat.READY_WITHIN_S
            now_ns = self._clock().mono_ns
            for name, since_ns in list(self._waiting.items()):
                beat, waited_s = self._intake.heartbeats[name], (now_ns - since_ns) / 1e9
                if now_ns + beat.timeout_ns < self._intake.stamps.settles_ns(name):
                    continue  # its time-out would be over before a beat can be taken
                if waited_s >= within_s or self._ready.issuperset(self.triggers[name].accounts):
                    del self._waiting[name]
                    beat.start_boot_timer()
        for beat in self._intake.heartbeats.values():
            beat.save()

    def _say_gone(self) -> None:
        """Say aloud, once, what an earlier run has watched that the configuration has no longer."""
        for name, was in self._renamed.items():
            beat, record = self._intake.heartbeats.get(name), self._beats.get(was)
            if beat is not None and record is not None:
                beat.record_anew()
                if record.watched:
                    self._announce(Announce(Severity.WARN, _goes_on(beat, was)))
        for name, record in self._beats.items():
            if record.watched and name not in self._intake.heartbeats:
                removed = HeartbeatRecord(trigger=name, watched=False, why=REMOVED)
                self._dispatcher.record_durably(removed.kind, removed.to_json())
                if name not in self._renamed.values():
                    text = f"trigger {name} is gone: an earlier run has watched its heartbeat"
                    self._announce(Announce(Severity.WARN, text))
        for name in [name for name in self._ledgers if name not in self._intake.pnls]:
            self._end_pnl(name)

    def _end_pnl(self, name: str) -> None:
        """Say aloud, once, what counts no more because a pnl trigger is gone; its day stays on record."""
        data = self._ledgers.get(name)
        if data is None or data.get("why") == REMOVED or data.get("day") is None:
            return
        self._ledgers[name] = removed = {**data, "why": REMOVED}
        self._dispatcher.record_durably(PnlRecord.kind, removed)
        self._announce(Announce(Severity.WARN, f"trigger {name} is gone: {restored_day.describe_lost(data)}"))

    async def run(self, trigger: Trigger) -> None:
        """Run a trigger for ever, whatever becomes of it."""
        wait_s = RESTART_AFTER_S
        while True:
            began_s = anyio.current_time()
            try:
                await trigger.run(self._fire)
                self._task_failures[trigger.name] = "its task ended"
            except Exception as error:
                log.exception("trigger %s failed; it is started again", trigger.name)
                self._task_failures[trigger.name] = f"its task failed: {type(error).__name__}"
            if anyio.current_time() - began_s >= HEALTHY_S:
                wait_s = RESTART_AFTER_S
            await anyio.sleep(wait_s)
            wait_s = min(2 * wait_s, RESTART_CAP_S)
            self._task_failures.pop(trigger.name, None)

    def _fire(self, reason: Reason) -> None:
        self._dispatcher.fire(reason)
        self._identify(reason.evidence)

    def _identify(self, evidence: Mapping[str, object]) -> None:
        if isinstance(uid := evidence.get("uid"), int):
            self._identify_user(uid)

    def states(self) -> dict[str, tuple[TriggerState, str]]:
        """Return each trigger's state and detail; one whose task died is blind."""
        return {name: self._state(trigger) for name, trigger in self.triggers.items()}

    def _state(self, trigger: Trigger) -> tuple[TriggerState, str]:
        if trigger.name in self._task_failures:
            return TriggerState.BLIND, self._task_failures[trigger.name]
        try:
            return trigger.state()
        except Exception as error:  # one that cannot say how it is must not keep the others from being seen
            return TriggerState.BLIND, f"its state cannot be told: {type(error).__name__}"

    def intake_counts(self) -> IntakeCounters:
        """Return what has come to the intake, in numbers."""
        return self._intake.counts()

    def blind(self) -> int:
        return sum(state is TriggerState.BLIND for state, _ in self.states().values())

    def watching(self, accounts: set[str]) -> Iterator[Trigger]:
        """Yield the triggers that watch any of the accounts."""
        return (trigger for trigger in self.triggers.values() if accounts.intersection(trigger.accounts))

    def rearm_blockers(self, accounts: set[str], *, force: bool = False) -> Iterator[str]:
        """Yield what the triggers that watch any of the accounts have against re-arming them.

        `force` leaves out what a trigger cannot see, and nothing that it does see.
        """
        conditions = self.states()
        for trigger in self.watching(accounts):
            state, detail = conditions[trigger.name]
            blind = detail if state is TriggerState.BLIND else ""
            if trigger.name not in self._task_failures:
                match trigger:  # which may have fired, too: it would fire again for being blind
                    case OrderRateTrigger():
                        blind = trigger.blindness(accounts)  # another account's is not theirs
                    case PnlTrigger():
                        blind = trigger.blindness()
                    case _:
                        pass
            against = self._rearm_blocker(trigger, accounts)
            blockers = [why for why in against if why and not (force and isinstance(why, Unseen))]
            if blockers:
                yield f"trigger {trigger.name}: {blockers[0]}"
            elif blind and self._on_blind[trigger.name] == "fire":
                yield f'trigger {trigger.name}: it is blind, and has on_blind = "fire": {blind}'

    def _rearm_blocker(self, trigger: Trigger, accounts: set[str]) -> tuple[str | None, ...]:
        match trigger:
            case LinkTrigger() | OrderRateTrigger():  # they judge each account by itself
                return (trigger.rearm_blocker(accounts),)
            case PnlTrigger():
                return trigger.rearm_blocker(), trigger.partial_rearm_blocker(accounts)
            case _:
                return (trigger.rearm_blocker(),)

    def on_rearmed(self, trigger: Trigger, accounts: Collection[str]) -> None:
        """Have a trigger start over, since a person has re-armed these accounts."""
        match trigger:
            case LinkTrigger() | OrderRateTrigger():
                trigger.on_rearmed(accounts)
            case _:
                trigger.on_rearmed()

    def notice_blind(self) -> None:
        """Say aloud that a trigger cannot see, once; take it for a reason where the configuration says so."""
        blind = {name: detail for name, (state, detail) in self.states().items() if state is TriggerState.BLIND}
        begun, ended = self._blind.update(blind)
        self._fired_blind.intersection_update(blind)
        for name in ended:
            self._announce(Announce(Severity.INFO, f"trigger {name} sees again"))
        for name in begun:
            self._announce(Announce(Severity.BLIND, f"trigger {name} is blind: {blind[name]}"))
        for name, detail in blind.items():
            if (
                self._on_blind[name] == "fire"
                and name not in self._fired_blind
                and not self._blind_only_because_of_kill(name)
            ):
                self._fired_blind.add(name)
                accounts = self.triggers[name].accounts
                reason = Reason(name, f"it is blind: {detail}", accounts, self._clock(), {"blind": True})
                self._dispatcher.fire(reason)

    async def check_flags(self, accounts: set[str]) -> None:
        """Have the flags that watch any of the accounts looked for now; to be called before `against_rearm`."""
        async with anyio.create_task_group() as group:
            for trigger in self.watching(accounts):
                if isinstance(trigger, FlagTrigger):
                    group.start_soon(trigger.look)

    def _amend(self, reason: Reason, text: str, evidence: Mapping[str, object]) -> None:
        """Add to a reason what its flag's file says, and whose the file is: the kill did not wait for either."""
        record = AmendmentRecord(
            trigger=reason.trigger,
            observed_mono_ns=reason.observed_at.mono_ns,
            observed_wall_ns=reason.observed_at.wall_ns,
            text=text,
            evidence=evidence,
        )
        self._dispatcher.record_durably(record.kind, record.to_json())
        self._identify(evidence)
        if text:
            self._announce(Announce(Severity.INFO, f"trigger {reason.trigger}: its file says: {text}"))
            self._on_amended(f"{reason.trigger}: {reason.text}", f"{reason.trigger}: {text}")

    def _flag_directory_made(self, directory: Path) -> None:
        self._announce(Announce(Severity.WARN, f"{directory} was removed; it is there again"))

    def _blind_only_because_of_kill(self, name: str) -> bool:
        """Tell whether a trigger that lives is blind only because some of its accounts are being struck."""
        trigger = self.triggers[name]
        return isinstance(trigger, PnlTrigger) and name not in self._task_failures and trigger.is_excused_by_kill()

    def _phase(self, account: str) -> Phase:
        known = self._dispatcher.state.accounts.get(account)
        return Phase.ARMED if known is None else known.phase

    def _orders(self, account: str) -> OrderVisibility | None:
        session = self._dispatcher.sessions.get(account)
        if session is None:
            return None
        return OrderVisibility(session.status.sees_new_orders, session.status.open_orders)

    def _lane_troubles(self, account: str) -> Mapping[str, str]:
        session = self._dispatcher.sessions.get(account)
        return {} if session is None else session.status.troubles()

    def _reachable(self) -> dict[str, bool]:
        return {name: session.status.is_reachable for name, session in self._dispatcher.sessions.items()}


def _under_new_names(known: Mapping[str, T], renamed: Mapping[str, str]) -> Mapping[str, T]:
    return {**known, **{name: known[was] for name, was in renamed.items() if was in known}}


def _goes_on(beat: HeartbeatTrigger, was: str) -> str:
    within = f"{beat.timeout_ns / 1e9:g} s"
    return f"trigger {was} is now {beat.name}: it fires if no beat comes under the new name within {within}"


def make_flag_directory(directory: Path, runtime_dir: Path) -> bool:
    """Make a flag's directory below our own, where tmpfiles(5) has not: its group may put the flag there.

    True if it is new. Where it cannot be made, the flag's trigger is blind, and says so. Waits for the file system.
    """
    try:
        if not directory.is_relative_to(runtime_dir) or directory.exists():
            return False
        directory.mkdir(parents=True)
        directory.chmod(0o2770)
    except OSError:
        return False
    return True
