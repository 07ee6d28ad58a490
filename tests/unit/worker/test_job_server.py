"""The process beside is bounded in what it takes on, and gives itself up when it is worn out."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from kill_switch.worker import main
from kill_switch.worker.main import Errand, JobServer, Outcome

Pipe = tuple[JobServer, int]
CALL = {"do": "call", "within_s": 5, "begin_by_s": 1e12, "url": "https://hooks.example/tOkEn"}


@pytest.fixture
def desk() -> Iterator[Pipe]:
    told, out = os.pipe()
    yield JobServer(out), told
    os.close(told)
    os.close(out)


def lines(told: int, count: int) -> list[dict[str, Any]]:
    text = b""
    while text.count(b"\n") < count:
        text += os.read(told, 1 << 16)
    return [orjson.loads(line) for line in text.splitlines()]


def test_the_number_of_concurrent_jobs_is_bounded(desk: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def wait(errand: Errand) -> Outcome:
        over.wait(10)
        return {"ok": True}

    monkeypatch.setattr(main, "http_get", wait)
    monkeypatch.setattr(main, "AT_ONCE", 3)
    for number in range(5):
        desk[0].start_job({**CALL, "id": number})
    refused = lines(desk[1], 2)
    assert refused == [
        {"id": number, "ok": False, "why": "not begun: too many errands are in progress"} for number in (3, 4)
    ]
    over.set()
    assert sorted(line["id"] for line in lines(desk[1], 3)) == [0, 1, 2]


def test_an_errands_exception_is_reported_by_its_type_alone(desk: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(errand: Errand) -> Outcome:
        raise ValueError("https://hooks.example/tOkEn is bad")

    monkeypatch.setattr(main, "http_get", fail)
    desk[0].start_job({**CALL, "id": 7})
    assert lines(desk[1], 1) == [{"id": 7, "ok": False, "why": "ValueError"}]


def test_a_process_whose_errands_do_not_come_back_ends_and_is_made_anew(
    desk: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(errand: Errand) -> Outcome:
        over.wait(10)
        return {"ok": True}

    monkeypatch.setattr(main, "http_get", hang)
    monkeypatch.setattr(main, "STUCK", 2)
    monkeypatch.setattr(main, "STUCK_AFTER_S", -1.0)
    monkeypatch.setattr(main, "LAST_S", 0.1)
    told = [orjson.dumps({**CALL, "id": n, "within_s": 0.0}) + b"\n" for n in range(10)]
    read = io.BytesIO(b"".join(told))
    began_s = time.monotonic()
    desk[0].serve(read)
    assert time.monotonic() - began_s < 5
    assert read.tell() < len(b"".join(told))  # the rest was not taken
    over.set()


def test_an_errand_after_its_deadline_is_reported_as_not_begun(desk: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "http_get", lambda errand: {"ok": True})
    desk[0].start_job({**CALL, "id": 1, "begin_by_s": time.monotonic() - 0.001})
    desk[0].start_job({**CALL, "id": 2, "begin_by_s": time.monotonic() + 10})
    late, in_time = sorted(lines(desk[1], 2), key=lambda line: line["id"])
    assert late == {"id": 1, "ok": False, "why": "not begun: the errand arrived too late"}
    assert in_time == {"id": 2, "ok": True}


def test_a_system_without_threads_fails_an_errand_and_not_the_process(
    desk: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    desk[0].start_job({**CALL, "id": 1})
    assert lines(desk[1], 1) == [{"id": 1, "ok": False, "why": "no thread can be started"}]


def test_a_daemon_that_is_gone_is_no_reason_to_raise() -> None:
    told, out = os.pipe()
    os.close(told)
    JobServer(out).write({"id": 1, "ok": True})
    os.close(out)
