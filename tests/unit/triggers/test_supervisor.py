"""The watch makes triggers as the configuration says, feeds them, and lets none be silently absent."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from kill_switch.core.domain import LaneState
from kill_switch.triggers.base import Report, TriggerState
from kill_switch.triggers.heartbeat import NOTES
from kill_switch.triggers.intake.datagrams import sign
from kill_switch.triggers.link import LinkTrigger
from kill_switch.triggers.pnl.trigger import PnlTrigger
from kill_switch.triggers.supervisor import HEALTHY_S, TriggerSupervisor
from kill_switch.venues.messages import Equity, OrdersFound, Transferred
from tests.harness.supervised_triggers import LINK, PNL, RATE, Restarted, Watched, living, place, watching
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio

KEY = b"a key of the intake"


# ── pnl ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_equity_from_venues_reaches_its_trigger_which_kills_its_accounts_only(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="alarm")) as watched:
        assert watched.watch.accounts_with_equity() == ("a", "b")
        await watched.samples((500, 500), (500, 500), (500, 500), (450, 451), (450, 451))
        assert watched.tripped() == ()
        await watched.samples((450, 450), (450, 450))
        assert watched.tripped() == ("a", "b")


async def test_a_trigger_that_fired_for_two_accounts_refuses_a_rearm_of_one(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="alarm")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500), (450, 450), (450, 450))
        (why,) = watched.watch.rearm_blockers({"a"})
        assert why.endswith("a new day begins only if b is re-armed with it")
        assert list(watched.watch.rearm_blockers({"a", "b"})) == []


async def test_a_blind_trigger_refuses_a_rearm_until_it_is_forced(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.replace('max_loss = "100"', 'floor = "8"').format(on_blind="alarm")) as watched:
        (why,) = watched.watch.rearm_blockers({"a", "b"})
        assert why.startswith(
            "trigger daily-loss: cannot see whether equity is above the floor 8: no figures of a, b yet"
        )
        assert list(watched.watch.rearm_blockers({"a", "b"}, force=True)) == []


@pytest.mark.parametrize(("on_blind", "refused"), [("alarm", False), ("fire", True)])
async def test_one_that_has_fired_and_would_fire_at_once_for_being_blind_is_rearmed_by_no_force(
    on_blind: str, refused: bool, tmp_path: Path
) -> None:
    rate = RATE + f'on_blind = "{on_blind}"\n'
    async with watching(tmp_path, PNL.format(on_blind=on_blind) + rate) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500), (450, 450), (450, 450))
        place(watched, "a", *"1234")
        await anyio.sleep(0.2)
        states = [state for state, _ in watched.watch.states().values()]
        assert states == [TriggerState.TRIPPED, TriggerState.TRIPPED]
        for name in "ab":
            watched.clear(name)
        watched.floor.lanes["a"].state = LaneState.DOWN
        await watched.wait(60)
        found = list(watched.watch.rearm_blockers({"a", "b"}, force=True))
        assert [line.partition(": it is blind")[0] for line in found] == (
            ["trigger daily-loss", "trigger runaway"] if refused else []
        )


async def test_a_withdrawal_that_a_venue_tells_comes_to_the_trigger(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="alarm")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        await anyio.sleep(20)
        await watched.samples(*[(500, 500)] * 10)
        watched.watch.on_fact("b", Transferred("OX", Decimal(-400)))
        await watched.samples(*[(500, 100)] * 10)
        assert watched.tripped() == ()
        assert [data["why"] for data in watched.floor.recorder.of("pnl")] == ["first", "transfer"]


@pytest.mark.parametrize(("on_blind", "tripped"), [("alarm", ()), ("fire", ("a", "b"))])
async def test_blindness_is_announced_once_and_fires_if_so_configured(
    tmp_path: Path, on_blind: str, tripped: tuple[str, ...]
) -> None:
    async with watching(tmp_path, PNL.format(on_blind=on_blind)) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        await watched.wait(29)
        assert watched.tripped() == ()
        await watched.wait(60)
        assert watched.tripped() == tripped
        blind = [line for line in watched.said if line.startswith("blind")]
        assert blind == ["blind: trigger daily-loss is blind: no figures of a, b for 30 s"]
        await watched.samples(*[(500, 500)] * 5)
        assert not watched.said[-1].startswith("over")
        await watched.samples(*[(500, 500)] * 2)
        assert watched.said[-1] == "over: trigger daily-loss sees its input again, for 30 s"


async def test_an_ongoing_kill_of_one_account_is_blindness_and_trips_no_other(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="fire")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        watched.floor.fire("a")
        await watched.only_b(120)
        assert watched.tripped() == ("a",)
        blind = [line for line in watched.said if line.startswith("blind")]
        assert blind == ["blind: trigger daily-loss is blind: no figure of a for 30 s, and a kill is under way"]
        watched.loop.stall(60)
        await watched.only_b(120)
        assert watched.tripped() == ("a",)
        watched.clear("a")
        await watched.only_b(5)
        await watched.samples(*[(500, 500)] * 7)
        assert watched.said[-1] == "over: trigger daily-loss sees its input again, for 30 s"
        await watched.samples((400, 500), (400, 500))
        assert watched.tripped() == ("a", "b")  # and it judges again


async def test_an_account_that_says_nothing_after_its_kill_either_is_a_reason_once_its_time_is_over(
    tmp_path: Path,
) -> None:
    async with watching(tmp_path, PNL.format(on_blind="fire")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        watched.floor.fire("a")
        await watched.only_b(60)
        watched.clear("a")
        await watched.only_b(25)
        assert watched.tripped() == ("a",)
        await watched.only_b(10)
        assert watched.tripped() == ("a", "b")


async def test_a_kill_of_one_account_excuses_no_other_that_says_nothing(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="fire")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        watched.floor.fire("a")
        await watched.only_b(60)
        assert watched.tripped() == ("a",)
        await watched.wait(25)
        assert watched.tripped() == ("a",)
        await watched.wait(10)
        assert watched.tripped() == ("a", "b")


async def test_a_kill_excuses_no_trigger_whose_task_has_died(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="fire")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        watched.floor.fire("a")
        await watched.only_b(60)
        watched.watch._task_failures["daily-loss"] = "its task ended"
        watched.watch.notice_blind()
        assert watched.tripped() == ("a", "b")


async def test_a_currency_without_a_rate_is_a_reason_although_an_account_is_being_struck(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="fire")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        watched.floor.fire("a")
        for _ in range(10):
            watched.watch.on_fact("b", Equity({"DOGE": Decimal(1)}, watched.loop.now().mono_ns))
            await watched.wait(5)
        assert watched.tripped() == ("a", "b")


async def test_a_stall_of_our_own_fires_nothing_though_blindness_would(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="fire")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
        watched.loop.stall(600)
        watched.watch.notice_blind()
        await watched.samples((500, 500))
        assert watched.tripped() == ()


async def test_a_day_outlives_the_process(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="alarm")) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500))
    entries = [{"kind": kind, "data": data} for kind, data in watched.floor.recorder.records]
    async with watching(tmp_path, PNL.format(on_blind="alarm"), entries) as again:
        await again.samples((450, 450), (450, 450))
        assert again.tripped() == ("a", "b")


async def test_a_reload_with_another_limit_goes_on_from_a_peak_that_was_not_on_record(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="alarm")) as watched:
        await watched.samples(*[(500, 500)] * 3, *[(600, 600)] * 2)
        new = watched.config(PNL.format(on_blind="alarm") + 'max_drawdown = "200"\n')
        watched.watch.prepare_reload(new, ["daily-loss"])()
        trigger = watched.watch.triggers["daily-loss"]
        assert isinstance(trigger, PnlTrigger)
        async with anyio.create_task_group() as group:
            group.start_soon(watched.watch.run, trigger)
            await watched.samples((500, 500), (500, 500))
            assert watched.tripped() == ("a", "b")
            assert watched.watch.states()["daily-loss"][1].startswith("max_drawdown reached")
            group.cancel_scope.cancel()


# ── order-rate ────────────────────────────────────────────────────────────────────────────────────────────────────


GONE = "warn: trigger daily-loss was removed: 80 OX that were lost before are not counted any more"


async def test_losses_of_a_trigger_that_a_reload_removes_or_renames_are_announced_and_kept(tmp_path: Path) -> None:
    table = PNL.format(on_blind="alarm")
    async with watching(tmp_path, table) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500), (460, 460), (460, 460))
        renamed = watched.config(table.replace("daily-loss", "day-loss"))
        watched.watch.prepare_reload(renamed, ["day-loss"])()
        assert watched.said[-1] == GONE
        watched.watch.prepare_reload(watched.config(table), ["daily-loss"])()
        async with anyio.create_task_group() as group:
            group.start_soon(watched.watch.run, watched.watch.triggers["daily-loss"])
            await watched.samples((450, 450), (450, 450))  # it is back on the same day, which goes on
            assert watched.tripped() == ("a", "b")
            group.cancel_scope.cancel()


async def test_losses_of_a_trigger_that_a_restart_removes_are_announced_once(tmp_path: Path) -> None:
    table = PNL.format(on_blind="alarm")
    async with watching(tmp_path, table) as watched:
        await watched.samples((500, 500), (500, 500), (500, 500), (460, 460), (460, 460))
        watched.watch.triggers["daily-loss"].save()  # type: ignore[attr-defined]
        left = [{"kind": kind, "data": data, "seq": n} for n, (kind, data) in enumerate(watched.floor.recorder.records)]
    for told in ([GONE], []):
        async with watching(tmp_path, table.replace("daily-loss", "day-loss"), left) as watched:
            watched.watch.start_boot_timers()
            assert watched.said == told
            left += [
                {"kind": k, "data": data, "seq": 1000 + n} for n, (k, data) in enumerate(watched.floor.recorder.records)
            ]


async def test_orders_that_are_placed_come_to_the_trigger(tmp_path: Path) -> None:
    async with watching(tmp_path, RATE) as watched:
        await anyio.sleep(0.2)
        place(watched, "b", *"12345")
        place(watched, "a", *"123")
        await anyio.sleep(0.2)
        assert watched.tripped() == ()
        place(watched, "a", "4")
        await anyio.sleep(0.2)
        assert watched.tripped() == ("a",)


async def test_orders_that_lists_show_come_to_the_trigger_and_a_reload_with_another_limit_forgets_none(
    tmp_path: Path,
) -> None:
    async with watching(tmp_path, RATE) as watched:
        await anyio.sleep(12)
        watched.watch.on_fact("b", OrdersFound(tuple("12345"), watched.loop.now().mono_ns))
        watched.watch.on_fact("a", OrdersFound(tuple("12345"), watched.loop.now().mono_ns - 11 * 10**9))
        watched.watch.on_fact("a", OrdersFound(tuple("67"), watched.loop.now().mono_ns - 10**9))
        await anyio.sleep(0.2)
        assert watched.watch.states()["runaway"][1].startswith("2 new orders within 10 s, of 3 (a)")
        other = RATE.replace("max_new = 3", "max_new = 4")
        watched.watch.prepare_reload(watched.config(other), ["runaway"])()
        assert watched.watch.states()["runaway"][1].startswith("2 new orders within 10 s, of 4 (a)")


async def test_a_gate_that_cannot_see_orders_is_overridden_by_force_and_one_that_sees_too_many_is_not(
    tmp_path: Path,
) -> None:
    async with watching(tmp_path, RATE) as watched:
        await anyio.sleep(12)
        assert list(watched.watch.rearm_blockers({"a"})) == []
        watched.floor.lanes["a"].state = LaneState.DOWN
        await anyio.sleep(0.2)
        (why,) = watched.watch.rearm_blockers({"a"})
        assert why.startswith("trigger runaway: cannot see whether a has too many orders") and "--force" in why
        assert list(watched.watch.rearm_blockers({"a"}, force=True)) == []
        watched.floor.lanes["a"].state = LaneState.UP
        await anyio.sleep(1.2)
        place(watched, "a", *"1234")
        await anyio.sleep(0.2)
        assert len(list(watched.watch.rearm_blockers({"a"}, force=True))) == 1


async def test_a_lane_that_is_down_and_a_book_that_is_not_known_are_not_seen(tmp_path: Path) -> None:
    async with watching(tmp_path, RATE) as watched:
        await anyio.sleep(0.2)
        assert watched.watch.states()["runaway"][0] is TriggerState.OK
        watched.floor.lanes["a"].state = LaneState.DOWN
        await watched.wait(11)
        assert watched.watch.states()["runaway"][0] is TriggerState.BLIND
        watched.floor.lanes["a"].state = LaneState.UP
        await watched.wait(1)
        assert watched.watch.states()["runaway"][0] is TriggerState.OK
        watched.floor.venues["a"].book.end_pushes(1)
        watched.floor.venues["a"].book.start_pushes(1, watched.loop.now().mono_ns)
        await watched.wait(11)
        assert watched.watch.states()["runaway"][0] is TriggerState.BLIND
        assert watched.tripped() == ()


async def test_open_orders_are_those_of_the_book(tmp_path: Path) -> None:
    async with watching(tmp_path, RATE) as watched:
        watched.floor.venues["a"].show(*"123456", asked_ns=1)
        await anyio.sleep(11)
        assert watched.tripped() == ("a",)


# ── triggers that fail ────────────────────────────────────────────────────────────────────────────────────────────


class Broken(LinkTrigger):
    """A trigger that cannot run, and cannot say how it is."""

    async def run(self, report: Report) -> None:
        raise RuntimeError("a fault of ours")

    def state(self) -> tuple[TriggerState, str]:
        raise ArithmeticError("a fault of ours")


def broken(watch: TriggerSupervisor) -> Broken:
    clock = running().now
    return Broken("daily-loss", ("a", "b"), 1.0, clock=clock, attention=watch.stall_clock, reachable=dict)


async def test_a_trigger_whose_status_fails_is_blind_and_hides_no_other(tmp_path: Path) -> None:
    async with watching(tmp_path, PNL.format(on_blind="fire") + RATE) as watched:
        await anyio.sleep(0.2)
        watched.watch.triggers = {**watched.watch.triggers, "daily-loss": broken(watched.watch)}
        assert watched.watch.states() == {
            "daily-loss": (TriggerState.BLIND, "its state cannot be read: ArithmeticError"),
            "runaway": (TriggerState.OK, "0 new orders within 10 s, of 3 (a), 0 open orders, of 5 (a)"),
        }
        watched.watch.notice_blind()
        assert watched.tripped() == ("a", "b")


async def test_a_trigger_whose_task_dies_is_blind_until_it_runs_again(tmp_path: Path) -> None:
    async with watching(tmp_path, RATE) as watched, anyio.create_task_group() as group:
        group.start_soon(watched.watch.run, broken(watched.watch))
        await anyio.sleep(0.1)
        assert "its task failed: RuntimeError" in watched.watch._task_failures["daily-loss"]
        group.cancel_scope.cancel()


async def test_a_trigger_that_dies_again_and_again_waits_longer_and_after_a_time_of_health_as_at_first(
    tmp_path: Path,
) -> None:
    loop, runs = running(), list[tuple[float, float]]()  # when it began, and how long it was well
    plan = [0.0] * 7 + [HEALTHY_S + 1, 0.0, HEALTHY_S / 2, 0.0]

    class Sick(LinkTrigger):
        async def run(self, report: Report) -> None:
            runs.append((loop.time(), plan[len(runs)] if len(runs) < len(plan) else 1e6))
            await anyio.sleep(runs[-1][1])
            raise RuntimeError("a fault of ours")

    watched = Watched(tmp_path, RATE)
    attention = watched.watch.stall_clock
    sick = Sick("lost", ("a",), 1.0, clock=loop.now, attention=attention, reachable=lambda: {"a": True})
    async with anyio.create_task_group() as group:
        group.start_soon(watched.watch.run, sick)
        await anyio.sleep(300)
        group.cancel_scope.cancel()
    waits = [after - begun - well for (begun, well), (after, _) in itertools.pairwise(runs)]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 30, 1, 2, 4, 8])


# ── heartbeats over a restart ─────────────────────────────────────────────────────────────────────────────────────

BEAT = '[triggers.beat]\nkind = "heartbeat"\ntimeout = "3s"\naccounts = ["a"]\n'
BYE = BEAT + "allow_bye = true\n"
BOOT = BEAT + 'start = "boot"\n'
BOOT_BYE = BYE + 'start = "boot"\n'
WATCHED_BEFORE = "watched before the restart; waits for a to be ready, 60 s at most"


async def died_watching(directory: Path, triggers: str = BEAT, last: bytes = b"beat") -> list[dict[str, Any]]:
    """Return what a daemon leaves that has heard a beat, and then something else."""
    async with living(directory, triggers) as life:
        life.ready("a")
        await life.until(1)
        life.hear()
        await life.until(2.5)
        life.hear(last)
        await life.until(3)
        return life.entries  # as kill -9 leaves it


async def test_a_strategy_that_dies_with_the_daemon_is_found_once_its_accounts_are_ready(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT, await died_watching(tmp_path)) as life:
        await life.until(20)
        assert life.state == (TriggerState.WAITING, WATCHED_BEFORE)
        life.ready("a")  # nobody waits for b and c
        await life.until(22.9)
        assert life.tripped() == ()
        await life.until(23.3)
        assert life.tripped() == ("a",)


async def test_a_strategy_that_was_watched_before_a_restart_and_is_not_heard_yet_holds_against_a_re_arm(
    tmp_path: Path,
) -> None:
    async with living(tmp_path, BEAT, await died_watching(tmp_path)) as life:
        for seconds in (0.1, 2.5):  # before its account is ready, and while its time-out counts
            await life.until(seconds)
            (why,) = life.watch.rearm_blockers({"a"})
            assert why.startswith("trigger beat: cannot see whether it beats: ")
            assert list(life.watch.rearm_blockers({"a"}, force=True)) == []
            life.ready("a")
        life.hear()
        assert list(life.watch.rearm_blockers({"a"})) == []


async def test_accounts_that_never_get_ready_keep_nothing_from_counting(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT, await died_watching(tmp_path)) as life:
        await life.until(62.9)
        assert life.tripped() == ()
        await life.until(63.3)
        assert life.tripped() == ("a",)


async def test_accounts_that_have_each_been_ready_once_are_ready(tmp_path: Path) -> None:
    triggers = BEAT.replace('["a"]', '["a", "b"]')
    async with living(tmp_path, triggers, await died_watching(tmp_path)) as life:
        life.ready("a")
        await life.until(5)
        life.ready("b")
        await life.until(8.3)
        assert life.tripped() == ("a", "b")


async def test_a_strategy_that_beats_on_through_a_restart_trips_nothing(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT, await died_watching(tmp_path)) as life:
        await life.until(20)
        life.ready("a")
        await life.until(22)
        for second in range(23, 60, 2):
            life.hear()
            await life.until(second)
        assert life.tripped() == ()
        assert life.records == []  # it was on record before


async def test_of_a_beat_before_the_accounts_are_ready_the_time_counts(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT, await died_watching(tmp_path)) as life:
        await life.until(10)
        life.hear()
        await life.until(13.2)
        assert life.tripped() == ("a",)


async def test_a_strategy_that_sent_goodbye_is_not_waited_for_after_a_restart(tmp_path: Path) -> None:
    for triggers in (BYE, BOOT_BYE):
        left = await died_watching(tmp_path, triggers, b'{"bye":"beat"}')
        async with living(tmp_path, triggers, left) as life:
            life.ready("a")
            await life.until(120)
            assert (life.tripped(), life.state[0]) == ((), TriggerState.WAITING)
            life.hear()
            await life.until(124)
            assert life.tripped() == ("a",)


async def test_a_goodbye_during_the_restart_counts_too(tmp_path: Path) -> None:
    async with living(tmp_path, BYE, await died_watching(tmp_path, BYE)) as life:
        await life.until(1)
        life.hear(b'{"bye":"beat"}')
        life.ready("a")
        await life.until(120)
        assert life.tripped() == ()


async def test_a_strategy_that_never_beat_is_not_waited_for_after_a_restart(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        await life.until(5)
        left = life.entries
    async with living(tmp_path, BEAT, left) as life:
        life.ready("a")
        await life.until(120)
        assert life.tripped() == ()


async def test_from_the_boot_on_counts_though_other_accounts_are_down(tmp_path: Path) -> None:
    async with living(tmp_path, BOOT) as life:
        await life.until(30)
        assert life.state == (TriggerState.WAITING, "waits for a to be ready, 60 s at most")
        life.ready("a")
        await life.until(33.3)
        assert life.tripped() == ("a",)


async def test_from_the_boot_on_counts_after_a_bound_though_its_own_account_is_down(tmp_path: Path) -> None:
    async with living(tmp_path, BOOT) as life:
        await life.until(63.3)
        assert life.tripped() == ("a",)


async def test_ready_though_degraded_waits_for_no_account(tmp_path: Path) -> None:
    async with living(tmp_path, '[triggers.other]\nkind = "heartbeat"\ntimeout = "3s"\n') as life:
        life.watch.start_boot_timers()
        config = life.config(BOOT)
        degraded = config.daemon.model_copy(update={"ready": "degraded"})
        life.watch.prepare_reload(replace(config, daemon=degraded), ["beat"])()
        assert life.watch.states()["beat"][1] == "last beat: never, allowed: 3 s"


async def test_a_trip_is_on_record_and_a_restart_neither_trips_again_nor_forgets_it(tmp_path: Path) -> None:
    for triggers, blocked in (
        (BEAT, []),
        (BOOT, ["trigger beat: no beat has come since it fired; it would fire again: start the strategy first"]),
    ):
        async with living(tmp_path, triggers) as life:
            life.ready("a")
            await life.until(1)
            life.hear()
            await life.until(6)
            assert life.records[-1] == {"trigger": "beat", "watched": False, "why": "trip"}
            left, state = life.entries, life.floor.dispatcher.state
        tripped = Restarted(tmp_path, triggers)
        tripped.floor.dispatcher.state = state
        watch = TriggerSupervisor(
            tripped.config(triggers), tripped.floor.dispatcher, tripped.intake, {}, tripped.floor.announced.append,
            clock=tripped.loop.now, entries=left,
        )  # fmt: skip
        assert watch.states()["beat"] == (TriggerState.TRIPPED, "heartbeat lost; last beat: never")
        assert list(watch.rearm_blockers({"a"})) == blocked


async def test_an_account_that_is_armed_is_watched_again_after_a_restart_though_another_is_still_tripped(
    tmp_path: Path,
) -> None:
    async with living(tmp_path, BEAT) as life:
        life.ready("a")
        await life.until(1)
        life.hear()
        await life.until(6)
        left, state = life.entries, life.floor.dispatcher.state
    assert state.tripped == ("a",)
    joined = BEAT.replace('["a"]', '["a", "b"]')
    async with living(tmp_path, joined, left, state=state) as life:
        life.ready("a", "b")
        await life.until(60)
        assert life.tripped() == ("a",)  # b's strategy has not started yet
        life.hear()
        await life.until(64)
        assert life.tripped() == ("a", "b")


async def test_a_re_arm_has_it_wait_for_a_first_beat_again_over_a_restart_too(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        life.hear()
        await life.until(6)
        life.watch.triggers["beat"].on_rearmed()
        await life.until(8)
        left = life.entries
    assert left[-1]["data"] == {"trigger": "beat", "watched": False, "why": "re-arm"}
    async with living(tmp_path, BEAT, left) as life:
        life.ready("a")
        await life.until(120)
        assert life.tripped() == ()


async def test_beats_are_not_recorded_and_beats_and_goodbyes_in_turn_hardly(tmp_path: Path) -> None:
    async with living(tmp_path, BYE) as life:
        life.ready("a")
        for _ in range(1000):
            life.hear()
        await life.until(2)
        assert [data["why"] for data in life.records] == ["beat"]
        for _ in range(1000):
            life.hear(b'{"bye":"beat"}')
            life.hear()
        await life.until(4)
        assert len(life.records) == NOTES + 1  # the last one says how it ended
        assert life.records[-1]["why"] == "beat"


async def test_an_orderly_stop_right_after_a_goodbye_has_it_on_record(tmp_path: Path) -> None:
    async with living(tmp_path, BYE) as life:
        life.hear()
        life.hear(b'{"bye":"beat"}')
    assert life.records[-1]["why"] == "bye"


# what cannot be heard


@pytest.mark.parametrize(("on_blind", "tripped"), [("alarm", ()), ("fire", ("a",))])
async def test_of_a_heartbeat_that_cannot_be_heard_for_longer_than_its_time_out_on_blind_decides(
    tmp_path: Path, on_blind: str, tripped: tuple[str, ...]
) -> None:
    async with living(tmp_path, BEAT + f'on_blind = "{on_blind}"\n') as life:
        life.ready("a")
        life.hear()
        for second in range(1, 30):
            await life.until(second)
            life.intake._note_lost("UDP", 1)
            life.watch.notice_blind()
            assert second in (3, 4) or life.tripped() == (tripped if second > 4 else ())
        blind = [line for line in life.said if line.startswith("blind")]
        assert len(blind) == 1
        assert "more datagrams come by UDP than can be read" in blind[0]


async def test_a_restart_takes_no_signed_beat_of_the_run_before(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        life.ready("a")
        captured = []
        for second in range(1, 60):
            await life.until(second)
            captured.append(sign(b"beat", KEY, life.loop.now().wall_ms))
            assert life.intake.on_datagram(captured[-1], KEY)
        left = life.entries
    async with living(tmp_path, BEAT, left) as life:
        await life.until(1)
        life.ready("a")
        for tick in range(100):
            await life.until(1 + tick / 10)
            for datagram in captured[-3:]:
                assert not life.intake.on_datagram(datagram, KEY)
            assert tick < 35 or life.state[0] is TriggerState.BLIND
        await life.until(14.5)
        assert life.tripped() == ("a",)


async def test_signed_beats_that_a_restart_cannot_take_yet_are_not_waited_for_and_no_reason(tmp_path: Path) -> None:
    short = BEAT.replace('timeout = "3s"', 'timeout = "300ms"\non_blind = "fire"')
    left: list[dict[str, Any]] = []
    for _ in range(2):
        async with living(tmp_path, short, left) as life:
            life.ready("a")
            for tick in range(1, 50):
                await life.until(tick / 10)
                life.intake.on_datagram(sign(b"beat", KEY, life.loop.now().wall_ms), KEY)
                life.watch.notice_blind()
                assert life.tripped() == ()
            assert life.state[0] is TriggerState.OK
            left = life.entries
            await life.until(5.4)
            assert life.tripped() == ("a",)


async def test_a_reload_of_a_heartbeat_keeps_its_doubts_and_its_stamps(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        life.ready("a")
        await life.until(1)
        captured = sign(b"beat", KEY, life.loop.now().wall_ms)
        assert life.intake.on_datagram(captured, KEY, "UDP")
        await life.until(3)
        life.intake._note_lost("UDP", 1)
        life.watch.prepare_reload(life.config(BYE), ["beat"])()
        assert not life.intake.on_datagram(captured, KEY, "UDP")
        await life.until(4.5)
        assert life.state[0] is TriggerState.BLIND


# the configuration changes with the restart


async def test_after_a_restart_another_time_out_counts(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT.replace("3s", "9s"), await died_watching(tmp_path)) as life:
        life.ready("a")
        await life.until(8.9)
        assert life.tripped() == ()
        await life.until(9.3)
        assert life.tripped() == ("a",)


async def test_a_goodbye_that_is_no_longer_allowed_excuses_no_heartbeat_that_counts_from_the_boot(
    tmp_path: Path,
) -> None:
    left = await died_watching(tmp_path, BYE, b'{"bye":"beat"}')
    for triggers, tripped in ((BEAT, ()), (BOOT, ("a",))):
        async with living(tmp_path, triggers, left) as life:
            life.ready("a")
            await life.until(10)
            assert life.tripped() == tripped


async def test_a_watched_heartbeat_missing_from_the_configuration_is_announced_once(tmp_path: Path) -> None:
    renamed = BEAT.replace("triggers.beat", "triggers.other")
    async with living(tmp_path, renamed, await died_watching(tmp_path)) as life:
        life.ready("a")
        await life.until(60)
        assert life.tripped() == ()
        assert life.said == ["warn: trigger beat was removed: an earlier run watched its heartbeat, this one does not"]
        left = life.entries
    async with living(tmp_path, BEAT, left) as life:  # it is back, long afterwards
        life.ready("a")
        await life.until(60)
        assert (life.tripped(), life.said) == ((), [])


OTHER = BEAT.replace("triggers.beat", "triggers.other")
RENAMED = "warn: trigger beat is now other: it fires if no beat comes under the new name within 3 s"


@asynccontextmanager
async def renamed(
    directory: Path, last: bytes = b"beat", old: str = BEAT, new: str = OTHER
) -> AsyncIterator[Restarted]:
    """Have a daemon rename its heartbeat 3 s after its start; `last` was heard half a second before."""
    async with living(directory, old) as life:
        life.ready("a")
        await life.until(1)
        life.hear()
        await life.until(2.5)
        life.hear(last)
        await life.until(3)
        life.watch.prepare_reload(life.config(new), ["other"], {"other": "beat"})()
        async with anyio.create_task_group() as group:
            group.start_soon(life.watch.run, life.watch.triggers["other"])
            yield life
            group.cancel_scope.cancel()


async def test_a_strategy_that_dies_while_its_heartbeat_is_renamed_is_found(tmp_path: Path) -> None:
    async with renamed(tmp_path) as life:
        assert life.said == [RENAMED]
        assert life.watch.states()["other"][0] is TriggerState.OK
        told = [(data["trigger"], data["watched"]) for data in life.floor.recorder.of("heartbeat")]
        assert told == [("beat", True), ("other", True), ("beat", False)]  # at no time is neither on record
        await life.until(5.9)  # it has the whole time-out to beat under its new name
        assert life.tripped() == ()
        await life.until(6.3)
        assert life.tripped() == ("a",)
        left = life.entries
    assert left[-1]["data"] == {"trigger": "other", "watched": False, "why": "trip"}


async def test_a_strategy_that_beats_on_under_the_new_name_trips_nothing(tmp_path: Path) -> None:
    async with renamed(tmp_path) as life:
        for second in range(4, 20, 2):
            life.hear(b"other")
            await life.until(second)
        assert life.tripped() == ()
        await life.until(21.5)
        assert life.tripped() == ("a",)


async def test_a_strategy_that_sent_goodbye_is_not_waited_for_under_another_name(tmp_path: Path) -> None:
    new = BYE.replace("triggers.beat", "triggers.other")
    async with renamed(tmp_path, b'{"bye":"beat"}', BYE, new) as life:
        await life.until(60)
        assert (life.tripped(), life.said) == ((), [])


async def test_a_strategy_that_died_with_the_daemon_is_found_though_its_heartbeat_was_renamed_meanwhile(
    tmp_path: Path,
) -> None:
    async with living(tmp_path, OTHER, await died_watching(tmp_path), {"other": "beat"}) as life:
        await life.until(1)
        assert life.said == [RENAMED]
        told = [(data["trigger"], data["watched"]) for data in life.floor.recorder.of("heartbeat")]
        assert told == [("other", True), ("beat", False)]
        left = life.entries
        life.ready("a")
        await life.until(4.5)
        assert life.tripped() == ("a",)
    async with living(tmp_path, OTHER, left) as life:  # killed before that, it goes on under the new name
        life.ready("a")
        await life.until(3.5)
        assert life.tripped() == ("a",)
        assert not any(line.startswith("warn") for line in life.said)


@pytest.mark.parametrize("more", ["", "; other waits for a first beat"])
async def test_a_watched_heartbeat_that_a_reload_removes_is_announced(more: str, tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        life.hear()
        await life.until(1.5)
        rest = OTHER.replace("3s", "9s") if more else RATE
        life.watch.prepare_reload(life.config(rest), ["other" if more else "runaway"])()
        unnoticed = "if the strategy of a stops beating, the daemon does not notice it any more"
        assert life.said == [f"warn: trigger beat was removed: {unnoticed}{more}"]


async def test_a_heartbeat_that_is_not_watched_ends_without_a_word(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        await life.until(1.5)
        life.watch.prepare_reload(life.config(OTHER), ["other"], {"other": "beat"})()
        life.watch.prepare_reload(life.config(RATE), ["runaway"])()
        assert life.said == []


async def test_orders_that_a_trigger_has_counted_are_not_forgotten_when_it_is_renamed(tmp_path: Path) -> None:
    async with watching(tmp_path, RATE) as watched:
        await anyio.sleep(12)
        watched.watch.on_fact("a", OrdersFound(("6", "7"), watched.loop.now().mono_ns - 10**9))
        table = RATE.replace("triggers.runaway", "triggers.fast")
        watched.watch.prepare_reload(watched.config(table), ["fast"], {"fast": "runaway"})()
        assert watched.watch.states()["fast"][1].startswith("2 new orders within 10 s, of 3 (a)")


async def test_a_heartbeat_that_a_reload_ends_is_not_waited_for_when_it_is_back(tmp_path: Path) -> None:
    async with living(tmp_path, BEAT) as life:
        life.hear()
        await life.until(1.5)
        life.watch.prepare_reload(life.config(RATE), ["runaway"])()
        await life.until(3)
        left = life.entries
    async with living(tmp_path, BEAT, left) as life:
        life.ready("a")
        await life.until(60)
        assert life.tripped() == ()


@pytest.mark.parametrize(
    "data",
    [{}, {"trigger": "beat"}, {"trigger": "beat", "watched": "yes", "why": "beat"}, {"trigger": [], "watched": True}],
)
async def test_a_record_that_is_none_of_a_heartbeat_is_left_out(data: dict[str, Any], tmp_path: Path) -> None:
    left = [*await died_watching(tmp_path), {"kind": "heartbeat", "data": data, "seq": 99}]
    async with living(tmp_path, BEAT, left) as life:
        assert life.state == (TriggerState.WAITING, WATCHED_BEFORE)


# ── accounts that come and go ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", [RATE.replace('"a"', "{0}"), LINK], ids=["order-rate", "link"])
async def test_an_account_that_left_a_trigger_while_it_was_struck_is_watched_when_a_reload_brings_it_back(
    text: str, tmp_path: Path
) -> None:
    one, both = text.replace("{0}", '"a"'), text.replace("{0}", '"a", "b"')

    async def strike_b(watched: Watched) -> None:
        await anyio.sleep(12)
        place(watched, "b", *(str(watched.loop.now().mono_ns + n) for n in range(4)))
        watched.floor.lanes["b"].state = LaneState.DOWN
        await anyio.sleep(2)
        watched.floor.lanes["b"].state = LaneState.UP
        await anyio.sleep(0.2)

    async with watching(tmp_path, both) as watched:
        await strike_b(watched)
        (trigger,) = watched.watch.triggers.values()
        assert len(watched.floor.recorder.of("reason")) == 1
        watched.watch.prepare_reload(watched.config(one), [])()
        await anyio.sleep(1)
        watched.watch.on_rearmed(trigger, ["a"])
        assert trigger.state()[0] is not TriggerState.TRIPPED
        watched.watch.prepare_reload(watched.config(both), [])()
        await strike_b(watched)
        assert len(watched.floor.recorder.of("reason")) == 2


async def test_a_trigger_is_not_tripped_any_more_once_the_account_that_it_holds_has_left_it(tmp_path: Path) -> None:
    one, both = RATE, RATE.replace('"a"', '"a", "b"')
    async with watching(tmp_path, both) as watched:
        await anyio.sleep(12)
        place(watched, "b", *"1234")
        await anyio.sleep(0.2)
        (trigger,) = watched.watch.triggers.values()
        watched.watch.on_rearmed(trigger, ["a"])
        assert trigger.state()[0] is TriggerState.TRIPPED
        watched.watch.prepare_reload(watched.config(one), [])()
        await anyio.sleep(1)
        assert trigger.state()[0] is TriggerState.OK
