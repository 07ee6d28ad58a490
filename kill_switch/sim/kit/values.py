"""Values of messages that several venues have: JSON objects, numbers as text, UUIDs.

The venues parse requests and fill payloads with them.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import orjson

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """Parse a JSON object; return None if the data is something else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def plain(number: Decimal) -> str:
    """Format a number without an exponent."""
    return format(number, "f")


def parse_number(value: object) -> Decimal | None:
    """Parse a number that is given as text or as a JSON number; return None if the value is something else.

    A text has digits, and a point between them at most: no blank, no exponent, no other sign than a minus.
    """
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        return Decimal(str(value))
    except ArithmeticError:
        return None


def positive(value: object) -> Decimal | None:
    """Parse a finite number above 0, given as text or as a JSON number; return None if the value is something else."""
    number = parse_number(value)
    return number if number is not None and number.is_finite() and number > 0 else None


def is_uuid(value: object, version: str = "") -> bool:
    """Return whether a JSON value is the text of a UUID, of this version if one is given."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None and version in ("", value[14])
