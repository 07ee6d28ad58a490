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
from kill_switch.journal import journal
from kill_switch.journal.history import WatchedUntil
from kill_switch.journal.records import Entry
from kill_switch.tasks import TaskSupervisor
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.order_rate import OrderRateTrigger
from kill_switch.triggers.silences import Person
from tests.harness.control_harness import ControlHarness, Opened
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio


class Play:
    """An office whose triggers run."""

    def __init__(self, office: ControlHarness, tasks: TaskSupervisor) -> None:
        self.office = office
        self.placed = 0  # orders
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

    def recorded(self, kind: str) -> list[Entry]:
        self.office.journal.flush()
        entries = journal.read_journal(self.office.journal.path).entries
        return [entry for entry in entries if entry["kind"] == kind]

    @property
    def rate(self) -> OrderRateTrigger:
        trigger = self.office.watch.triggers["rate"]
        assert isinstance(trigger, OrderRateTrigger)
        return trigger

    def place(self, rate: OrderRateTrigger, count: int, account: str = "a") -> None:
        for _ in range(count):
            self.placed += 1
            rate.on_order_placed(account, f"o{self.placed}")

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


FLAT = '[triggers.flat]\nkind = "schedule"\ncron = "14 * * * *"\ntimezone = "UTC"\n'


async def test_a_scheduled_time_that_comes_while_a_reload_changes_another_key_is_not_lost(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.reload(FLAT)
        await anyio.sleep(39.99)
        running().stall(0.03)
        play.reload(FLAT + 'missed = "skip"\n')
        await anyio.sleep(0.01)
        assert play.tripped() == ("a",)


async def test_a_schedule_that_has_fired_stays_fired_and_is_recorded_once_though_another_key_is_changed(
    opened: Opened,
) -> None:
    async with playing(opened, "a") as play:
        play.reload(FLAT)
        await anyio.sleep(41.0)
        play.reload(FLAT + 'missed = "skip"\n')
        assert play.state("flat") is TriggerState.TRIPPED
        await anyio.sleep(60.0)
        assert len(play.recorded("schedule")) == 1


# ── order rates ───────────────────────────────────────────────────────────────────────────────────────────────────

RATE = '[triggers.rate]\nkind = "order-rate"\nmax_new = {}\nwindow = "{}s"\n'


async def rate_of(play: Play) -> OrderRateTrigger:
    """Let an order rate of at most three orders see the accounts for a while."""
    for venue in play.office.venues.values():
        venue.show()
    play.reload(RATE.format(3, 10))
    await anyio.sleep(12.0)
    return play.rate


async def test_orders_that_are_too_many_when_a_reload_comes_fire_once_behind_it(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        play.place(await rate_of(play), 4)
        play.reload(RATE.format(30, 10))
        await anyio.sleep(0.01)
        assert (play.tripped(), play.state("rate")) == (("a",), TriggerState.TRIPPED)
        assert len(play.recorded("reason")) == 1


async def test_orders_that_a_silence_holds_back_over_a_reload_fire_when_it_ends(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        rate = await rate_of(play)
        play.office.watch.silences.ask("rate", 2 * 10**9, "deploy", Person(7, "ann"), 1)
        play.place(rate, 4)
        await anyio.sleep(0.15)
        play.reload(RATE.format(3, 11))
        await anyio.sleep(1.7)
        assert play.tripped() == ()
        await anyio.sleep(0.3)
        assert play.tripped() == ("a",)


async def test_an_order_rate_that_has_fired_fires_no_second_time_for_its_account_behind_a_reload(
    opened: Opened,
) -> None:
    async with playing(opened, "a") as play:
        play.place(await rate_of(play), 4)
        await anyio.sleep(1.0)
        play.reload(RATE.format(4, 10))
        assert play.state("rate") is TriggerState.TRIPPED
        play.place(play.rate, 6)
        await anyio.sleep(1.0)
        assert len(play.recorded("reason")) == 1


async def test_an_account_that_joins_a_fired_order_rate_is_watched_and_the_tripped_one_is_not_struck_again(
    opened: Opened,
) -> None:
    async with playing(opened, "a") as play:
        play.place(await rate_of(play), 4)
        await anyio.sleep(1.0)
        play.reload(RATE.format(3, 10), "a", "b")
        play.place(play.rate, 5)
        await anyio.sleep(1.0)
        assert (len(play.recorded("reason")), play.tripped()) == (1, ("a",))
        play.place(play.rate, 4, "b")
        await anyio.sleep(0.01)
        assert play.tripped() == ("a", "b")


async def test_a_limit_that_a_reload_lowers_judges_the_newest_orders_alone(opened: Opened) -> None:
    async with playing(opened, "a") as play:
        rate = await rate_of(play)
        play.reload(RATE.format(9, 10))
        rate = play.rate
        for _ in range(10):
            play.place(rate, 1)
            await anyio.sleep(5.0)
        await anyio.sleep(10.0)
        play.reload(RATE.format(3, 10))
        play.place(play.rate, 4)
        await anyio.sleep(0.01)
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
