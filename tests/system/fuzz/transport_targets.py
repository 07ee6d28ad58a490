"""Fuzz the bytes of the lanes: HTTP/1.1 answers and WebSocket frames, in pieces as TCP would cut them.

An input is what comes from the peer. `$ACCEPT$` stands for the key's answer, which the peer would compute.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import zlib
from asyncio import events
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, cast

from kill_switch.core.domain import Route
from kill_switch.transports.http import HttpLane
from kill_switch.transports.http_connection import MAX_BODY_BYTES, HttpConnection
from kill_switch.transports.lane import READ_INTO
from kill_switch.transports.ws_connection import MAX_MESSAGE_BYTES, WsConnection
from kill_switch.venues.messages import Call, CallLost, Closed, Event, Opened, Received, Replied
from kill_switch.venues.request import Request, Upgrade
from tests.harness.venue_playbook import PAYLOADS

from .mutate import mutate_bytes
from .target import Target, must

PIECES = (1, 1, 2, 3, 7, 64, 1500, 16384, 65536)
MOST_PIECES = 200
HEAD_TOKENS = (
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
    *(b"Content-Length: 0\r\n", b"Content-Length: -1\r\n"),
    *(b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 2\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Content-Encoding: gzip\r\n"),
    *(b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Date: today\r\n"),
    *(b"Age: 1\r\n", b"Retry-After: 1\r\n"),
    *(b"\r\n\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"2;x=y\r\n{}\r\n", b" folded\r\n"),
    *(b": \r\n", b"X" * 3000 + b": y\r\n"),
    *(b"\n", b"\r", b"\x00", b"HTTP/9.9 999\r\n", b"HTTP/1.1 101 Switching Protocols\r\n", b"\xff"),
)  # fmt: skip
FRAME_TOKENS = (
    *(b"\x81\x00", b"\x81\x02{}", b"\x01\x01{", b"\x80\x01}", b"\x00\x00", b"\x82\x01\xff"),
    *(b"\x89\x00", b"\x89\x04ping"),
    *(b"\x8a\x0bkill-switch", b"\x8a\x00", b"\x88\x00", b"\x88\x02\x03\xe8", b"\x88\x01\x03", b"\x88\x04\x03\xe8ok"),
    *(b"\x88\x04\x03\xe8\xff\xfe", b"\x88\x02\x00\x00", b"\xc1\x02{}", b"\xf1\x00", b"\x83\x00"),
    *(b"\x8b\x00", b"\x81\x80\0\0\0\0"),
    *(b"\x81\x7e\x00\x01a", b"\x81\x7e\xff\xff"),
    *(b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", b"\x81\x7f\0\0\0\0\0\0\0\x02{}"),
    *(b"\x81\x7f\0\0\0\0\x40\0\0\0", b"\x89\x7e\x00\x80", b"\x09\x00", b"HTTP/1.1 200 OK\r\n\r\n", b"\x81\x02\xff\xfe"),
)  # fmt: skip


class Hourglass:
    """Stand in for the running loop: its timers never run out."""

    def call_later(self, seconds: float, function: Callable[..., object], *arguments: object) -> Hourglass:
        must(0 <= seconds < 60, "a timer that is no timer")
        return self

    def call_soon(self, function: Callable[..., object], *arguments: object) -> Hourglass:
        function(*arguments)
        return self

    def cancel(self) -> None:
        """Be a timer, too."""


class Pipe:
    """Stand in for a transport."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.written += b"".join(parts)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def get_extra_info(self, name: str) -> None:
        return None


class Wire(Target):
    """What both lanes have in common: they are fed in pieces until they close."""

    def take(self, data: bytes) -> None:
        before = events._get_running_loop()
        events._set_running_loop(cast(asyncio.AbstractEventLoop, Hourglass()))
        try:
            self.hear(data)
        finally:
            events._set_running_loop(before)

    def hear(self, data: bytes) -> None:
        raise NotImplementedError


def pieces(data: bytes) -> Iterable[bytes]:
    """Cut an input, at the same places every time."""
    random = Random(zlib.crc32(data))  # noqa: S311
    at, count = 0, 0
    while at < len(data):
        count += 1
        size = random.choice(PIECES) if count < MOST_PIECES else len(READ_INTO)
        yield data[at : at + size]
        at += size


def feed(connection: HttpConnection | WsConnection, piece: bytes) -> None:
    while piece:  # as a transport does
        buffer = connection.get_buffer(-1)
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        connection.buffer_updated(size)
        piece = piece[size:]


class HttpTarget(Wire):
    """Answers to two calls, one after the other."""

    NAME = "http"

    def seeds(self) -> Iterable[bytes]:
        papers = [path.read_bytes() for path in sorted(PAYLOADS.glob("*/*.json"))][::7]
        for paper in papers:
            size = b"%d" % len(paper)
            yield b"HTTP/1.1 200 OK\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: %b\r\n\r\n%b" % (
                size,
                paper,
            )
            half = len(paper) // 2
            chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (half, paper[:half], len(paper) - half, paper[half:])
            yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
            yield b"HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nConnection: close\r\nContent-Length: %b\r\n\r\n%b" % (
                size,
                paper,
            )
        yield b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        yield b"HTTP/1.1 204 No Content\r\n\r\n"
        yield b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}"
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nTrailer: x\r\n\r\n"
        yield b"HTTP/1.0 200 OK\r\n\r\n{}"
        yield b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x00"

    def mutate(self, random: Random, data: bytes) -> bytes:
        return mutate_bytes(random, data, self.pool, HEAD_TOKENS)

    def hear(self, data: bytes) -> None:
        told: list[Event] = []

        class Lane:
            def on_lost(self, call: Call, why: str) -> None:
                must(why and why.isprintable() and len(why) < 200, "a loss without a reason")
                told.append(CallLost(call.tag, True, why))

            def on_reply(self, call: Call, reply: Replied) -> None:
                must(reply.tag == call.tag, "an answer to another call")
                told.append(reply)

            def on_idle(self, connection: HttpConnection, *, shunned: bool) -> None:
                must(connection.idle, "a connection that is not idle")

        pipe = Pipe()
        connection = HttpConnection(cast(HttpLane, Lane()))
        connection.connection_made(cast(asyncio.BaseTransport, pipe))
        started: list[int] = []  # how much had come when each call was started
        came = 0
        for piece in pieces(data):
            if pipe.closing:
                break
            if connection.idle and len(started) < 2:
                connection.start(Call(str(len(started)), Request("GET", "/", {"Host": "x"}), Route.HTTP))
                started.append(came)
            feed(connection, piece)
            came += len(piece)
        held = connection._body_bytes + connection._header_bytes
        must(held <= came, "more is held than has come")
        connection.connection_lost(None)
        tags = [event.tag for event in told if isinstance(event, Replied | CallLost)]
        must(
            tags == [str(n) for n in range(len(started))],
            f"calls that do not end once each: {len(tags)} of {len(started)}",
        )
        for event in told:
            if isinstance(event, Replied):
                self._right(event, data[started[int(event.tag)] : came])

    def _right(self, reply: Replied, data: bytes) -> None:
        """See that an answer is what came since its call went out, and whole."""
        must(200 <= reply.status <= 999, f"an answer of status {reply.status}")
        must(len(reply.body) <= min(MAX_BODY_BYTES, len(data)), "a body that is longer than what came")
        must(all(name == name.lower() for name in reply.headers), "a header's name in capitals")
        length = reply.headers.get("content-length", "")
        if length.isdecimal() and "transfer-encoding" not in reply.headers and reply.status not in (204, 304):
            cut = 400 <= reply.status < 500  # a refusal's may be: its status says what there is to know
            fits = len(reply.body) <= int(length) if cut else len(reply.body) == int(length)
            must(fits, "a body that is cut off, or too long")
        chunked = "transfer-encoding" in reply.headers
        must(chunked or length.strip() or data.endswith(reply.body), "a body that goes on to the end, and is cut off")
        must(chunked or reply.body in data, "a body that did not come")
        heads = re.findall(rb"HTTP/\d", data, re.IGNORECASE)
        must(heads, "an answer to what is not HTTP")


class WsTarget(Wire):
    """An upgrade, and what comes after it."""

    NAME = "ws"

    def steps(self, data: bytes) -> int:
        return len(data) // 200  # a frame may be two bytes, and takes some 10 µs

    def seeds(self) -> Iterable[bytes]:
        upgrade = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: $ACCEPT$\r\n\r\n"
        )
        papers = [path.read_bytes() for path in sorted(PAYLOADS.glob("*/*.json"))][::7]
        for paper in papers:
            size = len(paper)
            head = bytes([0x81, size]) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
            yield upgrade + head + paper
            if size < 250:
                half = min(size // 2, 125)
                yield (
                    upgrade
                    + bytes([0x01, half])
                    + paper[:half]
                    + b"\x89\x00"
                    + bytes([0x80, size - half])
                    + paper[half:]
                )
        for token in FRAME_TOKENS:
            yield upgrade + token
            yield upgrade + b"\x81\x02{}" + token + b"\x81\x02[]"
        yield upgrade + b"\x01\x00" + b"\x00\x00" * 200 + b"\x80\x00"
        yield b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
        yield b"HTTP/1.1 503 Busy\r\n\r\n"
        yield b"HTTP/1.1 301 Moved\r\nLocation: wss://elsewhere.example\r\n\r\n"

    def mutate(self, random: Random, data: bytes) -> bytes:
        _, mark, frames = data.partition(b"$ACCEPT$\r\n\r\n")
        if not mark or random.random() < 0.2:
            return mutate_bytes(random, data, self.pool, HEAD_TOKENS)
        return _ + mark + mutate_bytes(random, frames, [one.partition(mark)[2] for one in self.pool[::5]], FRAME_TOKENS)

    def hear(self, data: bytes) -> None:
        told: list[Event] = []

        class Sink:
            def on_lane_event(self, event: Event) -> None:
                told.append(event)

            def on_sent(self, route: Route, tag: str) -> None:
                raise AssertionError("no call was made")

            def on_round_trip(self, route: Route, rtt_us: int) -> None:
                must(rtt_us >= 0, "an answer before its question")

            def on_trouble(self, route: Route, why: str) -> None: ...

            def use_idle_http_lane(self) -> None:
                raise AssertionError("nobody is idle")

            def keep_connection(self) -> None:
                raise AssertionError("nobody is idle")

            def break_silence(self) -> None:
                raise AssertionError("nobody is silent")

        pipe = Pipe()
        connection = WsConnection("wss://venue.example/ws", Upgrade(headers={"X-Key": "hidden"}), Sink())
        connection.connection_made(cast(asyncio.BaseTransport, pipe))
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", bytes(pipe.written))
        must(key, "an upgrade without a key")
        if b"$ACCEPT$" in data:
            guid = cast(Any, key)[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            data = data.replace(b"$ACCEPT$", base64.b64encode(hashlib.sha1(guid, usedforsecurity=False).digest()), 1)
        asked = len(pipe.written)
        for piece in pieces(data):
            if pipe.closing:
                break
            feed(connection, piece)
        if not pipe.closing and zlib.crc32(data) % 2:
            connection.eof_received()
        if connection.open:
            must(connection.send(b"{}") or pipe.closing, "an open connection that takes nothing")
        connection.connection_lost(None)
        must(not connection.send(b"{}"), "a closed connection that takes something")
        must(not connection.open, "a connection that is open after its end")
        must(len(pipe.written) - asked < 200 + 20 * len(data), "an answer that is far longer than what was said")
        must(
            connection.why.isprintable() and len(connection.why) < 300,
            f"words that are not for people: {connection.why!r}",
        )
        kinds = [type(event) for event in told]
        must(kinds.count(Opened) <= 1 and kinds.count(Closed) == kinds.count(Opened), "not opened and closed once")
        if told:
            must(kinds[0] is Opened and kinds[-1] is Closed, "something was said before the opening or after the end")
            accepted = re.match(rb"HTTP/1\.1 101 [^\n]*\r\n", data)
            must(accepted, "opened by an answer that is no upgrade")
        heard = [event for event in told if isinstance(event, Received)]
        must(
            sum(len(received.text) for received in heard) <= min(len(data), MAX_MESSAGE_BYTES),
            "more was heard than was said",
        )
