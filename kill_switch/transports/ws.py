"""The warm WebSocket lane of an account: one connection or more kept open, logged in and proven alive.

`dispatch` sends frames over it without an await. The lane never queues a frame, and never sends one twice.

Before a connection reaches the maximum age that the venue allows, the lane opens and authenticates a successor, and
closes the old connection only then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import anyio
from websockets.exceptions import WebSocketException

from kill_switch.core.domain import LaneState, Route
from kill_switch.transports import certificates
from kill_switch.transports.causes import describe_error
from kill_switch.transports.certificates import CertificateExpiry
from kill_switch.transports.lane import (
    CONNECT_WITHIN_S,
    STOPPING,
    Backoff,
    ConnectionCounts,
    ConnectionNotWanted,
    LaneListener,
)
from kill_switch.transports.network import Network
from kill_switch.transports.resolver import HostAddress
from kill_switch.transports.ws_connection import WsConnection
from kill_switch.venues import retry_after
from kill_switch.venues.request import Upgrade

LOGIN_WITHIN_S = 10.0  # for the upgrade and the login together
STEADY_AFTER_S = 5.0  # a connection that lasted this long resets the back-off
FATAL_WAIT_S = 30.0  # after a refused key: an operator may correct it, and frequent attempts would not help
REFUSED_FIRST_S = 0.25  # the first back-off after an upgrade that was refused for another reason than the key
MAX_REFUSED_S = 30.0  # the cap of that back-off
TOO_MANY = (418, 429)  # HTTP statuses for too many requests; some venues ban an address that ignores them
TOO_MANY_WAIT_S = 1.0  # the minimum wait after them, if the venue names none
ORPHAN_S = 2.0  # for a successor that is connecting, after the old connection has ended


class WsLane:
    """The warm WebSocket lane of one account."""

    def __init__(
        self,
        url: str,
        upgrade: Callable[[], Upgrade],
        sink: LaneListener,
        *,
        ca_file: str | None = None,
        max_age_s: float = 12 * 3600.0,
        overlap: bool = True,
        connections: int = 1,
        network: Network | None = None,
    ) -> None:
        """Create the lane; `run` connects it.

        `upgrade` returns what a connection is requested with; it is called for each attempt, and raises
        `ConnectionNotWanted` if no connection is wanted now. `max_age_s` is when a successor is opened, in seconds.
        `overlap` is False where the venue allows one connection only. `connections` is how many are kept open.
        Raises `OSError` if `ca_file` cannot be read. Without a `network` the lane creates its own.
        """
        self._url = url
        self._dialer = (network or Network()).dialer(url, ca_file)
        self._upgrade = upgrade
        self._sink = sink
        self._max_age_s = max_age_s
        self._overlap = overlap  # False where the venue allows one connection only
        self._count = connections
        self._connections: dict[int, WsConnection] = {}
        self._failing = Backoff()
        self._refused = Backoff(first_s=REFUSED_FIRST_S, cap_s=MAX_REFUSED_S)
        self._not_before_s = 0.0  # by the event loop's clock: the end of the venue's `Retry-After`
        self._stopping = False
        self._missing = ""  # the trouble, while a connection is missing and another one is up
        self._hurry = asyncio.Event()  # the next attempt is not to wait
        self.trouble = ""  # why the last attempt failed or the connection ended; "" if the lane is healthy
        self.certificate: CertificateExpiry | None = None  # the earliest expiry in the chain of the last connection

    @property
    def connections(self) -> ConnectionCounts:
        """How many connections are logged in, and how many are kept open; during a rotation there is one more."""
        up = sum(c.open and c.authenticated.is_set() for c in self._connections.values())
        return ConnectionCounts(min(up, self._count), self._count)

    @property
    def state(self) -> LaneState:
        if any(c.open and c.authenticated.is_set() for c in self._connections.values()):
            return LaneState.UP
        return LaneState.CONNECTING if any(c.open for c in self._connections.values()) else LaneState.DOWN

    def prepare(self, conn: int, text: bytes) -> None:
        """Build the frame of a text ahead of `send`, which must get the same object."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.prepare(text)

    def send(self, conn: int, text: bytes) -> bool:
        """Write a text frame in this pass of the event loop; return False if provably no byte of it was sent."""
        connection = self._connections.get(conn)
        return connection is not None and connection.send(text)

    def authenticated(self, conn: int) -> None:
        """Record that the venue has accepted the login on a connection; an older connection may then close."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.authenticated.set()

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None:
        """Abort a connection. `run` opens another one; after a refused key (`fatal`) only after a longer wait."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.fatal = connection.fatal or fatal
            connection.abort(reason)

    def replace(self, conn: int) -> None:
        """Open a successor of a connection now, and close the connection once the successor is ready."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.outdated.set()

    def connect_now(self) -> None:
        """Make the next attempt without a wait, unless the venue has asked for the wait; an open connection stays."""
        self._hurry.set()

    async def run(self) -> None:
        """Keep the connections open; never return."""
        try:
            async with anyio.create_task_group() as group:
                for _ in range(self._count - 1):
                    group.start_soon(self._keep_one)
                await self._keep_one()
        finally:
            self._stopping = True
            for connection in list(self._connections.values()):
                connection.close(STOPPING)

    async def _keep_one(self) -> None:
        """Keep one connection open; never return."""
        wait_s = self._failing.next_s()
        while True:
            with anyio.move_on_after(wait_s):
                await self._hurry.wait()
            await anyio.sleep(max(0.0, self._not_before_s - anyio.current_time()))
            self._hurry.clear()
            outcome = await self._connect([])
            wait_s = await self._stay_connected(outcome) if isinstance(outcome, WsConnection) else outcome

    async def _connect(self, tried: list[WsConnection]) -> WsConnection | float:
        """Open and authenticate one connection, and add it to `tried`: the caller may cancel this.

        On failure, report the trouble and return the wait until the next attempt, in seconds.
        """
        connection: WsConnection | None = None
        place: HostAddress | None = None
        trouble, is_expected = "", False
        try:
            connection = WsConnection(self._url, self._upgrade(), self._sink, self._ended)
            self._connections[connection.number] = connection
            tried.append(connection)
            place = await self._dialer.connect(connection, within_s=CONNECT_WITHIN_S)
            self.certificate = certificates.earliest_expiry(connection.transport)
            with anyio.move_on_after(LOGIN_WITHIN_S):
                await _first(connection.authenticated, connection.closed)
            if connection.authenticated.is_set() and not connection.closed.is_set():
                if not self._missing or self.connections.up >= self._count:
                    self._report_trouble("")
                return connection
            step = "no login in time" if connection.upgraded else "no answer to the upgrade"
            connection.abort(f"{step}: timed out after {LOGIN_WITHIN_S:g} s")
        except (OSError, WebSocketException, ValueError) as error:
            trouble = describe_error(error)
            is_expected = isinstance(error, ConnectionNotWanted) and error.is_expected
        if is_expected:
            self.trouble = trouble  # for the status alone
            return self._wait_s(connection)
        if connection is not None:
            connection.abort("not usable")
            self._connections.pop(connection.number, None)
        if place is not None:
            self._dialer.mark_failed(place)  # TLS works there, but not the service behind it
        why = trouble or (connection.why if connection is not None else "")
        if self.state is LaneState.UP:
            self._report_missing(why)
        elif connection is None or not connection.upgraded:  # else `_ended` reports the trouble
            self._report_trouble(why)
        return self._wait_s(connection)

    async def _stay_connected(self, connection: WsConnection) -> float:
        """Keep a connection, and before the maximum age its successors, until a connection ends by itself.

        Return the wait before the next connection, in seconds.
        """
        age_s, due = self._max_age_s, False
        while True:
            since_s = anyio.current_time()
            with anyio.move_on_after(age_s):
                await _first(connection.closed, connection.outdated)
            is_outdated = connection.outdated.is_set()
            connection.outdated.clear()
            if connection.closed.is_set():
                self._connections.pop(connection.number, None)
                if anyio.current_time() - since_s >= STEADY_AFTER_S and not due:
                    self._steady()
                return self._wait_s(connection)
            if not due:
                self._steady()
            due = True
            successor = await self._make_successor(connection) if self._overlap else 0.0
            if self._overlap and not isinstance(successor, WsConnection):
                # too old for the venue, but better than no connection
                age_s = max(successor, self._not_before_s - anyio.current_time())
                continue
            age_s, due = self._max_age_s, False
            self._connections.pop(connection.number, None)
            connection.close("the venue is closing it" if is_outdated else "rotated before the venue's maximum age")
            if not isinstance(successor, WsConnection):
                return self._failing.next_s()
            connection = successor

    async def _make_successor(self, old: WsConnection) -> WsConnection | float:
        """Open a successor of `old`, or return the wait until the next attempt, in s.

        If `old` ends first, the successor has `ORPHAN_S` seconds left.
        """
        successor: WsConnection | float = 0.0
        tried: list[WsConnection] = []
        async with anyio.create_task_group() as group:

            async def attempt() -> None:
                nonlocal successor
                successor = await self._connect(tried)
                group.cancel_scope.cancel()

            group.start_soon(attempt)
            await old.closed.wait()
            await anyio.sleep(ORPHAN_S)
            group.cancel_scope.cancel()
        for connection in tried:
            if connection is not successor and self._connections.pop(connection.number, None) is not None:
                connection.abort("it was not ready in time")
        return successor

    def _wait_s(self, connection: WsConnection | None) -> float:
        """Return the wait after an attempt or a connection has ended, in s; record its `Retry-After`."""
        if connection is None:
            return self._failing.next_s()
        if connection.asked_s:
            least_s = min(connection.asked_s, retry_after.MAX_PAUSE_S)
            self._not_before_s = anyio.current_time() + least_s * random.uniform(1, 1.05)  # noqa: S311 - jitter
        if connection.fatal:
            return FATAL_WAIT_S * random.uniform(1, 1.05)  # noqa: S311 - jitter, nothing secret
        if 400 <= connection.status < 500:
            wait_s = self._refused.next_s()
            return max(wait_s, TOO_MANY_WAIT_S) if connection.status in TOO_MANY else wait_s
        return self._failing.next_s()

    def _steady(self) -> None:
        """Reset the back-off after a connection that lasted."""
        self._failing.reset()
        self._refused.reset()

    def _ended(self, connection: WsConnection) -> None:
        """Report why an open connection has ended, unless another one is up."""
        if self.state is not LaneState.UP and not self._stopping:
            self._report_trouble(connection.why)

    def _report_missing(self, why: str) -> None:
        """Report why a connection could not be opened although another one is up: a spare, or a successor."""
        up, wanted = self.connections
        self._report_trouble(f"{up} of {wanted} connections: {why}" if up < wanted else why)
        self._missing = self.trouble

    def _report_trouble(self, trouble: str) -> None:
        self.trouble, self._missing = trouble, ""
        self._sink.on_trouble(Route.WS, trouble)


async def _first(*events: asyncio.Event) -> None:
    """Return as soon as one of the events is set."""
    async with anyio.create_task_group() as group:

        async def one(event: asyncio.Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        for event in events:
            group.start_soon(one, event)
