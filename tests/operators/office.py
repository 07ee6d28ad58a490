"""Set up the operators' own module: requests in, answers out, over the stub venues of `stage`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kill_switch import config as configuration
from kill_switch.clocks import Clocks
from kill_switch.control import Caller, Refusal
from kill_switch.journal import Journal
from kill_switch.operators import Operators
from kill_switch.report import Reports
from kill_switch.triggers.intake import Intake
from kill_switch.watching import Watch
from tests.operators.stage import BUDGET_US, Desk
from tests.virtual_time import running

Opened = Callable[..., "Office"]
ANN = Caller(7, 77, "ann")
ACCOUNT = """
[accounts.{0}]
venue = "oxfun"
api_key = {{ env = "KEY" }}
api_secret = {{ env = "SECRET" }}
"""


class Office(Desk):
    """A desk with operators; the configuration names its accounts, whose venues are stubs all the same."""

    def __init__(self, directory: Path, *accounts: str) -> None:
        super().__init__(*accounts)
        source = directory / "config.toml"
        daemon = f'[daemon]\nstate_dir = "{directory}/state"\nruntime_dir = "{directory}/run"\n'
        source.write_text(daemon + "".join(map(ACCOUNT.format, accounts)))
        loaded = configuration.load(source, environ={"KEY": "a-long-key", "SECRET": "a-long-secret"})
        for path in (loaded.daemon.state_dir, loaded.daemon.runtime_dir):
            path.mkdir()
        self.journal = Journal(loaded.daemon.state_dir, loaded.daemon.runtime_dir)
        self.reports = Reports(BUDGET_US)
        self.journal.on_entry = self.reports.take
        self.dispatcher._journal = self.drills._journal = self.journal
        clock = running().now
        self.intake = Intake(loaded.daemon.runtime_dir / "intake.sock", None, None, clock=clock)
        watch = Watch(loaded, self.dispatcher, self.intake, {}, self.announced.append, clock=clock)
        clocks = Clocks(self.dispatcher.sessions, self.announced.append)
        self.operators = Operators(
            loaded, self.dispatcher, self.journal, self.reports, watch, self.drills, clocks, self.intake
        )

    async def ask(self, cmd: str, **request: object) -> Mapping[str, Any]:
        """Return the answer, or the refusal as the caller would see it."""
        try:
            return await self.operators.handlers()[cmd](request, ANN)
        except Refusal as refusal:
            return {"error": str(refusal), "exit": refusal.exit_code, **refusal.data}
