"""The operator's commands run once a kill, beside the strike, and are on record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from kill_switch.aide import Done
from kill_switch.config.tables import Hooks as Table
from kill_switch.engine import Announce
from kill_switch.hooks import Hooks
from tests.beside.stubs import Beside, Run, kill

pytestmark = pytest.mark.anyio

STOP, PAGE = ("systemctl", "stop", "quoter.service"), ("page", "a b")


@dataclass
class Stage:
    beside: Beside = field(default_factory=Beside)
    records: list[Mapping[str, Any]] = field(default_factory=list)
    announced: list[Announce] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hooks = Hooks(self.beside, lambda kind, data: self.records.append(data), self.announced.append)

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


async def test_every_command_is_run_at_once_and_told_what_the_kill_is() -> None:
    async with stage(STOP, PAGE) as made:
        made.beside.takes = lambda run: 5.0
        made.hooks.tripped(kill(), "panic: the flag\nis there\0")
        await anyio.wait_all_tasks_blocked()
        first, second = made.beside.of("run")
        assert (first.errand["argv"], second.errand["argv"]) == (STOP, PAGE)
        assert first.errand["env"] == {
            "KILL_SWITCH_KILL": kill().id,
            "KILL_SWITCH_REASON": "panic: the flag is there\ufffd",
            "KILL_SWITCH_ACCOUNTS": "mm1 rx1",
        }
        assert first.at_s == second.at_s == pytest.approx(0.01, abs=0.001)


async def test_what_became_of_it_is_on_record_without_its_environment() -> None:
    async with stage(PAGE) as made:
        made.beside.answer = lambda run: Done(True, "", 0, 12, "x" * 2000)
        made.hooks.tripped(kill(), "panic: now")
        await anyio.sleep(1)
        (record,) = made.records
        assert record == {
            "kill": kill().id,
            "command": "page 'a b'",
            "accounts": ("mm1", "rx1"),
            "ok": True,
            "why": "",
            "code": 0,
            "ms": 12,
            "output": "x" * 500,
        }
        assert made.announced == []


async def test_a_command_that_fails_is_said_aloud_and_keeps_no_other_one_from_running() -> None:
    async with stage(STOP, PAGE) as made:
        made.beside.answer = lambda run: Done(run.errand["argv"] == PAGE, "exit code 1", 1, 3)
        made.hooks.tripped(kill(), "panic: now")
        await anyio.sleep(1)
        assert made.announced == [Announce("warn", "hook systemctl stop quoter.service failed: exit code 1")]
        assert [record["ok"] for record in made.records] == [False, True]
        assert made.hooks.counts() == {"hook_runs_total": 2, "hook_failures_total": 1}


async def test_a_second_reason_of_the_same_kill_runs_nothing_again() -> None:
    async with stage(STOP) as made:
        for _ in range(3):
            made.hooks.tripped(kill(), "panic: now")
            await anyio.sleep(1)
        assert made.ran == [("systemctl", "mm1 rx1")]


async def test_a_reason_that_draws_another_account_in_runs_it_for_that_one() -> None:
    async with stage(STOP) as made:
        made.hooks.tripped(kill(1, "mm1"), "lost: x")
        made.hooks.tripped(kill(1, "mm1", "rx1"), "panic: now")
        await anyio.sleep(1)
        assert made.ran == [("systemctl", "mm1"), ("systemctl", "rx1")]


async def test_the_next_kill_runs_it_again() -> None:
    async with stage(STOP) as made:
        made.hooks.tripped(kill(1), "panic: now")
        made.hooks.tripped(kill(2), "panic: again")
        await anyio.sleep(1)
        assert [run.errand["env"]["KILL_SWITCH_KILL"] for run in made.beside.of("run")] == [kill(1).id, kill(2).id]


async def test_a_hook_that_hangs_keeps_the_next_kills_from_nothing() -> None:
    async with stage(STOP) as made:
        made.beside.takes = lambda run: 1e6
        for number in range(5):
            made.hooks.tripped(kill(number), "panic: now")
            await anyio.sleep(1)
        assert [round(run.at_s) for run in made.beside.of("run")] == [0, 1, 2, 3, 4]


async def test_a_command_of_which_nothing_was_heard_is_run_once_more() -> None:
    async with stage(STOP) as made:
        made.beside.answer = lambda run: Done(False, "the process beside ended meanwhile")
        made.hooks.tripped(kill(), "panic: now")
        await anyio.sleep(1)
        assert len(made.ran) == 2
        assert len(made.records) == len(made.announced) == 1


@pytest.mark.parametrize(("done", "ran"), [(("page",), ["systemctl"]), ((), ["systemctl", "page"])])
async def test_a_start_in_the_middle_of_a_kill_runs_what_is_not_on_record(
    done: tuple[str, ...], ran: list[str]
) -> None:
    entries: list[dict[str, Any]] = [
        {"kind": "start", "data": {}},
        {"kind": "reason", "data": {"kill": kill().id, "trigger": "panic", "text": "now"}},
        {"kind": "hook", "data": {"kill": "another", "command": "systemctl stop quoter.service", "accounts": ["mm1"]}},
    ]
    ran_already = {"kill": kill().id, "command": "page 'a b'", "accounts": ["mm1", "rx1"]}
    entries += [{"kind": "hook", "data": ran_already} for _ in done]
    async with stage(STOP, PAGE) as made:
        made.hooks.resume(kill(), entries)
        await anyio.sleep(1)
        assert [program for program, _ in made.ran] == ran
        assert made.beside.of("run")[0].errand["env"]["KILL_SWITCH_REASON"] == "panic: now"
        made.hooks.tripped(kill(), "panic: once more")
        await anyio.sleep(1)
        assert [program for program, _ in made.ran] == ran


@pytest.mark.parametrize("over", [None, kill(unclear=False)])
async def test_a_start_after_a_kill_that_is_over_runs_nothing(over: Any) -> None:
    async with stage(STOP) as made:
        made.hooks.resume(over, [{"kind": "reason", "data": {"kill": kill().id, "trigger": "x", "text": "y"}}])
        await anyio.sleep(1)
        assert made.ran == []


async def test_a_program_that_is_not_there_is_said_at_the_start_and_not_first_at_the_kill() -> None:
    def answer(run: Run) -> Done:
        return Done(run.errand["argv"][0] != "page", "page is not a program")

    made = Stage()
    made.beside.answer = answer
    made.hooks.configure(Table().model_copy(update={"on_trip": (STOP, PAGE)}))
    async with anyio.create_task_group() as group:
        group.start_soon(made.hooks.run)
        await anyio.sleep(1)
        assert made.announced == [Announce("warn", "hook page 'a b': page is not a program")]
        assert list(made.hooks.troubles()) == ["hook page 'a b': page is not a program"]
        made.hooks.configure(Table().model_copy(update={"on_trip": (STOP,)}))
        await anyio.sleep(1)
        assert list(made.hooks.troubles()) == []
        group.cancel_scope.cancel()
    assert made.ran == []
