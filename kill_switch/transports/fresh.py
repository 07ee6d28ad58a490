"""The second route of a kill: each call over its own new connection, which shares nothing with the lanes.

`dispatch` uses it while a lane is down or has not answered. It never reuses a connection and never repeats a call.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import httpcore

from kill_switch.core.domain import Route
from kill_switch.system.host_port import HostPort
from kill_switch.transports.causes import describe_error
from kill_switch.transports.http import NOT_WANTED
from kill_switch.transports.http_connection import (
    HEADERS_TOO_LARGE,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_INTERIM,
    MAX_PIECES,
    TOO_LARGE,
    TOO_MANY_INTERIM,
    TOO_MANY_PIECES,
)
from kill_switch.transports.inflate import inflated
from kill_switch.transports.lane import STOPPING, LaneListener, tune
from kill_switch.transports.network import Dialer, Network
from kill_switch.transports.second_parser import refuse_framing
from kill_switch.venues.messages import ANSWER_WITHIN_S, Call, CallLost, Event, Replied

TIMEOUT_S = 5.0  # for the name service, for TCP and TLS, and for the answer, each
# for a call with a longer `answer_within_s`; bounded, because each such call holds a connection of its own
LATE_WITHIN_S = 15.0
# of calls that start together, so many connect at once; the others follow at this pace, since each TLS handshake takes
# 1.6 ms of the event loop, and 80 of them 130 ms in a row
CONNECT_AT_ONCE = 8
CONNECT_EVERY_S = 0.003
MAX_READS = 32  # that hold a connection at a time; the read-back of a venue that does not answer goes on for minutes
TOO_MANY_READS = "no answer: newer reads need its connection"
READ_HEAD_BYTES = 1 << 10  # per read, before the headers are complete: 40 interim answers take httpcore 2 ms
READ_CHUNKED_BYTES = 2 << 10  # per read of a chunked body: 340 chunks of 1 byte take 10 ms
READ_PLAIN_BYTES = 64 << 10  # per read of a body with a Content-Length, which is not searched for chunks

# httpcore logs requests with their headers, and so keys, at lower levels
logging.getLogger("httpcore").setLevel(logging.WARNING)


class _Stream(httpcore.AsyncNetworkStream):
    """httpcore's network stream: pass on received bytes in small pieces, yield between them, and bound their total.

    The total is bounded because any number of interim answers may precede an answer (RFC 9110 §15.2), and httpcore
    reads all of them.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: Callable[[int], Awaitable[None]]
    ) -> None:
        """Wrap an open connection.

        `turn` is awaited before each further piece, with the size of the previous piece in bytes.
        """
        self.headed = False
        self.most_bytes = READ_HEAD_BYTES
        self.sent_ns = 0  # when the request was written last, monotonic; 0: provably no byte was written
        self._reader = reader
        self._writer = writer
        self._turn = turn
        self._piece_bytes = 0
        self._fed_bytes = 0
        self._heads = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's interface
        try:
            async with asyncio.timeout(timeout):
                data = await self._reader.read(min(max_bytes, self.most_bytes))
                if not self._fed_bytes:  # empty lines may precede an answer, as RFC 9112 §2.2 allows before a request
                    while data and not (data := data.lstrip(b"\r\n")):
                        data = await self._reader.read(1)
        except TimeoutError:
            step = "the answer stopped in its middle" if self._fed_bytes else "no answer"
            raise TimeoutError(errno.ETIMEDOUT, f"timed out after {timeout:g} s: {step}") from None
        if self._fed_bytes:  # not before the first piece, which may be the whole answer
            await self._turn(self._piece_bytes)
        self._piece_bytes = len(data)
        self._fed_bytes += len(data)
        if not self.headed:
            self._heads += data.count(b"HTTP/1.")  # an upper estimate: the last piece may contain body bytes
            if self._heads > MAX_INTERIM + 1:
                raise OSError(errno.EMSGSIZE, TOO_MANY_INTERIM)
        if self._fed_bytes > (2 * MAX_BODY_BYTES if self.headed else MAX_HEADER_BYTES):
            raise OSError(errno.EMSGSIZE, TOO_LARGE if self.headed else HEADERS_TOO_LARGE)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if buffer:
            self.sent_ns = time.monotonic_ns()
            self._writer.write(buffer)
            async with asyncio.timeout(timeout):
                await self._writer.drain()

    async def aclose(self) -> None:
        self._writer.transport.abort()  # written bytes are in the kernel's buffer already, or the call has failed


class _Protocol(asyncio.StreamReaderProtocol):
    """Keep the transport, for the stream's writer."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        tune(transport)
        super().connection_made(transport)


class FreshRoute:
    """The fresh route of one account: send each call over its own connection.

    Answers are parsed by h11 through httpcore, so that a fault of the warm lane's httptools does not affect them. h11
    is written in Python and slow. Therefore answers are read in small pieces, other tasks run in between, and the total
    is bounded. Calls connect at a bounded pace, so that many at once do not hold up other accounts.

    A request with an `origin` of its own goes there, over TLS to that host, verified by the same `ca_file`. The pause
    that the account's venue asks for does not hold it back.
    """

    def __init__(
        self,
        url: str,
        sink: LaneListener,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
        *,
        ca_file: str | None = None,
        wanted: Callable[[Call], bool] = lambda call: True,
        spare: Callable[[], bool] = lambda: False,
        quiet: Callable[[], str] = lambda: "",
        network: Network | None = None,
    ) -> None:
        """Create the route; open no connection.

        `spawn` starts a coroutine function in the daemon's task group. `wanted` returns whether a call is still to be
        sent once its connection is up. `spare` returns whether the warm lane has an idle connection, which is passed on
        with a lost call. `quiet` returns why the venue wants no requests now (a rate limit), else an empty text: then
        only urgent calls and commands are sent. `network` is shared by a process's routes; by default the route creates
        its own. Raises `OSError` if `ca_file` cannot be read.
        """
        self._network = network = network or Network()
        self._ca_file = ca_file
        self._own = (HostPort.of_url(url), network.dialer(url, ca_file))
        self._others: dict[str, tuple[HostPort, Dialer]] = {}  # origins of requests → address and dialer
        self._turns = network.turns
        self._sink = sink
        self._spawn = spawn
        self._wanted = wanted
        self._spare = spare
        self._quiet = quiet
        # how many reads may hold a connection at a time: a further one has the oldest given up
        self.most_reads: Callable[[], int] = lambda: MAX_READS
        # the bounds of the reads that hold a connection, the oldest first
        self._reads: dict[asyncio.Timeout, None] = {}
        self._calls = 0  # calls in progress
        self._next_s = 0.0  # when the next call may connect, on the event loop's clock
        self._held_bytes = 0  # bytes of all incomplete answers
        self._had_bytes = 0  # bytes read in turns since the route was last idle

    def call(self, call: Call) -> None:
        """Start a call. It ends in exactly one event for the listener, `Replied` or `CallLost`, and never raises."""
        self._spawn(lambda: self._call(call))

    async def _call(self, call: Call) -> None:
        stream: _Stream | None = None
        self._calls += 1
        try:
            if not (call.urgent or call.command or call.request.origin) and (quiet := self._quiet()):
                raise OSError(0, quiet)
            address, dialer = self._way(call.request.origin)
            if wait_s := self._connect_wait_s():
                await asyncio.sleep(wait_s)
            if wait_s and not self._wanted(call):
                end: Event = CallLost(call.tag, False, NOT_WANTED)
            else:
                # for connecting, and for an answer that comes byte by byte
                async with asyncio.timeout(2 * TIMEOUT_S + _within_s(call)) as bound, self._held_by(call, bound):
                    stream = await self._connect(dialer)
                    try:
                        end = await self._exchange(call, stream, address)
                    finally:
                        await stream.aclose()
        except asyncio.CancelledError:
            self._sink.on_lane_event(CallLost(call.tag, _sent(stream), STOPPING))
            raise
        except Exception as error:  # broad: a kill needs an outcome for each call, whatever the library raises
            end = CallLost(call.tag, _sent(stream), describe_error(error))
        finally:
            self._calls -= 1
            if not self._calls:
                self._had_bytes = 0
        if isinstance(end, CallLost):
            end = end._replace(spare=self._spare())
        self._sink.on_lane_event(end)

    @asynccontextmanager
    async def _held_by(self, call: Call, bound: asyncio.Timeout) -> AsyncIterator[None]:
        """Hold a connection for a call, and end the oldest read if it is one too many; a command is never ended."""
        if call.command or call.cancel:
            yield
            return
        while len(self._reads) >= self.most_reads():
            oldest = next(iter(self._reads))
            del self._reads[oldest]
            if not oldest.expired():  # else it is ending by itself
                oldest.reschedule(0.0)
        self._reads[bound] = None
        try:
            yield
        except asyncio.CancelledError:
            if bound not in self._reads:
                raise OSError(0, TOO_MANY_READS) from None
            raise
        finally:
            self._reads.pop(bound, None)

    def _connect_wait_s(self) -> float:
        """Return in how many seconds the next call may connect; 0: now."""
        now_s = asyncio.get_running_loop().time()
        self._next_s = max(self._next_s, now_s - CONNECT_AT_ONCE * CONNECT_EVERY_S) + CONNECT_EVERY_S
        return max(0.0, self._next_s - now_s)

    def _way(self, origin: str) -> tuple[HostPort, Dialer]:
        """Return the address of an origin, "" for the account's own, and the dialer that connects to it."""
        if not origin:
            return self._own
        if origin not in self._others:
            self._others[origin] = (HostPort.of_url(origin), self._network.dialer(origin, self._ca_file))
        return self._others[origin]

    async def _connect(self, dialer: Dialer) -> _Stream:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = _Protocol(reader, loop=loop)
        await dialer.connect(protocol, within_s=TIMEOUT_S, patience_s=0.0, name_within_s=TIMEOUT_S)
        return _Stream(reader, asyncio.StreamWriter(protocol.transport, protocol, reader, loop), self._turn)

    async def _turn(self, piece_bytes: int) -> None:
        self._had_bytes += piece_bytes
        await self._turns.wait_turn(self._had_bytes)

    async def _exchange(self, call: Call, stream: _Stream, address: HostPort) -> Replied | CallLost:
        if not self._wanted(call):
            return CallLost(call.tag, False, NOT_WANTED)

        async def trace(name: str, info: object) -> None:
            if name == "http11.send_request_body.complete":
                self._sink.on_sent(Route.FRESH, call.tag)

        request, body, pieces = call.request, bytearray(), 0
        head: httpcore.Response | None = None
        cut = False
        host, port = address.host, address.port
        target = request.target.encode("latin-1")
        connection = httpcore.AsyncHTTP11Connection(httpcore.Origin(b"https", host.encode(), port), stream)
        try:
            async with connection.stream(
                request.method,
                httpcore.URL(scheme="https", host=host, port=port, target=target),
                headers=[("Accept-Encoding", "identity"), *request.headers.items()],
                content=request.body if request.body or request.method != "GET" else None,
                extensions={"timeout": {"read": _within_s(call), "write": TIMEOUT_S}, "trace": trace},
            ) as response:
                stream.headed = True
                refuse_framing(response.headers)
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                length = headers.get("content-length", "")
                plain = length and "transfer-encoding" not in headers
                stream.most_bytes = READ_PLAIN_BYTES if plain else READ_CHUNKED_BYTES
                if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
                    return CallLost(call.tag, True, TOO_LARGE)
                head = response
                async for piece in response.aiter_stream():
                    body += piece
                    pieces += 1
                    if not self._hold(len(piece), len(body)):
                        return CallLost(call.tag, True, TOO_LARGE)
                    if pieces > MAX_PIECES:
                        return CallLost(call.tag, True, TOO_MANY_PIECES)
            encoding = headers.get("content-encoding", "")
            if encoding and not await self._inflate(body, encoding):
                return CallLost(call.tag, True, TOO_LARGE)
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError):
            if head is None or not 400 <= head.status < 500:
                raise
            cut = True  # an error status is enough: the body need not be complete
        finally:
            self._held_bytes -= len(body)
        rtt_us = (time.monotonic_ns() - stream.sent_ns) // 1000
        complete_body = b"" if cut and "content-encoding" in headers else bytes(body)
        return Replied(call.tag, response.status, headers, complete_body, rtt_us)

    async def _inflate(self, body: bytearray, encoding: str) -> bool:
        """Replace a compressed body by its content, in place; return False if that is too large."""
        packed = bytes(body)
        body.clear()
        self._held_bytes -= len(packed)
        for piece in inflated(encoding, packed):
            body += piece
            if not self._hold(len(piece), len(body)):
                return False
            await self._turn(len(piece))
        return True

    def _hold(self, more_bytes: int, whole_bytes: int) -> bool:
        """Count received bytes; return False if one answer, or all incomplete answers together, are too large."""
        self._held_bytes += more_bytes
        return whole_bytes <= MAX_BODY_BYTES and self._held_bytes <= 2 * MAX_BODY_BYTES


def _within_s(call: Call) -> float:
    """Return the time limit for a call's answer, in seconds."""
    return LATE_WITHIN_S if call.answer_within_s > ANSWER_WITHIN_S else TIMEOUT_S


def _sent(stream: _Stream | None) -> bool:
    return stream is not None and stream.sent_ns != 0
