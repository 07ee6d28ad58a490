"""Decompress an answer that is compressed although no compression was requested.

The HTTP lane and the fresh route use it. It yields bounded pieces, so that the caller can limit the total; it never
reads a socket.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE_BYTES = 1 << 20  # per piece, which takes 2 to 4 ms: the fresh route yields to other tasks in between
# of a gzip body. Each member copies the bytes behind it: 16 MiB of empty members would take ten minutes.
MAX_MEMBERS = 16
_KNOWN = ("gzip", "x-gzip", "deflate")  # RFC 9110 §8.4.1


def inflated(encodings: str, packed: bytes) -> Iterator[bytes]:
    """Yield the decompressed pieces of a body. The caller bounds their total.

    `encodings` is the value of Content-Encoding, `packed` the body as received. Raises `zlib.error` or `ValueError` if
    the body cannot be decompressed.
    """
    codings = [coding.strip().lower() for coding in encodings.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if len(codings) > 1 or any(coding not in _KNOWN for coding in codings):
        raise ValueError("a content encoding that was not requested")
    if not codings:
        yield packed
        return
    for _ in range(MAX_MEMBERS):
        if not packed:
            return
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # accepts a gzip header or a zlib header
        while not inflate.eof:
            piece = inflate.decompress(packed, PIECE_BYTES)
            packed = inflate.unconsumed_tail
            if not piece and not packed and not inflate.eof:
                raise ValueError("the compressed answer ends too soon")
            yield piece
        packed = inflate.unused_data.lstrip(b"\0")  # a gzip body may have further members (RFC 1952 §2.2) and padding
    if packed:
        raise ValueError("the compressed answer has too many members")
