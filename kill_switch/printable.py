"""Make text from outside safe to print: people's reasons, venues' answers, lines of files.

Every such text passes through here where it enters, and again where a terminal, a log or a message shows it. Escape
sequences, line breaks and marks that reverse the direction of text cannot forge a line. No function here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REPLACED = "\N{REPLACEMENT CHARACTER}"


def line(text: str) -> str:
    """Return `text` as one line: white space becomes a space, each other character that does not print becomes U+FFFD.

    Printable is defined by `str.isprintable`: no control, format, surrogate, private or unassigned character.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else REPLACED for c in text)


def lines(text: str) -> str:
    """Return `text` with its line feeds kept, and each line made safe by `line`."""
    return text if text.isprintable() else "\n".join(map(line, text.split("\n")))


def mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with every text in it, keys included, made safe by `line`."""
    return {line(key): _value(value) for key, value in values.items()}


def _value(value: Any) -> Any:
    match value:
        case str():
            return line(value)
        case Mapping():
            return {line(key) if isinstance(key, str) else key: _value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_value(inner) for inner in value]
        case _:
            return value
