"""A reason always wins over a re-arm that is under way, however the two meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from kill_switch.domain import Phase
from kill_switch.operators import PROVE_WITHIN_S
from tests.operators.office import Office, Opened

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
