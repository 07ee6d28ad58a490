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
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import anyio

import kill_switch
from kill_switch import clock, control, operators, recovery, wiring
from kill_switch.config import Config
from kill_switch.dispatch import Dispatcher, Session
from kill_switch.domain import Reason, Route
from kill_switch.engine import Announce, Pulse, Recovered
from kill_switch.errors import CannotCreate, KillSwitchError
from kill_switch.journal import Journal, latch_text, latched_accounts
from kill_switch.operators import Operators
from kill_switch.report import Reports
from kill_switch.systemd import Systemd
from kill_switch.triggers.intake import Intake
from kill_switch.watching import Watch

log = logging.getLogger(__name__)

FINISH_WITHIN_S = 15.0  # a strike under way at SIGTERM; systemd's TimeoutStopSec is longer
RESTART_AFTER_S = 1.0
LEVELS = {"trip": logging.CRITICAL, "residue": logging.ERROR, "warn": logging.WARNING, "blind": logging.WARNING}


class Daemon:
    """The running kill switch."""

    def __init__(self, config: Config) -> None:
        """Take the state directory and rebuild the state; nothing is connected yet. Raises `KillSwitchError`."""
        self.config = config
        for directory in (config.daemon.state_dir, config.daemon.runtime_dir):
            try:
                directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            except OSError as error:
                raise CannotCreate(f"directory {directory}: {error.strerror}") from error
        self.journal = Journal(config.daemon.state_dir, config.daemon.runtime_dir)
        replay = self.journal.replay
        self.reports = Reports(int(config.daemon.budget_s * 1e6), replay.entries)
        self.journal.on_entry = self.reports.take
        adapters = {name: account.adapter(config.daemon.hedge_after_s) for name, account in config.accounts.items()}
        paces = {name: adapter.PACE for name, adapter in adapters.items()}
        state = recovery.rebuild(replay.entries, paces, config.rearm.approvals)
        for name in recovery.latched(replay.entries) - paces.keys():
            log.error("account %s is tripped, and not in the configuration: under another name it would be armed", name)
        self.dispatcher = Dispatcher(state, self.journal, clock.now, self._later, self._announce, self._lane_changed)
        udp = config.intake.udp
        key = config.intake.key
        self.intake = Intake(
            config.daemon.runtime_dir / "intake.sock",
            (udp.host, udp.port) if udp else None,
            key.get_secret_value().encode() if key else None,
            clock=clock.now,
        )
        self.watch = Watch(config, self.dispatcher, self.intake, self._last_seen(), self._announce, clock=clock.now)
        self.operators = Operators(config, self.dispatcher, self.journal, self.reports, self.watch)
        self._told_displaced = False
        self._adapters = adapters
        self._systemd = Systemd()
        self._ready = False
        self._adopted: str | None = None  # what the latch file said that was taken over last
        self._stop = anyio.Event()

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
                lanes = wiring.connect(self.dispatcher, self.config, self._adapters, group.start_soon)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                    asyncio.get_running_loop().add_signal_handler(number, self._signal, number)
                self._record_start()
                self._resume()
                for name, work in lanes:
                    group.start_soon(self._guard, name, work, name=name)
                for trigger in self.watch.triggers.values():
                    group.start_soon(self.watch.run, trigger, name=f"trigger {trigger.name}")
                group.start_soon(self._guard, "attention", self.watch.attention.run)
                group.start_soon(self._guard, "intake", self.intake.run)
                group.start_soon(self._guard, "pulse", self._pulse)
                group.start_soon(self._control, gid)
                await self._stop.wait()
                await self._finish()
                group.cancel_scope.cancel()
        finally:
            self.intake.close()
            self.journal.append("stop", {"state": self.dispatcher.state.phase}, clock.now())
            self.journal.close()
            self._systemd.close()

    # ── start and stop ────────────────────────────────────────────────────────────────────────────────────────────

    def _last_seen(self) -> datetime | None:
        """Until when an earlier run has watched: the journal's last word."""
        entries = self.journal.replay.entries
        return datetime.fromisoformat(entries[-1]["at"]) if entries else None

    def _record_start(self) -> None:
        replay = self.journal.replay
        data: dict[str, object] = {
            "version": kill_switch.__version__,
            "pid": os.getpid(),
            "accounts": {name: account.venue for name, account in self.config.accounts.items()},
            "triggers": {name: trigger.kind for name, trigger in self.watch.triggers.items()},
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
            self._report("start", 'the configuration says start = "tripped"', {})

    def _adopt_latch(self) -> None:
        """Take over a latch that was left in a file, by a direct kill or by a daemon whose disk was full."""
        said = self.journal.foreign_latch()
        if said is None or said == self._adopted:
            return
        self._adopted = said
        accounts = latched_accounts(said, self.config.accounts)
        evidence: dict[str, object] = {"said": said[:1000]}
        if self.journal.set_aside is not None:
            evidence["set_aside"] = str(self.journal.set_aside)
        self._report("latch", latch_text(said)[:1000], evidence, accounts)
        if not self.journal.trouble:
            self.journal.forget_latch()
            self._adopted = self.journal.foreign_latch()

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
            case signal.SIGHUP | signal.SIGUSR2:
                log.warning("signal %d is ignored: a terminal that closes must not end a kill switch", number)
            case _:
                self._stop.set()

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _guard(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Keep a task that must never end from ending, and its failure from being anybody else's."""
        while True:
            try:
                await work()
                log.error("task %s ended; it is started again", name)
            except Exception:
                log.exception("task %s failed; it is started again", name)
            await anyio.sleep(RESTART_AFTER_S)

    def _notice_displaced(self) -> None:
        """Say aloud, once, that somebody has taken the journal away; the next start will not believe what it finds."""
        if self.journal.displaced() and not self._told_displaced:
            self._told_displaced = True
            self._announce(Announce("warn", f"{self.journal.path} was removed or replaced under the running daemon"))

    async def _control(self, gid: int | None) -> None:
        path = self.config.daemon.runtime_dir / control.NAME
        await self._guard("control", lambda: control.serve(path, self.operators.handlers(), gid))

    async def _pulse(self) -> None:
        """Feed the watchdog with completed engine round trips, and nothing else."""
        every_s = min(0.5, (self._systemd.watchdog_s or 10.0) / 3)
        gc.collect()
        gc.freeze()
        while True:
            self._adopt_latch()
            self.watch.notice_blind()
            self._notice_displaced()
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
        self._changed()

    def _lane_changed(self, session: Session, route: Route) -> None:
        self._changed()

    def _changed(self) -> None:
        self.operators.changed()


def run(config: Config) -> None:
    """Run the daemon in the foreground until it is told to stop. Raises `KillSwitchError` if it cannot start."""
    os.umask(0o027)
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
