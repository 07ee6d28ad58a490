"""Decide how many connections an account's HTTP lane has beyond those that it always has, and when one opens or closes.

`http.HttpLane` asks and carries out. Nothing here opens a connection or reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from kill_switch.transports.lane import Backoff

LOOK_EVERY_S = 1.0  # while the number is right
LOOK_RARELY_S = 30.0  # for an account whose strikes never need further connections
RESTED_AFTER_S = 60.0  # without a failed attempt for so long, the back-off starts from the beginning
SHRINK_AFTER_S = 300.0  # fewer connections were wanted for so long: some close
OPENING_MOST = 16  # attempts at once: a distant venue takes 1 s, at 10 attempts a second


class Step(Enum):
    """A step of the lane."""

    NONE = "none"
    OPEN = "open"
    CLOSE = "close"


class ConnectionCount:
    """The number of further connections of one lane: it follows what strikes need, at a pace.

    The number grows at once. It falls only after `SHRINK_AFTER_S` in which fewer were wanted, and never while it is
    `pinned`. A connection that could not be opened, or was closed early, delays the next attempt by a back-off. Until
    an attempt succeeds there is only one at a time, however many connections are missing.
    """

    def __init__(
        self,
        wanted: Callable[[], int],
        *,
        per_s: Callable[[], float],
        pinned: Callable[[], bool] = lambda: False,
        idle_s: float = 45.0,
    ) -> None:
        """`wanted` returns how many connections the lane should have in all; 0: it never needs further connections.

        `per_s` returns how many may be opened in a second. `pinned` returns whether none may be closed: a kill goes
        on. A connection is used at least every `idle_s` seconds, as far as the account's limits allow.
        """
        self.idle_s = idle_s
        self.further = 0  # connections that the lane should have beyond those that it always has
        self._wanted = wanted
        self._per_s = per_s
        self._pinned = pinned
        self._look_s = 0.0  # no look at what is wanted before this moment
        self._less_since_s: float | None = None
        self._opening = 0
        self._backoff = Backoff()
        self._failing = False  # the last attempt failed
        self._next_s = 0.0  # no attempt before this moment

    def next_step(self, now_s: float, always: int, up: int) -> Step:
        """Return what to do now, for a lane with `always` connections that it always has, and `up` further ones."""
        if now_s >= self._look_s:
            wanted = self._wanted()
            self._look_s = now_s + (LOOK_EVERY_S if wanted else LOOK_RARELY_S)
            self._follow(now_s, max(0, wanted - always))
        if up + self._opening < self.further:
            if now_s < self._next_s or self._opening >= (1 if self._failing else OPENING_MOST):
                return Step.NONE
            self._opening += 1
            return Step.OPEN
        return Step.CLOSE if up > self.further and not self._pinned() else Step.NONE

    def wait_s(self, now_s: float, up: int) -> float:
        """Return in how many seconds to ask for the next step; `up` further connections are up."""
        if up == self.further:
            return max(0.0, self._look_s - now_s)
        return max(1 / self._per_s(), min(self._next_s, self._look_s) - now_s)

    def _follow(self, now_s: float, further: int) -> None:
        if further >= self.further or self._pinned():
            self.further = max(further, self.further)
            self._less_since_s = None
        elif self._less_since_s is None:
            self._less_since_s = now_s
        elif now_s - self._less_since_s >= SHRINK_AFTER_S:
            self.further = further
            self._less_since_s = None

    def on_opened(self) -> None:
        """Note that an attempt has succeeded."""
        self._opening -= 1
        self._failing = False

    def on_failed(self, now_s: float) -> None:
        """Note that an attempt has failed."""
        self._opening -= 1
        self.delay(now_s)

    def delay(self, now_s: float) -> None:
        """Delay the next attempt; attempts that fail together count once."""
        self._failing = True
        if now_s >= self._next_s + RESTED_AFTER_S:
            self._backoff.reset()
        if now_s >= self._next_s:
            self._next_s = now_s + self._backoff.next_s()
