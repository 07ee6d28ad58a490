"""Live one process's life: the real journal, recovery, engine, dispatcher, sessions and adapters, until it crashes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kill_switch import recovery
from kill_switch.dispatch import Dispatcher
from kill_switch.domain import Reason
from kill_switch.engine import Announce, Granted, Pulse, RearmAsked, Recovered, Refused, Waiting
from kill_switch.journal import Journal
from kill_switch.latches import latch_text, latched_accounts
from kill_switch.report import Reports

from .house import House
from .network import FreshRoute, HttpLane, WsLane
from .world import Appointment, World

if TYPE_CHECKING:
    from .judge import Judge

PULSE_S = 0.5
BUDGET_US = 500_000


class Crashed(BaseException):
    """The process ends here, in the middle of whatever it was doing."""


class SlowDisk(Journal):
    """The journal, whose sync takes its virtual time; what has been synced outlives the machine."""

    def __init__(self, life: Life, state_dir: Path, runtime_dir: Path) -> None:
        self.life = life
        self.durable = 0  # bytes that a power cut leaves
        super().__init__(state_dir, runtime_dir)
        self.durable = self._size

    @property
    def size(self) -> int:
        return self._size

    def _write(self) -> bool:
        self.life.step()
        written = super()._write()
        self.life.step()
        return written

    def sync(self) -> None:
        world = self.life.world
        takes_s = world.net.random() ** 3 * (2.0 if world.net.random() < 0.1 else 0.05)
        world.later(takes_s, self._synced, self._size)

    def _synced(self, size: int) -> None:
        if self.life.alive:
            self.durable = max(self.durable, size)
            self.life.judge.synced(self.durable)

    def _syncing(self) -> None:
        """Begin no thread's work: nothing is parallel here."""

    def let_go(self) -> None:
        """Close as the kernel does for a process that is gone."""
        os.close(self._fd)
        os.close(self._lock)


class Life:
    """One process, from its start to its crash."""

    def __init__(self, world: World, houses: dict[str, House], judge: Judge, directory: Path, approvals: int) -> None:
        self.world, self.judge = world, judge
        self.alive = True
        self.crash_in = 0  # steps until the crash; 0: none is coming
        self.stands = False  # what it has found at its start has been judged
        self.crashed: Callable[[], None] = lambda: None
        self._houses = houses
        self.journal = SlowDisk(self, directory / "state", directory / "run")
        replay = self.journal.replay
        judge.opened(replay)
        self.reports = Reports(BUDGET_US, replay.entries)
        self.journal.on_entry = self.reports.take
        adapters = {name: house.adapter() for name, house in houses.items()}
        state = recovery.rebuild(replay.entries, {name: a.PACE for name, a in adapters.items()}, approvals)
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
        accounts = latched_accounts(said, self._houses)
        self.judge.latch_found(said, accounts)
        self.report(Reason("latch", latch_text(said)[:1000], accounts, self.clock(), {"said": said[:1000]}))
        self.journal.take_latch(said)
        self.judge.latch_taken()

    def _pulse(self) -> None:
        self._adopt_latch()
        asked = self.clock()
        self.dispatcher.handle(Pulse(asked))
        if self.dispatcher.alive_ns < asked.mono_ns:
            self.judge.wrong("the engine did not answer a pulse")
        self.enter_later(PULSE_S, self._pulse)

    def _announce(self, news: Announce) -> None:
        self.world.note("says", news.level, news.account or "-", news.text)
