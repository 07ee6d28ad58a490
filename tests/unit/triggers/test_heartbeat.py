"""Heartbeats in virtual time."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from kill_switch.triggers.base import TriggerState, Unseen
from tests.harness.trigger_fixtures import (
    Start,
    virtual_time,
    watching,
)


@virtual_time
class TestHeartbeat:
    pytestmark = pytest.mark.anyio

    async def test_it_fires_when_the_time_out_is_over_and_not_before(self) -> None:
        async with watching() as watch:
            await watch.until(1)
            watch.trigger.on_beat()
            await watch.until(3.999)
            assert watch.reasons == []
            await watch.until(4.001)
            assert watch.fired_s == [4.0]

    async def test_a_heartbeats_reason_names_its_accounts_only_and_has_its_evidence(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(5)
            (reason,) = watch.reasons
            assert (reason.trigger, reason.accounts) == ("quoter-alive", ("a",))
            assert reason.text == "no heartbeat for 3.000 s (allowed: 3 s)"
            assert reason.evidence == {"silent_ms": 3000, "timeout_ms": 3000, "deaf_ms": 0, "beats_before": True}

    async def test_it_fires_once(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(600)
            assert watch.fired_s == [3.0]
            assert watch.state is TriggerState.TRIPPED

    async def test_ten_minutes_of_beats_trip_nothing(self) -> None:
        async with watching() as watch:
            for second in range(0, 600, 2):
                await watch.until(second)
                watch.trigger.on_beat()
            assert watch.reasons == []
            assert watch.state is TriggerState.OK

    async def test_without_a_first_beat_it_waits_for_ever(self) -> None:
        async with watching("first-beat") as watch:
            watch.trigger.start_boot_timer()
            await watch.until(600)
            assert watch.reasons == []
            assert watch.trigger.state() == (TriggerState.WAITING, "waits for a beat; last beat: never")

    async def test_from_boot_on_it_wants_a_beat_without_having_seen_one(self) -> None:
        async with watching("boot") as watch:
            await watch.until(10)
            watch.trigger.start_boot_timer()
            await watch.until(60)
            assert watch.fired_s == [13.0]
            assert watch.reasons[0].evidence["beats_before"] is False
            assert watch.trigger.state()[1] == "heartbeat lost; last beat: never"

    async def test_booting_again_is_no_beat(self) -> None:
        async with watching("boot") as watch:
            watch.trigger.start_boot_timer()
            await watch.until(2)
            watch.trigger.start_boot_timer()
            await watch.until(60)
            assert watch.fired_s == [3.0]

    async def test_before_boot_nothing_is_missed(self) -> None:
        async with watching("boot") as watch:
            await watch.until(60)
            assert watch.state is TriggerState.WAITING
            assert watch.reasons == []

    async def test_a_goodbye_ends_the_watch_until_the_next_beat(self) -> None:
        async with watching(allow_bye=True) as watch:
            watch.trigger.on_beat()
            await watch.until(2)
            assert watch.trigger.on_bye() is True
            await watch.until(60)
            assert (watch.reasons, watch.state) == ([], TriggerState.WAITING)
            watch.trigger.on_beat()
            await watch.until(70)
            assert watch.fired_s == [63.0]

    async def test_a_goodbye_that_is_not_allowed_is_ignored(self) -> None:
        async with watching(allow_bye=False) as watch:
            watch.trigger.on_beat()
            assert watch.trigger.on_bye() is False
            await watch.until(60)
            assert watch.fired_s == [3.0]

    async def test_a_goodbye_after_the_loss_hides_nothing(self) -> None:
        async with watching(allow_bye=True) as watch:
            watch.trigger.on_beat()
            await watch.until(4)
            assert watch.trigger.on_bye() is True
            assert watch.state is TriggerState.TRIPPED

    async def test_a_beat_after_the_loss_does_not_untrip(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(10)
            watch.trigger.on_beat()
            await watch.until(12)
            assert watch.trigger.state() == (TriggerState.TRIPPED, "heartbeat lost; last beat: 2.0 s ago")
            assert watch.fired_s == [3.0]

    async def test_waiting_datagrams_are_read_before_silence_is_believed(self) -> None:
        waiting: list[str] = []

        def drain() -> None:
            if waiting:
                waiting.pop()
                watch.trigger.on_beat()

        async with watching(drain=drain) as watch:
            watch.trigger.on_beat()
            waiting.append("beat")
            await watch.until(5.999)
            assert watch.reasons == []
            await watch.until(10)
            assert watch.fired_s == [6.0]

    async def test_a_goodbye_that_is_waiting_is_read_before_silence_is_believed(self) -> None:
        def goodbye() -> None:
            watch.trigger.on_bye()

        async with watching(allow_bye=True, drain=goodbye) as watch:
            watch.trigger.on_beat()
            await watch.until(60)
            assert watch.reasons == []

    # a stalled process

    @pytest.mark.parametrize("stall_s", [0.5, 2.9, 3.1, 60.0, 3600.0])
    async def test_a_stall_of_our_own_trips_nothing(self, stall_s: float) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1)
            watch.loop.stall(stall_s)
            await anyio.sleep(0.05)
            assert watch.reasons == []
            watch.trigger.on_beat()
            await watch.until(1 + stall_s + 3.0)
            assert watch.reasons == []

    @pytest.mark.parametrize("stall_s", [0.5, 2.9, 3.1, 60.0])
    async def test_a_stall_delays_a_true_loss_by_itself_and_no_more(self, stall_s: float) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1)
            watch.loop.stall(stall_s)
            await watch.until(stall_s + 10)
            (fired_s,) = watch.fired_s
            assert 3.0 < fired_s <= 3.0 + stall_s
            assert watch.reasons[0].evidence["deaf_ms"] == pytest.approx(stall_s * 1000, abs=200)

    async def test_two_stalls_add_up(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            for second in (1, 7):
                await watch.until(second)
                watch.loop.stall(5)
            await watch.until(30)
            assert 12.5 <= watch.fired_s[0] <= 13.0

    async def test_a_stall_before_a_beat_is_no_credit_after_it(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1)
            watch.loop.stall(100)
            watch.trigger.on_beat()
            await watch.until(120)
            assert watch.fired_s == [104.0]

    async def test_jitter_is_no_stall(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            for n in range(25):
                await watch.until(0.1 * n)
                watch.loop.stall(0.05)
            await watch.until(10)
            assert watch.fired_s[0] == pytest.approx(3.0, abs=0.01)

    @pytest.mark.parametrize("jump_s", [-86_400, -1, 1, 86_400])
    async def test_a_wall_clock_that_jumps_neither_trips_nor_hides(self, jump_s: float) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1)
            watch.loop.jump_wall(jump_s)
            await watch.until(2.999)
            assert watch.reasons == []
            await watch.until(10)
            assert watch.fired_s == [3.0]

    # the re-arm

    async def test_a_lost_first_beat_trigger_does_not_block_the_re_arm_and_waits_again(self) -> None:
        async with watching("first-beat") as watch:
            watch.trigger.on_beat()
            await watch.until(10)
            assert watch.trigger.rearm_blocker() is None
            watch.trigger.on_rearmed()
            assert watch.state is TriggerState.WAITING
            await watch.until(60)
            watch.trigger.on_beat()
            await watch.until(70)
            assert watch.fired_s == [3.0, 63.0]

    async def test_a_lost_boot_trigger_blocks_the_re_arm_until_beats_have_come_back(self) -> None:
        async with watching("boot") as watch:
            watch.trigger.start_boot_timer()
            await watch.until(10)
            assert (
                watch.trigger.rearm_blocker()
                == "no beat has come since it fired; it would fire again: start the strategy first"
            )
            watch.trigger.on_beat()
            assert watch.trigger.rearm_blocker() is None
            await watch.until(13)
            assert (
                watch.trigger.rearm_blocker()
                == "no beat has come since it fired; it would fire again: start the strategy first"
            )
            watch.trigger.on_beat()
            watch.trigger.on_rearmed()
            assert watch.state is TriggerState.OK
            await watch.until(60)
            assert watch.fired_s == [3.0, 16.0]

    async def test_a_trigger_that_is_owed_a_beat_and_has_heard_none_cannot_see_whether_it_would_fire(self) -> None:
        async with watching("boot") as watch:
            assert isinstance(watch.trigger.rearm_blocker(), Unseen)
            watch.trigger.start_boot_timer()
            await watch.until(1)
            assert watch.trigger.rearm_blocker() == (
                "cannot see whether it beats: last beat: never, allowed: 3 s; look there, then use --force"
            )
            watch.trigger.on_beat()
            assert watch.trigger.rearm_blocker() is None

    async def test_a_trigger_whose_beats_may_be_lost_cannot_see_whether_it_would_fire(self) -> None:
        async with watching() as watch:
            assert watch.trigger.rearm_blocker() is None  # it waits for a first beat
            watch.trigger.on_beat()
            await watch.until(2)
            watch.trigger.on_possible_beat("more datagrams come by UDP than can be read", "UDP")
            assert watch.trigger.rearm_blocker() is None
            await watch.until(3.1)
            assert watch.state is TriggerState.BLIND
            assert isinstance(watch.trigger.rearm_blocker(), Unseen)

    @pytest.mark.parametrize("start", ["first-beat", "boot"])
    async def test_a_re_arm_for_another_reason_does_not_end_the_watch(self, start: Start) -> None:
        async with watching(start) as watch:
            watch.trigger.start_boot_timer()
            watch.trigger.on_beat()
            await watch.until(2)
            watch.trigger.on_rearmed()
            assert watch.state is TriggerState.OK
            await watch.until(60)
            assert watch.fired_s == [3.0]

    async def test_its_condition_tells_a_person_how_long_ago_the_last_beat_was(self) -> None:
        async with watching() as watch:
            watch.trigger.on_beat()
            await watch.until(1.5)
            assert watch.trigger.state() == (TriggerState.OK, "last beat: 1.5 s ago, allowed: 3 s")
