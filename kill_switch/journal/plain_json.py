"""Serialise records and latch lines even if a value has no JSON form: such a value is replaced by its `ascii()`.

The writer, the write-ahead note and the latch files use it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import orjson

from kill_switch import clock
from kill_switch.core.domain import Instant


def json_safe(value: object) -> object:
    """Return the value if orjson can serialise it, else its `ascii()`."""
    try:
        orjson.dumps(value, default=str)
    except (TypeError, ValueError):
        return ascii(value)
    return value


def to_plain(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return the data if orjson can serialise it, else a copy in which each such value is its `ascii()`."""
    try:
        orjson.dumps(data, default=str)
    except (TypeError, ValueError):
        return {key: json_safe(value) for key, value in data.items()}
    return data


def encode_line(
    seq: int, prev: str, boot: str, kind: str, data: Mapping[str, object], at: Instant
) -> tuple[bytes, str]:
    """Return a record's line of the journal, with its newline, and the record's hash.

    `prev` is the hash of the record before. The hash is SHA-256 over the line without the `hash` field.
    """
    entry = {
        "seq": seq,
        "at": clock.iso(at.wall_ns),
        "mono_ns": at.mono_ns,
        "boot": boot,
        "kind": kind,
        "data": data,
        "prev": prev,
    }
    try:
        body = orjson.dumps(entry, default=str)
    except (TypeError, ValueError):
        body = orjson.dumps({**entry, "data": to_plain(data)}, default=str)
    own = hashlib.sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body[:-1], own.encode()), own
