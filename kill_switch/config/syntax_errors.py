"""Find every syntax error of a TOML text, and the parts that can still be checked.

`run`, `check` and `reload` refuse such a file as a whole, and name all of its faults at once. Nothing of the rest is
ever used; a direct kill uses `salvage` instead. No error is reported that only another one causes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kill_switch.config import toml_text
from kill_switch.config.messages import config_path
from kill_switch.errors import Problem

MOST = 20  # errors that are reported of a file
MOST_SEARCHED = 200_000  # characters; of a longer file the first error is reported, because the search takes seconds
MOST_JOINED = 8  # pieces that a value may extend over, because a line of it looks like a table's header
UNKNOWN = ""  # among the faulty tables: any table may be incomplete
_MAX_QUOTED = 160  # characters of the parser's message
_HINT = 'expected TOML: key = "value", with strings in quotes'
_POSITION = re.compile(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)")
_NO_QUOTE = "Illegal character '\\n'"  # the parser's words
_HEADER = re.compile(
    r"""\s*+\[++[\w\s."'-]++\]*+\s*+(?:#.*)?\Z"""
)  # because a bracket may be missing, or be one too many
_NAMED = re.compile(r"""\s*\[+\s*([\w-]+)(?:\s*\.\s*([\w-]+|"[^"]*"|'[^']*'))?""")
_PAIR = re.compile(r"""[\w\s."'-]++=""")
_MULTILINE = ('"""', "'''")


class SyntaxFaults(NamedTuple):
    """The errors of a text, and the rest of it, which parses."""

    problems: tuple[Problem, ...]
    text: str  # each line that is not understood is empty
    tables: Mapping[str, Any]
    faulty: frozenset[str]  # tables with such lines, as `accounts.mm1`; `UNKNOWN`: any may be one


def find(text: str) -> SyntaxFaults:
    """Return the syntax errors of a text, the first one first; raises `ValueError` or `RecursionError` as `tomllib`.

    `ValueError` is raised only for a number with too many digits, which has no place.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    try:
        return SyntaxFaults((), text, toml_text.loads("\n".join(lines)), frozenset())
    except ValueError as error:
        if not _POSITION.fullmatch(str(error)):
            raise
        if len(text) > MOST_SEARCHED:
            return SyntaxFaults((_problem(*_read(str(error))),), "", {}, frozenset({UNKNOWN}))
    search = _Search(lines)
    search.look_at_pieces()
    tables = search.look_at_whole()
    problems = tuple(_problem(*error) for error in sorted(search.errors))
    return SyntaxFaults(problems, "\n".join(search.left), tables, frozenset(search.faulty))


def still_true(problems: Iterable[Problem], faulty: Collection[str]) -> Iterator[Problem]:
    """Yield the problems of the rest that are true whatever the lines say that are not understood."""
    if not faulty:
        yield from problems
        return
    for problem in problems if UNKNOWN not in faulty else ():
        path = problem.path
        if any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in faulty):
            continue
        if path == "accounts" or (path.startswith("triggers.") and re.search(r"\.accounts(\[\d+\])?\Z", path)):
            continue  # because an account may be meant that is not understood
        if path.startswith(("accounts.", "triggers.")) and any(name.split(".")[0] in _DECIDING for name in faulty):
            continue
        yield problem


_OF_NAMED = ("accounts", "triggers", "defaults")  # tables of tables
_DECIDING = ("daemon", "defaults")  # tables by which accounts and triggers are judged


class _Search:
    """Lines, what is left of them, and the errors that were found."""

    def __init__(self, lines: list[str]) -> None:
        self.left = list(lines)
        self.errors: list[tuple[int, str, str]] = []  # line from 0, place, description
        self.faulty: set[str] = set()
        headers = [number for number, line in enumerate(lines) if number and _HEADER.match(line)]
        self._starts = [0, *headers]
        self._lines = lines

    def look_at_pieces(self) -> None:
        """Parse each table by itself; note its errors, and empty what is not understood."""
        position = 0
        while position < len(self._starts) and len(self.errors) < MOST:
            position += self._joined(position) or self._mend(position)

    def look_at_whole(self) -> Mapping[str, Any]:
        """Parse what is left; note each table that contradicts an earlier one, and leave it out."""
        while True:
            try:
                return toml_text.loads("\n".join(self.left))
            except ValueError as error:
                if len(self.errors) >= MOST:
                    self.faulty.add(UNKNOWN)
                    return {}
                number, *words = _read(str(error))
                position = max(at for at, start in enumerate(self._starts) if start <= number)
                self._note(position, number, *words)
                self._empty(self._starts[position], self._end(position))

    def _joined(self, position: int) -> int:
        """Return how many pieces from this one on parse together; 0: none do."""
        for count in range(1, MOST_JOINED + 1):
            if position + count > len(self._starts):
                break
            if self._error(self._starts[position], self._end(position + count - 1)) is None:
                return count
        return 0

    def _mend(self, position: int) -> int:
        """Note the errors of a piece; return how many pieces are done with: this one, or all."""
        first, end = self._starts[position], self._end(position)
        while (error := self._error(first, end)) is not None and len(self.errors) < MOST:
            number, *words = _read(error, first, end if end < len(self.left) else 0)
            self._note(position, number, *words)
            if self._is_pair(number) and self._error(first, number) is None:
                self._empty(number, number + 1)
            elif any(quotes in line for line in self.left[first:end] for quotes in _MULTILINE):
                self.faulty.add(UNKNOWN)  # because it is not known where the text ends
                self._empty(first, len(self.left))
                return len(self._starts)
            else:
                self._empty(first, end)
        return 1

    def _is_pair(self, number: int) -> bool:
        """Return whether a line is a key and a value that no other line belongs to."""
        line = self.left[number]
        is_closed = all(line.count(begin) == line.count(end) for begin, end in ("[]", "{}"))
        return bool(_PAIR.match(line)) and is_closed and not any(quotes in line for quotes in _MULTILINE)

    def _end(self, position: int) -> int:
        return self._starts[position + 1] if position + 1 < len(self._starts) else len(self.left)

    def _error(self, first: int, end: int) -> str | None:
        """Return the parser's message for these lines, the first of which it counts as 1; None if they parse."""
        try:
            toml_text.loads("\n".join(self.left[first:end]) + ("\n" if end < len(self.left) else ""))
        except ValueError as error:
            return str(error)
        return None

    def _note(self, position: int, number: int, place: str, why: str) -> None:
        self.errors.append((number, place, why))
        header = _NAMED.match(self._lines[self._starts[position]])
        table, name = (header[1], header[2]) if header else (UNKNOWN, None)
        if table in _OF_NAMED:
            self.faulty.add(config_path(table, name.strip("\"'")) if name else UNKNOWN)
        else:
            self.faulty.add(config_path("", table) if table else UNKNOWN)

    def _empty(self, first: int, end: int) -> None:
        self.left[first:end] = [""] * (end - first)


def _read(message: str, first: int = 0, end: int = 0) -> tuple[int, str, str]:
    """Return the line from 0, the place and the description of the parser's message for the lines from `first` on.

    `end` is behind the last of them; 0: they go to the end of the document.
    """
    position = _POSITION.fullmatch(message)
    if position is None:
        return first, f"line {first + 1}", "a number with too many digits"
    why = "the string has no closing quote" if position[1] == _NO_QUOTE else position[1][:1].lower() + position[1][1:]
    if position[2] is None:
        return first, f"lines {first + 1} to {end}" if end else "end of document", why
    number = first + int(position[2])
    return number - 1, f"line {number}, column {position[3]}", why


def _problem(number: int, place: str, why: str) -> Problem:
    is_long = len(why) > _MAX_QUOTED  # it may contain a key of any length
    return Problem(place, f"{why[: _MAX_QUOTED // 2]}…{why[-_MAX_QUOTED // 2 :]}" if is_long else why, _HINT)
