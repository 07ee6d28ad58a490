"""Live one process's life: the real journal, recovery, engine, dispatcher, sessions and adapters, until it crashes."""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kill_switch.config.diff import current_identities, diff_configs, reload_blockers
from kill_switch.config.loader import Config
from kill_switch.config.schema import (
    DaemonConfig,
    DrillConfig,
    HooksConfig,
    IntakeConfig,
    NotifyConfig,
    PingConfig,
    RearmConfig,
    SilenceConfig,
)
from kill_switch.core import recovery
from kill_switch.core.commands import Announce, RearmGranted, RearmPending, RearmRefused
from kill_switch.core.domain import Instant, Reason, SweepTiming
from kill_switch.core.events import Pulse, RearmAsked, Reconfigured, Recovered
from kill_switch.dispatch.connect import sweep_timings
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.no_web_socket import NoWebSocket
from kill_switch.dispatch.ports import WsPort
from kill_switch.dispatch.session import AccountSession
from kill_switch.journal import write_ahead
from kill_switch.journal.fsync import FsyncThread
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.latch_lines import parse_latch
from kill_switch.system.job_thread import Job, JobThread
from kill_switch.triggers.silences import NEVER, Person, Silences, past_records
from kill_switch.venues.adapter import Adapter

from .network import FreshRoute, HttpLane, WsLane
from .scheduler import Appointment, World
from .simulated_account import SALT, House

if TYPE_CHECKING:
    from .oracle import Judge

PULSE_S = 0.5
BUDGET_US = 500_000
TRIGGERS: Mapping[str, str] = {"pnl": "pnl", "flag": "flag"}  # of each life: their kinds


class Crashed(BaseException):
    """The process ends here, in the middle of whatever it was doing."""


class SlowSync(FsyncThread):
    """The sync beside, without its thread: it takes its virtual time."""

    def __init__(self, life: Life, fd: int, size: int, beside: Callable[[], None]) -> None:
        self._life = life
        self._under_way = False
        self.asked = 0
        super().__init__(fd, size, beside, begin=lambda thread: None)  # nothing is parallel here

    def request(self, size: int) -> None:
        super().request(size)
        self.asked = size
        if not self._under_way:
            self._go()

    def let_go(self) -> None:
        self._close_files()

    def _go(self) -> None:
        world = self._life.world
        self._wakeup_sent, self._under_way = False, True
        world.later(world.disk.takes_s(), self._done)

    def _done(self) -> None:
        if not self._life.alive:
            return
        if self._life.world.disk.hangs:
            self._life.world.later(0.05, self._done)
            return
        self._sync_once()
        self._under_way = False
        if self._wakeup_sent:
            self._go()


class SlowWorker(JobThread):
    """A thread beside, without one: each job is carried out a moment after it was posted, and may be the last."""

    def __init__(self, life: Life, name: str) -> None:
        self._life = life
        self._waiting: deque[Job] = deque()
        self._since_ns = 0  # when the first of them was posted
        super().__init__(name, begin=lambda thread: None)  # nothing is parallel here

    def post(self, job: Job) -> None:
        if not self._waiting:
            self._since_ns = self._life.world.mono_ns
            self._soon()
        self._waiting.append(job)

    def carry_out(self, job: Job, within_s: float) -> bool:
        self.post(job)
        while self._waiting and not self._life.world.disk.hangs:
            self._carry_out(self._waiting.popleft())
        return not self._waiting

    def running_ns(self, mono_ns: int) -> int:
        return mono_ns - self._since_ns if self._waiting and self._life.world.disk.hangs else 0

    def all(self) -> None:
        """Carry out all that waits."""
        while self._waiting:
            self._carry_out(self._waiting.popleft())

    def _soon(self) -> None:
        world = self._life.world
        world.later(world.threads.random() ** 4 * 0.02, self._next)

    def _next(self) -> None:
        if not self._life.alive or not self._waiting:
            return
        if self._life.world.disk.hangs:
            self._life.world.later(0.02, self._next)
            return
        job = self._waiting.popleft()
        if self._waiting:
            self._soon()
        self._life.enter(self._carry_out, job)

    def _carry_out(self, job: Job) -> None:
        with self._life.in_thread():
            self._run_job(job)
        self._life.journal.noted()


class Record(Journal):
    """The journal, each step of which may be the process's last."""

    def __init__(self, life: Life, state_dir: Path, runtime_dir: Path) -> None:
        self.life = life
        self.latched: list[float] = []  # bytes that have each latch so far; infinity: it is not written yet
        self._numbers: list[int] = []  # of their records in the queue: the file has no number for one that repeats
        self._marks: list[re.Pattern[bytes]] = []  # of their records: the instant and the kind
        self._filed = 0
        self.filed_login = False  # the disk was late to take that a tripped account logs in as another one
        super().__init__(state_dir, runtime_dir, syncer=partial(SlowSync, life), worker=partial(SlowWorker, life))

    @property
    def size(self) -> int:
        return self._writer.position

    @property
    def asked(self) -> int:
        """Bytes that the disk was asked to take."""
        assert isinstance(self._writer.syncing, SlowSync)
        return self._writer.syncing.asked

    @property
    def durable(self) -> int:
        """Bytes that the product believes to be on the disk."""
        return self._writer.syncing.durable

    def started(self) -> None:
        """Count the latches that were there."""
        self.latched.append(self.size)
        self._numbers.append(0)
        self._marks.append(re.compile(b"$."))

    def note_ahead(self, reason: Reason) -> bool:
        self.life.step()
        intended = super().note_ahead(reason)
        self.life.step()
        return intended

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        self.latched.append(math.inf)
        self._numbers.append(self._queue.numbered + 1)
        self._marks.append(re.compile(b'"mono_ns":%d,"boot":"[^"]*","kind":"%b".*\n' % (at.mono_ns, kind.encode())))
        self.life.step()
        taken = super().append_latch(kind, data, at)
        self.filed_login = self.filed_login or (kind == "identity" and not taken)
        self.life.step()
        return taken

    def noted(self) -> None:
        """See what a thread has done."""
        if self._writer._filed != self._filed:
            self._filed, self.life.judge.filed = self._writer._filed, True
        for n, (number, size) in enumerate(zip(self._numbers, self.latched, strict=True)):
            if size == math.inf and number <= self._writer.written:
                self.latched[n] = end = self._end_of(self._marks[n])
                self.life.judge.latch_written(end)

    def _end_of(self, record: re.Pattern[bytes]) -> int:
        """Return where a written record ends, over all files; many others may have been written with it."""
        content = self.life.world.disk.journal.read_bytes()
        before = self.size - len(content)
        ends = [match.end() for match in record.finditer(content)]
        assert ends or before, f"the journal has no record {record.pattern!r}"
        return before + max(ends, default=0)  # or it is in a file before this one

    def all(self) -> None:
        """Have everything told and written."""
        self.deliver_entries()
        self._state.post(self._writer.write_repeats)
        for worker in (self._state, self._run):
            assert isinstance(worker, SlowWorker)
            worker.all()
        self._collect_results()

    def let_go(self) -> None:
        """Close as the kernel does for a process that is gone."""
        assert isinstance(self._writer.syncing, SlowSync)
        self._writer.syncing.let_go()
        self._writer.close_file()
        self._write_ahead.close()
        os.close(self._lock)


def _planned(adapters: Mapping[str, Adapter], houses: Mapping[str, House]) -> dict[str, SweepTiming]:
    """Return the accounts' timings as the daemon plans them: no trigger measures them."""
    return {name: houses[name].paced(timing) for name, timing in sweep_timings(adapters, ()).items()}


class _NoWebSocket(NoWebSocket):
    def end(self) -> None:
        """Do nothing."""


class Life:
    """One process, from its start to its crash."""

    def __init__(self, world: World, houses: dict[str, House], judge: Judge, directory: Path, approvals: int) -> None:
        self.world, self.judge = world, judge
        self.alive = True
        self.crash_in = 0  # steps until the crash; 0: none is coming
        self.doubled: set[tuple[str, str]] = set()  # cancel calls whose second copy was made, by account and tag
        self.going_over: frozenset[str] = frozenset()  # accounts whose other login is in force, and not at work yet
        self.stands = False  # what it has found at its start has been judged
        self.crashed: Callable[[], None] = lambda: None
        self._houses, self._directory, self._approvals = houses, directory, approvals
        judge.opening(directory / "run" / write_ahead.NAME)
        self.journal = Record(self, directory / "state", directory / "run")
        world.disk.opened()
        replay = self.journal.contents
        judge.opened(replay)
        self.reports = ReportBuilder(BUDGET_US, replay.entries)
        self.journal.deliver_to(self.reports.take)
        adapters = {name: house.adapter() for name, house in houses.items()}
        paces, logins = _planned(adapters, houses), {name: house.login for name, house in houses.items()}
        state = recovery.rebuild(replay.entries, paces, approvals, logins, SALT)
        self.dispatcher = Dispatcher(state, self.journal, self.clock, self.later, self._announce)
        self.dispatcher.counts.resume(state.kills_of_accounts(), self.reports.tally, state.renamed)
        self._adapters = adapters
        past = past_records(replay.entries)
        self.silences = Silences(self.dispatcher.record_durably, self._announce, world.read, world.boot, past)

    def begin(self) -> None:
        """Do what the daemon does at its start."""
        for name, adapter in self._adapters.items():
            self.dispatcher.register(self._session(name, adapter, self._houses[name]))
        self.journal.latch_watch.listen(lambda: self.enter_later(0.0, self._adopt_latch))
        self.journal.append("start", {"accounts": {}, "triggers": {}}, self.clock())
        self.journal.flush()
        self.judge.started(self)
        self.stands = True
        self.silences.retain(TRIGGERS)
        self.dispatcher.handle(Recovered(self.clock()))
        self._adopt_latch()
        self.judge.resumed(self)
        self._pulse()

    def _session(self, name: str, adapter: Adapter, house: House) -> AccountSession:
        def lanes(session: AccountSession) -> tuple[WsPort, HttpLane, FreshRoute]:
            ws = WsLane(self, house, session) if adapter.ws_url else _NoWebSocket()
            return ws, HttpLane(self, house, session), FreshRoute(self, house, session)

        return AccountSession(name, adapter, self.dispatcher, lanes)

    def clock(self) -> Any:
        self.step()
        return self.world.now()

    # steps, and the last of them

    @contextmanager
    def in_thread(self) -> Iterator[None]:
        """Count what a job asks of the disk as steps, too."""
        disk = self.world.disk
        disk.step = self.step
        try:
            yield
        finally:
            disk.step = lambda: None

    def step(self) -> None:
        """Do one more thing; the crash may come here."""
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                raise Crashed

    def enter(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call into the product, while it lives."""
        if not self.alive:
            return
        try:
            function(*arguments)
        except Crashed:
            self.die()
        else:
            self.judge.look(self)

    def enter_later(self, seconds: float, function: Callable[..., object], *arguments: Any) -> Appointment:
        return self.world.later(seconds, self.enter, function, *arguments)

    def later(self, seconds: float, function: Callable[..., object], *arguments: object) -> Appointment:
        self.step()
        return self.enter_later(seconds, function, *arguments)

    def die(self) -> None:
        """Be gone, without another word."""
        self.alive = False
        if self.stands:
            self.judge.look(self)
        if self.journal.filed_login and self.world.disk.has_files():
            self.judge.filed = True
        self.journal.let_go()
        self.crashed()

    # what the daemon does besides

    def report(self, reason: Reason) -> None:
        self.judge.reason(self, reason)
        self.dispatcher.fire(reason)
        self.judge.reported(self, reason)

    def see(self, reason: Reason) -> bool:
        """Report what a trigger sees, unless a silence holds it back, as its supervisor does; return whether one does.

        A flag is asked about, too: no silence is of one.
        """
        kind = TRIGGERS[reason.trigger]
        held = self.silences.hold(reason)
        self.judge.silences.judged(reason.trigger, kind, held)
        if not held:
            self.report(reason)
        return held

    def silence(self, trigger: str, for_ns: int, uid: int) -> None:
        """Ask for a silence as a person does; without a record it is ended again."""
        assert TRIGGERS[trigger] not in NEVER  # the request would be refused
        self.judge.silences.asking(trigger, for_ns, uid)
        answer = self.silences.ask(trigger, for_ns, "planned work", Person(uid, f"user-{uid}"), self._approvals)
        self.judge.silences.answered(trigger, for_ns, self._approvals, answer)
        self.journal.sync()
        self.enter_later(0.03, self._silence_recorded, trigger)

    def _silence_recorded(self, trigger: str) -> None:
        if not self.journal.is_on_record:
            self.end_silence(trigger, "it could not be recorded")

    def end_silence(self, trigger: str, why: str) -> None:
        """End a silence, or forget who has asked for it."""
        self.judge.silences.ended(trigger)
        self.silences.end(trigger, why)

    def rearm(self, asked: RearmAsked) -> RearmGranted | RearmPending | RearmRefused:
        self.judge.rearm_asked(asked)
        verdict = self.dispatcher.rearm(asked)
        self.judge.rearm_answered(self, asked, verdict)
        return verdict

    def reload(self, houses: Mapping[str, House], edited: Callable[[], None]) -> None:
        """Go over to these logins as `Reloader` does: judged as a whole, then without a pause.

        `edited` makes them the ones in force, if that is granted.
        """
        old, new = self._config(self._houses), self._config(houses)
        states = self.dispatcher.state.accounts
        phases = {name: account.phase for name, account in states.items()}
        problems = reload_blockers(
            old, new, phases, {name: account.unproven_identities for name, account in states.items()}
        )
        self.judge.reload_judged(houses, list(map(str, problems)))
        if problems:
            self.journal.append("reload-refused", {"why": list(map(str, problems))}, self.clock())
            self.journal.flush()
            return
        change = diff_configs(old, new)
        self.going_over = frozenset(change.new_logins)
        edited()
        anew = {}
        for name in change.new_logins:
            anew[name] = self._session(name, houses[name].adapter(), houses[name])
        for name in change.new_logins:
            lanes: Any = self.dispatcher.sessions[name]
            lanes.ws.end()
            lanes.http.end()
        self.doubled = {one for one in self.doubled if one[0] not in anew}
        identities, owed = current_identities(new, change.new_logins, states, {}, SALT)
        adapters = {name: (anew.get(name) or self.dispatcher.sessions[name]).venue for name in houses}
        paces = _planned(adapters, houses)
        event = Reconfigured(paces, frozenset(anew), self._approvals, self.clock(), identities, owed)
        self.dispatcher.reconfigure(event, anew)
        self.silences.retain(TRIGGERS)
        self.going_over = frozenset()
        self.judge.reloaded(self)
        self.journal.append("reload", {"change": change.describe()}, self.clock())
        self.journal.flush()

    def _config(self, houses: Mapping[str, House]) -> Config:
        accounts = {name: house.configured for name, house in houses.items()}
        rest = (
            IntakeConfig(),
            DrillConfig(),
            RearmConfig(),
            SilenceConfig(),
            HooksConfig(),
            NotifyConfig(),
            PingConfig(),
        )
        return Config(self._directory, DaemonConfig(), accounts, {}, *rest)

    def _adopt_latch(self) -> None:
        said = self.journal.foreign_latch()
        if said is None:
            return
        latch = parse_latch(said, self._houses)
        self.judge.latch_found(said, latch.accounts)
        self.report(latch.reason(self.clock()))
        self.journal.adopt_latch(said)
        self.judge.latch_taken()

    def _pulse(self) -> None:
        self._adopt_latch()
        self.journal.retry_pending()
        self.judge.settled_disk(self)
        self.silences.look()
        self.judge.silences.looked()
        asked = self.clock()
        self.dispatcher.handle(Pulse(asked))
        if self.dispatcher.last_pulse_ns < asked.mono_ns:
            self.judge.wrong("the engine did not answer a pulse")
        self.enter_later(PULSE_S, self._pulse)

    def _announce(self, news: Announce) -> None:
        text = news.text.replace(str(self._directory), "")  # which is another one each time
        self.world.note("says", news.level, news.account or "-", text)
