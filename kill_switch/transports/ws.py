"""Keep one WebSocket connection up, authenticated and proven alive, ready to carry a kill without an await.

Frames are made by websockets' protocol object, which does no I/O, and written in one pass. A ping goes out every
second; a peer that answers nothing for two is dead, whatever TCP says. Before the connection reaches the age that
the venue allows, a new one is opened and authenticated, and only then the old one goes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

import anyio
from websockets.exceptions import WebSocketException

from kill_switch.core.domain import Route
from kill_switch.transports import certificates
from kill_switch.transports.causes import why
from kill_switch.transports.certificates import Expiry
from kill_switch.transports.lane import CONNECT_WITHIN_S, Backoff, LaneState, Sink
from kill_switch.transports.network import Network
from kill_switch.transports.resolver import Place
from kill_switch.transports.ws_connection import WsConnection
from kill_switch.venues import retry_after

LOGIN_WITHIN_S = 10.0
STEADY_AFTER_S = 5.0  # a connection that lasted this long owes nothing to the failures before it
FATAL_WAIT_S = 30.0  # the venue has refused the key: it may be put right, but not by hammering
REFUSED_FIRST_S = 0.25  # after an upgrade that was refused for another reason; twice as long each time,
REFUSED_MOST_S = 30.0  # up to this
TOO_MANY = (418, 429)  # requests, says the venue: an address is banned at some for what it does next
TOO_MANY_WAIT_S = 1.0  # at least, where the venue does not name a time
ORPHAN_S = 2.0  # for a successor that is being made, once the connection that it is to replace has gone


class WsLane:
    """The warm WebSocket lane of one account."""

    def __init__(
        self,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        sink: Sink,
        *,
        ca_file: str | None = None,
        max_age_s: float = 12 * 3600.0,
        overlap: bool = True,
        network: Network | None = None,
    ) -> None:
        """Make it; raise `OSError` for a `ca_file` that cannot be used. Without a `network` it has one of its own."""
        self._url = url
        self._dialer = (network or Network()).dialer(url, ca_file)
        self._headers = headers
        self._sink = sink
        self._max_age_s = max_age_s
        self._overlap = overlap  # False where the venue allows one connection only
        self._connections: dict[int, WsConnection] = {}
        self._failing = Backoff()
        self._refused = Backoff(first_s=REFUSED_FIRST_S, cap_s=REFUSED_MOST_S)
        self._not_before_s = 0.0  # by the event loop's clock: the venue has asked for that
        self._stopping = False
        self.trouble = ""  # why the last attempt failed, or the connection ended
        self.certificate: Expiry | None = None  # what the last connection was verified by ends then

    @property
    def state(self) -> LaneState:
        if any(c.open and c.authenticated.is_set() for c in self._connections.values()):
            return LaneState.UP
        return LaneState.CONNECTING if any(c.open for c in self._connections.values()) else LaneState.DOWN

    def prepare(self, conn: int, text: bytes) -> None:
        """Have a text's frame ready for when that text object is sent."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.prepare(text)

    def send(self, conn: int, text: bytes) -> bool:
        """Write a text frame in this pass of the event loop; False if provably no byte of it left."""
        connection = self._connections.get(conn)
        return connection is not None and connection.send(text)

    def authenticated(self, conn: int) -> None:
        """Take the venue's word that the connection is logged in: an older one may go now."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.authenticated.set()

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None:
        """Give a connection up; `run` makes a new one, after longer if the venue refused the key."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.fatal = connection.fatal or fatal
            connection.abort(reason)

    async def run(self) -> None:
        """Keep a connection up for ever."""
        wait_s = self._failing.next_s()
        try:
            while True:
                await anyio.sleep(max(wait_s, self._not_before_s - anyio.current_time()))
                made = await self._connect()
                wait_s = await self._live(made) if isinstance(made, WsConnection) else made
        finally:
            self._stopping = True
            for connection in list(self._connections.values()):
                connection.close("the daemon is stopping")

    async def _connect(self) -> WsConnection | float:
        """Open and authenticate one connection; if that fails, tell the trouble and return when to try again, in s."""
        connection: WsConnection | None = None
        place: Place | None = None
        trouble = ""
        try:
            connection = WsConnection(self._url, self._headers(), self._sink, self._ended)
            self._connections[connection.number] = connection
            place = await self._dialer.connect(connection, within_s=CONNECT_WITHIN_S)
            self.certificate = certificates.expiry(connection.transport)
            with anyio.move_on_after(LOGIN_WITHIN_S):
                await _first(connection.authenticated, connection.closed)
            if connection.authenticated.is_set() and not connection.closed.is_set():
                self._tell("")
                return connection
            step = "no login in time" if connection.upgraded else "no answer to the upgrade"
            connection.abort(f"{step}: timed out after {LOGIN_WITHIN_S:g} s")
        except (OSError, WebSocketException, ValueError) as error:
            trouble = why(error)
        if connection is not None:
            connection.abort("not usable")
            self._connections.pop(connection.number, None)
        if place is not None:
            self._dialer.blame(place)  # TLS was fine; what is behind it is not
        if connection is None or not connection.upgraded:  # else it has told by itself, or does when it ends
            self._tell(trouble or (connection.why if connection is not None else ""))
        return self._wait_s(connection)

    async def _live(self, connection: WsConnection) -> float:
        """Stay with a connection, and with its successors before it is too old, until one ends by itself.

        Return after how long to make another.
        """
        age_s, due = self._max_age_s, False
        while True:
            since_s = anyio.current_time()
            with anyio.move_on_after(age_s):
                await connection.closed.wait()
            if connection.closed.is_set():
                self._connections.pop(connection.number, None)
                if anyio.current_time() - since_s >= STEADY_AFTER_S and not due:
                    self._steady()
                return self._wait_s(connection)
            if not due:
                self._steady()
            due = True
            successor = await self._succeed(connection) if self._overlap else 0.0
            if self._overlap and not isinstance(successor, WsConnection):
                # too old for the venue's liking, and better than none
                age_s = max(successor, self._not_before_s - anyio.current_time())
                continue
            age_s, due = self._max_age_s, False
            self._connections.pop(connection.number, None)
            connection.close("rotated before the venue's maximum age")
            if not isinstance(successor, WsConnection):
                return self._failing.next_s()
            connection = successor

    async def _succeed(self, old: WsConnection) -> WsConnection | float:
        """Make a connection that is to replace another; if that one ends, this is not waited for much longer."""
        made: WsConnection | float = 0.0
        async with anyio.create_task_group() as group:

            async def attempt() -> None:
                nonlocal made
                made = await self._connect()
                group.cancel_scope.cancel()

            group.start_soon(attempt)
            await old.closed.wait()
            await anyio.sleep(ORPHAN_S)
            group.cancel_scope.cancel()
        for connection in [one for one in self._connections.values() if one not in (old, made)]:
            self._connections.pop(connection.number)
            connection.abort("it has not come up in time")
        return made

    def _wait_s(self, connection: WsConnection | None) -> float:
        """Return how long to wait after an attempt, or a connection, that has ended; `Retry-After` is kept beside."""
        if connection is None:
            return self._failing.next_s()
        if connection.asked_s:
            least_s = min(connection.asked_s, retry_after.MOST_S)
            self._not_before_s = anyio.current_time() + least_s * random.uniform(1, 1.05)  # noqa: S311 - jitter
        if connection.fatal:
            return FATAL_WAIT_S * random.uniform(1, 1.05)  # noqa: S311 - jitter, nothing secret
        if 400 <= connection.status < 500:
            wait_s = self._refused.next_s()
            return max(wait_s, TOO_MANY_WAIT_S) if connection.status in TOO_MANY else wait_s
        return self._failing.next_s()

    def _steady(self) -> None:
        """Forget the failures before a connection that has lasted."""
        self._failing.reset()
        self._refused.reset()

    def _ended(self, connection: WsConnection) -> None:
        """Take note of why a connection that was open has ended, unless another one serves."""
        if self.state is not LaneState.UP and not self._stopping:
            self._tell(connection.why)

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble
        self._sink.trouble(Route.WS, trouble)


async def _first(*events: asyncio.Event) -> None:
    """Return as soon as one of the events is set."""
    async with anyio.create_task_group() as group:

        async def one(event: asyncio.Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        for event in events:
            group.start_soon(one, event)
