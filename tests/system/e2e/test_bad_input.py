"""What is malformed is answered, or counted and ignored: it stops nothing, trips nothing, hides nothing."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import pytest

from tests.system.e2e.conftest import HEARTBEAT, Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

LINES = [
    b"\n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    b'{"cmd": "explode"}\n',
    b'{"cmd": ["fire"]}\n',
    b'{"cmd": "fire", "reason": 5}\n',
    b'{"cmd": "fire", "reason": "x", "scope": "oxfun"}\n',
    b'{"cmd": "fire", "reason": "x", "scope": ["oxfan"]}\n',
    b'{"cmd": "fire", "reason": "x", "wait_s": "long"}\n',
    b'{"cmd": "rearm", "reason": "x", "scope": [5]}\n',
    b'{"cmd": "report", "id": "k99"}\n',
    b"\xff\xfe\x00\n",
    b"{" * 5000 + b"\n",
    b"x" * 70_000 + b"\n",
]


def ask_raw(path: Path, line: bytes) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        with contextlib.suppress(BrokenPipeError):  # the daemon may answer and close before the last byte
            sock.sendall(line)
        answer = sock.makefile("rb").readline()
        assert answer, line[:60]
        loaded: dict[str, object] = json.loads(answer)
        return loaded


def test_malformed_lines_and_datagrams_are_answered_or_ignored(play: Play) -> None:
    for line in LINES:
        answer = ask_raw(play.runtime_dir / "control.sock", line)
        assert isinstance(answer["error"], str), (line[:50], answer)
        assert answer["exit"] == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for datagram in (b"", b"nobody", b"{", b'{"beat":5}', b'{"bye":"alive"}', b"\xff" * 100, b"x" * 8000):
            sock.sendto(datagram, str(play.runtime_dir / "intake.sock"))
    status = play.status()
    assert status["state"] == "ARMED"
    assert status["triggers"]["alive"]["state"] == "waiting"
    play.rest("oxfun", 3)
    play.flag.touch()
    play.until(lambda: play.book("oxfun") == 0)


def test_half_a_line_delays_no_other_client(play: Play) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(play.runtime_dir / "control.sock"))
        slow.sendall(b'{"cmd": "sta')
        assert play.status()["state"] == "ARMED"


def test_a_port_in_use_is_reported_and_the_daemon_starts_and_kills() -> None:
    with Play(["roxom"]) as play, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        udp = f"127.0.0.1:{taken.getsockname()[1]}"
        play.write_config(f'[intake]\nudp = "{udp}"\n')
        play.start_daemon()
        assert f"intake: udp {udp}: Address already in use" in play.status()["trouble"]
        play.rest("roxom", 5)
        play.flag.touch()
        play.until_tripped()
        assert play.book("roxom") == 0
        assert "Traceback" not in play.log.read_text()


def test_a_damaged_journal_starts_tripped_and_is_kept_as_evidence() -> None:
    with Play(["oxfun", "roxom"]) as play:
        play.write_config(HEARTBEAT)
        play.start_daemon()
        play.stop_daemon()
        path = play.state_dir / "journal.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"kind":"start"', b'"kind":"stare"'))
        play.rest("oxfun", 5)
        play.start_daemon(wait=False)
        play.until_tripped()
        assert play.book("oxfun") == 0
        assert len(list(play.state_dir.glob("journal.jsonl.broken-*"))) == 1
        assert play.command("journal", "--verify").exit_code == 0
        report = play.command("report", "--json").json
        assert "damaged" in report["reasons"][0]["text"]


def test_a_torn_last_line_is_tolerated_and_noted() -> None:
    with Play(["roxom"]) as play:
        play.write_config()
        play.start_daemon()
        play.stop_daemon()
        path = play.state_dir / "journal.jsonl"
        path.write_bytes(path.read_bytes()[:-30])
        play.start_daemon()
        assert play.status()["state"] == "ARMED"
        entries = play.command("journal", "--json").lines
        assert entries[-1]["data"]["torn"].startswith('{"seq"')


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_reaches_the_log_the_record_or_the_status(play: Play, form: str) -> None:
    play.write_config(HEARTBEAT, daemon=f'log = "{form}"\nlog_level = "debug"')
    assert play.command("reload").exit_code == 0
    play.admin("POST", "/faults", venue="oxfun", fault="reject_login")
    play.admin("POST", "/faults", venue="roxom", fault="refuse", status=401, on="all")
    play.admin("POST", "/faults", venue="oxfun", fault="disconnect")
    play.flag.touch()
    play.until(lambda: play.status()["state"] != "ARMED")
    seen = play.log.read_text() + (play.state_dir / "journal.jsonl").read_text() + json.dumps(play.status())
    seen += play.command("report", "--json").out + play.command("check", "--json").out
    for _, _, login in play.accounts():
        for secret in login["credentials"].values():
            for line in secret.splitlines():
                assert line.startswith("-----") or line not in seen
