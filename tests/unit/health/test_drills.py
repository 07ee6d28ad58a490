"""A drill shows that every lane would carry a kill, in time; it never stands in a kill's way."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from kill_switch.core.domain import Phase, Route, SweepTiming
from kill_switch.core.state import AccountState, State
from kill_switch.errors import AlreadyRunning, KillSwitchError
from kill_switch.health.drills import GAP_S, WITHIN_S, DrillRunner
from kill_switch.venues.messages import Drilled
from tests.harness.dispatcher_harness import BUDGET_US, DispatcherHarness, HttpOnly
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio


# ── one drill ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_lane_of_every_account_is_drilled_at_once() -> None:
    desk = DispatcherHarness("a", "b")
    began_s = anyio.current_time()
    found = await desk.drills.run(("a", "b"), "operator", uid=7)
    assert anyio.current_time() - began_s == pytest.approx(0.005, abs=1e-4)
    assert found["ok"] and found["within_budget"]
    assert (found["by"], found["uid"], found["budget_us"]) == ("operator", 7, BUDGET_US)
    assert found["answered_us"] == pytest.approx(5000, abs=100)
    ws = {"ok": True, "rtt_us": 3000, "within_budget": True, "evidence": "not found, as it must be"}
    account = {"venue": "stub", "ok": True, "skipped": None, "lanes": {"ws": ws, "http": {**ws, "rtt_us": 5000}}}
    assert found["accounts"] == {"a": account, "b": account}


async def test_only_the_accounts_asked_for_are_drilled() -> None:
    desk = DispatcherHarness("a", "b")
    assert list((await desk.drills.run(("b",), "operator"))["accounts"]) == ["b"]
    assert (desk.venues["a"].drills_made, desk.venues["b"].drills_made) == (0, 1)


async def test_a_venue_whose_websocket_carries_no_command_is_drilled_over_http_alone() -> None:
    desk = DispatcherHarness("a", make=HttpOnly)
    found = await desk.drills.run(("a",), "operator")
    assert found["ok"]
    assert list(found["accounts"]["a"]["lanes"]) == ["http"]


async def test_a_lane_that_says_nothing_has_failed_when_the_time_is_up() -> None:
    desk = DispatcherHarness("a")
    desk.venues["a"].after_ms[Route.WS] = None
    began_s = anyio.current_time()
    found = await desk.drills.run(("a",), "operator")
    assert anyio.current_time() - began_s == pytest.approx(WITHIN_S, abs=1e-3)
    assert not found["ok"]
    assert found["answered_us"] is None
    ws = {"ok": False, "rtt_us": None, "within_budget": False, "evidence": f"no answer within {WITHIN_S:g} s"}
    assert found["accounts"]["a"]["lanes"]["ws"] == ws
    assert found["accounts"]["a"]["lanes"]["http"]["ok"]


async def test_a_lane_that_answers_too_late_for_the_budget_is_not_good() -> None:
    desk = DispatcherHarness("a")
    desk.venues["a"].after_ms[Route.HTTP] = 251.0
    found = await desk.drills.run(("a",), "operator")
    lane = found["accounts"]["a"]["lanes"]["http"]
    assert (lane["ok"], lane["within_budget"], lane["rtt_us"]) == (True, False, 251_000)
    assert not found["ok"]
    assert desk.said("warn") == ["drill: a http: 251 ms, over the budget of 250 ms"]


async def test_lanes_that_keep_to_the_budget_while_all_of_them_together_do_not_are_not_good() -> None:
    desk = DispatcherHarness("a")
    running().call_later(0.004, running().stall, 0.3)  # we are slow, not the venue
    found = await desk.drills.run(("a",), "operator")
    assert found["accounts"]["a"]["ok"]
    assert not found["ok"] and not found["within_budget"]
    (said,) = desk.said("warn")
    assert said.startswith("drill: the last lane answered after 30")
    assert list(desk.drills.troubles()) == [said]


async def test_an_answer_that_is_there_before_the_drill_waits_for_it_counts() -> None:
    desk = DispatcherHarness("a", make=HttpOnly)
    session = desk.dispatcher.sessions["a"]
    drilled = Drilled(Route.HTTP, False, 0, "the lane is down")
    desk.venues["a"].drill = lambda now: (drilled,)  # type: ignore[method-assign]
    found = await desk.drills.run(("a",), "operator")
    assert found["accounts"]["a"]["lanes"]["http"]["evidence"] == "the lane is down"
    assert session.status.unexplained_messages == 0


async def test_an_adapter_that_raises_fails_its_own_lanes_drill_only() -> None:
    def fails(now: object) -> Any:
        raise RuntimeError("a bug in one venue")

    desk = DispatcherHarness("a", "b")
    desk.venues["a"].drill = fails  # type: ignore[method-assign]
    found = await desk.drills.run(("a", "b"), "operator")
    assert not found["accounts"]["a"]["ok"]
    assert found["accounts"]["b"]["ok"]


async def test_a_reply_to_an_earlier_drill_is_no_answer() -> None:
    desk = DispatcherHarness("a")
    desk.venues["a"].after_ms[Route.WS] = (WITHIN_S + 0.5) * 1000
    await desk.drills.run(("a",), "operator")
    desk.venues["a"].after_ms[Route.WS] = 800.0  # the answer to the first comes before that
    found = await desk.drills.run(("a",), "operator")
    assert found["accounts"]["a"]["lanes"]["ws"]["rtt_us"] == 800_000


async def test_a_venue_that_was_not_asked_lest_a_kill_lack_its_tokens_has_not_failed() -> None:
    desk = DispatcherHarness("a", "b")
    kept = tuple(Drilled(route, False, 0, "kept for a kill", tried=False) for route in (Route.WS, Route.HTTP))
    desk.venues["a"].drill = lambda now: kept  # type: ignore[method-assign]
    found = await desk.drills.run(("a", "b"), "operator")
    assert found["accounts"]["a"] == {"venue": "stub", "ok": False, "skipped": "kept for a kill", "lanes": {}}
    assert found["accounts"]["b"]["ok"]
    assert desk.said("warn") == []
    assert "a" not in desk.drills.lanes


# ── beside a kill ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_that_is_being_struck_is_left_out_and_the_others_are_drilled() -> None:
    desk = DispatcherHarness("a", "b")
    desk.fire("a")
    found = await desk.drills.run(("a", "b"), "operator")
    skipped = {"venue": "stub", "ok": False, "skipped": "a kill is under way", "lanes": {}}
    assert found["accounts"]["a"] == skipped
    assert found["accounts"]["b"]["ok"]
    assert not found["ok"]
    assert desk.venues["a"].drills_made == 0
    assert desk.said("warn") == []


async def test_while_everything_is_being_struck_there_is_no_drill() -> None:
    desk = DispatcherHarness("a", "b")
    desk.fire()
    with pytest.raises(KillSwitchError, match="no drill now: a kill is under way on a, b"):
        await desk.drills.run(("a", "b"), "operator")
    assert desk.recorder.of("drill") == []
    with pytest.raises(KillSwitchError, match="no drill now"):  # and that is no drill under way
        await desk.drills.run(("a", "b"), "operator")


async def test_a_kill_does_not_wait_for_a_drill_and_the_disturbed_drill_proves_nothing() -> None:
    desk = DispatcherHarness("a", "b")
    desk.venues["a"].after_ms[Route.WS] = None
    sent: list[float] = []

    async def kill() -> None:
        await anyio.sleep(0.001)
        began_s = anyio.current_time()
        desk.fire("a")
        assert "a http POST /cancel-all" in desk.trace
        sent.append(anyio.current_time() - began_s)

    async with anyio.create_task_group() as group:
        group.start_soon(kill)
        found = await desk.drills.run(("a", "b"), "operator")
    assert sent == [0.0]
    assert found["accounts"]["a"]["skipped"] == "a kill came first"
    assert found["accounts"]["b"]["ok"]
    assert not found["ok"]
    assert desk.said("warn") == []
    assert "a" not in desk.drills.lanes


async def test_a_tripped_account_that_is_clear_can_be_drilled() -> None:
    desk = DispatcherHarness("a")
    await desk.kill()
    assert desk.dispatcher.state.accounts["a"].phase is Phase.CLEAR
    assert (await desk.drills.run(("a",), "operator"))["ok"]


# ── two drills ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_second_drill_is_refused_while_the_first_is_under_way() -> None:
    desk = DispatcherHarness("a")
    async with anyio.create_task_group() as group:
        group.start_soon(desk.drills.run, ("a",), "operator")
        await anyio.lowlevel.checkpoint()
        with pytest.raises(AlreadyRunning, match="another drill is under way"):
            await desk.drills.run(("a",), "operator")
    assert desk.venues["a"].drills_made == 1
    assert (await desk.drills.run(("a",), "operator"))["ok"]


async def test_drills_are_spaced_to_save_the_rate_limit_for_a_kill() -> None:
    desk = DispatcherHarness("a")
    began_s = anyio.current_time()
    for _ in range(3):
        await desk.drills.run(("a",), "operator")
    assert anyio.current_time() - began_s >= 2 * GAP_S


async def test_a_drill_that_is_cancelled_leaves_the_way_free() -> None:
    desk = DispatcherHarness("a")
    with anyio.move_on_after(0.001):
        await desk.drills.run(("a",), "operator")
    assert (await desk.drills.run(("a",), "operator"))["ok"]


# ── evidence ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_drill_is_on_record() -> None:
    desk = DispatcherHarness("a")
    found = await desk.drills.run(("a",), "operator", uid=7, user="ann")
    assert desk.recorder.of("drill") == [found]
    assert desk.recorder.flushes


async def test_a_failed_drill_is_announced_each_time_until_a_successful_one_is() -> None:
    desk = DispatcherHarness("a", "b")
    desk.venues["a"].good = False
    failure = "drill: a ws+http: invalid key"
    await desk.drills.run(("a", "b"), "schedule")
    assert list(desk.drills.troubles()) == [failure]
    await desk.drills.run(("b",), "operator")  # a good one of somebody else
    assert list(desk.drills.troubles())
    await desk.drills.run(("a", "b"), "schedule")
    assert desk.said("warn") == [failure, failure]
    desk.venues["a"].good = True
    assert desk.said("info") == []
    await desk.drills.run(("a", "b"), "schedule")
    assert list(desk.drills.troubles()) == []
    assert desk.said("info") == ["drill: every lane answers within the budget again"]
    await desk.drills.run(("a", "b"), "schedule")
    assert len(desk.announced) == 3


async def test_many_failures_are_announced_in_one_line_that_does_not_grow_for_ever() -> None:
    names = tuple(f"mm{number}" for number in range(20))
    desk = DispatcherHarness(*names)
    for venue in desk.venues.values():
        venue.good = False
    await desk.drills.run(names, "schedule")
    (said,) = desk.said("warn")
    assert said.count("invalid key") == 5
    assert said.endswith("; and 15 more")


async def test_the_last_drills_survive_a_restart() -> None:
    desk = DispatcherHarness("a", "b")
    desk.venues["a"].good = False
    await desk.drills.run(("a", "b"), "schedule")
    entries = [{"kind": kind, "data": data} for kind, data in desk.recorder.records]
    again = DrillRunner(
        desk.dispatcher,
        desk.recorder,
        desk.announced.append,
        budget_us=BUDGET_US,
        clock=running().now,
        entries=[{"kind": "start", "data": {}}, *entries],
    )
    assert list(again.troubles()) == list(desk.drills.troubles()) != []
    assert again.last == desk.drills.last
    assert again.lanes == desk.drills.lanes


async def test_a_removed_account_has_no_drill() -> None:
    desk = DispatcherHarness("a", "b")
    desk.venues["a"].good = False
    await desk.drills.run(("a", "b"), "schedule")
    del desk.dispatcher.sessions["a"]
    assert list(desk.drills.troubles()) == []


# ── on schedule ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _keep(desk: DispatcherHarness, seconds: float) -> list[str]:
    """Run the schedule for so long; return when drills were made."""
    with anyio.move_on_after(seconds):
        await desk.drills.run_schedule()
    return [data["at"][11:19] for data in desk.recorder.of("drill")]


async def test_drills_are_made_when_they_are_due() -> None:
    desk = DispatcherHarness("a")
    desk.drills.set_schedule("*/20 * * * *", "UTC")  # it is 22:13:20 UTC
    assert desk.drills.next_due == "2023-11-14T22:20:00+00:00"
    assert await _keep(desk, 3600) == ["22:20:00", "22:40:00", "23:00:00"]
    assert desk.recorder.of("drill")[0]["by"] == "schedule"
    assert desk.drills.next_due == "2023-11-14T23:20:00+00:00"


async def test_the_schedule_is_in_its_own_zone() -> None:
    desk = DispatcherHarness("a")
    desk.drills.set_schedule("0 18 * * *", "America/New_York")  # 23:00 UTC in November
    assert await _keep(desk, 4000) == ["23:00:00"]


async def test_without_a_schedule_no_drill_makes_itself() -> None:
    desk = DispatcherHarness("a")
    assert await _keep(desk, 7200) == []
    desk.drills.set_schedule(None, "UTC")
    assert desk.drills.next_due is None
    assert await _keep(desk, 7200) == []


async def test_a_drill_that_is_due_during_a_kill_is_left_out_and_the_next_is_made() -> None:
    desk = DispatcherHarness("a")
    desk.drills.set_schedule("*/20 * * * *", "UTC")
    desk.fire()  # nobody answers: it stays under way
    assert await _keep(desk, 1300) == []
    desk.dispatcher.state = State({"a": AccountState(SweepTiming())})
    assert await _keep(desk, 1300) == ["22:40:00"]


async def test_another_schedule_takes_effect_at_once() -> None:
    desk = DispatcherHarness("a")
    desk.drills.set_schedule("0 0 1 1 *", "UTC")
    async with anyio.create_task_group() as group:
        group.start_soon(desk.drills.run_schedule)
        await anyio.sleep(10)
        desk.drills.set_schedule("* * * * *", "UTC")
        await anyio.sleep(100)
        group.cancel_scope.cancel()
    assert len(desk.recorder.of("drill")) == 2


async def test_a_drill_whose_time_comes_while_a_reload_keeps_the_schedule_is_made() -> None:
    desk = DispatcherHarness("a")
    desk.drills.set_schedule("*/20 * * * *", "UTC")
    await anyio.sleep(399.99)
    running().stall(0.03)
    desk.drills.set_schedule("*/20 * * * *", "UTC")
    assert await _keep(desk, 1) == ["22:20:00"]


async def test_a_wall_clock_that_jumps_over_several_drills_makes_one() -> None:
    desk = DispatcherHarness("a")
    desk.drills.set_schedule("*/20 * * * *", "UTC")
    running().jump_wall(7200)
    assert await _keep(desk, 60) == ["00:13:20"]


async def test_a_wall_clock_that_was_ahead_when_the_schedule_began_loses_no_drill() -> None:
    desk = DispatcherHarness("a")
    running().jump_wall(7 * 86400)
    desk.drills.set_schedule("*/20 * * * *", "UTC")
    async with anyio.create_task_group() as group:
        group.start_soon(desk.drills.run_schedule)
        await anyio.sleep(1.5)
        running().jump_wall(-7 * 86400)
        await anyio.sleep(1.5)
        assert desk.drills.next_due == "2023-11-14T22:20:00+00:00"
        await anyio.sleep(3600)
        group.cancel_scope.cancel()
    assert len(desk.recorder.of("drill")) == 3


async def test_a_wall_clock_that_is_set_back_makes_no_drill_twice_a_reload_or_not() -> None:
    desk = DispatcherHarness("a")
    desk.drills.set_schedule("*/20 * * * *", "UTC")
    assert await _keep(desk, 500) == ["22:20:00"]
    running().jump_wall(-300)
    desk.drills.set_schedule("*/20 * * * *", "UTC")
    assert await _keep(desk, 600) == ["22:20:00"]
    assert desk.drills.next_due == "2023-11-14T22:40:00+00:00"


async def test_a_drill_has_the_days_of_crontab() -> None:
    desk = DispatcherHarness("a")
    desk.drills.set_schedule("0 0 15 * fri", "UTC")
    assert desk.drills.next_due == "2023-11-15T00:00:00+00:00"
