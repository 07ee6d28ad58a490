"""A bot with the client library beside a real daemon: beats in each state of the daemon, figures, and requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from kill_switch.client import Control, Refused, Unreachable, aio, equity
from tests.system.e2e.conftest import Play
from tests.system.load import beats

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LOSS = """
[triggers.daily-loss]
kind = "pnl"
accounts = ["oxfun"]
source = "intake"
currency = "USD"
max_loss = "5000"
stale_after = "60s"
reset = "00:00 UTC"
confirm = 1
on_blind = "alarm"
"""
WORST_CPU_US = 20_000  # a beat takes some 10 µs; a call that waited for the daemon took seconds


@pytest.fixture
def play() -> Iterator[Play]:
    with Play(["oxfun", "roxom"]) as made:
        made.write_config(beats.TRIGGER + LOSS)
        made.start_daemon()
        yield made


def test_a_bot_beats_through_each_state_of_the_daemon_and_trips_nothing_until_it_dies(play: Play) -> None:
    measured = dict(beats.measure(play, 0.5))
    states = {state: figures.accepted for state, figures in measured.items()}
    unreachable = {state for state, accepted in states.items() if accepted == 0}
    assert unreachable == {
        "it is stopped, and the queue is full",
        "it is dead",
        "it is dead, and its directory is gone",
    }
    assert max(figures.worst_cpu_us for figures in measured.values()) < WORST_CPU_US
    assert [figures.trouble.partition(": ")[2] for state, figures in measured.items() if state in unreachable] == [
        "the daemon reads no datagrams: its queue is full",
        "the daemon is dead, or restarting",
        "the daemon has not started, or its directory is gone",
    ]
    play.wait_for(lambda status: status["accounts"]["oxfun"]["state"] == "CLEAR", beats.TIMEOUT_S + 20.0)
    assert play.status()["accounts"]["roxom"]["state"] == "ARMED"


def test_a_loss_that_a_bot_reports_fires(play: Play) -> None:
    play.rest("oxfun", 3)
    assert equity("daily-loss", 100_000, runtime_dir=play.runtime_dir)
    play.wait_for(lambda status: status["triggers"]["daily-loss"]["state"] == "ok", 10.0)
    assert equity("daily-loss", "nan", runtime_dir=play.runtime_dir) is False
    assert equity("daily-loss", 94_000.5, runtime_dir=play.runtime_dir)
    play.wait_for(lambda status: status["accounts"]["oxfun"]["state"] == "CLEAR", 10.0)
    assert play.book("oxfun") == 0


def test_a_program_reads_the_status_drills_and_kills_and_its_twin_does_the_same(play: Play) -> None:
    desk, twin = Control(play.runtime_dir), aio.Control(play.runtime_dir)
    for venue in play.venues:
        play.rest(venue, 3)
    status = desk.status()
    assert (status["state"], status["protocol"], asyncio.run(twin.status())["pid"]) == ("ARMED", 1, status["pid"])
    assert desk.drill(["oxfun"])["ok"] and set(asyncio.run(twin.drill("roxom"))["accounts"]) == {"roxom"}
    with pytest.raises(Refused, match="mm9"):
        desk.fire("x", ["mm9"])
    with pytest.raises(Refused, match="mm9"):
        asyncio.run(twin.fire("x", ["mm9"]))
    assert desk.status()["state"] == "ARMED"
    report = desk.fire("runaway quoter", "oxfun", wait_s=10)
    assert {name: report["accounts"][name]["state"] for name in report["asked"]} == {"oxfun": "CLEAR"}
    assert (play.book("oxfun"), play.book("roxom")) == (0, 3)
    report = asyncio.run(twin.fire("and the rest", wait_s=10))
    assert {report["accounts"][name]["state"] for name in report["asked"]} == {"CLEAR"} and play.open_orders() == 0
    play.stop_daemon()
    with pytest.raises(Unreachable):
        desk.status()
    with pytest.raises(Unreachable):
        asyncio.run(twin.status())


def test_a_kill_of_a_program_that_a_stopped_daemon_does_not_acknowledge_is_carried_out_when_it_wakes(
    play: Play,
) -> None:
    began_s = time.monotonic()
    with beats.stopped(play):
        with pytest.raises(Unreachable, match="is not known"):
            Control(play.runtime_dir).fire("runaway quoter", wait_s=0)
        with pytest.raises(Unreachable, match="is not known"):
            asyncio.run(aio.Control(play.runtime_dir).fire("runaway quoter", wait_s=0))
    assert 1.8 < time.monotonic() - began_s < 20.0
    play.until_tripped()
