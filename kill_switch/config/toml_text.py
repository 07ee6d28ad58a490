"""Parse TOML in a time that grows with the length of the text.

The time that `tomllib` takes grows with the square of the words of a dotted key. Everything that reads a
configuration parses it here. No key of ours has more than six words.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

MOST_WORDS = 32  # words of a dotted key
_BARE = "[A-Za-z0-9_-]++"
_QUOTED = r""""(?:\\.|[^"\\\n])*+"|'[^'\n]*+'"""
_NEXT = rf"[ \t]*+\.[ \t]*+(?:{_BARE}|{_QUOTED})"
_MULTILINE = r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}"
_PART = re.compile(
    rf"(?P<deep>(?:{_BARE}|{_QUOTED})(?:{_NEXT}){{{MOST_WORDS}}})|{_MULTILINE}|{_QUOTED}|#[^\n]*+|{_BARE}(?:{_NEXT})*+",
    re.DOTALL,
)


def loads(text: str) -> dict[str, Any]:
    """Return the tables of a text; raise `TOMLDecodeError` also for a key of more than `MOST_WORDS` words."""
    if any(line.count(".") >= MOST_WORDS for line in text.split("\n")):
        _refuse_deep_keys(text)
    return tomllib.loads(text)


def _refuse_deep_keys(text: str) -> None:
    for part in _PART.finditer(text):
        if part["deep"]:
            at = part.start()
            line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
            # in the parser's own form, from which `syntax_errors` and `salvage` take the place
            raise tomllib.TOMLDecodeError(
                f"A key has more than {MOST_WORDS} words with dots (at line {line}, column {column})"
            )
