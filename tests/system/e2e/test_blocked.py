"""What the daemon waits for outside of its event loop hangs, one thing after the other: a kill leaves all the same."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from kill_switch.testbed.testbed import START_WITHIN_S
from tests.harness.hanging_files import CannotHang, hung
from tests.system.e2e.conftest import Play
from tests.system.e2e.mounted import Mounted

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

KILLED_WITHIN_S = 2.0  # on a machine that is busy with other tests; alone it takes some milliseconds
ENDED_WITHIN_S = 20.0  # daemon.END_WITHIN_S is the last bound; nothing is struck here
OTHER_FLAG = '[triggers.other]\nkind = "flag"\npath = "{0}/KILL"\non_blind = "alarm"\n'


class Line:
    """A connection to the control socket that stands while the socket's directory hangs."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(15.0)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    def ask(self, **request: object) -> Any:
        self.send(**request)
        return self.hear()

    def send(self, **request: object) -> None:
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def hear(self) -> Any:
        return json.loads(self._file.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()
        self._socket.close()

    def until_trouble(self, words: str, within_s: float = 8.0) -> None:
        """Wait until the status names a trouble, or a blind trigger, in these words."""
        until_s = time.monotonic() + within_s
        while True:
            status = self.ask(cmd="status")
            blind = [trigger["detail"] for trigger in status["triggers"].values() if trigger["state"] == "blind"]
            told = [status["journal"], *status["trouble"], *blind]
            if any(words in line for line in told):
                return
            assert time.monotonic() < until_s, status
            time.sleep(0.05)


class Stuck(Play):
    """A daemon whose standard error is a pipe that nobody reads, and that is full."""

    def __init__(self) -> None:
        super().__init__(["oxfun", "roxom"])
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)

    def fill(self) -> None:
        os.set_blocking(self.writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"x" * 512)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"x")
        os.set_blocking(self.writer, True)

    def start_daemon(self, *, wait: bool = True) -> None:
        command = [sys.executable, "-m", "kill_switch", "run", "-c", str(self.config)]
        self.daemon = subprocess.Popen(command, stderr=self.writer, stdin=subprocess.DEVNULL)
        if wait:
            self.wait_for(lambda s: all(account["ready"] for account in s["accounts"].values()), START_WITHIN_S)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    with Stuck() as made:
        made.write_config()
        made.fill()
        made.start_daemon()
        yield made
    os.close(made.reader)
    os.close(made.writer)


def killed_within(play: Play, line: Line, within_s: float = KILLED_WITHIN_S) -> None:
    """Kill by a signal, which needs no file system, and see that every order is gone in time."""
    assert play.daemon is not None
    for venue in play.venues:
        play.rest(venue, 3)
    began_s = time.monotonic()
    play.daemon.send_signal(signal.SIGUSR1)
    while play.open_orders():
        assert time.monotonic() - began_s < within_s, line.ask(cmd="status")
        time.sleep(0.005)


def test_a_reader_of_standard_error_that_is_stuck_delays_no_kill_and_is_trouble(stuck: Stuck) -> None:
    with Line(stuck.runtime_dir / "control.sock") as line:
        killed_within(stuck, line)
        line.until_trouble("the reader of standard error is stuck")


def test_sigterm_ends_a_daemon_whose_standard_error_is_stuck(stuck: Stuck) -> None:
    assert stuck.daemon is not None
    stuck.daemon.send_signal(signal.SIGTERM)
    assert stuck.daemon.wait(ENDED_WITHIN_S) == 0
    last = json.loads((stuck.state_dir / "journal.jsonl").read_bytes().splitlines()[-1])
    assert last["kind"] == "stop"


def test_a_start_that_fails_ends_though_its_standard_error_is_stuck(stuck: Stuck) -> None:
    command = [sys.executable, "-m", "kill_switch", "run", "-c", str(stuck.config)]
    second = subprocess.Popen(command, stderr=stuck.writer, stdin=subprocess.DEVNULL)
    assert second.wait(ENDED_WITHIN_S) == 75


def test_a_failed_start_is_reported_to_a_reader_that_reads(stuck: Stuck) -> None:
    done = stuck.command("run")
    assert (done.exit_code, done.out) == (75, "")
    assert "another daemon answers on" in done.err


def test_a_reader_that_goes_on_reading_hears_how_many_lines_were_lost() -> None:
    code = (
        "import logging, os, sys\nfrom kill_switch import logging_setup as logs\nlogs.set_up()\n"
        "log = logging.getLogger('kill_switch.flood')\n"
        "for number in range(15_000):\n    log.warning('line %d', number)\n"
        "os.write(1, b'full\\n')\nsys.stdin.read()\nlog.warning('and on')\nlogs.leave(3)\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == b"full\n"
    _, told = process.communicate(timeout=15)
    assert process.returncode == 3
    assert b"line(s) lost: the reader of standard error was stuck" in told


# ── file systems ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def play() -> Iterator[Play]:
    with Play(["oxfun", "roxom"]) as made:
        for name in ("other", "config"):
            (made.directory / name).mkdir()
        made.write_config(OTHER_FLAG.format(made.directory / "other"))
        source = made.directory / "config" / "config.toml"
        made.config.rename(source)
        made.config = source
        made.start_daemon()
        yield made


@contextlib.contextmanager
def hanging(directory: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hung(directory))
        except CannotHang as error:
            pytest.skip(str(error))
        yield


PLACES: dict[str, tuple[Callable[[Play], Path], str]] = {
    "flag's directory": (lambda play: play.directory / "other", "its file system does not answer"),
    "runtime directory": (lambda play: play.runtime_dir, "run does not answer"),
    "state directory": (lambda play: play.state_dir, "does not answer"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_file_system_that_hangs_delays_no_kill_and_is_trouble_until_it_answers(play: Play, place: str) -> None:
    where, words = PLACES[place]
    with Line(play.runtime_dir / "control.sock") as line:
        with hanging(where(play)):
            time.sleep(1.5)  # every look that comes round has begun
            killed_within(play, line)
            line.until_trouble(words)
            assert line.ask(cmd="fire", reason="by hand", wait_s=5)["accounts"]["oxfun"]["state"] == "CLEAR"
        play.until(lambda: not any("does not answer" in told for told in line.ask(cmd="status")["trouble"]))


@pytest.mark.parametrize("place", PLACES)
def test_sigterm_ends_a_daemon_whose_file_system_hangs(play: Play, place: str) -> None:
    assert play.daemon is not None
    with hanging(PLACES[place][0](play)):
        time.sleep(1.5)
        play.daemon.send_signal(signal.SIGTERM)
        assert play.daemon.wait(ENDED_WITHIN_S) == 0


def test_a_reload_from_a_file_system_that_hangs_is_refused_in_words_and_delays_no_kill(play: Play) -> None:
    path = play.runtime_dir / "control.sock"
    with Line(path) as line, Line(path) as kills:
        with hanging(play.config.parent):
            line.send(cmd="reload")
            time.sleep(0.5)
            killed_within(play, kills)
            answer = line.hear()
            assert answer["exit"] == 78
            assert "no answer within 10 s" in answer["error"]
            kills.until_trouble("of the secrets in it, does not answer")
        assert line.ask(cmd="reload") == {"reloaded": "nothing changed"}


# ── the data base of users ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def nameless() -> Iterator[Mounted]:
    """A daemon that hangs as soon as it looks for a user's name: its `/etc/passwd` is a pipe that nobody writes."""
    with Mounted(["oxfun", "roxom"]) as made:
        made.files["/etc/passwd"] = made.directory / "passwd"
        os.mkfifo(made.files["/etc/passwd"])
        made.write_config(daemon=f'group = "{group()}"')
        made.start_daemon()
        yield made


def group() -> str:
    return Path("/etc/group").read_text().partition(":")[0]


def test_a_kill_by_hand_waits_for_no_data_base_of_users(nameless: Mounted) -> None:
    nameless.rest("oxfun", 3)
    with Line(nameless.runtime_dir / "control.sock") as line:
        began_s = time.monotonic()
        report = line.ask(cmd="fire", reason="by hand", wait_s=5)
        assert time.monotonic() - began_s < KILLED_WITHIN_S
        assert nameless.open_orders() == 0
        assert report["reasons"][0]["evidence"] | {"pid": 0} == {"uid": 0, "user": "0", "pid": 0}
        line.until_trouble("the data base of users and groups")
        began_s = time.monotonic()
        assert "rearmed" in line.ask(cmd="rearm", reason="all well")
        assert time.monotonic() - began_s < 5.0


# ── the event loop's thread ───────────────────────────────────────────────────────────────────────────────────────

MORE = """
[triggers.loss]
kind = "pnl"
accounts = ["oxfun"]
currency = "USD"
max_loss = "5000"
reset = "17:00 America/New_York"
source = "intake"
on_blind = "alarm"
[triggers.friday]
kind = "schedule"
cron = "55 16 * * fri"
timezone = "America/New_York"
[drill]
cron = "0 * * * *"
[hooks]
on_trip = ["/bin/true"]
[notify]
command = "/bin/true"
"""


class Guarded(Play):
    """A daemon that notes what its event loop's thread asks of file systems, data bases and other processes."""

    @property
    def notes(self) -> Path:
        return self.directory / "notes"

    def start_daemon(self, *, wait: bool = True) -> None:
        command = [sys.executable, "-m", "tests.system.e2e.guarded", "run", "-c", str(self.config)]
        environ = {**os.environ, "GUARDED": str(self.notes)}
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, env=environ)
        if wait:
            self.wait_for(lambda s: all(account["ready"] for account in s["accounts"].values()), START_WITHIN_S)

    def harmless(self, note: str) -> bool:
        """Say whether a call is one that docs/developing/blocking-calls.md lets the event loop's thread make."""
        return "'/proc/self/" in note or "os.truncate" in note


def test_the_event_loop_asks_no_file_system_no_data_base_and_no_process_anything() -> None:
    with Guarded(["oxfun", "roxom"]) as play:
        play.write_config(MORE + OTHER_FLAG.format(play.directory / "other"))
        play.start_daemon()
        ready_ns = time.monotonic_ns()
        time.sleep(2.5)  # idle: whatever comes round has come
        for venue in play.venues:
            play.admin("POST", "/faults", venue=venue, fault="disconnect")  # the lanes are made anew
        play.wait_for(lambda s: not all(account["ready"] for account in s["accounts"].values()), 5.0)
        play.wait_for(lambda s: all(account["ready"] for account in s["accounts"].values()), 15.0)
        for venue in play.venues:
            play.rest(venue, 3)
            play.admin("POST", "/faults", venue=venue, fault="drop_reply", on="cancel", times=1)  # the second route
        play.flag.write_text("a person")
        play.until_tripped()
        play.flag.unlink()
        for venue in play.venues:
            play.admin("DELETE", f"/faults?venue={venue}")
        play.command("drill")  # it may be late, behind a call whose answer was dropped
        assert play.command("rearm", "--reason", "all well").exit_code == 0
        assert play.command("reload").exit_code == 0
        (play.runtime_dir / "intake.sock").unlink()
        (play.runtime_dir / "control.sock").unlink()
        play.until((play.runtime_dir / "control.sock").exists)
        assert play.command("fire", "--reason", "by hand").exit_code == 0
        assert play.stop_daemon() == 0
        notes = [line.split(" ", 1) for line in play.notes.read_text().splitlines()]
        found = {told for at_ns, told in notes if int(at_ns) > ready_ns and not play.harmless(told)}
        assert found == set()
