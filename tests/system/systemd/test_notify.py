"""Speaking to systemd never waits, and what it has not heard is said again."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kill_switch.daemon.sd_notify import START_USEC, ServiceNotifier


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(path)
        heard.setblocking(False)
        yield heard


def drain(heard: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(heard.recv(4096).decode())
        except BlockingIOError:
            return lines


def test_each_state_is_sent_in_the_words_of_sd_notify(manager: socket.socket) -> None:
    with closing(ServiceNotifier()) as systemd:
        systemd.starting()
        systemd.alive()
        systemd.ready()
        systemd.ready()
        systemd.status("ARMED")
        systemd.status("ARMED")
        systemd.status("ARMED; /run/\udcff: no answer")  # a path with bytes that are not UTF-8
        systemd.stopping()
    extended = f"EXTEND_TIMEOUT_USEC={START_USEC}"
    sent = drain(manager)
    assert sent == [extended, "WATCHDOG=1", "READY=1", "STATUS=ARMED", "STATUS=ARMED; /run/?: no answer", "STOPPING=1"]


def test_a_manager_that_does_not_read_is_not_waited_for_and_notified_later(manager: socket.socket) -> None:
    with closing(ServiceNotifier()) as systemd:
        for _ in range(10_000):  # more than any queue holds
            systemd.alive()
        systemd.ready()
        systemd.status("ARMED")
        assert "READY=1" not in drain(manager)
        systemd.ready()
        systemd.status("ARMED")
    assert drain(manager) == ["READY=1", "STATUS=ARMED"]


def test_without_a_manager_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd = ServiceNotifier()
    systemd.ready()
    systemd.status("ARMED")
    assert systemd.watchdog_s is None


@pytest.mark.parametrize(("usec", "pid", "expected"), [("10000000", "", 10.0), ("x", "", None), ("10", "1", None)])
def test_the_watchdogs_period_is_ours_only(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert ServiceNotifier().watchdog_s == expected
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert (ServiceNotifier().watchdog_s is None) == (usec == "x")
