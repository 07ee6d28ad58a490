"""Say aloud that a venue's clock and ours are apart, before the venue refuses a signature for it.

Each adapter keeps how far its venue's clock is ahead of ours, and signs by that. It is an estimate all the same, and a
host whose clock is wrong is a fault that somebody has to see to: half of what the venue bears with is where it is
alarmed, once, and again when it has changed for good or bad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kill_switch.core.engine import Announce
from kill_switch.dispatch.session import AccountSession

BEYOND = 0.5  # of the venue's window
GOOD_AGAIN = 0.4  # of the window; a little less, so that it is not told back and forth
CHANGED_BY = 0.25  # of the window: then it is said again


class Clocks:
    """Watch the offset of every account's venue; `sessions` is those that there are now."""

    def __init__(self, sessions: Mapping[str, AccountSession], announce: Callable[[Announce], None]) -> None:
        self._sessions = sessions
        self._announce = announce
        self._told_ns: dict[str, int] = {}  # account → the offset that people were told last

    def offset_ms(self, account: str) -> int | None:
        """Return how far the account's venue is ahead of us (less than nothing: behind); None before it has said so."""
        offset_ns = self._sessions[account].status.clock_offset_ns
        return None if offset_ns is None else round(offset_ns / 1e6)

    def look(self) -> None:
        """Compare the clocks; cheap enough to be done with every pulse."""
        for gone in self._told_ns.keys() - self._sessions.keys():
            del self._told_ns[gone]
        for account, session in self._sessions.items():
            if (window_s := session.status.clock_window_s) is not None:
                self._judge(account, session.status.clock_offset_ns or 0, window_s * 1e9)

    def _judge(self, account: str, offset_ns: int, window_ns: float) -> None:
        told_ns = self._told_ns.get(account)
        if told_ns is None:
            if abs(offset_ns) <= window_ns * BEYOND:
                return
        elif abs(offset_ns) <= window_ns * GOOD_AGAIN:
            del self._told_ns[account]
            self._announce(Announce("info", "the venue's clock and ours agree again", account))
            return
        elif abs(offset_ns - told_ns) <= window_ns * CHANGED_BY:
            return
        self._told_ns[account] = offset_ns
        self._announce(Announce("warn", f"clock: {_words(offset_ns, window_ns)}", account))

    def troubles(self) -> Iterator[str]:
        """Yield a line for each account whose venue's clock is too far from ours."""
        for account in self._told_ns:
            if (session := self._sessions.get(account)) and (window_s := session.status.clock_window_s):
                yield f"clock: {account}: {_words(session.status.clock_offset_ns or 0, window_s * 1e9)}"


def _words(offset_ns: int, window_ns: float) -> str:
    side = "ahead of" if offset_ns > 0 else "behind"
    off, window = abs(offset_ns) / 1e9, window_ns / 1e9
    return f"the venue's is {off:.1f} s {side} ours; it refuses signatures that are {window:g} s off: set this host's"
