"""Virtual time goes on, however long it has gone on already."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.virtual_time import VirtualTimeLoop, running

DAY_S = 86_400.0


@pytest.mark.parametrize("days", [1, 100, 200, 400, 4000])
def test_timers_fire_after_years_of_virtual_time(days: int) -> None:
    async def wait() -> float:
        running().stall(days * DAY_S)
        began_s = running().time()
        for _ in range(100):
            await asyncio.sleep(0.1)
        return running().time() - began_s

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(wait()) == pytest.approx(10.0, abs=1e-5)


def test_a_wait_for_a_nanosecond_ends_after_years_of_virtual_time() -> None:
    async def wait() -> None:
        running().stall(4000 * DAY_S)
        due_ns = running().now().mono_ns + 3
        for _ in range(100):
            if (left_ns := due_ns - running().now().mono_ns) <= 0:
                return
            await asyncio.sleep(left_ns / 1e9)
        pytest.fail("time stands still")

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(wait())
