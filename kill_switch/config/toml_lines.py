"""Find the lines of a configuration's keys, for messages; read only where there are problems.

`tomllib` gives no lines, and each library that does parses the file a second time, a hundred times slower. This scanner
relies on a text that `tomllib` has accepted: it finds where keys and elements begin, and reads no value.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kill_switch.config import syntax_errors
from kill_switch.config.included_files import read_regular
from kill_switch.config.messages import config_path
from kill_switch.errors import Problem

_SPACE = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[\s,]|#[^\n]*)*")  # between statements, and between the elements of an array
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''(?s:.)*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'", re.DOTALL)
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
_SCALAR = re.compile(r"[^,\]}#\n]+")
Path_ = tuple[str | int, ...]


def located(files: Sequence[Path], problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems, each once, and with the file and the line of its key; the main file comes first in `files`.

    A key that is missing has the line of its table. A problem that has a place keeps it.
    """
    places: dict[str, str] = {}
    for file in files:
        with suppress(OSError, ValueError, RecursionError):
            lines = key_lines(syntax_errors.find(read_regular(file).decode("utf-8-sig")).text)
            places = {key: f"{file}:{line}" for key, line in lines.items()} | places
    return [
        problem if problem.place else replace(problem, place=_place(problem.path, places))
        for problem in dict.fromkeys(problems)
    ]


def key_lines(text: str) -> Mapping[str, int]:
    """Return the line of each key and each element of an array, by its path as messages write it."""
    return _Scanner(text.replace("\r\n", "\n")).scan()


def _place(path: str, places: Mapping[str, str]) -> str:
    """Return the place of a key; of the innermost table or array around it, if the file does not have it."""
    while path and path not in places:
        outer = re.sub(r"""(?:\.[A-Za-z0-9_-]+|\."(?:\\.|[^"\\])*"|\.?[^.\[\]]*…|\[[0-9]+\])\Z""", "", path)
        path = "" if outer == path else outer
    return places.get(path, "")


class _Scanner:
    """A position in a text, and the lines that were found."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[str, int] = {}

    def scan(self) -> Mapping[str, int]:
        """Return what was found; a text that is no TOML ends the scan early."""
        table: Path_ = ()
        counts: dict[Path_, int] = {}
        self._take(_GAP)
        while self._at < len(self._text):
            before = self._at
            if self._text.startswith("[", self._at):
                is_array = self._text.startswith("[[", self._at)
                self._at += 2 if is_array else 1
                table = self._keys(())
                if is_array:
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
                    self._note(table, before)
                self._at = self._text.find("\n", self._at) % (len(self._text) + 1)
            else:
                self._pair(table)
            self._take(_GAP)
            if self._at <= before:
                break
        return self._lines

    def _pair(self, table: Path_) -> None:
        path = self._keys(table)
        self._take(_SPACE)
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: Path_) -> None:
        self._take(_SPACE)
        first = self._text[self._at : self._at + 1]
        if first in ("'", '"'):
            self._take(_STRING)
        elif first == "[":
            self._at += 1
            self._elements(path, "]")
        elif first == "{":
            self._at += 1
            self._elements(path, "}")
        else:
            self._take(_SCALAR)

    def _elements(self, path: Path_, end: str) -> None:
        number = 0
        while True:
            self._take(_GAP)
            before = self._at
            if self._text.startswith(end, before):
                self._at += 1
                return
            if end == "}":
                self._pair(path)
            else:
                self._note((*path, number), before)
                self._value((*path, number))
                number += 1
            if self._at <= before:
                return

    def _keys(self, table: Path_) -> Path_:
        """Read a dotted key, and note each part of it."""
        path = table
        while True:
            self._take(_SPACE)
            begin = self._at
            word = self._take(_KEY)
            path = (*path, word[1:-1] if word[:1] in ("'", '"') else word)
            self._note(path, begin)
            self._take(_SPACE)
            if not self._text.startswith(".", self._at):
                return path
            self._at += 1

    def _note(self, path: Path_, at: int) -> None:
        self._lines.setdefault(config_path("", *path), bisect_left(self._ends, at) + 1)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]
