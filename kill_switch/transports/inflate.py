"""Undo the compression of an answer that nobody asked to be compressed, piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE_BYTES = 1 << 20  # at once, 2 to 4 ms: whoever reads has others take a turn in between
MOST_MEMBERS = 16  # of a gzip body; each copies what is behind it: 16 MiB of empty ones would take ten minutes
_KNOWN = ("gzip", "x-gzip", "deflate")  # RFC 9110, 8.4.1


def inflated(encodings: str, packed: bytes) -> Iterator[bytes]:
    """Yield the pieces of a body, given its Content-Encoding; the caller bounds them.

    Raises `zlib.error` or `ValueError` for what cannot be read.
    """
    named = [one.strip().lower() for one in encodings.split(",")]
    named = [one for one in named if one not in ("", "identity")]
    if len(named) > 1 or any(one not in _KNOWN for one in named):
        raise ValueError("an encoding that nobody asked for")
    if not named:
        yield packed
        return
    for _ in range(MOST_MEMBERS):
        if not packed:
            return
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip's header, or zlib's
        while not inflate.eof:
            piece = inflate.decompress(packed, PIECE_BYTES)
            packed = inflate.unconsumed_tail
            if not piece and not packed and not inflate.eof:
                raise ValueError("the compressed answer ends too soon")
            yield piece
        packed = inflate.unused_data.lstrip(b"\0")  # gzip may have further members (RFC 1952, 2.2), and padding
    if packed:
        raise ValueError("the compressed answer has too many members")
