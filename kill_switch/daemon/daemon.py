"""Wire everything together in one task group, and keep it running: the composition root.

Every task is named and guarded. None is meant to end; one that returns or raises is shown, said aloud and started
again, and no other notices. SIGTERM lets a strike that is under way finish, within a bound, before anything is
cancelled.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import assert_never

import anyio
import anyio.lowlevel

import kill_switch
from kill_switch import clock, logging_setup
from kill_switch.config.in_force import APPROVALS, in_force, renamed
from kill_switch.config.loader import Config
from kill_switch.control import handlers
from kill_switch.control.handlers import Operators
from kill_switch.core import recovery
from kill_switch.core.domain import Now, Reason, Route, Severity
from kill_switch.core.engine import Announce, Pulse, Recovered
from kill_switch.core.identity import new_salt
from kill_switch.core.on_change import OnChange
from kill_switch.core.records import FORMAT, LatchRecord, StartRecord
from kill_switch.daemon.held_signals import Held
from kill_switch.daemon.listeners import Doors
from kill_switch.daemon.reload import Reloading
from kill_switch.daemon.sd_notify import Systemd
from kill_switch.dispatch import connect
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.ports import AccountFact
from kill_switch.health.certificate_expiry import Expiries
from kill_switch.health.clock_skew import Clocks
from kill_switch.health.drills import Drills
from kill_switch.journal import history
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import Reports
from kill_switch.journal.latch_file import claim
from kill_switch.journal.records import StopRecord
from kill_switch.outbound.services import LAST_WORDS_S, Beside
from kill_switch.system.hardening import make_directory
from kill_switch.tasks import Tasks
from kill_switch.transports.network import Network
from kill_switch.triggers.pnl.poller import Measuring
from kill_switch.triggers.supervisor import Watch
from kill_switch.venues import messages

log = logging.getLogger(__name__)

COLLECT = (20_000, 20, 50)  # a strike makes fewer objects than that: the collector is to find a better moment
PULSE_S = 0.9  # within a second files are looked at that nobody tells of, and every one costs an idle daemon a little
START_S = 0.25  # until it is ready
FINISH_WITHIN_S = 15.0  # a strike under way at SIGTERM; systemd's TimeoutStopSec is longer
FINISH_MORE_S = 5.0  # a strike that began while the process beside was ended
_SETTLE_S = 0.1  # for a latch of a signal that came in the same moment


class Daemon:
    """The running kill switch."""

    def __init__(
        self,
        config: Config,
        journal: Journal | None = None,
        doors: Doors | None = None,
        held: Held | None = None,
        systemd: Systemd | None = None,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        """Rebuild the state; nothing is connected yet. Raises `KillSwitchError`.

        Without a `journal`, its directories are made and it is taken from them, which may block. `doors` may be open
        already, and `held` may have something for us to do. `on_stop` is called when the stop begins.
        """
        directories = config.daemon.state_dir, config.daemon.runtime_dir
        if journal is None:
            for directory in directories:
                make_directory(directory)
        self._held = held or Held()
        self._held.know(*directories)
        self._doors = doors or Doors(config, self._held)
        self._systemd = systemd or Systemd()
        self.journal = journal or Journal(*directories, self._systemd.starting)
        replay = self.journal.replay
        self.reports = Reports(int(config.daemon.budget_s * 1e6), replay.entries)
        self.journal.on_entry = self.reports.take
        adapters = {name: account.adapter(config.daemon.hedge_after_s) for name, account in config.accounts.items()}
        paces = connect.paces(adapters)
        logins, salt = {name: account.login for name, account in config.accounts.items()}, new_salt()
        state = recovery.rebuild(replay.entries, paces, config.rearm.approvals, logins, salt)
        recorded = history.in_force(replay.entries)
        before = recorded.get(APPROVALS)
        if isinstance(before, int) and before > config.rearm.approvals:
            if state.tripped or self.journal.has_foreign_latch:
                state = state._replace(approvals_needed=before)
                log.warning("a re-arm takes %d people, as when it tripped, and not %d", before, config.rearm.approvals)
        left_tripped = recovery.struck_elsewhere(replay.entries, logins)
        for name in left_tripped:
            log.error("account %s is tripped, and in the configuration there is no account with its login", name)
        self.dispatcher = Dispatcher(
            state, self.journal, clock.now, self._later, self._announce, self._lane_changed, self._told
        )
        self.dispatcher.counts.resume(state.kills_of_accounts(), self.reports.tally, state.moved)
        self.intake = self._doors.intake
        seen = history.seen(replay.entries, datetime.fromtimestamp(clock.now().wall_ns / 1e9, UTC))
        self.watch = Watch(
            config,
            self.dispatcher,
            self.intake,
            seen,
            self._announce,
            clock=clock.now,
            entries=replay.entries,
            renamed=renamed(recorded, in_force(config)) if recorded else {},
            identify=lambda uid: self.operators.find_name(uid),
            on_amended=lambda words, after: self.beside.amend(words, after),
        )
        self.drills = Drills(
            self.dispatcher,
            self.journal,
            self._announce,
            budget_us=self.reports.budget_us,
            clock=clock.now,
            entries=replay.entries,
        )
        self.drills.schedule(config.drill.cron, config.drill.timezone)
        self.clocks = Clocks(self.dispatcher.sessions, self._announce)
        self.expiries = Expiries(self.dispatcher.sessions, clock.now, self._announce)
        self.beside = Beside(config, self.dispatcher, self.journal, self.watch, self._announce)
        self.reports.measured = self.beside.meter.measured
        self.network = Network()
        self.operators = Operators(
            config,
            self.dispatcher,
            self.journal,
            self.reports,
            self.watch,
            self.drills,
            self.clocks,
            self.intake,
            self._doors.users,
            (self.beside.troubles, self._hanging, self.network.troubles, self.expiries.troubles),
        )
        self.reloading = Reloading(
            config,
            self.dispatcher,
            self.journal,
            self.reports,
            self.intake,
            self.watch,
            self.drills,
            self.operators,
            self.beside,
            self.network,
            self._announce,
            adopt=self._adopt_latch,
            left_tripped=left_tripped,
            recorded=recorded,
            salt=salt,
        )
        self._unsynced = OnChange()
        self._intake_troubles = OnChange()
        self._hanging_calls = OnChange()
        self._adapters = adapters
        self._ready = False
        self._ending = False  # no kill can be carried out any more
        self._stop = anyio.Event()
        self._on_stop = on_stop

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self.reloading.config

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        served = self._doors.opened
        if not served:
            await self._doors.open()
        try:
            await connect.prepare(self.network, self.config)
            async with anyio.create_task_group() as group:
                tasks = Tasks(group)
                self.reloading.enter(group, tasks)
                for name, adapter in self._adapters.items():
                    line = connect.line(self.dispatcher, self.config, name, adapter, group.start_soon, self.network)
                    self.reloading.connect(name, *line)
                loop = asyncio.get_running_loop()
                self._held.listen(loop.add_signal_handler, self._signal)
                self._held.settle(_SETTLE_S)
                self.journal.on_latch = partial(loop.call_soon_threadsafe, self._adopt_latch)
                self._record_start()
                self._resume()
                self.beside.start(tasks)
                if not served:
                    tasks.keep("control", self._doors.serve)
                await self._catch_up()
                for trigger in self.watch.triggers:
                    self.reloading.watch(trigger)
                tasks.keep("attention", self.watch.attention.run)
                tasks.keep("intake", self.intake.run)
                tasks.keep("pulse", self._pulse)
                tasks.keep("drill", self.drills.keep)
                tasks.keep("measuring", Measuring(self.dispatcher, self.watch.measured).run)
                tasks.keep("reload", self.reloading.run)
                await self._stop.wait()
                await self._finish(FINISH_WITHIN_S)
                await self.beside.finish()
                await self._finish(FINISH_MORE_S)  # a kill that came meanwhile
                await self.beside.finish(LAST_WORDS_S)
                self._end()
                group.cancel_scope.cancel()
        finally:
            self._end()
            self.journal.on_latch = lambda: None
            stop = StopRecord(state=self.dispatcher.state.phase)
            self.journal.append(stop.kind, stop.to_json(), clock.now())
            self.journal.close()
            self._doors.close()
            self._systemd.close()

    # ── start and stop ────────────────────────────────────────────────────────────────────────────────────────────

    def _record_start(self) -> None:
        replay = self.journal.replay
        start = StartRecord(
            version=kill_switch.__version__,
            pid=os.getpid(),
            format=FORMAT,
            torn=replay.torn.decode("utf-8", "replace") if replay.torn else None,
            **self.reloading.cast(),
        )
        self.journal.append(start.kind, start.to_json(), clock.now())
        if not self.journal.flush():
            log.error("%s", self.journal.trouble)

    def _resume(self) -> None:
        """Go on where the journal ends; what cannot be believed counts as tripped."""
        replay = self.journal.replay
        self.dispatcher.handle(Recovered(clock.now()))
        self._adopt_latch()  # what cannot be believed has left a latch as well
        tripped = self.dispatcher.state.tripped
        if not replay.entries and not tripped and self.config.daemon.start == "tripped":
            self._report("start", 'the configuration says start = "tripped"')

    async def _catch_up(self) -> None:
        """Do what has come before anybody could: signals, requests, datagrams."""
        for number in self._held.noted:
            self._signal(number)
        self._held.noted.clear()
        self._doors.stand({**self.operators.handlers(), "reload": self.reloading.handle}, self._announce)
        for _ in range(2):
            await anyio.lowlevel.checkpoint()  # a kill that was asked for is reported in the first
        if self._held.lines:  # what they stand for has been reported
            lines, self._held.lines = self._held.lines, []
            self.journal.take_latch("\n".join(lines))

    def _adopt_latch(self) -> None:
        """Take over a latch that was left in a file: by a direct kill, on a full disk, or of an intent."""
        said = self.journal.foreign_latch()
        if said is not None and self._held.lines:  # those are done, not adopted
            others = [line for line in said.split("\n") if line not in self._held.lines]
            said = "\n".join(others) if others else None
        if said is None:
            return
        latch = claim(said, self.config.accounts)
        if latch.elsewhere:
            self.dispatcher.record_durably(LatchRecord.kind, latch.record().to_json())
            self.reloading.leave_tripped(latch.elsewhere)
        aside = {} if self.journal.set_aside is None else {"set_aside": str(self.journal.set_aside)}
        self.dispatcher.fire(latch.reason(clock.now(), **aside))
        if latch.uid is not None:
            self.operators.find_name(latch.uid)
        self.journal.take_latch(said)

    def _report(self, trigger: str, text: str) -> None:
        """Give a reason for all accounts."""
        self.dispatcher.fire(Reason(trigger, text, tuple(self.config.accounts), clock.now()))

    async def _finish(self, within_s: float) -> None:
        """Let the strike that is under way come to its end, within the bound."""
        self._systemd.stopping()
        with anyio.move_on_after(within_s):
            while self.dispatcher.striking:
                log.warning("stopping, after the kill on %s", ", ".join(self.dispatcher.striking))
                await self.operators.news.wait()
        left = self.dispatcher.striking
        if left:
            log.error("stopped before %s were proven clear: the next start goes on", ", ".join(left))

    def _end(self) -> None:
        """Carry out no kill any more: what comes from now on is left as a latch, for the next start."""
        self._ending = True
        self._doors.shut()

    def _signal(self, number: int) -> None:
        match number:
            case signal.SIGUSR1 if self._ending:
                self._held.note(number)
            case signal.SIGUSR1:
                self._report("operator", "SIGUSR1")
            case signal.SIGHUP:
                self.reloading.ask()
            case signal.SIGUSR2:
                log.warning("signal %d is ignored", number)
            case _:
                self._stop.set()
                self._on_stop()

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_after_journal(self) -> None:
        """Have the disk take what it has not; say aloud, once each, if it may not, or if the journal was taken away."""
        self.journal.settle()
        while self.journal.news:
            self._announce(Announce(Severity.WARN, self.journal.news.popleft()))
        unsynced = self.journal.unsynced
        for line in self._unsynced.update([unsynced] if unsynced else []).begun:
            self._announce(Announce(Severity.WARN, f"{line}: a power cut may undo what is in it"))

    def _look_after_files(self) -> None:
        """Say aloud, once each, what cannot be made in the runtime directory, and which blocking calls hang."""
        for line in self._hanging_calls.update(self._hanging()).begun:
            self._announce(Announce(Severity.WARN, line))
        absent = (self.intake.trouble, self.intake.udp_trouble)
        for line in self._intake_troubles.update(self.intake.troubles()).begun:
            about = "the intake cannot be reached" if line in absent else "intake"
            self._announce(Announce(Severity.WARN, f"{about}: {line}"))

    def _hanging(self) -> Iterator[str]:
        """Yield a line for each call outside of the event loop that has not come back for long."""
        for part in (self._doors.files, self._doors.users, self.reloading):
            if part.trouble:
                yield part.trouble
        if lost := logging_setup.trouble():
            yield lost

    async def _pulse(self) -> None:
        """Feed the watchdog with completed engine round trips, and nothing else."""
        most_s = (self._systemd.watchdog_s or 10.0) / 3
        gc.set_threshold(*COLLECT)
        _freeze()
        while True:
            self._adopt_latch()
            self.watch.start_heartbeats()
            self.watch.notice_blind()
            self.clocks.look()
            self.expiries.look()
            self._look_after_journal()
            self._look_after_files()
            self.beside.reap()
            asked = clock.now()
            self.dispatcher.handle(Pulse(asked))
            if self.dispatcher.alive_ns >= asked.mono_ns:
                self._systemd.alive()
            self._tell_systemd()
            await anyio.sleep(min(PULSE_S if self._ready else START_S, most_s))

    def _tell_systemd(self) -> None:
        sessions = self.dispatcher.sessions.values()
        ready = sum(session.status.is_ready for session in sessions)
        state = handlers.outward(self.dispatcher.state.phase)
        line = f"{state}, {ready}/{len(sessions)} accounts ready, {self.watch.blind()} triggers blind"
        self._systemd.status(f"{line}; {missing}" if (missing := self.beside.missing) else line)
        if not self._ready and (ready == len(sessions) or self.config.daemon.ready == "degraded"):
            self._ready = True
            _freeze()
            log.info("ready: %d/%d accounts, state %s", ready, len(sessions), state)
        if self._ready:
            self._systemd.ready()
        else:
            self._systemd.starting()

    # ── what the dispatcher tells ─────────────────────────────────────────────────────────────────────────────────

    def _later(self, seconds: float, function: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, function, *args)

    def _announce(self, news: Announce) -> None:
        about = f"account {news.account}: " if news.account else ""
        asyncio.get_running_loop().call_soon(log.log, news.level.log_level, "%s: %s%s", news.level, about, news.text)
        self.beside.hear(news)
        self._changed()

    def _lane_changed(self, account: str, route: Route) -> None:
        self._changed()

    def _told(self, account: str, fact: AccountFact, now: Now) -> None:
        match fact:
            case messages.Drilled():
                self.drills.told(account, fact, now)
            case messages.Equity() | messages.Transferred() | messages.OrderPlaced() | messages.OrdersFound():
                self.watch.told(account, fact)
            case messages.ServerTime():
                pass  # the adapter has taken note of it
            case _:
                assert_never(fact)

    def _changed(self) -> None:
        self.operators.changed()


def _freeze() -> None:
    """Have what lives until the end, lanes and all, looked at by no later collection."""
    gc.collect()
    gc.freeze()
