"""Run the operator's own commands beside a strike: stop the bots that would quote into it.

Each command runs once a kill, and once more if a later reason draws more accounts into it, for those. It is started
when the first bytes of the strike have left, by the process beside, so that a strike waits neither for it nor for the
making of a process. After a start in the middle of a kill, those that are not on record as run are run.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import anyio

from kill_switch import past, printable
from kill_switch.aide import Done, Errands
from kill_switch.config.tables import Hooks as Table
from kill_switch.engine import Announce, Kill

log = logging.getLogger(__name__)

OUTPUT = 500  # characters of a command's output in the record
TEXT = 1000  # characters of a reason


class Job(NamedTuple):
    """One run of one command."""

    argv: tuple[str, ...]
    kill: str
    reason: str
    accounts: tuple[str, ...]


class Hooks:
    """Decide which commands are due, have them run, and say what became of them."""

    def __init__(
        self,
        errands: Errands,
        record: Callable[[str, Mapping[str, object]], None],
        announce: Callable[[Announce], None],
    ) -> None:
        self.runs = self.failures = 0
        self._errands = errands
        self._record = record
        self._announce = announce
        self._table = Table()
        self._kill = ""
        self._done: dict[str, frozenset[str]] = {}  # command → accounts of that kill
        self._jobs: list[Job] = []
        self._news = anyio.Event()
        self._missing: dict[str, str] = {}

    def configure(self, table: Table) -> None:
        self._table = table
        self._missing.clear()
        self._news.set()

    def tripped(self, kill: Kill, reason: str) -> None:
        """Take note of a reason; costs next to nothing."""
        if kill.id != self._kill:
            self._kill = kill.id
            self._done.clear()
        for argv in self._table.on_trip:
            command = shlex.join(argv)
            done = self._done.get(command, frozenset())
            if new := kill.accounts - done:
                self._done[command] = done | new
                self._jobs.append(Job(argv, kill.id, reason, tuple(sorted(new))))
        self._news.set()

    def resume(self, kill: Kill | None, entries: Sequence[Mapping[str, Any]]) -> None:
        """Go on with a kill that is not over yet."""
        if kill is None or not kill.unclear:
            return
        about = [entry for entry in entries if entry["data"].get("kill") == kill.id]
        self._kill = kill.id
        for data in past.understood(about, ("hook",), _is_record):
            done = self._done.get(data["command"], frozenset())
            self._done[data["command"]] = done | frozenset(data["accounts"])
        reasons = past.understood(about, ("reason",), lambda data: {"trigger", "text"} <= data.keys())
        self.tripped(kill, next((f"{data['trigger']}: {data['text']}" for data in reasons), ""))

    async def run(self) -> None:
        """Run what is due, all at once, for ever; first see whether the commands are there."""
        async with anyio.create_task_group() as group:
            checked: Table | None = None
            while True:
                self._news = anyio.Event()
                jobs, self._jobs = self._jobs, []
                for job in jobs:
                    group.start_soon(self._run, job)
                if checked is not self._table:
                    checked = self._table
                    group.start_soon(self._check, checked.on_trip)
                await self._news.wait()

    def troubles(self) -> Iterator[str]:
        for command, why in self._missing.items():
            yield f"hook {command}: {why}"

    def counts(self) -> Mapping[str, int]:
        return {"hook_runs_total": self.runs, "hook_failures_total": self.failures}

    async def _check(self, commands: Iterable[tuple[str, ...]]) -> None:
        for argv in commands:
            found = await self._errands.do("find", 5.0, argv=argv)
            if not found.ok:
                self._missing[shlex.join(argv)] = found.why
                self._announce(Announce("warn", f"hook {shlex.join(argv)}: {found.why}"))

    async def _run(self, job: Job) -> None:
        done = await self._attempt(job)
        if not done.ok and done.code is None and not done.ms:  # it was never heard of: the process beside may have died
            done = await self._attempt(job)
        self.runs += 1
        command = shlex.join(job.argv)
        told = {"kill": job.kill, "command": command, "accounts": job.accounts, "ok": done.ok, "why": done.why}
        self._record("hook", {**told, "code": done.code, "ms": done.ms, "output": done.output[:OUTPUT]})
        if done.ok:
            log.info("hook %s: done in %d ms", command, done.ms)
        else:
            self.failures += 1
            self._announce(Announce("warn", f"hook {command} failed: {done.why}"))

    async def _attempt(self, job: Job) -> Done:
        environ = {
            "KILL_SWITCH_KILL": job.kill,
            "KILL_SWITCH_REASON": " ".join(printable.line(job.reason).split())[:TEXT],
            "KILL_SWITCH_ACCOUNTS": " ".join(job.accounts),
        }
        return await self._errands.do("run", self._table.timeout_s, argv=job.argv, env=environ)


def _is_record(data: Mapping[str, Any]) -> bool:
    """Tell whether it is what became of a command; one that is not on record as run is run again."""
    return isinstance(data.get("command"), str) and past.names(data.get("accounts"))
