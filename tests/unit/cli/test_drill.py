"""`drill` and `check --connect`: their words, their JSON and their exit codes."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kill_switch.cli import check_connect
from kill_switch.direct import connect_check
from tests.harness.fake_daemon import answering
from tests.unit.cli.test_commands import config, invoke

__all__ = ["config"]

LANE = {"ok": True, "rtt_us": 3100, "within_budget": True, "evidence": "Open order not found"}
ACCOUNT = {"venue": "oxfun", "ok": True, "skipped": None, "lanes": {"ws": LANE, "http": LANE}}
GOOD = {"ok": True, "budget_us": 250_000, "answered_us": 3400, "within_budget": True, "accounts": {"mm1": ACCOUNT}}
SLOW = {**GOOD, "ok": False, "within_budget": False, "answered_us": 300_000}
BUSY = {"error": "another drill is under way: try again in a few seconds", "exit": 75}
UP = {"venue": "oxfun", "ready": True, "lanes": {"ws": "up", "http": "up"}, "rtt_us": 2000, "trouble": {}}
DOWN = {**UP, "ready": False, "lanes": {"ws": "down", "http": "up"}, "trouble": {"ws": "login refused"}}


@pytest.fixture
def sock(tmp_path: Path, config: Path) -> Path:
    return tmp_path / "run" / "control.sock"


# ── drill ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_good_drill_ends_with_zero_and_shows_each_lane(config: Path, sock: Path) -> None:
    with answering(sock, {"drill": GOOD}) as requests:
        done = invoke("drill", "--scope", "desk:mm", "-c", config)
    assert done.exit_code == 0
    assert requests == [{"cmd": "drill", "scope": ["desk:mm"]}]
    assert "every lane would carry a kill" in done.output
    assert done.output.count("Open order not found") == 2


@pytest.mark.parametrize(("answer", "code"), [(SLOW, 1), (BUSY, 75), ({"error": "no such account", "exit": 1}, 1)])
def test_a_drill_that_is_not_good_has_its_exit_code(
    config: Path, sock: Path, answer: Mapping[str, Any], code: int
) -> None:
    with answering(sock, {"drill": answer}):
        assert invoke("drill", "-c", config).exit_code == code
        as_json = invoke("drill", "--json", "-c", config)
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout) == answer


def test_without_a_daemon_there_is_no_drill(config: Path) -> None:
    done = invoke("drill", "-c", config)
    assert done.exit_code == 69
    assert "no daemon" in done.output


# ── check --connect ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_running_daemon_is_asked_and_keeps_its_connections(
    config: Path, sock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_check, "check", None)
    with answering(sock, {"status": {"accounts": {"mm1": UP, "old": UP}}, "drill": GOOD}) as requests:
        done = invoke("check", "--connect", "-c", config)
        as_json = json.loads(invoke("check", "--connect", "--json", "-c", config).stdout)
    assert done.exit_code == 0
    assert "checked through the running daemon" in done.output
    assert requests[1] == {"cmd": "drill", "scope": ["mm1"]}
    assert as_json["ok"] is True
    assert as_json["accounts"] == {"mm1": "oxfun"}
    assert (as_json["connect"]["via"], as_json["connect"]["drill"]) == ("daemon", GOOD)


def test_an_account_that_does_not_get_ready_in_time_ends_with_one(config: Path, sock: Path) -> None:
    drill = {**GOOD, "ok": False, "accounts": {"mm1": {**ACCOUNT, "ok": False}}}
    with answering(sock, {"status": {"accounts": {"mm1": DOWN}}, "drill": drill}):
        done = invoke("check", "--connect", "--wait", "0.1", "-c", config)
    assert done.exit_code == 1
    assert "mm1 (oxfun) is NOT READY: ws: login refused" in done.output


def test_it_waits_for_an_account_that_is_connecting(config: Path, sock: Path) -> None:
    looks = iter([DOWN, DOWN, UP])
    with answering(sock, {"status": lambda _: {"accounts": {"mm1": next(looks)}}, "drill": GOOD}) as requests:
        assert invoke("check", "--connect", "-c", config).exit_code == 0
    assert [request["cmd"] for request in requests] == ["status", "status", "status", "drill"]


def test_an_account_that_the_running_daemon_does_not_have_is_not_ready(config: Path, sock: Path) -> None:
    with answering(sock, {"status": {"accounts": {}}}):
        done = invoke("check", "--connect", "-c", config)
    assert done.exit_code == 1
    assert "mm1 (oxfun) is NOT READY: daemon: the running daemon does not have this account" in done.output
    assert "none of these accounts" in done.output


def test_a_drill_that_cannot_be_made_now_ends_with_one_and_says_why(config: Path, sock: Path) -> None:
    with answering(sock, {"status": {"accounts": {"mm1": UP}}, "drill": BUSY}):
        done = invoke("check", "--connect", "-c", config)
    assert done.exit_code == 1
    assert "another drill is under way" in done.output


def test_a_daemon_that_is_there_and_does_not_answer_keeps_its_connections_too(
    config: Path, sock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_check, "check", None)
    monkeypatch.setattr(check_connect, "ANSWER_WITHIN_S", 0.05)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(sock))
        hung.listen()
        done = invoke("check", "--connect", "-c", config)
    assert done.exit_code == 69
    assert "does not answer" in done.output


def test_a_daemon_that_may_not_be_asked_is_77(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert invoke("check", "--connect", "-c", config).exit_code == 77


def test_without_a_daemon_it_connects_itself(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def visited(loaded: Any, within_s: float, progress: Any) -> dict[str, Any]:
        progress({"mm1": DOWN}, 0.1)
        return {"waited_s": within_s, "accounts": {"mm1": UP}, "drill": GOOD}

    monkeypatch.setattr(connect_check, "check", visited)
    done = invoke("check", "--connect", "--wait", "7", "--json", "-c", config)
    assert done.exit_code == 0
    connect = json.loads(done.stdout)["connect"]
    assert (connect["via"], connect["waited_s"]) == ("lanes", 7.0)


def test_an_invalid_configuration_opens_no_connection(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_connect, "check", None)
    config.write_text(config.read_text().replace("oxfun", "oxfan"))
    assert invoke("check", "--connect", "-c", config).exit_code == 78


def test_without_connect_no_venue_is_asked(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_connect, "check", None)
    assert json.loads(invoke("check", "--json", "-c", config).stdout)["ok"] is True
