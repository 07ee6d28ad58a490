"""The warm HTTP/1.1 lane of an account: two or more TLS connections kept open, so that a command is one `write`.

`dispatch` sends calls over it. The lane never pipelines and never repeats a call. `connection_count` decides how many
connections it has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import islice

import anyio

from kill_switch.core.domain import LaneState, Route
from kill_switch.transports.call_queue import CallQueue
from kill_switch.transports.certificates import CertificateExpiry
from kill_switch.transports.connection_count import ConnectionCount
from kill_switch.transports.connection_pool import ConnectionPool
from kill_switch.transports.http_connection import OVERDUE, HttpConnection
from kill_switch.transports.idle_connections import is_refresh_due
from kill_switch.transports.lane import STOPPING, LaneListener
from kill_switch.transports.network import Network
from kill_switch.venues import retry_after
from kill_switch.venues.messages import Call, CallLost, Closed, Opened, Replied
from kill_switch.venues.request import Request

CONNECTIONS = 2
# for a lane whose connections all closed in good order to reconnect: three round trips to a distant venue
RETURN_WITHIN_S = 1.0
NOT_WANTED = "withdrawn before it was sent"
SILENT_S = 5.0  # without an answer; then the listener may request next to nothing, so that a dead venue is noticed
LOOK_EVERY_S = 1.0  # seconds between two looks at how long the venue has been silent


class HttpLane:
    """The warm HTTP lane of one account.

    A read that is not urgent starts only if it leaves one connection idle, so that a kill never waits behind
    housekeeping. A connection whose answer is overdue gets no other call, because its next answer could not be assigned
    to a call. Another connection takes its place. The overdue connection is closed, unless its call accepts a late
    answer: then it waits for that answer beside the lane.

    A strike of many calls needs a connection for each. The lane opens further connections at the pace of its
    `ConnectionCount`, and closes them when they are not needed any more. It can carry a kill at any time.

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
        count: ConnectionCount | None = None,
        wanted: Callable[[Call], bool] = lambda call: True,
        network: Network | None = None,
    ) -> None:
        """Create the lane; `run` connects it.

        `connections` are always kept open; `count` decides on further ones. The listener's `use_idle_http_lane` is
        called every `warm_every_s / connections` seconds. Its `keep_connection` is called as often as further
        connections need it, its `break_silence` while the venue has been silent. `wanted` returns whether a call that
        had to wait is still to be sent. `network` is shared by a process's lanes; by default the lane creates its own.
        Raises `OSError` if `ca_file` cannot be read.
        """
        self._dialer = (network or Network()).dialer(url, ca_file)
        self._sink = sink
        self._wanted = wanted
        self._warm_every_s = warm_every_s
        self._always = connections
        self._count = count
        self.pool = ConnectionPool(self._dialer, self, connections, count)
        self._connections, self._idle = self.pool.connections, self.pool.idle
        self._queue = CallQueue()
        self._begun: HttpConnection | None = None
        self._opened = False  # the listener has been notified that the lane is open
        self._return: asyncio.TimerHandle | None = None  # when a lane that is reconnecting counts as closed
        self._proven = False  # the venue has accepted the key on this lane
        # the end of the venue's `Retry-After`; until then only urgent calls and commands are sent
        self._held: asyncio.TimerHandle | None = None
        self._partly = ""  # why some connections are missing, while others are up
        self._answered_ns = time.monotonic_ns()  # when the venue last answered, or when the lane was created
        self.trouble = ""  # the latest reason, for the status; "" if the lane is healthy

    @property
    def certificate(self) -> CertificateExpiry | None:
        """The earliest expiry in the certificates of the last connection."""
        return self.pool.certificate

    @property
    def state(self) -> LaneState:
        if not any(c.open for c in self._connections):
            return LaneState.DOWN
        return LaneState.UP if self._proven else LaneState.CONNECTING

    @property
    def waiting_s(self) -> float:
        """For how long the oldest call that was sent is unanswered, in seconds; 0: the venue owes no answer."""
        began_ns = min((c.used_ns for c in self._connections if c.call is not None), default=0)
        return (time.monotonic_ns() - began_ns) / 1e9 if began_ns else 0.0

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
        if self._idle.newest() is not None:
            self._sink.use_idle_http_lane()

    def _report_trouble(self, trouble: str) -> None:
        self.trouble = trouble
        self._sink.on_trouble(Route.HTTP, trouble)

    def begin(self, request: Request) -> bool:
        """Write an urgent request at once; return False if no connection can take it now.

        After True, the request's `call` or `abandon_begun` must follow in the same pass of the event loop.
        """
        connection = None if self._queue.first_urgent else self._idle.newest()
        if connection is not None:
            self._idle.remove(connection)
            connection.begin(request)
            self._begun = connection
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
        if call.urgent and not self._queue.first_urgent and (newest := self._idle.newest()) is not None:
            self._start(newest, call)
            return
        self._queue.add(call)
        self._pump()

    def on_idle(self, connection: HttpConnection, *, shunned: bool) -> None:
        """Note that a connection may take a call again. `HttpConnection` calls this.

        `shunned`: every other connection is preferred, because the venue has refused to process a request on this one.
        """
        if shunned:
            self._idle.add_unproven(connection)
        else:
            self._idle.add_used(connection)

    @property
    def spare(self) -> bool:
        """Return whether an urgent call would be sent at once."""
        return not self._queue.first_urgent and self._idle.newest() is not None

    def on_lost(self, call: Call, reason: str) -> None:
        """Pass a call's loss on to the listener, then send queued calls. `HttpConnection` calls this."""
        self._sink.on_lane_event(CallLost(call.tag, True, reason, self.spare))
        self._pump()

    def on_reply(self, call: Call, reply: Replied) -> None:
        """Pass an answer on to the listener, then send queued calls. `HttpConnection` calls this."""
        self._answered_ns = time.monotonic_ns()
        self._sink.on_round_trip(Route.HTTP, reply.rtt_us)
        self._sink.on_lane_event(reply)
        self._pump()

    async def run(self) -> None:
        """Keep the connections open, and used so often that the venue does not close them as idle; never return."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.pool.run)
                group.start_soon(_break_silence, self)
                if self._count is not None:
                    group.start_soon(self._keep_open, self._count.idle_s)
                while True:
                    await anyio.sleep(self._warm_every_s / self._always)
                    self._dialer.refresh()
                    if self._held is None and self._idle.newest() is not None:
                        self._sink.use_idle_http_lane()
        finally:
            if self._held is not None:
                self._held.cancel()
            if not self._connections:
                self._gone(STOPPING)

    async def _keep_open(self, idle_s: float) -> None:
        """Use the connections of a lane with further ones in turn, so that none is idle for too long.

        There are twice as many turns as needed, so that a strike, which uses all at once, leaves no burst behind.
        """
        while True:
            await anyio.sleep(idle_s / 2 / max(self._always, len(self._connections)))
            if self.pool.has_further and self._held is None:
                now_ns, gap_s = time.monotonic_ns(), idle_s / 2 / len(self._connections)
                if is_refresh_due(((now_ns - c.used_ns) / 1e9 for c in self._idle), gap_s, idle_s):
                    self._sink.keep_connection()

    # the pool calls these

    @property
    def is_held(self) -> bool:
        """Whether the venue has asked for a pause."""
        return self._held is not None

    def on_missing(self, reason: str) -> None:
        """Record that a connection could not be opened."""
        up = len(self._connections)
        self._partly = f"{up} of {self.pool.wanted} connections: {reason}" if up else ""
        if up:
            self._report_trouble(self._partly)
        elif self._opened:
            self._gone(reason)
        else:
            self._report_trouble(reason)
            self._pump()

    def on_up(self, connection: HttpConnection) -> None:
        """Start the calls that wait, because a connection has come up."""
        if len(self._connections) >= self.pool.wanted and self._partly:
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

    def on_down(self, connection: HttpConnection) -> None:
        """Go on without a connection; report the lane as closed if it was the last one."""
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
        """Assign queued calls to connections: urgent calls first, others only if one connection stays idle.

        Without a connection they are lost; while the lane is reconnecting, only cancels are.
        """
        queue, idle = self._queue, self._idle
        while queue:
            newest = idle.newest()
            if newest is None and not any(c.open for c in self._connections):
                lost = queue.take_cancel() if self._returning else queue.take()
                if lost is None:
                    return
                self._sink.on_lane_event(CallLost(lost.tag, False, self.trouble or "the lane is down"))
                continue
            if not self._wanted(queue.first):  # a read too: its copy on the second route may have been answered
                self._sink.on_lane_event(CallLost(queue.take().tag, False, NOT_WANTED))
            elif newest is None:
                return
            elif queue.first_urgent is not None:
                self._start(newest, queue.take())
            elif self._held is None and (idle.has(2) or not _two_open(self._connections)) and (oldest := idle.oldest()):
                self._start(oldest, queue.take())
            else:
                return

    def _start(self, connection: HttpConnection, call: Call) -> None:
        self._idle.remove(connection)
        connection.start(call)
        self._sink.on_sent(Route.HTTP, call.tag)


async def _break_silence(lane: HttpLane) -> None:
    """Notify the listener of a lane each second while its venue has been silent; never return.

    Probes may be far apart, because a venue's limits are shared with bots.
    """
    while True:
        await anyio.sleep(LOOK_EVERY_S)
        silent_s = (time.monotonic_ns() - lane._answered_ns) / 1e9
        if silent_s >= SILENT_S and not lane.waiting_s and not lane.is_held and lane.spare:
            lane._sink.break_silence()


def _two_open(connections: Iterable[HttpConnection]) -> bool:
    return sum(1 for _ in islice((c for c in connections if c.open), 2)) == 2
