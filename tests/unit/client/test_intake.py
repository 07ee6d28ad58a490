"""Heartbeats and figures of the client library: no state of the daemon, or of the process, raises or waits."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from kill_switch.client import Heartbeat, aio, equity
from kill_switch.client.places import INTAKE_SOCKET, VARIABLE
from kill_switch.triggers.intake.datagrams import Beat, EquityReported, parse_messages
from kill_switch.triggers.pnl.samples import parse_equity

ROOT = Path(__file__).parents[3]
NO_NAMES = ["", " ", "two words", "line\n", "nul\0", "x" * 65]
NO_FIGURES = [
    float("nan"),
    float("inf"),
    "-inf",
    None,
    "",
    "12,5",
    "1_000",
    "١٢",
    True,
    [1],
    Fraction(1, 3),
    Decimal("NaN"),
]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "unprintable"


def bound(directory: Path) -> socket.socket:
    """Return an intake's socket that nobody reads but the test."""
    directory.mkdir(exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    (directory / INTAKE_SOCKET).unlink(missing_ok=True)
    sock.bind(str(directory / INTAKE_SOCKET))
    sock.setblocking(False)
    return sock


def received(sock: socket.socket) -> list[bytes]:
    datagrams = []
    while True:
        try:
            datagrams.append(sock.recv(5000))
        except BlockingIOError:
            return datagrams


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[socket.socket]:
    with bound(tmp_path) as sock:
        yield sock


def test_a_beat_and_a_goodbye_are_messages_of_the_intake(tmp_path: Path, intake: socket.socket) -> None:
    heartbeat = Heartbeat("quoter-alive", runtime_dir=tmp_path)
    named = Heartbeat("quoter-alive", runtime_dir=str(tmp_path), sender="quoter № 7")
    assert heartbeat.beat() and named.beat() and heartbeat.bye()
    beat, beat_of_7, bye = (parse_messages(each) for each in received(intake))
    assert beat == [Beat("quoter-alive", "")] and bye == [Beat("quoter-alive", "", bye=True)]
    assert beat_of_7 == [Beat("quoter-alive", "quoter № 7")]
    assert (heartbeat.lost, heartbeat.trouble) == (0, "")


def test_a_full_queue_drops_beats_and_counts_them_until_the_daemon_reads_again(
    tmp_path: Path, intake: socket.socket
) -> None:
    heartbeat = Heartbeat("alive", runtime_dir=tmp_path)
    accepted = [heartbeat.beat() for _ in range(5000)]
    assert accepted[0] and not accepted[-1]
    assert heartbeat.lost == accepted.count(False) and "queue is full" in heartbeat.trouble
    assert len(received(intake)) == accepted.count(True)
    assert heartbeat.beat() and heartbeat.trouble == ""


def test_the_first_beat_after_a_restart_reaches_the_new_socket(tmp_path: Path) -> None:
    heartbeat = Heartbeat("alive", runtime_dir=tmp_path)
    assert not heartbeat.beat() and "has not started" in heartbeat.trouble
    for _ in range(3):
        with bound(tmp_path) as sock:
            assert heartbeat.beat() and len(received(sock)) == 1
        assert not heartbeat.beat() and "dead, or restarting" in heartbeat.trouble
    assert heartbeat.lost == 4


def test_a_directory_that_is_removed_and_made_again_loses_no_beat_after_it(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    heartbeat = Heartbeat("alive", runtime_dir=directory)
    for _ in range(2):
        with bound(directory):
            assert heartbeat.beat()
            shutil.rmtree(directory)
            assert not heartbeat.beat() and "directory is gone" in heartbeat.trouble
    (tmp_path / "run").write_text("a file")
    assert not heartbeat.beat()


def test_a_socket_of_another_kind_takes_no_beat(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(str(tmp_path / INTAKE_SOCKET))
        heartbeat = Heartbeat("alive", runtime_dir=tmp_path)
        assert not heartbeat.beat() and "another program" in heartbeat.trouble


FORBIDDEN = """
import os, sys
from kill_switch.client import Heartbeat, equity
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
heartbeat = Heartbeat("alive", runtime_dir=sys.argv[1])
print(heartbeat.beat(), heartbeat.is_forbidden, heartbeat.trouble, equity("loss", 1, runtime_dir=sys.argv[1]))
"""


def test_a_user_who_may_not_send_reads_why() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with bound(directory):
            (directory / INTAKE_SOCKET).chmod(0o600 if os.geteuid() == 0 else 0)
            directory.chmod(0o755)
            done = subprocess.run([sys.executable, "-c", FORBIDDEN, name], capture_output=True, text=True)
    why = f"{directory / INTAKE_SOCKET}: this user may not send there: it must be in the socket's group"
    assert (done.stdout, done.stderr) == (f"False True {why} False\n", "")


def test_after_a_fork_parent_and_child_beat_over_sockets_of_their_own(tmp_path: Path, intake: socket.socket) -> None:
    intake.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    heartbeat = Heartbeat("alive", runtime_dir=tmp_path)
    assert heartbeat.beat()
    child = os.fork()
    if child == 0:
        os.closerange(3, 60)  # as a process does that becomes a daemon
        os.open("/dev/null", os.O_RDONLY)
        os._exit(0 if heartbeat.beat() and heartbeat.beat() and heartbeat.lost == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert heartbeat.beat() and heartbeat.lost == 0
    senders = [
        int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        for _, ancillary, _, _ in (intake.recvmsg(100, socket.CMSG_SPACE(12)) for _ in range(4))
    ]
    assert senders == [os.getpid(), child, child, os.getpid()]


@pytest.mark.parametrize("reused", [False, True])
def test_a_descriptor_that_another_part_of_the_program_has_closed_costs_no_beat(
    reused: bool, tmp_path: Path, intake: socket.socket
) -> None:
    heartbeat = Heartbeat("alive", runtime_dir=tmp_path)
    assert heartbeat.beat()
    number = heartbeat._to._sock().fileno()
    os.close(number)
    other = os.open(tmp_path, os.O_RDONLY) if reused else -1
    assert other in (-1, number)
    assert heartbeat.beat() and heartbeat.lost == 0 and len(received(intake)) == 2
    if reused:
        assert stat.S_ISDIR(os.fstat(other).st_mode)  # the other file is still open
        os.close(other)


FEW_DESCRIPTORS = """
import os, resource, sys
from kill_switch.client import Heartbeat, equity
held, late = (Heartbeat("alive", runtime_dir=sys.argv[1]) for _ in range(2))
first = held.beat()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(first, held.beat(), late.beat(), late.trouble.partition(": ")[2], equity("loss", 1, runtime_dir=sys.argv[1]))
"""


def test_a_process_without_free_descriptors_beats_on_over_its_open_socket(
    tmp_path: Path, intake: socket.socket
) -> None:
    done = subprocess.run([sys.executable, "-c", FEW_DESCRIPTORS, tmp_path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True True False Too many open files False\n", "")


def test_threads_that_share_a_heartbeat_lose_and_double_nothing(tmp_path: Path, intake: socket.socket) -> None:
    heartbeat, accepted = Heartbeat("alive", runtime_dir=tmp_path), []
    start = threading.Barrier(8)

    def beats() -> None:
        start.wait()
        accepted.append(heartbeat.beat())

    threads = [threading.Thread(target=beats) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(received(intake)) == accepted.count(True) == 8
    assert len(heartbeat._to._socks) == 1


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_no_trigger_can_have_is_refused_before_the_first_beat(name: str, tmp_path: Path) -> None:
    for kind in (Heartbeat, aio.Heartbeat):
        with pytest.raises(ValueError, match="no trigger's name"):
            kind(name, runtime_dir=tmp_path)


def test_arguments_that_no_daemon_accepts_are_refused_before_the_first_beat(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="is a str, and no NoneType"):
        Heartbeat(None, runtime_dir=tmp_path)  # type: ignore[arg-type]  # as a program without types does
    for sender in ("x" * 129, "two\nlines"):
        with pytest.raises(ValueError, match="sender"):
            Heartbeat("alive", runtime_dir=tmp_path, sender=sender)
    with pytest.raises(ValueError, match="at most 107"):
        Heartbeat("alive", runtime_dir=tmp_path / ("x" * 100))


@pytest.mark.parametrize(
    "amount", [Decimal("101234.50"), "101234.5", 101234, 101234.5, -0.25, "5e-05", Decimal("1E+5")]
)
def test_a_figure_of_each_type_arrives_as_its_decimal_digits(
    amount: object, tmp_path: Path, intake: socket.socket
) -> None:
    assert equity("daily-loss", amount, 1700000000.123, runtime_dir=tmp_path, sender="risk")
    ((message,),) = map(parse_messages, received(intake))
    assert message == EquityReported("daily-loss", "risk", str(amount), 1700000000.123)
    assert parse_equity(message.equity) == Decimal(str(amount))


@pytest.mark.parametrize("amount", [*NO_FIGURES, Unprintable()], ids=repr)
def test_an_amount_that_is_no_figure_is_not_sent_and_does_not_raise(
    amount: object, tmp_path: Path, intake: socket.socket
) -> None:
    assert equity("daily-loss", amount, runtime_dir=tmp_path) is False
    assert received(intake) == []


def test_a_figure_with_wrong_arguments_or_without_a_daemon_does_not_raise(tmp_path: Path) -> None:
    assert equity("daily-loss", 1, runtime_dir=tmp_path) is False
    assert equity("", 1, runtime_dir=tmp_path) is False
    assert equity("daily-loss", 1, float("nan"), runtime_dir=tmp_path) is False
    assert equity("daily-loss", 1, "noon", runtime_dir=tmp_path) is False  # type: ignore[arg-type]
    assert equity("daily-loss", 1, runtime_dir=tmp_path / ("x" * 100)) is False


def test_the_directory_is_the_callers_else_the_variables_and_never_that_of_the_strategys_own_unit(
    tmp_path: Path, intake: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/quoter")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Heartbeat("alive").path == "/run/kill-switch/intake.sock"
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert Heartbeat("alive").beat() and equity("loss", 1)
    monkeypatch.chdir(tmp_path.parent)
    relative = Heartbeat("alive", runtime_dir=tmp_path.name)
    monkeypatch.chdir("/")
    assert relative.beat()
    assert len(received(intake)) == 3


def test_a_heartbeat_can_be_sent_to_another_process_and_is_collected_without_a_warning(
    tmp_path: Path, intake: socket.socket
) -> None:
    heartbeat = Heartbeat("alive", runtime_dir=tmp_path)
    assert heartbeat.beat()
    copied = pickle.loads(pickle.dumps(heartbeat))  # noqa: S301 - its own text
    assert copied.beat() and len(received(intake)) == 2
    del heartbeat, copied
    gc.collect()  # a ResourceWarning is an error here


IMPORTS = "import json, sys, kill_switch.client, kill_switch.client.aio; print(json.dumps(sorted(sys.modules)))"


def test_the_library_imports_the_standard_library_and_itself_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORTS], capture_output=True, text=True, env={"PYTHONPATH": "."}
    )
    assert done.stderr == ""
    modules = json.loads(done.stdout)
    ours = {name for name in modules if name.split(".")[0] == "kill_switch"}
    assert {name.split(".")[0] for name in modules} - sys.stdlib_module_names <= {"kill_switch", "__main__"}
    assert {name for name in ours if not name.startswith("kill_switch.client")} == {"kill_switch", "kill_switch.errors"}
