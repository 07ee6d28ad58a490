"""Kill and re-arm a real daemon once a second, for as long as is asked, and see that nothing grows.

    python -m tests.system.load.soak --minutes 10

Roxom's accounts are killed each eighth second: a kill takes some 20 of the 300 requests a minute that their adapter
plans with, and a proof waits for room.

Memory (which a task that is never ended takes too), descriptors and threads of the daemon are compared between the
second quarter of the run and its end. Exit code 1, with figures, if any has grown, if a kill was not proven clear, or
if an order is left.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

from kill_switch.errors import KillSwitchError
from kill_switch.testbed.testbed import LocalTestbed, stop_process

VENUES = ("oxfun", "roxom")
PERIOD_S = 1.0
LIMITED_EVERY = 8  # kills, of which one is of the venue with a limit too
CLEAR_WITHIN_S = 20.0
ORDERS = 3  # that rest at each venue before each kill
MAY_GROW_MIB = 4.0  # the reports keep the last kills, and an allocator rounds up
MAY_GROW = 2  # descriptors, threads


class Sample(NamedTuple):
    """What a process uses."""

    rss_mib: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        process = Path("/proc") / str(pid)
        pages = int((process / "statm").read_text().split()[1])
        descriptors = len(list((process / "fd").iterdir()))
        threads = len(list((process / "task").iterdir()))
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), descriptors, threads)


def run(minutes: float) -> list[str]:
    """Soak; return what is wrong at the end, nothing if all is well."""
    options = ["oxfun.limits=off"]
    with LocalTestbed(VENUES, accounts=2, options=options) as stage:
        stage.write_config()
        stage.start_daemon()
        assert stage.daemon is not None
        samples: list[Sample] = []
        until_s = time.monotonic() + minutes * 60
        while time.monotonic() < until_s:
            began_s = time.monotonic()
            _kill(stage, len(samples))
            samples.append(Sample.of(stage.daemon.pid))
            time.sleep(max(0.0, began_s + PERIOD_S - time.monotonic()))
        wrong = _growth(samples)
        left = {venue: stage.book(venue) for venue in VENUES}
        if any(left.values()):
            wrong.append(f"orders left: {left}")
        stage.wait_for(lambda s: s["state"] == "ARMED", CLEAR_WITHIN_S)
        if code := stop_process(stage.daemon):
            wrong.append(f"the daemon ended with {code}")
        return wrong


def _kill(stage: LocalTestbed, number: int) -> None:
    venues = VENUES if number % LIMITED_EVERY == 0 else VENUES[:1]
    for venue in venues:
        stage.rest(venue, ORDERS)
    scope = [f"{venue}{account}" for venue in venues for account in (1, 2)]
    report = stage.ask(cmd="fire", reason=f"soak {number}", scope=scope, wait_s=CLEAR_WITHIN_S / 2)
    verdicts = {name: account["verdict"] for name, account in report["accounts"].items()}
    if set(verdicts.values()) != {"CONFIRMED"}:
        raise KillSwitchError(f"kill {number}: {verdicts}")
    answer = stage.ask(cmd="rearm", reason="soak")
    if "rearmed" not in answer:
        raise KillSwitchError(f"kill {number}: not re-armed: {answer}")


def _growth(samples: list[Sample]) -> list[str]:
    quarter = max(1, len(samples) // 4)
    first, last = samples[quarter - 1 : 2 * quarter], samples[-quarter:]
    wrong = []
    told: dict[str, object] = {"kills": len(samples)}
    for field, allowed in (("rss_mib", MAY_GROW_MIB), ("descriptors", MAY_GROW), ("threads", MAY_GROW)):
        before, after = (statistics.median(getattr(sample, field) for sample in part) for part in (first, last))
        told[field] = [round(before, 1), round(after, 1)]
        if after - before > allowed:
            wrong.append(f"{field} has grown from {before:g} to {after:g}")
    print(json.dumps(told))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill and re-arm once a second, and see that nothing grows.")
    parser.add_argument("--minutes", type=float, default=10.0)
    try:
        wrong = run(parser.parse_args().minutes)
    except KillSwitchError as error:
        wrong = [str(error)]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
