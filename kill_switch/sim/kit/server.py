"""Speak HTTP/1.1 and WebSocket on one port, down to the bytes.

One `asyncio.Protocol` a connection: the time of arrival is taken before anything is parsed, and a fault can stop
reading, cut a reply in two or drop the connection. Nothing here knows a venue; a `Handler` decides what is said.

What has arrived is stamped, and waits its turn: the event loop reads all connections between two of them. Else one
account's command would wait unstamped while another's is answered; real venues are machines of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol, cast

import httptools
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from kill_switch.sim.kit.protocol import Answer, Request, encode

_LIMIT = 1 << 20
_BUFFER = memoryview(bytearray(64 << 10))
"""What is read into, by every connection: the loop takes it and hands it over in one go. With a buffer of ours it need
not make one of 256 KiB for each read, which costs more than all the rest of a read."""
_NAMES: dict[bytes, str] = {}
"""Header names as they were written, in lower case."""
_MOST_NAMES = 1000


class Handler(Protocol):
    """Decide what a server says; every method is called on the event loop and returns at once."""

    def connected(self, connection: Connection) -> None:
        """Take note of a new connection."""

    def disconnected(self, connection: Connection) -> None:
        """Take note that a connection is gone."""

    def requested(self, exchange: Exchange) -> None:
        """Answer an HTTP request through the exchange, now or later."""

    def upgrading(self, connection: Connection, request: Request) -> Answer | None:
        """Refuse a WebSocket, or return None to accept it."""

    def opened(self, connection: Connection, request: Request) -> None:
        """Take note that a WebSocket is open."""

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Take a WebSocket message: text, or bytes when it was a binary one."""


class Exchange:
    """Hold the place of one request's reply, so that pipelined replies leave in the order of their requests."""

    __slots__ = ("close", "connection", "data", "request")

    def __init__(self, connection: Connection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.data: bytes | None = None
        self.close = not request.keep_alive

    def reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send the reply."""
        request = self.request
        head = request.method == "HEAD"
        self.send(encode(status, body, keep_alive=request.keep_alive, head_only=head, headers=headers))

    def send(self, data: bytes, *, close: bool = False) -> None:
        """Send the reply's bytes as they are; `close` ends the connection behind them."""
        self.data = data
        self.close = self.close or close
        self.connection.flush()


class Inbox:
    """Hold what has arrived on some connections, and work off one piece in each turn of the event loop."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[Connection, bytes, int]] = deque()

    def put(self, connection: Connection, data: bytes, t_ns: int) -> None:
        """Take in what a connection has just received."""
        self._pieces.append((connection, data, t_ns))
        if len(self._pieces) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def finish(self, connection: Connection) -> None:
        """Work off at once what there is of a connection: no more will come."""
        for piece in [piece for piece in self._pieces if piece[0] is connection]:
            self._pieces.remove(piece)
            connection.take(*piece[1:])

    def _turn(self) -> None:
        if not self._pieces:
            return
        connection, data, t_ns = self._pieces.popleft()
        if self._pieces:
            asyncio.get_running_loop().call_soon(self._turn)
        connection.take(data, t_ns)


class Connection(asyncio.BufferedProtocol):
    """Carry one connection: HTTP until it is upgraded, WebSocket from then on."""

    def __init__(self, handler: Handler, inbox: Inbox | None = None) -> None:
        """Make it; connections with one `inbox` take turns."""
        self.handler = handler
        self.peer = ""
        self.account: str | None = None
        """Who authenticated on it last; for faults that hit one account."""
        self.t_ns = 0
        """CLOCK_MONOTONIC at the arrival of the latest bytes."""
        self._transport = cast(asyncio.Transport, None)
        self._inbox = inbox or Inbox()
        self._ended = False  # by us: what arrives from now on, or waits, is not heard any more
        self._parser = httptools.HttpRequestParser(self)
        self._ws: ServerProtocol | None = None
        self._fragments: list[bytes] = []
        self._text = True
        self._queue: deque[Exchange] = deque()
        self._complete: list[Request] = []
        self._frozen = False
        self._unread: list[bytes] = []
        self._unsent: list[bytes] = []
        self._begin()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else ""
        self.handler.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, once what came before the end has been heeded."""
        self._inbox.finish(self)
        self._queue.clear()
        self.handler.disconnected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the bytes go."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Stamp the bytes' arrival; they are parsed in their turn."""
        self._inbox.put(self, bytes(_BUFFER[:nbytes]), time.monotonic_ns())

    def eof_received(self) -> None:
        """Heed what came before the end."""
        self._inbox.finish(self)

    def take(self, data: bytes, t_ns: int) -> None:
        """Parse what had arrived at that moment."""
        if self._frozen:
            self._unread.append(data)
            return
        if self._ended:
            return
        self.t_ns = t_ns
        if self._ws is not None:
            self._frames(data)
        else:
            self._http(data)

    # what a handler may do

    @property
    def is_websocket(self) -> bool:
        """Say whether the connection was upgraded."""
        return self._ws is not None

    @property
    def frozen(self) -> bool:
        """Say whether the half-open fault holds it."""
        return self._frozen

    @property
    def closing(self) -> bool:
        """Say whether the connection is on its way out."""
        return self._transport.is_closing()

    def say(self, text: bytes) -> None:
        """Send a text message; nothing when the WebSocket is no longer open."""
        frame = self.frame(text)
        if frame:
            self.write(frame)

    def frame(self, text: bytes) -> bytes:
        """Return a text message's frame; empty when the WebSocket is no longer open."""
        ws = self._ws
        if ws is None or ws.state is not OPEN:
            return b""
        return Frame(Opcode.TEXT, text).serialize(mask=False)  # whole, and no extension is negotiated

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._frozen:
            self._unsent.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def close_websocket(self, code: int, reason: str = "") -> None:
        """Start the closing handshake; the transport is closed soon after when the client does not answer."""
        ws = self._ws
        if ws is None:
            return
        try:
            ws.send_close(code, reason)
        except InvalidState:
            return
        self._pump(ws)
        asyncio.get_running_loop().call_later(1.0, self.abort)

    def finish(self) -> None:
        """Close when everything written has left."""
        self._ended = True
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._ended = True
        self._transport.abort()

    def freeze(self) -> None:
        """Read nothing and send nothing any more, but keep the connection: the half-open fault."""
        if not self._frozen:
            self._frozen = True
            self._transport.pause_reading()

    def thaw(self) -> None:
        """Undo `freeze`: what was held back leaves, what had arrived is read."""
        if not self._frozen or self._transport.is_closing():
            return
        self._frozen = False
        unsent, self._unsent = self._unsent, []
        for data in unsent:
            self.write(data)
        self._transport.resume_reading()
        unread, self._unread = self._unread, []
        for data in unread:
            self.take(data, time.monotonic_ns())

    def flush(self) -> None:
        """Send the replies that are ready, up to the first that is not."""
        queue = self._queue
        while queue and (data := queue[0].data) is not None:
            exchange = queue.popleft()
            self.write(data)
            if exchange.close and not self._frozen:
                queue.clear()
                self.finish()

    # HTTP

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body = b""

    def on_url(self, url: bytes) -> None:
        """Collect the target (httptools calls this and those below)."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; names in lower case, repeated ones joined as RFC 9110 says."""
        key = _NAMES.get(name)
        if key is None:
            key = name.decode("latin-1").lower()
            if len(_NAMES) < _MOST_NAMES:
                _NAMES[name] = key
        text = value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Let a client that waits for permission send its body."""
        expected = self._headers.get("expect")
        if expected and expected.lower() == "100-continue" and not self._queue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Put the request together."""
        target = self._target.decode("latin-1")
        path, _, query = target.partition("?")
        method = self._parser.get_method().decode("latin-1")
        keep = self._parser.should_keep_alive()
        self._complete.append(Request(method, target, path, query, self._headers, self._body, self.t_ns, keep))
        self._begin()

    def _http(self, data: bytes) -> None:
        rest: bytes | None = None
        broken = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserError:
            broken = True
        if len(self._body) > _LIMIT or len(self._target) > _LIMIT:
            broken = True
        complete, self._complete = self._complete, []
        last = complete.pop() if rest is not None and complete else None
        for request in complete:
            exchange = Exchange(self, request)
            self._queue.append(exchange)
            self.handler.requested(exchange)
        if broken:
            self.write(encode(400, b'{"error":"malformed HTTP"}', keep_alive=False))
            self.finish()
        elif last is not None:
            self._upgrade(last, rest or b"")

    # WebSocket

    def _upgrade(self, request: Request, rest: bytes) -> None:
        if request.headers.get("upgrade", "").lower() != "websocket" or self._queue:
            self.write(encode(400, b'{"error":"only a WebSocket upgrade is possible"}', keep_alive=False))
            self.finish()
            return
        refusal = self.handler.upgrading(self, request)
        if self._ended:
            return
        if refusal is not None:
            self.write(encode(refusal.status, refusal.bodies[0], keep_alive=False))
            self.finish()
            return
        ws = ServerProtocol(max_size=_LIMIT)  # no extensions: nothing is compressed
        lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{k}: {v}" for k, v in request.headers.items())]
        ws.receive_data("\r\n".join((*lines, "", "")).encode("latin-1"))
        for event in ws.events_received():
            if isinstance(event, Handshake):
                ws.send_response(ws.accept(event))
        self._ws = ws
        self._pump(ws)
        if ws.state is OPEN:
            self.handler.opened(self, request)
            if rest:
                self._frames(rest)

    def _frames(self, data: bytes) -> None:
        ws = cast(ServerProtocol, self._ws)
        ws.receive_data(data)
        for frame in ws.events_received():
            if not isinstance(frame, Frame) or frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if frame.opcode is not Opcode.CONT:
                self._text = frame.opcode is Opcode.TEXT
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                payload = b"".join(self._fragments)
                self._fragments.clear()
                self._message(ws, payload)
            if self._ended:
                return
        self._pump(ws)

    def _message(self, ws: ServerProtocol, payload: bytes) -> None:
        if not self._text:
            self.handler.received(self, payload)
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            ws.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            return
        self.handler.received(self, text)

    def _pump(self, ws: ServerProtocol) -> None:
        for data in ws.data_to_send():
            if data:
                self.write(data)
            else:  # the protocol's end of stream; TLS has no half-close
                self.finish()
