"""Measure `Heartbeat.beat()` in each state of the daemon: `python -m tests.system.load.beats`.

A bot in a process of its own beats every millisecond. Meanwhile its daemon runs, loses its directory, stops, has a full
queue, restarts, and dies. Prints a row for each state: beats, those that the kernel accepted, and the times. As root,
the bot runs before other processes, so that a busy machine is not measured.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kill_switch.testbed.testbed import LocalTestbed, stop_process

NAME = "quoter-alive"
TIMEOUT_S = 3.0
TRIGGER = f'[triggers.{NAME}]\nkind = "heartbeat"\ntimeout = "{TIMEOUT_S:g}s"\naccounts = ["oxfun"]\n'
BOT = """
import contextlib, json, os, select, sys, time
from kill_switch.client import Heartbeat

if sys.argv[4] == "first":
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
heartbeat, every_s = Heartbeat(sys.argv[1], runtime_dir=sys.argv[2]), float(sys.argv[3])
took, cpu, accepted = [], [], 0
while True:
    began, began_cpu = time.perf_counter_ns(), time.thread_time_ns()
    accepted += heartbeat.beat()
    cpu.append(time.thread_time_ns() - began_cpu)
    took.append(time.perf_counter_ns() - began)
    if select.select([sys.stdin], [], [], every_s)[0]:
        if not sys.stdin.readline():
            break
        figures = {"beats": len(took), "accepted": accepted, "median_ns": sorted(took)[len(took) // 2]}
        figures.update(worst_ns=max(took), worst_cpu_ns=max(cpu), trouble=heartbeat.trouble)
        print(json.dumps(figures), flush=True)
        took, cpu, accepted = [], [], 0
"""


class Figures(NamedTuple):
    """Of the beats in one state; the times are microseconds, `cpu` without the time that others had the processor."""

    beats: int
    accepted: int
    median_us: float
    worst_us: float
    worst_cpu_us: float
    trouble: str  # of the last beat

    def row(self, state: str) -> str:
        """Return a row of the table in docs/evidence/performance.md."""
        times = f"{self.median_us:.0f} | {self.worst_cpu_us:.0f} | {self.worst_us:.0f}"
        return f"| {state} | {self.beats:,} | {self.accepted:,} | {times} |"


class Bot:
    """A strategy in a process of its own, which beats in its loop until `end`."""

    def __init__(self, runtime_dir: Path, every_s: float = 0.001, *, is_first: bool = False) -> None:
        """Start to beat; with `is_first`, before all other processes, where this user may ask for that."""
        command = [sys.executable, "-c", BOT, NAME, str(runtime_dir), str(every_s), "first" if is_first else ""]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def figures(self, within_s: float = 10.0) -> Figures:
        """Return the figures since the last call; fail with the bot's error if it has ended or hangs."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(self._error()) from None
        readable, _, _ = select.select([self.process.stdout], [], [], within_s)
        assert readable, f"the bot hangs: no figures within {within_s:g} s"
        line = self.process.stdout.readline()
        assert line, self._error()
        read: dict[str, Any] = json.loads(line)
        median_us, worst_us, worst_cpu_us = (read[f"{name}_ns"] / 1000 for name in ("median", "worst", "worst_cpu"))
        return Figures(read["beats"], read["accepted"], median_us, worst_us, worst_cpu_us, read["trouble"])

    def end(self) -> None:
        """End the bot without a goodbye."""
        self.process.kill()
        self.process.communicate()

    def _error(self) -> str:
        self.process.kill()
        return self.process.communicate()[1]


@contextmanager
def stopped(play: LocalTestbed) -> Iterator[None]:
    """Stop the daemon as a debugger does, for as long as the context is open."""
    assert play.daemon is not None
    os.kill(play.daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(play.daemon.pid, signal.SIGCONT)


def measure(play: LocalTestbed, seconds: float, *, is_first: bool = False) -> Iterator[tuple[str, Figures]]:
    """Yield each state of the daemon and the bot's figures in it; the trigger must be armed and see at the end.

    The daemon of `play` runs, with `TRIGGER`. Each state lasts `seconds` seconds or longer.
    """
    bot = Bot(play.runtime_dir, is_first=is_first)

    def figures() -> Figures:
        time.sleep(seconds)
        return bot.figures()

    try:
        play.wait_for(lambda status: status["triggers"][NAME]["state"] == "ok", 20.0)
        bot.figures()
        yield "the daemon is well", figures()
        shutil.rmtree(play.runtime_dir)
        yield "its directory is gone, and made again", figures()
        _wait_until_accepted(bot)
        with stopped(play):
            bot.figures()
            time.sleep(0.1)
            bot.figures()
            yield "it is stopped, and the queue is full", figures()
        _wait_until_accepted(bot)
        _end(play, signal.SIGTERM)
        play.start_daemon()
        yield "it restarts", figures()
        _end(play, signal.SIGKILL)
        bot.figures()
        yield "it is dead", figures()
        shutil.rmtree(play.runtime_dir)
        bot.figures()
        yield "it is dead, and its directory is gone", figures()
        play.start_daemon()
        yield "it starts again", figures()
        time.sleep(TIMEOUT_S)  # longer than the time-out, counted from the start
        play.wait_for(lambda status: status["triggers"][NAME]["state"] == "ok", 5.0)
        assert play.status()["state"] == "ARMED"
    finally:
        bot.end()


def _wait_until_accepted(bot: Bot) -> None:
    until_s = time.monotonic() + 10.0
    while not (last := bot.figures()).accepted or last.trouble:
        assert time.monotonic() < until_s, last
        time.sleep(0.05)


def _end(play: LocalTestbed, number: int) -> None:
    process, play.daemon = play.daemon, None
    assert process is not None
    stop_process(process, number)


def main() -> None:
    """Print the table."""
    print("| state | beats | accepted | median µs | worst µs, of the processor | worst µs |\n|---|---|---|---|---|---|")
    with LocalTestbed(["oxfun"]) as play:
        play.write_config(TRIGGER)
        play.start_daemon()
        for state, figures in measure(play, 5.0, is_first=True):
            print(figures.row(state), flush=True)


if __name__ == "__main__":
    main()
