"""The forms of log lines: text with a time, and JSON with one object a line; both have a form for systemd's journal.

`logging_setup` uses this in the thread that writes. Every form makes text from outside safe to print, and gives the
level once. Nothing here reads a clock or writes.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from kill_switch import clock, printable

FIELDS = ("account", "trigger", "route", "kill", "kind", "by", "do")  # keys of `extra` that become fields of JSON
STRAY = "stderr"  # logger of text that no logger has written
_PRIORITY = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_MOST_CAUSES = 10  # causes of an exception that are logged


class TrailPart(NamedTuple):
    """An exception or one of its causes: its text, and its places in the code; no source file has been read."""

    text: str
    places: Sequence[traceback.FrameSummary]

    def format(self) -> str:
        """Return it as Python's own tracebacks have it; this reads source files."""
        return f"{''.join(traceback.StackSummary.from_list(self.places).format())}{self.text}"


class LogEntry(NamedTuple):
    """A record of `logging`, with nothing that belongs to the thread which has logged it."""

    level: int
    wall_ns: int
    logger: str
    message: str
    fields: Mapping[str, str] = {}
    trail: Sequence[TrailPart] = ()


class LogForm(Protocol):
    """A form of log lines."""

    def entry(self, entry: LogEntry) -> str:
        """Return the entry as it is written, with its line feed."""

    def stray(self, text: str, wall_ns: int) -> str:
        """Return whole lines of text that no logger has written, as they are written."""


class TextForm:
    """Time, level and message; further lines of a message and its traceback are indented."""

    def entry(self, entry: LogEntry) -> str:
        line = f"{clock.iso(entry.wall_ns)} {logging.getLevelName(entry.level):<8} {_whole(entry)}"
        return printable.lines(line).replace("\n", "\n  ") + "\n"

    def stray(self, text: str, wall_ns: int) -> str:
        return text


class JournalForm:
    """The message behind its priority, which systemd's journal keeps beside its own time; see sd-daemon(3)."""

    def entry(self, entry: LogEntry) -> str:
        prefix = _prefix(entry)  # before every line, because the journal makes each an entry
        return prefix + printable.lines(_whole(entry)).replace("\n", f"\n{prefix}  ") + "\n"

    def stray(self, text: str, wall_ns: int) -> str:
        return text


class JsonForm:
    """JSON, one object a line: `ts`, `level`, `logger`, `msg`, the fields that are known, and `exception`."""

    def entry(self, entry: LogEntry) -> str:
        line: dict[str, str] = {
            "ts": clock.iso(entry.wall_ns),
            "level": logging.getLevelName(entry.level).lower(),
            "logger": entry.logger,
            "msg": printable.lines(entry.message),
        }
        line |= {name: printable.lines(value) for name, value in entry.fields.items()}
        if entry.trail:
            line["exception"] = printable.lines("\n".join(part.format() for part in entry.trail))
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"

    def stray(self, text: str, wall_ns: int) -> str:
        lines = (line for line in text.split("\n") if line.strip())
        return "".join(self.entry(LogEntry(logging.ERROR, wall_ns, STRAY, line)) for line in lines)


class JournalJsonForm(JsonForm):
    """The JSON object behind its priority, which systemd's journal takes off again."""

    def entry(self, entry: LogEntry) -> str:
        return _prefix(entry) + super().entry(entry)


def choose(form: str, environ: Mapping[str, str], descriptor: int) -> LogForm:
    """Return the form for `[daemon] log` and an open file; lines for systemd's journal begin with their priority."""
    to_journal = is_journal(environ.get("JOURNAL_STREAM", ""), descriptor)
    if form == "json":
        return JournalJsonForm() if to_journal else JsonForm()
    return JournalForm() if to_journal else TextForm()


def is_journal(stream: str, descriptor: int) -> bool:
    """Return whether `$JOURNAL_STREAM` names this open file; see systemd.exec(5).

    The variable alone is not enough, because shells and other programs inherit it.
    """
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def trail_of(error: BaseException | None) -> list[TrailPart]:
    """Return an exception and its causes, the first cause first. No source file is read."""
    causes: list[TrailPart] = []
    while error is not None and len(causes) < _MOST_CAUSES:
        places = [
            traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False)
            for frame, line in traceback.walk_tb(error.__traceback__)
        ]
        causes.append(TrailPart(_describe(error), places))
        for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            causes[:0] = trail_of(inner)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return causes[::-1]


def _prefix(entry: LogEntry) -> str:
    """Return the priority as sd-daemon(3) has it."""
    return f"<{_PRIORITY.get(entry.level, 6)}>"


def _whole(entry: LogEntry) -> str:
    return "\n".join((entry.message, *(part.format() for part in entry.trail)))


def _describe(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be shown)"
    return "\n".join((f"{name}: {text}" if text else name, *getattr(error, "__notes__", ())))
