"""Measure kills at venues that are a round trip away: how many round trips until the last command and the last answer.

`kill-switch bench --rtt` prints it. A relay delays every byte between both sides. A command that waits for
another command's answer, or for a connection to open, costs further round trips.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import anyio
import httpx
import uvloop

from kill_switch import clock
from kill_switch.bench import bare_kill
from kill_switch.bench.contenders import SECOND_ROUTE_S, BenchSetup, Strike, start_product
from kill_switch.config import loader
from kill_switch.errors import KillSwitchError
from kill_switch.testbed.relay import RelayProcess
from kill_switch.testbed.testbed import LocalTestbed
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import Call, Replied

MAX_ROUNDS = 10
SETTLE_S = 0.5  # for the pushes of new orders to arrive
WARM_WITHIN_S = 60.0  # for a connection for each call of a strike
LIMIT, BY_IDS = "limit", "by ids, ws-fapi"
SCRIPTS = ("httpx, warm, gathered", "httpx, cold, gathered", "httpx, cold, in turn")  # as people write them


class Scenario(NamedTuple):
    """A kill of one account: how many orders rest, and at how many symbols."""

    name: str
    venue: str
    orders: int
    symbols: int = 1
    options: tuple[str, ...] = ()  # of its simulator
    systems: tuple[str, ...] = SCRIPTS  # beside kill-switch


SCENARIOS = (  # without the limits of the venues: rounds follow each other faster than kills
    Scenario("one frame", "kraken", 20, options=("kraken.tier=unlimited",)),
    Scenario("one frame", "deribit", 20, options=("deribit.tier=unlimited",)),
    Scenario("one request", "roxom", 20),
    Scenario("a frame a symbol", "binance-spot", 80, 40, ("binance-spot.pool=0",), (LIMIT, *SCRIPTS)),
    Scenario("two requests a symbol", "binance-usdm", 64, 32, ("binance-usdm.pool=0",), (LIMIT, BY_IDS, *SCRIPTS)),
    Scenario("ten orders a symbol", "binance-usdm", 320, 32, ("binance-usdm.pool=0",), (LIMIT, BY_IDS)),
)


class KillTiming(NamedTuple):
    """The times of one kill."""

    commands: int
    apart_ms: float  # from the first command's arrival at the venue to the last one's
    received_rtt: float  # round trips from the reason to the last command's arrival
    answered_rtt: float  # round trips from the reason to the last answer


def measure(rtt_s: float, rounds: int, advance: Callable[[str], None]) -> list[dict[str, object]]:
    """Return a row for each scenario and system; `advance` hears of each scenario's end.

    Raises `KillSwitchError` if a measurement fails.
    """
    rows: list[dict[str, object]] = []
    for scenario in SCENARIOS:
        with LocalTestbed([scenario.venue], options=scenario.options) as stage:
            entry = stage.venues[scenario.venue]
            ports = sorted({httpx.URL(entry[key]).port or 443 for key in ("ws_url", "rest_url")})
            with RelayProcess(ports, rtt_s) as relay:
                entry |= {key: relay.url(entry[key]) for key in ("ws_url", "rest_url")}
                stage.write_config()
                setup = BenchSetup(stage, loader.load(stage.config), 1)
                for system, timings in uvloop.run(_all(setup, scenario, rtt_s, min(rounds, MAX_ROUNDS))).items():
                    rows.append(_row(scenario, system, timings))
        advance(f"{scenario.name} at {scenario.venue}: measured")
    return rows


def _row(scenario: Scenario, system: str, timings: Sequence[KillTiming]) -> dict[str, object]:
    middle = sorted(timings, key=lambda timing: timing.answered_rtt)[len(timings) // 2]
    return {
        "scenario": scenario.name,
        "venue": scenario.venue,
        "system": system,
        "commands": middle.commands,
        "apart_ms": round(middle.apart_ms, 1),
        "received_rtt": round(middle.received_rtt, 2),
        "answered_rtt": round(middle.answered_rtt, 2),
    }


async def _all(setup: BenchSetup, scenario: Scenario, rtt_s: float, rounds: int) -> dict[str, list[KillTiming]]:
    results: dict[str, list[KillTiming]] = {}
    try:
        ready = await start_product(setup, tuple(setup.config.accounts))
        systems = {"kill-switch": ready, **{name: SYSTEMS[name](setup) for name in scenario.systems}}
        for number in range(rounds + 1):  # in turns, because the machine's load changes; the first round warms up
            for system, strike in systems.items():
                timing = await _round(setup, scenario, rtt_s, strike)
                results.setdefault(system, []).extend([timing] if number else [])
    finally:
        await setup.close()
        await asyncio.sleep(2 * rtt_s)  # for the last connections to close
    return results


async def _round(setup: BenchSetup, scenario: Scenario, rtt_s: float, strike: Strike) -> KillTiming:
    stage, venue = setup.stage, scenario.venue
    symbols = stage.venues[venue]["symbols"][: scenario.symbols]
    for number, symbol in enumerate(symbols):
        share = scenario.orders // len(symbols) + (number < scenario.orders % len(symbols))
        await asyncio.to_thread(stage.rest, venue, share, symbol=symbol)
    await asyncio.sleep(SETTLE_S + 2 * rtt_s)
    with anyio.fail_after(WARM_WITHIN_S):
        while not setup.is_warm():  # noqa: ASYNC110 - no event
            await anyio.sleep(0.05)
    await setup.forget()
    async with asyncio.timeout(setup.ROUND_WITHIN_S):
        began_ns, answered_ns = await strike()
    received = await setup.cancels()
    if not received:
        raise KillSwitchError(f"{scenario.name}: no cancel arrived")
    if left := await asyncio.to_thread(stage.book, venue):  # a refused command is no measurement of a kill
        raise KillSwitchError(f"{scenario.name}: {left} orders are left at {venue}")
    trips = [(at_ns - began_ns) / 1e9 / rtt_s for at_ns in (max(received), answered_ns)]
    return KillTiming(len(received), (max(received) - min(received)) / 1e6, *trips)


# ── scripts as people write them ─────────────────────────────────────────────────────────────────────────────────


def _script(
    send: Callable[[httpx.AsyncClient, Iterable[Call]], Awaitable[None]], *, warm: bool
) -> Callable[[BenchSetup], Strike]:
    def make(setup: BenchSetup) -> Strike:
        (account,) = setup.config.accounts.values()
        adapter = account.build_adapter(SECOND_ROUTE_S)

        async def strike() -> tuple[int, int]:
            async with httpx.AsyncClient(base_url=adapter.rest_url, verify=setup.tls, trust_env=False) as client:
                await _learn_orders(adapter, client)
                if warm:
                    await client.get("/")  # a venue whose orders a WebSocket lists has had no request yet
                    began_ns = time.monotonic_ns()
                    await send(client, bare_kill.strike_cancels(adapter))
                    return began_ns, time.monotonic_ns()
            async with httpx.AsyncClient(base_url=adapter.rest_url, verify=setup.tls, trust_env=False) as client:
                began_ns = time.monotonic_ns()
                await send(client, bare_kill.strike_cancels(adapter))
                return began_ns, time.monotonic_ns()

        return strike

    return make


async def _learn_orders(adapter: Adapter, client: httpx.AsyncClient) -> None:
    """Read the open orders, so that a strike has its commands."""
    waiting = [output for output in adapter.read(clock.now()) if isinstance(output, Call)]
    while waiting:
        call = waiting.pop()
        answer = await _send(client, call)
        replied = Replied(call.tag, answer.status_code, dict(answer.headers), answer.content)
        waiting += [output for output in adapter.handle(replied, clock.now()) if isinstance(output, Call)]


async def learned_cancels(adapter: Adapter, tls: ssl.SSLContext) -> Callable[[], list[Call]]:
    """Read an adapter's open orders; return a function that makes the cancels of a strike at the time of its call."""
    async with httpx.AsyncClient(base_url=adapter.rest_url, verify=tls, trust_env=False) as client:
        await _learn_orders(adapter, client)
    return lambda: bare_kill.strike_cancels(adapter)


async def _send(client: httpx.AsyncClient, call: Call) -> httpx.Response:
    request = call.request
    return await client.request(request.method, request.target, headers=dict(request.headers), content=request.body)


async def _together(client: httpx.AsyncClient, calls: Iterable[Call]) -> None:
    await asyncio.gather(*(_send(client, call) for call in calls))


async def _in_turn(client: httpx.AsyncClient, calls: Iterable[Call]) -> None:
    for call in calls:
        await _send(client, call)


SYSTEMS: Mapping[str, Callable[[BenchSetup], Strike]] = {
    LIMIT: lambda setup: bare_kill.limit(setup, _learn_orders),
    BY_IDS: lambda setup: bare_kill.by_ids(setup, _learn_orders),
    SCRIPTS[0]: _script(_together, warm=True),
    SCRIPTS[1]: _script(_together, warm=False),
    SCRIPTS[2]: _script(_in_turn, warm=False),
}
