"""The recipe for NautilusTrader in a live node of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from datetime import timedelta
from typing import Any

import pytest

from tests.recipes import pages

live = pytest.importorskip("nautilus_trader.live.node", reason="takes nautilus_trader: nox -s recipes")
config = pytest.importorskip("nautilus_trader.config")
identifiers = pytest.importorskip("nautilus_trader.model.identifiers")

pytestmark = pytest.mark.timeout(300)  # the package takes long to import


def test_a_live_node_beats_until_its_loop_hangs_and_says_goodbye_at_its_stop(intake: socket.socket) -> None:
    strategy: Any = pages.module("nautilus-trader").Guarded()
    strategy.beat_every_s = 0.1
    timed: list[object] = []
    trader_id, quiet = identifiers.TraderId("TESTER-001"), config.LoggingConfig(log_level="ERROR")
    node = live.TradingNode(config=config.TradingNodeConfig(trader_id=trader_id, logging=quiet))
    node.trader.add_strategy(strategy)
    node.build()

    async def run() -> None:
        running = asyncio.create_task(node.run_async())
        async with asyncio.timeout(30):
            while len(pages.beats(intake)) < 3:  # noqa: ASYNC110 - the node starts
                await asyncio.sleep(0.5)
        strategy.clock.set_timer("timed", timedelta(milliseconds=100), callback=timed.append)
        pages.beats(intake)
        time.sleep(1.0)  # noqa: ASYNC251 - the loop that trades hangs
        assert pages.beats(intake) == []
        assert len(timed) > 3, "the page says that a timer of the clock goes on"
        await asyncio.sleep(0.5)
        assert set(pages.beats(intake)) == {b'{"beat": "nautilus-alive"}'}
        await node.stop_async()
        assert pages.beats(intake)[-1] == b'{"bye": "nautilus-alive"}'
        await asyncio.sleep(0.5)
        assert pages.beats(intake) == []
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    try:
        node.get_event_loop().run_until_complete(run())
    finally:
        node.dispose()
