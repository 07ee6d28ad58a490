"""Measure kills of accounts that are spread over every venue, those that cancel by symbol or by id among them.

`runner` calls it for `bench --mixed`. Its rows have commands of every kind: frames, requests, several for an account.
They are no continuation of the other rows, whose accounts are at three venues with one command each.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle, islice

import anyio
import uvloop

from kill_switch.bench.contenders import (
    SECOND_ROUTE_S,
    AnswerCounter,
    BenchSetup,
    RawConnection,
    Strike,
    start_product,
)
from kill_switch.bench.end_to_end import apart
from kill_switch.bench.round_trips import learned_cancels
from kill_switch.config import loader
from kill_switch.config.accounts import AccountConfig
from kill_switch.errors import KillSwitchError
from kill_switch.system.host_port import HostPort
from kill_switch.testbed.testbed import LocalTestbed
from kill_switch.venues import VENUES

MAX_ROUNDS = 20
WARM_UP = 2  # uncounted rounds at the start
SETTLE_S = 0.3  # for the pushes of new orders to arrive
WARM_WITHIN_S = 60.0  # for a connection for each call of a strike
OPTIONS = (  # without the limits of the venues: rounds follow each other faster than kills
    *(f"{venue}.pool=0" for venue in ("binance-spot", "binance-usdm", "binance-coinm")),
    *("deribit.tier=unlimited", "deribit.connections=0", "kuna.rest_per_min=0"),
    *("oxfun.limits=off", "crosstrade.burst=0"),
)


def measure(sizes: Iterable[int], rounds: int, advance: Callable[[str], None]) -> list[dict[str, object]]:
    """Return a row for each number of accounts and system; `advance` hears of each size's end.

    Raises `KillSwitchError` if a measurement fails.
    """
    from kill_switch.bench.runner import percentiles

    rows: list[dict[str, object]] = []
    for size in sizes:
        each = 2 * -(-size // len(VENUES))  # for two systems with accounts of their own
        with apart() as core, LocalTestbed(list(VENUES), accounts=each, options=OPTIONS, core=core) as stage:
            stage.write_config()
            measured = uvloop.run(_all(BenchSetup(stage, loader.load(stage.config), size), rounds))
        for system, kills in measured.items():
            received, answered, commands = zip(*kills, strict=True)
            rows.append(
                {
                    "system": system,
                    "accounts": size,
                    "commands": sorted(commands)[len(commands) // 2],
                    "received_us": percentiles(list(received)),
                    "answered_us": percentiles(list(answered)),
                }
            )
        advance(f"{size} account(s), spread over {min(size, len(VENUES))} venues: measured")
    return rows


def spread(accounts: Mapping[str, AccountConfig], size: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return `size` accounts for each of two systems, of one venue after the other."""
    left = {venue: [name for name, account in accounts.items() if account.venue == venue] for venue in VENUES}
    venues = list(islice(cycle(VENUES), size))
    return tuple(left[venue].pop(0) for venue in venues), tuple(left[venue].pop() for venue in venues)


async def _all(setup: BenchSetup, rounds: int) -> dict[str, list[tuple[float, float, int]]]:
    bare, ours = spread(setup.config.accounts, setup.size)
    results: dict[str, list[tuple[float, float, int]]] = {"limit": [], "kill-switch": []}
    try:
        await _rest(setup, bare)
        systems = {"limit": await _limit(setup, bare), "kill-switch": await start_product(setup, ours)}
        gc.collect()
        gc.freeze()
        gc.disable()
        for number in range(WARM_UP + rounds):
            await _rest(setup, ours)
            await asyncio.sleep(SETTLE_S)
            with anyio.fail_after(WARM_WITHIN_S):
                while not setup.is_warm():  # noqa: ASYNC110 - no event
                    await anyio.sleep(0.05)
            gc.collect()
            for system, strike in systems.items():
                await setup.forget()
                async with asyncio.timeout(setup.ROUND_WITHIN_S):
                    began_ns, answered_ns = await strike()
                received = await setup.cancels()
                if len(received) < setup.size:
                    raise KillSwitchError(f"{system}: only {len(received)} cancels for {setup.size} accounts arrived")
                if number >= WARM_UP:
                    times = (max(received) - began_ns) / 1000, (answered_ns - began_ns) / 1000
                    results[system].append((*times, len(received)))
    finally:
        gc.enable()
        gc.unfreeze()
        await setup.close()
    return results


async def _rest(setup: BenchSetup, names: Iterable[str]) -> None:
    """Rest an order in each account: a strike by symbol or by id has commands only for orders."""
    logins = {name: (venue, login.get("name", "")) for name, venue, login in setup.stage.accounts()}
    for venue, account in (logins[name] for name in names):
        await asyncio.to_thread(setup.stage.rest, venue, 1, **({"account": account} if account else {}))


async def _limit(setup: BenchSetup, names: Iterable[str]) -> Strike:
    """Open a raw connection for each request of these accounts' strikes; the bytes are made before the reason."""
    answers = AnswerCounter()
    adapters = [setup.config.accounts[name].build_adapter(SECOND_ROUTE_S) for name in names]
    wires: list[RawConnection] = []
    strikes = []
    for adapter in adapters:
        cancels = await learned_cancels(adapter, setup.tls)
        strikes.append(cancels)
        address = HostPort.of_url(adapter.rest_url)
        for _ in cancels():
            _, wire = await asyncio.get_running_loop().create_connection(
                lambda: RawConnection(answers), address.host, address.port, ssl=setup.tls, server_hostname=address.host
            )
            wires.append(wire)

    async def close() -> None:
        for wire in wires:
            wire.transport.abort()

    setup.closing.append(close)

    async def strike() -> tuple[int, int]:
        commands = [call.request.wire for cancels in strikes for call in cancels()]
        done = answers.expect(len(wires))
        began_ns = time.monotonic_ns()
        for wire, sent in zip(wires, commands, strict=True):
            wire.transport.write(sent)
        return began_ns, await done

    return strike
