"""What comes while the daemon starts, or stops, is done: a signal, a request, a datagram, and it outlives a crash."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kill_switch.client import control_socket
from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from tests.system.e2e.conftest import HEARTBEAT, Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

SLOW = """
import builtins, fcntl, os, sys, time

def wait(name):
    open(os.environ["AT"] + name, "w").close()
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.005)

real_import = builtins.__import__

def bring(name, *words, **more):
    if name == "kill_switch.cli" and os.environ["WHERE"] == "import":
        wait("import")
    return real_import(name, *words, **more)

def flock(fd, how, real=fcntl.flock):
    if os.environ["WHERE"] == "record" and os.readlink(f"/proc/self/fd/{fd}").endswith("/state/lock"):
        wait("record")
    return real(fd, how)

if "WHERE" in os.environ:
    builtins.__import__, fcntl.flock = bring, flock
"""


class Starting(Play):
    """A stage whose daemon starts as far as it is let."""

    def start(self, where: str) -> None:
        """Start the daemon, up to there: `import` is before its first import, `record` while it opens its record."""
        (self.directory / "sitecustomize.py").write_text(SLOW)
        environ = {"PYTHONPATH": str(self.directory), "WHERE": where, "AT": str(self.directory / "at-")}
        command = [sys.executable, "-m", "kill_switch", "run", "-c", str(self.config)]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                command, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **environ, "GO": str(self.go)}
            )
        self.until((self.directory / f"at-{where}").exists)

    @property
    def go(self) -> Path:
        return self.directory / "go"

    def signal(self, number: int) -> None:
        assert self.daemon is not None
        self.daemon.send_signal(number)

    def stands(self) -> dict[str, Any]:
        """Let the start go on, and wait until the daemon answers."""
        self.go.touch()
        return self.wait_for(lambda status: True, 15.0)

    def record(self) -> list[Any]:
        return self.command("journal", "--json").lines

    def latched(self) -> bool:
        return any((directory / LATCH).exists() for directory in (self.state_dir, self.runtime_dir))


@pytest.fixture
def starting() -> Iterator[Starting]:
    with Starting(["roxom"]) as made:
        made.write_config(HEARTBEAT.replace("oxfun", "roxom"))
        made.state_dir.mkdir()
        made.rest("roxom", 5)
        yield made


WHERE = pytest.mark.parametrize("where", ["import", "record"])


@WHERE
def test_a_kill_signal_during_the_start_is_executed_after_it(where: str, starting: Starting) -> None:
    starting.start(where)
    starting.signal(signal.SIGUSR1)
    starting.until(starting.latched)
    starting.stands()
    starting.until_tripped()
    assert starting.book("roxom") == 0
    reasons = starting.command("report", "--json").json["reasons"]
    assert [(reason["trigger"], reason["text"]) for reason in reasons] == [("operator", "SIGUSR1")]
    starting.until(lambda: not starting.latched())


@WHERE
def test_a_kill_signal_outlives_a_start_that_is_killed(where: str, starting: Starting) -> None:
    starting.start(where)
    starting.signal(signal.SIGUSR1)
    starting.until(starting.latched)
    starting.stop_daemon(signal.SIGKILL)
    starting.start_daemon(wait=False)
    starting.until_tripped()
    assert starting.book("roxom") == 0


@WHERE
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_a_reload_signal_during_the_start_is_executed_and_ends_no_process(
    where: str, number: int, starting: Starting
) -> None:
    starting.start(where)
    starting.signal(number)
    time.sleep(0.1)  # for Python to come to it
    assert starting.stands()["state"] == "ARMED"
    if number == signal.SIGHUP:
        starting.until(lambda: any(entry["kind"] == "reload" for entry in starting.record()))


@WHERE
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_is_ended_in_good_order(where: str, number: int, starting: Starting) -> None:
    starting.start(where)
    assert starting.stop_daemon(number) == 0
    assert "Traceback" not in starting.log.read_text()


@WHERE
def test_a_start_that_is_ended_right_behind_a_kill_signal_leaves_the_kill_for_the_next(
    where: str, starting: Starting
) -> None:
    starting.start(where)
    starting.signal(signal.SIGUSR1)
    starting.signal(signal.SIGTERM)
    starting.go.touch()
    assert starting.daemon is not None
    assert starting.daemon.wait(10.0) == 0, starting.log.read_text()
    assert starting.latched()


def test_signals_that_the_parent_process_has_blocked_are_handled(starting: Starting) -> None:
    command = [sys.executable, "-m", "kill_switch", "run", "-c", str(starting.config)]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        with starting.log.open("ab") as log:
            starting.daemon = subprocess.Popen(command, stderr=log)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    starting.signal(signal.SIGUSR1)
    starting.until_tripped()
    assert starting.book("roxom") == 0


def fire(starting: Starting, **more: object) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(starting.runtime_dir / "control.sock"))
    sock.sendall(json.dumps({"cmd": "fire", "reason": "by hand", **more}).encode() + b"\n")
    return sock


def test_a_request_during_the_start_is_answered_after_it(starting: Starting) -> None:
    starting.start("record")
    answers: list[Any] = []

    def ask() -> None:
        request = {"cmd": "fire", "reason": "by hand", "wait_s": 5}
        answers.append(control_socket.send_request(starting.runtime_dir / "control.sock", request, 20.0, 1.0))

    thread = threading.Thread(target=ask)
    thread.start()
    starting.until(starting.latched)
    starting.stands()
    thread.join()
    assert starting.book("roxom") == 0
    assert [(r["trigger"], r["text"]) for r in answers[0]["reasons"]] == [("operator", "by hand")]
    assert answers[0]["accounts"]["roxom"]["verdict"] == "CONFIRMED"
    starting.until(lambda: not starting.latched())


def test_a_kill_that_was_asked_for_outlives_a_start_that_is_killed_and_the_caller(starting: Starting) -> None:
    starting.start("record")
    starting.until(lambda: control_socket.is_listening(starting.runtime_dir / "control.sock"))
    fire(starting, reason="").close()  # a kill needs no reason
    starting.until(starting.latched)
    starting.stop_daemon(signal.SIGKILL)
    starting.start_daemon(wait=False)
    starting.until_tripped()
    assert starting.book("roxom") == 0


def test_a_request_that_is_refused_leaves_no_latch(starting: Starting) -> None:
    starting.start("record")
    starting.until(lambda: control_socket.is_listening(starting.runtime_dir / "control.sock"))
    socks = [fire(starting, scope=["nobody"]), fire(starting, reason=5), fire(starting, dry_run=True)]
    status = starting.stands()
    assert status["state"] == "ARMED" and not starting.latched()
    for sock in socks:
        sock.close()


def test_beats_while_it_starts_are_not_lost(starting: Starting) -> None:
    starting.start("record")
    path = starting.runtime_dir / "intake.sock"
    starting.until(path.is_socket)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        for _ in range(100):  # more than the kernel holds for a socket that nobody reads
            sock.sendto(b"alive", str(path))
        sock.sendto(b"nobody", str(path))
    status = starting.stands()
    assert status["intake"]["beats"] == 100 and status["intake"]["ignored"] == 1
    starting.until_tripped()  # the beats have stopped


def test_kill_signals_while_it_stops_are_done_or_left_for_the_next_start(starting: Starting) -> None:
    starting.start("record")
    starting.stands()
    starting.rest("roxom", 5)
    process = starting.daemon
    assert process is not None
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.002)
    assert process.returncode == 0
    starting.daemon = None
    starting.start_daemon(wait=False)
    starting.wait_for(lambda status: status["state"] != "ARMED", 10.0)
    starting.until_tripped()
    assert starting.book("roxom") == 0


def test_a_child_process_inherits_no_blocked_signal(starting: Starting) -> None:
    starting.write_config('[hooks]\non_trip = ["/bin/true"]\n')
    starting.start("record")
    starting.stands()
    assert starting.daemon is not None
    threads = Path(f"/proc/{starting.daemon.pid}/task")  # each has the children that it started

    def children() -> list[str]:
        return [child for thread in threads.glob("*/children") for child in thread.read_text().split()]

    starting.until(lambda: bool(children()))
    [child] = children()
    masks = dict(
        line.split(":\t") for line in Path(f"/proc/{child}/status").read_text().splitlines() if line.startswith("Sig")
    )
    mine = sum(1 << (number - 1) for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM, signal.SIGINT))
    assert int(masks["SigBlk"], 16) & mine == 0 and int(masks["SigIgn"], 16) & mine == 0
