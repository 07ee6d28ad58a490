"""Print the matrix: fault × venue × moment. Exit 1 if a cell does not hold what is promised."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop

from kill_switch.daemon.gc_tuning import COLLECT
from kill_switch.sim.main import VENUES as SIMULATORS
from kill_switch.venues import VENUES

from .case import Outcome, play
from .catalog import FAULTS, MOMENTS, plays
from .gate import Gate
from .loop_monitor import Gauge

AT_ONCE = {"light": 16, "heavy": 4}  # cells in one process, however busy the machine is: more would come late
MOST_AT_ONCE = 128  # on an idle machine, but for the heavy ones: cells spend their time waiting
AGAIN_AT_ONCE = 3  # of those that were late
STALL_S = 0.4  # the longest that the event loop's thread may compute without a turn for the others
GROWTH_MIB = 384  # of the process, whatever is sent to four accounts at once

Key = tuple[str, str, str]


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[str]:
    """Start the process that hosts the venues; the value is its socket."""
    with tempfile.TemporaryDirectory(prefix="kill-switch-world-") as scratch:
        path = f"{scratch}/socket"
        command = [sys.executable, "-m", "tests.system.fault_matrix.venue_process", path, scratch]
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        try:
            if not await process.stdout.readline():
                raise RuntimeError("the venues did not start")
            yield path
        finally:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


async def work(keys: Sequence[Key], gate: Gate, *, tell: bool = False) -> list[Outcome]:
    """Play cells, as many at once as the gate lets begin, and watch the event loop and the memory meanwhile."""
    outcomes: list[Outcome] = []
    gauge = Gauge()

    async def one(key: Key, path: str) -> None:
        async with gate.cell():
            gauge.enter(key)
            try:
                outcome = await play(*key, path, gauge)
            finally:
                worst = gauge.leave(key)
            if outcome.ok and worst.stall_s > STALL_S:
                outcome.ok, outcome.late = False, True  # it may have been another of the cells that are played together
                outcome.text = f"FAIL the event loop stood still for {worst.stall_s:.2f} s"
            if outcome.ok and worst.growth_mib > GROWTH_MIB:
                outcome.ok, outcome.text = False, f"FAIL grew by {worst.growth_mib:.0f} MiB"
            outcome.stall_s, outcome.growth_mib = worst.stall_s, worst.growth_mib
            outcomes.append(outcome)
            if tell:
                sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
                sys.stdout.flush()

    async with world() as path:
        gauging = asyncio.create_task(gauge.run())
        await asyncio.gather(*(one(key, path) for key in keys))
        gauging.cancel()
        await asyncio.gather(gauging, return_exceptions=True)
    gauge.close()
    return outcomes


def kind(key: Key) -> str:
    """Say what a process has to be like to play a cell: much to carry, or nothing special."""
    return "heavy" if FAULTS[key[0]].heavy else "light"


def run_here(keys: Sequence[Key], *, tell: bool = False, again: bool = False) -> list[Outcome]:
    """Play the cells in this process, on uvloop as the daemon runs; `again`: few at once, for those that were late."""
    logging.getLogger("kill_switch").setLevel(logging.CRITICAL)
    outcomes: list[Outcome] = []
    for each, at_once in AT_ONCE.items():
        if some := [key for key in keys if kind(key) == each]:
            least = AGAIN_AT_ONCE if again else at_once
            most = least if again or each == "heavy" else MOST_AT_ONCE
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                outcomes += runner.run(_work(some, least, most, tell=tell))
    return outcomes


async def _work(keys: Sequence[Key], least: int, most: int, *, tell: bool) -> list[Outcome]:
    return await work(keys, Gate(least, most), tell=tell)


def cells(faults: Sequence[str], venues: Sequence[str], moments: Sequence[str]) -> list[Key]:
    """Return the cells that there are."""
    return [
        (name, venue, moment)
        for name in faults
        for venue in venues
        for moment in moments
        if plays(SIMULATORS[venue].supported, FAULTS[name])
    ]


async def _job(keys: Sequence[Key], told: list[Outcome], total: int, log: Path | None, cells: str) -> None:
    """Have a process of its own play some cells."""
    command = [sys.executable, "-m", "tests.system.fault_matrix", "--cells", cells]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 20
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(keys).encode())
        process.stdin.close()
        while line := await process.stdout.readline():
            told.append(Outcome(**json.loads(line)))
            if log is not None:
                with log.open("ab") as file:
                    file.write(line)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(told)}/{total} cells")
                sys.stderr.flush()
        if await process.wait():
            raise RuntimeError(f"a job ended with {process.returncode}")
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _jobs(keys: Sequence[Key], jobs: int, log: Path | None, cells: str = "all") -> list[Outcome]:
    """Play cells in some processes of each kind, all at the same time: some wait while others compute."""
    told: list[Outcome] = []
    kinds = [[key for key in keys if kind(key) == each] for each in AT_ONCE]
    shares = [share for some in kinds for number in range(jobs) if (share := some[number::jobs])]
    await asyncio.gather(*(_job(share, told, len(keys), log, cells) for share in shares))
    return told


def held(log: Path, keys: Sequence[Key]) -> list[Outcome]:
    """Return the outcomes of these cells that held when a log's runs last played them."""
    last: dict[Key, Outcome] = {}
    for line in log.read_text().splitlines():
        outcome = Outcome(**json.loads(line))
        last[outcome.fault, outcome.venue, outcome.moment] = outcome
    return [last[key] for key in keys if key in last and last[key].ok]


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the matrix as text."""
    by_key = {(o.fault, o.moment, o.venue): o for o in outcomes}
    venues = sorted({o.venue for o in outcomes})
    faults = [name for name in FAULTS if any(o.fault == name for o in outcomes)]
    rows = [["fault", "moment", *venues]]
    for fault in faults:
        for moment in MOMENTS:
            found = [by_key.get((fault, moment, venue)) for venue in venues]
            if any(found):
                rows.append([fault, moment, *(o.text if o else "-" for o in found)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


def summary(outcomes: Sequence[Outcome], expected: int, again: int, took_s: float) -> str:
    """Return what all of it came to, in one line."""
    said = Counter(o.reported for o in outcomes if o.ok)
    failed = sum(not o.ok for o in outcomes)
    unreported = sum(o.unreported for o in outcomes)
    worst_ms = max((o.stall_s for o in outcomes), default=0) * 1000
    other_s = max((o.other_s for o in outcomes), default=0)
    grown_mib = max((o.growth_mib for o in outcomes), default=0)
    return (
        f"{len(outcomes)} of {expected} cells: {said['clear']} cleared, {said['left'] + said['unknown']} honest, then "
        f"cleared (left {said['left']}, unknown {said['unknown']}), FAIL {failed}, "
        f"orders left unreported {unreported}, {took_s:.0f} s "
        f"({again} were late and played again; longest turn of the event loop {worst_ms:.0f} ms, "
        f"other accounts clear within {other_s:.1f} s, memory grown by {grown_mib:.0f} MiB)"
    )


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and end what was started on the way
    parser = argparse.ArgumentParser(prog="python -m tests.system.fault_matrix", description=__doc__)
    parser.add_argument("--venue", action="append", choices=sorted(VENUES))
    parser.add_argument("--fault", action="append", help="a fault's name, or the beginning of some")
    parser.add_argument("--moment", action="append", choices=MOMENTS)
    parser.add_argument("--jobs", type=int, default=2, help="one for each core; default 2")
    parser.add_argument("--log", type=Path, help="append what each cell came to, a JSON line a cell")
    parser.add_argument("--resume", action="store_true", help="play only the cells that did not hold yet, by the log")
    parser.add_argument("--cells", choices=("all", "again"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cells:
        gc.set_threshold(*COLLECT)  # as the daemon does
        gc.freeze()
        run_here([tuple(key) for key in json.loads(sys.stdin.read())], tell=True, again=given.cells == "again")
        return 0
    faults = [name for name in FAULTS if not given.fault or any(name.startswith(start) for start in given.fault)]
    if not faults:
        parser.error(f"no fault begins so; there are: {', '.join(FAULTS)}")
    if given.resume and (given.log is None or not given.log.exists()):
        parser.error("--resume takes the --log of an earlier run")
    keys = cells(faults, given.venue or sorted(VENUES), given.moment or MOMENTS)
    before = held(given.log, keys) if given.resume else []
    have = {(o.fault, o.venue, o.moment) for o in before}
    began_s = time.monotonic()
    outcomes = before + asyncio.run(_jobs([key for key in keys if key not in have], max(1, given.jobs), given.log))
    late = [(o.fault, o.venue, o.moment) for o in outcomes if o.late]
    if late:  # the other cells, or other programs, may have had the machine: once more, few at a time
        outcomes = [o for o in outcomes if not o.late]
        outcomes += asyncio.run(_jobs(late, 1, given.log, "again"))
    print(table(outcomes))
    failed = [o for o in outcomes if not o.ok]
    for outcome in failed:
        print(f"\nFAIL {outcome.fault} × {outcome.venue} × {outcome.moment}: {outcome.text}")
        print("\n".join(f"    {line}" for line in outcome.said[-12:]))
    print("\n" + summary(outcomes, len(keys), len(late), time.monotonic() - began_s))
    return 1 if failed or len(outcomes) != len(keys) else 0


if __name__ == "__main__":
    sys.exit(main())
