"""A reason always wins over a re-arm that is under way, however the two meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from kill_switch.domain import Pace, Phase
from kill_switch.engine import Granted, Reconfigured
from kill_switch.operators import PROVE_WITHIN_S
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.order_rate import OrderRate
from tests.operators.office import Office, Opened
from tests.virtual_time import running

pytestmark = pytest.mark.anyio


async def rearm(office: Office, answers: Mapping[str, bool], *then: str, force: bool = False) -> Mapping[str, Any]:
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
    slow = account._replace(sweep=account.sweep._replace(rtt_ns=5_000_000_000))
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


async def reloaded(office: Office, answers: Mapping[str, bool], reload: Callable[[], object]) -> Mapping[str, Any]:
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
    monkeypatch.setattr("kill_switch.triggers.flag.LOOK_WITHIN_S", 3600.0)  # a thread looks, in real time
    office = opened("a")
    flag = tmp_path / "KILL"
    flag.touch()
    await office.kill()
    found = await reloaded(
        office, {"a": True}, lambda: office.reload(f'[triggers.panic]\nkind = "flag"\npath = "{flag}"\n')
    )
    assert found["why"] == (f"trigger panic: {flag} is still there: remove it",)
    assert office.dispatcher.state.tripped == ("a",)


async def test_the_trigger_that_starts_over_is_the_one_that_is_there_now_and_force_does_for_what_it_cannot_see(
    opened: Opened,
) -> None:
    office = opened("a")
    await office.kill()
    begun = '[triggers.rate]\nkind = "order-rate"\nmax_new = 5\nwindow = "1s"\non_blind = "alarm"\n'
    triggers: list[OrderRate] = []

    def reload() -> None:
        office.reload(begun)
        trigger = office.watch.triggers["rate"]
        assert isinstance(trigger, OrderRate)
        trigger._fired = "it has fired for what came meanwhile"
        triggers.append(trigger)

    found = await reloaded(office, {"a": True}, reload)
    unseen = "its orders have not been seen for 1 s; look there, then use --force"
    assert found["why"] == (f"trigger rate: cannot see whether a has too many orders: {unseen}",)
    assert triggers[0].condition()[0] is TriggerState.TRIPPED
    assert await rearm(office, {"a": True}, force=True) == {"rearmed": ("a",)}
    assert triggers[0].condition()[0] is not TriggerState.TRIPPED


async def test_an_account_whose_session_is_a_new_one_since_then_has_not_been_read(opened: Opened) -> None:
    office = opened("a")
    await office.kill()
    paces = {"a": Pace()}

    def reload() -> None:
        office.dispatcher.reconfigure(Reconfigured(paces, frozenset("a"), 1, running().now()), office.anew("a"))

    found = await reloaded(office, {"a": False}, reload)
    assert "a could not be read just now" in found["why"][0]


async def test_more_approvals_that_a_reload_wants_hold_for_a_re_arm_that_is_under_way(opened: Opened) -> None:
    office = opened("a")
    await office.kill()

    def reload() -> None:
        office.dispatcher.reconfigure(Reconfigured({"a": Pace()}, frozenset(), 2, running().now()), {})

    found = await reloaded(office, {"a": True}, reload)
    assert (found["exit"], found["error"]) == (75, "1 of 2 people have approved: another person must say the same")


async def test_an_account_that_is_re_armed_and_taken_away_meanwhile_is_refused_in_words(opened: Opened) -> None:
    office = opened("a", "b")
    await office.kill()

    def reload() -> None:
        assert office.dispatcher.rearm(office.asked("b")) == Granted(("b",))
        office.dispatcher.reconfigure(Reconfigured({"a": Pace()}, frozenset(), 1, running().now()), {})

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
        assert office.dispatcher.rearm(office.asked("b")) == Granted(("b",))
        office.dispatcher.reconfigure(Reconfigured({"a": Pace()}, frozenset(), 1, running().now()), {})
        office.operators.changed()
        while not found:
            office.answer()
            office.operators.changed()
            await anyio.sleep(0.02)
    assert sorted(found[0]["accounts"]) == ["a", "b"]


@pytest.mark.parametrize(("on_blind", "refused"), [("fire", True), ("alarm", False)])
async def test_a_trigger_to_which_blindness_is_a_reason_stands_against_it_while_it_is_blind(
    opened: Opened, on_blind: str, refused: bool
) -> None:
    office = opened("a")
    await office.kill()
    office.reload(f'[triggers.beat]\nkind = "heartbeat"\ntimeout = "3s"\non_blind = "{on_blind}"\n')
    office.watch.triggers["beat"].condition = lambda: (TriggerState.BLIND, "it sees nothing")  # type: ignore[method-assign]
    found = await rearm(office, {"a": True})
    why = 'trigger beat: it is blind, and has on_blind = "fire": it sees nothing'
    assert found.get("why") == ((why,) if refused else None)
    assert (office.dispatcher.state.phase is Phase.ARMED) is not refused


async def test_force_lifts_what_a_trigger_cannot_see(opened: Opened) -> None:
    office = opened("a")
    await office.kill()
    office.reload(
        '[triggers.loss]\nkind = "pnl"\ncurrency = "OX"\nfloor = "8"\nreset = "00:00 UTC"\non_blind = "alarm"\n'
    )
    (why,) = (await rearm(office, {"a": True}))["why"]
    assert why.startswith("trigger loss: cannot see whether equity is above the floor 8: ") and "--force" in why
    assert await rearm(office, {"a": True}, force=True) == {"rearmed": ("a",)}
