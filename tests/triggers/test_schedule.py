"""A schedule fires at its wall time, in its zone, once; a time that was missed is not lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import anyio
import pytest

from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.schedule import Schedule
from tests.triggers.stage import watch
from tests.virtual_time import START, running

pytestmark = pytest.mark.anyio

BEGIN = datetime.fromtimestamp(START.wall_ns / 1e9, UTC)  # Tuesday 2023-11-14 22:13:20 UTC
WEEK_S = 7 * 86400.0


def schedule(
    cron: str, zone: str = "UTC", missed: Literal["fire", "skip"] = "fire", seen: datetime | None = None
) -> Schedule:
    return Schedule("s", ("mm1",), cron, zone, missed, clock=lambda: running().now(), seen=seen)


async def test_it_fires_at_its_time_and_not_before() -> None:
    trigger = schedule("30 22 * * *")
    assert await watch(trigger, 999.0) == []
    assert trigger.condition()[0] is TriggerState.OK
    (reason,) = await watch(trigger, 2.0)
    assert reason.evidence["due"] == "2023-11-14T22:30:00+00:00"
    assert reason.evidence["late_s"] == 0
    assert reason.accounts == ("mm1",)
    assert trigger.condition()[0] is TriggerState.TRIPPED


async def test_it_fires_once_a_time_and_again_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.triggers.schedule.LOOK_EVERY_S", 3600.0)  # a fortnight has many seconds
    reasons = await watch(schedule("55 16 * * fri", "America/New_York"), 2 * WEEK_S)
    assert [reason.evidence["due"] for reason in reasons] == [
        "2023-11-17T16:55:00-05:00",
        "2023-11-24T16:55:00-05:00",
    ]


async def test_the_zones_summer_time_is_its_own() -> None:
    trigger = schedule("55 16 * * fri", "America/New_York", seen=datetime(2024, 3, 9, tzinfo=UTC))
    assert "2024-03-15T16:55:00-04:00" in trigger.condition()[1]


@pytest.mark.parametrize(("missed", "fires"), [("fire", 1), ("skip", 0)])
async def test_a_time_that_passed_while_it_was_down_fires_only_where_that_is_asked(
    missed: Literal["fire", "skip"], fires: int
) -> None:
    trigger = schedule("0 22 * * *", missed=missed, seen=BEGIN - timedelta(hours=1))
    reasons = await watch(trigger, 1.0)
    assert len(reasons) == fires
    assert all("missed by 800 s" in reason.text for reason in reasons)


async def test_a_week_that_was_missed_fires_once() -> None:
    assert len(await watch(schedule("0 22 * * *", seen=BEGIN - timedelta(days=7)), 60.0)) == 1


async def test_a_wall_clock_that_is_set_forward_over_the_time_fires() -> None:
    trigger = schedule("30 22 * * *")
    async with anyio.create_task_group() as group:

        async def jump() -> None:
            await anyio.sleep(10)
            running().jump_wall(3600)

        group.start_soon(jump)
        reasons = await watch(trigger, 12.0)
    assert len(reasons) == 1


async def test_a_wall_clock_that_is_set_back_does_not_fire_the_same_time_twice() -> None:
    trigger = schedule("30 22 * * *")
    assert len(await watch(trigger, 1010.0)) == 1
    running().jump_wall(-600)
    assert await watch(trigger, 1200.0) == []


async def test_a_rearm_waits_for_the_next_time() -> None:
    trigger = schedule("30 22 * * *")
    await watch(trigger, 1010.0)
    assert trigger.against_rearm() is None
    trigger.reset()
    assert trigger.condition() == (TriggerState.OK, "next: 2023-11-15T22:30:00+00:00")
