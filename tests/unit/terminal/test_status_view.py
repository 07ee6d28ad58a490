"""The status as a person sees it: on a wide terminal, on one of 40 columns, and when much is wrong."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console, RenderableType

from kill_switch.terminal import report_views
from kill_switch.terminal.moments import moment
from kill_switch.terminal.status_view import StatusView

NOW = datetime(2026, 1, 2, 12, 5, tzinfo=UTC)
LANE = {"ok": True, "rtt_us": 3100, "within_budget": True, "evidence": "not found", "at": "", "budget_us": 250_000}


def account(state: str = "ARMED", ws: str = "up", http: str = "up", **more: object) -> dict[str, Any]:
    made: dict[str, Any] = {"venue": "oxfun", "state": state, "ready": ws == http == "up", "open_orders": 12}
    made |= {"lanes": {"ws": ws, "http": http}, "rtt_us": 2100, "trouble": {}, "drill": {}, "clock_offset_ms": None}
    return made | more


def status(state: str = "ARMED", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"state": state, "since": "2026-01-02T12:00:00.000000Z", "accounts": {"mm1": account()}}
    return made | {"triggers": {}, "why": [], "trouble": [], "journal": "ok"} | more


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The reader's zone is UTC, wherever the tests run."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def drawn(view: RenderableType, width: int = 80, *, colour: bool = False) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(view)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert all(len(line) <= width for line in lines) or colour
    return lines


def seen(answer: dict[str, Any], width: int = 80, height: int | None = None) -> list[str]:
    return drawn(StatusView(answer, height, NOW), width)


def test_each_command_that_the_view_names_carries_the_readers_configuration() -> None:
    many = {f"mm{number}": account("CLEAR") for number in range(9)}
    triggers = {f"t{number}": {"kind": "pnl", "state": "blind", "detail": "x"} for number in range(9)}
    why = [{"trigger": "t", "text": "x", "observed_at": "2026-01-02T12:00:00Z"}] * 9
    answer = status("TRIPPED", accounts=many, triggers=triggers, why=why)
    view = StatusView(answer, 20, NOW, with_config=lambda text: re.sub(r"(kill-switch [a-z]+)", r"\1 -c F", text))
    commands = re.findall(r"kill-switch [a-z]+( -c F)?", " ".join(drawn(view, 120)))
    assert len(commands) >= 5 and set(commands) == {" -c F"}


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("state", ["ARMED", "FIRING", "TRIPPED"])
def test_the_status_begins_with_the_state_and_ends_with_the_next_command(state: str, width: int) -> None:
    lines = seen(status(state), width)
    assert lines[0] == f" {state}  for 5 min  1/1 ready"
    assert "kill-switch" in " ".join(lines[-2:])


def test_a_wide_terminal_shows_it_all() -> None:
    drill = {"ws": LANE, "http": {**LANE, "rtt_us": 5200}}
    lines = seen(status(accounts={"mm1": account(drill=drill, clock_offset_ms=-120)}))
    assert lines[2].split() == "account venue state lanes orders round trip drill clock".split()
    assert lines[3].split() == "mm1 oxfun ARMED up 12 2.1 ms 5.2 ms -120 ms".split()


@pytest.mark.parametrize("width", [40, 80])
def test_an_account_of_the_test_environment_is_marked_beside_one_of_production(width: int) -> None:
    accounts = {"live": account(environment="production"), "try": account(environment="testnet")}
    lines = seen(status(accounts=accounts), width)
    assert [line.count("TESTNET") for line in lines[3:5]] == [0, 1]
    assert lines[4].startswith("try")


def test_a_spare_connection_that_lacks_is_shown_although_the_lanes_are_up() -> None:
    lines = seen(status(accounts={"mm1": account(ws_connections={"up": 1, "wanted": 2})}))
    assert lines[3].split()[:6] == "mm1 oxfun ARMED ws 1/2 12".split()


def test_forty_columns_show_account_state_lanes_and_orders_only() -> None:
    lines = seen(status(accounts={"mm1": account(ws="down", killable=True)}), 40)
    assert lines[2].split() == "account state lanes orders".split()
    assert lines[3].split() == "mm1 ARMED ws down 12".split()


def test_a_long_name_is_folded_and_never_cut() -> None:
    name = "a-very-long-account-name-of-a-desk-that-likes-them-long"
    for width in (40, 80):
        lines = seen(status(accounts={name: account()}), width)
        assert name in "".join(line.split(" ")[0] for line in lines[3:])


@pytest.mark.parametrize(
    ("ws", "http", "word"),
    [
        ("up", "up", "up"),
        ("down", "up", "ws down"),
        ("up", "connecting", "http connecting"),
        ("connecting", "down", "down"),
        ("connecting", "connecting", "connecting"),
    ],
)
def test_lanes_of_one_state_are_shown_in_one_word(ws: str, http: str, word: str) -> None:
    assert f" {word} " in seen(status(accounts={"mm1": account(ws=ws, http=http, killable=True)}))[3]


def test_the_reason_of_a_trip_comes_first() -> None:
    why = {"trigger": "panic", "text": "the quoter went mad", "observed_at": "2026-01-02T12:00:01.5Z"}
    lines = seen(status("TRIPPED", why=[why]))
    assert lines[1] == "because 12:00:01Z panic: the quoter went mad"


def test_the_troubles_of_an_older_daemon_are_shown() -> None:
    down = account(ws="down", trouble={"ws": "login refused"})
    blind = {"kind": "pnl", "state": "blind", "detail": "no figures for 30 s"}
    answer = status(accounts={"mm1": down}, triggers={"loss": blind}, journal="disk full", trouble=["drill: x"])
    assert [line for line in seen(answer) if line.startswith("!")] == [
        "! mm1: ws: login refused",
        "! trigger loss: blind: no figures for 30 s",
        "! disk full",
        "! drill: x",
    ]


PROBLEM = {"account": "mm1", "text": "no command would reach the venue", "do": "stop it", "page": "runbook/x"}


def test_a_problem_is_one_line_with_account_fact_command_page_and_time() -> None:
    lines = seen(status(problems=[{**PROBLEM, "at": "2026-01-02T12:01:00Z"}]), 120)
    assert lines[1] == "! mm1: no command would reach the venue (12:01:00Z) → stop it [runbook/x]"
    trigger = {"trigger": "panic", "text": "blind", "do": "look"}
    assert seen(status(problems=[trigger]))[1] == "! trigger panic: blind → look"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(), " ARMED  for 5 min"),
        (status(accounts={"mm1": account(killable=False)}), " ARMED, but not whole  for 5 min"),
        (status(triggers={"t": {"kind": "pnl", "state": "blind", "detail": ""}}), " ARMED, but not whole  for"),
        (status(triggers={"t": {"kind": "pnl", "state": "silenced", "detail": ""}}), " ARMED, but not whole  for"),
        (status("TRIPPED", accounts={"a": account("CLEAR"), "b": account()}), " TRIPPED  1 of 2 for 5 min"),
        (status("FIRING", accounts={"a": account("STRIKING"), "b": account("CLEAR")}), " FIRING  for 5 min"),
        (
            status("FIRING", accounts={"a": account("RESIDUE", open_orders=6), "b": account()}),
            " RESIDUE  1 of 2, 6 orders",
        ),
        (
            status("FIRING", accounts={"a": account("RESIDUE", open_orders=None)}),
            " RESIDUE  1 of 1, orders may be left",
        ),
    ],
)
def test_the_first_line_names_the_worst_and_how_much_of_it_there_is(answer: dict[str, Any], words: str) -> None:
    assert seen(answer)[0].startswith(words)


def test_fifty_accounts_and_25_triggers_fit_on_a_screen_that_shows_each_fault() -> None:
    accounts = {f"mm{number}": account() for number in range(48)}
    accounts |= {"left": account("RESIDUE"), "cold": account(ws="down", http="down", killable=False)}
    triggers = {
        f"t{number}": {"kind": "flag", "state": "ok", "detail": "/run/KILL is not there"} for number in range(23)
    }
    triggers |= {
        "loss": {"kind": "pnl", "state": "blind", "detail": "no figure"},
        "zap": {**triggers["t0"], "state": "tripped"},
    }
    notes = [{"account": f"mm{number}", "text": "the key is bound to no address", "do": "look"} for number in range(9)]
    problems = [{**PROBLEM, "account": "left", "text": "words " * 30}, {**PROBLEM, "account": "cold"}, *notes]
    for height in (24, 30, 40):
        lines = seen(status("FIRING", accounts=accounts, triggers=triggers, problems=problems), height=height)
        assert len(lines) <= height
        text = "\n".join(lines)
        assert all(
            words in text for words in ("! left", "! cold", "\nleft ", "\ncold ", "\nzap (flag)", "\nloss (pnl)")
        )
        assert (
            len(re.findall(r"and \d+ .*: kill-switch status --all", text)) >= 2
        )  # accounts, triggers, and problems if they do not fit
    assert len(seen(status(accounts=accounts, triggers=triggers))) > 75


def test_a_moment_is_shown_in_the_readers_own_zone_too() -> None:
    zone = timezone(timedelta(hours=1), "CET")
    assert moment("2026-01-02T12:00:01.5Z", NOW, zone) == "12:00:01Z, 13:00:01 CET"
    assert moment("2026-01-02T23:30:00Z", NOW, zone) == "23:30:00Z, 2026-01-03 00:30:00 CET"
    assert moment("2026-01-01T12:00:01Z", NOW, UTC) == "2026-01-01 12:00:01Z"


def test_the_trouble_of_a_lane_that_is_up_again_is_history() -> None:
    assert not any("!" in line for line in seen(status(accounts={"mm1": account(trouble={"ws": "was reset"})})))


def test_the_worst_trouble_comes_first() -> None:
    accounts = {
        "fine": account(),
        "cold": account(http="down"),
        "clear": account("CLEAR"),
        "left": account("RESIDUE"),
        "struck": account("STRIKING"),
    }
    lines = seen(status("FIRING", accounts=accounts))
    assert [line.split()[0] for line in lines[3:8]] == ["left", "struck", "clear", "cold", "fine"]


def test_on_a_narrow_terminal_triggers_that_are_well_are_counted() -> None:
    ok = {"kind": "flag", "state": "ok", "detail": "/run/KILL is not there"}
    triggers = {"panic": ok, "halt": ok, "loss": {**ok, "state": "tripped", "detail": "it is there"}}
    lines = seen(status(triggers=triggers), 40)
    assert lines[6].split() == "loss tripped it is there".split()
    assert lines[7] == "2 triggers ok"
    assert any("panic (flag)" in line for line in seen(status(triggers=triggers)))


@pytest.mark.parametrize(
    ("last", "coming", "words"),
    [
        (None, None, None),
        (None, "2026-01-02T08:00:00-05:00", "drill: next 13:00:00Z"),
        ((True, 4200), None, "drill: 12:00:00Z answered in 4.2 ms"),
        ((False, None), None, "drill: 12:00:00Z NOT GOOD"),
    ],
)
def test_the_status_shows_the_last_and_the_next_drill(
    last: tuple[bool, int | None] | None, coming: str | None, words: str | None
) -> None:
    made = last and {"at": "2026-01-02T12:00:00.1Z", "ok": last[0], "answered_us": last[1], "budget_us": 250_000}
    lines = seen(status(drill={"last": made, "next": coming}))
    assert [line for line in lines if line.startswith("drill")] == ([words] if words else [])


@pytest.mark.parametrize(
    ("lane", "word"), [({"ok": False, "rtt_us": None}, "FAILED"), ({"rtt_us": 251_000}, "251.0 ms")]
)
def test_an_accounts_drill_is_shown_by_its_worst_lane(lane: dict[str, object], word: str) -> None:
    drill = {"ws": LANE, "http": {**LANE, "within_budget": False, **lane}}
    assert word in seen(status(accounts={"mm1": account(drill=drill)}))[3]


def test_a_venues_clock_offset_is_shown_in_seconds() -> None:
    assert seen(status(accounts={"mm1": account(clock_offset_ms=61_000)}))[3].endswith("+61 s")


def test_an_answer_of_an_older_daemon_can_be_shown() -> None:
    old = status()
    for key in ("why", "trouble"):
        del old[key]
    del old["accounts"]["mm1"]["drill"], old["accounts"]["mm1"]["clock_offset_ms"]
    assert seen(old)[0].startswith(" ARMED")


def test_words_of_others_are_shown_as_they_are_and_not_as_markup() -> None:
    why = {"trigger": "panic", "text": "[bold]boo[/bold] [/", "observed_at": "2026-01-02T12:00:01Z"}
    flag = {"kind": "flag", "state": "tripped", "detail": "[red]x[/red]"}
    text = "\n".join(seen(status("TRIPPED", why=[why], triggers={"panic": flag})))
    assert "[bold]boo[/bold] [/" in text and "[red]x[/red]" in text


def test_trouble_is_red_on_a_terminal_with_colours() -> None:
    lines = drawn(StatusView(status(trouble=["drill: x"]), None, NOW), colour=True)
    assert "\x1b[1;31m! " in lines[1] and "\x1b[1;31mdrill: x" in lines[1]


# ── drills, checks and previews ───────────────────────────────────────────────────────────────────────────────────


def drill(**accounts: dict[str, Any]) -> dict[str, Any]:
    good = all(one["ok"] for one in accounts.values())
    return {"ok": good, "answered_us": 5300 if good else None, "budget_us": 250_000, "accounts": accounts}


def lanes(**each: dict[str, Any]) -> dict[str, Any]:
    good = all(lane["within_budget"] for lane in each.values())
    return {"venue": "oxfun", "ok": good, "skipped": None, "lanes": each}


def test_a_drill_shows_each_lane_beside_the_budget_the_bad_ones_first() -> None:
    bad = {**LANE, "ok": False, "within_budget": False, "rtt_us": None, "evidence": "no answer within 4 s"}
    slow = {**LANE, "within_budget": False, "rtt_us": 300_000}
    lines = drawn(report_views.DrillView(drill(mm1=lanes(ws=LANE, http=LANE), mm2=lanes(ws=bad, http=slow))))
    assert lines[1].split() == "mm2 oxfun ws – FAILED no answer within 4 s".split()
    assert lines[2].split() == "mm2 oxfun http 300.0 ms OVER not found (expected)".split()
    assert lines[3].split() == "mm1 oxfun ws 3.1 ms within not found (expected)".split()
    assert lines[-1] == "NOT GOOD; the budget is 250.0 ms"


def test_a_good_drill_says_so() -> None:
    lines = drawn(report_views.DrillView(drill(mm1=lanes(ws=LANE, http=LANE))))
    assert lines[-1] == "every lane would carry a kill, the last after 5.3 ms; the budget is 250.0 ms"


def test_a_check_with_an_account_that_was_not_probed_does_not_speak_of_every_lane() -> None:
    ready = {"venue": "oxfun", "ready": True, "trouble": {}, "key": {}}
    refused = {"venue": "roxom", "ready": False, "trouble": {"ws": "401"}, "key": {}}
    check = {"via": "lanes", "accounts": {"mm1": ready, "rx1": refused}, "drill": drill(mm1=lanes(http=LANE))}
    said = " ".join(drawn(report_views.check_view(check)))
    assert "each lane above would carry a kill, the last after 5.3 ms" in said and "every lane" not in said


def test_an_account_that_was_not_drilled_is_shown_with_the_reason() -> None:
    skipped = {"venue": "oxfun", "ok": False, "skipped": "a kill is under way", "lanes": {}}
    assert "! mm1 was not drilled: a kill is under way" in drawn(report_views.DrillView(drill(mm1=skipped)))


def test_forty_columns_show_a_drills_evidence_for_failed_lanes_only() -> None:
    bad = {**LANE, "ok": False, "within_budget": False, "rtt_us": None, "evidence": "no answer within 4 s"}
    lines = drawn(report_views.DrillView(drill(mm1=lanes(ws=bad, http=LANE))), 40)
    assert lines[1].split() == "mm1 ws – FAILED".split()
    assert lines[2].split() == "mm1 http 3.1 ms within".split()
    assert lines[3] == "! mm1 ws: no answer within 4 s"


def test_a_check_names_who_is_not_ready_and_why() -> None:
    cold = account(ws="down", trouble={"ws": "login refused", "http": "no route"})
    found = {"via": "daemon", "accounts": {"mm1": cold}, "drill": None, "error": "another drill is under way"}
    assert drawn(report_views.check_view(found), 120) == [
        "checked through the running daemon, over its own connections",
        "mm1 (oxfun) is NOT READY: ws: login refused; http: no route",
        "mm1: the venue does not say what the key may do",
        "NOT GOOD: not ready: mm1",
        "another drill is under way",
    ]


def preview(count: int, *, known: bool = True, why: str | None = None) -> dict[str, Any]:
    orders = [{"id": f"o{n}", "symbol": "BTC", "status": "open"} for n in range(count)]
    shown = {"venue": "oxfun", "state": "ARMED", "orders": orders, "orders_known": known, "orders_why": why}
    return {"accounts": {"mm1": {**shown, "would_send": ["DELETE /v3/orders/cancel-all"]}}}


def test_a_dry_run_lists_the_orders_and_the_commands() -> None:
    assert drawn(report_views.dry_run_view(preview(2)))[1:] == [
        "",
        "mm1 (oxfun, ARMED): 2 orders",
        "  o0  BTC  open",
        "  o1  BTC  open",
        "  would send: DELETE /v3/orders/cancel-all",
    ]


def test_a_dry_run_of_many_orders_stays_readable() -> None:
    lines = drawn(report_views.dry_run_view(preview(500)))
    assert "  … and 480 more (--json lists all)" in lines
    assert len(lines) < 30


def test_a_command_that_names_many_orders_is_cut_on_the_screen() -> None:
    answer = preview(1)
    answer["accounts"]["mm1"]["would_send"] = ["POST /cancel " + "x" * 10_000]
    lines = drawn(report_views.dry_run_view(answer))
    assert len(lines) < 12
    assert lines[-1].endswith("…")


def test_orders_that_could_not_be_read_are_never_shown_as_none() -> None:
    lines = drawn(report_views.dry_run_view(preview(0, known=False, why="no answer within 3 s")))
    assert lines[2:4] == ["mm1 (oxfun, ARMED): orders UNKNOWN", "  no answer within 3 s"]
    assert "  known so far: 1" in drawn(report_views.dry_run_view(preview(1, known=False, why="x")))
