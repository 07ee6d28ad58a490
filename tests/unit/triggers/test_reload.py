"""A reload ends, begins and keeps triggers in a running daemon: none of it may trip anybody, or look away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from kill_switch.core.domain import LaneState
from kill_switch.journal.history import WatchedUntil
from kill_switch.tasks import TaskSupervisor
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from tests.harness.control_harness import ControlHarness, Opened
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio


class Play:
    """An office whose triggers run."""

    def __init__(self, office: ControlHarness, tasks: TaskSupervisor) -> None:
        self.office = office
        self._tasks = tasks
        self._tasks.supervise("attention", office.watch.stall_clock.run)

    def reload(self, triggers: str, *accounts: str) -> None:
        change = self.office.reload(triggers, *accounts)
        for name in change.triggers_ended:
            self._tasks.cancel(name)
        for name in change.triggers_begun:
            self._tasks.supervise(name, partial(self.office.watch.run, self.office.watch.triggers[name]))

    def beat(self, name: str = "beat") -> None:
        trigger = self.office.watch.triggers[name]
        assert isinstance(trigger, HeartbeatTrigger)
        trigger.on_beat()

    async def until(self, *accounts: str) -> None:
        """Wait until these are tripped; a file system is asked by a thread, which takes real time."""
        for _ in range(200):
            if self.tripped() == accounts:
                return
            await self.real(0.01)

    async def real(self, seconds: float) -> None:
        await anyio.to_thread.run_sync(time.sleep, seconds)

    def tripped(self) -> tuple[str, ...]:
        return self.office.dispatcher.state.tripped

    def state(self, name: str = "beat") -> TriggerState:
        return self.office.watch.states()[name][0]


@asynccontextmanager
async def playing(opened: Opened, *accounts: str) -> AsyncIterator[Play]:
    async with anyio.create_task_group() as group:
        yield Play(opened(*accounts), TaskSupervisor(group))
        group.cancel_scope.cancel()


def beat(timeout: str = "3s", start: str = "first-beat", more: str = "") -> str:
    return f'[triggers.beat]\nkind = "heartbeat"\ntimeout = "{timeout}"\nstart = "{start}"\n{more}\n'


# ── heartbeats ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_strategy_that_has_just_died_is_found_though_its_heartbeat_is_changed(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.reload(beat("3s"))
        play.beat()
        await anyio.sleep(1.0)
        play.reload(beat("5s"))
        assert play.state() is TriggerState.OK
        await anyio.sleep(3.9)
        assert play.tripped() == ()
        await anyio.sleep(0.2)
        assert play.tripped() == ("a",)


async def test_a_heartbeat_that_waits_for_its_first_beat_goes_on_waiting(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.reload(beat("3s"))
        play.reload(beat("5s"))
        await anyio.sleep(60.0)
        assert (play.state(), play.tripped()) == (TriggerState.WAITING, ())


async def test_a_heartbeat_that_has_fired_stays_fired_and_refuses_the_re_arm(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.office.watch.start_boot_timers()
        play.reload(beat("3s", "boot"))
        await anyio.sleep(4.0)
        await play.office.settle()
        play.reload(beat("5s", "boot"))
        assert play.state() is TriggerState.TRIPPED
        assert (
            play.office.watch.triggers["beat"].rearm_blocker()
            == "no beat has come since it fired; it would fire again: start the strategy first"
        )


async def test_a_heartbeat_that_counts_from_the_boot_counts_from_the_reload_that_begins_it(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.office.watch.start_boot_timers()
        await anyio.sleep(60.0)
        play.reload(beat("3s", "boot"))
        await anyio.sleep(2.9)
        assert play.tripped() == ()
        await anyio.sleep(0.2)
        assert play.tripped() == ("a",)


async def test_before_the_daemon_is_ready_nothing_counts_from_the_boot(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.reload(beat("3s", "boot"))
        await anyio.sleep(60.0)
        assert play.tripped() == ()
        play.office.watch.start_boot_timers()
        await anyio.sleep(3.1)
        assert play.tripped() == ("a",)


async def test_one_that_no_longer_waits_for_a_first_beat_counts_from_the_reload(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.office.watch.start_boot_timers()
        play.reload(beat("3s", "first-beat"))
        await anyio.sleep(60.0)
        play.reload(beat("3s", "boot"))
        await anyio.sleep(3.1)
        assert play.tripped() == ("a",)


async def test_a_strategy_that_sent_goodbye_is_not_waited_for_after_a_reload(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.office.watch.start_boot_timers()
        play.reload(beat("3s", "boot", "allow_bye = true"))
        play.beat()
        trigger = play.office.watch.triggers["beat"]
        assert isinstance(trigger, HeartbeatTrigger)
        assert trigger.on_bye()
        play.reload(beat("5s", "boot", "allow_bye = true"))
        play.reload(beat("5s", "boot", "allow_bye = true"), "a", "b")
        await anyio.sleep(60.0)
        assert play.tripped() == ()


async def test_a_heartbeat_that_goes_on_with_other_accounts_remembers_its_last_beat(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.reload(beat("3s"))
        play.beat()
        await anyio.sleep(2.0)
        before = play.office.watch.triggers["beat"]
        play.reload(beat("3s"), "a", "b")
        assert play.office.watch.triggers["beat"] is before
        await anyio.sleep(0.9)
        assert play.tripped() == ()
        await anyio.sleep(0.2)
        assert play.tripped() == ("a", "b")


async def test_a_heartbeat_that_has_fired_watches_over_an_account_that_joins_it(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.reload(beat("3s"))
        play.beat()
        await anyio.sleep(3.1)
        assert play.tripped() == ("a",)
        play.reload(beat("3s"), "a", "b")
        play.beat()
        await anyio.sleep(2.9)
        assert play.tripped() == ("a",)
        await anyio.sleep(0.2)
        assert play.tripped() == ("a", "b")


# ── one that fails ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_trigger_that_cannot_tell_its_condition_is_blind_and_hides_no_other(opened: Opened) -> None:
    def fails() -> tuple[TriggerState, str]:
        raise ValueError("a fault within")

    async with playing(opened, "a") as play:
        play.reload(beat() + beat().replace("triggers.beat", "triggers.other"))
        play.office.watch.triggers["beat"].state = fails  # type: ignore[method-assign]
        play.office.watch.notice_blind()
        play.office.watch.notice_blind()
        assert play.office.watch.states()["beat"] == (TriggerState.BLIND, "its state cannot be read: ValueError")
        assert play.state("other") is TriggerState.WAITING
        assert play.office.said("blind") == ["trigger beat is blind: its state cannot be read: ValueError"]
        play.reload(beat("5s"), "a", "b")  # nor does it stand in a reload's way


# ── flags ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_that_joins_while_the_flag_is_there_is_killed_too(opened: Opened, tmp_path: Path) -> None:
    flag = f'[triggers.panic]\nkind = "flag"\npath = "{tmp_path}/KILL"\n'
    async with playing(opened, "a") as play:
        play.reload(flag)
        (tmp_path / "KILL").touch()
        await play.until("a")
        play.reload(flag, "a", "b")
        await play.until("a", "b")
        assert play.tripped() == ("a", "b")


async def test_an_account_removed_from_a_flag_that_exists_disturbs_no_other(opened: Opened, tmp_path: Path) -> None:
    flag = f'[triggers.panic]\nkind = "flag"\npath = "{tmp_path}/KILL"\n'
    async with playing(opened, "a", "b") as play:
        play.reload(flag + 'accounts = ["a", "b"]\n')
        (tmp_path / "KILL").touch()
        await play.until("a")
        play.reload(flag + 'accounts = ["a"]\n')
        await play.real(0.1)
        assert len(play.office.said("trip")) == 1
        assert play.state("panic") is TriggerState.TRIPPED


# ── schedules ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_schedule_that_a_reload_begins_does_not_fire_for_a_time_before_it(opened: Opened) -> None:
    flat = '[triggers.flat]\nkind = "schedule"\ncron = "{} * * * *"\ntimezone = "UTC"\nmissed = "fire"\n'
    async with playing(opened, "a") as play:
        assert running().now().wall_ns // 10**9 % 3600 == 13 * 60 + 20
        yesterday = datetime.fromtimestamp(running().now().wall_ns / 1e9 - 86400, UTC)
        play.office.watch._earlier.watched_until = {
            "flat": WatchedUntil(yesterday, yesterday)
        }  # an earlier run has had one of that name
        await anyio.sleep(300.0)  # 18 minutes past the hour
        play.reload(flat.format("15,28"))
        await anyio.sleep(1.0)
        assert play.tripped() == ()
        play.reload(flat.format("16,25"))
        await anyio.sleep(1.0)
        assert play.tripped() == ()
        await anyio.sleep(420.0)
        assert play.tripped() == ("a",)


# ── links ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_that_is_being_lost_is_lost_though_the_link_is_changed(opened: Opened) -> None:
    link = '[triggers.lost]\nkind = "link"\ntimeout = "10s"\non_blind = "alarm"\n'
    async with playing(opened, "a") as play:
        play.reload(link)
        await anyio.sleep(1.0)
        play.office.lanes["a"].state = LaneState.DOWN
        await anyio.sleep(5.0)
        play.reload(link.replace("10s", "8s"))
        await anyio.sleep(2.8)
        assert play.tripped() == ()
        await anyio.sleep(0.4)
        assert play.tripped() == ("a",)
