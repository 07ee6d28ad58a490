"""The parts that all lanes and routes share: the listener interface, lane states, the back-off, socket options.

`http`, `ws`, `fresh` and `network` use it, and `dispatch` implements the listener. Nothing here opens a connection.
"""

from __future__ import annotations

import random
import socket
from asyncio import BaseTransport
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from kill_switch.core.domain import Route
from kill_switch.transports.authorities import tls_context as tls_context  # what the benchmark's peers connect with
from kill_switch.venues.messages import Event

# shared by all connections: an event loop fills the buffer and passes its content on in one step
READ_INTO = memoryview(bytearray(64 << 10))
STOPPING = "the daemon is stopping"  # why a connection ends that its lane closes, also for a reload; no trouble
CONNECT_WITHIN_S = 10.0  # for TCP and TLS together
# idle time before the kernel's first probe, and time between probes; two unanswered probes end the connection
_KEEPALIVE_S = 1


class LaneListener(Protocol):
    """The listener of a lane. A lane calls every method on the event loop's thread; no method may raise."""

    def on_lane_event(self, event: Event) -> None: ...

    def on_sent(self, route: Route, tag: str) -> None:
        """Called when the last byte of a call's request has been passed to the transport."""

    def on_round_trip(self, route: Route, rtt_us: int) -> None:
        """Called with each measured round trip, in µs."""

    def on_trouble(self, route: Route, why: str) -> None:
        """Called with why a lane could not carry a kill now, or has just failed again; "" if it is healthy."""

    def use_idle_http_lane(self) -> None:
        """Called when the HTTP lane has been idle for its interval: request something harmless over it."""

    def keep_connection(self) -> None:
        """Called when one of many HTTP connections has been idle for long: request next to nothing over it."""

    def break_silence(self) -> None:
        """Called when the venue has answered nothing over HTTP for long: request next to nothing, to see whether it
        would.
        """


class ConnectionCounts(NamedTuple):
    """How many connections of a lane could carry a command now, and how many there should be."""

    up: int
    wanted: int


class ConnectionNotWanted(ValueError):
    """The account's adapter wants no connection now; the text is its reason. The lane retries after the back-off.

    `is_expected`: the reason is a step of each start, and no trouble that anybody should hear of.
    """

    def __init__(self, why: str, *, is_expected: bool = False) -> None:
        super().__init__(why)
        self.is_expected = is_expected


class AddressUnusable(ValueError):
    """The adapter's path for a connection cannot be requested; the text does not show it."""


@dataclass(slots=True)
class Backoff:
    """Exponential back-off with jitter and a cap, in seconds.

    Jitter spreads the attempts of lanes that failed together.
    """

    first_s: float = 0.1
    cap_s: float = 10.0
    failures: int = 0

    def next_s(self) -> float:
        """Return the wait before the next attempt, in seconds; the first one is only jitter, from 0 to `first_s`."""
        if self.failures == 0:
            self.failures = 1
            return random.uniform(0, self.first_s)  # noqa: S311 - jitter, nothing secret
        longest = min(self.cap_s, self.first_s * 2 ** min(self.failures, 32))  # a float overflows beyond 2**1023
        self.failures += 1
        return random.uniform(longest / 2, longest)  # noqa: S311 - jitter, nothing secret

    def reset(self) -> None:
        self.failures = 0


def tune(transport: BaseTransport) -> None:
    """Disable Nagle's algorithm, and let the kernel end the connection within 3 s if the peer's host is gone."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000)
