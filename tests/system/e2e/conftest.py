"""Real processes on free ports: simulators, the daemon, the commands; each ended by process id."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from kill_switch.testbed.testbed import LocalTestbed, stop_process


class Done(NamedTuple):
    exit_code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Return the JSON of each line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Play(LocalTestbed):
    """A stage, with the commands of a person on it."""

    def command(self, *words: str, within_s: float = 18.0) -> Done:
        """Run `kill-switch WORDS -c CONFIG` to its end."""
        command = [sys.executable, "-m", "kill_switch", *words, "-c", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, stdin=subprocess.DEVNULL)
        return Done(done.returncode, done.stdout, done.stderr)

    def stop_daemon(self, number: int = signal.SIGTERM) -> int:
        """Send the daemon a signal and return its exit code."""
        process, self.daemon = self.daemon, None
        return 0 if process is None else stop_process(process, number)

    def open_orders(self) -> int:
        return sum(self.book(venue) for venue in self.venues)

    def until(self, true: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait until something is true; fail with the daemon's log if it does not come true in time."""
        until_s = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < until_s, self.log.read_text()[-4000:]
            time.sleep(0.02)

    def until_tripped(self) -> None:
        """Wait until everything is proven clear."""
        self.wait_for(lambda s: s["state"] == "TRIPPED", 10.0)


@pytest.fixture
def play() -> Iterator[Play]:
    """Two simulated venues, and a daemon that is armed and warm."""
    with Play(["oxfun", "roxom"]) as made:
        made.write_config(HEARTBEAT)
        made.start_daemon()
        yield made


HEARTBEAT = """
[triggers.alive]
kind = "heartbeat"
timeout = "700ms"
accounts = ["oxfun"]
"""
