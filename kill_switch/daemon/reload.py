"""Reload: a running daemon applies its changed configuration, as a whole or not at all.

`config.diff` compares the configurations and decides whether the change is allowed. Here the change is applied: first
all steps that can fail, then the others without an await, so that no reason arrives between them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

import anyio
from anyio.abc import TaskGroup

from kill_switch import clock, logging_setup
from kill_switch.config import loader as config
from kill_switch.config.diff import ConfigDiff, current_identities, diff_configs, reload_blockers
from kill_switch.config.in_force import APPROVALS, changes, in_force
from kill_switch.config.loader import Config
from kill_switch.control import server
from kill_switch.control.handlers import ControlHandlers
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Reason, Severity
from kill_switch.core.events import Reconfigured
from kill_switch.core.identity import Identity
from kill_switch.core.records import ReloadRecord
from kill_switch.dispatch import connect
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

READ_WITHIN_S = 10.0  # seconds to read the configuration and all its secrets
LATCHES_WITHIN_S = 1.0  # seconds for the file systems of both directories; a pulse adopts a latch that is found later
MAX_READS = 4  # reads that may hang at the same time, because each has a thread
_MEND = "mend it, then reload again"
Line = tuple[AccountSession, Iterable[tuple[str, connect.Work]]]  # an account's session and its lanes


class Inventory(TypedDict):
    """The accounts and triggers, the configuration in force, and its changed values, for `start` and `reload`."""

    accounts: Mapping[str, Any]
    triggers: Mapping[str, str]
    config: Mapping[str, Any]
    changed: Mapping[str, Any]


class Reloader:
    """The configuration in force, and the tasks that it requires."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        journal: Journal,
        reports: ReportBuilder,
        intake: Intake,
        supervisor: TriggerSupervisor,
        drills: DrillRunner,
        handlers: ControlHandlers,
        outbound: OutboundHub,
        network: Network,
        group: TaskGroup,
        tasks: TaskSupervisor,
        announce: Callable[[Announce], None],
        *,
        adopt: Callable[[], object],
        left_tripped: Mapping[str, tuple[Identity, ...]],
        recorded: Mapping[str, object],
        salt: str,
    ) -> None:
        """`group` and `tasks` run the daemon's tasks. `adopt` fires for the latch files that it finds.

        `left_tripped` are accounts that are tripped and not configured, each with the identities that were struck under
        its name; they come back tripped. `recorded` is the configuration in force as the journal has it. `salt` is for
        the identities of accounts that were not struck.
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
        self._supervisor = supervisor
        self._drills = drills
        self._handlers = handlers
        self._outbound = outbound
        self._network = network
        self._group = group
        self._tasks = tasks
        self._announce = announce
        self._files = OffloadThread(f"the file system of {config.source}, or of the secrets in it,")
        self._hung: list[OffloadThread] = []  # each with a read that hangs and that no reload waits for
        self._requested = AutoResetEvent()
        self._lock = anyio.Lock()

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run_trigger(self, name: str) -> None:
        """Keep a trigger of the supervisor running."""
        trigger = self._supervisor.triggers[name]
        self._tasks.supervise(f"trigger {name}", lambda: self._supervisor.run(trigger))

    def leave_tripped(self, names: Iterable[str]) -> None:
        """Record that accounts which are not configured are tripped, by a latch that does not name their identities."""
        self.tripped_unconfigured = {**dict.fromkeys(names, ()), **self.tripped_unconfigured}

    def inventory(self) -> Inventory:
        """Return the present inventory for a record; its changes are those since the previous call."""
        accounts = {name: account.venue for name, account in self.config.accounts.items()}
        triggers = {name: trigger.kind for name, trigger in self._supervisor.triggers.items()}
        before = self._recorded
        self._recorded = {**in_force(self.config), APPROVALS: self._dispatcher.state.approvals_needed}
        changed = changes(before, self._recorded) if before else {}
        return Inventory(accounts=accounts, triggers=triggers, config=self._recorded, changed=changed)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def request_reload(self) -> None:
        """Wake `run`, which reloads; for SIGHUP."""
        self._requested.set()

    async def run(self) -> None:
        """Reload at each `request_reload`, for ever."""
        while True:
            await self._requested.wait()
            with contextlib.suppress(ConfigError):  # which `reload` has announced
                await self.reload()

    async def handle_request(self, request: Mapping[str, object], caller: server.Caller) -> Mapping[str, object]:
        """Reload for an operator; return the answer, or raise `RequestRefused` with every problem."""
        try:
            change = await self.reload(caller)
        except ConfigError as error:
            raise server.RequestRefused(
                f"not reloaded:\n{error}", error.exit_code, why=list(map(str, error.problems))
            ) from None
        problems = await self._handlers.problems()
        return {"reloaded": change.describe(), **({"problems": problems} if problems else {})}

    # ── the reload ────────────────────────────────────────────────────────────────────────────────────────────────

    async def reload(self, caller: server.Caller | None = None) -> ConfigDiff:
        """Read the file again and apply it as a whole; raise `ConfigError` if that is refused, with nothing changed.

        Accounts that did not change keep their lanes. Tripped accounts stay tripped.
        """
        uid, user = (None, None) if caller is None else (caller.uid, caller.user)
        async with self._lock:
            try:
                new = await self._read()
                await connect.load_authorities(self._network, new)
                await self._adopt_latches()
                change = self._apply(new)  # has no await, so that no event is handled in between
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

    async def _adopt_latches(self) -> None:
        """Fire for latch files before the change, because they name accounts of the configuration in force."""
        with anyio.move_on_after(LATCHES_WITHIN_S):
            for _ in range(2):  # because a look in progress may have begun before the file was written
                self._journal.retry_pending()
                while self._journal.latch_watch.is_looking:  # noqa: ASYNC110 - a thread looks
                    await anyio.sleep(0.005)
        self._adopt()

    async def _read(self) -> Config:
        """Load the file; raise `ConfigError` if it is wrong, or if its file system does not answer."""
        source = self.config.source
        for files in [files for files in self._hung if not files.busy]:
            self._hung.remove(files)
            files.close()
        if self._files.busy:  # because it may hang for ever, the next read gets a thread of its own
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
        """A line about an earlier reload that still waits for a file system; "" if none does."""
        return next((files.trouble for files in (*self._hung, self._files) if files.trouble), "")

    def _apply(self, new: Config) -> ConfigDiff:
        """Apply a configuration; raise `ConfigError`, with nothing changed, if it is refused."""
        old = self.config
        states = self._dispatcher.state.accounts
        phases = {name: account.phase for name, account in states.items()}
        unproven = {name: account.unproven_identities for name, account in states.items()}
        if problems := reload_blockers(old, new, phases, unproven):
            raise ConfigError(str(new.source), problems)
        change = diff_configs(old, new)
        lines = self._connect(new, (*change.new_logins, *change.added))
        install_triggers = self._supervisor.prepare_reload(new, change.triggers_begun, change.renamed)
        self._rebind_intake(old, new)
        # from here on nothing can fail
        self.config = new
        logging_setup.configure(new.daemon.log, new.daemon.log_level)
        self._handlers.reconfigure(new)
        for name in (*change.removed, *change.new_logins):
            self._tasks.cancel(f"{name} ws")
            self._tasks.cancel(f"{name} http")
        back = self._still_tripped(old, new, (*change.added, *change.new_logins))
        self._reconfigure_dispatcher(new, change, lines, back)
        for _, lanes in lines.values():
            for lane, work in lanes:
                self._tasks.supervise(lane, work)
        budget_us = int(new.daemon.budget_s * 1e6)
        self._reports.set_budget(budget_us)
        self._drills.reconfigure(budget_us, new.drill.cron, new.drill.timezone)
        self._outbound.reconfigure(new, self._tasks)
        for name in change.triggers_ended:
            self._tasks.cancel(f"trigger {name}")
        install_triggers()
        for name in change.triggers_begun:
            self.run_trigger(name)
        self._fire_again(back)
        self._handlers.notify_changed()
        return change

    def _connect(self, new: Config, names: Iterable[str]) -> dict[str, Line]:
        """Build the sessions and the lanes of these accounts of the new configuration."""
        return {
            name: connect.connect_account(self._dispatcher, new, name, adapter, self._group.start_soon, self._network)
            for name, adapter in connect.build_adapters(new, names).items()
        }

    def _rebind_intake(self, old: Config, new: Config) -> None:
        """Bind the intake to the new address if it has changed; raise `ConfigError` if it cannot be bound."""
        if new.intake != old.intake:
            try:
                self._intake.rebind(*listen_address(new))
            except OSError as error:
                raise ConfigError(str(new.source), [Problem("intake.udp", error.strerror or "no", "")]) from None

    def _reconfigure_dispatcher(
        self, new: Config, change: ConfigDiff, lines: Mapping[str, Line], back: Mapping[str, str]
    ) -> None:
        """Pass the new accounts to the dispatcher; `back` are those that come back tripped, as in `_still_tripped`."""
        state = self._dispatcher.state
        sessions = {name: session for name, (session, _) in lines.items()}
        adapters = {name: (sessions.get(name) or self._dispatcher.sessions[name]).venue for name in new.accounts}
        struck = {name: self.tripped_unconfigured[earlier] for name, earlier in back.items()}
        identities, owed = current_identities(new, change.new_logins, state.accounts, struck, self._salt)
        moved = {earlier: name for name, earlier in back.items() if name != earlier}
        approvals = new.rearm.approvals
        if state.tripped:  # because a reload must not make it easier to re-arm a kill
            approvals = max(approvals, state.approvals_needed)
        timings = connect.sweep_timings(adapters, new.measured)
        event = Reconfigured(timings, frozenset(change.new_logins), approvals, clock.now(), identities, owed, moved)
        self._dispatcher.reconfigure(event, sessions)
        for adapter in adapters.values():
            adapter.second_route.change(new.daemon.second_route_after_s)

    def _fire_again(self, back: Mapping[str, str]) -> None:
        """Trip the accounts that were tripped when they left the configuration."""
        self.tripped_unconfigured = {
            name: identities for name, identities in self.tripped_unconfigured.items() if name not in back.values()
        }
        if not back:
            return
        text = "tripped when the configuration last had it"
        if moved := dict.fromkeys(earlier for name, earlier in back.items() if name != earlier):
            text += ", as " + ", ".join(moved)
        self._dispatcher.fire(Reason("latch", text, tuple(back), clock.now()))

    def _still_tripped(self, old: Config, new: Config, names: Iterable[str]) -> dict[str, str]:
        """Return the accounts that come back tripped, each with the name under which it was struck.

        `names` are accounts that are new or have a new login. Such an account comes back tripped if an account was
        tripped when it left the configuration, and had the same name or the same login.
        """
        back = {name: name for name in names if name in self.tripped_unconfigured}
        for name in names:
            login, old_login = new.accounts[name].login, old.accounts[name].login if name in old.accounts else None
            for earlier, identities in self.tripped_unconfigured.items():
                if any(
                    login.is_same(identity) and not (old_login and old_login.is_same(identity))
                    for identity in identities
                ):
                    back.setdefault(name, earlier)
        return back


def listen_address(config: Config) -> tuple[tuple[str, int] | None, bytes | None]:
    """Return the intake's UDP address, None if it has none, and the key that signs its datagrams."""
    udp, key = config.intake.udp, config.intake.key
    return (udp.host, udp.port) if udp else None, key.get_secret_value().encode() if key else None
