"""HTTP/1.1 and WebSocket on one port, byte by byte.

Simulated venues and the admin API are its handlers; it never decides an answer. A fault can stop reading, cut a reply
in two, or drop the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol, cast

from kill_switch.sim.kit.http_reader import HttpReader
from kill_switch.sim.kit.protocol import Request, SimAnswer, encode
from kill_switch.sim.kit.ws_session import WsSession

# shared by all connections: the event loop fills it and passes its content on in one step. With this buffer asyncio
# need not allocate 256 KiB for each read, which would cost more than the rest of the read.
_BUFFER = memoryview(bytearray(64 << 10))


class Handler(Protocol):
    """The handler of a server's connections. Every method is called on the event loop and returns at once."""

    def connected(self, connection: Connection) -> None:
        """Called for a new connection."""

    def disconnected(self, connection: Connection) -> None:
        """Called when a connection is closed."""

    def requested(self, exchange: PendingReply) -> None:
        """Answer an HTTP request through the exchange, now or later."""

    def upgrading(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Return the refusal of a WebSocket upgrade, or None to accept it."""

    def opened(self, connection: Connection, request: Request) -> None:
        """Called when a WebSocket is open."""

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Called with a WebSocket message: text, or bytes for a binary one."""


class PendingReply:
    """The place of one request's reply, so that pipelined replies are sent in the order of their requests."""

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
        """Send the reply's raw bytes; `close` ends the connection after them."""
        self.data = data
        self.close = self.close or close
        self.connection.flush()


class ReceiveQueue:
    """The received bytes of some connections; one piece is parsed in each turn of the event loop.

    The arrival of bytes is stamped before they are queued here, and the event loop reads all connections between two
    turns. Otherwise one account's command would wait unstamped while another account's command is answered, although
    real venues are separate machines.
    """

    def __init__(self) -> None:
        self._pieces: deque[tuple[Connection, bytes, int]] = deque()

    def put(self, connection: Connection, data: bytes, t_ns: int) -> None:
        """Queue bytes that a connection has received at `t_ns`."""
        self._pieces.append((connection, data, t_ns))
        if len(self._pieces) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def finish(self, connection: Connection) -> None:
        """Parse all queued bytes of a connection now, because no more will come."""
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
    """A connection: HTTP until it is upgraded, WebSocket from then on."""

    def __init__(self, handler: Handler, inbox: ReceiveQueue | None = None) -> None:
        """Create it; connections with the same `inbox` take turns."""
        self.handler = handler
        self.peer = ""
        self.account: str | None = None  # the account that authenticated on it last, for faults that affect one account
        self.t_ns = 0  # CLOCK_MONOTONIC at the arrival of the latest bytes
        self.pinged_at = 0.0  # when the last ping frame arrived, in seconds of CLOCK_MONOTONIC
        self.ponged_at = 0.0  # and the last pong frame
        self._transport = cast(asyncio.Transport, None)
        self._inbox = inbox or ReceiveQueue()
        self._ended = False  # this side has ended it: bytes that are queued or still arrive are ignored
        self._reader = HttpReader(self._allow_body)
        self._ws: WsSession | None = None
        self._queue: deque[PendingReply] = deque()
        self._frozen = False
        self._unread: list[bytes] = []
        self._unsent: list[bytes] = []

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection with its handler."""
        self._transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else ""
        self.handler.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Parse the bytes that came before the end, then report the end."""
        self._inbox.finish(self)
        self._queue.clear()
        self.handler.disconnected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Stamp and queue received bytes."""
        self._inbox.put(self, bytes(_BUFFER[:nbytes]), time.monotonic_ns())

    def eof_received(self) -> None:
        """Parse the bytes that came before the end."""
        self._inbox.finish(self)

    def take(self, data: bytes, t_ns: int) -> None:
        """Parse bytes that arrived at `t_ns`."""
        if self._frozen:
            self._unread.append(data)
            return
        if self._ended:
            return
        self.t_ns = t_ns
        if self._ws is not None:
            self._frames(self._ws, data)
        else:
            self._http(data)

    # called by handlers

    @property
    def is_websocket(self) -> bool:
        """Return whether the connection was upgraded."""
        return self._ws is not None

    @property
    def frozen(self) -> bool:
        """Return whether the `half_open` fault holds the connection."""
        return self._frozen

    @property
    def closing(self) -> bool:
        """Return whether the connection is being closed."""
        return self._transport.is_closing()

    def say(self, text: bytes) -> None:
        """Send a text message; do nothing if the WebSocket is not open."""
        frame = self.frame(text)
        if frame:
            self.write(frame)

    def frame(self, text: bytes) -> bytes:
        """Return the frame of a text message; empty if the WebSocket is not open."""
        return b"" if self._ws is None else self._ws.frame(text)

    def ping(self) -> None:
        """Send a ping frame; do nothing if the WebSocket is not open."""
        if self._ws is not None and (frame := self._ws.ping()):
            self.write(frame)

    def write(self, data: bytes) -> None:
        """Send raw bytes."""
        if self._frozen:
            self._unsent.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def close_websocket(self, code: int, reason: str = "") -> None:
        """Start the closing handshake; drop the connection after 1 s if the client does not answer."""
        session = self._ws
        if session is None or not session.close(code, reason):
            return
        self._pump(session)
        asyncio.get_running_loop().call_later(1.0, self.abort)

    def finish(self) -> None:
        """Close the connection once all written bytes are sent."""
        self._ended = True
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._ended = True
        self._transport.abort()

    def freeze(self) -> None:
        """Stop reading and sending, but keep the connection open: the `half_open` fault."""
        if not self._frozen:
            self._frozen = True
            self._transport.pause_reading()

    def thaw(self) -> None:
        """Undo `freeze`: send the withheld bytes, and parse those that had arrived."""
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

    def _allow_body(self) -> None:
        """Permit a client that waits for it to send its body, unless replies are due first."""
        if not self._queue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _http(self, data: bytes) -> None:
        read = self._reader.read(data, self.t_ns)
        for request in read.requests:
            exchange = PendingReply(self, request)
            self._queue.append(exchange)
            self.handler.requested(exchange)
        if read.malformed:
            self.write(encode(400, b'{"error":"malformed HTTP"}', keep_alive=False))
            self.finish()
        elif read.upgrade is not None:
            self._upgrade(read.upgrade, read.behind)

    # WebSocket

    def _upgrade(self, request: Request, behind: bytes) -> None:
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
        self._ws = session = WsSession(request)
        self._pump(session)
        if session.is_open:
            self.handler.opened(self, request)
            if behind:
                self._frames(session, behind)

    def _frames(self, session: WsSession, data: bytes) -> None:
        for message in session.messages(data):
            self.handler.received(self, message)
            if self._ended:
                return
        if session.pinged:
            session.pinged = False
            self.pinged_at = time.monotonic()
        if session.ponged:
            session.ponged = False
            self.ponged_at = time.monotonic()
        self._pump(session)

    def _pump(self, session: WsSession) -> None:
        for data in session.outgoing():
            if data:
                self.write(data)
            else:  # TLS has no half-close
                self.finish()
