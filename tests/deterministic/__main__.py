"""Simulate the lives of many seeds, stop at the first that breaks a promise, or print one life in full.

python -m tests.deterministic --seeds 10000 [--start N] [--jobs 2] [--venue NAME]
python -m tests.deterministic --minutes 3 [--start N] [--jobs 2] [--venue NAME]
python -m tests.deterministic --replay SEED [-v] [--venue NAME]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor

from .scenario import Outcome, tell
from .simulated_account import CCXT, VENUES

CHUNK = 50
TAIL = 60  # lines of the trace that a failure shows


def _told(seed: int, venue: str | None) -> Outcome:
    try:
        return tell(seed, venue)
    except Exception:
        return Outcome.failed(seed, f"the simulation itself failed: {traceback.format_exc()}")


def _chunk(seeds: range, venue: str | None) -> list[Outcome]:
    told = []
    for seed in seeds:
        told.append(_told(seed, venue))
        if told[-1].found:
            break
    return told


def _chunks(start: int, seeds: int | None, minutes: float | None) -> Iterator[range]:
    """Yield ranges of seeds from `start`: `seeds` in all, or as many as are asked for within `minutes`."""
    until_s = None if minutes is None else time.monotonic() + minutes * 60
    end = None if seeds is None else start + seeds
    for first in itertools.count(start, CHUNK):
        if (end is not None and first >= end) or (until_s is not None and time.monotonic() >= until_s):
            return
        yield range(first, first + CHUNK if end is None else min(first + CHUNK, end))


def _outcomes(chunks: Iterable[range], jobs: int, venue: str | None) -> Iterator[Outcome]:
    """Yield the outcomes in the order of their seeds, up to the first that failed, whatever the number of jobs."""
    queue = iter(chunks)
    with ProcessPoolExecutor(jobs) as pool:
        pending: deque[Future[list[Outcome]]] = deque()
        while True:
            while len(pending) <= jobs and (seeds := next(queue, None)) is not None:
                pending.append(pool.submit(_chunk, seeds, venue))
            if not pending:
                return
            outcomes = pending.popleft().result()
            yield from outcomes
            if outcomes[-1].found:
                pool.shutdown(cancel_futures=True)
                return


def _many(start: int, seeds: int | None, minutes: float | None, jobs: int, venue: str | None) -> int:
    began_s = time.monotonic()
    outcomes: list[Outcome] = []
    for outcome in _outcomes(_chunks(start, seeds, minutes), jobs, venue):
        outcomes.append(outcome)
        if len(outcomes) % 500 == 0 and sys.stderr.isatty():
            rate = len(outcomes) / (time.monotonic() - began_s)
            print(f"\r{len(outcomes)} seeds, {rate:.0f} a second", end="", file=sys.stderr, flush=True)
    took_s = time.monotonic() - began_s
    print(f"{len(outcomes)} seeds from {start} in {took_s:.1f} s, {len(outcomes) / took_s:.0f} a second")
    for what, figure in (
        ("tripped at the end", sum(o.tripped for o in outcomes)),
        ("crashes", sum(o.crashes for o in outcomes)),
        ("of them power cuts", sum(o.cuts for o in outcomes)),
        ("cancel commands", sum(o.commands for o in outcomes)),
        ("accounts in RESIDUE", sum(o.residues for o in outcomes)),
        ("seeds in which a venue asked us to wait", sum(o.told_to_wait > 0 for o in outcomes)),
        ("accounts re-armed", sum(o.rearmed for o in outcomes)),
        ("accounts that a reload had log in as others", sum(o.switched for o in outcomes)),
        ("reloads refused", sum(o.stayed for o in outcomes)),
        ("longest from the last fault to all clear, in s", max(o.settled_s for o in outcomes)),
    ):
        print(f"{what}: {figure:g}")
    failed = outcomes[-1] if outcomes and outcomes[-1].found else None
    if failed is None:
        print("every promise was kept")
        return 0
    return _replay(failed.seed, venue, verbose=False)


def _replay(seed: int, venue: str | None, *, verbose: bool) -> int:
    outcome = tell(seed, venue, keep=True)
    if verbose:
        print("\n".join(outcome.trace))
    elif outcome.found:
        first = next(n for n, line in enumerate(outcome.trace) if " WRONG " in line)
        print("\n".join(outcome.trace[max(0, first - TAIL) : first + 5]))
    if outcome.error is not None:
        traceback.print_exception(outcome.error)
    for what in dict.fromkeys(outcome.found):
        print(f"seed {seed}: BROKEN: {what}")
    place = f" --venue {venue}" if venue else ""
    print(f"seed {seed}: {outcome.lines} lines, trace {outcome.digest}")
    print(f"again, in full: python -m tests.deterministic --replay {seed} -v{place}")
    return 1 if outcome.found else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deterministic", description=__doc__.partition("\n")[0])
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--seeds", type=int, help="how many lives (10000)")
    number.add_argument("--minutes", type=float, help="as many lives as begin within this time")
    parser.add_argument("--start", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--venue", choices=(*VENUES, *CCXT), help="all accounts at this one")
    parser.add_argument("--replay", type=int, metavar="SEED", help="tell one seed's story")
    parser.add_argument("-v", "--verbose", action="store_true", help="all of it")
    given = parser.parse_args()
    if given.replay is not None:
        return _replay(given.replay, given.venue, verbose=given.verbose)
    seeds = 10_000 if given.seeds is None and given.minutes is None else given.seeds
    return _many(given.start, seeds, given.minutes, given.jobs, given.venue)


if __name__ == "__main__":
    sys.exit(main())
