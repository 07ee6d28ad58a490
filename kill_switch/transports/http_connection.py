"""An HTTP/1.1 connection of an account's warm HTTP lane, with at most one call in progress on it.

`http.HttpLane` opens connections, gives them calls and receives their answers. A connection never decides which call is
sent, and never reconnects.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from functools import lru_cache
from typing import Protocol, cast

import h11
import httptools

from kill_switch.transports.causes import describe_error
from kill_switch.transports.inflate import inflated
from kill_switch.transports.lane import READ_INTO, tune
from kill_switch.transports.second_parser import ParsedResponse, SecondParser
from kill_switch.venues.messages import ANSWER_WITHIN_S, NOT_PROCESSED, Call, Replied
from kill_switch.venues.request import Request

MAX_HEADER_BYTES = 32 << 10  # of one answer
MAX_BODY_BYTES = 16 << 20  # 10,000 orders take 5 MB at the venue with the longest format
MAX_INTERIM = 50  # interim answers before an answer (RFC 9110 §15.2 sets no limit)
# bytes that are decompressed at once, in 15 ms, of an answer whose compression was not requested
MAX_INFLATED_BYTES = 4 << 20
MAX_RAW_BYTES = 64 << 10  # bytes of an answer that are kept for the second parser
MAX_PIECES = 10_000  # chunks of an answer, since each costs time; 10,000 chunks of 500 bytes make 5 MB
TOO_LARGE = "the answer is too large"
HEADERS_TOO_LARGE = "the answer's headers are too large"
TOO_MANY_INTERIM = "too many interim answers"
TOO_MANY_PIECES = "the answer is in too many pieces"
NOT_HTTP = "the answer is not HTTP"
UNASKED = "the venue sent bytes without a request"
OVERDUE = "no answer in time"


class ConnectionOwner(Protocol):
    """The lane that owns a connection."""

    def on_reply(self, call: Call, reply: Replied) -> None:
        """Called with the complete answer to a call."""

    def on_lost(self, call: Call, reason: str) -> None:
        """Called when a call's answer will not come."""

    def on_idle(self, connection: HttpConnection, *, shunned: bool) -> None:
        """Called when a connection may take another call, before `on_reply`.

        `shunned`: the venue has refused to process a request on it.
        """


@lru_cache(maxsize=256)  # cached, since a venue's answers repeat the same names
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


class _UncertainFraming(Exception):
    """Raised when httptools cannot parse an answer's framing reliably; the second parser decides then."""


class HttpConnection(asyncio.BufferedProtocol):
    """A connection: idle, or with one call in progress."""

    def __init__(self, lane: ConnectionOwner) -> None:
        self.call: Call | None = None
        self.begun: Request | None = None  # written by `begin`; its call has not followed yet
        self.used_ns = time.monotonic_ns()
        self.answered = False  # at least one complete answer has come
        self.failed = False  # a call was lost on this connection
        self.orderly = False  # it ended after an answer, in good order
        self.closed = asyncio.Event()
        self.spent = asyncio.Event()  # set when it takes no further call: closed, or overdue
        self.why = "closed by the venue"
        self._lane = lane
        self._transport: asyncio.Transport | None = None
        self._aborted = False
        self._answer: ParsedResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._codings = 0  # number of Transfer-Encoding headers
        self._fed_bytes = 0  # bytes of the whole answer, including interim answers
        self._headed = False  # the answer's headers are complete
        self._to_the_end = False  # the answer ends with the connection
        self._raw = bytearray()  # the answer's bytes so far
        self._second: SecondParser | None = None  # the second parser, after httptools has refused the answer
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
        """Return whether the connection waits beside the lane for a late answer."""
        return self.spent.is_set() and not self.closed.is_set()

    @property
    def idle(self) -> bool:
        transport = self._transport
        return self.call is None and self.begun is None and transport is not None and not transport.is_closing()

    def begin(self, request: Request) -> None:
        """Write a request. Requires an idle connection; `start` must follow before an answer can come."""
        assert self._transport is not None  # noqa: S101 - the caller has checked `idle`
        self._transport.write(request.wire)
        self.begun = request
        self.used_ns = time.monotonic_ns()

    def start(self, call: Call) -> None:
        """Register a call, and write its request unless `begin` has. Requires an idle connection."""
        if self.begun is None:
            self.begin(call.request)
        self.call, self.begun = call, None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, self._overdue)

    def abort(self, reason: str) -> None:
        """Close the connection now; a call in progress is lost."""
        transport = self._transport
        if transport is not None and not self.closed.is_set():
            self._aborted = True
            self._transport = None
            self.why = reason
            # not inside a read callback, where the TLS layer would answer the peer's close_notify on a closed socket
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
            if bytes(data).strip(b"\r\n"):  # some servers send an empty line after a body
                self.abort(UNASKED)
            return
        self._fed_bytes += nbytes
        if self._fed_bytes > (2 * MAX_BODY_BYTES if self._headed else 2 * MAX_HEADER_BYTES):
            self.abort(TOO_LARGE if self._headed else HEADERS_TOO_LARGE)  # httptools itself sets no bound
            return
        if self._second is not None:
            self._feed_second(self._second, bytes(data))
        else:
            self._feed(data)
        if self._answer is not None:  # reported only now, so that bytes after the answer do not meet the next call
            self._deliver(call, self._answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self.why == "closed by the venue":
            self.why = describe_error(exc)
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
                    self._deliver(call, self._answer)
                    return
        if call is not None and (refusal := self._cut_refusal()) is not None:
            self._deliver(call, refusal)
            self.orderly = False
            return
        self.call = None
        if call is not None:
            self.failed = True
            self._lane.on_lost(call, self.why)

    def _cut_refusal(self) -> ParsedResponse | None:
        """Return an HTTP 4xx answer whose head is complete and whose body is not; None otherwise.

        The status alone is a usable answer.
        """
        if not self._headed or self._second is not None or (self._aborted and self.why != OVERDUE):
            return None
        status = self._parser.get_status_code()
        if not 400 <= status < 500:
            return None
        return ParsedResponse(status, self._headers, b"".join(self._body), keep_alive=False)

    # parsing

    def _feed(self, data: memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.abort(NOT_HTTP)
        except httptools.HttpParserError:
            if self._answer is not None:
                if self._answer.keep_alive:  # else bytes after the answer are ignored (RFC 9112 §9.6)
                    self.abort(NOT_HTTP)
            elif self._fed_bytes != len(self._raw) + len(data):
                self.abort(NOT_HTTP)  # earlier bytes are no longer kept, so the second parser cannot start over
            elif not (raw := bytes(self._raw) + bytes(data)).lstrip(b"\r\n").startswith(b"HTTP/1."):
                self.abort(NOT_HTTP)
            elif not self._aborted:
                self._begin_answer()
                self._second = SecondParser()
                self._feed_second(self._second, raw)
        else:
            if self._answer is None and self._fed_bytes <= MAX_RAW_BYTES:
                self._raw += data

    def _feed_second(self, second: SecondParser, data: bytes) -> None:
        try:
            self._answer = second.feed(data)
        except (h11.ProtocolError, ValueError):
            self.abort(NOT_HTTP)
        self._headed = second.headed

    def _end(self) -> None:
        """Complete an answer that only the end of the connection delimits (RFC 9112 §6.3)."""
        if self._second is not None:
            self._feed_second(self._second, b"")
        elif self._to_the_end:
            body = b"".join(self._body)
            self._answer = ParsedResponse(self._parser.get_status_code(), self._headers, body, keep_alive=False)

    def _begin_answer(self) -> None:
        """Discard the parsed part of an answer."""
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
            raise _UncertainFraming
        self._codings = 0
        if length is None:
            self._to_the_end = self._headed and coding is None and status not in (204, 304)
        elif length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
            self.abort(TOO_LARGE)  # before the body arrives

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
        self._answer = ParsedResponse(status, headers, body, self._parser.should_keep_alive())

    def _deliver(self, call: Call, answer: ParsedResponse) -> None:
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
            self.abort("closed after the answer, as the venue asked")  # a TLS shutdown in good order may take 30 s
        elif self.idle:
            self._lane.on_idle(self, shunned=answer.status in NOT_PROCESSED)
        body = answer.body
        if encoding := answer.headers.get("content-encoding"):
            unpacked = _unpacked(encoding, body)
            if unpacked is None:
                self.abort("the answer is compressed, unasked, and cannot be read")
                self._lane.on_lost(call, self.why)
                return
            body = unpacked
        self._lane.on_reply(call, Replied(call.tag, answer.status, answer.headers, body, rtt_us))

    def _overdue(self) -> None:
        """Abort the connection if its answer is overdue. A single timer serves all calls of the connection in turn.

        If the call accepts a late answer, the connection is first marked as spent and waits for the rest of that time.
        """
        self._timer = None
        if self.call is None:
            return
        within_s = self.call.answer_within_s if self.late else ANSWER_WITHIN_S
        left_s = within_s - (time.monotonic_ns() - self.used_ns) / 1e9
        if left_s <= 0 and not self.late and self.call.answer_within_s > ANSWER_WITHIN_S:
            left_s += self.call.answer_within_s - ANSWER_WITHIN_S
            self.spent.set()
        if left_s > 0:  # the timer was set for an earlier call, or the call accepts a late answer
            self._timer = asyncio.get_running_loop().call_later(left_s, self._overdue)
        else:
            self.abort(OVERDUE)


def _unpacked(encoding: str, packed: bytes) -> bytes | None:
    """Decompress a body whose compression was not requested; return None if it is invalid or too large."""
    body = bytearray()
    try:
        for piece in inflated(encoding, packed):
            body += piece
            if len(body) > MAX_INFLATED_BYTES:
                return None
    except (zlib.error, ValueError):
        return None
    return bytes(body)
