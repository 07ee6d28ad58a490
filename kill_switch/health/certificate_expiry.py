"""Warn of venues' certificates that are about to expire: from then on no lane of the account comes up.

The lanes note, with each connection, when the first certificate of the chain ends. That is held against the wall clock
again and again, so a connection that stays up for weeks does not hide it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from kill_switch.core.domain import Now
from kill_switch.core.engine import Announce
from kill_switch.dispatch.session import AccountSession
from kill_switch.transports.certificates import Expiry, date

WARN_S = 14 * 86_400.0
AGAIN_S = 86_400.0
TOLD = 5  # accounts that a line names


class Expiries:
    """Watch the certificates of every account's lanes; `sessions` is those that there are now."""

    def __init__(
        self, sessions: Mapping[str, AccountSession], clock: Callable[[], Now], announce: Callable[[Announce], object]
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._announce = announce
        self._told_ns: dict[tuple[str, Expiry], int] = {}  # host and certificate → when people were told last

    def look(self) -> None:
        """Say aloud, once a day each, which certificates are about to expire; cheap enough for every pulse."""
        now_ns = self._clock().mono_ns
        soon = self._soon()
        self._told_ns = {key: told_ns for key, told_ns in self._told_ns.items() if key in soon}
        for key, accounts in soon.items():
            told_ns = self._told_ns.get(key)
            if told_ns is None or now_ns - told_ns >= AGAIN_S * 1e9:
                self._told_ns[key] = now_ns
                self._announce(Announce("warn", self._words(*key, accounts)))

    def troubles(self) -> Iterator[str]:
        """Yield a line for each host whose certificate is about to expire, or has."""
        return (self._words(*key, accounts) for key, accounts in self._soon().items())

    def _soon(self) -> dict[tuple[str, Expiry], list[str]]:
        """Return the certificates that end within `WARN_S`, by host, with their accounts."""
        by_s = self._clock().wall_ns / 1e9 + WARN_S
        found: dict[tuple[str, Expiry], list[str]] = {}
        for name, session in self._sessions.items():
            for _, url, expiry in session.status.certificates():
                if expiry.at_s <= by_s:
                    accounts = found.setdefault((urlsplit(url).netloc, expiry), [])
                    if name not in accounts:
                        accounts.append(name)
        return found

    def _words(self, host: str, expiry: Expiry, accounts: list[str]) -> str:
        left_s = expiry.at_s - self._clock().wall_ns / 1e9
        whose = f"the certificate of {expiry.issuer}, which signed that of {host}," if expiry.issuer else ""
        names = ", ".join(accounts[:TOLD]) + (f" and {len(accounts) - TOLD} more" if len(accounts) > TOLD else "")
        what = f"certificate: {whose or f'that of {host}'}"
        if left_s <= 0:
            return f"{what} expired on {date(expiry.at_s)}: no new connection of {names} comes up"
        left = f"{left_s / 86_400:.0f} days" if left_s >= 2 * 86_400 else f"{max(1.0, left_s / 3600):.0f} h"
        return f"{what} expires on {date(expiry.at_s)}, in {left}: from then on no connection of {names} comes up"
