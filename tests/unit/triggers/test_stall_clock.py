"""The event loop's stalls, in virtual time."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from kill_switch.triggers.stall_clock import StallClock
from tests.harness.trigger_fixtures import (
    virtual_time,
)
from tests.harness.virtual_time import running


@virtual_time
class TestAttention:
    pytestmark = pytest.mark.anyio

    async def test_a_loop_that_turns_is_never_deaf(self) -> None:
        loop = running()
        attention = StallClock(loop.now)
        with anyio.move_on_after(60):
            await attention.run()
        assert attention.stalled_ns(loop.now().mono_ns) == 0

    async def test_a_stall_that_is_only_just_over_counts_and_counts_once(self) -> None:
        loop = running()
        attention = StallClock(loop.now)
        loop.stall(5)
        now_ns = loop.now().mono_ns
        assert attention.stalled_ns(now_ns) == 4_900_000_000
        attention.tick(now_ns)
        assert attention.stalled_ns(now_ns) == 4_900_000_000

    async def test_a_tick_that_is_a_little_late_is_jitter(self) -> None:
        loop = running()
        attention = StallClock(loop.now)
        loop.stall(0.2)
        assert attention.stalled_ns(loop.now().mono_ns) == 0
