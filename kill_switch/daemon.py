"""Wire everything together in one task group, and keep it running: the composition root.

Every task is named and guarded. None is meant to end; one that returns or raises is shown, said aloud and started
again, and no other notices. SIGTERM lets a strike that is under way finish, within a bound, before anything is
cancelled.
"""

from __future__ import annotations

import asyncio
import gc
import grp
import logging
import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from typing import assert_never

import anyio

import kill_switch
from kill_switch import clock, control, operators, past, recovery, wiring
from kill_switch.beside import Beside
from kill_switch.clocks import Clocks
from kill_switch.config import Config
from kill_switch.dispatch import Dispatcher, Session, Told
from kill_switch.domain import Now, Reason, Route
from kill_switch.drills import Drills
from kill_switch.engine import Announce, Pulse, Recovered
from kill_switch.errors import AlreadyRunning, CannotCreate, KillSwitchError
from kill_switch.hardening import forbid_dumps, make_directory
from kill_switch.journal import Journal
from kill_switch.latches import claim
from kill_switch.measuring import Measuring
from kill_switch.operators import Operators
from kill_switch.reloading import Reloading, remote
from kill_switch.report import Reports
from kill_switch.systemd import Systemd
from kill_switch.tasks import Tasks
from kill_switch.triggers.intake import Intake
from kill_switch.venues import base
from kill_switch.watching import Watch

log = logging.getLogger(__name__)

COLLECT = (20_000, 20, 50)  # a strike makes fewer objects than that: the collector is to find a better moment
PULSE_S = 0.9  # within a second files are looked at that nobody tells of, and every one costs an idle daemon a little
START_S = 0.25  # until it is ready
FINISH_WITHIN_S = 15.0  # a strike under way at SIGTERM; systemd's TimeoutStopSec is longer
LEVELS = {"trip": logging.CRITICAL, "residue": logging.ERROR, "warn": logging.WARNING, "blind": logging.WARNING}


class Daemon:
    """The running kill switch."""

    def __init__(self, config: Config) -> None:
        """Take the state directory and rebuild the state; nothing is connected yet. Raises `KillSwitchError`."""
        for directory in (config.daemon.state_dir, config.daemon.runtime_dir):
            make_directory(directory)
        self._systemd = Systemd()
        self.journal = Journal(config.daemon.state_dir, config.daemon.runtime_dir, self._systemd.starting)
        replay = self.journal.replay
        self.reports = Reports(int(config.daemon.budget_s * 1e6), replay.entries)
        self.journal.on_entry = self.reports.take
        adapters = {name: account.adapter(config.daemon.hedge_after_s) for name, account in config.accounts.items()}
        paces = wiring.paces(adapters)
        state = recovery.rebuild(replay.entries, paces, config.rearm.approvals)
        left_tripped = recovery.latched(replay.entries) - paces.keys()
        for name in left_tripped:
            log.error("account %s is tripped, and not in the configuration: under another name it would be armed", name)
        self.dispatcher = Dispatcher(
            state, self.journal, clock.now, self._later, self._announce, self._lane_changed, self._told
        )
        self.intake = Intake(config.daemon.runtime_dir / "intake.sock", *remote(config), clock=clock.now)
        seen = past.seen(replay.entries)
        self.watch = Watch(
            config, self.dispatcher, self.intake, seen, self._announce, clock=clock.now, entries=replay.entries
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
        self.operators = Operators(
            config, self.dispatcher, self.journal, self.reports, self.watch, self.drills, self.clocks, self.intake
        )
        self.beside = Beside(config, self.dispatcher, self.journal, self.watch, self._announce)
        self.reports.measured = self.beside.meter.measured
        self.operators.troubles.append(self.beside.troubles)
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
            self._announce,
        )
        self.reloading.left_tripped = left_tripped
        self._told_unsynced = False
        self._told_intake = ""
        self._adapters = adapters
        self._ready = False
        self._stop = anyio.Event()

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self.reloading.config

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        gid = _gid(self.config.daemon.group)
        await control.refuse_second(self.config.daemon.runtime_dir / control.NAME)
        try:
            self.intake.open(gid)
        except OSError as error:
            raise CannotCreate(f"intake: {error.strerror}: {_intake_addresses(self.config)}") from error
        try:
            async with anyio.create_task_group() as group:
                tasks = Tasks(group)
                self.reloading.enter(group, tasks)
                for name, adapter in self._adapters.items():
                    line = wiring.line(self.dispatcher, self.config, name, adapter, group.start_soon)
                    self.reloading.connect(name, *line)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                    asyncio.get_running_loop().add_signal_handler(number, self._signal, number)
                loop = asyncio.get_running_loop()
                self.journal.on_latch = partial(loop.call_soon_threadsafe, self._adopt_latch)
                self._record_start()
                self._resume()
                self.beside.start(tasks)
                for trigger in self.watch.triggers:
                    self.reloading.watch(trigger)
                tasks.keep("attention", self.watch.attention.run)
                tasks.keep("intake", self.intake.run)
                tasks.keep("pulse", self._pulse)
                tasks.keep("drill", self.drills.keep)
                tasks.keep("measuring", Measuring(self.dispatcher, self.watch.measured).run)
                tasks.keep("control", lambda: self._control(gid))
                tasks.keep("reload", self.reloading.run)
                await self._stop.wait()
                await self._finish()
                await self.beside.finish()
                group.cancel_scope.cancel()
        finally:
            self.intake.close()
            self.journal.on_latch = lambda: None
            self.journal.append("stop", {"state": self.dispatcher.state.phase}, clock.now())
            self.journal.close()
            self._systemd.close()

    # ── start and stop ────────────────────────────────────────────────────────────────────────────────────────────

    def _record_start(self) -> None:
        replay = self.journal.replay
        data: dict[str, object] = {
            "version": kill_switch.__version__,
            "pid": os.getpid(),
            **self.reloading.cast(),
        }
        if replay.torn:
            data["torn"] = replay.torn.decode("utf-8", "replace")
        self.journal.append("start", data, clock.now())
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

    def _adopt_latch(self) -> None:
        """Take over a latch that was left in a file: by a direct kill, on a full disk, or of an intent."""
        said = self.journal.foreign_latch()
        if said is None:
            return
        latch = claim(said, self.config.accounts)
        if latch.elsewhere:
            self.dispatcher.record("latch", latch.record())
            self.reloading.left_tripped |= frozenset(latch.elsewhere)
        aside = {} if self.journal.set_aside is None else {"set_aside": str(self.journal.set_aside)}
        self.dispatcher.report(latch.reason(clock.now(), **aside))
        self.journal.take_latch(said)

    def _report(self, trigger: str, text: str) -> None:
        """Give a reason for all accounts."""
        self.dispatcher.report(Reason(trigger, text, tuple(self.config.accounts), clock.now()))

    async def _finish(self) -> None:
        """Let the strike that is under way come to its end, within the bound."""
        self._systemd.stopping()
        with anyio.move_on_after(FINISH_WITHIN_S):
            while self.dispatcher.striking:
                log.warning("stopping, after the kill on %s", ", ".join(self.dispatcher.striking))
                await self.operators.news.wait()
        left = self.dispatcher.striking
        if left:
            log.error("stopped before %s were proven clear: the next start goes on", ", ".join(left))

    def _signal(self, number: int) -> None:
        match number:
            case signal.SIGUSR1:
                self._report("operator", "SIGUSR1")
            case signal.SIGHUP:
                self.reloading.ask()
            case signal.SIGUSR2:
                log.warning("signal %d is ignored", number)
            case _:
                self._stop.set()

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_after_journal(self) -> None:
        """Have the disk take what it has not; say aloud, once each, if it may not, or if the journal was taken away."""
        self.journal.settle()
        while self.journal.news:
            self._announce(Announce("warn", self.journal.news.popleft()))
        if self.journal.unsynced and not self._told_unsynced:
            self._told_unsynced = True
            self._announce(Announce("warn", f"{self.journal.unsynced}: a power cut may undo what is in it"))

    def _look_after_directory(self) -> None:
        """Make again what somebody has removed from the runtime directory; say aloud, once, what cannot be made."""
        for line in self.watch.mend():
            self._announce(Announce("warn", line))
        if self.intake.trouble and self.intake.trouble != self._told_intake:
            self._announce(Announce("warn", f"the intake cannot be reached: {self.intake.trouble}"))
        self._told_intake = self.intake.trouble

    async def _control(self, gid: int | None) -> None:
        handlers = {**self.operators.handlers(), "reload": self.reloading.handle}
        told = False
        while True:
            try:
                await control.serve(self.config.daemon.runtime_dir / control.NAME, handlers, gid)
                told = False  # it was there, and somebody has removed it
            except (OSError, AlreadyRunning) as error:
                if not told:  # a status cannot tell
                    self._announce(Announce("warn", f"the control socket cannot be made: {error}"))
                told = True
                await anyio.sleep(control.LOOK_EVERY_S)

    async def _pulse(self) -> None:
        """Feed the watchdog with completed engine round trips, and nothing else."""
        most_s = (self._systemd.watchdog_s or 10.0) / 3
        gc.set_threshold(*COLLECT)
        _freeze()
        while True:
            self._adopt_latch()
            self.watch.notice_blind()
            self.clocks.look()
            self._look_after_journal()
            self._look_after_directory()
            asked = clock.now()
            self.dispatcher.handle(Pulse(asked))
            if self.dispatcher.alive_ns >= asked.mono_ns:
                self._systemd.alive()
            self._tell_systemd()
            await anyio.sleep(min(PULSE_S if self._ready else START_S, most_s))

    def _tell_systemd(self) -> None:
        sessions = self.dispatcher.sessions.values()
        ready = sum(session.ready for session in sessions)
        state = operators.outward(self.dispatcher.state.phase)
        self._systemd.status(f"{state}, {ready}/{len(sessions)} accounts ready, {self.watch.blind()} triggers blind")
        if not self._ready and (ready == len(sessions) or self.config.daemon.ready == "degraded"):
            self._ready = True
            _freeze()
            self.watch.boot()
            log.info("ready: %d/%d accounts, state %s", ready, len(sessions), state)
        if self._ready:
            self._systemd.ready()
        else:
            self._systemd.starting()

    # ── what the dispatcher tells ─────────────────────────────────────────────────────────────────────────────────

    def _later(self, seconds: float, function: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, function, *args)

    def _announce(self, news: Announce) -> None:
        level = LEVELS.get(news.level, logging.INFO)
        about = f"account {news.account}: " if news.account else ""
        asyncio.get_running_loop().call_soon(log.log, level, "%s: %s%s", news.level, about, news.text)
        self.beside.hear(news)
        self._changed()

    def _lane_changed(self, session: Session, route: Route) -> None:
        self._changed()

    def _told(self, session: Session, fact: Told, now: Now) -> None:
        match fact:
            case base.Drilled():
                self.drills.told(session.name, fact, now)
            case base.Equity() | base.Transferred() | base.OrderPlaced():
                self.watch.told(session.name, fact)
            case base.ServerTime():
                pass  # the adapter has taken note of it
            case _:
                assert_never(fact)

    def _changed(self) -> None:
        self.operators.changed()


def run(config: Config) -> None:
    """Run the daemon in the foreground until it is told to stop. Raises `KillSwitchError` if it cannot start."""
    os.umask(0o027)
    if not forbid_dumps():
        log.warning("this process can be dumped: keys in its memory can be read by others of the same user")
    _raise_descriptor_limit()
    daemon = Daemon(config)
    try:
        anyio.run(daemon.run, backend_options={"use_uvloop": _uvloop()})
    except BaseExceptionGroup as group:
        known, rest = group.split(KillSwitchError)
        if known is not None and rest is None:
            first: BaseException = known
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None
        raise


def _freeze() -> None:
    """Have what lives until the end, lanes and all, looked at by no later collection."""
    gc.collect()
    gc.freeze()


def _uvloop() -> bool:
    try:
        import uvloop  # noqa: F401 - asked for its presence
    except ImportError:
        return False
    return True


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _gid(group: str | None) -> int | None:
    return None if group is None else grp.getgrnam(group).gr_gid


def _intake_addresses(config: Config) -> str:
    udp = config.intake.udp
    here = str(config.daemon.runtime_dir / "intake.sock")
    return here if udp is None else f"{here} or udp {udp.host}:{udp.port}"
