"""Measure a kill beside a full mailbox, dead scrapers and 1,000 scrapes a second.

    python -m tests.system.load.scrapes

Two daemons run on simulators of their own: one has no metrics and no messages, one has all of the loads. They kill in
turns, and no load runs while the other one kills. Printed are the medians of the time from `touch` to the last
command's arrival at a venue, their ratio, and the range that has the ratio in 9 of 10 such runs (a bootstrap: single
kills differ by a factor of 5); the exit code is 1 if the ratio is over 1.05. The daemons and their workers have one
core, as in `kill-switch bench`, the simulators the last one. They have what the systemd unit gives: a control group
with a share of the processor, and a niceness of -15. The scraper is there too, in a session of its own and with
the lowest priority; the simulators have a real-time policy, because a niceness alone can keep a process waiting for a
tick of 4 ms. Both stand for other hosts. Run it on an idle machine: 100 kills of each take 5 min.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kill_switch.bench.end_to_end import apart
from kill_switch.errors import KillSwitchError
from kill_switch.outbound.digest import MAX_ANNOUNCEMENTS
from kill_switch.testbed.testbed import LocalTestbed, stop_process
from tests.harness.metrics_exposure import free_port
from tests.system.load.flood import kill

RATIO = 1.05  # that a kill beside the loads may take, of one without
SCRAPES_PER_S = 1000
DEAD = 100  # clients that send a request and never read the answer
KILLS = 100  # of each daemon
VENUES = ("oxfun", "kraken-futures")  # whose limits have room for kills that follow each other at once
AT_ONCE = 4  # kills of one daemon before the other one's turn
FILL_WITHIN_S = 120.0
SCRAPER = """
import os, socket, sys, threading, time
os.setsid()
try:
    with open("/proc/self/autogroup", "w") as file:
        file.write("19")
except OSError:
    pass
os.setpriority(os.PRIO_PROCESS, 0, 19)
port, per_s, threads, core = map(int, sys.argv[1:])
os.sched_setaffinity(0, {core})
answered = [0] * threads
def scrape(number):
    due = time.monotonic()
    while True:
        due = max(due + threads / per_s, time.monotonic() - 0.1)
        time.sleep(max(0.0, due - time.monotonic()))
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
            while client.recv(1 << 20):
                pass
        answered[number] += 1
for number in range(threads):
    threading.Thread(target=scrape, args=(number,), daemon=True).start()
began = time.monotonic()
sys.stdin.read()
print(sum(answered) / (time.monotonic() - began))
"""


@contextmanager
def scraped(port: int, rates: list[float], core: int) -> Iterator[None]:
    """Have the metrics scraped all the time, and asked for by clients that never read; append the rate to `rates`."""
    command = [sys.executable, "-c", SCRAPER, str(port), str(SCRAPES_PER_S), "8", str(core)]
    with ExitStack() as stack:
        for _ in range(DEAD):
            dead = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            dead.sendall(b"GET /metrics HTTP/1.1\r\n")  # and the end of the request never comes
        scraper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            time.sleep(0.5)
            yield
            out, _ = scraper.communicate("", timeout=20)
            rates.append(float(out))
        finally:
            stop_process(scraper)  # type: ignore[arg-type]


@contextmanager
def in_unit() -> Iterator[Path | None]:
    """Yield a control group with a share of the processor, for version 2 or 1; None without the right for it."""
    parents = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu"))
    parent = next(path for path in parents if (path / "cgroup.procs").exists())
    group = parent / f"kill-switch@load-{os.getpid()}.service"
    try:
        if (controllers := parent / "cgroup.subtree_control").exists():  # version 2
            controllers.write_text("+cpu")
        group.mkdir()
    except OSError as error:
        sys.stderr.write(f"no control group, and workers have a niceness alone: {error.strerror}; run this as root\n")
        yield None
        return
    try:
        yield group
    finally:
        until_s = time.monotonic() + 5  # the workers end soon after their daemon
        while (group / "cgroup.procs").read_text() and time.monotonic() < until_s:
            time.sleep(0.1)
        group.rmdir()


def start(stage: LocalTestbed, group: Path | None) -> None:
    """Start the daemon as its unit does, in this control group."""
    if group is None:
        stage.start_daemon()
        return
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        stage.start_daemon()
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
    assert stage.daemon is not None
    for thread in Path(f"/proc/{stage.daemon.pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), -15)


def answer_at_once(stage: LocalTestbed) -> None:
    """Have the simulators run as soon as something arrives; without the right for that, the scraper delays them."""
    assert stage.simulators is not None
    for thread in Path(f"/proc/{stage.simulators.pid}/task").iterdir():
        try:
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            sys.stderr.write("the simulators have no real-time policy, and the scraper delays them: run this as root\n")
            return


def fill_mailbox(stage: LocalTestbed, port: int, lines: Iterator[int]) -> None:
    """Have more announced than a message holds, by reloads that are refused, each for a fault in another place."""
    before, until_s = lost(port), time.monotonic() + FILL_WITHIN_S
    whole = stage.config.read_text()
    while lost(port) == before:
        assert time.monotonic() < until_s, "the mailbox is not full"
        for line in itertools.islice(lines, MAX_ANNOUNCEMENTS // 10):
            stage.config.write_text("\n" * (line % 100) + " " * (line // 100) + "no TOML")  # short, to be read soon
            with suppress(KillSwitchError):
                stage.ask(cmd="reload")
    stage.config.write_text(whole)


def lost(port: int) -> float:
    """Return how many announcements had no room."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return float(next(line for line in lines if line.startswith("kill_switch_notifications_lost_total")).split()[1])


def likely_range(quiet: list[float], loaded: list[float]) -> tuple[float, float]:
    """Return the 5th and the 95th percentile of the ratio of medians, over samples of the samples."""
    draw = random.Random(0)  # noqa: S311 - statistics
    ratios = [
        statistics.median(draw.choices(loaded, k=len(loaded))) / statistics.median(draw.choices(quiet, k=len(quiet)))
        for _ in range(2000)
    ]
    twentieths = statistics.quantiles(ratios, n=20)
    return twentieths[0], twentieths[-1]


def main() -> int:
    """Measure, and print one line of JSON."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.system.load.scrapes", description=about)
    parser.add_argument("--kills", type=int, default=KILLS, help="kills of each daemon")
    asked = parser.parse_args()
    quiet: list[float] = []
    loaded: list[float] = []
    rates: list[float] = []
    with apart() as core, in_unit() as group, ExitStack() as stack:
        black_hole = stack.enter_context(socket.socket())
        black_hole.bind(("127.0.0.1", 0))
        black_hole.listen(64)  # a server that accepts and never answers
        port = free_port()
        daemon = f'metrics = "127.0.0.1:{port}"'
        mailbox = f'[notify]\nurls = ["json://127.0.0.1:{black_hole.getsockname()[1]}/x"]\n'
        alone, busy = (stack.enter_context(LocalTestbed(VENUES, core=core)) for _ in range(2))
        alone.write_config()
        busy.write_config(mailbox, daemon=daemon)
        for stage in (alone, busy):
            start(stage, group)
        busy.wait_for(lambda status: not status["trouble"], 10.0)
        time.sleep(2.0)  # until the worker process serves the metrics
        for stage in (alone, busy):
            answer_at_once(stage)
            kill(stage)  # the first one is slower
        lines = itertools.count()
        for _ in range(0, asked.kills, AT_ONCE):
            quiet += [kill(alone) for _ in range(AT_ONCE)]
            fill_mailbox(busy, port, lines)
            with scraped(port, rates, core):
                loaded += [kill(busy) for _ in range(AT_ONCE)]
        announcements_lost = lost(port)
    quiet_ms, loaded_ms = statistics.median(quiet), statistics.median(loaded)
    ratio = loaded_ms / quiet_ms
    result = {
        "quiet_ms": round(quiet_ms, 3),
        "loaded_ms": round(loaded_ms, 3),
        "ratio": round(ratio, 3),
        "likely": [round(bound, 3) for bound in likely_range(quiet, loaded)],
        "scrapes_per_s": round(statistics.mean(rates)),
        "announcements_lost": announcements_lost,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if ratio <= RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
