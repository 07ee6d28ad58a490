"""Rows of docs/guides/triggers that no other test shows: flags and links when clocks and processes do not go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from kill_switch.core.domain import LaneState, Reason
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.flag import trigger as flag
from kill_switch.triggers.flag.trigger import FlagTrigger
from tests.deterministic.year.world import Inline
from tests.harness.dispatch_doubles import Lane
from tests.harness.supervised_triggers import watching
from tests.harness.virtual_time import running
from tests.unit.triggers.test_link import Lanes

pytestmark = pytest.mark.anyio
LINK = '[triggers.lost]\nkind = "link"\ntimeout = "10s"\naccounts = ["a"]\n'


# ── flag ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def pressing(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[FlagTrigger, list[Reason]]]:
    """Watch a flag in virtual time; its file system answers at once."""
    monkeypatch.setattr(flag, "OffloadThread", Inline)
    reasons: list[Reason] = []
    trigger = FlagTrigger("panic", ("a",), path, clock=running().now)
    async with anyio.create_task_group() as group:
        group.start_soon(trigger.run, reasons.append)
        await anyio.sleep(1.0)
        yield trigger, reasons
        group.cancel_scope.cancel()


@pytest.mark.parametrize("jump_s", [-86400.0, -1.0, 1.0, 86400.0])
async def test_a_clock_that_jumps_neither_fires_a_flag_nor_hides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    async with pressing(tmp_path / "KILL", monkeypatch) as (trigger, reasons):
        running().jump_wall(jump_s)
        await anyio.sleep(5.0)
        assert reasons == []
        trigger.path.touch()
        await anyio.sleep(0.1)
        assert len(reasons) == 1


async def test_a_flag_touched_while_the_process_is_stopped_fires_when_it_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pressing(tmp_path / "KILL", monkeypatch) as (trigger, reasons):
        trigger.path.touch()
        running().stall(3600.0)
        await anyio.sleep(0.1)
        assert len(reasons) == 1


async def test_a_flag_that_is_there_after_a_restart_fires_again_though_it_has_fired_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        async with pressing(tmp_path / "KILL", monkeypatch) as (trigger, reasons):
            trigger.path.touch()
            await anyio.sleep(0.1)
            assert len(reasons) == 1


# ── link ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_with_one_lane_up_is_reached(tmp_path: Path) -> None:
    async with watching(tmp_path, LINK) as watched:
        http = Lane("a", [])
        watched.floor.connect("a", watched.floor.venues["a"], http=http)
        await anyio.sleep(1.0)
        http.state = LaneState.DOWN
        await anyio.sleep(60.0)
        assert watched.tripped() == ()
        watched.floor.lanes["a"].state = LaneState.CONNECTING
        await anyio.sleep(11.0)
        assert watched.tripped() == ("a",)


async def test_a_machine_that_sleeps_and_a_clock_that_is_set_do_not_count_for_a_link() -> None:
    lanes = Lanes()
    plan = ((1.0, lanes.set("a", False)), (2.0, lambda: running().jump_wall(8 * 3600.0)))
    assert await lanes.watch(10.0, *plan) == []
    running().jump_wall(-8 * 3600.0)
    assert len(await lanes.watch(2.0)) == 1


async def test_after_a_restart_an_account_has_to_be_reached_before_it_can_be_lost(tmp_path: Path) -> None:
    async with watching(tmp_path, LINK) as watched:
        await anyio.sleep(1.0)
        watched.floor.lanes["a"].state = LaneState.DOWN
        await anyio.sleep(5.0)
    async with watching(tmp_path, LINK) as again:
        again.floor.lanes["a"].state = LaneState.DOWN
        await anyio.sleep(60.0)
        assert again.tripped() == ()
        state = again.watch.states()["lost"]
        assert state == (TriggerState.WAITING, "waits until a can be reached for the first time")


async def test_an_account_that_was_never_reached_is_not_called_well_because_another_one_is() -> None:
    lanes = Lanes()
    lanes.up["b"] = False
    assert await lanes.watch(60.0) == []
    assert lanes.trigger.state() == (TriggerState.WAITING, "waits until b can be reached for the first time")
    (reason,) = await lanes.watch(15.0, (1.0, lanes.set("a", False)))
    assert reason.accounts == ("a",)
