"""Keep HTTP/1.1 connections up over TLS, so that a kill is one `write` of bytes that were made beforehand.

A lane has two connections or more. A read that is not urgent starts only if it leaves one of them idle: the kill never
waits behind housekeeping. Answers are parsed by httptools in the protocol's callback. There is no pipelining: one
request is under way on a connection, and a connection whose answer does not come in time takes no other, because its
next answer could no longer be told apart. Another connection takes its place. It is given up, unless the call is to be
answered late too: then it waits beside for that.

A venue may end a connection behind any answer (RFC 9112, 9.3 and 9.6). That is no failure: another connection replaces
it without back-off, and the lane does not count as closed meanwhile. Calls wait for that connection, but for a strike's
own cancels: these have another route, and a command that has none must not be lost for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import anyio

from kill_switch.core.domain import Route
from kill_switch.transports import certificates
from kill_switch.transports.causes import why
from kill_switch.transports.certificates import Expiry
from kill_switch.transports.http_connection import OVERDUE, HttpConnection
from kill_switch.transports.lane import CONNECT_WITHIN_S, Backoff, LaneState, Sink
from kill_switch.transports.network import Network
from kill_switch.venues import retry_after
from kill_switch.venues.base import Call, Closed, Lost, Opened, Replied, Request

CONNECTIONS = 2
LATE_MOST = 8  # connections of a lane that wait for late answers
STEADY_AFTER_S = 5.0
APART_S = 0.1  # between the beginnings of two connections in one place of the lane
RETURN_WITHIN_S = 1.0  # three round trips to a venue far away: a lane whose connections have all ended in good order
NOT_WANTED = "not wanted any more"


class HttpLane:
    """The warm HTTP lane of one account."""

    def __init__(
        self,
        url: str,
        sink: Sink,
        *,
        ca_file: str | None = None,
        warm_every_s: float = 15.0,
        connections: int = CONNECTIONS,
        wanted: Callable[[Call], bool] = lambda call: True,
        network: Network | None = None,
    ) -> None:
        """Make it; `wanted` says whether a call that had to wait is still to be sent.

        Raises `OSError` for a `ca_file` that cannot be used. Without a `network` it has one of its own.
        """
        self._dialer = (network or Network()).dialer(url, ca_file)
        self._sink = sink
        self._wanted = wanted
        self._warm_every_s = warm_every_s
        self._count = connections
        self._connections: list[HttpConnection] = []
        self._late: deque[HttpConnection] = deque()  # that wait beside for an answer, or have done so
        self._urgent: deque[Call] = deque()
        self._waiting: deque[Call] = deque()
        self._begun: HttpConnection | None = None
        self._last: HttpConnection | None = None  # the connection that was used last
        self._opened = False  # the sink has been told so
        self._return: asyncio.TimerHandle | None = None  # when a lane that is to be back at once is taken for closed
        self._proven = False  # the venue has accepted the key on this lane
        self._held: asyncio.TimerHandle | None = None  # until then nothing leaves but what is urgent
        self._partly = ""  # why not all connections are there, while some are
        self.trouble = ""  # the newest
        self.certificate: Expiry | None = None  # what the last connection was verified by ends then

    @property
    def state(self) -> LaneState:
        if not any(c.open for c in self._connections):
            return LaneState.DOWN
        return LaneState.UP if self._proven else LaneState.CONNECTING

    def authenticated(self, proven: bool) -> None:
        """Take the venue's word on the key."""
        if proven and (not self._proven or self.trouble != self._partly):
            self._tell(self._partly)
        self._proven = proven

    def hold(self, asked_s: float) -> None:
        """Let only urgent calls and commands leave for a while, `retry_after.MOST_S` at most; an earlier end is void.

        Others wait in their queue. A probe follows at once: a lane that was refused is to be ready soon again.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + min(asked_s, retry_after.MOST_S)
        if self._held is not None:
            if self._held.when() >= end_s:
                return
            self._held.cancel()
        self._held = loop.call_at(end_s, self._release)

    def _release(self) -> None:
        self._held = None
        self._pump()
        if any(c.idle for c in self._connections):
            self._sink.warm()

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble
        self._sink.trouble(Route.HTTP, trouble)

    def begin(self, request: Request) -> bool:
        """Write an urgent request whose `call` follows in this pass of the event loop; False if it cannot leave now."""
        connection = self._latest()
        if connection is not None:
            connection.begin(request)
            self._begun = self._last = connection
        return connection is not None

    def forgo(self) -> None:
        """Give up on what has begun: no call follows, so that nobody would know what its answer is for."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.abort(NOT_WANTED)

    def call(self, call: Call) -> None:
        """Write a call at once if a connection may take it, else queue it; tell `Lost` if none is up."""
        begun = self._begun
        if begun is not None and begun.begun is call.request:
            self._begun = None
            self._start(begun, call)
            return
        latest = self._latest() if call.urgent else None
        if latest is not None:
            self._start(latest, call)
            return
        if call.command:  # ahead of reads that wait, behind other commands
            self._urgent.insert(sum(waiting.command for waiting in self._urgent), call)
        else:
            (self._urgent if call.urgent else self._waiting).append(call)
        self._pump()

    def _latest(self) -> HttpConnection | None:
        """Return the connection that takes what is urgent now: of those that are idle, the one that was used last."""
        if self._urgent:
            return None
        latest = self._last
        if latest is not None and latest.idle:
            return latest
        latest = None
        for connection in self._connections:
            if connection.idle and (latest is None or connection.used_ns > latest.used_ns):
                latest = connection
        return latest

    def shun(self, connection: HttpConnection) -> None:
        """Prefer every other connection for what is urgent: the venue has not processed a request on this one."""
        connection.used_ns = 0
        if self._last is connection:
            self._last = None

    @property
    def spare(self) -> bool:
        """Tell whether an urgent call would leave at once."""
        return not self._urgent and any(c.idle for c in self._connections)

    def lost(self, call: Call, reason: str) -> None:
        self._sink.event(Lost(call.tag, True, reason, self.spare))
        self._pump()

    def replied(self, call: Call, reply: Replied) -> None:
        self._sink.rtt(Route.HTTP, reply.rtt_us)
        self._sink.event(reply)
        self._pump()

    async def run(self) -> None:
        """Keep the connections up, and used often enough that the venue keeps them, for ever."""
        try:
            async with anyio.create_task_group() as group:
                for _ in range(self._count):
                    group.start_soon(self._keep)
                while True:
                    await anyio.sleep(self._warm_every_s / self._count)
                    self._dialer.refresh()
                    if self._held is None and any(c.idle for c in self._connections):
                        self._sink.warm()
        finally:
            if self._held is not None:
                self._held.cancel()
            if not self._connections:
                self._gone("the daemon is stopping")
            for connection in self._late:
                connection.abort("the daemon is stopping")

    async def _keep(self) -> None:
        backoff = Backoff()
        wait_s = backoff.next_s()
        while True:
            await anyio.sleep(wait_s)
            began_s = anyio.current_time()
            connection = HttpConnection(self)
            try:
                place = await self._dialer.connect(connection, within_s=CONNECT_WITHIN_S)
            except (OSError, ValueError) as error:
                self._failed(why(error))
                wait_s = backoff.next_s()
                continue
            since_s = anyio.current_time()
            self._up(connection)
            late = False
            try:
                self.certificate = certificates.expiry(connection.transport)
                await connection.spent.wait()
                late = connection.late
            finally:
                if not late:
                    connection.abort("the daemon is stopping")
                self._down(connection)
            if late:
                self._wait_beside(connection)
            if late or connection.failed:
                self._dialer.blame(place)
            now_s = anyio.current_time()
            if late or connection.orderly or now_s - since_s >= STEADY_AFTER_S:
                backoff.reset()
            wait_s = max(0.0, began_s + APART_S - now_s) if connection.orderly else backoff.next_s()

    def _wait_beside(self, connection: HttpConnection) -> None:
        """Let a connection deliver its late answer; of too many, the oldest is given up."""
        self._late = deque(one for one in self._late if one.late)
        if len(self._late) >= LATE_MOST:
            self._late.popleft().abort(OVERDUE)
        self._late.append(connection)

    def _failed(self, reason: str) -> None:
        """Take note that a connection could not be made."""
        up = len(self._connections)
        self._partly = f"{up} of {self._count} connections: {reason}" if up else ""
        if up:
            self._tell(self._partly)
        elif self._opened:
            self._gone(reason)
        else:
            self._tell(reason)
            self._pump()

    def _up(self, connection: HttpConnection) -> None:
        self._connections.append(connection)
        if len(self._connections) == self._count and self._partly:
            if self.trouble == self._partly:
                self._tell("")
            self._partly = ""
        if self._return is not None:
            self._return.cancel()
            self._return = None
        if not self._opened:
            self._opened = True
            self._sink.event(Opened(Route.HTTP, 0))
        self._pump()

    def _down(self, connection: HttpConnection) -> None:
        self._connections.remove(connection)
        reason = OVERDUE if connection.late else connection.why
        if self._connections:
            self._pump()
        elif connection.orderly:
            self._return = asyncio.get_running_loop().call_later(RETURN_WITHIN_S, self._gone, reason)
            self._pump()
        else:
            self._gone(reason)

    @property
    def _returning(self) -> bool:
        """Say whether the lane is to be up again at once: its last connection has ended in good order."""
        return self._return is not None or any(c.orderly for c in self._connections)

    def _gone(self, reason: str) -> None:
        """Take the lane, which has no connection, for closed; what waits for one is lost."""
        if self._return is not None:
            self._return.cancel()
            self._return = None
        if self._opened:
            self._opened = self._proven = False
            self._partly = ""
            self._tell(reason)
            self._sink.event(Closed(Route.HTTP, 0, reason))
        self._pump()

    def _pump(self) -> None:
        """Hand queued calls to connections: urgent ones first, others only if one connection stays free for a kill."""
        while self._urgent or self._waiting:
            up = [c for c in self._connections if c.open]
            if not up:
                lost = self._give_up()
                if lost is None:
                    return
                self._sink.event(Lost(lost.tag, False, self.trouble or "the lane is down"))
                continue
            idle = [c for c in up if c.idle]
            if self._urgent and not self._wanted(self._urgent[0]):
                self._sink.event(Lost(self._urgent.popleft().tag, False, NOT_WANTED))
            elif self._urgent and idle:
                self._start(max(idle, key=lambda c: c.used_ns), self._urgent.popleft())
            elif self._waiting and self._held is None and len(idle) > (1 if len(up) > 1 else 0):
                self._start(min(idle, key=lambda c: c.used_ns), self._waiting.popleft())
            else:
                return

    def _give_up(self) -> Call | None:
        """Take a call that is lost, since no connection is up, out of its queue; None if all wait for one."""
        if not self._returning:
            return (self._urgent or self._waiting).popleft()
        cancel = next((call for call in self._urgent if call.cancel), None)
        if cancel is not None:
            self._urgent.remove(cancel)
        return cancel

    def _start(self, connection: HttpConnection, call: Call) -> None:
        connection.start(call)
        self._last = connection
        self._sink.sent(Route.HTTP, call.tag)
