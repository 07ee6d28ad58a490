"""The text of a report tells what its JSON does."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from kill_switch.report import Reports
from kill_switch.views import print_report, report_view
from tests.core.playbook import Run, answered, armed, asked, due, read, reported


def drawn(report: Mapping[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=300, color_system=None).print(report_view(report))
    return out.getvalue()


def test_the_text_of_a_report_says_who_fired_at_what_and_who_re_armed_it() -> None:
    run = Run(armed("a", "b", approvals=2))(reported("a", "b"))
    for name in ("a", "b"):
        run(answered(name, 100), read(name, 200), due(name, 450), read(name, 500))
    found: Any = Reports(250_000, run.entries).get()
    assert "by panic\nscope a, b\nnot re-armed\n" in drawn(found)
    owner = {"trigger": "panic", "uid": 1000, "user": "ann", "at": "2023-11-14T22:13:00Z"}
    shown = drawn({**found, "by": owner, "config": "0123456789abcdef" * 4})
    assert "by panic, ann (uid 1000), whose file is of 2023-11-14T22:13:00Z\n" in shown
    assert "scope a, b; configuration 0123456789abcdef\n" in shown
    run(asked("a", uid=1, ms=60_000), asked("a", uid=2, ms=61_000, force=True))
    found = Reports(250_000, run.entries).get()
    assert (
        "re-armed a at 2023-11-14T22:14:21.000000Z by user2 (uid 2), forced, with the approval of user1 (uid 1): "
        "all well\nstill tripped: b\n"
    ) in drawn(found)


def test_the_text_of_a_report_says_what_is_weaker_than_a_kill_on_record_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: Any = Reports(250_000, Run(armed("a"))(reported("a")).entries).get()
    command = f"touch /{'long' * 40}/latch.jsonl"
    print_report({**found, "problems": [{"text": "no latch\x1b", "do": command}]})
    assert f"! no latch\ufffd\n  {command}\n" in capsys.readouterr().out


def test_a_report_of_a_daemon_of_an_older_version_is_shown() -> None:
    found: Any = Reports(250_000, Run(armed("a"))(reported("a")).entries).get()
    old = {key: value for key, value in found.items() if key not in ("by", "scope", "rearmed", "config")}
    assert "panic: touched" in drawn(old)
