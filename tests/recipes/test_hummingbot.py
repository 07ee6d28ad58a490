"""The recipe for Hummingbot, ticked by Hummingbot's own clock."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from tests.recipes import pages

clock = pytest.importorskip("hummingbot.core.clock", reason="takes hummingbot, built from source: nox -s recipes")
clock_mode = pytest.importorskip("hummingbot.core.clock_mode")


def test_a_script_beats_at_each_tick_and_says_goodbye_at_its_stop(intake: socket.socket) -> None:
    recipe: Any = pages.module("hummingbot")

    async def run() -> None:
        config = recipe.GuardedConfig()
        recipe.Guarded.init_markets(config)
        assert recipe.Guarded.markets == {"binance_paper_trade": {"ETH-USDT"}}
        script = recipe.Guarded({}, config)
        with clock.Clock(clock_mode.ClockMode.REALTIME, tick_size=0.1) as ticking:
            ticking.add_iterator(script)
            await ticking.run_til(time.time() + 1.5)
            assert set(pages.beats(intake)) == {b'{"beat": "hummingbot-alive"}'}
            await script.on_stop()
            assert pages.beats(intake) == [b'{"bye": "hummingbot-alive"}']

    asyncio.run(run())
