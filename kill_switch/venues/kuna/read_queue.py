"""Ask for the lists of a read-back at KUNA one by one, once its rate limit has refused one of them.

The limit, 300 requests a minute, is taken for a window that slides (inferred). When it is full, requests fit only as
old ones leave it: three lists that are asked for at the same time would rarely be taken together, and a read that ends
with the first refusal would leave the account unproven for as long. `Kuna` uses this; it makes no requests itself.

An order goes from the other lists to the active one, and never back. So the active list is asked for last, and anew if
it came before another one that was refused: no order is between two lists then.
"""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.readback import ReadBack
from kill_switch.venues.messages import Outputs, WakeAfter

TURN = "turn"  # the timer's tag
TURN_S = 0.5  # between two requests of which the first was refused: a slot comes back in 0.2 s on average
MAX_WAIT_S = 5.0  # a Retry-After is believed for so long at most: a kill asks again before that anyway
ACTIVE = "active"


class ReadQueue:
    """Hold the one read-back whose lists are asked for in turn."""

    def __init__(self, ask: Callable[[ReadBack, str, Instant], Outputs]) -> None:
        """Make it; `ask` asks for a list, by its name, of a read-back."""
        self._ask = ask
        self._read: ReadBack | None = None
        self._waiting: list[str] = []  # lists that are still to come; the first is the next
        self._out = False  # the next one has been asked for
        self._timed = False  # the timer runs

    def join(self) -> bool:
        """Say whether a read-back is under way here: it takes the place of a further one, and becomes urgent.

        One of housekeeping whose next list has been asked for is forgotten: that request may be held up for minutes.
        """
        if self._read is not None and self._out and not self._read.urgent:
            self.drop()
        if self._read is not None:
            self._read.urgent = True
        return self._read is not None

    def drop(self) -> None:
        """Forget the read-back: a strike leaves, and what was asked for before shows the past."""
        self._read = None
        self._waiting.clear()
        self._out = False

    def refused(self, read: ReadBack, name: str, asked_ns: int, retry_after: str) -> Outputs:
        """Take a list that was refused; nothing more comes of a read-back beside the one that waits already."""
        if self._read is None:
            self._read = read
            self._waiting = [ACTIVE]
        if self._read is not read:
            return ()
        if asked_ns > read.asked_ns:
            self._out = False
        if name not in self._waiting:
            self._waiting.insert(len(self._waiting) - 1, name)
        if self._timed:
            return ()
        self._timed = True
        said_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return (WakeAfter(TURN, max(TURN_S, min(said_s, MAX_WAIT_S))),)

    def came(self, read: ReadBack, name: str, asked_ns: int) -> bool:
        """Take note of a list, asked for at `asked_ns`, before its read-back does; say whether it came in its turn."""
        if self._read is not read:
            return False
        in_turn = asked_ns > read.asked_ns and name in self._waiting
        if in_turn:
            self._waiting.remove(name)
            self._out = False
        read.missing.update(self._waiting)
        if not self._waiting:
            self._read = None
        return in_turn

    def leave(self, read: ReadBack) -> tuple[str, ...]:
        """End the read-back's turns; return the lists that are not asked for any more."""
        if self._read is not read:
            return ()
        left = tuple(name for name in self._waiting if name in read.missing)
        self.drop()
        return left

    def go_on(self, now: Instant) -> Outputs:
        """Ask for the next list, if one waits."""
        if self._read is None or self._out:
            return ()
        self._out = True
        return self._ask(self._read, self._waiting[0], now)

    def woke(self, now: Instant) -> Outputs:
        self._timed = False
        return self.go_on(now)
