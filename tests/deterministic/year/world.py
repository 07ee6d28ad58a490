"""A machine and its venues for a year: the real triggers under the real watch, and everything that happens to them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, ClassVar

import anyio
from anyio.abc import TaskGroup

from kill_switch.config.loader import load
from kill_switch.core.commands import RearmGranted
from kill_switch.core.domain import LaneState, Phase, SweepTiming
from kill_switch.core.events import RearmAsked
from kill_switch.core.state import AccountState, State
from kill_switch.journal import history
from kill_switch.system.offload import OffloadThread
from kill_switch.triggers import link, order_rate, schedule, stall_clock
from kill_switch.triggers.flag import trigger as flag
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.pnl import trigger as pnl
from kill_switch.triggers.supervisor import TriggerSupervisor
from tests.deterministic.year.model import DAY, HOUR, MINUTE, STEP_S, Model
from tests.harness.dispatch_doubles import Floor, Lane
from tests.harness.virtual_time import START, running

RARER: tuple[tuple[ModuleType, str, float], ...] = (  # looks are rarer, and the time-outs longer for it
    (stall_clock, "TICK_S", STEP_S),
    (stall_clock, "LATE_S", STEP_S),
    (link, "LOOK_EVERY_S", STEP_S),
    (pnl, "LOOK_EVERY_S", STEP_S),
    (order_rate, "LOOK_EVERY_S", STEP_S),
    (schedule, "LOOK_EVERY_S", STEP_S),
    (flag, "POLL_S", 2 * STEP_S),
)
ACCOUNT = '[accounts.{0}]\nvenue = "oxfun"\napi_key = {{ env = "KEY_{0}" }}\napi_secret = {{ env = "SECRET" }}\n'
JOURNAL_EVERY_S = 10 * MINUTE  # something is on record at least that often
MOST_NEWS = 2000  # entries that only say when somebody wrote


class Inline(OffloadThread):
    """Carry out at once what a thread would, or hold it while the file system hangs."""

    hung: ClassVar[bool] = False
    held: ClassVar[list[Callable[[], object]]] = []

    def _put(self, work: Callable[[], object]) -> None:
        if Inline.hung:
            Inline.held.append(work)
        else:
            work()

    @classmethod
    def hang(cls, hung: bool) -> None:
        """Have the file system hang from now on, or answer all that it was asked."""
        cls.hung = hung
        held, cls.held = ([], cls.held) if hung else (cls.held, [])
        for work in held:
            work()


class World:
    """All of it, in steps of `STEP_S`."""

    def __init__(
        self,
        directory: Path,
        kinds: Sequence[type[Model]],
        begin: datetime,
        days: float,
        random: Random,
        density: float,
    ) -> None:
        """`density` is how many times as much happens as in a common year."""
        self.loop = running()
        self.loop.jump_wall(begin.timestamp() - self.loop.now().wall_ns / 1e9)
        self.directory = directory
        self.random = random
        self.density = density
        self.begin = begin
        self.days = days
        self.up = False
        self.heard_s = 0.0  # how long a daemon has listened, in all
        self.stalls = 0
        self.restarts = 0
        self.log: deque[str] = deque(maxlen=4)  # what has happened to the machine lately
        self._accounts = tuple(name for kind in kinds for name in kind.ACCOUNTS)
        self._journal: dict[tuple[str, object], Mapping[str, Any]] = {}  # kind and trigger → the last entry
        self._news: deque[Mapping[str, Any]] = deque(maxlen=MOST_NEWS)
        self._state = State({name: AccountState(SweepTiming()) for name in self._accounts})
        self._up_s = 0.0  # when the daemon is started again
        self._connected_s = 0.0  # when its lanes are up
        self._off_s = 0.0  # how wrong the wall clock is
        self._numbers = itertools.count(1)
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._taken = 0  # records that have been looked at
        self.models = [kind(self, Random(random.random())) for kind in kinds]  # noqa: S311 - dice, not secrets
        self._config = self._written()

    # ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now_s(self) -> float:
        """Return the monotonic time since the beginning."""
        return self.loop.time() - START.mono_ns / 1e9

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.loop.now().wall_ns / 1e9, UTC)

    def stamp(self) -> str:
        return self.wall().strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def connected(self) -> bool:
        """The daemon is up, and has had the time to connect: a lane is up unless its venue is down."""
        return self.up and self.now_s >= self._connected_s

    # ── the daemon ────────────────────────────────────────────────────────────────────────────────────────────────

    def _written(self) -> Any:
        source = self.directory / "config.toml"
        run = self.directory / "run"
        run.mkdir()
        text = f'[daemon]\nstate_dir = "{self.directory}/state"\nruntime_dir = "{run}"\n'
        text += "".join(map(ACCOUNT.format, self._accounts))
        for model in self.models:
            names = ", ".join(f'"{name}"' for name in model.ACCOUNTS)
            text += f"[triggers.{model.NAME}]\n{model.TOML.format(run=run)}accounts = [{names}]\n"
        source.write_text(text)
        environ = {f"KEY_{name}": f"a-key-of-{name}" for name in self._accounts}
        return load(source, environ={**environ, "SECRET": "a-secret"})

    def _boot(self, group: TaskGroup) -> None:
        self.floor = Floor(self._accounts, self._state)
        for name in self._accounts:
            http = Lane(name, self.floor.trace)
            self.floor.connect(name, self.floor.venues[name], http=http)
            self.floor.lanes[name].state = http.state = LaneState.DOWN
        self._taken = 0
        entries = [*self._journal.values(), *self._news]
        seen = history.triggers_watched_until(sorted(entries, key=lambda entry: entry["seq"]), self.wall())
        intake = Intake(self.directory / "run/intake.sock", None, None, clock=self.loop.now)
        announce = self.floor.announced.append
        self.watch = TriggerSupervisor(
            self._config, self.floor.dispatcher, intake, seen, announce, clock=self.loop.now, entries=entries
        )
        self._write("start", {"triggers": {model.NAME: model.TOML for model in self.models}})
        self.up = True
        self._connected_s = self.now_s + self.random.uniform(0, 2 * STEP_S)
        group.start_soon(self._run)
        for model in self.models:
            model.booted()

    async def _run(self) -> None:
        self._ended = anyio.Event()
        try:
            async with anyio.create_task_group() as group:
                self._scope = group.cancel_scope
                group.start_soon(self.watch.stall_clock.run)
                for trigger in self.watch.triggers.values():
                    group.start_soon(self.watch.run, trigger)
        finally:
            self._ended.set()

    async def _stop(self, *, crash: bool, seconds: float) -> None:
        for model in self.models:
            model.stopping()
        self.log.append(f"{self.stamp()} {'killed' if crash else 'stopped'} for {seconds:.0f} s")
        self._scope.cancel()
        await self._ended.wait()
        if not crash:  # else whatever its end still writes is lost
            self._look_at_records()
        self.up = False
        self._state = self.floor.dispatcher.state
        self._up_s = self.now_s + seconds
        self.restarts += 1

    def _write(self, kind: str, data: Mapping[str, Any]) -> None:
        entry = {"kind": kind, "data": data, "seq": next(self._numbers), "at": self.wall().isoformat()}
        self._news.append({**entry, "kind": "clock", "data": {}})
        self._journal[kind, data.get("trigger")] = entry

    def _look_at_records(self) -> dict[str, list[Mapping[str, Any]]]:
        """Put new records into the journal; return reasons, by trigger."""
        records, found = self.floor.recorder.records, dict[str, list[Mapping[str, Any]]]()
        new, self._taken = records[self._taken :], len(records)
        for kind, data in new:
            if kind == "reason":
                found.setdefault(data["trigger"], []).append(data)
            elif "trigger" in data:
                self._write(kind, data)
        return found

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────

    async def live(self, each_day: Callable[[World], None] = lambda world: None) -> None:
        """Let all its days pass; `each_day` is called behind each."""
        end_s, told_s = self.days * DAY, 0.0
        async with anyio.create_task_group() as group:
            self._boot(group)
            while self.now_s < end_s:
                before_s, was_up = self.now_s, self.up
                await anyio.sleep(STEP_S)
                if self.now_s // DAY > before_s // DAY:
                    each_day(self)
                if was_up:
                    self.heard_s += self.now_s - before_s
                    self._daemons_pulse()
                    reasons = self._look_at_records()
                    self._clear(reasons)
                    for model in self.models:
                        model.judge(reasons.get(model.NAME, []))
                    for model in self.models:
                        model.consider_rearm()
                elif self.now_s >= self._up_s:
                    self._boot(group)
                for model in self.models:
                    model.play()
                await self._disturb()
                if self.now_s - told_s >= JOURNAL_EVERY_S and self.up:
                    told_s = self.now_s
                    self._write("clock", {})
            group.cancel_scope.cancel()

    def _daemons_pulse(self) -> None:
        self.watch.start_boot_timers()
        self.watch.notice_blind()

    def _clear(self, reasons: Mapping[str, object]) -> None:
        """Let every kill be over at once, as if the venue had shown it."""
        if not reasons:
            return
        state = self.floor.dispatcher.state
        accounts = {
            name: account._replace(sweep=account.sweep._replace(phase=Phase.CLEAR)) if account.sweep else account
            for name, account in state.accounts.items()
        }
        self.floor.dispatcher.state = state._replace(accounts=accounts)
        for lane in self.floor.lanes.values():
            lane.calls.clear()
        self.floor.trace.clear()

    def rearm(self, model: Model) -> list[str]:
        """Re-arm a model's accounts as operators do; return what speaks against it."""
        if not self.up:
            return ["no daemon"]
        accounts = set(model.ACCOUNTS)
        whys = list(self.watch.rearm_blockers(accounts))
        now = self.floor.time.now()
        asked = RearmAsked(1, "ann", "all well", model.ACCOUNTS, False, tuple(whys), now)
        match self.floor.dispatcher.rearm(asked):
            case RearmGranted():
                for trigger in self.watch.watching(accounts):
                    self.watch.on_rearmed(trigger, accounts)
                return []
            case refused:
                return whys or [str(refused)]

    async def _disturb(self) -> None:
        """Let happen to the machine what happens to machines."""
        if not self.up:
            return
        if self._happens(2 * DAY):
            seconds = self.random.choice((STEP_S, MINUTE, 10 * MINUTE, self.random.uniform(0, 3 * HOUR)))
            await self._stop(crash=self.random.random() < 0.5, seconds=seconds)
        elif self._happens(3 * DAY):
            seconds = self.random.choice((MINUTE, 10 * MINUTE, self.random.uniform(0, 4 * HOUR)))
            for model in self.models:
                model.stood_still(seconds)
            self.log.append(f"{self.stamp()} stood still for {seconds:.0f} s")
            self.loop.stall(seconds)
            self.stalls += 1
        elif self._happens(4 * DAY):  # the machine sleeps: its monotonic clock stands still
            self._set_clock(self.random.choice((30.0, 10 * MINUTE, self.random.uniform(0, 8 * HOUR))))
        elif not self._off_s and self._happens(10 * DAY):
            self._off_s = self.random.choice((90.0, -90.0, HOUR, -HOUR, 2 * DAY, -2 * DAY))
            self._set_clock(self._off_s)
        elif self._off_s and self._happens(3 * HOUR):
            self._set_clock(-self._off_s)
            self._off_s = 0.0

    def _set_clock(self, seconds: float) -> None:
        self.log.append(f"{self.stamp()} clock set by {seconds:.0f} s")
        for model in self.models:
            model.clock_set(seconds)
        self.loop.jump_wall(seconds)

    def _happens(self, each_s: float) -> bool:
        return self.random.random() < STEP_S * self.density / each_s


@contextmanager
def rarer_looks() -> Iterator[None]:
    """Have the triggers look as rarely as the models do, and the flag's file system answer without a thread."""
    with ExitStack() as stack:
        for module, name, value in (*RARER, (flag, "OffloadThread", Inline)):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        Inline.hang(False)
        yield
