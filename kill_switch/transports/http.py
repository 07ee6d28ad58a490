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
import time
import zlib
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import anyio
import h11
import httptools

from kill_switch.core.domain import LaneState, Route
from kill_switch.transports import certificates
from kill_switch.transports.causes import why
from kill_switch.transports.certificates import Expiry
from kill_switch.transports.inflate import inflated
from kill_switch.transports.lane import CONNECT_WITHIN_S, READ_INTO, Backoff, Sink, tune
from kill_switch.transports.network import Network
from kill_switch.transports.second_opinion import Answer, SecondOpinion
from kill_switch.venues import retry_after
from kill_switch.venues.messages import ANSWER_WITHIN_S, NOT_PROCESSED, Call, Closed, Lost, Opened, Replied
from kill_switch.venues.request import Request

CONNECTIONS = 2
LATE_MOST = 8  # connections of a lane that wait for late answers
STEADY_AFTER_S = 5.0
APART_S = 0.1  # between the beginnings of two connections in one place of the lane
RETURN_WITHIN_S = 1.0  # three round trips to a venue far away: a lane whose connections have all ended in good order
MAX_HEADER_BYTES = 32 << 10
MAX_BODY_BYTES = 16 << 20  # 10,000 orders are 5 MB at the most talkative venue
MAX_INTERIM = 50  # answers before an answer (RFC 9110, 15.2, has no limit)
MAX_INFLATED_BYTES = 4 << 20  # of a compressed answer, unasked, in one go: 15 ms
MAX_RAW_BYTES = 64 << 10  # of an answer that is kept as it came, for a second opinion on it
MAX_PIECES = 10_000  # chunks of an answer, of which each takes time: 500 bytes each are that many
TOO_LARGE = "the answer is too large"
HEADERS_TOO_LARGE = "the answer's headers are too large"
TOO_MANY_INTERIM = "too many interim answers"
TOO_MANY_PIECES = "the answer is in too many pieces"
NOT_HTTP = "the answer is not HTTP"
UNASKED = "the venue sent what nobody asked for"
NOT_WANTED = "not wanted any more"
OVERDUE = "no answer in time"


@lru_cache(maxsize=256)  # a venue's answers have the same ones every time
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


class _Doubt(Exception):
    """An answer's framing is not what httptools can be relied on for."""


class HttpConnection(asyncio.BufferedProtocol):
    """One connection: idle, or with one call under way."""

    def __init__(self, lane: HttpLane) -> None:
        self.call: Call | None = None
        self.begun: Request | None = None  # it has been written, and its call is not known yet
        self.used_ns = time.monotonic_ns()
        self.answered = False  # it has brought a whole answer
        self.failed = False  # a call was lost on it
        self.orderly = False  # it has ended behind an answer, in good order
        self.closed = asyncio.Event()
        self.spent = asyncio.Event()  # it takes no other call: closed, or late
        self.why = "closed by the venue"
        self._lane = lane
        self._transport: asyncio.Transport | None = None
        self._aborted = False
        self._answer: Answer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._codings = 0  # of its Transfer-Encoding headers
        self._fed_bytes = 0  # of the whole answer, interim ones included
        self._headed = False  # its headers are complete
        self._to_the_end = False  # it ends with the connection
        self._raw = bytearray()  # what has come of it
        self._second: SecondOpinion | None = None  # which reads it, since httptools has refused it
        self._interim = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._transport

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def late(self) -> bool:
        """It waits beside the lane for an answer."""
        return self.spent.is_set() and not self.closed.is_set()

    @property
    def idle(self) -> bool:
        transport = self._transport
        return self.call is None and self.begun is None and transport is not None and not transport.is_closing()

    def begin(self, request: Request) -> None:
        """Write a request; only on an idle connection, and `start` follows before anything can answer."""
        assert self._transport is not None  # noqa: S101 - `idle` was asked
        self._transport.write(request.wire)
        self.begun = request
        self.used_ns = time.monotonic_ns()

    def start(self, call: Call) -> None:
        """Write a call's bytes, unless they have been; only on an idle connection."""
        if self.begun is None:
            self.begin(call.request)
        self.call, self.begun = call, None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, self._overdue)

    def abort(self, reason: str) -> None:
        """End the connection now; a call under way is lost."""
        transport = self._transport
        if transport is not None and not self.closed.is_set():
            self._aborted = True
            self._transport = None
            self.why = reason
            # not in the middle of a read: the peer's good-bye behind it would be answered on a socket that is closed
            asyncio.get_running_loop().call_soon(transport.abort)

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        tune(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return READ_INTO

    def buffer_updated(self, nbytes: int) -> None:
        if self._aborted:
            return
        call = self.call
        data = READ_INTO[:nbytes]
        if call is None:
            if bytes(data).strip(b"\r\n"):  # old servers send an empty line behind a body
                self.abort(UNASKED)
            return
        self._fed_bytes += nbytes
        if self._fed_bytes > (2 * MAX_BODY_BYTES if self._headed else 2 * MAX_HEADER_BYTES):
            self.abort(TOO_LARGE if self._headed else HEADERS_TOO_LARGE)  # what the parser gathers has no bound
            return
        if self._second is not None:
            self._ask(self._second, bytes(data))
        else:
            self._feed(data)
        if self._answer is not None:  # told only now: what came behind it must not meet the next call
            self._told(call, self._answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self.why == "closed by the venue":
            self.why = why(exc)
        self.closed.set()
        self.spent.set()
        if self._timer is not None:
            self._timer.cancel()
        call = self.call
        if exc is None and not self._aborted:
            if call is None:
                self.orderly = self.answered
            else:
                self._end()
                if self._answer is not None:
                    self._told(call, self._answer)
                    return
        if call is not None and (refusal := self._cut_refusal()) is not None:
            self._told(call, refusal)
            self.orderly = False
            return
        self.call = None
        if call is not None:
            self.failed = True
            self._lane.lost(call, self.why)

    def _cut_refusal(self) -> Answer | None:
        """Return a refusal whose head came whole and whose body did not: its status says what there is to know."""
        if not self._headed or self._second is not None or (self._aborted and self.why != OVERDUE):
            return None
        status = self._parser.get_status_code()
        if not 400 <= status < 500:
            return None
        return Answer(status, self._headers, b"".join(self._body), keep_alive=False)

    # what the bytes are

    def _feed(self, data: memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.abort(NOT_HTTP)
        except httptools.HttpParserError:
            if self._answer is not None:
                if self._answer.keep_alive:  # else whatever comes behind it is not read (RFC 9112, 9.6)
                    self.abort(NOT_HTTP)
            elif self._fed_bytes != len(self._raw) + len(data):
                self.abort(NOT_HTTP)  # too much of it has gone by
            elif not (raw := bytes(self._raw) + bytes(data)).lstrip(b"\r\n").startswith(b"HTTP/1."):
                self.abort(NOT_HTTP)
            elif not self._aborted:
                self._begin_answer()
                self._second = SecondOpinion()
                self._ask(self._second, raw)
        else:
            if self._answer is None and self._fed_bytes <= MAX_RAW_BYTES:
                self._raw += data

    def _ask(self, second: SecondOpinion, data: bytes) -> None:
        try:
            self._answer = second.feed(data)
        except (h11.ProtocolError, ValueError):
            self.abort(NOT_HTTP)
        self._headed = second.headed

    def _end(self) -> None:
        """Take the end of the connection for the end of the answer, where nothing else ends it (RFC 9112, 6.3)."""
        if self._second is not None:
            self._ask(self._second, b"")
        elif self._to_the_end:
            body = b"".join(self._body)
            self._answer = Answer(self._parser.get_status_code(), self._headers, body, keep_alive=False)

    def _begin_answer(self) -> None:
        """Forget what has come of an answer."""
        self._headers, self._header_bytes, self._body, self._body_bytes = {}, 0, [], 0
        self._headed = self._to_the_end = False

    # httptools calls these

    def on_message_begin(self) -> None:
        if self._answer is not None:
            self.abort(UNASKED)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.abort(HEADERS_TOO_LARGE)
            return
        lower = _lower(name)
        self._headers[lower] = value.decode("latin-1")
        if lower == "transfer-encoding":
            self._codings += 1

    def on_headers_complete(self) -> None:
        status, headers = self._parser.get_status_code(), self._headers
        self._headed = status >= 200
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        if status < 100 or (coding is not None and (coding.lower() != "chunked" or self._codings > 1)):
            raise _Doubt
        self._codings = 0
        if length is None:
            self._to_the_end = self._headed and coding is None and status not in (204, 304)
        elif length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
            self.abort(TOO_LARGE)  # before any of it comes

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._body.clear()
            self.abort(TOO_LARGE)
        if self._aborted:
            return
        self._body.append(body)
        if len(self._body) > MAX_PIECES:
            self.abort(TOO_MANY_PIECES)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, body = self._headers, b"".join(self._body)
        self._headers, self._header_bytes, self._body, self._body_bytes = {}, 0, [], 0
        if self._aborted:
            return
        if status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self.abort(TOO_MANY_INTERIM)
            return
        self._answer = Answer(status, headers, body, self._parser.should_keep_alive())

    def _told(self, call: Call, answer: Answer) -> None:
        rtt_us = (time.monotonic_ns() - self.used_ns) // 1000
        self.call = self._answer = self._second = None
        self.answered = True
        self._fed_bytes, self._headed, self._to_the_end, self._interim = 0, False, False, 0
        self._raw.clear()
        self._parser = httptools.HttpResponseParser(self)
        if self.late:
            self.abort("answered late")
        elif not answer.keep_alive:
            self.orderly = True
            self.abort("closed after the answer, as the venue asked")  # in good order it may take half a minute
        elif answer.status in NOT_PROCESSED:
            self._lane.shun(self)
        body = answer.body
        if encoding := answer.headers.get("content-encoding"):
            unpacked = _unpacked(encoding, body)
            if unpacked is None:
                self.abort("the answer is compressed, unasked, and cannot be read")
                self._lane.lost(call, self.why)
                return
            body = unpacked
        self._lane.replied(call, Replied(call.tag, answer.status, answer.headers, body, rtt_us))

    def _overdue(self) -> None:
        """Give up on an answer that does not come; one timer serves all calls, one after the other."""
        self._timer = None
        if self.call is None:
            return
        within_s = self.call.answer_within_s if self.late else ANSWER_WITHIN_S
        left_s = within_s - (time.monotonic_ns() - self.used_ns) / 1e9
        if left_s <= 0 and not self.late and self.call.answer_within_s > ANSWER_WITHIN_S:
            left_s += self.call.answer_within_s - ANSWER_WITHIN_S
            self.spent.set()
        if left_s > 0:  # it was set for an earlier call, or this one may be late
            self._timer = asyncio.get_running_loop().call_later(left_s, self._overdue)
        else:
            self.abort(OVERDUE)


def _unpacked(encoding: str, packed: bytes) -> bytes | None:
    """Undo a compression that nobody asked for; None for what cannot be read, or is too much for one go."""
    body = bytearray()
    try:
        for piece in inflated(encoding, packed):
            body += piece
            if len(body) > MAX_INFLATED_BYTES:
                return None
    except (zlib.error, ValueError):
        return None
    return bytes(body)


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
