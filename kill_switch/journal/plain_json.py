"""Values that JSON can hold: what cannot be serialised is written in its ASCII form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import orjson

from kill_switch import clock
from kill_switch.core.domain import Instant


def json_safe(value: object) -> object:
    """Return a value that JSON can tell, its ASCII form if need be."""
    try:
        orjson.dumps(value, default=str)
    except (TypeError, ValueError):
        return ascii(value)
    return value


def to_plain(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return data that JSON can tell: as it is, or with the ASCII form of what it cannot."""
    try:
        orjson.dumps(data, default=str)
    except (TypeError, ValueError):
        return {key: json_safe(value) for key, value in data.items()}
    return data


def encode_line(
    seq: int, prev: str, boot: str, kind: str, data: Mapping[str, object], at: Instant
) -> tuple[bytes, str]:
    """Return a record's line of the journal, with its newline, and its hash."""
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
