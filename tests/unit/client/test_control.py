"""Status, kill and drill by the client library and its asynchronous twin: answers, errors, and their bounds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from kill_switch.client import (
    Control,
    NotAllowed,
    Refused,
    UnknownProtocol,
    Unreachable,
    Unresponsive,
    aio,
    control_socket,
)
from kill_switch.client.places import CONTROL_SOCKET
from tests.harness.fake_daemon import Answers, answering

Call = Callable[..., dict[str, Any]]


def call_sync(directory: Path, method: str, *words: Any, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = getattr(Control(directory), method)(*words, **more)
    return answer


def call_async(directory: Path, method: str, *words: Any, **more: Any) -> dict[str, Any]:
    """Call the twin while another task runs every 10 ms; fail if it has run less than every 100 ms."""

    async def run() -> dict[str, Any]:
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        ticking, began_s = asyncio.create_task(tick()), time.monotonic()
        try:
            answer: dict[str, Any] = await getattr(aio.Control(directory), method)(*words, **more)
            return answer
        finally:
            ticking.cancel()
            assert turns >= (time.monotonic() - began_s) / 0.1 - 1

    return asyncio.run(run())


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    chosen: Call = request.param
    return chosen


def test_each_request_has_the_keys_that_the_page_about_the_protocol_has(call: Call, tmp_path: Path) -> None:
    answers: Answers = {"status": {"state": "ARMED", "protocol": 1}, "fire": {"id": "k1"}, "drill": {"ok": True}}
    with answering(tmp_path / CONTROL_SOCKET, answers) as requests:
        assert call(tmp_path, "status") == answers["status"]
        assert call(tmp_path, "fire", "runaway quoter", ["desk:mm"], wait_s=3) == answers["fire"]
        assert call(tmp_path, "fire", "x" * 5000, "mm1", wait_s=float("nan")) == answers["fire"]
        assert call(tmp_path, "drill") == answers["drill"]
    status, fire, long, drill = (request for request in requests if request)
    assert (status, drill) == ({"cmd": "status"}, {"cmd": "drill", "scope": []})
    assert fire == {"cmd": "fire", "reason": "runaway quoter", "scope": ["desk:mm"], "wait_s": 3}
    assert (long["reason"], long["scope"], long["wait_s"]) == ("x" * 1000, ["mm1"], 0.0)


@pytest.mark.parametrize(
    ("exit_code", "error"), [(1, Refused), (75, Refused), (None, Refused), (69, Unreachable), (77, NotAllowed)]
)
def test_an_error_of_the_daemon_is_an_exception_with_the_daemons_words(
    exit_code: int | None, error: type[Exception], call: Call, tmp_path: Path
) -> None:
    answer = {"error": "there is no account or tag 'mm9'", **({"exit": exit_code} if exit_code else {})}
    with answering(tmp_path / CONTROL_SOCKET, {"fire": answer}), pytest.raises(error) as caught:
        call(tmp_path, "fire", "x", ["mm9"])
    assert type(caught.value) is error and str(caught.value) == answer["error"]


def test_a_status_of_another_protocol_is_not_read_and_a_kill_goes_out_all_the_same(call: Call, tmp_path: Path) -> None:
    answers: Answers = {
        "status": {"state": "ARMED", "version": "9.0", "protocol": 2},
        "fire": {"id": "k1", "protocol": 2},
    }
    with answering(tmp_path / CONTROL_SOCKET, answers):
        with pytest.raises(UnknownProtocol, match=r"the daemon 9\.0 speaks protocol 2, and this library protocol 1"):
            call(tmp_path, "status")
        assert call(tmp_path, "fire", "x")["id"] == "k1"
    (tmp_path / CONTROL_SOCKET).unlink()
    with answering(tmp_path / CONTROL_SOCKET, {"status": {"state": "ARMED"}}):  # a daemon from before the number
        assert call(tmp_path, "status")["state"] == "ARMED"


@pytest.mark.parametrize("method", ["status", "drill", "fire"])
def test_without_a_daemon_the_error_names_the_socket(method: str, call: Call, tmp_path: Path) -> None:
    words = ("x",) if method == "fire" else ()
    with pytest.raises(Unreachable, match=f"no daemon answers on {tmp_path}/control.sock") as caught:
        call(tmp_path, method, *words)
    assert not isinstance(caught.value, Unresponsive)


def listening(tmp_path: Path, backlog: int = 128) -> socket.socket:
    """Return a control socket that accepts no connection, as of a daemon that hangs."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / CONTROL_SOCKET))
    sock.listen(backlog)
    return sock


def test_a_daemon_that_hangs_is_an_error_within_the_bound(call: Call, tmp_path: Path) -> None:
    with listening(tmp_path):
        with pytest.raises(Unresponsive, match=r"does not answer on .* \(waited 0\.2 s\)$"):
            call(tmp_path, "status", within_s=0.2)
        with pytest.raises(Unresponsive, match="whether it has done, or will do, what was asked is not known"):
            call(tmp_path, "drill", within_s=0.2)


def test_a_kill_without_an_acknowledgement_is_an_error_after_its_wait(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_switch.client.control_socket.ACKNOWLEDGED_WITHIN_S", 0.1)
    with listening(tmp_path):
        began_s = time.monotonic()
        with pytest.raises(Unresponsive, match="is not known"):
            call(tmp_path, "fire", "x", wait_s=0.1)
        assert time.monotonic() - began_s < 5.0  # and not after the 5 s that an answer may take


def test_a_full_queue_of_requests_is_an_error_at_once(call: Call, tmp_path: Path) -> None:
    with listening(tmp_path, backlog=0), socket.socket(socket.AF_UNIX) as first:
        first.connect(str(tmp_path / CONTROL_SOCKET))
        with pytest.raises(Unresponsive, match="its queue of requests is full"):
            call(tmp_path, "status", within_s=30.0)


def answers_with(tmp_path: Path, content: bytes, call: Call) -> str:
    """Return the error's text for a process that answers with these bytes and hangs up."""
    with listening(tmp_path) as sock:

        def serve() -> None:
            with sock.accept()[0] as peer:
                peer.recv(1000)
                peer.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(Unreachable) as caught:
                call(tmp_path, "status")
        finally:
            thread.join()
    return str(caught.value)


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b"\xff\n"])
def test_a_process_that_is_no_daemon_is_named_as_such(content: bytes, call: Call, tmp_path: Path) -> None:
    assert "is no daemon: its answer is not a JSON object" in answers_with(tmp_path, content, call)


def test_a_daemon_that_ends_before_its_answer_is_named_as_such(call: Call, tmp_path: Path) -> None:
    assert "the daemon hung up" in answers_with(tmp_path, b'{"sta', call)


def test_an_answer_without_an_end_is_no_daemons(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.client.control_socket.MAX_ANSWER", 1000)
    assert "its answer does not end" in answers_with(tmp_path, b"x" * 5000, call)


def test_an_acknowledgement_that_comes_twice_is_no_answer(call: Call, tmp_path: Path) -> None:
    with listening(tmp_path) as sock:

        def serve() -> None:
            while not (peer := sock.accept()[0]).recv(1000):  # it only looks whether a daemon is there
                peer.close()
            with peer:
                peer.sendall(b'{"acknowledged":null}\n{"acknowledged":"k1","accounts":[]}\n{"id":"k1"}\n')

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert call(tmp_path, "fire", "x") == {"id": "k1"}
        finally:
            thread.join()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("passes", range(1, 6))
def test_a_kill_of_a_task_that_is_cancelled_has_been_sent_and_no_other_file_is_closed(
    passes: int, loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(aio.Control(tmp_path).fire("runaway quoter"))
        for _ in range(passes):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    with listening(tmp_path) as sock, contextlib.ExitStack() as files:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(cancelled())
            mine = [files.enter_context(tempfile.TemporaryFile()) for _ in range(8)]  # they get the lowest free numbers
            gc.collect()
            runner.run(asyncio.sleep(0))
        assert all(os.fstat(file.fileno()) for file in mine)
        with sock.accept()[0] as peer:
            assert b"runaway quoter" in peer.recv(1000)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the clients give a daemon up that has not acknowledged a request within 0.4 s."""
    monkeypatch.setitem(cast(dict[str, Any], control_socket.send_request.__kwdefaults__), "silent_after_s", 0.4)
    monkeypatch.setattr(aio._exchange, "__defaults__", (0.4, 0.0))


@pytest.mark.usefixtures("impatient")
def test_a_daemon_from_before_acknowledgements_does_not_hang_while_it_answers_others(
    call: Call, tmp_path: Path
) -> None:
    def drill(request: Mapping[str, Any]) -> Mapping[str, Any]:
        time.sleep(1.0)
        return {"ok": True}

    with answering(tmp_path / CONTROL_SOCKET, {"drill": drill}):
        assert call(tmp_path, "drill") == {"ok": True}


@contextlib.contextmanager
def acknowledging(tmp_path: Path, *, then_ends: bool = False) -> Iterator[None]:
    """Serve as a daemon that acknowledges each request, answers none, and answers what is no request."""
    kept = list[socket.socket]()
    with listening(tmp_path) as sock:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    kept.append(peer := sock.accept()[0])
                    line = peer.recv(1000)
                    peer.sendall(b'{"error":"not a request"}\n' if line == b"{}\n" else b'{"acknowledged":null}\n')
                    if then_ends:
                        peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join()
            for peer in kept:
                peer.close()


def test_a_daemon_that_has_not_answered_in_time_and_answers_others_does_not_hang(call: Call, tmp_path: Path) -> None:
    with acknowledging(tmp_path), pytest.raises(Unreachable, match="the daemon runs, and has not answered") as caught:
        call(tmp_path, "drill", within_s=0.3)
    assert caught.value.is_awake and not isinstance(caught.value, Unresponsive)


def test_a_daemon_that_ends_one_connection_and_answers_others_is_not_dead(call: Call, tmp_path: Path) -> None:
    with acknowledging(tmp_path, then_ends=True), pytest.raises(Unreachable, match=r"hung up on .* answers others"):
        call(tmp_path, "drill")
