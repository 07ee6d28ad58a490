"""Text from outside forges no line and moves no cursor, wherever it is shown; and no bytes make a command fail."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console, RenderableType

from kill_switch import logging_setup, printable
from kill_switch.cli import main
from kill_switch.control.server import Caller, Handler, _answer
from kill_switch.core.domain import Instant, Severity
from kill_switch.journal import latch_lines
from kill_switch.outbound import digest
from kill_switch.terminal import record_views, report_views
from kill_switch.terminal.status_view import StatusView
from kill_switch.venues.decode import truncate
from tests.harness.fake_daemon import answering

EVIL = (
    "a\x1b[2J\x1b]0;title\x07b\x9b31mc\rARMED\n0001  2026-01-02  rearm\u2028d"
    "\u202eesrever\u202c\u2066x\u2069\u200b\ufeff\x00\x7f\udcff\ue000"
)
ANN = Caller(7, 77, "ann")


def harmless(shown: str) -> bool:
    """Say whether a terminal that is shown this text prints it, and does nothing else."""
    return all(line.isprintable() for line in shown.split("\n"))


def drawn(view: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=1000, color_system=None).print(view)
    return out.getvalue()


def test_a_line_has_nothing_in_it_that_does_not_print() -> None:
    assert printable.line("a\tb\r\nc\x1b[1m\x9b\u202e\ud800\xa0d") == "a b  c\ufffd[1m\ufffd\ufffd\ufffd d"
    assert printable.line("größer als 5 €, 註文 🚨") == "größer als 5 €, 註文 🚨"
    assert printable.lines("a\r\nb\x00\n") == "a \nb\ufffd\n"
    assert printable.mapping({"\x1b": [{"a": ("\n", 1, None)}]}) == {"\ufffd": [{"a": [" ", 1, None]}]}


REPORT: Mapping[str, Any] = {
    "id": EVIL,
    "reasons": [{"trigger": EVIL, "text": EVIL, "observed_at": EVIL}],
    **dict.fromkeys(("last_sent_us", "last_answered_us", "all_clear_us"), None),
    "budget_us": 1,
    "within_budget": True,
    "scope": [EVIL],
    "by": {"trigger": EVIL, "uid": EVIL, "user": EVIL, "at": EVIL},
    "rearmed": {
        **dict.fromkeys(("uid", "user", "at", "text"), EVIL),
        **{"forced": True, "accounts": [EVIL], "left": [EVIL], "earlier": []},
        "approvals": [{"uid": EVIL, "user": EVIL}, {"uid": EVIL, "user": EVIL}],
    },
    "config": EVIL,
    "accounts": {
        EVIL: {
            **dict.fromkeys(("verdict", "state", "evidence"), EVIL),
            **dict.fromkeys(("sent_us", "answered_us", "clear_us", "left"), None),
            "strikes": 1,
            "routes": [EVIL],
            "attempts": [
                {"strike": 1, "sent_us": 1, "answered_us": 2, "answer": EVIL, "routes": [EVIL], "evidence": EVIL}
            ],
            "cancelled": 1,
            "cancelled_ids": [EVIL],
            "claimed": 2,
        }
    },
}
LANE = {"ok": False, "rtt_us": None, "within_budget": False, "evidence": EVIL}
DRILL: Mapping[str, Any] = {
    "ok": False,
    "answered_us": None,
    "budget_us": 1,
    "accounts": {EVIL: {"ok": False, "venue": EVIL, "skipped": EVIL, "lanes": {EVIL: LANE}}},
}
ORDER = {"id": EVIL, "symbol": EVIL, "status": EVIL}
DRY_RUN: Mapping[str, Any] = {
    "accounts": {
        EVIL: {
            **dict.fromkeys(("venue", "state", "orders_why"), EVIL),
            "orders": [ORDER],
            "orders_known": False,
            "would_send": [EVIL],
        }
    }
}
CHECK: Mapping[str, Any] = {
    "via": "daemon",
    "accounts": {EVIL: {"ready": False, "venue": EVIL, "trouble": {EVIL: EVIL}}},
    "drill": DRILL,
    "error": EVIL,
}
STATUS: Mapping[str, Any] = {
    "state": "ARMED",
    "since": "2026-01-02T12:00:00.000000Z",
    "why": [{"trigger": EVIL, "text": EVIL, "observed_at": "2026-01-02T12:00:00.000000Z"}],
    "accounts": {
        EVIL: {
            **{"venue": EVIL, "state": "ARMED", "ready": False, "open_orders": None, "rtt_us": None},
            "lanes": {"ws": "down", "http": "up"},
            "trouble": {"ws": EVIL},
        }
    },
    "triggers": {EVIL: {"kind": EVIL, "state": "blind", "detail": EVIL}},
    "trouble": [EVIL],
    "journal": EVIL,
}


@pytest.mark.parametrize(
    "view",
    [
        report_views.report_view(REPORT),
        report_views.DrillView(DRILL),
        report_views.check_view(CHECK),
        report_views.dry_run_view(DRY_RUN),
        StatusView(STATUS),
        record_views.entry_line({"seq": 1, "at": EVIL, "kind": EVIL, "data": {EVIL: EVIL}}),
    ],
    ids=["report", "drill", "check", "dry run", "status", "journal"],
)
def test_no_view_shows_more_than_printable_text(view: RenderableType) -> None:
    shown = drawn(view)
    assert "ARMED" in shown and harmless(shown)
    assert not any(line.startswith(("ARMED", "0001")) for line in shown.splitlines())


def test_a_venues_words_a_latchs_text_and_a_message_are_one_line_each() -> None:
    assert harmless(truncate(EVIL)) and "\n" not in truncate(EVIL)
    said = latch_lines.latch_text(latch_lines.latch_line(EVIL.replace("\udcff", ""), ("a",), Instant(0, 0)).decode())
    assert "ARMED" in said and harmless(said) and "\n" not in said
    news = digest.Announcement(Severity.TRIP, EVIL, "a", "k1", ("a",), Instant(0, 0))
    message = digest.render([news], "host")
    assert harmless(message.subject) and "\n" not in message.subject and harmless(message.text)


def test_a_log_line_cannot_be_forged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    logging_setup.set_up()
    logging.getLogger("kill_switch.test").warning("the venue says %s", EVIL)
    logging_setup.flush()
    lines = capsys.readouterr().err.rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line.startswith("  ") for line in lines] == [False, True]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "line",
    [
        b'{"cmd":"fire","reason":"fl\xe4che\x1b"}',
        b'{"cmd":"fire","reason":"fl\\udce4che\\u001b"}',
        b'\xef\xbb\xbf{"cmd":"fire","reason":"fl\xe4che\x1b"}',
    ],
    ids=["Latin-1", "a surrogate", "behind a byte order mark"],
)
async def test_a_request_in_another_encoding_is_carried_out(line: bytes) -> None:
    heard: list[object] = []

    async def fire(request: Mapping[str, Any], caller: Caller) -> Mapping[str, object]:
        heard.append(request["reason"])
        return {"done": request["reason"]}

    handlers: Mapping[str, Handler] = {"fire": fire}
    assert await _answer(line, ANN, handlers) == {"done": heard[0]}
    assert heard == ["fl\ufffdche\ufffd"]


@pytest.mark.anyio
async def test_a_request_that_is_no_json_in_any_encoding_gets_one_clear_answer() -> None:
    for line in (b"\xff{", b"[" * 60_000, b"\xff" + b'{"a":' * 10_000, b""):
        assert await _answer(line, ANN, {}) == {"error": "not a line of JSON", "exit": 1}


def test_a_reason_in_any_encoding_and_a_terminal_that_knows_ascii_only_do_not_fail_a_kill(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(f'[daemon]\nruntime_dir = "{tmp_path}/run"\nstate_dir = "{tmp_path}"\n')
    report = {
        **REPORT,
        "accounts": {"a": {**REPORT["accounts"][EVIL], "state": "CLEAR", "verdict": "UNSENT", "routes": []}},
    }
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    with answering(tmp_path / "run" / "control.sock", {"fire": report}) as requests:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "kill_switch",
                "fire",
                "-c",
                config,
                "--reason",
                b"fl\xe4che\x1b",
                "--scope",
                b"\xff",
            ],
            env=env,
            capture_output=True,
            timeout=15,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (requests[0]["reason"], requests[0]["scope"]) == ("fl\ufffdche\ufffd", ["\ufffd"])
    assert b"\x1b" not in done.stdout and b"CLEAR" in done.stdout


def test_an_answer_that_quotes_the_input_is_printed_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(f'[daemon]\nruntime_dir = "{tmp_path}/run"\nstate_dir = "{tmp_path}"\n')
    with answering(tmp_path / "run" / "control.sock", {"status": {"error": "no \x1b[2J\u202e", "exit": 1}}):
        done = CliRunner().invoke(main, ["status", "-c", str(config)])
    assert (done.exit_code, done.output) == (1, "kill-switch: no \ufffd[2J\ufffd\n")
