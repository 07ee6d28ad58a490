"""Processes beside a running daemon hang, die, leave children: no kill notices, and every hook is accounted for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kill_switch.testbed.testbed import START_WITHIN_S
from tests.system.e2e.conftest import Play
from tests.system.e2e.test_tell import messages, program, records, site  # noqa: F401 - a fixture
from tests.unit.worker.test_jobs import Site, gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def stage() -> Iterator[Play]:
    with Play(["oxfun", "roxom"]) as play:
        yield play


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process, zombies too."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for line in lists for child in line.split()]


def processes(play: Play) -> dict[str, int]:
    """Return the daemon's processes beside, by their module."""
    assert play.daemon is not None
    found = {}
    for pid in children(play.daemon.pid):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "-m" in words:
            found[words[words.index("-m") + 1].rpartition(".")[2]] = pid
    return found


def attempts(play: Play, kind: str) -> list[tuple[object, object]]:
    return [(record["attempt"], record.get("ok")) for record in records(play, kind)]


def can_set_autogroups() -> bool:
    """Return whether this session has such a group, and the kernel takes two changes in a row.

    The file is empty where a control group takes the place of the session's group. Without the right, one change in
    100 ms is taken.
    """
    own = Path("/proc/self/autogroup")
    try:
        _, _, nice = own.read_text().strip().rpartition(" ")
        for _ in range(2 if nice else 0):
            own.write_text(nice)
    except OSError:
        return False
    return bool(nice)


def test_a_kill_with_stopped_processes_is_as_quick_and_hook_message_and_alarm_follow(
    stage: Play,
    site: Site,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(stage.directory / "notify"))
    manager.settimeout(0.05)
    monkeypatch.setenv("NOTIFY_SOCKET", str(stage.directory / "notify"))
    hook = program(stage, "hook", f"echo ran >> {stage.directory}/ran")
    stage.write_config(f'[hooks]\non_trip = ["{hook}"]\n[notify]\nurls = ["json://127.0.0.1:{site.port}/x"]\n')
    stage.start_daemon()
    stage.until(lambda: [os.getpriority(os.PRIO_PROCESS, pid) for pid in processes(stage).values()] == [5, 5])
    groups = [Path(f"/proc/{pid}/autogroup") for pid in processes(stage).values()]
    if can_set_autogroups():
        stage.until(lambda: all(group.read_text().endswith("nice 5\n") for group in groups))
    time.sleep(0.5)  # they have begun
    before = processes(stage)
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    for venue in stage.venues:
        stage.rest(venue, 50)
    stage.flag.touch()
    stage.until_tripped()
    report = stage.command("report", "--json").json
    assert report["within_budget"] is True
    assert stage.open_orders() == 0
    troubles, lines, hung = set[str](), list[str](), "hung: no answer for 4 s"

    def over() -> bool:
        """Keep processes from coming back until systemd has been told."""
        troubles.update(stage.status()["trouble"])
        with contextlib.suppress(TimeoutError):
            lines.append(manager.recv(4096).decode())
        told = any(line.startswith("STATUS=TRIPPED") and hung in line for line in lines)
        for pid in processes(stage).values():
            os.kill(pid, signal.SIGCONT if told else signal.SIGSTOP)
        return told and bool(attempts(stage, "hook")) and len(messages(site)) >= 2

    stage.until(over, within_s=60.0)
    assert (stage.directory / "ran").read_text() == "ran\n"
    assert (attempts(stage, "hook-started"), attempts(stage, "hook")) == ([(1, None)], [(1, True)])
    assert any("KILL" in message for message in messages(site))
    assert any(f"the process for commands {hung}" in message for message in messages(site))
    assert {f"the process for {what} {hung}" for what in ("messages", "commands")} <= troubles
    assert f"the process for messages {hung}; it is started again" in stage.log.read_text()
    stage.until(lambda: stage.status()["trouble"] == [])
    assert not set(before.values()) & set(processes(stage).values())
    assert stage.stop_daemon() == 0
    manager.close()


def test_a_hook_goes_on_when_its_processes_are_killed_and_leaves_one_pair_of_records(stage: Play) -> None:
    hook = program(stage, "hook", f"echo began >> {stage.directory}/ran; sleep 2; echo ended >> {stage.directory}/ran")
    stage.write_config(f'[hooks]\non_trip = ["{hook}"]\n')
    stage.start_daemon()
    stage.until(lambda: "commands" in processes(stage))
    stage.flag.touch()
    stage.until(lambda: (stage.directory / "ran").exists())
    for pid in processes(stage).values():
        os.kill(pid, signal.SIGKILL)
    stage.until(lambda: bool(attempts(stage, "hook")))
    assert (stage.directory / "ran").read_text() == "began\nended\n"
    assert (attempts(stage, "hook-started"), attempts(stage, "hook")) == ([(1, None)], [(1, True)])


def test_a_hook_that_the_end_of_the_daemon_interrupts_runs_again_and_both_attempts_are_on_record(stage: Play) -> None:
    hook = program(stage, "hook", f"echo $$ >> {stage.directory}/ran; [ -e {stage.directory}/quick ] || sleep 60")
    stage.write_config(f'[hooks]\non_trip = ["{hook}"]\ntimeout = "30s"\n')
    stage.start_daemon()
    stage.flag.touch()
    stage.until_tripped()  # the kill is over, the hook is not
    stage.until(lambda: (stage.directory / "ran").exists() and bool(attempts(stage, "hook-started")))
    stage.flag.unlink()
    assert stage.daemon is not None
    stage.stop_daemon(signal.SIGKILL)
    assert gone(int((stage.directory / "ran").read_text()), 10.0)
    (stage.directory / "quick").touch()
    stage.start_daemon()
    stage.until(lambda: len(attempts(stage, "hook")) == 2)
    assert attempts(stage, "hook-started") == [(1, None), (2, None)]
    assert attempts(stage, "hook") == [(1, False), (2, True)]
    assert records(stage, "hook")[0]["why"] == "interrupted: the daemon ended meanwhile; it is run again"
    assert len((stage.directory / "ran").read_text().split()) == 2
    assert stage.stop_daemon() == 0
    stage.start_daemon()  # nothing is left to run
    assert stage.command("rearm", "--reason", "fine").exit_code == 0
    assert len(attempts(stage, "hook-started")) == 2


class Contained(Play):
    """A stage whose daemon is process 1 of a container."""

    def start_daemon(self, *, wait: bool = True) -> None:
        command = (*CONTAINER, sys.executable, "-m", "kill_switch", "run", "-c", str(self.config))
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            self.wait_for(lambda s: all(account["ready"] for account in s["accounts"].values()), START_WITHIN_S)


def test_as_process_1_the_daemon_reaps_the_hooks_orphans_and_keeps_exit_codes() -> None:
    if os.geteuid() or subprocess.run((*CONTAINER, "true")).returncode:
        pytest.skip("it takes root, and a namespace of its own")
    with Contained(["oxfun", "roxom"]) as play:
        hook = program(play, "hook", "for n in 1 2 3; do (sleep 0.2 &) ; done; exit 7")
        play.write_config(f'[hooks]\non_trip = ["{hook}"]\n')
        play.start_daemon()
        assert play.daemon is not None and play.status()["pid"] == 1
        (one,) = children(play.daemon.pid)
        play.flag.touch()
        play.until_tripped()
        play.until(lambda: bool(records(play, "hook")))
        assert records(play, "hook")[0]["code"] == 7

        play.until(lambda: len(children(one)) == 1)  # the process for commands
        os.kill(one, signal.SIGTERM)
        assert play.daemon.wait(20) == 0
        play.daemon = None
