"""Let years of venue outages pass, and count: python -m tests.deterministic.year --years 1 --seed N [--density D]
[--jobs J].

A year takes some ten minutes of one core. It is one life of a machine; several years are several lives, with the seeds
that follow. Exit code 1, and each failure in a line, if anything was counted that must not be.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.deterministic.year.run import NEW_YEAR, Counted, run

DAYS = 366


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deterministic.year", description=__doc__)
    parser.add_argument("--years", type=float, default=1.0, help="how long, in all; less than 1 is a part of a year")
    parser.add_argument("--seed", type=int, default=1, help="of the first year")
    parser.add_argument("--density", type=float, default=1.0, help="how many times as much happens")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    years = max(1, round(chosen.years))
    days = DAYS * min(1.0, chosen.years)
    began_s = time.monotonic()
    live = partial(run, days=days, begin=NEW_YEAR, density=chosen.density, tell=True)
    seeds = range(chosen.seed, chosen.seed + years)
    good = True
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for seed, counted in zip(seeds, pool.map(live, seeds), strict=True):
            good = good and counted.good
            _print(seed, days, counted)
    print(f"{days * years:.0f} days in {time.monotonic() - began_s:.0f} s")
    return 0 if good else 1


def _print(seed: int, days: float, counted: Counted) -> None:
    trips = ", ".join(f"{name} {count}" for name, count in counted.trips.items())
    print(f"seed {seed}, {days:g} days, {counted.restarts} restarts; trips: {trips}")
    counts = {"false trips": counted.false, "missed trips": counted.missed, "re-arms refused wrongly": counted.stuck}
    print("  " + ", ".join(f"{what} {len(texts)}" for what, texts in counts.items()))
    for what, texts in counts.items():
        for text in texts:
            print(f"  {what}: {text}")


if __name__ == "__main__":
    sys.exit(main())
