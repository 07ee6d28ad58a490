"""Kills of many symbols at a distance, on real connections: Binance's three venues, and Deribit's one frame."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kill_switch.system.host_port import HostPort
from kill_switch.testbed.relay import RelayProcess
from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

RTT_S = 0.1
GONE_WITHIN_S = 3.0
FUTURES = ("binance-usdm", "binance-coinm")
BINANCE = (*FUTURES, "binance-spot")


@contextmanager
def simulated(*venues: str, accounts: int = 1, **options: object) -> Iterator[Play]:
    """Start simulators of these venues, without limits of a minute, and with these options of the first one.

    The daemon is killed at the end: an orderly stop waits until a kill shows no order.
    """
    set_options = [f"{venue}.pool=0" for venue in venues if venue in BINANCE]
    set_options += [f"{venues[0]}.{name}={value}" for name, value in options.items()]
    with Play(venues, accounts=accounts, options=set_options) as play:
        try:
            yield play
        finally:
            play.stop_daemon(signal.SIGKILL)


@contextmanager
def at_a_distance(play: Play) -> Iterator[None]:
    """Put every venue of a testbed `RTT_S` away, before its configuration is written."""
    urls = [entry[key] for entry in play.venues.values() for key in ("ws_url", "rest_url")]
    with RelayProcess(sorted({HostPort.of_url(url).port for url in urls}), RTT_S) as relay:
        for entry in play.venues.values():
            entry |= {key: relay.url(entry[key]) for key in ("ws_url", "rest_url")}
        yield


def requests(play: Play, venue: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = play.admin("GET", f"/requests?venue={venue}")
    return found


def cancels(play: Play, venue: str) -> list[dict[str, Any]]:
    return [request for request in requests(play, venue) if request["what"].startswith("cancel")]


def first_ones(play: Play, venue: str) -> int:
    """Return how many cancels arrived within a round trip of the first one: none of them waits for an answer."""
    times = [request["t_ns"] for request in requests(play, venue) if request["what"].startswith("cancel")]
    return sum(time_ns - min(times) < RTT_S * 1e9 for time_ns in times)


def rest_at(play: Play, venue: str, first: int, symbols: int) -> None:
    """Rest an order of each kind at each of `symbols` symbols, from the `first` one on."""
    for symbol in play.venues[venue]["symbols"][first : first + symbols]:
        for kind in play.venues[venue]["kinds"]:
            play.rest(venue, 1, symbol=symbol, kind=kind)


def until_gone(play: Play, within_s: float = GONE_WITHIN_S) -> float:
    """Wait until no order rests; return how long that took from now, in seconds."""
    began_s = time.monotonic()
    while play.open_orders():
        assert time.monotonic() - began_s < within_s, play.log.read_text()[-4000:]
        time.sleep(0.02)
    return time.monotonic() - began_s


def until_warm(play: Play, venue: str, connections: int) -> None:
    """Wait until the daemon has so many connections to the REST API of a venue."""
    port = HostPort.of_url(play.venues[venue]["rest_url"]).port
    play.until(lambda: connections_to(port) >= connections, 25.0)
    time.sleep(1.0)  # TLS takes some round trips more


def connections_to(port: int) -> int:
    """Return how many TCP connections are established to a port of this machine (proc(5), /proc/net/tcp)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(remote.endswith(f":{port:04X}") and state == "01" for _, _, remote, state, *_ in fields)


def reports(play: Play) -> dict[str, Any]:
    accounts: dict[str, Any] = play.command("report", "--json").json["accounts"]
    return accounts


def test_a_kill_of_many_symbols_sends_all_commands_at_once_and_each_of_them_once() -> None:
    symbols = {"binance-usdm": 40, "binance-coinm": 5, "binance-spot": 40}
    with simulated(*BINANCE) as play, at_a_distance(play):
        for venue, count in symbols.items():
            rest_at(play, venue, 0, count)
        play.write_config()
        play.start_daemon()
        for venue in FUTURES:
            until_warm(play, venue, 2 * symbols[venue] + 2)
        play.admin("DELETE", "/requests")
        play.flag.touch()
        until_gone(play)
        for venue, count in symbols.items():
            commands = count * (2 if venue in FUTURES else 1)
            assert first_ones(play, venue) == commands, venue  # and no copies before an answer can have come
        play.wait_for(lambda s: s["state"] == "TRIPPED", 40.0)
        for venue, report in reports(play).items():
            assert (report["verdict"], report["state"]) == ("CONFIRMED", "CLEAR"), venue
            assert report["cancelled"] >= 3 * symbols[venue]


def test_the_answer_to_a_kill_with_more_calls_than_connections_is_in_its_report() -> None:
    with simulated("binance-usdm") as play, at_a_distance(play):
        play.venues["binance-usdm"]["options"]["max_connections"] = 16
        rest_at(play, "binance-usdm", 0, 80)
        play.write_config()
        play.start_daemon()
        until_warm(play, "binance-usdm", 16)
        play.flag.touch()
        until_gone(play, 10.0)
        play.until(lambda: reports(play)["binance-usdm"]["attempts"][0]["answer"] is not None)


@pytest.mark.parametrize("stream", ["pushes", "loses pushes"])
def test_orders_at_unknown_symbols_are_gone_within_three_seconds(stream: str) -> None:
    with simulated(*BINANCE) as play, at_a_distance(play):
        for venue in BINANCE:
            rest_at(play, venue, 0, 2)
        play.write_config()
        play.start_daemon()
        for number, venue in enumerate(BINANCE):
            if stream != "pushes":
                play.admin("POST", "/faults", venue=venue, fault="lose_push")
            rest_at(play, venue, 20 + number, 3)
        time.sleep(0.05)
        play.flag.touch()
        until_gone(play)


def test_two_accounts_at_one_address_are_killed_though_connections_drop_and_orders_trigger_meanwhile() -> None:
    with simulated("binance-usdm", accounts=2, race=6) as play:
        entry = play.venues["binance-usdm"]
        for name in (entry["name"], entry["accounts"][0]["name"]):
            for symbol in entry["symbols"][:20]:
                play.rest("binance-usdm", 1, symbol=symbol, account=name)
                play.rest("binance-usdm", 1, symbol=symbol, account=name, kind="algo")
        play.write_config()
        play.start_daemon()  # further connections are only opening
        play.admin("POST", "/faults", venue="binance-usdm", fault="disconnect", on="http")
        play.flag.touch()
        until_gone(play, 10.0)
        assert {account["state"] for account in play.status()["accounts"].values()} <= {"STRIKING", "CONFIRMING"}


def test_deribit_is_killed_though_a_socket_is_refused_and_a_part_of_the_cancel_fails() -> None:
    with simulated("deribit") as play:
        play.write_config()
        play.start_daemon()
        symbols, kinds = play.venues["deribit"]["symbols"], play.venues["deribit"]["kinds"]
        for number in range(40):
            play.rest("deribit", 5, symbol=symbols[number % len(symbols)], kind=kinds[number % len(kinds)])
        play.admin("POST", "/options", venue="deribit", queue_full="BTC")
        play.admin("POST", "/faults", venue="deribit", fault="rate_limit", seconds=60, on="cancel", times=1)
        play.admin("DELETE", "/requests")
        play.flag.touch()
        play.until(lambda: reports(play)["deribit"]["strikes"] >= 3)
        assert play.open_orders() and reports(play)["deribit"]["verdict"] != "CONFIRMED"
        outcomes = Counter(request["ok"] for request in cancels(play, "deribit") if request["route"] == "ws")
        assert outcomes[False] == 1 and outcomes[True], outcomes  # the other socket carries the next frame
        play.admin("POST", "/options", venue="deribit", queue_full="")
        until_gone(play, 10.0)
        play.until_tripped()
        assert reports(play)["deribit"]["verdict"] == "CONFIRMED"


def test_deribit_is_killed_though_a_channel_is_dropped_and_a_trigger_becomes_an_order_after_the_kill() -> None:
    with simulated("deribit", dropped="user.orders.any.any.raw", trigger_ms=900) as play:
        play.write_config()
        play.start_daemon()
        play.wait_for(lambda s: "cancel-on-disconnect is off for the account" in str(s["trouble"]), 5.0)
        assert "the venue does not push user.orders.any.any.raw" in play.log.read_text()
        for kind in ("limit", "stop_limit"):
            play.rest("deribit", 3, kind=kind)
        play.admin("POST", "/options", venue="deribit", mark_price=1_000_000)
        assert play.open_orders() < 6  # triggers are used up, and their orders are not there yet
        play.flag.touch()
        play.until(lambda: reports(play)["deribit"]["strikes"] >= 2)
        until_gone(play, 10.0)
        play.wait_for(lambda s: s["state"] == "TRIPPED", 10.0)
