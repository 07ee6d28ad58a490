"""Parse an answer with h11 after httptools has refused it, so that the warm lane accepts what the fresh route accepts.

The HTTP lane uses it. It never sees the answers that httptools accepts.

httptools is fast and accepts less than RFC 9112 asks of a client: no folded lines, no repeated equal lengths.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import h11

MAX_HEAD_BYTES = 32 << 10
MAX_PIECES = 1000  # chunks of one answer: h11 takes 30 µs for each, on the event loop


class ParsedResponse(NamedTuple):
    """A complete HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class SecondParser:
    """Parse one answer with h11."""

    def __init__(self) -> None:
        self.headed = False  # the headers are complete
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._connection.send(h11.Request(method="GET", target="/", headers=[("Host", "-")]))
        self._connection.send(h11.EndOfMessage())
        self._begun = False
        self._head: h11.Response | None = None
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> ParsedResponse | None:
        """Parse more bytes and return the answer once it is complete, else None.

        Empty `data` is the end of the connection. Raises `ValueError` or `h11.ProtocolError` if the bytes are no
        answer, or if bytes follow the answer on a connection that stays open.
        """
        if not self._begun:
            data = data.lstrip(b"\r\n") or data[:0]  # as the fresh route does
            self._begun = bool(data)
            if not data:
                return None
        self._connection.receive_data(data)
        while True:
            match self._connection.next_event():
                case h11.Response() as head:
                    refuse_framing(head.headers)
                    self.headed, self._head = True, head
                case h11.InformationalResponse(status_code=status) if status != 101:
                    pass
                case h11.Data(data=body):
                    self._body.append(bytes(body))
                    if len(self._body) > MAX_PIECES:
                        raise ValueError("too many pieces")
                case h11.EndOfMessage() if self._head is not None:
                    behind, _ = self._connection.trailing_data
                    keep_alive = self._connection.their_state is h11.DONE
                    if keep_alive and behind.strip(b"\r\n"):
                        raise ValueError("bytes after the answer")
                    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._head.headers}
                    return ParsedResponse(self._head.status_code, headers, b"".join(self._body), keep_alive)
                case h11.NEED_DATA:
                    return None
                case _:
                    raise ValueError("no answer")


def refuse_framing(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise `ValueError` if an answer has both a length and chunks: it may be forged (RFC 9112 §6.3)."""
    names = {name.lower() for name, _ in headers}
    if {b"content-length", b"transfer-encoding"} <= names:
        raise ValueError("Content-Length together with chunks")
