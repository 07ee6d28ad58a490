"""State what every lane shares: whom it tells, how it names its condition, and how it waits before it tries again."""

from __future__ import annotations

import random
import socket
from asyncio import BaseTransport
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from kill_switch.core.domain import Route
from kill_switch.transports.trust import tls_context as tls_context  # what the benchmark's peers connect with
from kill_switch.venues.messages import Event

READ_INTO = memoryview(bytearray(64 << 10))  # by every connection: a loop fills it and hands it over in one go
CONNECT_WITHIN_S = 10.0  # TCP, TLS and the upgrade together
_KEEPALIVE_S = 1  # idle before the kernel's first probe, and between probes; two unanswered ones end the connection


class Sink(Protocol):
    """Hear from a lane. Every call comes from the event loop's thread, and none may raise."""

    def event(self, event: Event) -> None: ...

    def sent(self, route: Route, tag: str) -> None:
        """Take note that the last byte of the call's request has just been handed to the kernel's side."""

    def rtt(self, route: Route, rtt_us: int) -> None:
        """Take note of a measured round trip."""

    def trouble(self, route: Route, why: str) -> None:
        """Take note of why a lane could not carry a kill now, or has just failed again; "": it is as it should be."""

    def warm(self) -> None:
        """Use the HTTP lane for something harmless: it has been idle long enough."""


class Declined(ValueError):
    """The venue's protocol wants no connection now, and says why; the lane asks again when it would try again."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a lane connects to."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 443)


@dataclass(slots=True)
class Backoff:
    """Wait longer after each failure, with jitter, so that many lanes do not come back in step; capped."""

    first_s: float = 0.1
    cap_s: float = 10.0
    failures: int = 0

    def next_s(self) -> float:
        """Return how long to wait before the next attempt; none before the first."""
        if self.failures == 0:
            self.failures = 1
            return random.uniform(0, self.first_s)  # noqa: S311 - jitter, nothing secret
        longest = min(self.cap_s, self.first_s * 2 ** min(self.failures, 32))  # beyond 2**1023 no float goes
        self.failures += 1
        return random.uniform(longest / 2, longest)  # noqa: S311 - jitter, nothing secret

    def reset(self) -> None:
        self.failures = 0


def tune(transport: BaseTransport) -> None:
    """Send small writes at once, and let the kernel notice within 3 s that the peer's host is gone."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000)
