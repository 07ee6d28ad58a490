"""The text of a report tells what its JSON does."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.terminal import record_views, report_views
from kill_switch.terminal.report_views import print_report, report_view
from tests.harness.core_playbook import Run, answered, armed, asked, due, read, reported


def drawn(report: Mapping[str, Any], width: int = 300) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(report_view(report))
    return out.getvalue()


def test_the_text_of_a_report_has_the_person_who_fired_the_scope_and_the_person_who_re_armed() -> None:
    run = Run(armed("a", "b", approvals=2))(reported("a", "b"))
    for name in ("a", "b"):
        run(answered(name, 100), read(name, 200), due(name, 450), read(name, 500))
    found: Any = ReportBuilder(250_000, run.entries).render()
    assert "by panic\nscope a, b\nnot re-armed\n" in drawn(found)
    owner = {"trigger": "panic", "uid": 1000, "user": "ann", "at": "2023-11-14T22:13:00Z"}
    shown = drawn({**found, "by": owner, "config": "0123456789abcdef" * 4})
    assert "by panic, ann (uid 1000), whose file is of 2023-11-14T22:13:00Z\n" in shown
    assert "scope a, b; configuration 0123456789abcdef\n" in shown
    run(asked("a", uid=1, ms=60_000), asked("a", uid=2, ms=61_000, force=True))
    found = ReportBuilder(250_000, run.entries).render()
    assert (
        "re-armed a at 2023-11-14T22:14:21.000000Z by user2 (uid 2), forced, with the approval of user1 (uid 1): "
        "all well\nstill tripped: b\n"
    ) in drawn(found)


def test_the_text_of_a_report_names_each_weakness_of_the_kill_and_the_next_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: Any = ReportBuilder(250_000, Run(armed("a"))(reported("a")).entries).render()
    command = f"touch /{'long' * 40}/latch.jsonl"
    print_report({**found, "problems": [{"text": "no latch\x1b", "do": command}]})
    assert f"! no latch\ufffd\n  {command}\n" in capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_name_of_an_account_is_broken_on_a_terminal_of_the_usual_width(width: int) -> None:
    run = Run(armed("binance-coinm", "kraken-futures"))(reported("binance-coinm", "kraken-futures"))
    for name in ("binance-coinm", "kraken-futures"):
        run(answered(name, 100), read(name, 200), due(name, 450), read(name, 500))
    found: Any = ReportBuilder(250_000, run.entries).render()
    found["accounts"]["kraken-futures"].update(answered_us=4_255_700, clear_us=9_999_900)
    rows = [
        line.split() for line in drawn(found, width).splitlines() if line.startswith(("account", "binance", "kraken"))
    ]
    assert [row[0] for row in rows] == ["account", "binance-coinm", "kraken-futures"]
    assert {"verdict", "state", "clear", "left"} <= set(rows[0]) and ("by" in rows[0]) == (width > 80)


def test_a_report_of_a_daemon_of_an_older_version_is_shown() -> None:
    found: Any = ReportBuilder(250_000, Run(armed("a"))(reported("a")).entries).render()
    old = {key: value for key, value in found.items() if key not in ("by", "scope", "rearmed", "config")}
    assert "panic: touched" in drawn(old)


def lines(**account: Any) -> list[str]:
    told = {
        **{
            "verdict": "CONFIRMED",
            "state": "CLEAR",
            "sent_us": 1_000_400,
            "answered_us": 1_500_000,
            "clear_us": 2_000_000,
        },
        **{"strikes": 2, "routes": ["http"], "attempts": [], "cancelled": None, "cancelled_ids": [], "claimed": None},
        **{"left": 0, "evidence": ""},
        **account,
    }
    report = {
        **{"id": "k1-1700000000", "reasons": [], "budget_us": 250_000, "within_budget": False},
        **{
            "last_sent_us": 1_000_400,
            "last_answered_us": 1_500_000,
            "all_clear_us": 2_000_000,
            "accounts": {"mm1": told},
        },
    }
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report_views.report_view(report))
    return [line.strip() for line in capture.get().splitlines()]


def test_refused_strikes_are_below_the_table_with_their_own_times() -> None:
    refused = {
        "strike": 1,
        "sent_us": 400,
        "answered_us": 6_500,
        "answer": "REFUSED",
        "routes": ["ws"],
        "evidence": "no",
    }
    accepted = {**refused, "strike": 2, "sent_us": 1_000_400, "answered_us": 1_500_000, "answer": "ACCEPTED"}
    shown = lines(attempts=[refused, accepted])
    assert shown[-1] == "mm1: strike 1, sent after 0.4 ms by ws: REFUSED after 6.5 ms: no"
    assert "1,000.4 ms 1,500.0 ms" in shown[-3]
    assert lines(attempts=[accepted])[-1].split()[:2] == ["mm1", "CONFIRMED"]


def test_many_refused_strikes_are_counted() -> None:
    lost: dict[str, Any] = {
        "strike": 1,
        "sent_us": None,
        "answered_us": None,
        "answer": None,
        "routes": [],
        "evidence": "",
    }
    shown = lines(attempts=[lost] * 8)
    assert shown[-2:] == ["mm1: strike 1, not sent: no answer", "mm1: and 5 more strikes that were not accepted"]


def test_the_report_names_cancelled_orders_and_a_claim_that_differs() -> None:
    shown = lines(cancelled=5, cancelled_ids=["a", "b", "c", "d"], claimed=15)
    assert shown[-2] == "mm1: gone: a, b, c and 2 more"
    assert shown[-1] == "mm1: the venue claims 15 cancelled orders, all strikes together"
    assert lines(cancelled=1, cancelled_ids=["a"], claimed=1)[-1] == "mm1: gone: a"


def test_the_number_of_cancelled_orders_is_unknown_without_a_record_of_them() -> None:
    assert " – " in lines()[-1]


def kill(number: int, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": f"k{number}-1795957704",
        "fired_at": "2026-01-02T12:00:01Z",
        "rearmed_at": "2026-01-02T12:07:00Z",
    }
    made |= {"by": {"user": "ann", "trigger": "operator"}, "accounts": ["mm1"], "state": "RESIDUE", "left": 3}
    return made | {"still_tripped": [], "trigger": "alive", "text": "no heartbeat for 3.000 s", "reasons": 2} | more


def listed(kills: list[dict[str, Any]], width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(record_views.KillsView(kills))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_a_list_of_kills_keeps_every_id_state_and_reason_whole_on_any_terminal(width: int) -> None:
    later = kill(2, rearmed_at="2026-01-04T09:00:00Z", by={"user": "", "trigger": "quoter-alive-frankfurt"})
    lines = listed([kill(1), later, kill(3, rearmed_at=None)], width)
    text = " ".join(" ".join(lines).split())
    assert all(f"k{number}-1795957704" in text for number in (1, 2, 3))
    assert text.count("RESIDUE") == 3 and text.count("alive: no heartbeat for 3.000 s (+1)") == 3
    assert all(len(line) <= width for line in lines)
    if width > 40:
        assert "2026-01-04 09:00:00" in text and " 12:07:00" in text


def test_a_list_without_a_kill_has_a_line() -> None:
    assert listed([], 80) == ["there is no kill on record"]


def test_a_record_takes_three_lines_of_a_terminal_and_a_short_one_is_whole() -> None:
    entry = {"seq": 1, "at": "2026-11-30T14:05:00Z", "kind": "kill-report", "data": {"ids": list(range(1000))}}
    line = record_views.shortened(record_views.entry_line(entry), 80)
    assert len(line) == 240 and line.startswith("     1  2026-11-30") and line.endswith("… (--json: all)")
    short = record_views.entry_line({**entry, "data": {}})
    assert record_views.shortened(short, 80) == short
