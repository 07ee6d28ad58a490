"""Set up the operators' own module: requests in, answers out, over the stub venues of `stage`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kill_switch.config import loader as configuration
from kill_switch.config.diff import ConfigDiff, diff_configs
from kill_switch.control.handlers import ControlHandlers
from kill_switch.control.server import Caller, RequestRefused
from kill_switch.core.domain import SweepTiming
from kill_switch.core.events import Reconfigured
from kill_switch.dispatch.session import AccountSession
from kill_switch.health.clock_skew import ClockSkewMonitor
from kill_switch.journal.journal import Journal
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.triggers.intake.intake import Intake
from kill_switch.triggers.supervisor import TriggerSupervisor
from tests.harness.dispatch_doubles import Lane
from tests.harness.dispatcher_harness import BUDGET_US, DispatcherHarness, Drillable
from tests.harness.immediate_jobs import AtOnce
from tests.harness.virtual_time import running

Opened = Callable[..., "ControlHarness"]
ANN = Caller(7, 77, "ann")
ENVIRON = {"SECRET": "a-long-secret"} | {f"KEY_{name}": f"a-long-key-of-{name}" for name in "abcdefgh"}
ACCOUNT = """
[accounts.{0}]
venue = "oxfun"
api_key = {{ env = "KEY_{0}" }}
api_secret = {{ env = "SECRET" }}
"""


class Ledger(Journal):
    """Write records in the thread that asks for it: virtual time does not wait for a thread that real time holds up."""

    def __init__(self, state_dir: Path, runtime_dir: Path) -> None:
        super().__init__(state_dir, runtime_dir, worker=AtOnce)


class ControlHarness(DispatcherHarness):
    """A desk with operators; the configuration names its accounts, whose venues are stubs all the same."""

    def __init__(self, directory: Path, *accounts: str) -> None:
        super().__init__(*accounts)
        self._directory = directory
        self._config = loaded = self._written("", accounts)
        for path in (loaded.daemon.state_dir, loaded.daemon.runtime_dir):
            path.mkdir()
        self.journal = Ledger(loaded.daemon.state_dir, loaded.daemon.runtime_dir)
        self.reports = ReportBuilder(BUDGET_US)
        self.journal.deliver_to(self.reports.take)
        records = self.dispatcher._records
        self.dispatcher._journal = records._journal = self.drills._journal = self.journal
        clock = running().now
        self.intake = Intake(loaded.daemon.runtime_dir / "intake.sock", None, None, clock=clock)
        self.amended: list[tuple[str, str]] = []
        self.watch = watch = TriggerSupervisor(
            loaded,
            self.dispatcher,
            self.intake,
            {},
            self.announced.append,
            clock=clock,
            on_amended=lambda before, after, by: self.amended.append((before, after)),
        )
        clocks = ClockSkewMonitor(self.dispatcher.sessions, self.announced.append)
        self.operators = ControlHandlers(
            loaded, self.dispatcher, self.journal, self.reports, watch, self.drills, clocks, self.intake
        )

    def reload(self, triggers: str, *accounts: str) -> ConfigDiff:
        """Go over to these triggers, and to these accounts if there are any, as the daemon does."""
        new = self._written(triggers, accounts or tuple(self._config.accounts))
        change = diff_configs(self._config, new)
        take = self.watch.prepare_reload(new, change.triggers_begun, change.renamed)
        self._config = new
        self.operators.reconfigure(new)
        if change.added or change.removed:
            event = Reconfigured(dict.fromkeys(new.accounts, SweepTiming()), frozenset(), 1, running().now())
            self.dispatcher.reconfigure(event, self.anew(*change.added))
        take()
        return change

    def _written(self, triggers: str, accounts: Sequence[str]) -> configuration.Config:
        source = self._directory / "config.toml"
        daemon = f'[daemon]\nstate_dir = "{self._directory}/state"\nruntime_dir = "{self._directory}/run"\n'
        source.write_text(daemon + "".join(map(ACCOUNT.format, accounts)) + triggers)
        return configuration.load(source, environ=ENVIRON)

    def anew(self, *accounts: str) -> Mapping[str, AccountSession]:
        """Make new sessions for these accounts, over lanes of their own."""
        sessions = {}
        for name in accounts:
            lane = self.lanes[name] = Lane(name, self.trace)
            sessions[name] = AccountSession(name, Drillable(), self.dispatcher, lane.serve)
        return sessions

    async def ask(self, cmd: str, **request: object) -> Mapping[str, Any]:
        """Return the answer, or the refusal as the caller would see it."""
        try:
            return await self.operators.handlers()[cmd](request, ANN)
        except RequestRefused as refusal:
            return {"error": str(refusal), "exit": refusal.exit_code, **refusal.data}
