"""Stand in for the process beside: errands take as long as a test says, and end as it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import anyio

from kill_switch.core.domain import Instant
from kill_switch.core.state import Kill
from kill_switch.worker.client import JobResult
from tests.harness.virtual_time import START, running

OK = JobResult(True)
NO = JobResult(False, "HTTP 500")


class Run(NamedTuple):
    """An errand of the worker process, with the time of its begin."""

    at_s: float
    what: str
    errand: dict[str, Any]


class Beside:
    """Note every errand; `answer` says what becomes of it and `takes` how long that lasts."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.answer: Callable[[Run], JobResult] = lambda run: OK
        self.takes: Callable[[Run], float] = lambda run: 0.0

    async def run_job(self, job: str, within_s: float, **errand: object) -> JobResult:
        run = Run(seconds(), job, errand)
        self.runs.append(run)
        await anyio.sleep(self.takes(run))
        return self.answer(run)

    def of(self, what: str) -> list[Run]:
        """Return the errands of one kind; of messages, those with a text."""
        return [run for run in self.runs if run.what == what and (what != "tell" or "text" in run.errand)]


def seconds() -> float:
    """Return the virtual time since the start."""
    return (running().now().mono_ns - START.mono_ns) / 1e9


def now() -> Instant:
    return running().now()


def kill(number: int = 1, *accounts: str, unclear: bool = True) -> Kill:
    scope = frozenset(accounts or ("mm1", "rx1"))
    return Kill(f"20231114T221320-{number}", START, scope, scope if unclear else frozenset())
