"""Wire everything together in one task group, and keep it running: the composition root.

Every task is named and guarded. None is meant to end; one that returns or raises is shown, said aloud and started
again, and no other notices. SIGTERM lets a strike that is under way finish, within a bound, before anything is
cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import grp
import logging
import os
import resource
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

import kill_switch
from kill_switch import clock, config, control, operators, recovery, wiring
from kill_switch.beside import Beside
from kill_switch.clocks import Clocks
from kill_switch.config import Config
from kill_switch.dispatch import Dispatcher, Session, Told
from kill_switch.domain import Now, Reason, Route
from kill_switch.drills import Drills
from kill_switch.engine import Announce, Pulse, Reconfigured, Recovered
from kill_switch.errors import CannotCreate, ConfigError, KillSwitchError, Problem
from kill_switch.hardening import forbid_dumps, make_directory
from kill_switch.journal import Journal
from kill_switch.latches import latch_text, latched_accounts, latched_elsewhere
from kill_switch.measuring import Measuring
from kill_switch.operators import Operators
from kill_switch.reload import Change, against, compare
from kill_switch.report import Reports
from kill_switch.systemd import Systemd
from kill_switch.tasks import Tasks
from kill_switch.triggers.intake import Intake
from kill_switch.venues import base
from kill_switch.watching import Watch

log = logging.getLogger(__name__)

COLLECT = (20_000, 20, 50)  # a strike makes fewer objects than that: the collector is to find a better moment
FINISH_WITHIN_S = 15.0  # a strike under way at SIGTERM; systemd's TimeoutStopSec is longer
LEVELS = {"trip": logging.CRITICAL, "residue": logging.ERROR, "warn": logging.WARNING, "blind": logging.WARNING}


class Daemon:
    """The running kill switch."""

    def __init__(self, config: Config) -> None:
        """Take the state directory and rebuild the state; nothing is connected yet. Raises `KillSwitchError`."""
        self.config = config
        for directory in (config.daemon.state_dir, config.daemon.runtime_dir):
            make_directory(directory)
        self.journal = Journal(config.daemon.state_dir, config.daemon.runtime_dir)
        replay = self.journal.replay
        self.reports = Reports(int(config.daemon.budget_s * 1e6), replay.entries)
        self.journal.on_entry = self.reports.take
        adapters = {name: account.adapter(config.daemon.hedge_after_s) for name, account in config.accounts.items()}
        paces = {name: adapter.PACE for name, adapter in adapters.items()}
        state = recovery.rebuild(replay.entries, paces, config.rearm.approvals)
        self._left_tripped = recovery.latched(replay.entries) - paces.keys()
        for name in self._left_tripped:
            log.error("account %s is tripped, and not in the configuration: under another name it would be armed", name)
        self.dispatcher = Dispatcher(
            state, self.journal, clock.now, self._later, self._announce, self._lane_changed, self._told
        )
        self.intake = Intake(config.daemon.runtime_dir / "intake.sock", *_remote(config), clock=clock.now)
        seen = _seen(replay.entries)
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
        self._told_displaced = self._told_unsynced = False
        self._adapters = adapters
        self._systemd = Systemd()
        self._ready = False
        self._stop = anyio.Event()
        self._hup = anyio.Event()
        self._reloading = anyio.Lock()
        self._group: TaskGroup
        self._tasks: Tasks

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
                self._group, self._tasks = group, Tasks(group)
                for name, adapter in self._adapters.items():
                    self._connect(name, *wiring.line(self.dispatcher, self.config, name, adapter, group.start_soon))
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                    asyncio.get_running_loop().add_signal_handler(number, self._signal, number)
                self._record_start()
                self._resume()
                self.beside.start(self._tasks)
                for trigger in self.watch.triggers:
                    self._watch(trigger)
                self._tasks.keep("attention", self.watch.attention.run)
                self._tasks.keep("intake", self.intake.run)
                self._tasks.keep("pulse", self._pulse)
                self._tasks.keep("drill", self.drills.keep)
                self._tasks.keep("measuring", Measuring(self.dispatcher, self.watch.measured).run)
                self._tasks.keep("control", lambda: self._control(gid))
                self._tasks.keep("reload", self._reload_when_told)
                await self._stop.wait()
                await self._finish()
                await self.beside.finish()
                group.cancel_scope.cancel()
        finally:
            self.intake.close()
            self.journal.append("stop", {"state": self.dispatcher.state.phase}, clock.now())
            self.journal.close()
            self._systemd.close()

    # ── start and stop ────────────────────────────────────────────────────────────────────────────────────────────

    def _record_start(self) -> None:
        replay = self.journal.replay
        data: dict[str, object] = {
            "version": kill_switch.__version__,
            "pid": os.getpid(),
            **self._cast(),
        }
        if replay.torn:
            data["torn"] = replay.torn.decode("utf-8", "replace")
        self.journal.append("start", data, clock.now())
        if not self.journal.flush():
            log.error("%s", self.journal.trouble)

    def _cast(self) -> dict[str, object]:
        """Name the accounts and triggers that there are, for the record."""
        accounts = {name: account.venue for name, account in self.config.accounts.items()}
        return {"accounts": accounts, "triggers": {name: t.kind for name, t in self.watch.triggers.items()}}

    def _resume(self) -> None:
        """Go on where the journal ends; what cannot be believed counts as tripped."""
        replay = self.journal.replay
        self.dispatcher.handle(Recovered(clock.now()))
        self._adopt_latch()  # what cannot be believed has left a latch as well
        tripped = self.dispatcher.state.tripped
        if not replay.entries and not tripped and self.config.daemon.start == "tripped":
            self._report("start", 'the configuration says start = "tripped"', {})

    def _adopt_latch(self) -> None:
        """Take over a latch that was left in a file, by a direct kill or by a daemon whose disk was full."""
        said = self.journal.foreign_latch()
        if said is None:
            return
        accounts = latched_accounts(said, self.config.accounts)
        evidence: dict[str, object] = {"said": said[:1000]}
        if self.journal.set_aside is not None:
            evidence["set_aside"] = str(self.journal.set_aside)
        if elsewhere := latched_elsewhere(said, self.config.accounts):  # a direct kill may read a newer file than we
            self.dispatcher.record("latch", {"accounts": elsewhere, "said": said[:1000]})
            self._left_tripped |= frozenset(elsewhere)
        self._report("latch", latch_text(said)[:1000], evidence, accounts)
        self.journal.take_latch(said)

    def _report(
        self, trigger: str, text: str, evidence: Mapping[str, object], accounts: tuple[str, ...] | None = None
    ) -> None:
        scope = tuple(self.config.accounts) if accounts is None else accounts
        self.dispatcher.report(Reason(trigger, text, scope, clock.now(), evidence))

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
                self._report("operator", "SIGUSR1", {})
            case signal.SIGHUP:
                self._hup.set()
            case signal.SIGUSR2:
                log.warning("signal %d is ignored", number)
            case _:
                self._stop.set()

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _notice_journal(self) -> None:
        """Say aloud, once each, that somebody has taken the journal away, or that the disk may not have it."""
        if self.journal.displaced() and not self._told_displaced:
            self._told_displaced = True  # the next start will not believe what it finds
            self._announce(Announce("warn", f"{self.journal.path} was removed or replaced under the running daemon"))
        if self.journal.unsynced and not self._told_unsynced:
            self._told_unsynced = True
            self._announce(Announce("warn", f"{self.journal.unsynced}: a power cut may undo what is in it"))

    async def _control(self, gid: int | None) -> None:
        handlers = {**self.operators.handlers(), "reload": self._reload_asked}
        await control.serve(self.config.daemon.runtime_dir / control.NAME, handlers, gid)

    async def _pulse(self) -> None:
        """Feed the watchdog with completed engine round trips, and nothing else."""
        every_s = min(0.5, (self._systemd.watchdog_s or 10.0) / 3)
        gc.set_threshold(*COLLECT)
        _freeze()
        while True:
            self._adopt_latch()
            self.watch.notice_blind()
            self.clocks.look()
            self._notice_journal()
            asked = clock.now()
            self.dispatcher.handle(Pulse(asked))
            if self.dispatcher.alive_ns >= asked.mono_ns:
                self._systemd.alive()
            self._tell_systemd()
            await anyio.sleep(every_s)

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

    # ── reload ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _connect(self, name: str, session: Session, lanes: Iterable[tuple[str, wiring.Work]]) -> None:
        self.dispatcher.sessions[name] = session
        for lane, work in lanes:
            self._tasks.keep(lane, work)

    def _watch(self, name: str) -> None:
        trigger = self.watch.triggers[name]
        self._tasks.keep(f"trigger {name}", lambda: self.watch.run(trigger))

    async def _reload_when_told(self) -> None:
        """Wait for SIGHUP, for ever."""
        while True:
            await self._hup.wait()
            self._hup = anyio.Event()
            with contextlib.suppress(ConfigError):  # which has been said
                await self.reload()

    async def _reload_asked(self, request: Mapping[str, object], caller: control.Caller) -> Mapping[str, object]:
        try:
            change = await self.reload(caller)
        except ConfigError as error:
            raise control.Refusal(
                f"not reloaded:\n{error}", error.exit_code, why=list(map(str, error.problems))
            ) from None
        return {"reloaded": change.words()}

    async def reload(self, caller: control.Caller | None = None) -> Change:
        """Go over to what the file says now, as a whole; raise `ConfigError`, with nothing changed, if that cannot be.

        Accounts that it does not concern keep their lanes. What is tripped stays tripped.
        """
        by = {} if caller is None else {"uid": caller.uid, "user": caller.user}
        async with self._reloading:
            try:
                new = await anyio.to_thread.run_sync(config.load, self.config.source, abandon_on_cancel=True)
                change = self._apply(new)  # without an await: nothing happens in between
            except ConfigError as error:
                why = list(map(str, error.problems))
                self.journal.append("reload-refused", {**by, "why": why}, clock.now())
                self.journal.flush()
                self._announce(Announce("warn", f"the configuration is not reloaded: {'; '.join(why)}"))
                raise
            self.journal.append("reload", {**by, "change": change.words(), **self._cast()}, clock.now())
            self.journal.flush()
            self._announce(Announce("info", f"configuration reloaded: {change.words()}"))
            return change

    def _apply(self, new: Config) -> Change:
        old = self.config
        phases = {name: account.phase for name, account in self.dispatcher.state.accounts.items()}
        if problems := against(old, new, phases):
            raise ConfigError(str(new.source), problems)
        change = compare(old, new)
        lines = {}
        for name in (*change.anew, *change.added):
            adapter = new.accounts[name].adapter(new.daemon.hedge_after_s)
            lines[name] = wiring.line(self.dispatcher, new, name, adapter, self._group.start_soon)
        take_triggers = self.watch.prepare(new, change.triggers_begun)
        if new.intake != old.intake:
            try:
                self.intake.rebind(*_remote(new))
            except OSError as error:
                raise ConfigError(str(new.source), [Problem("intake.udp", error.strerror or "no", "")]) from None
        # from here on nothing can fail
        self.config = self.operators.config = new
        for name in (*change.removed, *change.anew):
            self._tasks.end(f"{name} ws")
            self._tasks.end(f"{name} http")
        sessions = {name: session for name, (session, _) in lines.items()}
        paces = {name: (sessions.get(name) or self.dispatcher.sessions[name]).venue.PACE for name in new.accounts}
        event = Reconfigured(paces, frozenset(change.anew), new.rearm.approvals, clock.now())
        self.dispatcher.reconfigure(event, sessions)
        for name, line in lines.items():
            self._connect(name, *line)
        for session in self.dispatcher.sessions.values():
            session.venue.hedge_after_s = new.daemon.hedge_after_s
        self.reports.budget_us = self.drills.budget_us = int(new.daemon.budget_s * 1e6)
        self.drills.schedule(new.drill.cron, new.drill.timezone)
        self.beside.take(new, self._tasks)
        for name in change.triggers_ended:
            self._tasks.end(f"trigger {name}")
        take_triggers()
        for name in change.triggers_begun:
            self._watch(name)
        again = tuple(name for name in change.added if name in self._left_tripped)
        self._left_tripped -= frozenset(again)
        if again:
            self._report("latch", "tripped when the configuration last had it", {}, again)
        self._changed()
        return change

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


def _seen(entries: Sequence[Mapping[str, Any]]) -> dict[str, datetime]:
    """Say, by trigger, until when the last run has watched it: the journal's last word."""
    casts = (entry["data"]["triggers"] for entry in reversed(entries) if entry["kind"] in ("start", "reload"))
    return {name: datetime.fromisoformat(entries[-1]["at"]) for name in next(casts, ())}


def _remote(config: Config) -> tuple[tuple[str, int] | None, bytes | None]:
    """Return where the intake listens besides its socket, and the key that datagrams there are signed with."""
    udp, key = config.intake.udp, config.intake.key
    return (udp.host, udp.port) if udp else None, key.get_secret_value().encode() if key else None


def _intake_addresses(config: Config) -> str:
    udp = config.intake.udp
    here = str(config.daemon.runtime_dir / "intake.sock")
    return here if udp is None else f"{here} or udp {udp.host}:{udp.port}"
