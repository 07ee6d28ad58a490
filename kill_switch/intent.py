"""Say in memory what is about to be done, so that it can be done before there is a record of it.

A kill's first commands leave before the journal has its reason: the engine, the record and a disk that is slow to take
it cost as much as all that a kill needs. What they must not cost is the latch. So one `write(2)` comes before them, of
one line into a file that is open already: `intent.jsonl` in the runtime directory, which is memory. It outlives the
process, and nothing there waits for a disk. A power cut takes it along, and with it what the journal has not synced.

The file is emptied once the journal has the record. What the next process finds there and the journal does not have is
left as a latch. There is one writer, who holds `flock(2)` on it: another daemon in the same directory does without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from kill_switch.domain import Reason
from kill_switch.latches import tellable
from kill_switch.ours import open_ours

NAME = "intent.jsonl"
MOST_BYTES = 1 << 16
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW

_Key = tuple[object, object, tuple[object, ...]]  # when a reason was observed, by both clocks, and whom it names


class Intent:
    """Hold the file open; `found` are lines in it that nobody will put on record any more."""

    def __init__(self, path: Path) -> None:
        self.trouble = ""  # why there is none: commands wait for the record then
        self._path = path
        self._fd = -1
        self._size = 0
        self._awaited: dict[_Key, bytes] = {}  # lines that are in the file, and on no record yet
        self._told_unreadable = False
        self.found = self._open()

    def note(self, reason: Reason) -> bool:
        """Write a reason's line before this returns; False if it may not be there: nothing may rely on it."""
        if self._fd < 0:
            return False
        line = _line(reason)
        try:
            if not os.fstat(self._fd).st_nlink:
                return False  # somebody has removed it, and nobody would find it
            written = os.write(self._fd, line)
            if written == len(line):
                self._size += written
                self._awaited[reason.observed.mono_ns, reason.observed.wall_ns, reason.accounts] = line[:-1]
                self.trouble = ""
                return True
            os.ftruncate(self._fd, self._size)
            self.trouble = f"{self._path}: no room for a whole line"
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror}"
        return False

    def recorded(self, data: Mapping[str, object]) -> None:
        """Take note of a reason's record, which is on its way into the journal."""
        self._awaited.pop(_key(data, "observed_"), None)

    def fulfil(self) -> None:
        """Empty the file, if there is a record of all that it says."""
        if self._size and not self._awaited and not self.found:
            try:
                os.ftruncate(self._fd, 0)
            except OSError as error:  # the next process knows by the record that this is old
                self.trouble = f"{self._path}: {error.strerror}"
            else:
                self._size, self.trouble = 0, ""

    def mend(self) -> None:
        """Make the file again if somebody has removed it, and find in it what will get on no record.

        To be called when no reason is being reported: what is still awaited has met a fault.
        """
        self.found += self._awaited.values()
        self._awaited.clear()
        if self._fd >= 0 and not self._there():
            self.close()
            self._size = 0
        if self._fd < 0:
            self.found += self._open()
        elif not self._size:
            self.trouble = ""  # there was no room, once

    def forget(self) -> None:
        """Empty the file of what was found, which has been left as a latch; one that cannot be opened is removed."""
        if self._fd < 0 and self.found:
            with contextlib.suppress(OSError):  # the directory is ours
                self._path.unlink()
                self._open()
        self.found = []
        self.fulfil()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open(self) -> list[bytes]:
        try:
            self._fd = open_ours(self._path, _FLAGS)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size, self.trouble = os.fstat(self._fd).st_size, ""
            return os.pread(self._fd, MOST_BYTES, 0).removesuffix(b"\n").split(b"\n") if self._size else []
        except OSError as error:
            self.close()
            held = isinstance(error, BlockingIOError)
            self.trouble = f"{self._path}: {'another process holds it' if held else error.strerror}"
            return [b"unreadable"] if not held and self._says_something() else []

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
    recorded = [_key(entry["data"], "observed_") for entry in entries if entry["kind"] == "reason"] if lines else []
    left = []
    for line in lines:
        try:
            known = _key(orjson.loads(line), "") in recorded
        except (orjson.JSONDecodeError, AttributeError):
            known = False
        if not known:
            left.append(line)
    return left


def _key(data: Mapping[str, Any], prefix: str) -> _Key:
    """Return what tells a reason from all others."""
    accounts = data.get("accounts")
    names = tuple(accounts) if isinstance(accounts, list | tuple) else ()
    return data.get(f"{prefix}mono_ns"), data.get(f"{prefix}wall_ns"), names


def _line(reason: Reason) -> bytes:
    observed = reason.observed
    line = {
        "text": f"{reason.trigger}: {reason.text}",
        "accounts": reason.accounts,
        "mono_ns": observed.mono_ns,
        "wall_ns": observed.wall_ns,
    }
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError):
        return orjson.dumps({**line, "text": tellable(line["text"])}, option=orjson.OPT_APPEND_NEWLINE)
