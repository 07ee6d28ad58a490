"""Test how many cells the gate lets play at once, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.virtual_time import VirtualTimeLoop

from .gate import Gate


@pytest.mark.parametrize(("busy", "at_once"), [(0.0, 5), (0.4, 5), (0.6, 2)])
def test_an_idle_machine_plays_up_to_the_most_cells_at_once_and_a_busy_one_the_least(busy: float, at_once: int) -> None:
    async def play() -> int:
        loop = asyncio.get_running_loop()
        gate = Gate(2, 5, load_s=lambda: busy * loop.time())
        seen: list[int] = []

        async def cell() -> None:
            async with gate.cell():
                seen.append(gate.playing)
                await asyncio.sleep(60)

        await asyncio.gather(*(cell() for _ in range(10)))
        assert gate.playing == 0
        return max(seen)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(play()) == at_once
