"""The runtime directory goes away under the running daemon: it is there again, or people hear that it is not."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from kill_switch.client import control_socket
from kill_switch.control import paths
from kill_switch.daemon.daemon import Daemon
from kill_switch.journal import write_ahead
from tests.unit.daemon.test_reload import Play

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

TRIGGERS = """
[triggers.panic]
kind = "flag"
path = "{0}/run/flag/KILL"
[triggers.beat]
kind = "heartbeat"
timeout = "{1}"
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    for name in "abcz":
        monkeypatch.setenv(f"KEY_{name}", f"key-of-the-account-{name}")
    monkeypatch.setenv("SECRET", "secret-of-the-account")
    return Play(tmp_path)


def beat(play: Play) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(b"beat", str(play.runtime_dir / "intake.sock"))
        except OSError:
            return False
    return True


def remove(play: Play) -> None:
    away = play.runtime_dir.with_name("away")
    play.runtime_dir.rename(away)  # the daemon makes what is gone again, and would meet the removal half-way
    shutil.rmtree(away)


def troubles(daemon: Daemon) -> list[str]:
    found = daemon.handlers.status()["trouble"]
    assert isinstance(found, list)
    return found


async def test_a_directory_that_was_removed_is_made_again_with_all_that_is_in_it(play: Play) -> None:
    async with play.running("a", more=TRIGGERS.format(play.directory, "1h")) as daemon:
        await play.until(lambda: control_socket.is_listening(play.runtime_dir / paths.CONTROL_SOCKET))
        flag = play.runtime_dir / "flag"
        await play.until(lambda: flag.exists() and flag.stat().st_mode & 0o7777 == 0o2770)
        assert beat(play)
        await play.until(lambda: daemon.intake.beats == 1)
        remove(play)
        await play.until(lambda: beat(play) and daemon.intake.beats > 1)
        await play.until(lambda: flag.exists() and flag.stat().st_mode & 0o7777 == 0o2770)
        await play.until(lambda: control_socket.is_listening(play.runtime_dir / paths.CONTROL_SOCKET))
        status = await anyio.to_thread.run_sync(
            control_socket.send_request, play.runtime_dir / paths.CONTROL_SOCKET, {"cmd": "status"}
        )
        assert status["state"] == "ARMED"
        assert (play.runtime_dir / paths.CONTROL_SOCKET).stat().st_mode & 0o777 == 0o660
        assert not [line for line in status["trouble"] if str(play.runtime_dir) in line]
        assert any(line.startswith(f"{flag} was removed, and the daemon has made it again") for line in play.announced)
        (flag / "KILL").touch()
        await play.until(lambda: play.tripped() == ("a",))


async def test_a_socket_that_cannot_be_made_again_is_trouble_until_it_can(play: Play) -> None:
    async with play.running("a", more=TRIGGERS.format(play.directory, "1h")) as daemon:
        await play.until(lambda: control_socket.is_listening(play.runtime_dir / paths.CONTROL_SOCKET))
        remove(play)
        play.runtime_dir.symlink_to(play.directory / "nowhere")
        why = f"{play.runtime_dir}: File exists"
        await play.until(lambda: f"intake: {why}" in troubles(daemon))
        await play.until(lambda: f"the intake cannot be reached: {why}" in play.announced)
        await play.until(lambda: any(line.startswith("the control socket cannot be made") for line in play.announced))
        await anyio.sleep(1.5)
        assert sum("cannot be" in line for line in play.announced) == 2  # each once
        play.runtime_dir.unlink()
        await play.until(lambda: beat(play) and daemon.intake.beats > 0)
        assert f"intake: {why}" not in troubles(daemon)
        await play.until(lambda: control_socket.is_listening(play.runtime_dir / paths.CONTROL_SOCKET))


async def test_where_no_intent_can_be_noted_the_status_says_so_and_a_kill_goes_out_all_the_same(play: Play) -> None:
    async with play.running("a", more=TRIGGERS.format(play.directory, "1h")) as daemon:
        await play.until(lambda: control_socket.is_listening(play.runtime_dir / paths.CONTROL_SOCKET))
        (play.runtime_dir / write_ahead.NAME).unlink()
        (play.runtime_dir / write_ahead.NAME).symlink_to(play.directory / "nowhere")
        await play.until(lambda: any("the first commands of a kill wait" in line for line in troubles(daemon)))
        assert daemon.handlers.status()["journal"] == "ok"  # it is slower, and does all that it has to
        (play.runtime_dir / "flag" / "KILL").touch()
        await play.until(lambda: play.tripped() == ("a",))
        (play.runtime_dir / write_ahead.NAME).unlink()
        await play.until(lambda: not any("the first commands" in line for line in troubles(daemon)))


async def test_a_beat_that_comes_often_enough_outlives_a_removal(play: Play) -> None:
    async with play.running("a", more=TRIGGERS.format(play.directory, "1s")) as daemon:
        await play.until(lambda: control_socket.is_listening(play.runtime_dir / paths.CONTROL_SOCKET))
        for n in range(40):
            if n == 5:
                remove(play)
            beat(play)
            await anyio.sleep(0.05)
        assert daemon.intake.beats > 20
        assert play.tripped() == ()
