"""The daemon's composition root: it builds all parts, runs their tasks in one task group, and stops them.

`process` runs it. A task that ends is logged and restarted, and the other tasks go on. No decision about a kill is made
here.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import assert_never

import anyio
import anyio.lowlevel

from kill_switch import clock
from kill_switch.config.in_force import APPROVALS, in_force, renamed
from kill_switch.config.loader import Config
from kill_switch.control import handlers
from kill_switch.control.handlers import ControlHandlers
from kill_switch.core import recovery
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Reason, Route
from kill_switch.core.events import Pulse, Recovered
from kill_switch.core.identity import new_salt
from kill_switch.core.records import LatchRecord
from kill_switch.daemon import gc_tuning
from kill_switch.daemon.announcement_log import log_announcement
from kill_switch.daemon.held_signals import SignalHolder
from kill_switch.daemon.last_strikes import LastStrikes
from kill_switch.daemon.listeners import ListenerSet
from kill_switch.daemon.reload import Reloader
from kill_switch.daemon.sd_notify import ServiceNotifier
from kill_switch.daemon.start_and_stop import StartReporter, open_journal, stopped
from kill_switch.daemon.trouble_announcer import TroubleAnnouncer
from kill_switch.dispatch import connect
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.ports import ForwardedFact
from kill_switch.health.account_readiness import ReadinessMonitor
from kill_switch.health.certificate_expiry import CertificateExpiryMonitor
from kill_switch.health.clock_skew import ClockSkewMonitor
from kill_switch.health.drills import DrillRunner
from kill_switch.health.residue_reminder import ResidueReminder
from kill_switch.journal import history
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.latch_lines import parse_latch
from kill_switch.journal.records import Entry, StopRecord
from kill_switch.outbound.metrics import MeasuredParts
from kill_switch.outbound.services import LAST_WORDS_S, OutboundHub
from kill_switch.system.hardening import make_directory
from kill_switch.tasks import TaskSupervisor
from kill_switch.transports.network import Network
from kill_switch.triggers.pnl.poller import EquityPoller
from kill_switch.triggers.supervisor import TriggerSupervisor
from kill_switch.venues import messages

log = logging.getLogger(__name__)

PULSE_S = 0.9  # seconds: latch files are to be found within a second, and a pulse costs an idle daemon CPU time
START_S = 0.25  # seconds between two pulses until the daemon is ready
FINISH_WITHIN_S = 15.0  # seconds for a strike in progress at SIGTERM; systemd's TimeoutStopSec is longer
LATE_STRIKE_WITHIN_S = 5.0  # seconds for a strike that began while the outbound services ended
_SETTLE_S = 0.1  # seconds for the latch of a signal that arrived at the same moment


class Daemon:
    """The running kill switch: its state, its accounts' sessions, and the tasks around them."""

    def __init__(
        self,
        config: Config,
        journal: Journal | None = None,
        listeners: ListenerSet | None = None,
        signals: SignalHolder | None = None,
        systemd: ServiceNotifier | None = None,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        """Rebuild the state from the journal, on the event loop; nothing is connected yet. Raises `KillSwitchError`.

        Without a `journal`, this makes the directories and opens the journal there, which may block. `listeners` may
        be open already, and may hold requests. `signals` may hold signals that the daemon must still handle. `on_stop`
        is called when the stop begins.
        """
        directories = config.daemon.state_dir, config.daemon.runtime_dir
        if journal is None:
            for directory in directories:
                make_directory(directory)
        self._signals = signals or SignalHolder()
        self._signals.set_directories(*directories)
        self._listeners = listeners or ListenerSet(config, self._signals)
        self._systemd = systemd or ServiceNotifier()
        self.journal = journal or open_journal(config, self._systemd.starting)
        contents = self.journal.contents
        self.reports = ReportBuilder(
            int(config.daemon.budget_s * 1e6),
            contents.entries,
            on_measured=lambda stage, us: self.outbound.meter.on_measured(stage, us),
        )
        self.journal.deliver_to(self._on_record)
        self._adapters = adapters = connect.build_adapters(config)
        timings = connect.sweep_timings(adapters, config.measured)
        logins, salt = {name: account.login for name, account in config.accounts.items()}, new_salt()
        state = recovery.rebuild(contents.entries, timings, config.rearm.approvals, logins, salt)
        recorded = history.in_force(contents.entries)
        approvals, configured = recorded.get(APPROVALS), config.rearm.approvals
        if isinstance(approvals, int) and approvals > configured:
            if state.tripped or self.journal.latch_watch.has_foreign_latch:
                state = state._replace(approvals_needed=approvals)
                log.warning("a re-arm takes %d people, as at the time of the trip, not %d", approvals, configured)
        left_tripped = recovery.tripped_unconfigured(contents.entries, logins)
        for name in left_tripped:
            log.error("account %s is tripped, but no account of the configuration has its login", name)
        self.dispatcher = Dispatcher(
            state, self.journal, clock.now, self._call_later, self._announce, self._on_lane_changed, self._on_fact
        )
        self.dispatcher.counts.resume(state.kills_of_accounts(), self.reports.tally, state.renamed)
        self.intake = self._listeners.intake
        now_utc = datetime.fromtimestamp(clock.now().wall_ns / 1e9, UTC)
        watched_until = history.triggers_watched_until(contents.entries, now_utc)
        self.supervisor = TriggerSupervisor(
            config,
            self.dispatcher,
            self.intake,
            watched_until,
            self._announce,
            clock=clock.now,
            entries=contents.entries,
            renamed=renamed(recorded, in_force(config)) if recorded else {},
            identify=lambda uid: self.handlers.find_name(uid),
            on_amended=lambda words, after, by: self.outbound.amend(words, after, by),
        )
        self.drills = DrillRunner(
            self.dispatcher,
            self.journal,
            self._announce,
            budget_us=self.reports.budget_us,
            clock=clock.now,
            entries=contents.entries,
        )
        self.drills.set_schedule(config.drill.cron, config.drill.timezone)
        self.clock_skew = ClockSkewMonitor(self.dispatcher.sessions, self._announce)
        self.certificate_expiry = CertificateExpiryMonitor(self.dispatcher.sessions, clock.now, self._announce)
        parts = MeasuredParts(self.dispatcher, self.journal, self.supervisor, self.intake, self.reports, self.drills)
        self.outbound = OutboundHub(config, parts, self._announce, self._listeners.users)
        self.network = Network()
        self._group = anyio.create_task_group()
        self._tasks = TaskSupervisor(self._group)
        self.handlers = ControlHandlers(
            config,
            self.dispatcher,
            self.journal,
            self.reports,
            self.supervisor,
            self.drills,
            self.clock_skew,
            self.intake,
            self._listeners.users,
            (
                self.outbound.troubles,
                lambda: self._trouble_announcer.hanging_calls(),
                self.network.troubles,
                self.certificate_expiry.troubles,
            ),
        )
        self.reloader = Reloader(
            config,
            self.dispatcher,
            self.journal,
            self.reports,
            self.intake,
            self.supervisor,
            self.drills,
            self.handlers,
            self.outbound,
            self.network,
            self._group,
            self._tasks,
            self._announce,
            adopt=self._adopt_latch,
            left_tripped=left_tripped,
            recorded=recorded,
            salt=salt,
        )
        files = self._listeners.files, self._listeners.users, self.reloader
        self._trouble_announcer = TroubleAnnouncer(self.journal, self.intake, files, self._announce)
        self._starts = StartReporter(self.journal, clock.now, self._announce, self.outbound.sent)
        self._monitors = (
            self._starts,
            self.clock_skew,
            self.certificate_expiry,
            self._trouble_announcer,
            ReadinessMonitor(self.dispatcher.sessions, clock.now, self._announce),
            ResidueReminder(self.dispatcher, self._announce),
        )
        self._ready = False
        self._caught_up = False  # the reasons of `_signals.lines` have been reported
        self._ending = False  # no kill can be carried out any more
        self._stop = anyio.Event()
        self._stopped_by = ""  # the name of the signal
        self._on_stop = on_stop

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self.reloader.config

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; then stop in good order. To be called once."""
        is_open = self._listeners.opened
        if not is_open:
            await self._listeners.open()
        try:
            await connect.load_authorities(self.network, self.config)
            async with self._group as group:
                tasks = self._tasks
                parts = self.dispatcher, self.config, self._adapters, group.start_soon, self.network
                for lane, work in connect.connect_accounts(*parts):
                    tasks.supervise(lane, work)
                loop = asyncio.get_running_loop()
                self._signals.listen(loop.add_signal_handler, self._signal)
                self._signals.settle(_SETTLE_S)
                self.journal.latch_watch.listen(partial(loop.call_soon_threadsafe, self._adopt_latch))
                self._starts.record(self.reloader.inventory())
                self._resume()
                self.outbound.start(tasks)
                self._starts.announce(self.dispatcher.state, len(self.supervisor.triggers))
                if not is_open:
                    tasks.supervise("control", self._listeners.serve)
                await self._catch_up()
                for trigger in self.supervisor.triggers:
                    self.reloader.run_trigger(trigger)
                tasks.supervise("attention", self.supervisor.stall_clock.run)
                tasks.supervise("intake", self.intake.run)
                tasks.supervise("pulse", self._pulse)
                tasks.supervise("drill", self.drills.run_schedule)
                tasks.supervise("measuring", EquityPoller(self.dispatcher, self.supervisor.accounts_with_equity).run)
                tasks.supervise("reload", self.reloader.run)
                await self._stop.wait()
                self._systemd.stopping()
                strikes = LastStrikes(self.dispatcher)
                await strikes.finish(FINISH_WITHIN_S)
                log.info("stopping on %s", self._stopped_by)
                self.outbound.on_announcement(stopped(self._stopped_by, self.dispatcher.state))
                await self.outbound.finish()
                await strikes.finish(LATE_STRIKE_WITHIN_S)  # because a kill may have begun meanwhile
                await self.outbound.finish(LAST_WORDS_S)
                self._end()
                group.cancel_scope.cancel()
        finally:
            self._end()
            self.journal.latch_watch.stop_listening()
            if not isinstance(sys.exception(), Exception):  # a daemon that has failed was not stopped
                stop = StopRecord(state=self.dispatcher.state.phase)
                self.journal.append(stop.kind, stop.to_json(), clock.now())
            self.journal.close()
            self._listeners.close()
            self._systemd.close()

    # ── start and stop ────────────────────────────────────────────────────────────────────────────────────────────

    def _resume(self) -> None:
        """Continue where the journal ends, and trip for latch files.

        A damaged journal has left a latch file, and so has a first start that the configuration trips.
        """
        self.dispatcher.handle(Recovered(clock.now()))
        self._adopt_latch()

    async def _catch_up(self) -> None:
        """Handle the signals, requests and datagrams that arrived before the daemon could."""
        for number in self._signals.recorded:
            self._signal(number)
        self._signals.recorded.clear()
        self._listeners.hand_over({**self.handlers.handlers(), "reload": self.reloader.handle_request}, self._announce)
        for _ in range(2):
            await anyio.lowlevel.checkpoint()  # in the first pass, the handler of a waiting `fire` reports its reason
        self._caught_up = True
        if self._signals.lines:
            self.journal.adopt_latch("\n".join(self._signals.lines))

    def _adopt_latch(self) -> None:
        """Fire for the latch files that another process wrote, or this one: a direct kill, a full disk, an intent.

        A line of a signal or a request that waited for this daemon fires nothing: `_catch_up` reports its reason. A
        disk may take that line later. Lines that are found while the daemon ends are left to the next start.
        """
        foreign = None if self._ending else self.journal.foreign_latch()
        if foreign is None:
            return
        handled = [line for line in foreign.split("\n") if line in self._signals.lines]
        if handled and self._caught_up:
            self.journal.adopt_latch("\n".join(handled))
        others = [line for line in foreign.split("\n") if line not in handled]
        if not others:
            return
        lines = "\n".join(others)
        latch = parse_latch(lines, self.config.accounts)
        if latch.unknown_accounts:
            self.dispatcher.record_durably(LatchRecord.kind, latch.record().to_json())
            self.reloader.leave_tripped(latch.unknown_accounts)
        aside = {} if self.journal.set_aside is None else {"set_aside": str(self.journal.set_aside)}
        self.dispatcher.fire(latch.reason(clock.now(), **aside))
        if latch.uid is not None:
            self.handlers.find_name(latch.uid)
        self.journal.adopt_latch(lines)

    def _fire(self, trigger: str, text: str) -> None:
        """Report a reason for all accounts to the dispatcher."""
        self.dispatcher.fire(Reason(trigger, text, tuple(self.config.accounts), clock.now()))

    def _end(self) -> None:
        """Write a latch file, for the next start, for each kill that is requested from now on."""
        self._ending = True
        self._listeners.stop_accepting()

    def _signal(self, number: int) -> None:
        match number:
            case signal.SIGUSR1 if self._ending:
                self._signals.record(number)
            case signal.SIGUSR1:
                self._fire("operator", "SIGUSR1")
            case signal.SIGHUP:
                self.reloader.request_reload()
            case signal.SIGUSR2:
                log.warning("signal %d is ignored", number)
            case _:
                self._stopped_by = signal.Signals(number).name
                self._stop.set()
                self._on_stop()

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _pulse(self) -> None:
        """Check for ever what no event reports; feed systemd's watchdog if the engine has answered, and only then."""
        max_pause_s = (self._systemd.watchdog_s or 10.0) / 3
        gc_tuning.collect_rarely()
        while True:
            self._adopt_latch()
            self.supervisor.start_boot_timers()
            self.supervisor.notice_blind()
            for monitor in self._monitors:
                monitor.check()
            self.outbound.reap()
            asked_at = clock.now()
            self.dispatcher.handle(Pulse(asked_at))
            if self.dispatcher.last_pulse_ns >= asked_at.mono_ns:
                self._systemd.alive()
            self._report_to_systemd()
            await anyio.sleep(min(PULSE_S if self._ready else START_S, max_pause_s))

    def _report_to_systemd(self) -> None:
        """Send systemd the status line, and READY once the accounts are ready as `[daemon] ready` requires."""
        sessions = self.dispatcher.sessions.values()
        ready = sum(session.status.is_ready for session in sessions)
        state = handlers.public_state(self.dispatcher.state.phase)
        line = f"{state}, {ready}/{len(sessions)} accounts ready, {self.supervisor.blind()} triggers blind"
        self._systemd.status(f"{line}; {missing}" if (missing := self.outbound.missing) else line)
        if not self._ready and (ready == len(sessions) or self.config.daemon.ready == "degraded"):
            self._ready = True
            gc_tuning.freeze()
            log.info("ready: %d/%d accounts, state %s", ready, len(sessions), state)
        if self._ready:
            self._systemd.ready()
        else:
            self._systemd.starting()

    # ── callbacks of the dispatcher ───────────────────────────────────────────────────────────────────────────────

    def _call_later(self, seconds: float, function: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, function, *args)

    def _announce(self, news: Announce) -> None:
        asyncio.get_running_loop().call_soon(log_announcement, news)
        self.outbound.on_announcement(news)
        self.handlers.notify_changed()

    def _on_lane_changed(self, account: str, route: Route) -> None:
        self.handlers.notify_changed()

    def _on_record(self, entry: Entry) -> None:
        self.reports.take(entry)
        self.outbound.meter.on_record(entry)

    def _on_fact(self, account: str, fact: ForwardedFact, now: Instant) -> None:
        match fact:
            case messages.Drilled():
                self.drills.on_drilled(account, fact, now)
            case messages.Equity() | messages.Transferred() | messages.OrderPlaced() | messages.OrdersFound():
                self.supervisor.on_fact(account, fact)
            case messages.ServerTime():
                pass  # the adapter has used it
            case _:
                assert_never(fact)
