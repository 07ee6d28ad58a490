"""The recipe for Freqtrade, loaded and called by Freqtrade itself."""

from __future__ import annotations

import inspect
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.recipes import pages

enums = pytest.importorskip("freqtrade.enums", reason="takes freqtrade: nox -s recipes")
freqtradebot = pytest.importorskip("freqtrade.freqtradebot")
resolvers = pytest.importorskip("freqtrade.resolvers")
wrapper = pytest.importorskip("freqtrade.strategy.strategy_wrapper")

pytestmark = pytest.mark.timeout(300)  # the package takes long to import


@pytest.mark.parametrize(("runmode", "number"), [("LIVE", 1), ("DRY_RUN", 1), ("BACKTEST", 0)])
def test_an_iteration_of_a_live_bot_beats_and_a_backtest_does_not(
    runmode: str, number: int, tmp_path: Path, intake: socket.socket
) -> None:
    (code,) = pages.blocks("freqtrade", "python")
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies/guarded.py").write_text(code)
    config = {
        "strategy": "Guarded",
        "strategy_path": str(tmp_path / "strategies"),
        "user_data_dir": tmp_path,
        "runmode": enums.RunMode[runmode],
        "stake_currency": "USDT",
        "stake_amount": 10,
        "dry_run": True,
        "exchange": {"name": "kraken"},
    }
    strategy = resolvers.StrategyResolver.load_strategy(config)
    wrapper.strategy_safe_wrapper(strategy.bot_loop_start, supress_error=True)(current_time=datetime.now(UTC))
    assert pages.beats(intake) == [b'{"beat": "freqtrade-alive"}'] * number


def test_freqtrade_calls_it_in_each_iteration() -> None:
    assert "self.strategy.bot_loop_start" in inspect.getsource(freqtradebot.FreqtradeBot.process)
