"""Live one process's life: the real journal, recovery, engine, dispatcher, sessions and adapters, until it crashes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kill_switch import intent, recovery
from kill_switch.dispatch import Dispatcher
from kill_switch.domain import Now, Reason
from kill_switch.engine import Announce, Granted, Pulse, RearmAsked, Recovered, Refused, Waiting
from kill_switch.journal import Journal
from kill_switch.latches import claim
from kill_switch.report import Reports
from kill_switch.syncing import Syncing

from .house import House
from .network import FreshRoute, HttpLane, WsLane
from .world import Appointment, World

if TYPE_CHECKING:
    from .judge import Judge

PULSE_S = 0.5
BUDGET_US = 500_000
SALT = "5a17"  # the same one each time: a seed tells the same story


class Crashed(BaseException):
    """The process ends here, in the middle of whatever it was doing."""


class SlowSync(Syncing):
    """The sync beside, without its thread: it takes its virtual time."""

    def __init__(self, life: Life, fd: int, size: int, beside: Callable[[], None]) -> None:
        self._life = life
        self._under_way = False
        self.asked = 0
        super().__init__(fd, size, beside)

    def _begin(self) -> None:
        """Begin no thread's work: nothing is parallel here."""

    def ask(self, size: int) -> None:
        super().ask(size)
        self.asked = size
        if not self._under_way:
            self._go()

    def _go(self) -> None:
        world = self._life.world
        self._called, self._under_way = False, True
        world.later(world.disk.takes_s(), self._done)

    def _done(self) -> None:
        if self._life.alive:
            self._once()
            self._under_way = False
            if self._called:
                self._go()


class Record(Journal):
    """The journal, each step of which may be the process's last."""

    def __init__(self, life: Life, state_dir: Path, runtime_dir: Path) -> None:
        self.life = life
        self.latched: list[float] = []  # bytes that have each latch so far; infinity: it is not written yet
        super().__init__(state_dir, runtime_dir)

    @property
    def size(self) -> int:
        return self._size

    @property
    def asked(self) -> int:
        """Bytes that the disk was asked to take."""
        assert isinstance(self._syncing, SlowSync)
        return self._syncing.asked

    @property
    def durable(self) -> int:
        """Bytes that the product believes to be on the disk."""
        return self._syncing.durable

    def intend(self, reason: Reason) -> bool:
        self.life.step()
        intended = super().intend(reason)
        self.life.step()
        return intended

    def latch(self, kind: str, data: Mapping[str, object], at: Now) -> bool:
        written = super().latch(kind, data, at)
        self.latched.append(self._size if written else math.inf)
        if not written:
            self.life.judge.filed = True
        return written

    def _write(self) -> bool:
        self.life.step()
        written = super()._write()
        if written and math.inf in self.latched:
            self.latched = [min(bytes_, self._size) for bytes_ in self.latched]
            self.life.judge.latch_written(self._size)
        self.life.step()
        return written

    def _forget_latch(self) -> None:
        self.life.step()
        super()._forget_latch()
        self.life.step()

    def _begin_syncing(self) -> Syncing:
        return SlowSync(self.life, self._fd, self._size, self._sync_names)

    def let_go(self) -> None:
        """Close as the kernel does for a process that is gone."""
        os.close(self._fd)
        self._intent.close()
        os.close(self._lock)


class Life:
    """One process, from its start to its crash."""

    def __init__(self, world: World, houses: dict[str, House], judge: Judge, directory: Path, approvals: int) -> None:
        self.world, self.judge = world, judge
        self.alive = True
        self.crash_in = 0  # steps until the crash; 0: none is coming
        self.doubled: set[tuple[str, str]] = set()  # cancel calls whose second copy was made, by account and tag
        self.stands = False  # what it has found at its start has been judged
        self.crashed: Callable[[], None] = lambda: None
        self._houses, self._directory = houses, directory
        judge.opening(directory / "run" / intent.NAME)
        self.journal = Record(self, directory / "state", directory / "run")
        replay = self.journal.replay
        judge.opened(replay)
        self.reports = Reports(BUDGET_US, replay.entries)
        self.journal.on_entry = self.reports.take
        adapters = {name: house.adapter() for name, house in houses.items()}
        paces, logins = (
            {name: a.PACE for name, a in adapters.items()},
            {n: house.login for n, house in houses.items()},
        )
        state = recovery.rebuild(replay.entries, paces, approvals, logins, SALT)
        self.dispatcher = Dispatcher(state, self.journal, self.clock, self.later, self._announce)
        for name, adapter in adapters.items():
            self.dispatcher.add(name, adapter)

    def begin(self) -> None:
        """Do what the daemon does at its start."""
        for name, session in self.dispatcher.sessions.items():
            house = self._houses[name]
            session.ws, session.http, session.fresh = (
                WsLane(self, house),
                HttpLane(self, house),
                FreshRoute(self, house),
            )
        self.journal.append("start", {"accounts": {}, "triggers": {}}, self.clock())
        self.journal.flush()
        self.judge.started(self)
        self.stands = True
        self.dispatcher.handle(Recovered(self.clock()))
        self._adopt_latch()
        self.judge.resumed(self)
        self._pulse()

    def clock(self) -> Any:
        self.step()
        return self.world.now()

    # steps, and the last of them

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
        self.journal.let_go()
        self.crashed()

    # what the daemon does besides

    def report(self, reason: Reason) -> None:
        self.judge.reason(self, reason)
        self.dispatcher.report(reason)
        self.judge.reported(self, reason)

    def rearm(self, asked: RearmAsked) -> Granted | Waiting | Refused:
        self.judge.rearm_asked(asked)
        verdict = self.dispatcher.rearm(asked)
        self.judge.rearm_answered(self, asked, verdict)
        return verdict

    def _adopt_latch(self) -> None:
        said = self.journal.foreign_latch()
        if said is None:
            return
        latch = claim(said, self._houses)
        self.judge.latch_found(said, latch.accounts)
        self.report(latch.reason(self.clock()))
        self.journal.take_latch(said)
        self.judge.latch_taken()

    def _pulse(self) -> None:
        self._adopt_latch()
        self.journal.settle()
        self.judge.settled_disk(self)
        asked = self.clock()
        self.dispatcher.handle(Pulse(asked))
        if self.dispatcher.alive_ns < asked.mono_ns:
            self.judge.wrong("the engine did not answer a pulse")
        self.enter_later(PULSE_S, self._pulse)

    def _announce(self, news: Announce) -> None:
        text = news.text.replace(str(self._directory), "")  # which is another one each time
        self.world.note("says", news.level, news.account or "-", text)
