"""A process of its own runs the errands: real commands, real calls, a real apprise, and whatever hangs is bounded."""

from __future__ import annotations

import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest

from kill_switch.system import offload
from kill_switch.worker import child_process, client
from kill_switch.worker.client import INTERRUPTED, UNBEGUN, JobResult, WorkerClient, WorkerPool
from kill_switch.worker.commands import AT_ONCE

pytestmark = pytest.mark.anyio

ENV = {"KILL_SWITCH_KILL": "7", "KILL_SWITCH_REASON": "panic: 'now' $HOME `id`"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # real processes take real time


@asynccontextmanager
async def running(on_restart: Callable[[str], object] | None = None) -> AsyncIterator[WorkerPool]:
    beside = WorkerPool(on_restart)
    async with anyio.create_task_group() as group:
        for worker_client in beside.clients():
            group.start_soon(worker_client.run)
        yield beside
        group.cancel_scope.cancel()


def script(directory: Path, text: str) -> str:
    path = directory / "script"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


class Site:
    """An HTTP server on this machine that notes what it is sent; `status` is what it answers, None: nothing."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any]] = []
        self.status: int | None = 200
        self.let_go = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(None)

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def answer(self, body: Any) -> None:
                site.seen.append((self.command, self.path, body))
                if site.status is None:
                    site.let_go.wait(15)
                self.send_response(site.status or 500)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.let_go.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_command_gets_its_words_its_environment_and_its_text_and_no_shell(tmp_path: Path) -> None:
    program = script(tmp_path, 'echo "$# $1|$KILL_SWITCH_KILL|$KILL_SWITCH_REASON"; cat; pwd')
    async with running() as beside:
        done = await beside.run_job("run", 5, argv=[program, "a b; $(id)"], env=ENV, text="hello\n")
    assert (done.ok, done.code, done.why) == (True, 0, "")
    assert done.output == "1 a b; $(id)|7|panic: 'now' $HOME `id`\nhello\n/\n"


async def test_a_message_that_names_a_path_that_is_not_utf_8_is_delivered(tmp_path: Path) -> None:
    text = f"to re-arm: kill-switch rearm -c {os.fsdecode(bytes([255]))}"
    async with running() as beside:
        done = await beside.run_job("run", 5, argv=[script(tmp_path, "cat")], env=ENV, text=text)
    assert done.output == "to re-arm: kill-switch rearm -c \ufffd"


async def test_a_command_sees_nothing_of_our_environment_that_might_be_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OXFUN_SECRET", "sEcReT")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:sEcReT@proxy")
    async with running() as beside:
        done = await beside.run_job("run", 5, argv=["/usr/bin/env"], env=ENV)
        passed = child_process.environ()
    names = {line.partition("=")[0] for line in done.output.splitlines()}
    assert names - {"HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"} == {"PATH", *ENV}
    assert "OXFUN_SECRET" not in passed and "CREDENTIALS_DIRECTORY" not in passed


@pytest.mark.parametrize(
    ("text", "code", "why"), [("exit 3", 3, "exit code 3"), ("kill -9 $$", -9, "ended by signal 9")]
)
async def test_a_command_that_fails_says_how(tmp_path: Path, text: str, code: int, why: str) -> None:
    async with running() as beside:
        done = await beside.run_job("run", 5, argv=[script(tmp_path, f"echo no >&2; {text}")], env=ENV)
    assert (done.ok, done.code, done.why, done.output) == (False, code, why, "no\n")


async def test_a_program_that_is_not_there_is_a_failure_like_any_other(tmp_path: Path) -> None:
    async with running() as beside:
        done = await beside.run_job("run", 5, argv=[str(tmp_path / "none")], env=ENV)
        job_results = [
            await beside.run_job("find", 5, argv=[name]) for name in ("sh", "/bin/sh", str(tmp_path / "none"))
        ]
    assert done == JobResult(False, "No such file or directory")
    assert [job_result.ok for job_result in job_results] == [True, True, False]
    assert job_results[2].why == f"{tmp_path / 'none'} is not a program that this process could run"


async def test_a_command_that_hangs_is_killed_with_all_its_children(tmp_path: Path) -> None:
    program = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; echo started; wait")
    async with running() as beside:
        began_s = time.monotonic()
        done = await beside.run_job("run", 0.3, argv=[program], env=ENV)
        assert time.monotonic() - began_s < 2
    assert (done.ok, done.code, done.why, done.output) == (False, -9, "killed after 0.3 s", "started\n")
    assert gone(int((tmp_path / "child").read_text()))


async def test_a_command_that_never_stops_talking_is_cut_short(tmp_path: Path) -> None:
    async with running() as beside:
        done = await beside.run_job("run", 0.5, argv=[script(tmp_path, "exec yes")], env=ENV)
    assert done.why == "killed after 0.5 s"
    assert 0 < len(done.output) <= 500


async def test_a_commands_background_process_does_not_delay_its_result(tmp_path: Path) -> None:
    program = script(tmp_path, f"sleep 30 & echo $! > {tmp_path}/child; echo done")
    async with running() as beside:
        began_s = time.monotonic()
        done = await beside.run_job("run", 20, argv=[program], env=ENV)
        assert time.monotonic() - began_s < 3
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert (done.ok, done.output) == (True, "done\n")


async def test_commands_run_beside_one_another(tmp_path: Path) -> None:
    program = script(tmp_path, "sleep 0.5")
    async with running() as beside:
        await beside.run_job("find", 5, argv=["sh"])  # it is up
        began_s = time.monotonic()
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(lambda: beside.run_job("run", 5, argv=[program], env=ENV))
        assert time.monotonic() - began_s < 2.5


# ── messages and calls ────────────────────────────────────────────────────────────────────────────────────────────


async def test_apprise_carries_a_message(site: Site) -> None:
    url = f"json://127.0.0.1:{site.port}/hook/tOkEn"
    async with running() as beside:
        assert await beside.run_job("tell", 15, url=url) == JobResult(True)
        assert site.seen == []  # a look tells nobody
        done = await beside.run_job("tell", 15, url=url, subject="KILL: x", text="line 1\nline 2 <b>", type="failure")
    assert done == JobResult(True)
    ((method, path, body),) = site.seen
    assert (method, path) == ("POST", "/hook/tOkEn")
    assert (body["title"], body["message"], body["type"]) == ("KILL: x", "line 1\nline 2 <b>", "failure")


async def test_a_message_that_is_not_accepted_is_a_failure_without_its_url(site: Site) -> None:
    site.status = 403
    async with running() as beside:
        url = f"json://127.0.0.1:{site.port}/hook/tOkEn"
        done = await beside.run_job("tell", 15, url=url, subject="x", text="y", type="info")
        assert done == JobResult(False, "the service did not accept the message")
        assert await beside.run_job("tell", 15, url="nosuch://tOkEn") == JobResult(
            False, "apprise does not understand the URL"
        )


@pytest.mark.parametrize(("status", "done"), [(200, JobResult(True, "HTTP 200")), (404, JobResult(False, "HTTP 404"))])
async def test_a_call_is_a_get_that_wants_a_2xx(site: Site, status: int, done: JobResult) -> None:
    site.status = status
    async with running() as beside:
        assert (
            await beside.run_job("call", 5, url=f"http://127.0.0.1:{site.port}/ping/uuid", agent="us (record 7)")
            == done
        )
    assert site.seen == [("GET", "/ping/uuid", None)]


async def test_an_unanswered_call_fails_in_bounded_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.status = None
    async with running() as beside:
        assert (await beside.run_job("find", 5, argv=["sh"])).ok
        await beside.run_job("tell", 5, url="nosuch://")  # both are there
        monkeypatch.setattr(client, "GRACE_S", 0.2)
        began_s = time.monotonic()
        done = await beside.run_job("call", 0.3, url=f"http://127.0.0.1:{site.port}/ping/uuid", agent="us")
        assert time.monotonic() - began_s < 2
        assert done == JobResult(False, "no outcome within 0.5 s", lost=INTERRUPTED)
        monkeypatch.setattr(client, "GRACE_S", 3.0)
        assert not (await beside.run_job("tell", 5, url="nosuch://")).lost  # others are served meanwhile
        site.let_go.set()


async def test_a_call_that_is_refused_says_so_without_the_url(site: Site) -> None:
    site.server.socket.close()
    async with running() as beside:
        done = await beside.run_job("call", 5, url=f"http://127.0.0.1:{site.port}/ping/uuid", agent="us (record 7)")
    assert done == JobResult(False, "ConnectError")


# ── the process ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_worker_is_started_without_a_job() -> None:
    async with running() as beside:
        await anyio.sleep(0.05)
        assert [worker_client.pid for worker_client in beside.clients()] == [None, None]


async def test_a_python_that_cannot_be_started_is_shown_and_errands_fail_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    monkeypatch.setattr(client, "GRACE_S", 0.1)
    async with running() as beside:
        assert await beside.run_job("find", 0.1, argv=["sh"]) == JobResult(
            False, "the process for commands was not running for 0.2 s", lost=UNBEGUN
        )
        trouble = "the process for commands cannot be started: No such file or directory"
        assert list(beside.troubles()) == [trouble]


async def test_a_start_that_hangs_stops_no_event_loop_and_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    real = WorkerClient._start

    def hangs(self: WorkerClient, outcomes: int) -> subprocess.Popen[bytes]:
        over.wait(10)
        return real(self, outcomes)

    monkeypatch.setattr(WorkerClient, "_start", hangs)
    monkeypatch.setattr(client, "GRACE_S", 0.1)
    monkeypatch.setattr(offload, "HANGS_AFTER_S", 0.1)
    async with running() as beside:
        assert await beside.run_job("find", 0.1, argv=["sh"]) == JobResult(
            False, "the process for commands was not running for 0.2 s", lost=UNBEGUN
        )
        assert list(beside.troubles()) == ["the start of the process for commands does not answer"]
        over.set()
        monkeypatch.setattr(client, "GRACE_S", 5.0)
        assert (await beside.run_job("find", 5, argv=["sh"])).ok
        assert list(beside.troubles()) == []


async def test_the_process_goes_when_the_daemon_goes_and_takes_its_commands_with_it(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 60")
    began_s = 0.0
    async with running() as beside:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: beside.run_job("run", 30, argv=[program], env=ENV))
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():  # noqa: ASYNC110
                await anyio.sleep(0.02)
            group.cancel_scope.cancel()
        began_s = time.monotonic()
    assert 1.5 < time.monotonic() - began_s < 3.5  # what was under way had a moment
    assert gone(int((tmp_path / "pid").read_text()))


async def test_a_job_under_way_at_the_end_is_still_delivered(site: Site) -> None:
    url = f"json://127.0.0.1:{site.port}/hook"
    async with running() as beside:
        assert (await beside.run_job("tell", 15, url=url)).ok
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: beside.run_job("tell", 15, url=url, subject="x", text="last words", type="info"))
            await anyio.wait_all_tasks_blocked()  # it is written, and no more
            group.cancel_scope.cancel()
    assert [body["message"] for _, _, body in site.seen] == ["last words"]


async def test_signals_that_systemd_sends_to_the_whole_group_do_not_end_it_before_the_daemon() -> None:
    async with running() as beside:
        assert (await beside.run_job("find", 5, argv=["sh"])).ok
        pids = [worker_client.pid for worker_client in beside.clients()]
        for pid, number in itertools.product(filter(None, pids), (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
            os.kill(pid, number)
        assert (await beside.run_job("find", 5, argv=["sh"])).ok
        assert list(beside.troubles()) == [] and pids == [worker_client.pid for worker_client in beside.clients()]


async def test_a_command_does_not_inherit_the_deafness_to_signals() -> None:
    async with running() as beside:
        done = await beside.run_job("run", 5, argv=["grep", "SigIgn", "/proc/self/status"], env=ENV)
    ignored = int(done.output.split()[1], 16)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # else nobody could end it
        assert not ignored & (1 << (number - 1))


def gone(pid: int, within_s: float = 2.0) -> bool:
    """Tell whether a process has ended, within a moment."""
    for _ in range(round(within_s / 0.02)):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "line", [b"", b"printed by a library\n", b"[]", b'{"id":[]}', b'{"id":1,"ok":true,"x":1}', b'{"id":1}']
)
async def test_a_librarys_output_on_the_pipe_does_not_end_the_worker(
    line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    WorkerClient()._hear(line)
    assert "sent a line that is not understood" in caplog.text


async def test_commands_beyond_the_concurrent_bound_are_reported_as_not_begun(tmp_path: Path) -> None:
    """So a hook is handed over again, and a bot is stopped later rather than never."""
    path, outcomes = script(tmp_path, f"echo $$ >> {tmp_path}/began; sleep 1"), list[JobResult]()

    async def run() -> None:
        outcomes.append(await beside.run_job("run", 20.0, argv=(path,), env={}))

    async with running() as beside:
        assert (await beside.run_job("find", 5.0, argv=(path,))).ok
        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE + 3):
                group.start_soon(run)
    declined = [done for done in outcomes if not done.ok]
    assert declined and set(declined) == {JobResult(False, "not begun: too many commands are running", lost=UNBEGUN)}
    assert len((tmp_path / "began").read_text().split()) == len(outcomes) - len(declined)


@pytest.mark.parametrize("what", ["run", "tell"])
async def test_an_errand_after_its_deadline_is_reported_as_late(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a hook is handed over again only when all its time is over, which may be an hour."""
    monkeypatch.setattr(client, "GRACE_S", 0.3)
    monkeypatch.setattr(client, "BEAT_S", 60.0)  # a process that was only slow is not taken for one that hangs
    errand: dict[str, Any] = {"argv": ("/bin/true",), "env": {}} if what == "run" else {"url": "json://127.0.0.1:9"}
    async with running() as beside:
        desk = beside.commands if what == "run" else beside.messages
        await beside.run_job(what, 20.0, **errand)
        assert desk.pid is not None
        os.kill(desk.pid, signal.SIGSTOP)
        async with anyio.create_task_group() as group:
            outcomes = list[JobResult]()

            async def run() -> None:
                outcomes.append(await beside.run_job(what, 3600.0, **errand))

            group.start_soon(run)
            await anyio.sleep(0.5)
            os.kill(desk.pid, signal.SIGCONT)
            with anyio.fail_after(20):
                while not outcomes:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
    assert outcomes[0]._replace(lost="") == JobResult(False, "not begun: the errand arrived too late")
    assert what == "tell" or outcomes[0].lost == UNBEGUN
