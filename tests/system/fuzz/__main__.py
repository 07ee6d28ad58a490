"""Fuzz from the command line: `python -m tests.system.fuzz --inputs 1000000 [--target NAME]… [--seed N] [--jobs 2]`."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from . import TARGETS
from .run import Failure, replay
from .worker import CHUNK, Chunk, work


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="for each target (default: %(default)s)")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="default: all; may be repeated")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="go on at this input's number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--replay", type=Path, metavar="FILE", help="one input, with --target")
    options = parser.parse_args(arguments)
    names: list[str] = options.target or list(TARGETS)
    if options.replay is not None:
        logging.disable()
        if len(names) != 1:
            parser.error("--replay wants one --target")
        failures = list(replay(TARGETS[names[0]](), [options.replay]))
        for failure in failures:
            print(f"{failure.kind}\n{failure.detail}")
        print("it fails" if failures else "it passes")
        return 1 if failures else 0

    chunks = [
        Chunk(name, options.seed, start, min(start + CHUNK, options.inputs))
        for name in names
        for start in range(options.first, options.inputs, CHUNK)
    ]
    inputs: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    kinds: dict[str, Failure] = {}
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # workers too tidy up behind them
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=10) as pool:
        for done in pool.imap_unordered(work, chunks):
            name = done.chunk.target
            inputs[name] += done.chunk.stop - done.chunk.start
            seconds[name] += done.seconds
            for failure in done.failures:
                if failure.kind not in kinds:
                    kinds[failure.kind] = failure
                    print(f"\nFAILED {name}: {failure.kind}\n{failure.detail}\n  {failure.data[:300]!r}")
                    print(f"  kept in {failure.save()}" if failure.data else "  nothing to keep", flush=True)
            total = inputs[name]
            if total % (5 * CHUNK) == 0 or total == options.inputs - options.first:
                rate = total / max(1e-9, seconds[name])
                print(f"{name:12} {total:>9,} inputs  {rate:>8,.0f}/s", flush=True)
    whole_s = time.monotonic() - began_s
    print(f"seed {options.seed}: {sum(inputs.values()):,} inputs at {len(names)} targets in {whole_s:.0f} s; ", end="")
    print(f"{len(kinds)} kinds of failure")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
