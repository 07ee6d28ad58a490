"""The log in its forms, from real processes: each line has its time and level once; the last says that it is over."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.e2e.conftest import HEARTBEAT, Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LAST = "stopped; nobody watches now"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
LEVELS = "DEBUG|INFO|WARNING|ERROR|CRITICAL"


@pytest.fixture
def stage() -> Iterator[Play]:
    with Play(["oxfun", "roxom"]) as play:
        yield play


def objects(stage: Play) -> list[dict[str, Any]]:
    """Return the lines of a log in JSON; fail for a line that is none."""
    return [json.loads(line) for line in stage.log.read_text().splitlines()]


def a_day(stage: Play) -> None:
    """Trip, re-arm, reload, and stop in good order."""
    stage.flag.touch()
    stage.until_tripped()
    stage.flag.unlink()
    assert stage.command("rearm", "--reason", "checked").exit_code == 0
    assert stage.command("reload").exit_code == 0
    assert stage.stop_daemon() == 0


def test_the_text_says_time_and_level_once_and_ends_with_one_line_without_a_warning(stage: Play) -> None:
    stage.write_config()
    stage.start_daemon()
    a_day(stage)
    lines = stage.log.read_text().splitlines()
    assert all(re.fullmatch(rf"{TIME} ({LEVELS}) +\S.*", line) for line in lines)
    assert [re.findall(rf"{TIME}", line)[1:] for line in lines if "OVER" not in line] == [[]] * len(lines)
    assert not [line for line in lines if re.search(rf"\b({LEVELS})\b.*\b({LEVELS}|warn|trip|clear|rearm):", line)]
    assert [line for line in lines if re.search("WARNING|ERROR", line)] == []
    assert lines[-1].endswith(f"INFO     {LAST}") and sum(LAST in line for line in lines) == 1
    assert any("CRITICAL KILL: panic: " in line for line in lines)


def test_json_is_one_object_a_line_with_the_account_and_the_person(stage: Play) -> None:
    stage.write_config(HEARTBEAT + '[notify]\ncommand = "true"\n', daemon='log = "json"')
    stage.start_daemon()
    stage.until(lambda: bool(workers(stage)))
    os.kill(workers(stage)[0], signal.SIGKILL)
    stage.until(lambda: "it is started again" in stage.log.read_text())
    a_day(stage)
    lines = objects(stage)
    assert all(re.fullmatch(TIME, line["ts"]) and line["logger"] and line["msg"] for line in lines)
    assert {line["level"] for line in lines} <= {"info", "warning", "error", "critical"}
    (kill,) = (line for line in lines if line["level"] == "critical")
    assert kill["kind"] == "trip" and "rearm" in kill["do"] and kill["msg"].startswith("KILL: panic: ")
    clear = {line["account"] for line in lines if line.get("kind") == "clear" and "account" in line}
    assert clear == {"oxfun", "roxom"}
    assert lines[-1]["msg"] == LAST and lines[-1]["level"] == "info"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write to the descriptors of a process that forbids dumps")
def test_the_output_of_a_worker_process_is_in_the_form_of_the_daemon(stage: Play) -> None:
    stage.write_config('[notify]\ncommand = "true"\n', daemon='log = "json"')
    stage.start_daemon()
    stage.until(lambda: bool(workers(stage)))
    Path(f"/proc/{workers(stage)[0]}/fd/2").write_text("a library writes this\n<6>and this\n")
    stage.until(lambda: "and this" in stage.log.read_text())
    (output,) = (line for line in objects(stage) if "a library" in line["msg"])
    assert output["level"] == "warning"
    assert output["msg"] == "the process for commands: a library writes this"


def workers(stage: Play) -> list[int]:
    """Return the worker processes of the daemon."""
    assert stage.daemon is not None
    children = (path.read_text() for path in Path(f"/proc/{stage.daemon.pid}/task").glob("*/children"))
    return [int(pid) for text in children for pid in text.split()]


def test_a_reload_changes_the_level_and_the_form(stage: Play) -> None:
    stage.write_config(daemon='log_level = "error"')
    stage.start_daemon()
    assert stage.log.read_text() == ""
    stage.write_config(daemon='log = "json"\nlog_level = "info"')
    assert stage.command("reload").exit_code == 0
    stage.until(lambda: "configuration reloaded" in stage.log.read_text())
    assert objects(stage)[-1]["level"] == "info"
    stage.write_config(daemon='log = "xml"')
    refused = stage.command("reload")
    assert refused.exit_code == 78 and "daemon.log" in refused.err


@pytest.mark.parametrize("is_journal", [True, False], ids=["the journal", "another file"])
@pytest.mark.parametrize("log", ["text", "json"])
def test_systemds_journal_gets_the_priority_and_text_has_neither_time_nor_level(
    stage: Play, is_journal: bool, log: str
) -> None:
    stage.write_config(daemon=f'log = "{log}"')
    ours, theirs = socket.socketpair()
    text = bytearray()

    def collect() -> None:
        while chunk := ours.recv(65536):
            text.extend(chunk)

    reader = threading.Thread(target=collect)
    reader.start()
    status = os.fstat(theirs.fileno())
    stream = f"{status.st_dev}:{status.st_ino}" if is_journal else "8:1"
    command = [sys.executable, "-m", "kill_switch", "run", "-c", str(stage.config)]
    environ = {**os.environ, "JOURNAL_STREAM": stream}
    stage.daemon = subprocess.Popen(command, stderr=theirs.fileno(), stdin=subprocess.DEVNULL, env=environ)
    theirs.close()
    stage.wait_for(lambda status: all(account["ready"] for account in status["accounts"].values()), 30.0)
    a_day(stage)
    reader.join(10)
    ours.close()
    lines = text.decode().splitlines()
    of_text = rf"(?!{TIME})(?!({LEVELS}) )\S.*" if is_journal else rf"{TIME} ({LEVELS}) .*"
    form = ("<[2346]>" if is_journal else "") + (r"\{.*\}" if log == "json" else of_text)
    assert lines and all(re.fullmatch(form, line) for line in lines), lines
    last = lines[-1].removeprefix("<6>")
    assert (json.loads(last)["msg"] if log == "json" else last).endswith(LAST)
