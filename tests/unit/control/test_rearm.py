"""A reason always wins over a re-arm that is under way, however the two meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from kill_switch.control.handlers import PROVE_WITHIN_S
from kill_switch.core.commands import RearmGranted
from kill_switch.core.domain import LaneState, Phase, SweepTiming
from kill_switch.core.events import Reconfigured
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.order_rate import OrderRateTrigger
from tests.harness.control_harness import ControlHarness, Opened
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio


async def rearm(
    office: ControlHarness, answers: Mapping[str, bool], *then: str, force: bool = False
) -> Mapping[str, Any]:
    """Ask for a re-arm; meanwhile a reason comes for the accounts in `then`, and venues answer as `answers` says."""
    found: list[Mapping[str, Any]] = []

    async def ask() -> None:
        found.append(await office.ask("rearm", reason="all well", force=force))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.sleep(0.02)
        if then:
            office.fire(*then)
        while not found:
            office.answer(only=[name for name, answering in answers.items() if answering])
            await anyio.sleep(0.02)
    return found[0]


async def test_a_clear_account_is_read_once_more_and_re_armed(opened: Opened) -> None:
    office = opened("a")
    await office.kill()
    assert await rearm(office, {"a": True}) == {"rearmed": ("a",)}
    assert office.dispatcher.state.phase is Phase.ARMED


async def test_a_read_that_waits_for_its_venues_limit_is_waited_for(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = opened("a")
    await office.kill()
    account = office.dispatcher.state.accounts["a"]
    assert account.sweep is not None
    rare = replace(account.timing, guard_every_s=60.0)
    changed = account._replace(timing=rare, sweep=account.sweep._replace(timing=rare))
    office.dispatcher.state = office.dispatcher.state._replace(accounts={"a": changed})
    await anyio.sleep(account.timing.guard_every_s)  # the guard's read that was due before
    office.answer()
    room_ns = running().now().mono_ns + int((PROVE_WITHIN_S + 2) * 1e9)
    limits = office.dispatcher.sessions["a"].venue.limits
    monkeypatch.setattr(limits, "first_read_wait_s", lambda now: max(0.0, (room_ns - now.mono_ns) / 1e9))
    assert await rearm(office, {"a": True}) == {"rearmed": ("a",)}
    assert running().now().mono_ns >= room_ns


async def test_a_reason_that_comes_while_it_is_read_and_is_clear_again_at_once_still_holds(opened: Opened) -> None:
    office = opened("a", "b")
    await office.kill()
    found = await rearm(office, {"a": True, "b": False}, "a")  # b's answer keeps the re-arm waiting while a is swept
    why = ["a: a reason was reported after this was asked for", "b could not be read just now: nobody knows"]
    assert found["exit"] == 1
    assert [one.startswith(begins) for one, begins in zip(found["why"], why, strict=True)] == [True, True]
    assert office.dispatcher.state.accounts["a"].phase is Phase.CLEAR
    assert office.dispatcher.state.tripped == ("a", "b")


async def test_it_holds_against_force_too(opened: Opened) -> None:
    office = opened("a", "b")
    await office.kill()
    found = await rearm(office, {"a": True, "b": False}, "a", force=True)
    assert found["why"] == ("a: a reason was reported after this was asked for",)
    assert office.dispatcher.state.tripped == ("a", "b")


async def test_an_account_that_is_tripped_only_meanwhile_is_not_re_armed_along(opened: Opened) -> None:
    office = opened("a", "b", "c")
    await office.kill("a", "b")
    found = await rearm(office, {"a": True, "b": False, "c": True}, "c", force=True)
    assert found["why"] == ("c: a reason was reported after this was asked for",)
    assert "c" in office.dispatcher.state.tripped


async def test_while_it_is_being_struck_it_says_so_as_well(opened: Opened) -> None:
    office = opened("a", "b")
    await office.kill()
    found = await rearm(office, {}, "a")
    assert found["why"][0] == "a: a reason was reported after this was asked for"
    assert "a is STRIKING" in found["why"][1] or "a is CONFIRMING" in found["why"][1]


async def test_asked_once_more_after_that_reason_is_clear_it_is_granted(opened: Opened) -> None:
    office = opened("a", "b")
    await office.kill()
    await rearm(office, {"a": True, "b": False}, "a")
    assert await rearm(office, {"a": True, "b": True}) == {"rearmed": ("a", "b")}


async def test_a_venue_that_does_not_answer_keeps_it_waiting_for_a_bound_time(opened: Opened) -> None:
    office = opened("a")
    await office.kill()
    began_s = anyio.current_time()
    found = await rearm(office, {})
    assert anyio.current_time() - began_s == pytest.approx(PROVE_WITHIN_S, abs=0.1)
    assert "could not be read just now" in found["why"][0]


async def test_a_venue_that_is_slow_to_answer_has_as_long_as_its_answers_took_lately(opened: Opened) -> None:
    office = opened("a")
    await office.kill()
    account = office.dispatcher.state.accounts["a"]
    assert account.sweep is not None
    slow = account._replace(sweep=account.sweep._replace(longest_rtt_ns=5_000_000_000))
    office.dispatcher.state = office.dispatcher.state._replace(accounts={"a": slow})
    found: list[Mapping[str, Any]] = []

    async def ask() -> None:
        found.append(await office.ask("rearm", reason="all well"))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.sleep(5.0)
        office.answer()
    assert found == [{"rearmed": ("a",)}]


# ── a reload that comes meanwhile ─────────────────────────────────────────────────────────────────────────────────


async def reloaded(
    office: ControlHarness, answers: Mapping[str, bool], reload: Callable[[], object]
) -> Mapping[str, Any]:
    """Ask for a re-arm; `reload` happens while the accounts are read once more."""
    found: list[Mapping[str, Any]] = []

    async def ask() -> None:
        found.append(await office.ask("rearm", reason="all well"))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.sleep(0.02)
        reload()
        while not found:
            office.answer(only=[name for name, answering in answers.items() if answering])
            await anyio.sleep(0.02)
    return found[0]


async def test_a_trigger_that_a_reload_has_begun_meanwhile_is_asked_too(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kill_switch.triggers.flag.trigger.LOOK_WITHIN_S", 3600.0)  # a thread looks, in real time
    office = opened("a")
    flag = tmp_path / "KILL"
    flag.touch()
    await office.kill()
    found = await reloaded(
        office, {"a": True}, lambda: office.reload(f'[triggers.panic]\nkind = "flag"\npath = "{flag}"\n')
    )
    assert found["why"] == (f"trigger panic: {flag} is still there: remove it",)
    assert office.dispatcher.state.tripped == ("a",)


async def test_a_re_arm_restarts_the_present_trigger_and_force_overrides_its_blindness(
    opened: Opened,
) -> None:
    office = opened("a")
    await office.kill()
    begun = '[triggers.rate]\nkind = "order-rate"\nmax_new = 5\nwindow = "1s"\non_blind = "alarm"\n'
    triggers: list[OrderRateTrigger] = []

    def reload() -> None:
        office.reload(begun)
        trigger = office.watch.triggers["rate"]
        assert isinstance(trigger, OrderRateTrigger)
        trigger._fired = "it has fired for what came meanwhile"
        triggers.append(trigger)

    found = await reloaded(office, {"a": True}, reload)
    unseen = "its orders have not been seen for 1 s; look there, then use --force"
    assert found["why"] == (f"trigger rate: cannot see whether a has too many orders: {unseen}",)
    assert triggers[0].state()[0] is TriggerState.TRIPPED
    assert await rearm(office, {"a": True}, force=True) == {"rearmed": ("a",)}
    assert triggers[0].state()[0] is not TriggerState.TRIPPED


async def test_the_trigger_that_starts_over_is_the_present_one_though_a_reload_comes_while_the_disk_is_awaited(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = opened("a")
    beat = '[triggers.beat]\nkind = "heartbeat"\ntimeout = "{}"\n'
    office.reload(beat.format("3s"))
    trigger = office.watch.triggers["beat"]
    assert isinstance(trigger, HeartbeatTrigger)
    trigger._fired = True
    await office.kill()

    async def record(within_s: float = 0.0) -> bool:
        office.reload(beat.format("5s"))
        return True

    monkeypatch.setattr(office.operators, "_recorded", record)
    assert await rearm(office, {"a": True}) == {"rearmed": ("a",)}
    assert office.watch.states()["beat"][0] is TriggerState.WAITING


async def test_an_account_whose_session_is_a_new_one_since_then_has_not_been_read(opened: Opened) -> None:
    office = opened("a")
    await office.kill()
    paces = {"a": SweepTiming()}

    def reload() -> None:
        office.dispatcher.reconfigure(Reconfigured(paces, frozenset("a"), 1, running().now()), office.anew("a"))

    found = await reloaded(office, {"a": False}, reload)
    assert "a could not be read just now" in found["why"][0]


async def test_more_approvals_that_a_reload_wants_hold_for_a_re_arm_that_is_under_way(opened: Opened) -> None:
    office = opened("a")
    await office.kill()

    def reload() -> None:
        office.dispatcher.reconfigure(Reconfigured({"a": SweepTiming()}, frozenset(), 2, running().now()), {})

    found = await reloaded(office, {"a": True}, reload)
    assert (found["exit"], found["error"]) == (
        75,
        "1 of 2 people have approved: another person must type the same command",
    )


async def test_an_account_that_is_re_armed_and_taken_away_meanwhile_is_refused_in_words(opened: Opened) -> None:
    office = opened("a", "b")
    await office.kill()

    def reload() -> None:
        assert office.dispatcher.rearm(office.asked("b")) == RearmGranted(("b",))
        office.dispatcher.reconfigure(Reconfigured({"a": SweepTiming()}, frozenset(), 1, running().now()), {})

    found = await reloaded(office, {"a": True}, reload)
    assert found["error"] == "not re-armed: it names an account that is not there"
    assert office.dispatcher.state.tripped == ("a",)


async def test_who_waits_for_a_kill_hears_of_it_though_an_account_has_gone_meanwhile(opened: Opened) -> None:
    office = opened("a", "b")
    found: list[Mapping[str, Any]] = []

    async def fire() -> None:
        found.append(await office.ask("fire", reason="a test", wait_s=10))

    async with anyio.create_task_group() as group:
        group.start_soon(fire)
        await anyio.sleep(0.02)
        while office.dispatcher.state.accounts["b"].phase is not Phase.CLEAR:
            office.answer(only=["b"])
            await anyio.sleep(0.02)
        assert office.dispatcher.rearm(office.asked("b")) == RearmGranted(("b",))
        office.dispatcher.reconfigure(Reconfigured({"a": SweepTiming()}, frozenset(), 1, running().now()), {})
        office.operators.notify_changed()
        while not found:
            office.answer()
            office.operators.notify_changed()
            await anyio.sleep(0.02)
    assert sorted(found[0]["accounts"]) == ["a", "b"]


@pytest.mark.parametrize(("on_blind", "refused"), [("fire", True), ("alarm", False)])
async def test_a_blind_trigger_that_fires_on_blindness_refuses_the_re_arm(
    opened: Opened, on_blind: str, refused: bool
) -> None:
    office = opened("a")
    await office.kill()
    office.reload(f'[triggers.beat]\nkind = "heartbeat"\ntimeout = "3s"\non_blind = "{on_blind}"\n')
    office.watch.triggers["beat"].state = lambda: (TriggerState.BLIND, "it sees nothing")  # type: ignore[method-assign]
    found = await rearm(office, {"a": True})
    why = 'trigger beat: it is blind, and has on_blind = "fire": it sees nothing'
    assert found.get("why") == ((why,) if refused else None)
    assert (office.dispatcher.state.phase is Phase.ARMED) is not refused


async def test_force_overrides_a_blind_trigger(opened: Opened) -> None:
    office = opened("a")
    await office.kill()
    office.reload(
        '[triggers.loss]\nkind = "pnl"\ncurrency = "OX"\nfloor = "8"\nreset = "00:00 UTC"\non_blind = "alarm"\n'
    )
    (why,) = (await rearm(office, {"a": True}))["why"]
    assert why.startswith("trigger loss: cannot see whether equity is above the floor 8: ") and "--force" in why
    assert await rearm(office, {"a": True}, force=True) == {"rearmed": ("a",)}


# ── triggers over several accounts ────────────────────────────────────────────────────────────────────────────────

LINK = '[triggers.lost]\nkind = "link"\ntimeout = "10s"\non_blind = "fire"\n'
RATE = '[triggers.runaway]\nkind = "order-rate"\nmax_new = 3\nwindow = "10s"\non_blind = "fire"\n'


@asynccontextmanager
async def guarded(office: ControlHarness, triggers: str) -> AsyncIterator[None]:
    """Have these triggers watch, from a moment on at which all is well."""
    office.reload(triggers)
    async with anyio.create_task_group() as group:
        group.start_soon(office.watch.stall_clock.run)
        for trigger in office.watch.triggers.values():
            group.start_soon(office.watch.run, trigger)
        await anyio.sleep(12)
        yield
        group.cancel_scope.cancel()


async def attend(office: ControlHarness, seconds: float) -> None:
    """Let time go by, in which the venues answer."""
    for _ in range(int(seconds / 0.05)):
        office.answer()
        await anyio.sleep(0.05)


async def rearm_of(office: ControlHarness, *accounts: str) -> Mapping[str, Any]:
    """Ask for a re-arm of these accounts, whose venues answer."""
    found: list[Mapping[str, Any]] = []

    async def ask() -> None:
        found.append(await office.ask("rearm", reason="all well", scope=list(accounts)))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        while not found:
            await anyio.sleep(0.02)
            office.answer()
    return found[0]


async def test_a_link_holds_the_account_that_is_down_and_no_other(opened: Opened) -> None:
    office = opened("a", "b")
    async with guarded(office, LINK):
        office.lanes["a"].state = LaneState.DOWN
        await attend(office, 11)
        assert office.dispatcher.state.tripped == ("a",)
        office.fire("b")
        await office.settle()
        assert await rearm_of(office, "b") == {"rearmed": ("b",)}
        refused = await rearm_of(office, "a")  # the re-arm of b is none of a
        assert any("a cannot be reached; it would fire again" in why for why in refused["why"])
        assert any("lost" in why for why in (await rearm_of(office, "a", "b"))["why"])
        await attend(office, 30)
        assert office.dispatcher.state.tripped == ("a",)
        office.lanes["a"].state = LaneState.UP
        assert await rearm_of(office, "a") == {"rearmed": ("a",)}


async def test_an_account_whose_orders_are_not_seen_holds_no_other(opened: Opened) -> None:
    office = opened("a", "b")
    for venue in office.venues.values():
        venue.show()
    async with guarded(office, RATE):
        (rate,) = office.watch.triggers.values()
        assert isinstance(rate, OrderRateTrigger)
        office.lanes["a"].state = LaneState.DOWN
        await anyio.sleep(1)
        assert list(office.watch.rearm_blockers({"b"})) == []
        assert "cannot see whether a has too many orders" in next(office.watch.rearm_blockers({"a", "b"}))
        await anyio.sleep(10)
        assert rate.state()[0] is TriggerState.BLIND
        assert list(office.watch.rearm_blockers({"b"}, force=True)) == []
        assert "on_blind" in next(office.watch.rearm_blockers({"a"}, force=True))


async def test_an_account_that_has_too_many_orders_holds_no_other_and_fires_no_second_time(opened: Opened) -> None:
    office = opened("a", "b")
    for venue in office.venues.values():
        venue.show()
    async with guarded(office, RATE):
        (rate,) = office.watch.triggers.values()
        assert isinstance(rate, OrderRateTrigger)
        for number in range(5):
            rate.on_order_placed("a", str(number))
        await anyio.sleep(0.2)
        await office.settle()
        assert office.dispatcher.state.tripped == ("a", "b")
        assert await rearm_of(office, "b") == {"rearmed": ("b",)}
        assert rate.state()[0] is TriggerState.TRIPPED
        rate.on_order_placed("a", "another one, by the algorithm that runs away")
        await anyio.sleep(0.2)
        assert list(office.dispatcher.state.tripped) == ["a"]
        assert any("6 new orders" in why or "(a)" in why for why in (await rearm_of(office, "a"))["why"])
        for number in range(5):
            rate.on_order_placed("b", f"b{number}")
        await anyio.sleep(0.2)
        assert office.dispatcher.state.tripped == ("a", "b")
