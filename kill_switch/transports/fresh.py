"""Make a request over a connection that shares nothing with the lanes: the second route of a kill.

Its answers are read by another parser than theirs, which is written in Python and slow: it is fed little by little, so
that everybody else has a turn in between, and not for ever.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import httpcore

from kill_switch.core.domain import Route
from kill_switch.transports.causes import why
from kill_switch.transports.http import (
    HEADERS_TOO_LARGE,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_INTERIM,
    MAX_PIECES,
    NOT_WANTED,
    TOO_LARGE,
    TOO_MANY_INTERIM,
    TOO_MANY_PIECES,
)
from kill_switch.transports.inflate import inflated
from kill_switch.transports.lane import Address, Sink, tune
from kill_switch.transports.network import Network
from kill_switch.transports.second_opinion import refuse_framing
from kill_switch.venues.messages import ANSWER_WITHIN_S, Call, Event, Lost, Replied

TIMEOUT_S = 5.0
LATE_WITHIN_S = 15.0  # an answer that may be late: each call has a connection of its own, and they must not pile up
READ_HEAD_BYTES = 1 << 10  # at once: 40 interim answers take httpcore 2 ms
READ_CHUNKED_BYTES = 2 << 10  # 340 chunks of a byte take 10 ms
READ_PLAIN_BYTES = 64 << 10  # a body with a length, in which nothing is looked for

logging.getLogger("httpcore").setLevel(logging.WARNING)  # it logs requests, headers and all, below that


class _Stream(httpcore.AsyncNetworkStream):
    """Hand over what has come in small pieces, taking turns, and bound what comes in all.

    Interim answers may precede an answer (RFC 9110, 15.2), and httpcore reads on as long as they come.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: Callable[[int], Awaitable[None]]
    ) -> None:
        """`turn` is awaited before each further piece, with the bytes of the one before it."""
        self.headed = False
        self.most_bytes = READ_HEAD_BYTES
        self.sent_ns = 0  # 0: provably no byte of a request
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
                if not self._fed_bytes:  # empty lines may precede an answer, as RFC 9112, 2.2, has it of a request
                    while data and not (data := data.lstrip(b"\r\n")):
                        data = await self._reader.read(1)
        except TimeoutError:
            step = "the answer stopped in its middle" if self._fed_bytes else "no answer"
            raise TimeoutError(errno.ETIMEDOUT, f"timed out after {timeout:g} s: {step}") from None
        if self._fed_bytes:  # the first piece may be all of it
            await self._turn(self._piece_bytes)
        self._piece_bytes = len(data)
        self._fed_bytes += len(data)
        if not self.headed:
            self._heads += data.count(b"HTTP/1.")  # roughly: of the last piece, some is body
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
        self._writer.transport.abort()  # what was written is in the kernel's hands, or is not wanted any more


class _Protocol(asyncio.StreamReaderProtocol):
    """Keep the transport for whoever writes."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        tune(transport)
        super().connection_made(transport)


class FreshRoute:
    """Carry calls one by one, each over its own connection; `spawn` runs a coroutine in the daemon's task group."""

    def __init__(
        self,
        url: str,
        sink: Sink,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
        *,
        ca_file: str | None = None,
        wanted: Callable[[Call], bool] = lambda call: True,
        spare: Callable[[], bool] = lambda: False,
        quiet: Callable[[], str] = lambda: "",
        network: Network | None = None,
    ) -> None:
        """Make it; `wanted` says whether a call is still to be sent when its connection has come about.

        `spare` says whether the warm lane has an idle connection, for whoever is told that a call is lost. `quiet` says
        why nothing but urgent calls and commands is to leave now, if so: the venue has asked for that. Raises
        `OSError` for a `ca_file` that cannot be used. Without a `network` it has one of its own.
        """
        network = network or Network()
        self._address = Address.of(url)
        self._dialer = network.dialer(url, ca_file)
        self._turns = network.turns
        self._sink = sink
        self._spawn = spawn
        self._wanted = wanted
        self._spare = spare
        self._quiet = quiet
        self._calls = 0  # under way
        self._held_bytes = 0  # of answers that are not whole yet
        self._had_bytes = 0  # that were read in turns since no call was under way

    def call(self, call: Call) -> None:
        """Start a call; it ends in `Replied` or `Lost`, whatever happens."""
        self._spawn(lambda: self._call(call))

    async def _call(self, call: Call) -> None:
        stream: _Stream | None = None
        self._calls += 1
        try:
            if not (call.urgent or call.command) and (quiet := self._quiet()):
                raise OSError(0, quiet)
            async with asyncio.timeout(2 * TIMEOUT_S + _within_s(call)):  # a connection, and an answer that dribbles in
                stream = await self._connect()
                try:
                    end: Event = await self._exchange(call, stream)
                finally:
                    await stream.aclose()
        except asyncio.CancelledError:
            self._sink.event(Lost(call.tag, _sent(stream), "the daemon is stopping"))
            raise
        except Exception as error:  # whatever the library raises, the kill needs a verdict
            end = Lost(call.tag, _sent(stream), why(error))
        finally:
            self._calls -= 1
            if not self._calls:
                self._had_bytes = 0
        if isinstance(end, Lost):
            end = end._replace(spare=self._spare())
        self._sink.event(end)

    async def _connect(self) -> _Stream:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = _Protocol(reader, loop=loop)
        await self._dialer.connect(protocol, within_s=TIMEOUT_S, patience_s=0.0, name_within_s=TIMEOUT_S)
        return _Stream(reader, asyncio.StreamWriter(protocol.transport, protocol, reader, loop), self._turn)

    async def _turn(self, piece_bytes: int) -> None:
        self._had_bytes += piece_bytes
        await self._turns.turn(self._had_bytes)

    async def _exchange(self, call: Call, stream: _Stream) -> Replied | Lost:
        if not self._wanted(call):
            return Lost(call.tag, False, NOT_WANTED)

        async def trace(name: str, info: object) -> None:
            if name == "http11.send_request_body.complete":
                self._sink.sent(Route.FRESH, call.tag)

        request, body, pieces = call.request, bytearray(), 0
        head: httpcore.Response | None = None
        cut = False
        host, port = self._address.host, self._address.port
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
                    return Lost(call.tag, True, TOO_LARGE)
                head = response
                async for piece in response.aiter_stream():
                    body += piece
                    pieces += 1
                    if not self._hold(len(piece), len(body)):
                        return Lost(call.tag, True, TOO_LARGE)
                    if pieces > MAX_PIECES:
                        return Lost(call.tag, True, TOO_MANY_PIECES)
            if encoding := headers.get("content-encoding", ""):
                packed, body = body, bytearray()
                self._held_bytes -= len(packed)
                for piece in inflated(encoding, bytes(packed)):
                    body += piece
                    if not self._hold(len(piece), len(body)):
                        return Lost(call.tag, True, TOO_LARGE)
                    await self._turn(len(piece))
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError):
            if head is None or not 400 <= head.status < 500:
                raise
            cut = True  # the status says what there is to know
        finally:
            self._held_bytes -= len(body)
        rtt_us = (time.monotonic_ns() - stream.sent_ns) // 1000
        whole = b"" if cut and "content-encoding" in headers else bytes(body)
        return Replied(call.tag, response.status, headers, whole, rtt_us)

    def _hold(self, more_bytes: int, whole_bytes: int) -> bool:
        """Take note of more bytes; False if they are too many, of one answer or of all that are not whole yet."""
        self._held_bytes += more_bytes
        return whole_bytes <= MAX_BODY_BYTES and self._held_bytes <= 2 * MAX_BODY_BYTES


def _within_s(call: Call) -> float:
    """Return how long the answer to a call may take."""
    return LATE_WITHIN_S if call.answer_within_s > ANSWER_WITHIN_S else TIMEOUT_S


def _sent(stream: _Stream | None) -> bool:
    return stream is not None and stream.sent_ns != 0
