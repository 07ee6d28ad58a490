"""Kill and starve the daemon, and print figures. Exit 1 if a promise was broken."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from . import resource_failures, sigkill
from .counters import Figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.crash", description=__doc__)
    parser.add_argument("what", nargs="?", default="kills", choices=["kills", *resource_failures.ALL, "all"])
    parser.add_argument("--kills", type=int, default=200, help="how often the daemon is killed with SIGKILL")
    parser.add_argument(
        "--seed", type=int, help="repeats the moments of an earlier run, as far as time can be repeated"
    )
    parser.add_argument("--jobs", type=int, default=2, help="daemons at a time")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and end what was started on the way
    seed: int = random.randrange(10**6) if given.seed is None else given.seed  # noqa: S311 - moments, nothing secret
    print(f"seed {seed}", flush=True)
    good = True
    for what in ("kills", *resource_failures.ALL) if given.what == "all" else (given.what,):
        began_s = time.monotonic()
        try:
            figures = _kills(given.kills, seed, given.jobs) if what == "kills" else resource_failures.ALL[what](seed)
        except resource_failures.Skipped as why:
            print(f"{what}: skipped: {why}", flush=True)
            continue
        print(f"{figures.text(what)}, {time.monotonic() - began_s:.0f} s", flush=True)
        for line in (*figures.notes, *(f"FAIL {failure}" for failure in figures.failures)):
            print(f"    {line}", flush=True)
        good = good and figures.good
    return 0 if good else 1


def _kills(count: int, seed: int, jobs: int) -> Figures:
    """Have `jobs` daemons at a time killed, each on a stage of its own."""
    whole = Figures()
    shares = [count // jobs + (number < count % jobs) for number in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        for figures in pool.map(sigkill.run, [share for share in shares if share], range(seed, seed + jobs)):
            whole.add(figures)
    return whole


if __name__ == "__main__":
    sys.exit(main())
