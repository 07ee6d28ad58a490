"""The warm HTTP/1.1 lane of an account: two or more TLS connections kept open, so that a command is one `write`.

`dispatch` sends calls over it. The lane never pipelines and never repeats a call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import anyio

from kill_switch.core.domain import LaneState, Route
from kill_switch.transports import certificates
from kill_switch.transports.causes import describe_error
from kill_switch.transports.certificates import CertificateExpiry
from kill_switch.transports.http_connection import OVERDUE, HttpConnection
from kill_switch.transports.lane import CONNECT_WITHIN_S, Backoff, LaneListener
from kill_switch.transports.network import Network
from kill_switch.venues import retry_after
from kill_switch.venues.messages import Call, CallLost, Closed, Opened, Replied
from kill_switch.venues.request import Request

CONNECTIONS = 2
MAX_LATE = 8  # connections of a lane that wait for late answers
STEADY_AFTER_S = 5.0  # a connection that lasted this long resets the back-off
CONNECT_STAGGER_S = 0.1  # between the starts of two connections in one place of the lane
# for a lane whose connections all closed in good order to reconnect: three round trips to a distant venue
RETURN_WITHIN_S = 1.0
NOT_WANTED = "withdrawn before it was sent"


class HttpLane:
    """The warm HTTP lane of one account.

    A read that is not urgent starts only if it leaves one connection idle, so that a kill never waits behind
    housekeeping. A connection whose answer is overdue gets no other call, because its next answer could not be assigned
    to a call. Another connection takes its place. The overdue connection is closed, unless its call accepts a late
    answer: then it waits for that answer beside the lane.

    A venue may close a connection after any answer (RFC 9112 §9.3, §9.6). That is no failure: the lane opens another
    connection without back-off, and does not count as closed meanwhile. Calls wait for that connection, except a
    strike's own cancels. A cancel has the second route; another command has none and must not be lost.
    """

    def __init__(
        self,
        url: str,
        sink: LaneListener,
        *,
        ca_file: str | None = None,
        warm_every_s: float = 15.0,
        connections: int = CONNECTIONS,
        wanted: Callable[[Call], bool] = lambda call: True,
        network: Network | None = None,
    ) -> None:
        """Create the lane; `run` connects it.

        The listener's `warm` is called every `warm_every_s / connections` seconds. `wanted` returns whether
        a call that had to wait is still to be sent. `network` is shared by a process's lanes; by default the lane
        creates its own. Raises `OSError` if `ca_file` cannot be read.
        """
        self._dialer = (network or Network()).dialer(url, ca_file)
        self._sink = sink
        self._wanted = wanted
        self._warm_every_s = warm_every_s
        self._count = connections
        self._connections: list[HttpConnection] = []
        # overdue connections that wait for a late answer, or have received it
        self._late: deque[HttpConnection] = deque()
        self._urgent: deque[Call] = deque()
        self._waiting: deque[Call] = deque()
        self._begun: HttpConnection | None = None
        self._last: HttpConnection | None = None  # the connection that was used last
        self._opened = False  # the listener has been notified that the lane is open
        self._return: asyncio.TimerHandle | None = None  # when a lane that is reconnecting counts as closed
        self._proven = False  # the venue has accepted the key on this lane
        # the end of the venue's `Retry-After`; until then only urgent calls and commands are sent
        self._held: asyncio.TimerHandle | None = None
        self._partly = ""  # why some connections are missing, while others are up
        self.trouble = ""  # the latest reason, for the status; "" if the lane is healthy
        self.certificate: CertificateExpiry | None = None  # the earliest expiry in the chain of the last connection

    @property
    def state(self) -> LaneState:
        if not any(c.open for c in self._connections):
            return LaneState.DOWN
        return LaneState.UP if self._proven else LaneState.CONNECTING

    def authenticated(self, proven: bool) -> None:
        """Record whether the venue has accepted the account's key."""
        if proven and (not self._proven or self.trouble != self._partly):
            self._report_trouble(self._partly)
        self._proven = proven

    def hold(self, asked_s: float) -> None:
        """Send only urgent calls and commands for `asked_s` seconds, at most `retry_after.MAX_PAUSE_S`.

        Other calls stay queued. A hold that would end earlier than the present one has no effect. A probe follows the
        end at once, so that the lane is proven again soon.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + min(asked_s, retry_after.MAX_PAUSE_S)
        if self._held is not None:
            if self._held.when() >= end_s:
                return
            self._held.cancel()
        self._held = loop.call_at(end_s, self._release)

    def _release(self) -> None:
        self._held = None
        self._pump()
        if any(c.idle for c in self._connections):
            self._sink.use_idle_http_lane()

    def _report_trouble(self, trouble: str) -> None:
        self.trouble = trouble
        self._sink.on_trouble(Route.HTTP, trouble)

    def begin(self, request: Request) -> bool:
        """Write an urgent request at once; return False if no connection can take it now.

        After True, the request's `call` or `abandon_begun` must follow in the same pass of the event loop.
        """
        connection = self._latest()
        if connection is not None:
            connection.begin(request)
            self._begun = self._last = connection
        return connection is not None

    def abandon_begun(self) -> None:
        """Abort the connection that `begin` wrote to, because no call follows and its answer would be unassigned."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.abort(NOT_WANTED)

    def call(self, call: Call) -> None:
        """Write a call at once if a connection may take it, else queue it.

        A call whose request `begin` has written is only registered. If no connection is up, the listener gets
        `CallLost`.
        """
        begun = self._begun
        if begun is not None and begun.begun is call.request:
            self._begun = None
            self._start(begun, call)
            return
        latest = self._latest() if call.urgent else None
        if latest is not None:
            self._start(latest, call)
            return
        if call.command:  # ahead of queued reads, behind earlier commands
            self._urgent.insert(sum(waiting.command for waiting in self._urgent), call)
        else:
            (self._urgent if call.urgent else self._waiting).append(call)
        self._pump()

    def _latest(self) -> HttpConnection | None:
        """Return the idle connection that was used last, for an urgent call; None if urgent calls are queued."""
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
        """Prefer every other connection for urgent calls: the venue has refused to process a request on this one."""
        connection.used_ns = 0
        if self._last is connection:
            self._last = None

    @property
    def spare(self) -> bool:
        """Return whether an urgent call would be sent at once."""
        return not self._urgent and any(c.idle for c in self._connections)

    def on_lost(self, call: Call, reason: str) -> None:
        """Pass a call's loss on to the listener, then send queued calls. `HttpConnection` calls this."""
        self._sink.on_lane_event(CallLost(call.tag, True, reason, self.spare))
        self._pump()

    def on_reply(self, call: Call, reply: Replied) -> None:
        """Pass an answer on to the listener, then send queued calls. `HttpConnection` calls this."""
        self._sink.on_round_trip(Route.HTTP, reply.rtt_us)
        self._sink.on_lane_event(reply)
        self._pump()

    async def run(self) -> None:
        """Keep the connections open, and used so often that the venue does not close them as idle; never return."""
        try:
            async with anyio.create_task_group() as group:
                for _ in range(self._count):
                    group.start_soon(self._keep)
                while True:
                    await anyio.sleep(self._warm_every_s / self._count)
                    self._dialer.refresh()
                    if self._held is None and any(c.idle for c in self._connections):
                        self._sink.use_idle_http_lane()
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
                self._failed(describe_error(error))
                wait_s = backoff.next_s()
                continue
            since_s = anyio.current_time()
            self._up(connection)
            late = False
            try:
                self.certificate = certificates.earliest_expiry(connection.transport)
                await connection.spent.wait()
                late = connection.late
            finally:
                if not late:
                    connection.abort("the daemon is stopping")
                self._down(connection)
            if late:
                self._wait_for_late_answer(connection)
            if late or connection.failed:
                self._dialer.mark_failed(place)
            now_s = anyio.current_time()
            if late or connection.orderly or now_s - since_s >= STEADY_AFTER_S:
                backoff.reset()
            wait_s = max(0.0, began_s + CONNECT_STAGGER_S - now_s) if connection.orderly else backoff.next_s()

    def _wait_for_late_answer(self, connection: HttpConnection) -> None:
        """Keep an overdue connection until its late answer; if there are too many, abort the oldest."""
        self._late = deque(waiting for waiting in self._late if waiting.late)
        if len(self._late) >= MAX_LATE:
            self._late.popleft().abort(OVERDUE)
        self._late.append(connection)

    def _failed(self, reason: str) -> None:
        """Record that a connection could not be opened."""
        up = len(self._connections)
        self._partly = f"{up} of {self._count} connections: {reason}" if up else ""
        if up:
            self._report_trouble(self._partly)
        elif self._opened:
            self._gone(reason)
        else:
            self._report_trouble(reason)
            self._pump()

    def _up(self, connection: HttpConnection) -> None:
        self._connections.append(connection)
        if len(self._connections) == self._count and self._partly:
            if self.trouble == self._partly:
                self._report_trouble("")
            self._partly = ""
        if self._return is not None:
            self._return.cancel()
            self._return = None
        if not self._opened:
            self._opened = True
            self._sink.on_lane_event(Opened(Route.HTTP, 0))
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
        """Return whether the lane is reconnecting at once because its last connection closed in good order."""
        return self._return is not None or any(c.orderly for c in self._connections)

    def _gone(self, reason: str) -> None:
        """Report the lane, which has no connection, as closed; calls that wait for a connection are lost."""
        if self._return is not None:
            self._return.cancel()
            self._return = None
        if self._opened:
            self._opened = self._proven = False
            self._partly = ""
            self._report_trouble(reason)
            self._sink.on_lane_event(Closed(Route.HTTP, 0, reason))
        self._pump()

    def _pump(self) -> None:
        """Assign queued calls to connections: urgent calls first, others only if one connection stays idle."""
        while self._urgent or self._waiting:
            up = [c for c in self._connections if c.open]
            if not up:
                lost = self._give_up()
                if lost is None:
                    return
                self._sink.on_lane_event(CallLost(lost.tag, False, self.trouble or "the lane is down"))
                continue
            idle = [c for c in up if c.idle]
            if self._urgent and not self._wanted(self._urgent[0]):
                self._sink.on_lane_event(CallLost(self._urgent.popleft().tag, False, NOT_WANTED))
            elif self._urgent and idle:
                self._start(max(idle, key=lambda c: c.used_ns), self._urgent.popleft())
            elif self._waiting and self._held is None and len(idle) > (1 if len(up) > 1 else 0):
                self._start(min(idle, key=lambda c: c.used_ns), self._waiting.popleft())
            else:
                return

    def _give_up(self) -> Call | None:
        """Remove a lost call from its queue and return it; None if all calls wait for a connection.

        While the lane is reconnecting, only cancels are lost.
        """
        if not self._returning:
            return (self._urgent or self._waiting).popleft()
        cancel = next((call for call in self._urgent if call.cancel), None)
        if cancel is not None:
            self._urgent.remove(cancel)
        return cancel

    def _start(self, connection: HttpConnection, call: Call) -> None:
        connection.start(call)
        self._last = connection
        self._sink.on_sent(Route.HTTP, call.tag)
