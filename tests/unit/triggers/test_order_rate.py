"""An order-rate trigger fires for an account that runs away, and for no stall, burst or outage that only looks so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kill_switch.core.domain import Instant, Reason
from kill_switch.triggers.base import TriggerState, Unseen
from kill_switch.triggers.order_rate import OrderRateTrigger, OrderVisibility
from kill_switch.triggers.stall_clock import StallClock
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio


class Floor:
    """Ten new orders within ten seconds are allowed; accounts a and b are seen, with nothing open."""

    def __init__(self, max_new: int | None, max_open: int | None) -> None:
        self.loop = running()
        self.began_s = self.loop.time()
        self.views: dict[str, OrderVisibility | None] = {"a": OrderVisibility(True, 0), "b": OrderVisibility(True, 0)}
        self.attention = StallClock(self.loop.now)
        self.reasons: list[Reason] = []
        self.trigger = OrderRateTrigger(
            "runaway",
            ("a", "b"),
            max_new,
            max_open,
            10.0,
            clock=self.loop.now,
            attention=self.attention,
            look=self.views.get,
        )
        self._orders = 0

    def place(self, count: int = 1, account: str = "a") -> None:
        for _ in range(count):
            self._orders += 1
            self.trigger.on_order_placed(account, f"o{self._orders}")

    def found(self, count: int, ago_s: float, account: str = "a") -> None:
        """Let a list show orders that were placed so many seconds ago or later."""
        first, self._orders = self._orders, self._orders + count
        ids = [f"o{number + 1}" for number in range(first, self._orders)]
        self.trigger.on_orders_found(account, ids, self.loop.now().mono_ns - round(ago_s * 1e9))

    async def until(self, seconds: float) -> None:
        await anyio.sleep(self.began_s + seconds - self.loop.time())

    @property
    def fired_s(self) -> list[float]:
        return [round(reason.observed_at.mono_ns / 1e9 - self.began_s, 2) for reason in self.reasons]

    @property
    def state(self) -> str:
        return str(self.trigger.state()[0])


@asynccontextmanager
async def watching(max_new: int | None = 10, max_open: int | None = None) -> AsyncIterator[Floor]:
    floor = Floor(max_new, max_open)
    async with anyio.create_task_group() as group:
        group.start_soon(floor.attention.run)
        group.start_soon(floor.trigger.run, floor.reasons.append)
        await anyio.sleep(0.05)
        yield floor
        group.cancel_scope.cancel()


# ── new orders ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_more_than_may_be_fires_at_once() -> None:
    async with watching() as floor:
        await floor.until(3)
        floor.place(10)
        await floor.until(8)
        assert floor.reasons == []
        floor.place()
        await anyio.sleep(0.001)
        (reason,) = floor.reasons
        assert (reason.trigger, reason.accounts, floor.fired_s) == ("runaway", ("a", "b"), [8.0])
        assert reason.text == "a has 11 new orders within 10 s (allowed: 10)"
        assert reason.evidence == {
            "account": "a",
            "new": 11,
            "max_new": 10,
            "within_ms": 5000,
            "window_ms": 10_000,
            "latest": ["o7", "o8", "o9", "o10", "o11"],
        }


async def test_the_window_slides_exactly() -> None:
    async with watching() as floor:
        for number in range(100):  # one a second and a millisecond: eleven in ten seconds and ten milliseconds
            await floor.until(1.001 * (number + 1))
            floor.place()
        assert (floor.reasons, floor.state) == ([], TriggerState.OK)
        await floor.until(1.001 * 100 + 0.98)
        floor.place()
        await anyio.sleep(0.1)
        assert floor.fired_s == [round(1.001 * 100 + 0.98, 2)]


async def test_an_order_reported_twice_counts_once() -> None:
    async with watching() as floor:
        for _ in range(100):
            floor.trigger.on_order_placed("a", "the same")
        await anyio.sleep(1)
        assert floor.reasons == []


async def test_each_account_counts_alone() -> None:
    async with watching() as floor:
        floor.place(10)
        floor.place(10, "b")
        floor.place(500, "c")  # nobody of ours
        await anyio.sleep(1)
        assert floor.reasons == []
        floor.place(1, "b")
        await anyio.sleep(1)
        assert floor.reasons[0].text == "b has 11 new orders within 10 s (allowed: 10)"


async def test_it_fires_once_until_it_is_rearmed() -> None:
    async with watching() as floor:
        floor.place(500)
        await anyio.sleep(1)
        floor.place(500)
        await anyio.sleep(1)
        assert len(floor.reasons) == 1
        assert floor.trigger.state() == (
            TriggerState.TRIPPED,
            "a has 11 new orders within 10 s (allowed: 10); now 11 new orders within 10 s, of 10 (a)",
        )
        assert floor.trigger.rearm_blocker() == "11 new orders within 10 s, of 10 (a); it would fire again"
        await anyio.sleep(10)
        assert floor.trigger.rearm_blocker() is None
        floor.trigger.on_rearmed()
        floor.place(10)
        await anyio.sleep(1)
        assert (len(floor.reasons), floor.state) == (1, TriggerState.OK)
        floor.place(1)
        await anyio.sleep(1)
        assert len(floor.reasons) == 2


async def test_a_rearm_for_another_reason_forgets_no_order() -> None:
    async with watching() as floor:
        floor.place(10)
        floor.trigger.on_rearmed()
        floor.place(1)
        await anyio.sleep(1)
        assert len(floor.reasons) == 1


async def test_memory_is_bounded_whatever_comes() -> None:
    async with watching() as floor:
        for _ in range(100):
            floor.place(1000)
            await anyio.sleep(0.2)
        assert len(floor.trigger._known["a"].new) == len(floor.trigger._known["a"].times) == 11
        floor.trigger.on_orders_found("a", [str(number) for number in range(100_000)], floor.loop.now().mono_ns)
        assert len(floor.trigger._known["a"].new) == len(floor.trigger._known["a"].times) == 11
        floor.trigger.set_accounts(("b",))
        await anyio.sleep(0.2)
        assert "a" not in floor.trigger._known


@given(
    max_new=st.integers(1, 5),
    gaps_ms=st.lists(st.sampled_from([0, 100, 2_500, 5_000, 7_500, 9_900, 10_000]), min_size=1, max_size=40),
)
def test_it_fires_for_the_first_order_that_is_one_too_many_and_no_earlier(max_new: int, gaps_ms: list[int]) -> None:
    clock = [1_000_000_000_000]

    def now() -> Instant:
        return Instant(clock[0], clock[0])

    attention = StallClock(now)
    trigger = OrderRateTrigger(
        "x", ("a",), max_new, None, 10.0, clock=now, attention=attention, look=lambda _: OrderVisibility(True, None)
    )
    trigger._look()
    for _ in range(11):  # what comes in the first second may have been held back until the account was seen
        clock[0] += 100_000_000
        attention.tick(clock[0])
    times: list[int] = []
    for number, gap_ms in enumerate(gaps_ms):
        for _ in range(0, gap_ms, 100):
            clock[0] += 100_000_000
            attention.tick(clock[0])
        times.append(clock[0])
        trigger.on_order_placed("a", str(number))
        within = sum(clock[0] - at_ns <= 10_000_000_000 for at_ns in times)
        assert (trigger._found is not None) == (within > max_new)
        if within > max_new:
            return


# ── open orders ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_too_many_open_orders_fire_when_they_were_too_many_all_through_the_window() -> None:
    async with watching(None, 5) as floor:
        await floor.until(2)
        floor.views["a"] = OrderVisibility(True, 6)
        await floor.until(11.9)
        assert floor.reasons == []
        await floor.until(12.2)
        (reason,) = floor.reasons
        assert reason.text == "a has 6 open orders, and has had more than 5 for 10 s"
        assert reason.accounts == ("a", "b")
        assert reason.evidence == {"account": "a", "open": 6, "max_open": 5, "window_ms": 10_000}


async def test_a_burst_that_clears_is_no_reason() -> None:
    async with watching(None, 5) as floor:
        for _ in range(10):
            floor.views["a"] = OrderVisibility(True, 500)
            await anyio.sleep(9.5)
            floor.views["a"] = OrderVisibility(True, 5)
            await anyio.sleep(0.2)
        assert (floor.reasons, floor.state) == ([], TriggerState.OK)


async def test_as_many_open_orders_as_may_be_never_fire() -> None:
    async with watching(None, 5) as floor:
        floor.views["a"] = floor.views["b"] = OrderVisibility(True, 5)
        await anyio.sleep(600)
        assert floor.trigger.state() == (TriggerState.OK, "5 open orders, of 5 (a)")


async def test_new_orders_do_not_count_where_only_open_ones_do() -> None:
    async with watching(None, 5) as floor:
        floor.place(10_000)
        await anyio.sleep(1)
        assert floor.reasons == []


async def test_a_rearm_is_refused_while_too_many_are_open_and_counts_from_then_on() -> None:
    async with watching(None, 5) as floor:
        floor.views["b"] = OrderVisibility(True, 9)
        await anyio.sleep(11)
        assert floor.trigger.rearm_blocker() == "9 open orders, of 5 (b); it would fire again"
        floor.views["b"] = OrderVisibility(True, 0)
        await anyio.sleep(0.2)
        assert floor.trigger.rearm_blocker() is None
        floor.trigger.on_rearmed()
        floor.views["b"] = OrderVisibility(True, 9)
        await anyio.sleep(9.9)
        assert len(floor.reasons) == 1
        await anyio.sleep(0.5)
        assert len(floor.reasons) == 2


async def test_time_in_which_open_orders_are_not_seen_stops_their_clock_and_does_not_set_it_back() -> None:
    async with watching(None, 5) as floor:
        floor.views["a"] = OrderVisibility(True, 6)
        await floor.until(8)
        floor.views["a"] = OrderVisibility(True, None)
        await floor.until(11)
        floor.views["a"] = OrderVisibility(True, 6)
        await floor.until(12.9)
        assert floor.reasons == []
        await floor.until(13.6)
        assert len(floor.reasons) == 1


async def test_too_many_open_orders_fire_though_the_lane_comes_back_more_often_than_the_window() -> None:
    async with watching(None, 5) as floor:
        for _ in range(10):
            floor.views["a"] = OrderVisibility(True, 6)
            await anyio.sleep(2)
            floor.views["a"] = OrderVisibility(False, 6)
            await anyio.sleep(1)
        assert len(floor.fired_s) == 1 and 14 <= floor.fired_s[0] <= 18


async def test_the_clock_of_open_orders_begins_anew_behind_blindness_and_after_one_look_that_sees_fewer() -> None:
    async with watching(None, 5) as floor:
        for between in (OrderVisibility(False, 6), OrderVisibility(True, 5)):
            floor.views["a"] = OrderVisibility(True, 6)
            await anyio.sleep(8)
            floor.views["a"] = between
            await anyio.sleep(10.3)
            floor.views["a"] = OrderVisibility(True, 6)
            await anyio.sleep(9)
            assert floor.reasons == []
            floor.views["a"] = OrderVisibility(True, 0)
            await anyio.sleep(0.2)


async def test_orders_that_a_list_shows_count_from_the_list_before() -> None:
    async with watching() as floor:
        await floor.until(100)
        floor.found(40, 10.1)
        floor.place(10)
        assert floor.trigger.measurements() == {"new_orders": (10.0, 10.0)}
        await anyio.sleep(1)
        assert floor.reasons == []
        floor.found(11, 9.9)
        await anyio.sleep(0.001)
        assert floor.reasons[0].text == "a has 11 new orders within 10 s (allowed: 10)"


async def test_a_burst_that_a_list_shows_before_its_late_pushes_fires_with_them_and_each_order_counts_once() -> None:
    async with watching() as floor:
        await floor.until(100)
        floor.found(11, 15)
        await anyio.sleep(1)
        assert floor.reasons == []
        for number in range(1, 11):
            floor.trigger.on_order_placed("a", f"o{number}")
            floor.trigger.on_order_placed("a", f"o{number}")
        await anyio.sleep(1)
        assert floor.reasons == []
        floor.trigger.on_order_placed("a", "o11")
        await anyio.sleep(0.1)
        assert len(floor.reasons) == 1


async def test_an_order_with_two_times_counts_once_at_the_later_one() -> None:
    async with watching() as floor:
        await floor.until(100)
        floor.place(5)
        floor._orders = 0
        floor.found(5, 8)
        await anyio.sleep(9)
        assert floor.trigger.measurements() == {"new_orders": (5.0, 10.0)}
        await anyio.sleep(1.1)
        assert floor.trigger.measurements() == {"new_orders": (0.0, 10.0)}


async def test_where_only_open_orders_count_and_for_an_account_of_others_nothing_that_is_found_does() -> None:
    async with watching(None, 5) as floor:
        floor.found(100, 1)
        await anyio.sleep(0.2)
        assert floor.reasons == []
    async with watching() as floor:
        floor.found(100, 1, "c")
        await anyio.sleep(0.2)
        assert floor.reasons == []


# ── deaf ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_orders_that_a_stall_of_our_own_held_back_were_not_placed_at_once() -> None:
    async with watching() as floor:
        await floor.until(5)
        floor.loop.stall(60)
        floor.place(30)  # one every two seconds
        await anyio.sleep(0.3)
        floor.place(5)
        await anyio.sleep(5)
        assert floor.reasons == []
        floor.place(11)
        await anyio.sleep(0.1)
        assert len(floor.reasons) == 1


async def test_orders_that_came_within_a_short_stall_are_too_many_all_the_same() -> None:
    async with watching() as floor:
        await floor.until(5)
        floor.loop.stall(4)
        floor.place(11)
        await anyio.sleep(0.1)
        assert len(floor.reasons) == 1


async def test_two_stalls_in_a_row_hold_back_as_long_as_both() -> None:
    async with watching() as floor:
        await floor.until(5)
        floor.loop.stall(8)
        await anyio.sleep(0.2)
        floor.loop.stall(8)
        floor.place(11)
        await anyio.sleep(0.1)
        assert floor.reasons == []


async def test_time_in_which_we_were_deaf_is_no_part_of_the_window_of_open_orders() -> None:
    async with watching(None, 5) as floor:
        floor.views["a"] = OrderVisibility(True, 6)
        await floor.until(5)
        floor.loop.stall(60)
        await anyio.sleep(4.5)
        assert floor.reasons == []
        await anyio.sleep(1.5)
        assert len(floor.reasons) == 1


# ── blind ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("view", [None, OrderVisibility(False, 0), OrderVisibility(True, None)])
async def test_an_account_that_is_not_seen_for_longer_than_the_window_is_blindness(
    view: OrderVisibility | None,
) -> None:
    async with watching(10, 5) as floor:
        await floor.until(5)
        assert floor.state == TriggerState.OK
        floor.views["b"] = view
        await floor.until(7)
        assert floor.trigger.state() == (TriggerState.WAITING, "waits until the orders of b are seen")
        await floor.until(14.9)
        assert floor.state == TriggerState.WAITING
        await floor.until(16)
        assert floor.state == TriggerState.BLIND
        assert floor.trigger.state()[1].startswith("the orders of b are not seen for 1")
        floor.views["b"] = OrderVisibility(True, 0)
        await floor.until(17)
        assert (floor.state, floor.reasons) == (TriggerState.OK, [])


async def test_an_account_that_is_never_seen_from_the_start_on_is_waited_for_and_then_blindness() -> None:
    async with watching() as floor:
        trigger = OrderRateTrigger(
            "x", ("c",), 10, 5, 10.0, clock=floor.loop.now, attention=floor.attention, look=floor.views.get
        )
        assert trigger.state() == (TriggerState.WAITING, "waits until the orders of c are seen")
        await anyio.sleep(10.2)
        assert trigger.state()[0] is TriggerState.BLIND


async def test_an_account_that_a_reload_adds_is_not_seen_until_it_is_looked_at() -> None:
    async with watching() as floor:
        floor.trigger.set_accounts(("a", "c"))
        assert floor.state == TriggerState.WAITING
        floor.views["c"] = OrderVisibility(True, 0)
        await anyio.sleep(0.2)
        assert floor.state == TriggerState.OK


async def test_a_rearm_is_refused_while_it_cannot_see_and_force_is_named() -> None:
    async with watching() as floor:
        words = "cannot see whether {} has too many orders: its orders have not been seen for 10 s"
        words += "; look there, then use --force"
        await floor.until(5)
        why = floor.trigger.rearm_blocker()  # it has just started: what was placed before, it has not seen
        assert isinstance(why, Unseen) and why == words.format("a, b")
        await floor.until(11)
        assert floor.trigger.rearm_blocker() is None
        floor.views["a"] = OrderVisibility(False, 0)
        await floor.until(12)
        assert floor.trigger.rearm_blocker() == words.format("a")
        floor.views["a"] = OrderVisibility(True, 0)
        await floor.until(13)
        assert floor.trigger.rearm_blocker() is None  # the orders of a short gap have been read
        floor.views["a"] = None
        await floor.until(25)
        assert floor.trigger.rearm_blocker() == words.format("a")
        floor.views["a"] = OrderVisibility(True, 0)
        await floor.until(26)
        assert floor.trigger.rearm_blocker() == words.format("a")
        await floor.until(36)
        assert floor.trigger.rearm_blocker() is None
        floor.place(11)
        floor.views["b"] = None
        await floor.until(37)
        assert not isinstance(floor.trigger.rearm_blocker(), Unseen)  # what it does see speaks against it


async def test_a_reload_with_other_limits_forgets_no_order_and_no_time() -> None:
    async with watching(10, 5) as floor:
        await floor.until(5)
        floor.place(8)
        floor.views["a"] = OrderVisibility(True, 6)
        await floor.until(10)
        trigger = OrderRateTrigger(
            "runaway", ("a",), 9, 5, 10.0, clock=floor.loop.now, attention=floor.attention, look=floor.views.get
        )
        trigger.continue_from(floor.trigger)
        assert trigger.measurements() == {"new_orders": (8.0, 9.0), "open_orders": (6.0, 5.0)}
        trigger.on_order_placed("a", "x")
        assert trigger._found is None
        trigger.on_order_placed("a", "y")
        assert trigger._found is not None


async def test_a_wall_clock_that_jumps_changes_nothing() -> None:
    async with watching(10, 5) as floor:
        floor.views["a"] = OrderVisibility(True, 6)
        await floor.until(5)
        floor.place(5)
        for seconds in (7200, -86_400):
            floor.loop.jump_wall(seconds)
            await anyio.sleep(0.3)
            floor.place(2)
        assert (floor.trigger.measurements()["new_orders"], floor.reasons) == ((9.0, 10.0), [])
        await floor.until(10.4)
        assert len(floor.reasons) == 1


async def test_open_orders_need_not_be_known_where_only_new_ones_count() -> None:
    async with watching() as floor:
        floor.views["a"] = OrderVisibility(True, None)
        await anyio.sleep(60)
        assert floor.trigger.state() == (TriggerState.OK, "0 new orders within 10 s, of 10 (a)")


async def test_time_without_input_makes_no_account_blind() -> None:
    async with watching() as floor:
        floor.views["a"] = None
        await floor.until(5)
        floor.loop.stall(60)
        assert floor.state == TriggerState.WAITING
        await anyio.sleep(6)
        assert floor.state == TriggerState.BLIND


async def test_tripped_it_still_says_that_it_is_blind() -> None:
    async with watching() as floor:
        floor.place(11)
        floor.views["a"] = None
        await anyio.sleep(11)
        state, detail = floor.trigger.state()
        assert state is TriggerState.TRIPPED
        assert "; now the orders of a are not seen for" in detail


async def test_orders_that_show_after_an_outage_were_not_placed_at_once() -> None:
    async with watching() as floor:
        await floor.until(5)
        floor.views["a"] = OrderVisibility(False, 0)
        await floor.until(125)
        floor.place(20)  # before the watch has noticed that the account is seen again
        floor.views["a"] = OrderVisibility(True, 40)
        await anyio.sleep(0.3)
        floor.place(20)  # and after it has
        await anyio.sleep(0.3)
        assert floor.reasons == []
        await anyio.sleep(1)
        floor.place(11)
        await anyio.sleep(0.1)
        assert len(floor.reasons) == 1


async def test_orders_of_a_short_outage_are_too_many_all_the_same() -> None:
    async with watching() as floor:
        await floor.until(5)
        floor.views["a"] = OrderVisibility(False, 0)
        await floor.until(9)
        floor.views["a"] = OrderVisibility(True, 11)
        await anyio.sleep(0.2)
        floor.place(11)
        await anyio.sleep(0.1)
        assert len(floor.reasons) == 1


# ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_its_figures_are_those_of_the_busiest_account() -> None:
    async with watching(10, 5) as floor:
        floor.place(3)
        floor.place(4, "b")
        floor.views["a"] = OrderVisibility(True, 2)
        await anyio.sleep(0.2)
        assert floor.trigger.measurements() == {"new_orders": (4.0, 10.0), "open_orders": (2.0, 5.0)}
        assert floor.trigger.state() == (
            TriggerState.OK,
            "4 new orders within 10 s, of 10 (b), 2 open orders, of 5 (a)",
        )
        floor.views.update(a=None, b=None)
        await anyio.sleep(10.1)
        assert floor.trigger.measurements() == {"new_orders": (0.0, 10.0)}


async def test_an_account_that_joins_a_fired_trigger_and_is_not_seen_makes_it_blind() -> None:
    async with watching() as floor:
        floor.place(11)
        await floor.until(1)
        floor.views["c"] = None
        floor.trigger.set_accounts(("a", "b", "c"))
        await floor.until(10)
        assert floor.state == TriggerState.TRIPPED
        await floor.until(12)
        assert floor.state == TriggerState.BLIND


async def test_a_reason_of_an_account_that_a_reload_takes_away_before_it_is_reported_is_dropped() -> None:
    async with watching() as floor:
        floor.place(11)
        floor.trigger.set_accounts(("b",))
        await floor.until(1)
        assert floor.reasons == []
        floor.place(11, "b")
        floor.trigger.set_accounts(("b", "c"))
        await floor.until(2)
        assert [reason.accounts for reason in floor.reasons] == [("b", "c")]
