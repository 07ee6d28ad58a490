"""The WebSocket protocol of one upgraded connection, from the handshake to the close frame.

`kit.server` uses it. It does no I/O: the connection writes the bytes that `outgoing` yields.
"""

from __future__ import annotations

from collections.abc import Iterator

from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from kill_switch.sim.kit.protocol import Request

_LIMIT = 1 << 20  # bytes of a message


class WsSession:
    """A WebSocket: frames in and out, without extensions."""

    def __init__(self, request: Request) -> None:
        """Accept the upgrade that `request` asks for, unless its headers are invalid."""
        self._protocol = ServerProtocol(max_size=_LIMIT)  # no extensions, so nothing is compressed
        self._fragments: list[bytes] = []
        self._is_text = True
        self.pinged = False  # whether a ping has arrived; the reader of this resets it
        self.ponged = False  # whether a pong has arrived, asked for or not; the reader of this resets it
        lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{k}: {v}" for k, v in request.headers.items())]
        self._protocol.receive_data("\r\n".join((*lines, "", "")).encode("latin-1"))
        for event in self._protocol.events_received():
            if isinstance(event, Handshake):
                self._protocol.send_response(self._protocol.accept(event))

    @property
    def is_open(self) -> bool:
        """Return whether messages can be sent and received."""
        return self._protocol.state is OPEN

    def messages(self, data: bytes) -> Iterator[str | bytes]:
        """Parse received bytes; yield each complete message, text or binary."""
        self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            if isinstance(frame, Frame) and frame.opcode is Opcode.PING:
                self.pinged = True
            if isinstance(frame, Frame) and frame.opcode is Opcode.PONG:
                self.ponged = True
            if not isinstance(frame, Frame) or frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                payload = b"".join(self._fragments)
                self._fragments.clear()
                if not self._is_text:
                    yield payload
                    continue
                try:
                    text = payload.decode()
                except UnicodeDecodeError:
                    self._protocol.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
                    continue
                yield text

    def frame(self, text: bytes) -> bytes:
        """Return the frame of a text message; empty if the WebSocket is not open."""
        if self._protocol.state is not OPEN:
            return b""
        return Frame(Opcode.TEXT, text).serialize(mask=False)  # unfragmented, and no extension is negotiated

    def close(self, code: int, reason: str) -> bool:
        """Queue a close frame; return False if the WebSocket is closing already."""
        try:
            self._protocol.send_close(code, reason)
        except InvalidState:
            return False
        return True

    def ping(self) -> bytes:
        """Return a ping frame; empty if the WebSocket is not open."""
        return Frame(Opcode.PING, b"").serialize(mask=False) if self.is_open else b""

    def outgoing(self) -> Iterator[bytes]:
        """Yield the bytes to write; empty bytes mean the end of the stream."""
        yield from self._protocol.data_to_send()
