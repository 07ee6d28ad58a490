"""Have a running daemon go over to what its file says now: validated whole, then applied or refused as a whole.

`reload` is the comparison and the judgement; here is what is done about them. Until everything that can fail has been
done, nothing has changed; from there on nothing waits, so that no reason comes in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from kill_switch import clock, config, control, wiring
from kill_switch.beside import Beside
from kill_switch.config import Config
from kill_switch.dispatch import Dispatcher, Session
from kill_switch.domain import Reason
from kill_switch.drills import Drills
from kill_switch.engine import Announce, Reconfigured
from kill_switch.errors import ConfigError, Problem
from kill_switch.journal import Journal
from kill_switch.operators import Operators
from kill_switch.reload import Change, against, compare
from kill_switch.report import Reports
from kill_switch.tasks import Tasks
from kill_switch.transports.network import Network
from kill_switch.triggers.intake import Intake
from kill_switch.watching import Watch


class Reloading:
    """Hold the configuration in force, and the tasks that it wants."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        journal: Journal,
        reports: Reports,
        intake: Intake,
        watch: Watch,
        drills: Drills,
        operators: Operators,
        beside: Beside,
        network: Network,
        announce: Callable[[Announce], None],
    ) -> None:
        self.config = config
        self.left_tripped = frozenset[str]()  # accounts that are in no configuration now, and come back tripped
        self._dispatcher = dispatcher
        self._journal = journal
        self._reports = reports
        self._intake = intake
        self._watch = watch
        self._drills = drills
        self._operators = operators
        self._beside = beside
        self._network = network
        self._announce = announce
        self._asked = anyio.Event()
        self._lock = anyio.Lock()
        self._thread = anyio.CapacityLimiter(1)  # its own: a file that hangs holds up no other work in threads
        self._group: TaskGroup
        self._tasks: Tasks

    # ── what runs ─────────────────────────────────────────────────────────────────────────────────────────────────

    def enter(self, group: TaskGroup, tasks: Tasks) -> None:
        """Take the place where all tasks run."""
        self._group, self._tasks = group, tasks

    def connect(self, name: str, session: Session, lanes: Iterable[tuple[str, wiring.Work]]) -> None:
        """Keep an account's lanes running."""
        self._dispatcher.sessions[name] = session
        for lane, work in lanes:
            self._tasks.keep(lane, work)

    def watch(self, name: str) -> None:
        """Keep a trigger running."""
        trigger = self._watch.triggers[name]
        self._tasks.keep(f"trigger {name}", lambda: self._watch.run(trigger))

    def cast(self) -> dict[str, object]:
        """Name the accounts and triggers that there are, for the record."""
        accounts = {name: account.venue for name, account in self.config.accounts.items()}
        return {"accounts": accounts, "triggers": {name: t.kind for name, t in self._watch.triggers.items()}}

    # ── who asks ──────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self) -> None:
        """Have it done soon: a signal has come."""
        self._asked.set()

    async def run(self) -> None:
        """Do what `ask` asks for, for ever."""
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            with contextlib.suppress(ConfigError):  # which has been said
                await self.reload()

    async def handle(self, request: Mapping[str, object], caller: control.Caller) -> Mapping[str, object]:
        """Answer an operator."""
        try:
            change = await self.reload(caller)
        except ConfigError as error:
            raise control.Refusal(
                f"not reloaded:\n{error}", error.exit_code, why=list(map(str, error.problems))
            ) from None
        return {"reloaded": change.words()}

    # ── what is done ──────────────────────────────────────────────────────────────────────────────────────────────

    async def reload(self, caller: control.Caller | None = None) -> Change:
        """Go over to what the file says now, as a whole; raise `ConfigError`, with nothing changed, if that cannot be.

        Accounts that it does not concern keep their lanes. What is tripped stays tripped.
        """
        by = {} if caller is None else {"uid": caller.uid, "user": caller.user}
        async with self._lock:
            try:
                new = await anyio.to_thread.run_sync(
                    config.load, self.config.source, abandon_on_cancel=True, limiter=self._thread
                )
                await wiring.prepare(self._network, new)
                change = self._apply(new)  # without an await: nothing happens in between
            except ConfigError as error:
                why = list(map(str, error.problems))
                self._journal.append("reload-refused", {**by, "why": why}, clock.now())
                self._journal.flush()
                self._announce(Announce("warn", f"the configuration is not reloaded: {'; '.join(why)}"))
                raise
            self._journal.append("reload", {**by, "change": change.words(), **self.cast()}, clock.now())
            self._journal.flush()
            self._announce(Announce("info", f"configuration reloaded: {change.words()}"))
            return change

    def _apply(self, new: Config) -> Change:
        old = self.config
        phases = {name: account.phase for name, account in self._dispatcher.state.accounts.items()}
        if problems := against(old, new, phases):
            raise ConfigError(str(new.source), problems)
        change = compare(old, new)
        lines = {}
        for name in (*change.anew, *change.added):
            adapter = new.accounts[name].adapter(new.daemon.hedge_after_s)
            lines[name] = wiring.line(self._dispatcher, new, name, adapter, self._group.start_soon, self._network)
        take_triggers = self._watch.prepare(new, change.triggers_begun)
        if new.intake != old.intake:
            try:
                self._intake.rebind(*remote(new))
            except OSError as error:
                raise ConfigError(str(new.source), [Problem("intake.udp", error.strerror or "no", "")]) from None
        # from here on nothing can fail
        self.config = self._operators.config = new
        for name in (*change.removed, *change.anew):
            self._tasks.end(f"{name} ws")
            self._tasks.end(f"{name} http")
        sessions = {name: session for name, (session, _) in lines.items()}
        venues = {name: (sessions.get(name) or self._dispatcher.sessions[name]).venue for name in new.accounts}
        event = Reconfigured(wiring.paces(venues), frozenset(change.anew), new.rearm.approvals, clock.now())
        self._dispatcher.reconfigure(event, sessions)
        for name, line in lines.items():
            self.connect(name, *line)
        for session in self._dispatcher.sessions.values():
            session.venue.hedge_after_s = new.daemon.hedge_after_s
        self._reports.budget_us = self._drills.budget_us = int(new.daemon.budget_s * 1e6)
        self._drills.schedule(new.drill.cron, new.drill.timezone)
        self._beside.take(new, self._tasks)
        for name in change.triggers_ended:
            self._tasks.end(f"trigger {name}")
        take_triggers()
        for name in change.triggers_begun:
            self.watch(name)
        again = tuple(name for name in change.added if name in self.left_tripped)
        self.left_tripped -= frozenset(again)
        if again:
            text = "tripped when the configuration last had it"
            self._dispatcher.report(Reason("latch", text, again, clock.now()))
        self._operators.changed()
        return change


def remote(config: Config) -> tuple[tuple[str, int] | None, bytes | None]:
    """Return where the intake listens besides its socket, and the key that datagrams there are signed with."""
    udp, key = config.intake.udp, config.intake.key
    return (udp.host, udp.port) if udp else None, key.get_secret_value().encode() if key else None
