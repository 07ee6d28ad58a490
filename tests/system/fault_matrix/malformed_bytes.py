"""Make the bytes that no honest venue sends: answers, upgrades and frames of every hostile shape.

A shape of an answer is a generator: it yields bytes to write, seconds to wait, or `CUT` or `END` for the connection.
"""

from __future__ import annotations

import functools
import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

CUT = None
END = "end"  # of the connection, in good order
CHUNK = 256 << 10
HUGE = 64 << 20
_EMPTY = b'{"a":[]},'

Step = bytes | float | str | None
Steps = Iterator[Step]


class Real(NamedTuple):
    """What the venue has truly answered, and an answer that it gave long ago to the same request."""

    head: bytes  # status line and headers, with the empty line
    body: bytes
    stale: bytes  # a whole answer from before the orders rested; empty if there is none

    @property
    def whole(self) -> bytes:
        return self.head + self.body


Shape = Callable[[Real], Steps]


def answer(body: bytes, *headers: bytes, length: bool = True) -> bytes:
    """Make an answer of status 200."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: application/json", *headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def bytewise(real: Real) -> Steps:
    """Write each byte by itself, as fast as it goes."""
    for at in range(len(real.whole)):
        yield real.whole[at : at + 1]


def dribble(real: Real) -> Steps:
    """Write a byte in every 50 ms: no answer comes to its end in time."""
    for at in range(len(real.whole)):
        yield real.whole[at : at + 1]
        yield 0.05


def huge(real: Real) -> Steps:
    """Say the truth, and 64 MiB of blanks behind it."""
    yield answer(b"", b"Content-Length: %d" % (len(real.body) + HUGE), length=False)
    yield real.body
    for _ in range(HUGE // CHUNK):
        yield b" " * CHUNK


def huge_json(real: Real) -> Steps:
    """Answer 64 MiB of JSON that is much larger once it is parsed."""
    yield answer(b"", b"Content-Length: %d" % (HUGE + 2), length=False)
    yield b"["
    for _ in range(HUGE // CHUNK - 1):
        yield _EMPTY * (CHUNK // len(_EMPTY)) + b" " * (CHUNK % len(_EMPTY))
    yield b" " * (CHUNK - 1) + b"0]" + b" "


def large_json(real: Real) -> Steps:
    """Answer 8 MiB of JSON, all of it valid, which nobody can make sense of."""
    yield answer(b"[" + _EMPTY * ((8 << 20) // len(_EMPTY)) + b"0]")


def endless_body(real: Real) -> Steps:
    """Send chunks without end."""
    yield answer(b"", b"Transfer-Encoding: chunked", length=False)
    while True:
        yield b"%x\r\n" % CHUNK + b" " * CHUNK + b"\r\n"


def endless_crumbs(real: Real) -> Steps:
    """Send chunks of a byte without end."""
    yield answer(b"", b"Transfer-Encoding: chunked", length=False)
    while True:
        yield b"1\r\n \r\n" * 16_384


def endless_headers(real: Real) -> Steps:
    """Send header lines without end."""
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X-More: and more\r\n" * 4096


def endless_header(real: Real) -> Steps:
    """Send one header line without end."""
    yield b"HTTP/1.1 200 OK\r\nX-More: "
    while True:
        yield b"x" * CHUNK


def endless_status(real: Real) -> Steps:
    """Send a status line without end."""
    yield b"HTTP/1.1 200 "
    while True:
        yield b"O" * CHUNK


def endless_interim(real: Real) -> Steps:
    """Send interim answers without end."""
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 4096


def endless_chunk_extension(real: Real) -> Steps:
    """Send one chunk's extension without end."""
    yield answer(b"", b"Transfer-Encoding: chunked", length=False) + b"5;x="
    while True:
        yield b"x" * CHUNK


def gzip_bomb(real: Real) -> Steps:
    """Send 1 MiB that would be 1 GiB."""
    yield answer(_bomb(), b"Content-Encoding: gzip")


@functools.cache
def _bomb() -> bytes:
    return gzip.compress(b" " * HUGE) * 16


def two_lengths(real: Real) -> Steps:
    """State two lengths, of which the first is a lie."""
    yield answer(real.body, b"Content-Length: 2")


def length_and_chunks(real: Real) -> Steps:
    """State a length, and send chunks."""
    body = b"%x\r\n" % len(real.body) + real.body + b"\r\n0\r\n\r\n"
    yield answer(body, b"Transfer-Encoding: chunked")


def negative_length(real: Real) -> Steps:
    yield answer(b"", b"Content-Length: -1", length=False) + real.body


def signed_length(real: Real) -> Steps:
    """State a length that some read and some do not."""
    yield answer(b"", b"Content-Length: +%d" % len(real.body), length=False) + real.body


def hidden_chunks(real: Real) -> Steps:
    """State chunks in a header whose name ends in a blank, which some take for another one."""
    body = b"%x\r\n" % len(real.body) + real.body + b"\r\n0\r\n\r\n"
    yield answer(body, b"Transfer-Encoding : chunked")


def overflowing_chunk(real: Real) -> Steps:
    """State a chunk of more bytes than 64 bits can count, so that a counter might begin anew."""
    yield answer(b"", b"Transfer-Encoding: chunked", length=False)
    yield b"1%016x\r\n" % len(real.body) + real.body + b"\r\n0\r\n\r\n"


def length_too_short(real: Real) -> Steps:
    """State a length that ends the answer in its middle."""
    yield answer(b"", b"Content-Length: %d" % (len(real.body) // 2), length=False) + real.body


def length_too_long(real: Real) -> Steps:
    yield answer(b"", b"Content-Length: %d" % (len(real.body) + 10), length=False) + real.body
    yield CUT


def bad_chunks(real: Real) -> Steps:
    yield answer(b"", b"Transfer-Encoding: chunked", length=False) + b"zz\r\n" + real.body + b"\r\n0\r\n\r\n"


def doubled(real: Real) -> Steps:
    """Send a stale answer behind the true one: it must not answer the next request."""
    yield real.whole + (real.stale or answer(b"[]"))


def doubled_late(real: Real) -> Steps:
    """The same, a moment later."""
    yield real.whole
    yield 0.02
    yield real.stale or answer(b"[]")


def unasked(real: Real) -> Steps:
    """Send a stale answer before any request; the request itself gets none."""
    yield from ()


def garbage(real: Real) -> Steps:
    yield b"\x00\xff\x16\x03\x01" * 100


def no_head(real: Real) -> Steps:
    """Answer as HTTP/0.9 did."""
    yield real.body or b"{}"
    yield CUT


def upgraded(real: Real) -> Steps:
    """Switch to a protocol that nobody asked for."""
    yield b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n" + real.whole


def status_999(real: Real) -> Steps:
    yield real.whole.replace(b" 200 ", b" 999 ", 1)


def no_content(real: Real) -> Steps:
    """Say that there is no content, and send some."""
    yield real.whole.replace(b" 200 OK", b" 204 No Content", 1)


def reset(real: Real) -> Steps:
    yield CUT


# ── legal answers, seldom seen (RFC 9112) ─────────────────────────────────────────────────────────────────────────


def _framed(real: Real, *framing: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """Return the true answer's head with other framing."""
    first, *lines = real.head[:-4].split(b"\r\n")
    kept = [line for line in lines if line.lower().partition(b":")[0] not in (b"content-length", b"connection")]
    return b"\r\n".join([version + first[8:], *kept, *framing]) + b"\r\n\r\n"


def to_the_end(real: Real) -> Steps:
    """State no length: the body ends with the connection."""
    yield _framed(real) + real.body
    yield END


def http_1_0(real: Real) -> Steps:
    yield _framed(real, version=b"HTTP/1.0") + real.body
    yield END


def folded(real: Real) -> Steps:
    yield _framed(real, b"X-Folded: one\r\n two\r\n\tthree", b"Content-Length:\r\n  %d" % len(real.body)) + real.body


def equal_lengths(real: Real) -> Steps:
    length = b"%d" % len(real.body)
    yield _framed(real, b"Content-Length: " + length + b", " + length) + real.body


def fancy_chunks(real: Real) -> Steps:
    head = _framed(real, b"TRANSFER-ENCODING: Chunked", b"Trailer: X-Sum")
    half = len(real.body) // 2
    parts = [part for part in (real.body[:half], real.body[half:]) if part]
    chunks = b"".join(b'00%X;a=b;c="d;\\"e"\r\n%b\r\n' % (len(part), part) for part in parts)
    yield head + chunks + b"0;last\r\nX-Sum: 1\r\n\r\n"


def interim_first(real: Real) -> Steps:
    yield b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 \r\n\r\n"
    yield real.whole


def closed_with_more(real: Real) -> Steps:
    yield _framed(real, b"Connection: x, CLOSE", b"Content-Length: %d" % len(real.body)) + real.body + b"and more"
    yield END


def compressed(real: Real) -> Steps:
    body = gzip.compress(real.body)
    yield _framed(real, b"Content-Encoding: gzip", b"Content-Length: %d" % len(body)) + body


# ── frames ────────────────────────────────────────────────────────────────────────────────────────────────────────


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Make a server's frame."""
    first = bytes([opcode | (0x80 if fin else 0) | rsv << 4])
    if len(data) < 126:
        return first + bytes([len(data)]) + data
    if len(data) < 1 << 16:
        return first + b"\x7e" + struct.pack(">H", len(data)) + data
    return first + b"\x7f" + struct.pack(">Q", len(data)) + data


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@functools.cache
def _deflated() -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(b" " * HUGE) + deflate.flush(zlib.Z_SYNC_FLUSH)


FRAMES: dict[str, Callable[[], bytes]] = {
    "reserved bits": lambda: frame(TEXT, b"{}", rsv=2),
    "compressed, unasked": lambda: frame(TEXT, _deflated(), rsv=4),
    "reserved data opcode": lambda: frame(3, b"{}"),
    "reserved control opcode": lambda: frame(11, b"x"),
    "ping in fragments": lambda: frame(PING, b"x", fin=False),
    "ping of 126 bytes": lambda: frame(PING, b"x" * 126),
    "masked": lambda: b"\x81\x82\0\0\0\0{}",
    "continuation of nothing": lambda: frame(0, b"{}"),
    "text within a text": lambda: frame(TEXT, b"{", fin=False) + frame(TEXT, b"{}"),
    "length not minimal": lambda: b"\x81\x7e\x00\x02{}",
    "length of 2^63": lambda: b"\x81\x7f" + b"\xff" * 8 + b"x" * 100,
    "length of 1 GiB": lambda: b"\x81\x7f" + struct.pack(">Q", 1 << 30) + b" " * CHUNK,
    "text that is not UTF-8": lambda: frame(TEXT, b"\xff\xfe\xfd"),
    "text that is not JSON": lambda: frame(TEXT, b"}{" * 100),
    "deep JSON": lambda: frame(TEXT, b"[" * 100_000 + b"]" * 100_000),
    "binary": lambda: frame(BINARY, b"\x00\x01{}"),
    "close of 1 byte": lambda: frame(CLOSE, b"\x03"),
    "close with code 1005": lambda: frame(CLOSE, struct.pack(">H", 1005)),
    "close, not UTF-8": lambda: frame(CLOSE, struct.pack(">H", 1000) + b"\xff\xfe"),
    "text after close": lambda: frame(CLOSE, struct.pack(">H", 1000)) + frame(TEXT, b"{}") * 5,
    "pong unasked": lambda: frame(PONG, b"x"),
}

# what is said again and again, in pieces of about 256 KiB
FLOODS: dict[str, tuple[Callable[[], bytes], Callable[[], bytes]]] = {
    "empty fragments": (lambda: frame(TEXT, b"[", fin=False), lambda: frame(0, b"", fin=False) * (CHUNK // 2)),
    "endless message": (lambda: frame(TEXT, b"[", fin=False), lambda: frame(0, b" " * CHUNK, fin=False)),
    "ping flood": (bytes, lambda: frame(PING, b"x" * 100) * (CHUNK // 102)),
    "noise flood": (bytes, lambda: frame(TEXT, b'{"what":"ever"}') * (CHUNK // 17)),
    "messages of 8 MiB": (bytes, lambda: frame(TEXT, b"[" + _EMPTY * ((8 << 20) // len(_EMPTY)) + b"0]")),
}
