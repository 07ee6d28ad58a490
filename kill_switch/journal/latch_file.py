"""Read, append to and remove the latch files: latches of processes that cannot write the journal.

`latch.jsonl` is in the state directory, or in the runtime directory if the state directory has no room; its presence
alone trips. A process holds `flock(2)` on the file while it writes or removes it, so that no line is lost between the
reading and the removal. No process waits for that lock: a writer without it appends all the same, and a locked file is
not removed.
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
MAX_BYTES = 1 << 16  # bytes of a latch file that are read
_TRIES = 5  # attempts to open and lock a file that other processes lock or remove
_MODE = 0o600  # because a user who can read a file can also lock it, and a locked latch file is not removed


class LatchFile:
    """A latch file: its lines, and which of them this process has written or acknowledged.

    `look`, `append_line`, `remove` and `sync` may wait for the file system: they run in other threads, and queue their
    results. The other methods belong to the event loop's thread, which applies the results in `poll`.
    """

    def __init__(self, path: Path) -> None:
        """Set the path; the file is not read before `look`."""
        self.path = path
        self.trouble = ""  # why it cannot be removed although the journal has all its lines; "": it can
        self.exists = False  # the file was written or found, and has not been removed since
        self._found: list[str] = []
        self._known: set[str] = set()  # lines that this process has written or acknowledged
        self._events: deque[tuple[str, list[str]]] = deque()
        self._lock = threading.Lock()  # held for each use of the file together with its event

    # in any thread

    def look(self) -> bool:
        """Read the file; return whether another process may have written a line."""
        with self._lock:
            lines = _lines(self.path)
            self._events.append(("found", lines))
        return any(line not in self._known for line in lines)

    def append_line(self, line: bytes) -> bool | None:
        """Append a line of this process; return False if it was cut off, None if nothing was written."""
        with self._lock:
            left = append_to_first((self.path,), line)
            self._events.append(("left", left))
        return len(left[0].encode("utf-8", "replace")) >= len(line) if left else None

    def remove(self, known: Collection[str]) -> None:
        """Remove the file, unless it holds a line that is not in `known`."""
        with self._lock:
            try:
                if _remove(self.path, known):
                    self._events.append(("gone", []))
            except OSError as error:
                self._events.append(("stuck", [f"{self.path}: {error.strerror}"]))

    def sync(self) -> None:
        """Fsync the file and its directory, if the file exists."""
        sync((self.path,))

    # in the thread that decides

    def poll(self) -> None:
        """Apply the results of the other threads, in their order."""
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
        """Return the foreign lines of the last look that are not acknowledged; an empty file is one line."""
        self.poll()
        return [line for line in self._found if line not in self._known]

    def acknowledge(self, lines: Iterable[str]) -> None:
        """Add lines that `unseen_lines` has returned to the known lines: it does not return them again."""
        self._known.update(lines)

    def known(self) -> frozenset[str]:
        """Return the lines that this process has written or acknowledged."""
        self.poll()
        return frozenset(self._known)


def leave_latch(state_dir: Path, runtime_dir: Path, reason: Reason) -> bool:
    """Write a latch for the daemon that holds the journal; return False if no directory takes it. May block."""
    line = latch_line(f"{reason.trigger}: {reason.text}", reason.accounts, reason.observed_at)
    return bool(append_to_first((state_dir / LATCH_NAME, runtime_dir / LATCH_NAME), line))


def append_to_first(paths: Sequence[Path], line: bytes, *, sync: bool = False) -> list[str]:
    """Append a line to the first file that takes all of it; return the text that each tried file has taken.

    A full disk may cut the line off. A file with a part of the line, or an empty one, trips as well. The next file
    is tried all the same, because a daemon may have acknowledged the same part before.
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
    """Append a line to a file; return why that failed, "" if it did not. May block."""
    try:
        _append(path, line, sync=False)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def files_with_lines(paths: Iterable[Path]) -> dict[Path, list[str]]:
    """Return those of the files that trip a daemon at its start, with their lines. May block."""
    contents = ((path, _lines(path)) for path in paths)
    return {path: lines for path, lines in contents if lines}


def remove_lines(paths: Iterable[Path], lines: Collection[str]) -> None:
    """Remove the files that hold only these lines; call it once the journal has their latches. Raises `OSError`."""
    for path in paths:
        _remove(path, lines)


def sync_latch(state_dir: Path, runtime_dir: Path) -> None:
    """Fsync the latch files of both directories. May block. A file that is gone has been taken over by the daemon."""
    sync((state_dir / LATCH_NAME, runtime_dir / LATCH_NAME))


def sync(paths: Iterable[Path]) -> None:
    """Fsync those of the files that exist, and their directories."""
    for path in paths:
        try:
            sync_file(path)
            sync_file(path.parent)
        except OSError:
            continue  # the file remains as durable as it was


def sync_file(path: Path) -> None:
    """Fsync a file or a directory. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: a file system that cannot fsync a directory
            raise
    finally:
        os.close(fd)


def _lines(path: Path) -> list[str]:
    """Return a latch file's lines, [] if it does not exist.

    For a file that cannot be read, or not to its end, return a line with its inode, size and time. So a second latch,
    in the same file or in its place, has another line.
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
    """Remove a file unless it holds an unknown line or is locked; return whether it is gone.

    A file that cannot be opened is renamed and kept as evidence: under the other name it is no latch.
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
        return False  # another process is writing a new line
    finally:
        os.close(fd)
    return True


def _move_aside(path: Path, known: Collection[str]) -> bool:
    """Rename a file that cannot be opened and whose line is known; if it changed meanwhile, write a new latch."""
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
    """Append a line to a latch file; return how many of its bytes were written, one more with the newline.

    Raises `OSError` if the file cannot be opened. On a full disk the file may stay empty, and trips as well.
    """
    fd = _open_or_replace(path)
    written, begin = 0, b""
    try:
        size = os.fstat(fd).st_size
        begin = b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""  # the line before was cut off
        written = os.write(fd, b"%b%b\n" % (begin, line))
        if sync:
            os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
    return max(0, written - len(begin))


def _open_or_replace(path: Path) -> int:
    """Open a file to append to it.

    A file without permission to open is renamed, and a new file begins with a latch for every account.
    """
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
    """Open a file to append to it, and lock it if possible; create it again if it was removed meanwhile."""
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
            continue  # another process holds the lock, or the file system has no locks
    return fd
