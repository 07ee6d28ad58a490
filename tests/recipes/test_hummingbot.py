"""The recipe for Hummingbot, ticked by Hummingbot's own clock."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.recipes import pages

clock = pytest.importorskip("hummingbot.core.clock", reason="takes hummingbot, built from source: nox -s recipes")
clock_mode = pytest.importorskip("hummingbot.core.clock_mode")
config_map = pytest.importorskip("hummingbot.client.config.client_config_map")
config_helpers = pytest.importorskip("hummingbot.client.config.config_helpers")
markets_recorder = pytest.importorskip("hummingbot.connector.markets_recorder")
sql = pytest.importorskip("hummingbot.model.sql_connection_manager")

pytestmark = pytest.mark.timeout(300)  # the package takes long to import


def test_a_script_beats_at_each_tick_and_says_goodbye_at_its_stop(tmp_path: Path, intake: socket.socket) -> None:
    recipe: Any = pages.module("hummingbot")
    settings = config_helpers.ClientConfigAdapter(config_map.ClientConfigMap())
    path = str(tmp_path / "trades.sqlite")
    database = sql.SQLConnectionManager(settings, sql.SQLConnectionType.TRADE_FILLS, db_path=path)

    async def run() -> None:
        recorder = markets_recorder.MarketsRecorder
        recorder.get_instance(database, [], "guarded", "guarded", settings.market_data_collection)
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
