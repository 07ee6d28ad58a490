"""Read the usable tables of a TOML file with a syntax error.

Only for an emergency: `fire --direct`, and commands that need no more than a directory. `run`, `check` and `reload`
refuse such a file as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from kill_switch.config import toml_text

_MOST_PARTS = 64  # parts left out one after the other; each costs a parse of the whole file
_WHERE = re.compile(r"\(at line (\d+), column (\d+)\)\Z")
_TABLE = re.compile(r"""\s*\[+\s*(?P<table>[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?P<name>[\w-]+|"[^"]*"|'[^']*'))?""")
_HEADER = re.compile(r"""\s*\[+[\w\s."'-]+\]*\s*(?:#.*)?\Z""")  # because a bracket may be missing, or be one too many
_DIRECTORY = re.compile(r"""\s*(?:daemon\s*\.\s*)?(?P<key>(?:runtime|state)_dir)\s*=\s*(?P<value>.*)""")
_STRING = re.compile(r"""(?:"(?P<basic>[^"\\]*)"|'(?P<literal>[^']*)')\s*(?:#.*)?\Z""")


class SalvagedDocument(NamedTuple):
    """The usable parts of a file."""

    document: Mapping[str, Any]
    lost: Mapping[str, str]  # account → its lines that were not understood
    parts: tuple[str, ...]  # a line for each part that was left out
    # values of `runtime_dir` and `state_dir` in the parts left out; None: unclear
    directories: Mapping[str, str | None]


def salvage(text: str) -> SalvagedDocument:
    """Return the usable parts of a file's text; raise `ValueError` if there are none.

    The file is cut at the lines that begin a table, and parts that do not parse are left out. Every account that such a
    part names counts as not understood, even if another part defines it.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    starts = [0, *(number for number, line in enumerate(lines) if number and line.lstrip().startswith("["))]
    left = list(lines)
    lost: dict[str, str] = {}
    parts: list[str] = []
    directories: dict[str, str | None] = {}
    while True:
        try:
            document = toml_text.loads("\n".join(left))
            break
        except (ValueError, RecursionError) as error:
            if len(parts) == _MOST_PARTS:
                raise ValueError("too many syntax errors") from None
            is_deep = isinstance(error, RecursionError)
            first, end = _too_deep(left, starts) if is_deep else _part(left, starts, str(error))
            # because this line begins no table, it belongs to the part before it
            while first and not _HEADER.match(lines[first]):
                first = max(number for number in starts if number < first)
            if not any(line.strip() for line in left[first:end]):
                raise ValueError("no part of it parses") from None
        where = f"lines {first + 1} to {end}"
        parts.append(where)
        table, account = _named(lines[first])
        if account:
            lost[account] = where
        if not account:  # the line begins a table of tables, or is before all tables
            prefix = "" if table == "accounts" else "accounts."
            lost.update(dict.fromkeys(_keys(lines[first:end], prefix), where))
        if table == "daemon" or first == 0:
            directories |= _directories(lines[first:end])
        if any(quotes in line for line in lines[first:end] for quotes in ('"""', "'''")):
            # because it is unclear where a text over several lines ends: tables after it may be part of the text
            parts[-1] = where = f"lines {first + 1} to {len(lines)}"
            lost.update(dict.fromkeys(_accounts(lines[number] for number in starts if number >= end), where))
            end = len(lines)
        left[first:end] = [""] * (end - first)
    accounts = document.get("accounts")
    if isinstance(accounts, dict):
        document["accounts"] = {name: table for name, table in accounts.items() if name not in lost}
    return SalvagedDocument(document, lost, tuple(parts), directories)


def _part(lines: Sequence[str], starts: Sequence[int], message: str) -> tuple[int, int]:
    """Return the first line, and the line after the last, of the part that an error is in."""
    position = _WHERE.search(message)
    if position is None:  # at the end of the file: the unclosed text began in the last part, or before it
        at = max((number for number, line in enumerate(lines) if line.strip()), default=0)
    else:
        at = min(int(position[1]) - 1, len(lines) - 1)
        opens = at in starts and int(position[2]) - 1 <= len(lines[at]) - len(lines[at].lstrip())
        if opens and at:  # because the error is that a table begins here, the part before it is unfinished
            at = max((number for number in range(at) if lines[number].strip()), default=0)
    first = max(number for number in starts if number <= at)
    return first, min((number for number in starts if number > first), default=len(lines))


def _too_deep(lines: Sequence[str], starts: Sequence[int]) -> tuple[int, int]:
    """Return the part that is nested too deeply, as `_part` does; raise `ValueError` if no part is by itself."""
    for first, end in pairwise((*starts, len(lines))):
        try:
            toml_text.loads("\n".join(lines[first:end]))
        except RecursionError:
            return first, end
        except ValueError:  # another error, whose turn comes
            continue
    raise ValueError("nested too deeply")


def _named(line: str) -> tuple[str, str]:
    """Return the table that a line begins, and its account; "" for what the line does not name."""
    header = _TABLE.match(line)
    if header is None:
        return "", ""
    table, name = (_plain(header[group] or "") for group in ("table", "name"))
    return table, name if table == "accounts" else ""


def _accounts(lines: Iterable[str]) -> list[str]:
    """Return the accounts whose tables these lines begin."""
    return [account for _, account in map(_named, lines) if account]


def _keys(lines: Sequence[str], prefix: str) -> list[str]:
    """Return the keys below a prefix that the lines assign."""
    key = re.compile(rf"""\s*{re.escape(prefix)}([\w-]+|"[^"]*"|'[^']*')\s*[.=]""")
    return [_plain(match[1]) for match in map(key.match, lines) if match]


def _plain(word: str) -> str:
    return word[1:-1] if word[:1] in ("'", '"') else word


def _directories(lines: Sequence[str]) -> dict[str, str | None]:
    """Find the two directories in lines that do not parse as a whole."""
    values: dict[str, str | None] = {}
    for line in lines:
        if match := _DIRECTORY.match(line):
            value = _STRING.match(match["value"])
            text = None if value is None else value["basic"] if value["basic"] is not None else value["literal"]
            doubled = match["key"] in values and values[match["key"]] != text
            values[match["key"]] = None if doubled else text
    return values
