"""A schedule fires at its wall time, in its zone, once; a time that was missed is not lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio
import pytest

from kill_switch.journal.records import ScheduleRecord, Unreadable, read
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.schedule import ScheduleTrigger
from tests.harness.trigger_run import watch
from tests.harness.virtual_time import START, running

pytestmark = pytest.mark.anyio

BEGIN = datetime.fromtimestamp(START.wall_ns / 1e9, UTC)  # Tuesday 2023-11-14 22:13:20 UTC
WEEK_S = 7 * 86400.0


def schedule(
    cron: str, zone: str = "UTC", missed: Literal["fire", "skip"] = "fire", seen: datetime | None = None
) -> ScheduleTrigger:
    return ScheduleTrigger("s", ("mm1",), cron, zone, missed, clock=lambda: running().now(), seen=seen)


def _recorded(datas: list[dict[str, Any]]) -> ScheduleRecord | None:
    record = read("schedule", datas[-1]) if datas else None
    return record if isinstance(record, ScheduleRecord) else None


async def test_it_fires_at_its_time_and_not_before() -> None:
    trigger = schedule("30 22 * * *")
    assert await watch(trigger, 999.0) == []
    assert trigger.state()[0] is TriggerState.OK
    (reason,) = await watch(trigger, 2.0)
    assert reason.evidence["due"] == "2023-11-14T22:30:00+00:00"
    assert reason.evidence["late_s"] == 0
    assert reason.accounts == ("mm1",)
    assert trigger.state()[0] is TriggerState.TRIPPED


async def test_it_fires_once_a_time_and_again_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.triggers.schedule.LOOK_EVERY_S", 3600.0)  # a fortnight has many seconds
    reasons = await watch(schedule("55 16 * * fri", "America/New_York"), 2 * WEEK_S)
    assert [reason.evidence["due"] for reason in reasons] == [
        "2023-11-17T16:55:00-05:00",
        "2023-11-24T16:55:00-05:00",
    ]


async def test_the_zones_summer_time_is_its_own() -> None:
    running().jump_wall((datetime(2024, 3, 9, tzinfo=UTC) - BEGIN).total_seconds())
    trigger = schedule("55 16 * * fri", "America/New_York")
    assert trigger.state() == (TriggerState.OK, "next: 2024-03-15T16:55:00-04:00")


async def test_a_day_of_the_month_and_a_day_of_the_week_both_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.triggers.schedule.LOOK_EVERY_S", 3600.0)
    reasons = await watch(schedule("55 16 15,20 * fri"), WEEK_S)
    assert [str(reason.evidence["due"])[8:10] for reason in reasons] == ["15", "17", "20"]


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


async def run_over(
    seconds: float, jump: Callable[[float], None], missed: Literal["fire", "skip"], cron: str = "30 22 * * *"
) -> ScheduleTrigger:
    """Watch 22:30 from 22:13 on; lose some seconds from 22:29 on; return the trigger at the end of the next minute."""
    trigger = schedule(cron, missed=missed)
    assert await watch(trigger, 940.0) == []
    jump(seconds)
    await watch(trigger, 60.0)
    return trigger


@pytest.mark.parametrize(
    "lost", ["stall", "jump_wall"]
)  # SIGSTOP; a suspend, in which the monotonic clock stands still
async def test_skip_holds_for_a_time_during_a_stop_of_the_process_or_the_machine(lost: str) -> None:
    trigger = await run_over(3600.0, getattr(running(), lost), "skip")
    state, detail = trigger.state()
    assert state is TriggerState.OK
    assert detail.startswith("left out: scheduled for 2023-11-14T22:30:00+00:00, missed by 35")
    assert detail.endswith("; next: 2023-11-15T22:30:00+00:00")


@pytest.mark.parametrize("missed", ["fire", "skip"])
@pytest.mark.parametrize("lost", ["stall", "jump_wall"])
async def test_a_time_that_is_noticed_within_a_minute_is_not_missed(lost: str, missed: Literal["fire", "skip"]) -> None:
    trigger = await run_over(110.0, getattr(running(), lost), missed)
    assert trigger.state()[0] is TriggerState.TRIPPED


async def test_of_several_missed_times_the_latest_is_reported() -> None:
    trigger = await run_over(3600.0, running().stall, "fire", "30,45 22,23 * * *")
    assert "fired: scheduled for 2023-11-14T22:45:00+00:00, missed by" in trigger.state()[1]


async def test_a_fired_time_is_on_record_and_does_not_fire_again_after_a_restart_with_the_clock_set_back() -> None:
    records: list[dict[str, Any]] = []

    def begin(*past: ScheduleRecord, last: datetime | None = None) -> ScheduleTrigger:
        return ScheduleTrigger(
            *("s", ("mm1",), "30 22 * * *", "UTC", "fire"),
            clock=lambda: running().now(),
            record=lambda data: records.append(dict(data)),
            past=past[-1] if past else None,
            last=last,
        )

    assert len(await watch(begin(), 1010.0)) == 1
    (data,) = records
    record = read("schedule", data)
    assert isinstance(record, ScheduleRecord)
    fired_at = datetime.fromtimestamp(running().now().wall_ns / 1e9, UTC)
    running().jump_wall(-3600)
    again = begin(record, last=fired_at)
    assert again.state() == (TriggerState.OK, "next: 2023-11-15T22:30:00+00:00")
    assert await watch(again, 7200.0) == []


@pytest.mark.long
@pytest.mark.parametrize("down", [False, True])
async def test_a_time_fired_by_a_clock_days_ahead_comes_again_after_a_restart(down: bool) -> None:
    records: list[dict[str, Any]] = []

    def begin(last: datetime | None = None) -> ScheduleTrigger:
        return ScheduleTrigger(
            *("s", ("mm1",), "30 22 * * *", "UTC", "fire"),
            clock=lambda: running().now(),
            record=lambda data: records.append(dict(data)),
            past=_recorded(records),
            last=last,
        )

    def wall() -> datetime:
        return datetime.fromtimestamp(running().now().wall_ns / 1e9, UTC)

    running().jump_wall(2 * 86400)
    ahead = begin()
    assert len(await watch(ahead, 1010.0)) == 1  # for the day after tomorrow
    last = wall()
    running().jump_wall(-2 * 86400)
    await watch(begin(last) if down else ahead, 10.0)  # set right before the restart, or while it was down
    reasons = [*await watch(begin(wall()), 86400.0), *await watch(begin(wall()), 86400.0)]
    assert [str(reason.evidence["due"])[:10] for reason in reasons] == ["2023-11-15", "2023-11-16"]


async def test_a_clock_that_was_a_year_ahead_at_the_start_loses_nothing() -> None:
    running().jump_wall(365 * 86400)
    trigger = schedule("30 22 * * *", seen=BEGIN - timedelta(days=1))
    assert len(await watch(trigger, 5.0)) == 1  # missed, as far as anybody knows
    running().jump_wall(-365 * 86400)
    assert [reason.evidence["due"] for reason in await watch(trigger, 1000.0)] == ["2023-11-14T22:30:00+00:00"]


@pytest.mark.parametrize(
    "data",
    [{}, {"trigger": "s"}, {"trigger": 1, "fired": []}, {"trigger": "s", "fired": "x"}]
    + [{"trigger": "s", "fired": [one]} for one in ("1", 1.5, True, None, -1, 1 << 60)],
)
def test_a_record_that_is_none_of_a_schedule_is_not_taken_for_one(data: dict[str, Any]) -> None:
    assert isinstance(read("schedule", data), Unreadable)


async def test_a_rearm_waits_for_the_next_time() -> None:
    trigger = schedule("30 22 * * *")
    await watch(trigger, 1010.0)
    assert trigger.rearm_blocker() is None
    trigger.on_rearmed()
    assert trigger.state() == (TriggerState.OK, "next: 2023-11-15T22:30:00+00:00")
