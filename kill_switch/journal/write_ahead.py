"""Say in memory what is about to be done, so that it can be done before there is a record of it.

A kill's first commands leave before the journal has its reason: the engine, the record and a disk that is slow to take
it cost as much as all that a kill needs. What they must not cost is the latch. So one `write(2)` comes before them, of
one line into a file that is open already: `intent.jsonl` in the runtime directory, which is memory. It outlives the
process, and nothing there waits for a disk. A power cut takes it along, and with it what the journal has not synced.

The file is emptied once the record is in the journal's file. What the next process finds there and the journal does not
have is left as a latch. There is one writer, who holds `flock(2)` on it: another daemon in the same directory does
without.
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
MAX_BYTES = 1 << 20  # far more than the reasons that come while a disk takes no record
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
_MODE = 0o600  # who may read a file may lock it too, and a daemon without the lock does without the file

_Key = tuple[object, object, tuple[object, ...]]  # when a reason was observed, by both clocks, and whom it names


class FoundNotes(NamedTuple):
    """What opening the file has come to."""

    fd: int  # -1: it cannot be opened
    size: int
    lines: list[bytes]  # that nobody will put on record any more
    trouble: str


class WriteAheadNote:
    """Hold the file open; `found` are lines in it that nobody will put on record any more.

    `note`, `fulfil` and all that a kill waits for use the descriptor alone. `look` and `remove` use the file's name and
    may wait for its file system. They change nothing here, and run in another thread.
    """

    def __init__(self, path: Path) -> None:
        self.trouble = ""  # why there is none: commands wait for the record then
        self._path = path
        self._fd = -1
        self._size = 0
        self._awaited: dict[_Key, bytes] = {}  # lines that are in the file, and in no record yet
        self._on_way: dict[_Key, tuple[int, bytes]] = {}  # lines whose record, of that number, is not written yet
        self._told_unreadable = False
        self.unrecorded_lines: list[bytes] = []
        self.adopt(self._open())

    def write(self, reason: Reason) -> bool:
        """Write a reason's line before this returns; False if it may not be there: nothing may rely on it."""
        observed = reason.observed_at
        key = observed.mono_ns, observed.wall_ns, reason.accounts
        return self._note(key, f"{reason.trigger}: {reason.text}")

    def covers(self, data: Mapping[str, object]) -> bool:
        """Tell whether a reason's record may wait: its line is in the file, or is written now."""
        key = _key(data, "observed_")
        noted = key in self._awaited or key in self._on_way
        return noted or self._note(key, f"{data.get('trigger')}: {data.get('text')}")

    def mark_recorded(self, data: Mapping[str, object], number: int) -> None:
        """Take note that a reason is in the record of this number, which is on its way into the journal."""
        key = _key(data, "observed_")
        if (line := self._awaited.pop(key, None)) is not None:
            self._on_way[key] = number, line

    def truncate_if_recorded(self, written: int) -> None:
        """Empty the file, if the journal has all that it says: it has the records up to this number."""
        if self._on_way:
            self._on_way = {key: pending for key, pending in self._on_way.items() if pending[0] > written}
        if self._size and not self._awaited and not self._on_way and not self.unrecorded_lines:
            try:
                os.ftruncate(self._fd, 0)
            except OSError as error:  # the next process knows by the record that this is old
                self.trouble = f"{self._path}: {error.strerror}"
            else:
                self._size, self.trouble = 0, ""

    def give_up(self) -> None:
        """Take for found what is in no record: to be called when no reason is being reported, so it has met a fault."""
        self.unrecorded_lines += self._awaited.values()
        self._awaited.clear()

    def look(self) -> FoundNotes | None:
        """Open the file anew if it is not there, or not ours any more; None if all is well. It may wait."""
        return None if self._fd >= 0 and self._there() else self._open()

    def adopt(self, notes: FoundNotes) -> None:
        """Go over to the file that `look` has opened, with the lines that the journal does not have yet."""
        self.close()
        self._fd, self._size, self.trouble = notes.fd, notes.size, notes.trouble
        self.unrecorded_lines += notes.lines
        if self._fd >= 0:
            for _, line in self._on_way.values():
                self._put(line + b"\n")

    def reopen_if_removed(self) -> None:
        """Do at once what `look` and `adopt` do in two steps."""
        self.give_up()
        if (notes := self.look()) is not None:
            self.adopt(notes)
        else:
            self.on_file_present()

    def on_file_present(self) -> None:
        """Hear that the file is there: if it is empty, what there was no room for is past."""
        if not self._size:
            self.trouble = ""

    def remove(self) -> None:
        """Remove a file that cannot be opened, and whose lines have been left as a latch. It may wait."""
        with contextlib.suppress(OSError):  # the directory is ours
            self._path.unlink()

    @property
    def is_pending(self) -> bool:
        """A reason is in the file, and not in the journal yet."""
        return bool(self._awaited or self._on_way)

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def discard_found(self, lines: Sequence[bytes], written: int) -> None:
        """Empty the file of these lines that were found, if there is nothing else: they have been left as a latch."""
        self.unrecorded_lines = [line for line in self.unrecorded_lines if line not in lines]
        self.truncate_if_recorded(written)

    def close(self) -> None:
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
                return False  # somebody has removed it, and nobody would find it
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
            with contextlib.suppress(OSError):  # not ours: root's, or of an earlier version
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
            return FoundNotes(-1, 0, [b"unreadable"] if not held and self._says_something() else [], trouble)

    def _says_something(self) -> bool:
        """Tell, once, that a file with something in it stands where ours cannot be opened."""
        if self._told_unreadable:
            return False
        self._told_unreadable = True
        try:
            status = os.lstat(self._path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size > 0

    def _there(self) -> bool:
        try:
            here, ours = os.stat(self._path), os.fstat(self._fd)
        except OSError:
            return False
        return (here.st_dev, here.st_ino) == (ours.st_dev, ours.st_ino)


def unrecorded(lines: Sequence[bytes], entries: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return those of an intent's lines that the journal's entries do not have the reason of."""
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
    """Return what tells a reason's record from all others, short enough for a checkpoint to have many."""
    return _digest(_key(data, "observed_"))


def _digest(key: _Key) -> str:
    return hashlib.blake2b(repr(key).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


def _key(data: Mapping[str, Any], prefix: str) -> _Key:
    """Return what tells a reason from all others."""
    accounts = data.get("accounts")
    names = tuple(accounts) if isinstance(accounts, list | tuple) else ()
    return data.get(f"{prefix}mono_ns"), data.get(f"{prefix}wall_ns"), names


def _line(key: _Key, text: str) -> bytes:
    line = {"text": text, "accounts": key[2], "mono_ns": key[0], "wall_ns": key[1]}
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError):
        return orjson.dumps({**line, "text": json_safe(text)}, option=orjson.OPT_APPEND_NEWLINE)
