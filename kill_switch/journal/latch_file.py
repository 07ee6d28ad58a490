"""Leave a latch in a file, and find one: how a kill is told to whoever holds the journal, or will.

`latch.jsonl` stands in the state directory, and in the runtime directory too where that one has no room for it, and
holds a JSON object a line. Its mere presence trips; a line that cannot be understood trips every account. Whoever
writes or removes it holds `flock(2)` on it meanwhile, so that a line that comes between the reading and the removal is
not lost. Nobody waits for that lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from kill_switch import clock
from kill_switch.core.domain import Reason
from kill_switch.journal.latch_lines import latch_line
from kill_switch.system.file_access import open_ours

LATCH_NAME = "latch.jsonl"
MAX_BYTES = 1 << 16
_TRIES = 5
_MODE = 0o600  # who may read a file may lock it too, and a latch file that is locked is not removed


class LatchFile:
    """Look after one latch file: what is in it, and which of its lines are ours.

    `look`, `leave` and `remove` use the file's name, and may wait for its file system: they run in other threads, and
    what they have found comes back in `events`. The other methods belong to the one thread that decides.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble = ""  # why it cannot be removed, though it is to go
        self.exists = False  # something was left, or found, and has not been removed since
        self._found: list[str] = []
        self._known: set[str] = set()  # lines that this process has left, or taken over
        self._events: deque[tuple[str, list[str]]] = deque()
        self._lock = threading.Lock()  # no two threads are at the file and the events at a time

    # in any thread

    def look(self) -> bool:
        """Read the file; True if somebody else may have left something."""
        with self._lock:
            lines = _lines(self.path)
            self._events.append(("found", lines))
        return any(line not in self._known for line in lines)

    def append_line(self, line: bytes) -> bool | None:
        """Leave a line of our own; False if there is no room for all of it, None if nothing could be left."""
        with self._lock:
            left = append_to_first((self.path,), line)
            self._events.append(("left", left))
        return len(left[0].encode("utf-8", "replace")) >= len(line) if left else None

    def remove(self, known: Collection[str]) -> None:
        """Remove the file, unless it holds a line that is not known."""
        with self._lock:
            try:
                if _remove(self.path, known):
                    self._events.append(("gone", []))
            except OSError as error:
                self._events.append(("stuck", [f"{self.path}: {error.strerror}"]))

    def sync(self) -> None:
        """Have the file put on the disk, if it is there."""
        sync((self.path,))

    # in the thread that decides

    def poll(self) -> None:
        """Take note of what the other threads have found, in its order."""
        while self._events:
            kind, lines = self._events.popleft()
            match kind:
                case "found":
                    self._found, self.exists = lines, bool(lines)
                case "left":
                    self._known.update(lines)
                    self.exists = self.exists or bool(lines)
                case "gone":
                    self._known.clear()
                    self._found, self.exists, self.trouble = [], False, ""
                case _:
                    self.trouble = lines[0]

    def unseen_lines(self) -> list[str]:
        """Return the lines that somebody else has left, as far as they were looked at. An empty file is one."""
        self.poll()
        return [line for line in self._found if line not in self._known]

    def acknowledge(self, lines: Iterable[str]) -> None:
        """Take over what `foreign` has returned: it is not returned again."""
        self._known.update(lines)

    def known(self) -> frozenset[str]:
        self.poll()
        return frozenset(self._known)


def leave_latch(state_dir: Path, runtime_dir: Path, reason: Reason) -> bool:
    """Leave a latch for the daemon that holds the journal; False if no directory takes it."""
    line = latch_line(f"{reason.trigger}: {reason.text}", reason.accounts, reason.observed_at)
    return bool(append_to_first((state_dir / LATCH_NAME, runtime_dir / LATCH_NAME), line))


def append_to_first(paths: Sequence[Path], line: bytes, *, sync: bool = False) -> list[str]:
    """Append a line to the first file that takes all of it; return what each has taken, where a full disk cut it.

    A file with half of it, or with nothing, trips as well, but says nothing new to somebody who has seen such a one.
    """
    left = []
    for path in paths:
        try:
            taken = _append(path, line, sync=sync)
        except OSError:
            continue
        left.append(line[:taken].decode("utf-8", "replace"))
        if taken > len(line):
            break
    return left


def append_trouble(path: Path, line: bytes) -> str:
    """Try to leave a line in a file; return why it takes nothing of it, "" if it does."""
    try:
        _append(path, line, sync=False)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def files_with_lines(paths: Iterable[Path]) -> dict[Path, list[str]]:
    """Return those of these files that trip a daemon at its start, with their lines. It may wait."""
    contents = ((path, _lines(path)) for path in paths)
    return {path: lines for path, lines in contents if lines}


def remove_lines(paths: Iterable[Path], lines: Collection[str]) -> None:
    """Remove the files that hold nothing but these lines: what they say is on record. Raises `OSError`."""
    for path in paths:
        _remove(path, lines)


def sync_latch(state_dir: Path, runtime_dir: Path) -> None:
    """Have what was left put on the disk; may take as long as the disk does. What is gone has been taken over."""
    sync((state_dir / LATCH_NAME, runtime_dir / LATCH_NAME))


def sync(paths: Iterable[Path]) -> None:
    """Have those of these files that are there put on the disk, with their names."""
    for path in paths:
        try:
            sync_file(path)
            sync_file(path.parent)
        except OSError:
            continue  # nothing is better than it was


def sync_file(path: Path) -> None:
    """Have a file, or what names there are in a directory, put on the disk; raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that syncs no directory by itself
            raise
    finally:
        os.close(fd)


def _lines(path: Path) -> list[str]:
    """Return a latch file's lines; of one that cannot be read, or not to its end, a line that says which one it is.

    Its size and its times are in that line, so that another latch, in the same file or in its place, is news.
    """
    try:
        fd = open_ours(path, os.O_RDONLY)
        try:
            status = os.fstat(fd)
            content = os.read(fd, MAX_BYTES).decode("utf-8", "replace")
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return []
        return [_unreadable(path, "a link to nowhere")]
    except OSError as error:
        return [_unreadable(path, error.strerror or "no")]
    lines = content.removesuffix("\n").split("\n")
    if status.st_size > MAX_BYTES:
        lines.append(_unreadable(path, "more than anybody reads"))
    return lines


def _unreadable(path: Path, why: str) -> str:
    try:
        status = os.lstat(path)
    except OSError:
        return f"{path}: {why}"
    which = f"{status.st_ino}, {status.st_size} bytes, {status.st_mtime_ns}"
    return f"{path}: {why} (uid {status.st_uid}, file {which})"


def _remove(path: Path, known: Collection[str]) -> bool:
    """Remove a file unless it holds a line that is not known, or somebody is at it; True if it is gone.

    One that cannot be opened is kept under another name, as evidence: nobody takes it for a latch there.
    """
    try:
        fd = open_ours(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return not path.is_symlink() or _move_aside(path, known)
    except OSError:
        return _move_aside(path, known)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not set(_lines(path)) <= set(known):
            return False
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False  # who writes it now writes news
    finally:
        os.close(fd)
    return True


def _move_aside(path: Path, known: Collection[str]) -> bool:
    """Rename what cannot be opened and is known; who has added to it meanwhile has left a latch, which stays one."""
    seen = os.lstat(path)
    if not set(_lines(path)) <= set(known):
        return False
    aside = _aside(path)
    path.rename(aside)
    with contextlib.suppress(OSError):
        now = os.lstat(aside)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (seen.st_ino, seen.st_size, seen.st_mtime_ns):
            append_to_first([path], _left_in(aside))
    return True


def _append(path: Path, line: bytes, *, sync: bool) -> int:
    """Append a line to a latch file; return how many of its bytes were taken, one more with the line's end.

    Raises `OSError` if the file cannot be opened. One on a full disk takes nothing, and trips as well.
    """
    fd = _open_or_replace(path)
    written, begin = 0, b""
    try:
        size = os.fstat(fd).st_size
        begin = b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""  # the one before was cut
        written = os.write(fd, b"%b%b\n" % (begin, line))
        if sync:
            os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
    return max(0, written - len(begin))


def _open_or_replace(path: Path) -> int:
    """Open a file to append to it; one that may not be opened gives way to one that says so, for every account."""
    try:
        return _open_locked(path)
    except OSError as error:
        if error.errno != errno.EACCES:
            raise
    aside = _aside(path)
    path.rename(aside)
    append_to_first([path], _left_in(aside))
    return _open_locked(path)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.unreadable-{clock.now().wall_ns}")


def _left_in(aside: Path) -> bytes:
    return latch_line(f"a latch was left in {aside.name}, which cannot be read", "all", clock.now())


def _open_locked(path: Path) -> int:
    """Open a file to append to it, and lock it; a file that was removed meanwhile is made anew."""
    fd = -1
    for _ in range(_TRIES):
        if fd >= 0:
            os.close(fd)
        fd = open_ours(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, _MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except OSError:
            continue  # held, or a file system that knows no locks
    return fd
