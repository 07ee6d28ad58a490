"""Warn of venue certificates that expire soon; after that no lane of the account can connect.

With each connection, a lane notes when the first certificate of the chain expires. The daemon compares this with the
wall clock at every pulse, because a connection may stay up for weeks. Nothing here connects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Severity
from kill_switch.dispatch.session import AccountSession
from kill_switch.transports.certificates import CertificateExpiry, format_date

WARN_S = 14 * 86_400.0  # seconds before the expiry from which on it is announced
AGAIN_S = 86_400.0  # seconds between two announcements of a certificate
MAX_NAMED = 5  # accounts that a line names at most


class CertificateExpiryMonitor:
    """The certificates of all accounts' lanes; `sessions` is the dispatcher's current mapping."""

    def __init__(
        self,
        sessions: Mapping[str, AccountSession],
        clock: Callable[[], Instant],
        announce: Callable[[Announce], object],
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._announce = announce
        self._announced_ns: dict[
            tuple[str, CertificateExpiry], int
        ] = {}  # host and certificate → when it was announced last

    def check(self) -> None:
        """Announce the certificates that expire within `WARN_S`, each once a day; cheap enough for every pulse."""
        now_ns = self._clock().mono_ns
        soon = self._soon()
        self._announced_ns = {key: announced_ns for key, announced_ns in self._announced_ns.items() if key in soon}
        for key, accounts in soon.items():
            announced_ns = self._announced_ns.get(key)
            if announced_ns is None or now_ns - announced_ns >= AGAIN_S * 1e9:
                self._announced_ns[key] = now_ns
                self._announce(Announce(Severity.WARN, self._words(*key, accounts)))

    def troubles(self) -> Iterator[str]:
        """Yield a line for each host whose certificate expires soon, or has expired."""
        return (self._words(*key, accounts) for key, accounts in self._soon().items())

    def _soon(self) -> dict[tuple[str, CertificateExpiry], list[str]]:
        """Return the certificates that expire within `WARN_S`, by host, with their accounts."""
        by_s = self._clock().wall_ns / 1e9 + WARN_S
        expiring: dict[tuple[str, CertificateExpiry], list[str]] = {}
        for name, session in self._sessions.items():
            for _, url, expiry in session.status.certificates():
                if expiry.at_s <= by_s:
                    accounts = expiring.setdefault((urlsplit(url).netloc, expiry), [])
                    if name not in accounts:
                        accounts.append(name)
        return expiring

    def _words(self, host: str, expiry: CertificateExpiry, accounts: list[str]) -> str:
        left_s = expiry.at_s - self._clock().wall_ns / 1e9
        whose = f"the certificate of {expiry.issuer}, which signed that of {host}," if expiry.issuer else ""
        names = ", ".join(accounts[:MAX_NAMED]) + (
            f" and {len(accounts) - MAX_NAMED} more" if len(accounts) > MAX_NAMED else ""
        )
        subject = f"certificate: {whose or f'that of {host}'}"
        if left_s <= 0:
            return f"{subject} expired on {format_date(expiry.at_s)}: no new connection of {names} comes up"
        left = f"{left_s / 86_400:.0f} days" if left_s >= 2 * 86_400 else f"{max(1.0, left_s / 3600):.0f} h"
        when = f"{format_date(expiry.at_s)}, in {left}"
        return f"{subject} expires on {when}: from then on no connection of {names} comes up"
