"""A link trigger fires for accounts whose lanes are all down for too long, and for no others."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from kill_switch.core.domain import Reason
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.link import LinkTrigger
from kill_switch.triggers.stall_clock import StallClock
from tests.harness.trigger_fixtures import virtual_time
from tests.harness.trigger_run import watch
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio


class Lanes:
    """Two accounts that can be reached, until a test says otherwise."""

    def __init__(self) -> None:
        self.up = {"a": True, "b": True}
        self.attention = StallClock(lambda: running().now())
        self.trigger = LinkTrigger(
            "lost",
            ("a", "b"),
            10.0,
            clock=lambda: running().now(),
            attention=self.attention,
            reachable=lambda: self.up,
        )

    async def watch(self, seconds: float, *plan: tuple[float, Callable[[], None]]) -> list[Reason]:
        """Watch so long; at each instant of the plan, counted from now, do what it says."""
        async with anyio.create_task_group() as group:

            async def follow() -> None:
                began_s = anyio.current_time()
                for at_s, act in plan:
                    await anyio.sleep_until(began_s + at_s)
                    act()

            group.start_soon(self.attention.run)
            group.start_soon(follow)
            reasons = await watch(self.trigger, seconds)
            group.cancel_scope.cancel()
        return reasons

    def set(self, name: str, up: bool) -> Callable[[], None]:
        return lambda: self.up.update({name: up})


async def test_it_fires_after_the_timeout_and_not_before() -> None:
    lanes = Lanes()
    assert await lanes.watch(10.5, (1.0, lanes.set("a", False))) == []
    assert "a down for 9." in lanes.trigger.state()[1]
    (reason,) = await lanes.watch(1.0)
    assert reason.accounts == ("a",)
    assert reason.text == "a cannot be reached for 10 s"


async def test_a_link_that_comes_back_in_time_starts_over() -> None:
    lanes = Lanes()
    down_and_up = ((1.0, lanes.set("a", False)), (10.0, lanes.set("a", True)), (11.0, lanes.set("a", False)))
    assert await lanes.watch(20.5, *down_and_up) == []


async def test_an_account_that_was_never_reached_trips_nothing() -> None:
    lanes = Lanes()
    lanes.up = {"a": False, "b": False}
    assert await lanes.watch(3600.0) == []
    assert lanes.trigger.state()[0] is TriggerState.WAITING


async def test_time_in_which_we_were_stopped_does_not_count() -> None:
    lanes = Lanes()
    plan = ((1.0, lanes.set("a", False)), (2.0, lambda: running().stall(60.0)))
    assert await lanes.watch(69.0, *plan) == []
    assert len(await lanes.watch(3.0)) == 1


async def test_a_rearm_is_refused_until_the_account_can_be_reached_again() -> None:
    lanes = Lanes()
    assert len(await lanes.watch(15.0, (1.0, lanes.set("a", False)))) == 1
    assert lanes.trigger.rearm_blocker() == "a cannot be reached; it would fire again"
    assert await lanes.watch(60.0) == []  # once is enough
    lanes.up["a"] = True
    assert lanes.trigger.rearm_blocker() is None
    lanes.trigger.on_rearmed()
    assert len(await lanes.watch(15.0, (1.0, lanes.set("a", False)))) == 1


async def test_an_account_that_goes_and_comes_back_is_watched_from_when_it_is_reached_again() -> None:
    lanes = Lanes()
    assert await lanes.watch(1.0) == []
    lanes.trigger.set_accounts(("a",))
    del lanes.up["b"]
    assert await lanes.watch(3600.0) == []
    lanes.up["b"] = False
    lanes.trigger.set_accounts(("a", "b"))
    assert await lanes.watch(60.0) == []  # it is connecting
    lanes.up["b"] = True
    (reason,) = await lanes.watch(15.0, (1.0, lanes.set("b", False)))
    assert reason.accounts == ("b",)


@virtual_time
class TestLink:
    pytestmark = pytest.mark.anyio

    async def test_a_re_arm_for_another_reason_does_not_end_the_watch_over_an_account_that_is_down(self) -> None:
        loop = running()
        up = {"a": True}
        reasons: list[Reason] = []
        attention = StallClock(loop.now)
        link = LinkTrigger("lost", ("a",), 10.0, clock=loop.now, attention=attention, reachable=lambda: up)
        async with anyio.create_task_group() as group:
            group.start_soon(attention.run)
            group.start_soon(link.run, reasons.append)
            await anyio.sleep(1)
            up["a"] = False
            await anyio.sleep(5)
            link.on_rearmed()
            await anyio.sleep(5.5)
            assert [reason.accounts for reason in reasons] == [("a",)]
            group.cancel_scope.cancel()
