"""Have a running daemon go over to what its file says now: validated whole, then applied or refused as a whole.

`reload` is the comparison and the judgement; here is what is done about them. Until everything that can fail has been
done, nothing has changed; from there on nothing waits, so that no reason comes in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

import anyio
from anyio.abc import TaskGroup

from kill_switch import clock
from kill_switch.config import loader as config
from kill_switch.config.diff import Change, against, compare, identify
from kill_switch.config.in_force import APPROVALS, changes, in_force
from kill_switch.config.loader import Config
from kill_switch.control import server
from kill_switch.control.handlers import Operators
from kill_switch.core.domain import Reason, Severity
from kill_switch.core.engine import Announce, Reconfigured
from kill_switch.core.identity import Identity
from kill_switch.core.records import ReloadRecord
from kill_switch.dispatch import connect as wiring
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.session import AccountSession
from kill_switch.errors import ConfigError, Problem
from kill_switch.health.drills import Drills
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import Reports
from kill_switch.journal.records import ReloadRefusedRecord
from kill_switch.outbound.services import Beside
from kill_switch.system.offload import Offload
from kill_switch.tasks import Tasks
from kill_switch.transports.network import Network
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.supervisor import Watch
from kill_switch.wakeup import AutoResetEvent

READ_WITHIN_S = 10.0  # the configuration and all its secrets
LATCHES_WITHIN_S = 1.0  # for the file systems of both directories; a pulse takes over what comes later
MOST_READS = 4  # that may hang: each has a thread
_MEND = "mend it, then reload again"


class Cast(TypedDict):
    """The accounts and triggers that there are, the configuration in force, and what is new in it."""

    accounts: Mapping[str, Any]
    triggers: Mapping[str, str]
    config: Mapping[str, Any]
    changed: Mapping[str, Any]


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
        *,
        adopt: Callable[[], object],
        left_tripped: Mapping[str, tuple[Identity, ...]],
        recorded: Mapping[str, object],
        salt: str,
    ) -> None:
        """`adopt` takes over latches that were left in files.

        `left_tripped` has accounts that are in no configuration now, with who was struck under their names: they come
        back tripped. `recorded` is the configuration that was in force at the last record. `salt` is that of the
        identities of accounts that were not struck.
        """
        self.config = config
        self.left_tripped = left_tripped
        self._adopt = adopt
        self._recorded = recorded
        self._salt = salt
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
        self._files = Offload(f"the file system of {config.source}, or of the secrets in it,")
        self._hung: list[Offload] = []  # each with a read that nobody waits for any more
        self._asked = AutoResetEvent()
        self._lock = anyio.Lock()
        self._group: TaskGroup
        self._tasks: Tasks

    # ── what runs ─────────────────────────────────────────────────────────────────────────────────────────────────

    def enter(self, group: TaskGroup, tasks: Tasks) -> None:
        """Take the place where all tasks run."""
        self._group, self._tasks = group, tasks

    def connect(self, name: str, session: AccountSession, lanes: Iterable[tuple[str, wiring.Work]]) -> None:
        """Keep an account's lanes running."""
        self._dispatcher.register(session)
        for lane, work in lanes:
            self._tasks.keep(lane, work)

    def watch(self, name: str) -> None:
        """Keep a trigger running."""
        trigger = self._watch.triggers[name]
        self._tasks.keep(f"trigger {name}", lambda: self._watch.run(trigger))

    def leave_tripped(self, names: Iterable[str]) -> None:
        """Take note of accounts that are in no configuration, and tripped by a latch that does not say who they are."""
        self.left_tripped = {**dict.fromkeys(names, ()), **self.left_tripped}

    def cast(self) -> Cast:
        """Return the accounts and triggers that there are, the configuration in force and what is new in it.

        For the record; the next call compares with this one.
        """
        accounts = {name: account.venue for name, account in self.config.accounts.items()}
        triggers = {name: t.kind for name, t in self._watch.triggers.items()}
        before = self._recorded
        self._recorded = {**in_force(self.config), APPROVALS: self._dispatcher.state.approvals_needed}
        changed = changes(before, self._recorded) if before else {}
        return Cast(accounts=accounts, triggers=triggers, config=self._recorded, changed=changed)

    # ── who asks ──────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self) -> None:
        """Have it done soon: a signal has come."""
        self._asked.set()

    async def run(self) -> None:
        """Do what `ask` asks for, for ever."""
        while True:
            await self._asked.wait()
            with contextlib.suppress(ConfigError):  # which has been said
                await self.reload()

    async def handle(self, request: Mapping[str, object], caller: server.Caller) -> Mapping[str, object]:
        """Answer an operator."""
        try:
            change = await self.reload(caller)
        except ConfigError as error:
            raise server.Refusal(
                f"not reloaded:\n{error}", error.exit_code, why=list(map(str, error.problems))
            ) from None
        problems = await self._operators.problems()
        return {"reloaded": change.words(), **({"problems": problems} if problems else {})}

    # ── what is done ──────────────────────────────────────────────────────────────────────────────────────────────

    async def reload(self, caller: server.Caller | None = None) -> Change:
        """Go over to what the file says now, as a whole; raise `ConfigError`, with nothing changed, if that cannot be.

        Accounts that it does not concern keep their lanes. What is tripped stays tripped.
        """
        uid, user = (None, None) if caller is None else (caller.uid, caller.user)
        async with self._lock:
            try:
                new = await self._read()
                await wiring.prepare(self._network, new)
                await self._take_latches()
                change = self._apply(new)  # without an await: nothing happens in between
            except ConfigError as error:
                why = list(map(str, error.problems))
                refused = ReloadRefusedRecord(uid=uid, user=user, why=tuple(why))
                self._journal.append(refused.kind, refused.to_json(), clock.now())
                self._journal.flush()
                self._announce(Announce(Severity.WARN, f"the configuration is not reloaded: {'; '.join(why)}"))
                raise
            record = ReloadRecord(uid=uid, user=user, change=change.words(), **self.cast())
            self._journal.append(record.kind, record.to_json(), clock.now())
            self._journal.flush()
            self._announce(Announce(Severity.INFO, f"configuration reloaded: {change.words()}"))
            return change

    async def _take_latches(self) -> None:
        """Take over what direct kills have left: it is for the accounts as they are, not as they are to be."""
        with anyio.move_on_after(LATCHES_WITHIN_S):
            for _ in range(2):  # a look that is under way may have come too early
                self._journal.settle()
                while self._journal.looking:  # noqa: ASYNC110 - threads' work
                    await anyio.sleep(0.005)
        self._adopt()

    async def _read(self) -> Config:
        """Return what the file says now; raise `ConfigError` if it is wrong, or if its file system does not answer."""
        source = self.config.source
        for files in [files for files in self._hung if not files.busy]:
            self._hung.remove(files)
            files.close()
        if self._files.busy:  # it may hang for ever; meanwhile another file system may be in use
            if len(self._hung) + 1 >= MOST_READS:
                found = f"{MOST_READS} earlier reloads still wait for it"
                raise ConfigError(str(source), [Problem("file system", found, _MEND)])
            self._hung.append(self._files)
            self._files = Offload(self._files.what)
        with anyio.move_on_after(READ_WITHIN_S):
            return await self._files.run(config.load, source)
        raise ConfigError(str(source), [Problem("file system", f"no answer within {READ_WITHIN_S:g} s", _MEND)])

    @property
    def trouble(self) -> str:
        """Say that an earlier reload still waits for a file system; "" if none does."""
        return next((files.trouble for files in (*self._hung, self._files) if files.trouble), "")

    def _apply(self, new: Config) -> Change:
        old = self.config
        states = self._dispatcher.state.accounts
        phases = {name: account.phase for name, account in states.items()}
        if problems := against(old, new, phases, {name: account.owed for name, account in states.items()}):
            raise ConfigError(str(new.source), problems)
        change = compare(old, new)
        lines = {}
        for name in (*change.anew, *change.added):
            adapter = new.accounts[name].adapter(new.daemon.hedge_after_s)
            lines[name] = wiring.line(self._dispatcher, new, name, adapter, self._group.start_soon, self._network)
        take_triggers = self._watch.prepare(new, change.triggers_begun, change.renamed)
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
        back = self._back(old, new, (*change.added, *change.anew))
        struck = {name: self.left_tripped[was] for name, was in back.items()}
        identities, owed = identify(new, change.anew, states, struck, self._salt)
        moved = {was: name for name, was in back.items() if name != was}
        approvals = new.rearm.approvals
        if self._dispatcher.state.tripped:  # fewer than when it tripped would do for nobody
            approvals = max(approvals, self._dispatcher.state.approvals_needed)
        event = Reconfigured(
            wiring.paces(venues), frozenset(change.anew), approvals, clock.now(), identities, owed, moved
        )
        self._dispatcher.reconfigure(event, sessions)
        for name, line in lines.items():
            self.connect(name, *line)
        for adapter in venues.values():
            adapter.hedge_after_s = new.daemon.hedge_after_s
        self._reports.budget_us = self._drills.budget_us = int(new.daemon.budget_s * 1e6)
        self._drills.schedule(new.drill.cron, new.drill.timezone)
        self._beside.take(new, self._tasks)
        for name in change.triggers_ended:
            self._tasks.end(f"trigger {name}")
        take_triggers()
        for name in change.triggers_begun:
            self.watch(name)
        self.left_tripped = {name: ones for name, ones in self.left_tripped.items() if name not in back.values()}
        if back:
            text = "tripped when the configuration last had it"
            if moved:
                text += ", as " + ", ".join(moved)
            self._dispatcher.fire(Reason("latch", text, tuple(back), clock.now()))
        self._operators.changed()
        return change

    def _back(self, old: Config, new: Config, others: Iterable[str]) -> dict[str, str]:
        """Return which accounts of `others`, new ones or with another login, are tripped, and under which names.

        Such an account has a name under which somebody was struck that is in no configuration now, or has got a login
        of such a name.
        """
        back = {name: name for name in others if name in self.left_tripped}
        for name in others:
            login, before = new.accounts[name].login, old.accounts[name].login if name in old.accounts else None
            for was, ones in self.left_tripped.items():
                if any(login.is_same(one) and not (before and before.is_same(one)) for one in ones):
                    back.setdefault(name, was)
        return back


def remote(config: Config) -> tuple[tuple[str, int] | None, bytes | None]:
    """Return where the intake listens besides its socket, and the key that datagrams there are signed with."""
    udp, key = config.intake.udp, config.intake.key
    return (udp.host, udp.port) if udp else None, key.get_secret_value().encode() if key else None
