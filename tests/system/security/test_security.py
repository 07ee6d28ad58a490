"""What others on the machine cannot do: read keys, command the daemon, take the latch away, drown it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from kill_switch.errors import CannotCreate
from kill_switch.system import hardening
from tests.system.e2e.conftest import HEARTBEAT, Play, play  # noqa: F401 - the fixture
from tests.system.load import flood
from tests.system.security.people import NOBODY, as_root, somebody_else


def test_no_core_is_written_and_no_debugger_attaches() -> None:
    code = (
        "import ctypes, resource; from kill_switch.system.hardening import forbid_dumps; assert forbid_dumps();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=15)
    assert done.stdout == "0 (0, 0)\n"


@pytest.mark.parametrize("words", [["check"], ["fire", "--direct", "--reason", "x"]], ids=" ".join)
def test_every_command_that_holds_keys_forbids_dumps(words: list[str], tmp_path: Path) -> None:
    code = (
        "import ctypes, sys; from click.testing import CliRunner; from kill_switch.cli import main;"
        "CliRunner().invoke(main, sys.argv[1:]); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    config = tmp_path / "config.toml"
    config.touch()
    command = [sys.executable, "-c", code, *words, "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=15)
    assert done.stdout == "0\n"


def test_a_directory_that_everyone_can_write_to_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    hardening.make_directory(state)
    assert state.stat().st_mode & 0o7777 == 0o750
    state.chmod(0o777)
    with pytest.raises(CannotCreate, match=r"everyone can write there, and could remove the latch; chmod o-w"):
        hardening.make_directory(state)


@as_root
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    with pytest.raises(CannotCreate, match="it belongs to uid 65534"):
        hardening.make_directory(state)


@pytest.mark.e2e
@as_root
def test_another_user_reaches_neither_socket_even_through_an_open_directory(play: Play) -> None:  # noqa: F811
    for directory in (play.runtime_dir, *play.runtime_dir.parents):
        if directory.is_relative_to(play.directory):
            directory.chmod(0o755)
    for name, kind in (("control.sock", socket.SOCK_STREAM), ("intake.sock", socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_UNIX, kind) as sock, somebody_else(), pytest.raises(PermissionError):
            sock.connect(str(play.runtime_dir / name))
    assert play.status()["state"] == "ARMED"


@pytest.mark.e2e
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_key_is_in_anything_that_a_kill_leaves_behind(play: Play, form: str) -> None:  # noqa: F811
    play.stop_daemon()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        metrics = f"127.0.0.1:{sock.getsockname()[1]}"
    play.write_config(HEARTBEAT, daemon=f'metrics = "{metrics}"\nlog = "{form}"\nlog_level = "debug"')
    play.start_daemon()
    play.rest("oxfun", 2)
    play.admin("POST", "/faults", venue="roxom", fault="refuse", status=401)
    fired = play.command("fire", "--reason", "look for keys", "--wait", "2")
    play.admin("DELETE", "/faults?venue=roxom")
    play.until_tripped()
    assert play.daemon is not None
    proc = Path(f"/proc/{play.daemon.pid}")
    left = [
        fired.out + fired.err,
        httpx.get(f"http://{metrics}/metrics", trust_env=False, timeout=10.0).raise_for_status().text,
        str(play.status()),
        play.log.read_text(),
        proc.joinpath("cmdline").read_text(),
        proc.joinpath("environ").read_text(),
        *(path.read_text(errors="replace") for path in play.state_dir.iterdir() if path.is_file()),
    ]
    keys = [key for _, _, login in play.accounts() for key in login["credentials"].values()]
    assert len(keys) >= 4
    for key in keys:
        for part in (key, *[line for line in key.splitlines() if len(line) > 40 and "-----" not in line]):
            assert not any(part in text for text in left)


@pytest.mark.e2e
def test_a_flood_of_datagrams_delays_no_kill_and_grows_nothing(play: Play) -> None:  # noqa: F811
    figures = flood.measure(play, seconds=2.0, kills=3)
    assert figures.sent > 2_000
    assert figures.flooded_ms < figures.quiet_ms + 50  # the flood has taken the other core, and this one is shared
    assert figures.grown_kib < 4096


@pytest.mark.e2e
def test_requests_without_end_by_a_member_delay_no_kill(play: Play) -> None:  # noqa: F811
    figures = flood.measure(play, seconds=2.0, kills=3, script=flood.ASKER, where="control.sock")
    assert figures.sent > 500
    assert figures.flooded_ms < figures.quiet_ms + 100  # a request of each connection may come before it
    assert figures.grown_kib < 8192
