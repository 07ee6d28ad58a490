"""The write-ahead note: one line in `intent.jsonl` before the first cancel command, one `write(2)` into memory.

The first commands leave before the reason is in the journal, because the engine and the journal would double the
latency. The file is in the runtime directory (tmpfs): the note survives the process, not a power failure. It is emptied
when the journal has the record; a note without a record becomes a latch.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kill_switch.core.domain import Reason
from kill_switch.journal.plain_json import json_safe
from kill_switch.system.file_access import open_ours

NAME = "intent.jsonl"
MAX_BYTES = 1 << 20  # bytes that are read of the file; reasons that come while the disk fails are far fewer
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
_MODE = 0o600  # because a user who can read a file can also lock it, and a daemon without the lock has no note

_Key = tuple[object, object, tuple[object, ...]]  # monotonic and wall time of a reason, and its accounts


class FoundNotes(NamedTuple):
    """The result of opening the note's file."""

    fd: int  # -1: it cannot be opened
    size: int  # bytes
    lines: list[bytes]  # notes of an earlier process, or one unreadable line
    trouble: str  # why the file cannot be opened, "" if it is


class WriteAheadNote:
    """The open file of the notes, locked by this process.

    `write`, `covers` and `truncate_if_recorded` use the descriptor alone. `look` and `remove` use the file's name, and
    may wait for its file system. They run in another thread, and change nothing that the other methods use.
    """

    def __init__(self, path: Path) -> None:
        """Open and lock the file; `trouble` is set if that fails. May block."""
        self.trouble = ""  # why no note can be written: commands then wait for the record
        self._path = path
        self._fd = -1
        self._size = 0
        self._awaited: dict[_Key, bytes] = {}  # lines in the file whose reason has no record yet
        self._on_way: dict[_Key, tuple[int, bytes]] = {}  # lines whose record has that number and is not written yet
        self._reported_unreadable = False
        self.unrecorded_lines: list[bytes] = []  # lines that no record will follow: they become latches
        self.adopt(self._open())

    def write(self, reason: Reason) -> bool:
        """Write a reason's line with one `write(2)`; return False if it may not be in the file."""
        observed = reason.observed_at
        key = observed.mono_ns, observed.wall_ns, reason.accounts
        return self._note(key, f"{reason.trigger}: {reason.text}")

    def covers(self, data: Mapping[str, object]) -> bool:
        """Return whether a reason's line is in the file; write it if it is not there yet."""
        key = _key(data, "observed_")
        noted = key in self._awaited or key in self._on_way
        return noted or self._note(key, f"{data.get('trigger')}: {data.get('text')}")

    def mark_recorded(self, data: Mapping[str, object], number: int) -> None:
        """Assign a reason's line to the record of this number, which the journal will write."""
        key = _key(data, "observed_")
        if (line := self._awaited.pop(key, None)) is not None:
            self._on_way[key] = number, line

    def truncate_if_recorded(self, written: int) -> None:
        """Empty the file if the journal has the records of all its lines; it has those up to number `written`."""
        if self._on_way:
            self._on_way = {key: pending for key, pending in self._on_way.items() if pending[0] > written}
        if self._size and not self._awaited and not self._on_way and not self.unrecorded_lines:
            try:
                os.ftruncate(self._fd, 0)
            except OSError as error:  # the next process finds the record and discards the line
                self.trouble = f"{self._path}: {error.strerror}"
            else:
                self._size, self.trouble = 0, ""

    def give_up(self) -> None:
        """Move the lines without a record to `unrecorded_lines`.

        Call it only when no reason is being reported: a line is then left over from a fault.
        """
        self.unrecorded_lines += self._awaited.values()
        self._awaited.clear()

    def look(self) -> FoundNotes | None:
        """Open the file again if it was removed or replaced; return None if it is in place. May block."""
        return None if self._fd >= 0 and self._is_in_place() else self._open()

    def adopt(self, notes: FoundNotes) -> None:
        """Use the file that `look` has opened, and write the lines into it that the journal lacks."""
        self.close()
        self._fd, self._size, self.trouble = notes.fd, notes.size, notes.trouble
        self.unrecorded_lines += notes.lines
        if self._fd >= 0:
            for _, line in self._on_way.values():
                self._put(line + b"\n")

    def reopen_if_removed(self) -> None:
        """Look at the file and adopt the result at once. May block."""
        self.give_up()
        if (notes := self.look()) is not None:
            self.adopt(notes)
        else:
            self.on_file_present()

    def on_file_present(self) -> None:
        """Clear the trouble if the file is in place and empty: the line without room is recorded."""
        if not self._size:
            self.trouble = ""

    def remove(self) -> None:
        """Remove a file that cannot be opened, after its lines became a latch. May block."""
        with contextlib.suppress(OSError):  # the directory is ours
            self._path.unlink()

    @property
    def is_pending(self) -> bool:
        """True while a reason is in the file and not in the journal."""
        return bool(self._awaited or self._on_way)

    @property
    def is_open(self) -> bool:
        """True if this process has the file open and locked."""
        return self._fd >= 0

    def discard_found(self, lines: Sequence[bytes], written: int) -> None:
        """Drop these lines, which became latches, and empty the file if it has no others."""
        self.unrecorded_lines = [line for line in self.unrecorded_lines if line not in lines]
        self.truncate_if_recorded(written)

    def close(self) -> None:
        """Close the file, and so release its lock."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _note(self, key: _Key, text: str) -> bool:
        if self._fd < 0:
            return False
        line = _line(key, text)
        if not self._put(line):
            return False
        self._awaited[key] = line[:-1]
        return True

    def _put(self, line: bytes) -> bool:
        try:
            if not os.fstat(self._fd).st_nlink:
                return False  # the file was removed, and the next process would not find the line
            written = os.write(self._fd, line)
            if written == len(line):
                self._size += written
                self.trouble = ""
                return True
            os.ftruncate(self._fd, self._size)
            self.trouble = f"{self._path}: no room for a whole line"
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror}"
        return False

    def _open(self) -> FoundNotes:
        fd = -1
        try:
            fd = open_ours(self._path, _FLAGS, _MODE)
            with contextlib.suppress(OSError):  # another user's file, such as root's
                os.fchmod(fd, _MODE)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(fd).st_size
            lines = os.pread(fd, MAX_BYTES, 0).removesuffix(b"\n").split(b"\n") if size else []
            return FoundNotes(fd, size, lines, "")
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            held = isinstance(error, BlockingIOError)
            trouble = f"{self._path}: {'another process holds it' if held else error.strerror}"
            return FoundNotes(-1, 0, [b"unreadable"] if not held and self._has_unreadable_lines() else [], trouble)

    def _has_unreadable_lines(self) -> bool:
        """Return, at the first call only, whether the file that cannot be opened is not empty."""
        if self._reported_unreadable:
            return False
        self._reported_unreadable = True
        try:
            status = os.lstat(self._path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size > 0

    def _is_in_place(self) -> bool:
        try:
            here, ours = os.stat(self._path), os.fstat(self._fd)
        except OSError:
            return False
        return (here.st_dev, here.st_ino) == (ours.st_dev, ours.st_ino)


def unrecorded(lines: Sequence[bytes], entries: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return those of a note's lines whose reason is not in the journal's entries."""
    if not lines:
        return []
    recorded: set[str] = set()
    for entry in entries:
        if entry["kind"] == "reason":
            recorded.add(reason_digest(entry["data"]))
        elif entry["kind"] == "checkpoint":
            recorded.update(entry["data"].get("reasons", ()))
    left = []
    for line in lines:
        try:
            known = _digest(_key(orjson.loads(line), "")) in recorded
        except (orjson.JSONDecodeError, AttributeError):
            known = False
        if not known:
            left.append(line)
    return left


def reason_digest(data: Mapping[str, Any]) -> str:
    """Return a 16-digit digest of a reason's record, by which a checkpoint knows the reason."""
    return _digest(_key(data, "observed_"))


def _digest(key: _Key) -> str:
    return hashlib.blake2b(repr(key).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


def _key(data: Mapping[str, Any], prefix: str) -> _Key:
    """Return the times and accounts that identify a reason."""
    accounts = data.get("accounts")
    names = tuple(accounts) if isinstance(accounts, list | tuple) else ()
    return data.get(f"{prefix}mono_ns"), data.get(f"{prefix}wall_ns"), names


def _line(key: _Key, text: str) -> bytes:
    line = {"text": text, "accounts": key[2], "mono_ns": key[0], "wall_ns": key[1]}
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError):
        return orjson.dumps({**line, "text": json_safe(text)}, option=orjson.OPT_APPEND_NEWLINE)
