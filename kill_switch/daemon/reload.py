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
from kill_switch.config.diff import ConfigDiff, current_identities, diff_configs, reload_blockers
from kill_switch.config.in_force import APPROVALS, changes, in_force
from kill_switch.config.loader import Config
from kill_switch.control import server
from kill_switch.control.handlers import ControlHandlers
from kill_switch.core.domain import Reason, Severity
from kill_switch.core.engine import Announce, Reconfigured
from kill_switch.core.identity import Identity
from kill_switch.core.records import ReloadRecord
from kill_switch.dispatch import connect as wiring
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.session import AccountSession
from kill_switch.errors import ConfigError, Problem
from kill_switch.health.drills import DrillRunner
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.records import ReloadRefusedRecord
from kill_switch.outbound.services import OutboundHub
from kill_switch.system.offload import OffloadThread
from kill_switch.tasks import TaskSupervisor
from kill_switch.transports.network import Network
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.supervisor import TriggerSupervisor
from kill_switch.wakeup import AutoResetEvent

READ_WITHIN_S = 10.0  # the configuration and all its secrets
LATCHES_WITHIN_S = 1.0  # for the file systems of both directories; a pulse takes over what comes later
MAX_READS = 4  # that may hang: each has a thread
_MEND = "mend it, then reload again"


class Cast(TypedDict):
    """The accounts and triggers that there are, the configuration in force, and what is new in it."""

    accounts: Mapping[str, Any]
    triggers: Mapping[str, str]
    config: Mapping[str, Any]
    changed: Mapping[str, Any]


class Reloader:
    """Hold the configuration in force, and the tasks that it wants."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        journal: Journal,
        reports: ReportBuilder,
        intake: Intake,
        watch: TriggerSupervisor,
        drills: DrillRunner,
        operators: ControlHandlers,
        beside: OutboundHub,
        network: Network,
        announce: Callable[[Announce], None],
        *,
        adopt: Callable[[], object],
        left_tripped: Mapping[str, tuple[Identity, ...]],
        recorded: Mapping[str, object],
        salt: str,
    ) -> None:
        """`adopt` takes over latches that were left in files.

        `tripped_unconfigured` has accounts that are in no configuration now, with who was struck under their names:
        they come back tripped. `recorded` is the configuration that was in force at the last record. `salt` is that of
        the
        identities of accounts that were not struck.
        """
        self.config = config
        self.tripped_unconfigured = left_tripped
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
        self._files = OffloadThread(f"the file system of {config.source}, or of the secrets in it,")
        self._hung: list[OffloadThread] = []  # each with a read that nobody waits for any more
        self._asked = AutoResetEvent()
        self._lock = anyio.Lock()
        self._group: TaskGroup
        self._tasks: TaskSupervisor

    # ── what runs ─────────────────────────────────────────────────────────────────────────────────────────────────

    def bind(self, group: TaskGroup, tasks: TaskSupervisor) -> None:
        """Take the place where all tasks run."""
        self._group, self._tasks = group, tasks

    def run_lanes(self, name: str, session: AccountSession, lanes: Iterable[tuple[str, wiring.Work]]) -> None:
        """Keep an account's lanes running."""
        self._dispatcher.register(session)
        for lane, work in lanes:
            self._tasks.supervise(lane, work)

    def run_trigger(self, name: str) -> None:
        """Keep a trigger running."""
        trigger = self._watch.triggers[name]
        self._tasks.supervise(f"trigger {name}", lambda: self._watch.run(trigger))

    def leave_tripped(self, names: Iterable[str]) -> None:
        """Take note of accounts that are in no configuration, and tripped by a latch that does not say who they are."""
        self.tripped_unconfigured = {**dict.fromkeys(names, ()), **self.tripped_unconfigured}

    def inventory(self) -> Cast:
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

    def request_reload(self) -> None:
        """Have it done soon: a signal has come."""
        self._asked.set()

    async def run(self) -> None:
        """Do what `ask` asks for, for ever."""
        while True:
            await self._asked.wait()
            with contextlib.suppress(ConfigError):  # which has been said
                await self.reload()

    async def handle_request(self, request: Mapping[str, object], caller: server.Caller) -> Mapping[str, object]:
        """Answer an operator."""
        try:
            change = await self.reload(caller)
        except ConfigError as error:
            raise server.RequestRefused(
                f"not reloaded:\n{error}", error.exit_code, why=list(map(str, error.problems))
            ) from None
        problems = await self._operators.problems()
        return {"reloaded": change.describe(), **({"problems": problems} if problems else {})}

    # ── what is done ──────────────────────────────────────────────────────────────────────────────────────────────

    async def reload(self, caller: server.Caller | None = None) -> ConfigDiff:
        """Go over to what the file says now, as a whole; raise `ConfigError`, with nothing changed, if that cannot be.

        Accounts that it does not concern keep their lanes. What is tripped stays tripped.
        """
        uid, user = (None, None) if caller is None else (caller.uid, caller.user)
        async with self._lock:
            try:
                new = await self._read()
                await wiring.load_authorities(self._network, new)
                await self._take_latches()
                change = self._apply(new)  # without an await: nothing happens in between
            except ConfigError as error:
                why = list(map(str, error.problems))
                refused = ReloadRefusedRecord(uid=uid, user=user, why=tuple(why))
                self._journal.append(refused.kind, refused.to_json(), clock.now())
                self._journal.flush()
                self._announce(Announce(Severity.WARN, f"the configuration is not reloaded: {'; '.join(why)}"))
                raise
            record = ReloadRecord(uid=uid, user=user, change=change.describe(), **self.inventory())
            self._journal.append(record.kind, record.to_json(), clock.now())
            self._journal.flush()
            self._announce(Announce(Severity.INFO, f"configuration reloaded: {change.describe()}"))
            return change

    async def _take_latches(self) -> None:
        """Take over what direct kills have left: it is for the accounts as they are, not as they are to be."""
        with anyio.move_on_after(LATCHES_WITHIN_S):
            for _ in range(2):  # a look that is under way may have come too early
                self._journal.retry_pending()
                while self._journal.latch_watch.is_looking:  # noqa: ASYNC110 - threads' work
                    await anyio.sleep(0.005)
        self._adopt()

    async def _read(self) -> Config:
        """Return what the file says now; raise `ConfigError` if it is wrong, or if its file system does not answer."""
        source = self.config.source
        for files in [files for files in self._hung if not files.busy]:
            self._hung.remove(files)
            files.close()
        if self._files.busy:  # it may hang for ever; meanwhile another file system may be in use
            if len(self._hung) + 1 >= MAX_READS:
                actual = f"{MAX_READS} earlier reloads still wait for it"
                raise ConfigError(str(source), [Problem("file system", actual, _MEND)])
            self._hung.append(self._files)
            self._files = OffloadThread(self._files.purpose)
        with anyio.move_on_after(READ_WITHIN_S):
            return await self._files.run(config.load, source)
        raise ConfigError(str(source), [Problem("file system", f"no answer within {READ_WITHIN_S:g} s", _MEND)])

    @property
    def trouble(self) -> str:
        """Say that an earlier reload still waits for a file system; "" if none does."""
        return next((files.trouble for files in (*self._hung, self._files) if files.trouble), "")

    def _apply(self, new: Config) -> ConfigDiff:
        old = self.config
        states = self._dispatcher.state.accounts
        phases = {name: account.phase for name, account in states.items()}
        if problems := reload_blockers(
            old, new, phases, {name: account.unproven_identities for name, account in states.items()}
        ):
            raise ConfigError(str(new.source), problems)
        change = diff_configs(old, new)
        lines = {}
        for name in (*change.new_logins, *change.added):
            adapter = new.accounts[name].build_adapter(new.daemon.hedge_after_s)
            lines[name] = wiring.connect_account(
                self._dispatcher, new, name, adapter, self._group.start_soon, self._network
            )
        take_triggers = self._watch.prepare_reload(new, change.triggers_begun, change.renamed)
        if new.intake != old.intake:
            try:
                self._intake.rebind(*listen_address(new))
            except OSError as error:
                raise ConfigError(str(new.source), [Problem("intake.udp", error.strerror or "no", "")]) from None
        # from here on nothing can fail
        self.config = self._operators.config = new
        for name in (*change.removed, *change.new_logins):
            self._tasks.cancel(f"{name} ws")
            self._tasks.cancel(f"{name} http")
        sessions = {name: session for name, (session, _) in lines.items()}
        venues = {name: (sessions.get(name) or self._dispatcher.sessions[name]).venue for name in new.accounts}
        back = self._still_tripped(old, new, (*change.added, *change.new_logins))
        struck = {name: self.tripped_unconfigured[was] for name, was in back.items()}
        identities, owed = current_identities(new, change.new_logins, states, struck, self._salt)
        moved = {was: name for name, was in back.items() if name != was}
        approvals = new.rearm.approvals
        if self._dispatcher.state.tripped:  # fewer than when it tripped would do for nobody
            approvals = max(approvals, self._dispatcher.state.approvals_needed)
        event = Reconfigured(
            wiring.sweep_timings(venues), frozenset(change.new_logins), approvals, clock.now(), identities, owed, moved
        )
        self._dispatcher.reconfigure(event, sessions)
        for name, line in lines.items():
            self.run_lanes(name, *line)
        for adapter in venues.values():
            adapter.hedge_after_s = new.daemon.hedge_after_s
        budget_us = int(new.daemon.budget_s * 1e6)
        self._reports.set_budget(budget_us)
        self._drills.budget_us = budget_us
        self._drills.set_schedule(new.drill.cron, new.drill.timezone)
        self._beside.reconfigure(new, self._tasks)
        for name in change.triggers_ended:
            self._tasks.cancel(f"trigger {name}")
        take_triggers()
        for name in change.triggers_begun:
            self.run_trigger(name)
        self.tripped_unconfigured = {
            name: ones for name, ones in self.tripped_unconfigured.items() if name not in back.values()
        }
        if back:
            text = "tripped when the configuration last had it"
            if moved:
                text += ", as " + ", ".join(moved)
            self._dispatcher.fire(Reason("latch", text, tuple(back), clock.now()))
        self._operators.notify_changed()
        return change

    def _still_tripped(self, old: Config, new: Config, others: Iterable[str]) -> dict[str, str]:
        """Return which accounts of `others`, new ones or with another login, are tripped, and under which names.

        Such an account has a name under which somebody was struck that is in no configuration now, or has got a login
        of such a name.
        """
        back = {name: name for name in others if name in self.tripped_unconfigured}
        for name in others:
            login, before = new.accounts[name].login, old.accounts[name].login if name in old.accounts else None
            for was, ones in self.tripped_unconfigured.items():
                if any(login.is_same(identity) and not (before and before.is_same(identity)) for identity in ones):
                    back.setdefault(name, was)
        return back


def listen_address(config: Config) -> tuple[tuple[str, int] | None, bytes | None]:
    """Return where the intake listens besides its socket, and the key that datagrams there are signed with."""
    udp, key = config.intake.udp, config.intake.key
    return (udp.host, udp.port) if udp else None, key.get_secret_value().encode() if key else None
