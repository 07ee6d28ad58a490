"""Processes beside the daemon hang, die and are killed: it is noticed, told, and nothing runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from kill_switch.worker import client
from kill_switch.worker.client import INTERRUPTED, UNBEGUN, JobResult, WorkerClient
from tests.unit.worker.test_jobs import ENV, Site, gone, running, script, site  # noqa: F401 - a fixture

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

SOON_S = 20.0  # on a machine that is busy


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # real processes take real time


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BEAT_S", 0.5)


@asynccontextmanager
async def one(module: str) -> AsyncIterator[tuple[WorkerClient, list[str]]]:
    """Keep a process of that module; yield what is told of it, too."""
    told = list[str]()
    worker_client = WorkerClient(module, on_restart=told.append)
    worker_client.start_when_needed()
    async with anyio.create_task_group() as group:
        group.start_soon(worker_client.run)
        yield worker_client, told
        group.cancel_scope.cancel()


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(SOON_S):
        while not true():  # noqa: ASYNC110
            await anyio.sleep(0.02)


def number_in(path: Path) -> int:
    text = path.read_text() if path.exists() else ""
    return int(text) if text.endswith("\n") else 0


def keepers(desk: int) -> list[int]:
    """Return the processes that keep commands for the process for commands."""
    return [int(pid) for pid in Path(f"/proc/{desk}/task/{desk}/children").read_text().split()]


# ── what hangs is noticed ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["locked", "deaf", "knotted"])
async def test_a_process_that_hangs_is_killed_and_another_one_takes_its_place(name: str) -> None:
    async with one(f"tests.unit.worker.sick.{name}") as (worker_client, told):
        await until(lambda: worker_client._begun)
        first = worker_client.pid
        await until(lambda: told)
        assert first is not None and gone(first)
        assert told[0].startswith("the process for messages hung: no answer for 2 s; it is started again")
        assert worker_client.trouble == told[0].partition(";")[0]
        await until(lambda: worker_client.pid not in (None, first))


async def test_the_last_lines_of_a_process_that_fails_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with one("tests.unit.worker.sick.no_such_module") as (_, told):
        await until(lambda: told)
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("the process for messages: ") and "No module named" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "why"), [("babbling", "sends lines that are not understood"), ("endless", "sends a line that is too long")]
)
async def test_a_process_that_floods_the_pipe_is_killed(name: str, why: str) -> None:
    async with one(f"tests.unit.worker.sick.{name}") as (_, told):
        await until(lambda: told)
        assert told[0] == f"the process for messages {why}; it is started again"


async def test_a_process_that_cannot_begin_is_started_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = anyio.sleep

    async def sleep(seconds: float) -> None:
        if seconds in client.PAUSES_S:
            pauses.append(seconds)
            seconds = 0.0
        await real(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    async with one("tests.unit.worker.sick.dead") as (worker_client, told):
        await until(lambda: len(pauses) >= 6)
        assert pauses[:6] == [*client.PAUSES_S, client.PAUSES_S[-1]]
        assert told[0] == "the process for messages ended; it is started again" and worker_client.restarts >= 6


async def test_a_stopped_worker_is_replaced_and_its_waiting_jobs_are_reported_as_not_begun() -> None:
    told: list[str] = []
    async with running(told.append) as beside:
        assert (await beside.run_job("find", 5, argv=["sh"])).ok
        assert beside.commands.pid is not None
        os.kill(beside.commands.pid, signal.SIGSTOP)
        began_s = time.monotonic()
        done = await beside.run_job("run", 10, argv=["stop-the-bot", "now"], env=ENV)
        assert done == JobResult(False, "the process for commands ended meanwhile", lost=UNBEGUN)
        assert time.monotonic() - began_s < SOON_S
        await until(lambda: told)
        assert told == [
            "the process for commands hung: no answer for 2 s; it is started again; under way: stop-the-bot now"
        ]
        assert (await beside.run_job("find", 5, argv=["sh"])).ok
        assert list(beside.troubles()) == []


async def test_messages_that_hang_hold_up_no_command_and_commands_no_message(site: Site) -> None:  # noqa: F811
    url = f"json://127.0.0.1:{site.port}/hook"
    async with running() as beside:
        assert (await beside.run_job("tell", 15, url=url)).ok and (await beside.run_job("find", 5, argv=["sh"])).ok
        assert beside.messages.pid and beside.commands.pid
        os.kill(beside.messages.pid, signal.SIGSTOP)
        assert (await beside.run_job("run", 5, argv=["/bin/true"], env=ENV)).ok
        done = await beside.run_job("tell", 15, url=url, subject="x", text="y", type="info")
        assert done == JobResult(False, "the process for messages ended meanwhile", lost=INTERRUPTED)
        os.kill(beside.commands.pid, signal.SIGSTOP)
        assert (await beside.run_job("tell", 15, url=url, subject="x", text="y", type="info")).ok
        assert len(site.seen) == 1


async def test_a_daemon_that_stood_still_does_not_take_its_processes_for_dead() -> None:
    async with running() as beside:
        assert (await beside.run_job("find", 5, argv=["sh"])).ok
        before = beside.commands.pid
        time.sleep(4.0)  # noqa: ASYNC251 - longer than all the heartbeats that may be missed
        await anyio.sleep(0.5)
        assert (await beside.run_job("find", 5, argv=["sh"])).ok
        assert (beside.commands.pid, beside.commands.restarts) == (before, 0)


# ── commands outlive what has started them ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_command_goes_on_when_the_process_that_has_begun_it_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = script(tmp_path, f"echo one; echo $$ >> {tmp_path}/ran; sleep 3; echo two; exit 3")
    told: list[str] = []
    async with running(told.append) as beside:
        job_results = list[JobResult]()

        async def run() -> None:
            job_results.append(await beside.run_job("run", 15, argv=[program], env=ENV))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await until(lambda: number_in(tmp_path / "ran"))
            first = beside.commands.pid
            assert first is not None
            os.kill(first, number)
            await until(lambda: told)
        assert f"under way: {program} (goes on)" in told[0]
        assert job_results[0]._replace(ms=0) == JobResult(False, "exit code 3", 3, 0, "one\ntwo\n")
        assert len((tmp_path / "ran").read_text().split()) == 1
        assert beside.commands.pid != first and beside.messages.pid is None


async def test_a_worker_that_hangs_is_killed_with_its_command_and_reported(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    async with running() as beside:
        job_results = list[JobResult]()

        async def run() -> None:
            job_results.append(await beside.run_job("run", 15, argv=[program], env=ENV))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await until(lambda: number_in(tmp_path / "pid"))
            assert beside.commands.pid is not None
            (keeper,) = keepers(beside.commands.pid)
            os.kill(keeper, signal.SIGKILL)
        why = "its keeper process was killed by signal 9, and the command with it"
        assert job_results == [JobResult(False, why, lost=INTERRUPTED)]
        assert gone(number_in(tmp_path / "pid"))
        assert (await beside.run_job("find", 5, argv=["sh"])).ok


async def test_a_command_still_ends_in_time_when_the_process_that_has_begun_it_is_gone(tmp_path: Path) -> None:
    program = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    async with running() as beside:
        job_results = list[JobResult]()

        async def run() -> None:
            job_results.append(await beside.run_job("run", 2, argv=[program], env=ENV))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await until(lambda: number_in(tmp_path / "child"))
            assert beside.commands.pid is not None
            os.kill(beside.commands.pid, signal.SIGKILL)
        assert (job_results[0].why, job_results[0].lost) == ("killed after 2 s", "")
        assert gone(number_in(tmp_path / "child"))


async def test_a_text_longer_than_a_pipe_and_output_longer_than_a_line_are_taken(tmp_path: Path) -> None:
    text = "a\0é" * 100_000
    async with running() as beside:
        done = await beside.run_job("run", 10, argv=[script(tmp_path, f"cat > {tmp_path}/text")], env=ENV, text=text)
        assert done.ok and (tmp_path / "text").read_text() == text
        done = await beside.run_job("run", 10, argv=["/bin/sh", "-c", "head -c 100000 /dev/zero"], env=ENV)
        assert done.ok and done.output == "\0" * 500


async def test_a_command_that_does_not_read_its_text_is_not_harmed(tmp_path: Path) -> None:
    async with running() as beside:
        done = await beside.run_job("run", 10, argv=["/bin/true"], env=ENV, text="x" * 1_000_000)
        assert (done.ok, done.code) == (True, 0)


# ── the daemon is gone ────────────────────────────────────────────────────────────────────────────────────────────

DAEMON = """
import anyio, sys
from kill_switch.worker.client import WorkerPool

async def main():
    workers = WorkerPool()
    async with anyio.create_task_group() as group:
        for client in workers.clients():
            client.start_when_needed()
            group.start_soon(client.run)
        await workers.run_job("find", 5, argv=["sh"])
        while not workers.messages._begun:
            await anyio.sleep(0.02)
        group.start_soon(lambda: workers.run_job("run", 60, argv=sys.argv[1:], env={}))
        await anyio.sleep(0.3)
        print(*(client.pid for client in workers.clients()), flush=True)
        await anyio.sleep(60)

anyio.run(main)
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int], int]]:
    """Start a process that keeps both, with a command under way that has a child; yield it, their numbers, the child's.

    Nothing that it starts is left.
    """
    program = script(tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; wait")
    started = subprocess.Popen([sys.executable, "-c", DAEMON, program], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    pids = [int(pid) for pid in started.stdout.readline().split()]
    child = 0
    until_s = time.monotonic() + SOON_S
    while not child and time.monotonic() < until_s:
        child = number_in(tmp_path / "child")
        time.sleep(0.02)
    yield started, pids, child
    started.kill()
    started.wait()
    started.stdout.close()
    for pid in (*pids, child):
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)


Started = tuple[subprocess.Popen[str], list[int], int]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_daemon_that_is_killed_leaves_neither_processes_nor_commands(daemon: Started, stopped: bool) -> None:
    process, pids, child = daemon
    left = [*pids, *keepers(pids[1]), child]
    assert len(left) == 4 and all(left)
    for pid in pids if stopped else ():
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.wait()
    assert all(gone(pid, SOON_S) for pid in left)


def test_the_processes_of_a_daemon_that_is_killed_leave_no_command_when_they_were_killed_before(
    daemon: Started,
) -> None:
    process, pids, child = daemon
    left = [*keepers(pids[1]), child]
    os.kill(pids[1], signal.SIGKILL)
    process.kill()
    process.wait()
    assert all(gone(pid, SOON_S) for pid in left)
