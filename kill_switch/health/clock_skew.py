"""Announce that a venue's clock and this host's differ, before the venue refuses a signature because of it.

Each adapter signs by its venue's clock, as it estimates it; so a wrong host clock stops nothing, but a person must
correct it. The daemon checks with every pulse and announces from half of the venue's tolerance on. No clock is set
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.dispatch.session import AccountSession

ALARM_SHARE = 0.5  # part of the venue's window from which on the offset is announced
CLEAR_SHARE = 0.4  # part of the window below which it is good again; lower, so that it does not alternate
REPEAT_SHARE = 0.25  # part of the window by which it must change to be announced again


class ClockSkewMonitor:
    """The clock offsets of all accounts' venues; `sessions` is the dispatcher's current mapping."""

    def __init__(self, sessions: Mapping[str, AccountSession], announce: Callable[[Announce], None]) -> None:
        self._sessions = sessions
        self._announce = announce
        self._announced_ns: dict[str, int] = {}  # account → the offset that was announced last

    def offset_ms(self, account: str) -> int | None:
        """Return the venue's clock minus this host's in milliseconds; None until it has been measured."""
        offset_ns = self._sessions[account].status.clock_offset_ns
        return None if offset_ns is None else round(offset_ns / 1e6)

    def check(self) -> None:
        """Compare the clocks and announce changes; cheap enough for every pulse."""
        for gone in self._announced_ns.keys() - self._sessions.keys():
            del self._announced_ns[gone]
        for account, session in self._sessions.items():
            if (window_s := session.status.clock_window_s) is not None:
                self._judge(account, session.status.clock_offset_ns or 0, window_s * 1e9)

    def _judge(self, account: str, offset_ns: int, window_ns: float) -> None:
        announced_ns = self._announced_ns.get(account)
        if announced_ns is None:
            if abs(offset_ns) <= window_ns * ALARM_SHARE:
                return
        elif abs(offset_ns) <= window_ns * CLEAR_SHARE:
            del self._announced_ns[account]
            self._announce(Announce(Severity.INFO, "the venue's clock and ours agree again", account))
            return
        elif abs(offset_ns - announced_ns) <= window_ns * REPEAT_SHARE:
            return
        self._announced_ns[account] = offset_ns
        self._announce(Announce(Severity.WARN, f"clock: {_words(offset_ns, window_ns)}", account))

    def troubles(self) -> Iterator[str]:
        """Yield a line for each account whose venue's clock differs too much."""
        for account in self._announced_ns:
            if (session := self._sessions.get(account)) and (window_s := session.status.clock_window_s):
                yield f"clock: {account}: {_words(session.status.clock_offset_ns or 0, window_s * 1e9)}"


def _words(offset_ns: int, window_ns: float) -> str:
    side = "ahead of" if offset_ns > 0 else "behind"
    off, window = abs(offset_ns) / 1e9, window_ns / 1e9
    return f"the venue's is {off:.1f} s {side} ours; it refuses signatures that are {window:g} s off: set this host's"
