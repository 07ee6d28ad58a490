"""Values that JSON can hold: what cannot be serialised is written in its ASCII form."""

from __future__ import annotations

from collections.abc import Mapping

import orjson


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
