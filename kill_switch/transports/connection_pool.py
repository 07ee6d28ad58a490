"""Open the connections of an account's HTTP lane, and close those that it does not need any more.

`http.HttpLane` owns one, and gives its connections calls. `connection_count` decides how many it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from kill_switch.transports import certificates
from kill_switch.transports.causes import describe_error
from kill_switch.transports.certificates import CertificateExpiry
from kill_switch.transports.connection_count import LOOK_EVERY_S, ConnectionCount, Step
from kill_switch.transports.http_connection import OVERDUE, ConnectionOwner, HttpConnection
from kill_switch.transports.idle_connections import IdleConnections
from kill_switch.transports.lane import CONNECT_WITHIN_S, STOPPING, Backoff
from kill_switch.transports.network import Dialer
from kill_switch.transports.resolver import HostAddress

MAX_LATE = 8  # connections of a lane that wait for late answers
STEADY_AFTER_S = 5.0  # a connection that lasted this long resets the back-off
CONNECT_STAGGER_S = 0.1  # between the starts of two connections in one place of the lane
NOT_NEEDED = "strikes need fewer connections"


class PoolOwner(ConnectionOwner, Protocol):
    """The lane that owns a pool."""

    @property
    def is_held(self) -> bool:
        """Whether the venue has asked for a pause: then no further connection opens."""

    def on_up(self, connection: HttpConnection) -> None:
        """Called when a connection has come up."""

    def on_down(self, connection: HttpConnection) -> None:
        """Called when a connection takes no further call."""

    def on_missing(self, reason: str) -> None:
        """Called with the reason why a connection could not be opened, or has closed too early."""


class ConnectionPool:
    """The connections of one lane: some that it always has, and further ones while strikes need them.

    A connection that is always there is opened again at once, with a back-off of its own. Further connections open at
    the pace of their `ConnectionCount`, whatever has closed them.
    """

    def __init__(self, dialer: Dialer, owner: PoolOwner, always: int, count: ConnectionCount | None) -> None:
        """Make a pool without connections; `run` opens them. `always` is how many it has without further ones."""
        self.connections: list[HttpConnection] = []
        self.idle = IdleConnections()
        self.certificate: CertificateExpiry | None = None  # the earliest expiry in the chain of the last connection
        self._dialer = dialer
        self._owner = owner
        self._always = always
        self._count = count
        self.most_late: Callable[[], int] = lambda: MAX_LATE  # how many may wait for a late answer
        self._further: dict[HttpConnection, None] = {}
        # overdue connections that wait for a late answer, or have received it
        self._late: deque[HttpConnection] = deque()

    @property
    def wanted(self) -> int:
        """How many connections there should be now."""
        return self._always + (0 if self._count is None else self._count.further)

    @property
    def has_further(self) -> bool:
        """Whether any connection is up that is not always there."""
        return bool(self._further)

    async def run(self) -> None:
        """Keep the connections open; never return."""
        try:
            async with anyio.create_task_group() as group:
                for _ in range(self._always):
                    group.start_soon(self._keep)
                if self._count is not None:
                    await self._adjust(self._count, group)
        finally:
            for connection in self._late:
                connection.abort(STOPPING)

    async def _keep(self) -> None:
        backoff = Backoff()
        wait_s = backoff.next_s()
        while True:
            await anyio.sleep(wait_s)
            began_s = anyio.current_time()
            opened = await self._open()
            if opened is None:
                wait_s = backoff.next_s()
                continue
            connection, place = opened
            if await self._use(connection, place):
                backoff.reset()
            left_s = began_s + CONNECT_STAGGER_S - anyio.current_time()
            wait_s = max(0.0, left_s) if connection.orderly else backoff.next_s()

    async def _adjust(self, count: ConnectionCount, group: TaskGroup) -> None:
        while True:
            if self._owner.is_held:
                await anyio.sleep(LOOK_EVERY_S)
                continue
            now_s, up = anyio.current_time(), len(self._further)
            step = count.next_step(now_s, self._always, up)
            if step is Step.OPEN:
                group.start_soon(self._have_further, count)
            elif step is Step.CLOSE:
                self._close_further()
            await anyio.sleep(count.wait_s(now_s, up))

    async def _have_further(self, count: ConnectionCount) -> None:
        """Open one further connection, and use it until its end."""
        opened = await self._open()
        if opened is None:
            count.on_failed(anyio.current_time())
            return
        connection, place = opened
        count.on_opened()
        self._further[connection] = None
        try:
            is_steady = await self._use(connection, place)
        finally:
            del self._further[connection]
        if not is_steady:
            count.delay(anyio.current_time())
            if self.connections:
                self._owner.on_missing(connection.why)

    def _close_further(self) -> None:
        """Close the further connection that has been idle for the longest time."""
        spare = next((connection for connection in self.idle if connection in self._further), None)
        if spare is not None and len(self.connections) > self._always:
            self.idle.remove(spare)
            spare.orderly = True
            spare.abort(NOT_NEEDED)

    async def _open(self) -> tuple[HttpConnection, HostAddress] | None:
        """Open a connection; report why it cannot be opened, and return None."""
        connection = HttpConnection(self._owner)
        try:
            return connection, await self._dialer.connect(connection, within_s=CONNECT_WITHIN_S)
        except (OSError, ValueError) as error:
            self._owner.on_missing(describe_error(error))
            return None

    async def _use(self, connection: HttpConnection, place: HostAddress) -> bool:
        """Use a connection until its end; return whether it lasted, or was in order until then."""
        since_s = anyio.current_time()
        self.connections.append(connection)
        self.idle.add_unproven(connection)
        self._owner.on_up(connection)
        late = False
        try:
            self.certificate = certificates.earliest_expiry(connection.transport)
            await connection.spent.wait()
            late = connection.late
        finally:
            if not late:
                connection.abort(STOPPING)
            self.connections.remove(connection)
            self.idle.remove(connection)
            self._owner.on_down(connection)
        if late:
            self._wait_for_late_answer(connection)
        if late or connection.failed:
            self._dialer.mark_failed(place)
        return late or connection.orderly or anyio.current_time() - since_s >= STEADY_AFTER_S

    def _wait_for_late_answer(self, connection: HttpConnection) -> None:
        """Keep an overdue connection until its late answer; if there are too many, abort the oldest."""
        self._late = deque(waiting for waiting in self._late if waiting.late)
        while len(self._late) >= self.most_late():
            self._late.popleft().abort(OVERDUE)
        self._late.append(connection)
