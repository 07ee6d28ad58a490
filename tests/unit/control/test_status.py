"""What `status` tells: enough to see in five seconds what is tripped, why, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from kill_switch.control import late_request
from kill_switch.core import list_lag, sweep
from kill_switch.core.domain import LaneState, Order, OrderState, Phase, Route, SweepTiming
from kill_switch.dispatch.pacer import Pacer
from kill_switch.journal import segments
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.segments import JournalReader
from kill_switch.outbound.account_metrics import account_metrics
from kill_switch.triggers.flag.trigger import FlagState, FlagTrigger
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.venues.messages import NotReady
from tests.harness.control_harness import ANN, Opened
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio


async def test_an_armed_daemon_has_no_reason_and_no_trouble(opened: Opened) -> None:
    status = await opened("a").ask("status")
    assert status["state"] == "ARMED"
    assert (status["why"], status["trouble"]) == ([], [])
    assert status["drill"] == {"next": None, "last": None}
    assert status["intake"] == {"beats": 0, "ignored": 0, "wrong_time": 0, "lost": 0, "why_ignored": {}}
    assert status["accounts"]["a"]["drill"] == {}
    assert status["accounts"]["a"]["clock_offset_ms"] is None


async def test_the_page_of_the_status_has_each_key_that_the_status_has(opened: Opened) -> None:
    page = (Path(__file__).parents[3] / "docs/reference/status.md").read_text("utf-8")
    on_page = set(
        re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `")))
    )
    status = await opened("a").ask("status")
    assert {*status, *status["accounts"]["a"]} == on_page


async def test_the_reason_is_shown_until_the_re_arm(opened: Opened) -> None:
    office = opened("a")
    await office.ask("fire", reason="runaway quoter")
    await office.kill()
    (why, *_) = (await office.ask("status"))["why"]
    assert (why["trigger"], why["text"]) == ("operator", "runaway quoter")
    assert why["observed_at"].startswith("2023-11-14T22:13:20")
    office.dispatcher.rearm(office.asked())
    assert (await office.ask("status"))["why"] == []


async def test_the_orders_that_are_left_are_the_same_number_wherever_they_are_shown(opened: Opened) -> None:
    office = opened("a")
    book = office.dispatcher.sessions["a"].venue.book
    book.orders["1"] = Order("1", "X", OrderState.LIVE, "new")
    armed = (await office.ask("status"))["accounts"]["a"]["open_orders"]
    assert armed == book.open_orders
    await office.ask("fire", reason="runaway quoter")
    await office.kill()
    book.orders["1"] = Order("1", "X", OrderState.LIVE, "new")  # a push of which the engine does not know yet
    shown = (await office.ask("status"))["accounts"]["a"]["open_orders"]
    report = office.reports.render("last")["accounts"]["a"]["left"]  # type: ignore[index]
    families = {family["name"]: family["samples"] for family in account_metrics(office.dispatcher, running().now())}
    assert families["kill_switch_open_orders"] == [(["a"], shown)]
    assert shown == report == office.dispatcher.state.accounts["a"].orders_left == 0


async def test_a_count_of_orders_is_shown_while_pushes_or_young_lists_prove_it(opened: Opened) -> None:
    office = opened("a")
    book = office.dispatcher.sessions["a"].venue.book

    async def shown() -> object:
        return (await office.ask("status"))["accounts"]["a"]["open_orders"]

    assert await shown() is None
    book.apply_listing("orders", (), running().now().mono_ns, whole=True)
    assert await shown() == 0
    await anyio.sleep(16)
    assert await shown() is None, "orders may have been placed since, and nothing would have shown them"
    since_ns = running().now().mono_ns
    book.start_pushes(1, since_ns)
    assert await shown() is None
    book.apply_listing("orders", (Order("1", "X", OrderState.LIVE, "new"),), since_ns, whole=True)
    await anyio.sleep(600)
    assert await shown() == 1
    book.end_pushes(1)
    assert await shown() is None


async def test_a_proof_that_waits_for_the_venues_limit_says_for_how_long(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = opened("a")
    await office.ask("fire", reason="runaway quoter")
    assert (await office.ask("status"))["trouble"] == []
    monkeypatch.setattr(Pacer, "proof_wait_s", 11.2)
    assert (await office.ask("status"))["trouble"] == ["a: the proof waits 12 s for the venue's rate limit"]


async def test_a_status_in_the_moment_of_a_kill_has_its_reason_its_id_and_its_time(opened: Opened) -> None:
    office = opened("a")
    armed = await office.ask("status")
    await anyio.sleep(5)
    office.fire()
    status = await office.ask("status")
    assert (status["state"], [why["text"] for why in status["why"]]) == ("FIRING", ["touched"])
    assert status["last_kill"] == office.dispatcher.state.accounts["a"].kill
    assert status["since"] == status["why"][0]["observed_at"] != armed["since"]
    await office.settle()
    cleared = await office.ask("status")
    assert cleared["state"] == "TRIPPED"
    assert cleared["since"] > status["since"]
    assert office.reports.render("last")["accounts"]["a"]["state"] == "CLEAR"  # type: ignore[index]


async def test_a_text_that_is_found_behind_its_kill_is_its_reason_in_every_answer(opened: Opened) -> None:
    office = opened("a")
    office.reload('[triggers.panic]\nkind = "flag"\npath = "/nonexistent/KILL"\n')
    flag = office.watch.triggers["panic"]
    assert isinstance(flag, FlagTrigger)
    flag._report = office.dispatcher.fire
    flag._on_state(FlagState(True))
    assert office.dispatcher.state.phase is Phase.STRIKING
    flag._on_state(FlagState(True, "the quoter went mad"))
    assert [why["text"] for why in (await office.ask("status"))["why"]] == ["the quoter went mad"]
    await office.settle()
    report = await office.ask("report")
    assert [reason["text"] for reason in report["reasons"]] == ["the quoter went mad"]
    assert office.amended == [("panic: /nonexistent/KILL is there", "panic: the quoter went mad")]
    again = segments.JournalReader(office.journal.path).entries()
    assert ReportBuilder(1, again).render()["reasons"] == report["reasons"]  # type: ignore[index]


async def test_the_reason_shown_is_of_tripped_accounts_and_not_of_a_later_finished_kill(opened: Opened) -> None:
    office = opened("a", "b")
    await office.ask("fire", reason="first", scope=["a"])
    await office.settle()
    await office.ask("fire", reason="second", scope=["b"])
    await office.settle()
    office.dispatcher.rearm(office.asked("b"))
    assert [why["text"] for why in (await office.ask("status"))["why"]] == ["first"]


async def test_a_drill_is_shown_as_a_whole_and_by_account(opened: Opened) -> None:
    office = opened("a")
    office.venues["a"].after_ms[Route.HTTP] = 300.0
    office.drills.set_schedule("0 * * * *", "UTC")
    drill = await office.ask("drill")
    status = await office.ask("status")
    assert status["drill"]["next"] == "2023-11-14T23:00:00+00:00"
    assert status["drill"]["last"] == {key: drill[key] for key in ("at", "by", "ok", "answered_us", "budget_us")}
    lanes = status["accounts"]["a"]["drill"]
    assert (lanes["ws"]["ok"], lanes["ws"]["rtt_us"], lanes["http"]["within_budget"]) == (True, 3000, False)
    assert status["trouble"] == ["drill: a http: 300 ms, over the budget of 250 ms"]


async def test_a_drill_names_who_asked_for_it(opened: Opened) -> None:
    office = opened("a")
    drill = await office.ask("drill", scope=["a"])
    assert (drill["by"], drill["uid"], drill["user"]) == ("operator", 7, "ann")
    assert (await office.ask("drill", scope=["b"]))["exit"] == 1


async def test_every_part_can_tell_its_trouble_and_one_that_fails_at_it_hides_no_other(opened: Opened) -> None:
    def fails() -> Iterator[str]:
        yield "never told"
        raise RuntimeError("a bug")

    office = opened("a")
    office.operators._troubles += [fails, lambda: ["notify: nobody can be reached"]]
    trouble = (await office.ask("status"))["trouble"]
    assert trouble == ["internal error: RuntimeError: see the log", "notify: nobody can be reached"]


async def test_ignored_datagrams_are_counted(opened: Opened) -> None:
    office = opened("a")
    office.intake.ignored += 3
    assert (await office.ask("status"))["intake"]["ignored"] == 3


async def test_a_dry_run_adds_the_orders_to_the_status(opened: Opened) -> None:
    office = opened("a", "b")
    found = await office.ask("fire", reason="x", scope=["a"], dry_run=True)
    assert found["dry_run"] is True
    assert list(found["accounts"]) == ["a"]
    account = found["accounts"]["a"]
    assert (account["venue"], account["state"], account["ready"]) == ("stub", "ARMED", True)
    assert account["orders_known"] is False
    assert office.dispatcher.state.phase == "ARMED"
    assert (await office.ask("status"))["last_kill"] is None


async def test_an_order_out_of_a_kills_reach_that_an_adapter_has_found_is_a_line_of_the_status(opened: Opened) -> None:
    office = opened("a", "b")
    office.venues["b"].out_of_reach = ("a running TWAP", "an order on margin")
    assert (await office.ask("status"))["trouble"] == ["b: a kill does not reach: a running TWAP; an order on margin"]
    office.venues["b"].out_of_reach = ()
    assert (await office.ask("status"))["trouble"] == []


async def test_each_warning_of_an_account_is_a_line_of_the_status(opened: Opened) -> None:
    office = opened("a", "b")
    office.venues["a"].warnings = ("the key may withdraw", "the key is bound to no address")
    expected = ["a: the key may withdraw", "a: the key is bound to no address"]
    assert (await office.ask("status"))["trouble"] == expected


async def test_an_account_that_only_waits_for_its_lists_has_a_line_of_the_status(opened: Opened) -> None:
    office = opened("a", "b")
    timing = replace(SweepTiming(), list_lag_s=2.0)
    waiting = sweep.start_sweep(timing, 0)._replace(phase=Phase.CONFIRMING, clean_reads_in_a_row=2)
    state = office.dispatcher.state
    account = state.accounts["a"]._replace(timing=timing, sweep=waiting, kill="k1")
    office.dispatcher.state = state._replace(accounts={**state.accounts, "a": account})
    status = await office.ask("status")
    assert status["trouble"] == [f"a: {list_lag.describe_wait(waiting)}"] and status["trouble"][0] != "a: "
    assert status["accounts"]["a"]["state"] == "CONFIRMING"


async def test_a_fire_that_ends_before_lagging_lists_can_prove_anything_says_when_they_can(opened: Opened) -> None:
    office = opened("a", "b")
    state = office.dispatcher.state
    account = state.accounts["a"]._replace(timing=replace(SweepTiming(), list_lag_s=20.0, residue_after_s=30.0))
    office.dispatcher.state = state._replace(accounts={**state.accounts, "a": account})
    report = await office.ask("fire", reason="runaway quoter", wait_s=1)
    assert report["not_proven_yet"] == {"a": {"lists_lag_s": 20.0, "proof_in_s": 21}}
    assert "not_proven_yet" not in await office.ask("fire", reason="runaway quoter", scope=["b"])


async def test_an_account_with_a_slow_kill_is_reported_although_its_lanes_are_ready(opened: Opened) -> None:
    office = opened("a", "b")
    office.venues["b"].slow = "another program uses up this user's requests"
    status = await office.ask("status")
    assert status["trouble"] == ["b: another program uses up this user's requests"]
    assert status["accounts"]["b"]["ready"] is True


def shown_as(status: Mapping[str, Any], beginning: str) -> Mapping[str, Any]:
    (found,) = [each for each in status["problems"] if each["text"].startswith(beginning)]
    return cast(Mapping[str, Any], found)


async def test_an_account_in_residue_is_a_problem_with_its_orders_and_a_forced_re_arm_names_them(
    opened: Opened,
) -> None:
    office = opened("a")
    await office.ask("fire", reason="runaway quoter")
    office.dispatcher.sessions["a"].venue.book.orders["17"] = Order("17", "X", OrderState.LIVE, "new")
    await anyio.sleep(30)
    assert office.dispatcher.state.phase is Phase.RESIDUE
    problem = shown_as(await office.ask("status"), "RESIDUE, ")
    assert problem["account"] == "a" and "(17)" in problem["text"] and "kill-switch report -c" in problem["do"]
    answer = await office.ask("rearm", reason="by hand", force=True)
    (left,) = answer["problems"]
    assert answer["rearmed"] == ("a",)
    assert "(17) left: the daemon does not cancel them any more" in left["text"] and left["note"] is True
    assert shown_as(await office.ask("status"), "1 order (17) left by a forced re-arm")["account"] == "a"
    entries = JournalReader(office.journal.path).entries()
    (record,) = [entry["data"] for entry in entries if entry["kind"] == "orders-left"]
    assert record == {"account": "a", "orders": ["17"]}
    del office.dispatcher.sessions["a"].venue.book.orders["17"]
    assert (await office.ask("status"))["problems"] == []


async def test_an_account_without_a_lane_is_not_killable_and_a_problem(opened: Opened) -> None:
    office = opened("a")
    assert (await office.ask("status"))["accounts"]["a"]["killable"] is True
    office.lanes["a"].waiting_s = 2.0  # the venue owes an answer
    assert (await office.ask("status"))["accounts"]["a"]["killable"] is True  # the WebSocket carries a kill
    office.lanes["a"].state = LaneState.DOWN
    status = await office.ask("status")
    assert status["accounts"]["a"]["killable"] is False
    assert shown_as(status, "no command would reach the venue")["account"] == "a"


async def test_a_key_that_the_venue_refuses_over_http_is_not_believed_on_the_websocket(opened: Opened) -> None:
    office = opened("a")
    session = office.dispatcher.sessions["a"]
    session._on_fact(NotReady(Route.HTTP, 0, "API key is invalid", fatal=True), running().now())
    assert (await office.ask("status"))["accounts"]["a"]["killable"] is False


async def test_a_bot_that_sends_no_beat_after_the_re_arm_is_a_problem_until_it_beats(opened: Opened) -> None:
    office = opened("a")
    office.reload('[triggers.alive]\nkind = "heartbeat"\ntimeout = "3s"\n')
    trigger = office.watch.triggers["alive"]
    assert isinstance(trigger, HeartbeatTrigger)
    assert (await office.ask("status"))["problems"] == []
    trigger._fired = True
    trigger.on_rearmed()
    status = await office.ask("status")
    assert shown_as(status, "no beat has come since the re-arm")["trigger"] == "alive"
    assert (status["triggers"]["alive"]["state"], status["state"]) == ("waiting", "ARMED")
    office.intake.on_datagram(b"alive", None)
    assert (await office.ask("status"))["problems"] == []


async def test_the_first_of_two_approvals_is_a_problem_until_the_second_or_a_reason_comes(opened: Opened) -> None:
    office = opened("a")
    office.dispatcher.state = office.dispatcher.state._replace(approvals_needed=2)
    await office.kill()
    office.dispatcher.rearm(office.asked())
    office.journal.deliver_entries()
    (approval,) = office.reports.approvals.to_json()
    problem = shown_as(await office.ask("status"), f"{approval['user']} has approved the re-arm of a")
    assert "1 of 2 people" in problem["text"] and problem["at"] == approval["at"]
    office.fire()
    assert not [each for each in (await office.ask("status"))["problems"] if "approved" in each["text"]]


async def test_a_message_for_an_unknown_trigger_is_a_problem_for_ten_minutes(opened: Opened) -> None:
    office = opened("a")
    office.reload('[triggers.alive]\nkind = "heartbeat"\ntimeout = "3s"\n')
    for _ in range(2):
        office.intake.on_datagram(b'{"beat":"alife","from":"quoter"}', None)
    problem = shown_as(await office.ask("status"), '2 messages for "alife" from quoter ignored: no such trigger')
    assert problem["do"].endswith('did you mean "alive"?') and problem["at"]
    await anyio.sleep(601)
    assert (await office.ask("status"))["problems"] == []


async def test_a_kill_that_was_asked_for_earlier_is_acknowledged_and_carries_its_time(opened: Opened) -> None:
    office, lines = opened("a"), list[Mapping[str, object]]()

    async def acknowledge(line: Mapping[str, object]) -> None:
        assert office.dispatcher.state.phase is Phase.STRIKING  # the kill has left by then
        lines.append(line)

    await anyio.sleep(60)
    caller = ANN._replace(acknowledge=acknowledge)
    asked_ns = running().now().mono_ns - 42_000_000_000
    request = {"reason": "runaway", "acknowledge": True, "asked_mono_ns": asked_ns}
    answer = await office.operators.handlers()["fire"](request, caller)
    (reason,) = cast(list[Mapping[str, Any]], answer["reasons"])
    assert reason["text"].startswith("runaway (asked 42 s before, at ")
    assert reason["evidence"]["asked_at"] < reason["observed_at"]
    assert lines == [{"acknowledged": answer["id"], "accounts": ("a",)}]
    assert late_request.delay({"asked_mono_ns": running().now().mono_ns + 1}, running().now()).evidence == {}


async def test_a_fault_while_problems_are_looked_for_hides_no_other_problem(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = opened("a")
    office.lanes["a"].state = LaneState.DOWN

    def fail() -> tuple[object, ...]:
        raise ValueError("a fault")

    monkeypatch.setattr(office.intake, "ignored_messages", fail)
    status = await office.ask("status")
    assert shown_as(status, "internal error: ValueError") and shown_as(status, "no command would reach the venue")
