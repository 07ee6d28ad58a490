"""The operator's commands run once a kill, beside the strike, and are on record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from kill_switch.config.schema import HooksConfig as Table
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.outbound.hooks import MAX_ATTEMPTS, HookRunner
from kill_switch.worker.client import INTERRUPTED, UNBEGUN, JobResult
from tests.harness.worker_double import OK, Beside, Run, kill, seconds

pytestmark = pytest.mark.anyio

STOP, PAGE = ("systemctl", "stop", "quoter.service"), ("page", "a b")


@dataclass
class Stage:
    beside: Beside = field(default_factory=Beside)
    records: list[Mapping[str, Any]] = field(default_factory=list)
    announced: list[Announce] = field(default_factory=list)
    latched: set[str] = field(default_factory=lambda: {"mm1", "rx1"})
    started: list[Mapping[str, Any]] = field(default_factory=list)

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        {"hook": self.records, "hook-started": self.started}[kind].append(data)

    def __post_init__(self) -> None:
        self.hooks = HookRunner(self.beside, self.record, self.announced.append, lambda: self.latched)

    @property
    def ran(self) -> list[tuple[str, str]]:
        """Return which program ran for which accounts."""
        runs = self.beside.of("run")
        return [(run.errand["argv"][0], run.errand["env"]["KILL_SWITCH_ACCOUNTS"]) for run in runs]


@asynccontextmanager
async def stage(*commands: tuple[str, ...]) -> AsyncIterator[Stage]:
    made = Stage()
    made.hooks.configure(Table().model_copy(update={"on_trip": commands}))
    async with anyio.create_task_group() as group:
        group.start_soon(made.hooks.run)
        await anyio.sleep(0.01)
        yield made
        group.cancel_scope.cancel()


async def test_every_hook_is_run_at_once_with_the_kills_environment() -> None:
    async with stage(STOP, PAGE) as made:
        made.beside.takes = lambda run: 5.0
        made.hooks.on_trip(kill(), "panic: the flag\nis there\0")
        await anyio.wait_all_tasks_blocked()
        first, second = made.beside.of("run")
        assert (first.errand["argv"], second.errand["argv"]) == (STOP, PAGE)
        assert first.errand["env"] == {
            "KILL_SWITCH_KILL": kill().id,
            "KILL_SWITCH_REASON": "panic: the flag is there\ufffd",
            "KILL_SWITCH_ACCOUNTS": "mm1 rx1",
        }
        assert first.at_s == second.at_s == pytest.approx(0.01, abs=0.001)


async def test_a_hooks_result_is_on_record_without_its_environment() -> None:
    async with stage(PAGE) as made:
        made.beside.answer = lambda run: JobResult(True, "", 0, 12, "x" * 2000)
        made.hooks.on_trip(kill(), "panic: now")
        await anyio.sleep(1)
        (record,) = made.records
        assert record == {
            "kill": kill().id,
            "command": "page 'a b'",
            "accounts": ["mm1", "rx1"],
            "attempt": 1,
            "ok": True,
            "why": "",
            "code": 0,
            "ms": 12,
            "output": "x" * 500,
        }
        assert made.announced == []


async def test_a_failed_hook_is_announced_and_the_other_hooks_run() -> None:
    async with stage(STOP, PAGE) as made:
        made.beside.answer = lambda run: JobResult(run.errand["argv"] == PAGE, "exit code 1", 1, 3)
        made.hooks.on_trip(kill(), "panic: now")
        await anyio.sleep(1)
        assert made.announced == [Announce(Severity.WARN, "hook systemctl stop quoter.service failed: exit code 1")]
        assert [record["ok"] for record in made.records] == [False, True]
        assert (made.hooks.runs, made.hooks.failures) == (2, 1)


async def test_a_failed_hook_is_a_trouble_until_it_succeeds_or_its_accounts_are_armed() -> None:
    async with stage(STOP) as made:
        made.beside.answer = lambda run: JobResult(False, "exit code 1", 1, 3)
        made.hooks.on_trip(kill(1, "mm1"), "panic: now")
        await anyio.sleep(1)
        (trouble,) = made.hooks.troubles()
        assert "systemctl stop quoter.service failed for kill" in trouble and "exit code 1" in trouble
        made.beside.answer = lambda run: JobResult(True, "", 0, 3)
        made.hooks.on_trip(kill(1, "mm1", "rx1"), "panic: again")
        await anyio.sleep(1)
        assert list(made.hooks.troubles()) == []


async def test_a_second_reason_of_the_same_kill_runs_nothing_again() -> None:
    async with stage(STOP) as made:
        for _ in range(3):
            made.hooks.on_trip(kill(), "panic: now")
            await anyio.sleep(1)
        assert made.ran == [("systemctl", "mm1 rx1")]


async def test_a_reason_that_draws_another_account_in_runs_it_for_that_one() -> None:
    async with stage(STOP) as made:
        made.hooks.on_trip(kill(1, "mm1"), "lost: x")
        made.hooks.on_trip(kill(1, "mm1", "rx1"), "panic: now")
        await anyio.sleep(1)
        assert made.ran == [("systemctl", "mm1"), ("systemctl", "rx1")]


async def test_the_next_kill_runs_it_again() -> None:
    async with stage(STOP) as made:
        made.hooks.on_trip(kill(1), "panic: now")
        made.hooks.on_trip(kill(2), "panic: again")
        await anyio.sleep(1)
        assert [run.errand["env"]["KILL_SWITCH_KILL"] for run in made.beside.of("run")] == [kill(1).id, kill(2).id]


async def test_a_hook_that_hangs_keeps_the_next_kills_from_nothing() -> None:
    async with stage(STOP) as made:
        made.beside.takes = lambda run: 1e6
        for number in range(5):
            made.hooks.on_trip(kill(number), "panic: now")
            await anyio.sleep(1)
        assert [round(run.at_s) for run in made.beside.of("run")] == [0, 1, 2, 3, 4]


async def test_a_command_that_was_interrupted_is_run_again_and_each_attempt_has_its_two_records() -> None:
    async with stage(STOP) as made:
        ends = iter([JobResult(False, "its keeper was killed", lost=INTERRUPTED), JobResult(True, "", 0, 12)])
        made.beside.answer = lambda run: next(ends)
        made.hooks.on_trip(kill(), "panic: now")
        await anyio.sleep(5)
        assert len(made.ran) == 2
        assert [record["attempt"] for record in made.started] == [1, 2]
        assert [(record["attempt"], record["ok"], record["why"]) for record in made.records] == [
            (1, False, "interrupted: its keeper was killed; it is run again"),
            (2, True, ""),
        ]
        assert [news.text for news in made.announced] == [
            "hook systemctl stop quoter.service failed: interrupted: its keeper was killed; it is run again"
        ]


async def test_a_command_that_is_interrupted_again_and_again_is_given_up() -> None:
    async with stage(STOP) as made:
        made.beside.answer = lambda run: JobResult(False, "its keeper was killed", lost=INTERRUPTED)
        made.hooks.on_trip(kill(), "panic: now")
        await anyio.sleep(60)
        assert len(made.ran) == len(made.started) == len(made.records) == MAX_ATTEMPTS
        assert made.records[-1]["why"] == "interrupted: its keeper was killed; it is not run again"


async def test_a_hook_that_cannot_begin_is_tried_until_it_does_and_announced_once() -> None:
    async with stage(STOP) as made:
        made.beside.answer = lambda run: OK if seconds() > 100 else JobResult(False, "nobody is there", lost=UNBEGUN)
        made.hooks.on_trip(kill(), "panic: now")
        await anyio.sleep(99)
        assert (len(made.started), made.records, made.hooks.idle) == (1, [], False)
        await anyio.sleep(5)
        assert [record["ok"] for record in made.records] == [True]
        assert [news.text for news in made.announced] == [
            "hook systemctl stop quoter.service waits to be run: nobody is there"
        ]
        assert made.hooks.idle


@pytest.mark.parametrize("lost", [UNBEGUN, INTERRUPTED])
async def test_a_command_whose_accounts_are_armed_again_is_not_run_any_more(lost: str) -> None:
    async with stage(STOP) as made:
        made.beside.takes = lambda run: 5.0
        made.beside.answer = lambda run: JobResult(False, "nobody knows", lost=lost)
        made.hooks.on_trip(kill(), "panic: now")
        await anyio.sleep(1)
        made.latched.clear()
        await anyio.sleep(60)
        assert len(made.ran) == 1
        assert [record["why"] for record in made.records] == [f"{lost}: nobody knows; it is not run again"]


def reason_entry(trigger: str, text: str) -> dict[str, Any]:
    data = {"kill": kill().id, "trigger": trigger, "text": text, "accounts": ["mm1", "rx1"]}
    return {"kind": "reason", "data": {**data, "observed_mono_ns": 1, "observed_wall_ns": 1}}


def attempt(number: int, kind: str = "hook-started", command: str = "systemctl stop quoter.service") -> dict[str, Any]:
    data = {"kill": kill().id, "command": command, "accounts": ["mm1", "rx1"], "attempt": number}
    return {"kind": kind, "data": data}


@pytest.mark.parametrize("unclear", [True, False])
@pytest.mark.parametrize(
    ("number", "latched", "again"), [(1, {"mm1"}, True), (1, set(), False), (MAX_ATTEMPTS, {"mm1"}, False)]
)
async def test_a_start_runs_interrupted_hooks_while_their_accounts_are_tripped(
    number: int, latched: set[str], again: bool, unclear: bool
) -> None:
    entries = [reason_entry("panic", "now")]
    entries += [entry for n in range(1, number) for entry in (attempt(n), attempt(n, "hook"))]
    entries += [attempt(1, "hook-started", "page 'a b'"), attempt(1, "hook", "page 'a b'"), attempt(number)]
    async with stage(STOP, PAGE) as made:
        made.latched = latched
        made.hooks.resume(kill(unclear=unclear), entries)
        await anyio.sleep(5)
        assert made.ran == ([("systemctl", "mm1 rx1")] if again else [])
        ended = "interrupted: the daemon ended meanwhile; it is " + ("run again" if again else "not run again")
        assert [(record["attempt"], record["why"]) for record in made.records] == [
            (number, ended),
            *([(number + 1, "")] if again else []),
        ]


async def test_an_interrupted_hook_that_is_no_longer_configured_is_not_run() -> None:
    async with stage(PAGE) as made:
        made.hooks.resume(kill(unclear=False), [attempt(1)])
        await anyio.sleep(5)
        assert made.ran == [] and len(made.records) == 1


@pytest.mark.parametrize(("done", "ran"), [(("page",), ["systemctl"]), ((), ["systemctl", "page"])])
async def test_a_start_during_a_kill_runs_the_hooks_that_are_not_on_record(
    done: tuple[str, ...], ran: list[str]
) -> None:
    entries: list[dict[str, Any]] = [
        {"kind": "start", "data": {}},
        reason_entry("panic", "now"),
        {"kind": "hook", "data": {"kill": "another", "command": "systemctl stop quoter.service", "accounts": ["mm1"]}},
    ]
    ran_already = {"kill": kill().id, "command": "page 'a b'", "accounts": ["mm1", "rx1"]}
    entries += [{"kind": "hook", "data": ran_already} for _ in done]
    async with stage(STOP, PAGE) as made:
        made.hooks.resume(kill(), entries)
        await anyio.sleep(1)
        assert [program for program, _ in made.ran] == ran
        assert made.beside.of("run")[0].errand["env"]["KILL_SWITCH_REASON"] == "panic: now"
        made.hooks.on_trip(kill(), "panic: once more")
        await anyio.sleep(1)
        assert [program for program, _ in made.ran] == ran


@pytest.mark.parametrize("over", [None, kill(unclear=False)])
async def test_a_start_after_a_kill_that_is_over_runs_nothing(over: Any) -> None:
    async with stage(STOP) as made:
        made.hooks.resume(over, [reason_entry("x", "y")])
        await anyio.sleep(1)
        assert made.ran == []


async def test_a_missing_program_is_reported_at_the_start() -> None:
    def answer(run: Run) -> JobResult:
        return JobResult(run.errand["argv"][0] != "page", "page is not a program")

    made = Stage()
    made.beside.answer = answer
    made.hooks.configure(Table().model_copy(update={"on_trip": (STOP, PAGE)}))
    async with anyio.create_task_group() as group:
        group.start_soon(made.hooks.run)
        await anyio.sleep(1)
        assert made.announced == [Announce(Severity.WARN, "hook page 'a b': page is not a program")]
        assert list(made.hooks.troubles()) == ["hook page 'a b': page is not a program"]
        made.hooks.configure(Table().model_copy(update={"on_trip": (STOP,)}))
        await anyio.sleep(1)
        assert list(made.hooks.troubles()) == []
        group.cancel_scope.cancel()
    assert made.ran == []


async def test_a_command_is_never_nowhere_between_the_trip_and_its_end() -> None:
    """Else a daemon that stops in that moment does not wait for it."""
    async with stage(STOP) as made:
        made.beside.takes = lambda run: 1.0
        made.hooks.on_trip(kill(), "panic: now")
        while not made.beside.of("run"):
            assert not made.hooks.idle
            await anyio.lowlevel.checkpoint()
        assert not made.hooks.idle
        await anyio.sleep(2)
        assert made.hooks.idle
