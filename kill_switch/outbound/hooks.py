"""Run the operator's commands when an account trips, for example to stop the bots that would quote into the strike.

The worker process starts them after the first bytes of the strike have been sent; a strike never waits for them. A
command runs at least once a kill, also over restarts of the daemon; see `HookRunner`.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import anyio

from kill_switch import printable
from kill_switch.config.schema import HooksConfig
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.core.records import ReasonRecord
from kill_switch.core.state import Kill
from kill_switch.journal import history
from kill_switch.journal.records import HookRecord, HookStartedRecord
from kill_switch.wakeup import AutoResetEvent
from kill_switch.worker.client import INTERRUPTED, UNBEGUN, JobResult, JobRunner

log = logging.getLogger(__name__)

MAX_OUTPUT = 500  # characters of a command's output that are recorded
MAX_TEXT = 1000  # characters of a reason that a command gets
MAX_ATTEMPTS = 5  # attempts of a command for a kill, over all restarts, because a command may bring the daemon down
RETRY_AFTER_S = 1.0  # seconds between two attempts to send it to the worker, and between two runs


class HookJob(NamedTuple):
    """A command that is due."""

    argv: tuple[str, ...]
    kill: str
    reason: str
    accounts: tuple[str, ...]
    attempt: int = 1

    @property
    def started(self) -> HookStartedRecord:
        """Return the record of the attempt's begin."""
        return HookStartedRecord(
            kill=self.kill, command=shlex.join(self.argv), accounts=self.accounts, attempt=self.attempt
        )

    def ended(self, done: JobResult, why: str) -> HookRecord:
        """Return the record of the attempt's end."""
        return HookRecord(
            kill=self.kill,
            command=shlex.join(self.argv),
            accounts=self.accounts,
            attempt=self.attempt,
            ok=done.ok,
            why=why,
            code=done.code,
            ms=done.ms,
            output=done.output[:MAX_OUTPUT],
        )


class HookRunner:
    """The commands that are due and in progress.

    A command runs once a kill, and once more for accounts that a later reason adds to the kill. Each attempt is
    recorded twice, as `hook-started` and `hook`, with its number. An attempt without a known end is recorded as
    interrupted, and the next attempt follows.
    """

    def __init__(
        self,
        jobs: JobRunner,
        record: Callable[[str, Mapping[str, object]], None],
        announce: Callable[[Announce], None],
        latched: Callable[[], Collection[str]],
    ) -> None:
        """`latched` returns the accounts that are tripped now."""
        self.runs = self.failures = 0
        self._job_runner = jobs
        self._record = record
        self._announce = announce
        self._latched = latched
        self._config = HooksConfig()
        self._kill = ""
        self._done: dict[str, frozenset[str]] = {}  # command → accounts of the kill that it has been queued for
        self._jobs: list[HookJob] = []
        self._news = AutoResetEvent()
        self._missing: dict[str, str] = {}
        self._failed: dict[str, str] = {}  # command → why it failed for the kill that holds accounts tripped
        self._running = 0  # jobs that have begun and not ended

    @property
    def idle(self) -> bool:
        """Return whether no command is due or in progress."""
        return not self._jobs and not self._running

    def configure(self, config: HooksConfig) -> None:
        self._config = config
        self._missing.clear()
        self._news.set()

    def on_trip(self, kill: Kill, reason: str) -> None:
        """Queue the commands for a reason; cheap enough for the kill path."""
        if kill.id != self._kill:
            self._kill = kill.id
            self._done.clear()
            self._failed.clear()
        for argv in self._config.on_trip:
            command = shlex.join(argv)
            done = self._done.get(command, frozenset())
            if new := kill.accounts - done:
                self._done[command] = done | new
                self._jobs.append(HookJob(argv, kill.id, reason, tuple(sorted(new))))
        self._news.set()

    def resume(self, kill: Kill | None, entries: Sequence[Mapping[str, Any]]) -> None:
        """Continue where the daemon's last run ended.

        Commands that an unfinished kill has not run yet are run. Interrupted ones run again even if the kill is
        finished, unless all of its accounts are armed.
        """
        if kill is None:
            return
        about = [entry for entry in entries if entry["data"].get("kill") == kill.id]
        reasons = history.records_of_kind(about, ReasonRecord)
        reason = next((f"{recorded.trigger}: {recorded.text}" for recorded in reasons), "")
        finished = history.records_of_kind(about, HookRecord)
        ended = {_key(record) for record in finished}
        started = {_key(record) for record in history.records_of_kind(about, HookStartedRecord)}
        self._kill = kill.id
        for record in finished:
            self._failed.pop(record.command, None)
            if not record.ok:
                self._failed[record.command] = record.why
        for command, accounts, _ in ended | started:
            self._done[command] = self._done.get(command, frozenset()) | frozenset(accounts)
        for command, accounts, attempt in sorted(started - ended):
            job = HookJob(tuple(shlex.split(command)), kill.id, reason, accounts, attempt)
            if self._on_job_over(job, JobResult(False, "the daemon ended meanwhile", lost=INTERRUPTED)):
                self._jobs.append(job._replace(attempt=attempt + 1))
        if kill.unclear:
            self.on_trip(kill, reason)
        self._news.set()

    async def run(self) -> None:
        """Run the commands that are due, all at the same time, for ever; first check that their programs exist."""
        self._running = 0
        async with anyio.create_task_group() as group:
            checked: HooksConfig | None = None
            while True:
                jobs, self._jobs = self._jobs, []
                self._running += len(jobs)
                for job in jobs:
                    group.start_soon(self._run, job)
                if checked is not self._config:
                    checked = self._config
                    group.start_soon(self._check, checked.on_trip)
                await self._news.wait()

    def troubles(self) -> Iterator[str]:
        """Yield a line for each command whose program is missing, and for each that failed for the present kill."""
        for command, why in self._missing.items():
            yield f"hook {command}: {why}"
        if self._latched():
            for command, why in self._failed.items():
                yield f"hook {command} failed for kill {self._kill}: {why}: what it stops may still run"

    async def _check(self, commands: Iterable[tuple[str, ...]]) -> None:
        for argv in commands:
            outcome = await self._job_runner.run_job("find", 5.0, argv=argv)
            if not outcome.ok:
                self._missing[shlex.join(argv)] = outcome.why
                self._announce(Announce(Severity.WARN, f"hook {shlex.join(argv)}: {outcome.why}"))

    async def _run(self, job: HookJob) -> None:
        """Run a command until the outcome of an attempt is known."""
        try:
            while self._on_job_over(job, await self._attempt(job)):
                job = job._replace(attempt=job.attempt + 1)
                await anyio.sleep(RETRY_AFTER_S)
        finally:
            self._running -= 1

    async def _attempt(self, job: HookJob) -> JobResult:
        """Send the command to the worker until it has begun, or is not needed any more; return its outcome."""
        self._record(HookStartedRecord.kind, job.started.to_json())
        environ = {
            "KILL_SWITCH_KILL": job.kill,
            "KILL_SWITCH_REASON": " ".join(printable.line(job.reason).split())[:MAX_TEXT],
            "KILL_SWITCH_ACCOUNTS": " ".join(job.accounts),
        }
        waits = False
        while True:
            done = await self._job_runner.run_job("run", self._config.timeout_s, argv=job.argv, env=environ)
            if done.lost != UNBEGUN or not self._is_needed(job):
                return done
            if not waits:
                waits = True
                self._announce(Announce(Severity.WARN, f"hook {shlex.join(job.argv)} waits to be run: {done.why}"))
            await anyio.sleep(RETRY_AFTER_S)

    def _on_job_over(self, job: HookJob, done: JobResult) -> bool:
        """Record an attempt's outcome, and announce a failure; return whether the command is to be run again."""
        again = bool(done.lost) and job.attempt < MAX_ATTEMPTS and self._is_needed(job)
        why = done.why
        if done.lost:
            why = f"{done.lost}: {why}; " + ("it is run again" if again else "it is not run again")
        self.runs += 1
        self._record(HookRecord.kind, job.ended(done, why).to_json())
        command = shlex.join(job.argv)
        if job.kill == self._kill:
            self._failed.pop(command, None)
        if done.ok:
            log.info("hook %s: done in %d ms", command, done.ms)
        else:
            self.failures += 1
            if job.kill == self._kill:
                self._failed[command] = why
            self._announce(Announce(Severity.WARN, f"hook {command} failed: {why}"))
        return again

    def _is_needed(self, job: HookJob) -> bool:
        """Return whether the command is still to be run.

        A person who has re-armed an account may have started its bot again.
        """
        return job.argv in self._config.on_trip and not frozenset(self._latched()).isdisjoint(job.accounts)


def _key(record: HookRecord | HookStartedRecord) -> tuple[str, tuple[str, ...], int]:
    """Return the key of an attempt."""
    return record.command, record.accounts, record.attempt
