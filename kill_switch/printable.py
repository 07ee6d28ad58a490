"""Make text from outside safe to show: reasons that people type, words of venues, lines of files.

Every such text passes through here where it enters, and again where a terminal, a log or a message shows it. Escape
sequences, line breaks and marks that turn the direction of text cannot forge a line. Nothing here can fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REPLACED = "\N{REPLACEMENT CHARACTER}"


def line(text: str) -> str:
    """Return `text` as one line: each kind of white space is a space, all else that does not print is U+FFFD.

    What prints is what `str.isprintable` says: no control, format, surrogate, private or unassigned character.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else REPLACED for c in text)


def lines(text: str) -> str:
    """Return `text` with its line feeds, and each line as `line` has it."""
    return text if text.isprintable() else "\n".join(map(line, text.split("\n")))


def mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON holds with each text in it, keys too, as `line` has it."""
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
