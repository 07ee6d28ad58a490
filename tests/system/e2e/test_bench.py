"""The benchmark measures what it says, in the form that it promises."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NoReturn, cast
from unittest.mock import AsyncMock

import pytest

from kill_switch.bench import end_to_end, mixed, output, round_trips, runner
from kill_switch.bench.contenders import BenchSetup, Strike
from kill_switch.config import loader
from kill_switch.errors import KillSwitchError
from kill_switch.testbed.testbed import LocalTestbed

pytestmark = pytest.mark.e2e

ROWS = [
    {"system": system, "accounts": accounts, "received_us": dict(figures), "answered_us": dict(figures)}
    for system, figures in (("limit", {"p50": 100.0, "p90": 1, "p99": 2}), ("kill-switch", {"p50": 150.0, "p99": 3}))
    for accounts in (1, 4)
]


def test_every_system_is_measured_at_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run((1, 3), 2, as_json=True) == 0
    whole = json.loads(capsys.readouterr().out)
    assert set(whole["machine"]) == {"cpus", "machine", "system", "python"}
    measured = [(row["accounts"], row["system"]) for row in whole["rows"]]
    assert measured == [(size, system) for size in (1, 3) for system in ("limit", "kill-switch", "httpx")]
    for row in whole["rows"]:
        assert 0 < row["received_us"]["p50"] < row["answered_us"]["p50"]
        assert list(row["received_us"]) == list(row["answered_us"]) == ["p50", "p90", "p99"]


def test_the_peers_are_measured_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("aiohttp", "requests", "ccxt"):
        pytest.importorskip(library)
    monkeypatch.setattr(runner, "WARM_UP", 0)  # ccxt's limiter holds up the second cancel at Kraken for seconds
    assert runner.run((2,), 1, peers=True, as_json=True) == 0
    systems = [row["system"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert systems[3:] == ["aiohttp", "requests", "ccxt", "ccxt, limiter off"]


@pytest.mark.timeout(120)
def test_the_daemon_is_measured_as_a_process() -> None:
    said: list[str] = []
    measured = end_to_end.measure(4, said.append, idle_s=0.5)  # a venue with too small a limit stops at the eleventh
    assert said == [
        "4 times as little as can be done at a flag",
        "the daemon idles for 0.5 s",
        "4 kills by flag",
        "4 kills by heartbeat",
        "4 kills by fire",
    ]
    rows = measured["end_to_end"]
    assert isinstance(rows, list)
    assert [(row["trigger"], row["accounts"]) for row in rows] == [("flag", 16), ("heartbeat", 16), ("fire", 16)]
    limit = measured["flag_limit"]
    assert isinstance(limit, dict)
    assert limit["accounts"] == 16
    assert all(0 < row["received_us"]["p50"] < 5e6 for row in (limit, *rows))
    idle, shell = measured["idle"], measured["shell"]
    assert isinstance(idle, dict)
    assert isinstance(shell, dict)
    assert 0 <= idle["cpu_percent"] < 100
    assert 10 < idle["rss_mib"] < 200
    assert shell["fire_ms"] > shell["python_ms"] > 0


def test_a_measurement_that_fails_does_not_lose_the_rows_before_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise KillSwitchError("only 3 of 16 cancels arrived")

    monkeypatch.setattr(end_to_end, "measure", fail)
    assert runner.run((1,), 1, end_to_end=True, as_json=True) == 1
    whole = json.loads(capsys.readouterr().out)
    assert whole["error"] == "only 3 of 16 cancels arrived"
    assert len(whole["rows"]) == 3
    with pytest.raises(KillSwitchError, match="only 3 of 16"):
        runner.run((1,), 1, end_to_end=True)
    assert "kill-switch" in capsys.readouterr().out


def test_a_kill_at_a_distance_takes_one_round_trip_and_a_cold_script_several(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trips, "SCENARIOS", [round_trips.Scenario("one request", "roxom", 3)])
    assert runner.run_at_distance(0.2, 1, as_json=True) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["rtt_ms"] == 200
    rows = {row["system"]: row for row in whole["round_trips"]}
    assert [rows["kill-switch"][key] for key in ("scenario", "venue", "commands")] == ["one request", "roxom", 1]
    assert 1 <= rows["kill-switch"]["answered_rtt"] < 2
    assert rows["httpx, cold, in turn"]["answered_rtt"] > 3


def test_a_kill_of_many_symbols_at_a_distance_sends_all_commands_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [scenario] = [known for known in round_trips.SCENARIOS if known.name == "ten orders a symbol"]
    monkeypatch.setattr(round_trips, "SCENARIOS", [scenario._replace(orders=12, symbols=4)])
    assert runner.run_at_distance(0.2, 1, as_json=True) == 0
    rows = {row["system"]: row for row in json.loads(capsys.readouterr().out)["round_trips"]}
    commands = {system: row["commands"] for system, row in rows.items()}  # of the second round: none has left an order
    assert commands == {"kill-switch": 8, round_trips.LIMIT: 8, round_trips.BY_IDS: 12}
    for row in rows.values():  # less than a round trip: no command waits for an answer, or for a connection to open
        assert row["apart_ms"] < 200 and 0.5 <= row["received_rtt"] < row["answered_rtt"]


@pytest.mark.anyio
async def test_a_kill_that_leaves_an_order_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalTestbed(["kraken"]) as stage:
        stage.write_config()
        setup = BenchSetup(stage, loader.load(stage.config), 1)
        monkeypatch.setattr(setup, "cancels", AsyncMock(return_value=[time.monotonic_ns()]))  # refused ones count too
        scenario = round_trips.Scenario("one frame", "kraken", 2)
        with pytest.raises(KillSwitchError, match="one frame: 2 orders are left at kraken"):
            await round_trips._round(setup, scenario, 0.01, AsyncMock(return_value=(1, 2)))
        await setup.close()


def test_accounts_that_are_spread_over_every_venue_are_measured_beside_the_least_that_their_commands_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = mixed.measure((10,), 1, lambda line: None)
    assert [row["system"] for row in rows] == ["limit", "kill-switch"]
    # two of Binance's products take two requests an account, and Deribit's quotes for RFQs a command of their own
    assert all(isinstance(row["commands"], int) and row["commands"] >= 13 for row in rows)
    big = {"p50": 1_234_567.8, "p90": 1.0, "p99": 1.0}
    wide = [{**row, "accounts": 256, "received_us": big, "answered_us": big} for row in rows]
    output.print_tables({"rows": ROWS, "mixed": wide})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and lines[-1].split()[:3] == ["256", "kill-switch", str(rows[1]["commands"])]


def test_the_table_shows_multiples_of_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_tables({"rows": ROWS})
    line = next(line for line in capsys.readouterr().out.splitlines() if line.split()[:2] == ["4", "kill-switch"])
    assert line.split() == ["4", "kill-switch", "150", "µs", "1.50", "150", "µs", "1.50", "3", "µs"]


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "latency.png"
    output.plot(ROWS, file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_percentiles_are_of_the_measured_times() -> None:
    assert runner.percentiles([float(n) for n in range(1, 101)]) == {"p50": 50.5, "p90": 91.0, "p99": 100.0}
    assert runner.percentiles([7.0]) == {"p50": 7.0, "p90": 7.0, "p99": 7.0}


def test_a_plot_without_the_library_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(KillSwitchError, match=r"pip install '\.\[bench\]'"):
        runner.run((1,), 1, plot=Path("x.png"))


class Alone:
    """A floor on which every command arrives at once."""

    ROUND_WITHIN_S = 5.0
    size = 1

    async def forget(self) -> None: ...

    async def cancels(self) -> list[int]:
        return [time.monotonic_ns()]

    async def close(self) -> None: ...


async def works(floor: BenchSetup) -> Strike:
    async def strike() -> tuple[int, int]:
        return time.monotonic_ns(), time.monotonic_ns()

    return strike


async def fails(floor: BenchSetup) -> Strike:
    async def strike() -> tuple[int, int]:
        raise TimeoutError

    return strike


@pytest.mark.anyio
async def test_a_peer_that_fails_is_left_out_and_ends_no_benchmark(caplog: pytest.LogCaptureFixture) -> None:
    floor = cast(BenchSetup, Alone())
    results = await runner._all(floor, 2, {"limit": works, "a peer": fails}, lambda: None)
    assert results.keys() == {"limit"} and len(results["limit"]) == 2
    assert "a peer, 1 accounts: left out: TimeoutError" in caplog.text
    with pytest.raises(TimeoutError):
        await runner._all(floor, 2, {"limit": fails}, lambda: None)
