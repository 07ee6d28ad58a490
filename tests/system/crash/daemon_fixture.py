"""Hold a daemon's world for many rounds: simulators that stay, a daemon that comes and goes, and the checks."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from kill_switch.errors import KillSwitchError, Unreachable
from kill_switch.journal import journal, latch_file, segments
from kill_switch.journal import write_ahead as intent
from tests.harness.recovered import tripped_accounts
from tests.system.e2e.conftest import Play

from .counters import Figures

VENUES = ("oxfun", "roxom", "kuna", "crosstrade", "kraken")
# a start costs about 20 requests, and there are a dozen a minute here; a supervisor allows 5 in 90 s (StartLimitBurst)
ROOM = ("kuna.rest_per_min=1200",)  # of 300, a start could find none left for as long as CLEAR_WITHIN_S
CLEAR_WITHIN_S = 25.0
START_WITHIN_S = 20.0
GUARDED_WITHIN_S = 5.0  # after a start


class Stand(Play):
    """A stage on which the daemon is mistreated."""

    def __init__(self, venues: tuple[str, ...], seed: int) -> None:
        super().__init__(list(venues), options=ROOM if "kuna" in venues else ())
        self.random = Random(seed)  # noqa: S311 - moments, nothing secret
        self.figures = Figures()

    @property
    def intent(self) -> Path:
        return self.runtime_dir / intent.NAME

    @property
    def pid(self) -> int:
        assert self.daemon is not None
        return self.daemon.pid

    def rest_some(self, most: int = 20) -> None:
        for venue in self.venues:
            self.rest(venue, self.random.randint(1, most))

    def wait(self, true: Callable[[dict[str, Any]], bool], within_s: float, what: str) -> dict[str, Any] | None:
        """Return the first status that fits, or note a failure and return None."""
        try:
            return self.wait_for(true, within_s)
        except KillSwitchError as error:
            self.figures.failures.append(f"{what}: {str(error)[:1500]}")
            return None

    def state(self) -> str:
        with contextlib.suppress(Unreachable, KillSwitchError):
            return str(self.status()["state"])
        return "?"

    def latched(self) -> bool:
        """Say whether a start would trip: by a reason without a re-arm, or an intent, or what became of that."""
        replay = segments.read_at_start(self.state_dir / journal.NAME)
        if replay.broken:
            self.figures.chains_broken += 1
            self.figures.failures.append(f"the chain is broken: {replay.broken}")
        said = self.intent.read_bytes().splitlines() if self.intent.exists() else []
        intended = intent.unrecorded(said, replay.entries)
        left = any((directory / latch_file.LATCH_NAME).exists() for directory in (self.state_dir, self.runtime_dir))
        return bool(tripped_accounts(replay.entries)) or replay.latch_torn or bool(intended) or left

    def struck(self) -> bool:
        """Say whether a venue has seen a command that cancels, since `forget`."""
        return any(request["what"].startswith("cancel") for request in self.admin("GET", "/requests"))

    def forget(self) -> None:
        self.admin("DELETE", "/requests")

    def kill(self) -> None:
        """End the daemon as a power cut for the process: nothing of its own runs any more."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None

    def expect_clear(self, what: str, *, within_s: float = 0.0) -> bool:
        """Wait until everything is proven clear, and believe only the venues' own books; note what is not so.

        `within_s` is for a process that began clear: what rests then it finds with its first reads.
        """
        until_s = time.monotonic() + within_s
        while True:
            if self.wait(lambda s: s["state"] == "TRIPPED", CLEAR_WITHIN_S, what) is None:
                self.figures.orders_left += self.open_orders()
                return False
            left = self.open_orders()
            if not left or time.monotonic() > until_s:
                break
            time.sleep(0.1)
        self.figures.orders_left += left
        if left:
            self.figures.failures.append(f"{what}: TRIPPED, and {left} orders rest")
        return not left

    def rearm(self) -> None:
        """Arm everything again, for the next round."""
        self.flag.unlink(missing_ok=True)
        until_s = time.monotonic() + 15.0
        answer: dict[str, Any] = {}
        while time.monotonic() < until_s:
            with contextlib.suppress(Unreachable):
                answer = self.ask(cmd="rearm", reason="the next round")
                if "rearmed" in answer:
                    return
            time.sleep(0.1)
        self.figures.failures.append(f"not re-armed: {answer}")

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def until_ready(self) -> bool:
        every: Callable[[dict[str, Any]], bool] = lambda s: all(a["ready"] for a in s["accounts"].values())  # noqa: E731
        return self.wait(every, START_WITHIN_S, "not ready") is not None
