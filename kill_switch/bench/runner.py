"""Run the benchmark: all contenders in turn, against the same simulators, over TLS on loopback.

`kill-switch bench` calls it. Only ratios within one run are meaningful, never absolute times of two runs. Contenders
take turns, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.progress import Progress as Bar

from kill_switch.bench import end_to_end as process
from kill_switch.bench import mixed, output, round_trips
from kill_switch.bench.contenders import SYSTEMS, BenchSetup, ContenderFactory, Strike
from kill_switch.bench.peers import PEER_VENUES, PEERS
from kill_switch.config import loader
from kill_switch.errors import KillSwitchError
from kill_switch.testbed.testbed import LocalTestbed

log = logging.getLogger(__name__)

WARM_UP = 3  # uncounted rounds at the start, which warm the caches of both sides
SETTLE_S = 0.02  # pause before each kill, so that the previous one is over


class RoundTiming(NamedTuple):
    """The times of one kill, in µs from the reason."""

    received_us: float  # the last byte of the last account's command has arrived, stamped by the simulator
    answered_us: float  # the last account's answer has arrived here


def run(
    sizes: Sequence[int],
    rounds: int,
    *,
    peers: bool = False,
    end_to_end: bool = False,
    is_mixed: bool = False,
    as_json: bool = False,
    plot: Path | None = None,
) -> int:
    """Measure each size, print one row per contender and size, and return the exit code.

    Half of the accounts are cancelled over a WebSocket, half over REST. The contender `limit` writes prebuilt bytes to
    open connections and counts answers without parsing them. `kill-switch` is the product: engine, journal on disk,
    adapters, warm lanes, parsed answers. The others are in `peers`.

    `sizes` are numbers of accounts, `rounds` the kills per contender. `peers`, `end_to_end` and `is_mixed` add
    contenders, the daemon's measurement, and rows of accounts at every venue. Raises `KillSwitchError` if a
    measurement fails. If one of the last two fails, what was measured before is printed first; as JSON, `error` says
    why, and 1 is returned.
    """
    if plot is not None:
        output.need_matplotlib()
    logging.getLogger("kill_switch").setLevel(logging.ERROR)  # lanes that close at the end are no trouble
    rows: list[dict[str, object]] = []
    whole: dict[str, object] = {"machine": _machine(), "rows": rows}
    makes: Mapping[str, ContenderFactory] = {**SYSTEMS, **PEERS} if peers else SYSTEMS
    with Bar(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        for size in sizes:
            task = progress.add_task(f"{size} account(s)", total=rounds)
            measured = _measure(size, rounds, makes, lambda task=task: progress.advance(task))  # type: ignore[misc]
            for system, results in measured.items():
                rows.append(
                    {
                        "system": system,
                        "accounts": size,
                        "received_us": percentiles([r.received_us for r in results]),
                        "answered_us": percentiles([r.answered_us for r in results]),
                    }
                )
        failure: KillSwitchError | None = None
        try:
            if end_to_end:
                whole |= process.measure(min(rounds, process.MAX_ROUNDS), progress.console.log)
            if is_mixed:
                whole["mixed"] = mixed.measure(sizes, min(rounds, mixed.MAX_ROUNDS), progress.console.log)
        except KillSwitchError as error:  # what was measured before has taken minutes
            whole["error"], failure = str(error), error
    if plot is not None:
        output.plot(rows, plot)
    output.print_json(whole) if as_json else output.print_tables(whole)
    if failure is not None and not as_json:
        raise failure
    return 1 if failure is not None else 0


def run_at_distance(rtt_s: float, rounds: int, *, as_json: bool = False) -> int:
    """Measure kills at venues that are a round trip of `rtt_s` seconds away, print a row for each, and return 0.

    Raises `KillSwitchError` if a measurement fails.
    """
    logging.getLogger("kill_switch").setLevel(logging.ERROR)  # lanes that close at the end are no trouble
    console = Console(stderr=True, quiet=as_json)
    rows = round_trips.measure(rtt_s, rounds, console.log)
    whole = {"machine": _machine(), "rtt_ms": round(rtt_s * 1000, 3), "round_trips": rows}
    output.print_json(whole) if as_json else output.print_round_trips(whole)
    return 0


def _machine() -> dict[str, object]:
    system = f"{platform.system()} {platform.release()}"
    return {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "system": system,
        "python": platform.python_version(),
    }


def _measure(
    size: int, rounds: int, makes: Mapping[str, ContenderFactory], advance: Callable[[], None]
) -> dict[str, list[RoundTiming]]:
    further = PEER_VENUES if makes.keys() & PEERS.keys() else {}
    options = ["oxfun.limits=off", "crosstrade.burst=0", *further.values()]
    venues = ["crosstrade", "oxfun", "roxom", *further]
    with (
        process.apart() as core,
        LocalTestbed(venues, accounts=2 * size, options=options, core=core) as stage,
    ):
        stage.write_config()
        return uvloop.run(_all(BenchSetup(stage, loader.load(stage.config), size), rounds, makes, advance))


async def _all(
    floor: BenchSetup, rounds: int, makes: Mapping[str, ContenderFactory], advance: Callable[[], None]
) -> dict[str, list[RoundTiming]]:
    try:
        systems = {name: await make(floor) for name, make in makes.items()}
        results: dict[str, list[RoundTiming]] = {name: [] for name in systems}
        gc.collect()
        gc.freeze()
        gc.disable()
        for number in range(WARM_UP + rounds):
            for name, strike in list(systems.items()):
                try:
                    result = await _round(floor, name, strike)
                except Exception as error:
                    if name in SYSTEMS or isinstance(error, KillSwitchError):
                        raise
                    log.error("%s, %d accounts: left out: %s", name, floor.size, type(error).__name__)
                    del systems[name], results[name]  # a failing peer does not end the benchmark
                    continue
                if number >= WARM_UP:
                    results[name].append(result)
            gc.collect()
            if number >= WARM_UP:
                advance()
    finally:
        gc.enable()
        gc.unfreeze()
        await floor.close()
    return results


async def _round(floor: BenchSetup, name: str, strike: Strike) -> RoundTiming:
    """Fire once, and read the time of arrival from the simulators."""
    await floor.forget()
    await asyncio.sleep(SETTLE_S)
    async with asyncio.timeout(floor.ROUND_WITHIN_S):
        began_ns, answered_ns = await strike()
    received = await floor.cancels()
    if len(received) < floor.size:
        raise KillSwitchError(f"{name}: only {len(received)} of {floor.size} cancels arrived")
    return RoundTiming((max(received) - began_ns) / 1000, (answered_ns - began_ns) / 1000)


def percentiles(figures: list[float]) -> dict[str, float]:
    """Return the median, the 90th and the 99th percentile, rounded to a tenth."""
    ordered = sorted(figures)
    last = len(ordered) - 1
    p90, p99 = (ordered[min(last, int(share * len(ordered)))] for share in (0.9, 0.99))
    return {"p50": round(statistics.median(ordered), 1), "p90": round(p90, 1), "p99": round(p99, 1)}
