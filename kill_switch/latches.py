"""Leave a latch in a file, and find one: how a kill is told to whoever holds the journal, or will.

`latch.jsonl` stands in the state directory, or else in the runtime directory, and holds a JSON object a line. Its mere
presence trips; a line that cannot be understood trips every account. Whoever writes or removes it holds `flock(2)` on
it meanwhile, so that a line that comes between the reading and the removal is not lost. Nobody waits for that lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import orjson

from kill_switch import clock
from kill_switch.domain import Now, Reason

NAME = "latch.jsonl"
MOST_BYTES = 1 << 16
_TRIES = 5


class Latches:
    """Hold the latch files that one journal looks after."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._known: set[str] = set()  # lines that this process has written, or taken over

    def leave(self, line: bytes) -> bool:
        """Leave a line of our own; False if no directory takes it."""
        left = leave(self._paths, line)
        if left is None:
            return False
        self._known.add(left)
        return True

    def foreign(self) -> str | None:
        """Return the lines that somebody else has left, since `take`; None if there are none. An empty file is one."""
        said = [line for path in self._paths for line in _lines(path) if line not in self._known]
        return "\n".join(said) if said else None

    def take(self, said: str) -> None:
        """Take over what `foreign` has returned: it is not returned again."""
        self._known.update(said.split("\n"))

    def forget(self) -> str:
        """Remove the files, where they hold nothing that has not been taken over; return what stands against it."""
        trouble, left = "", False
        for path in self._paths:
            try:
                left = not _remove(path, self._known) or left
            except OSError as error:
                trouble, left = f"{path}: {error.strerror}", True
        if not left:
            self._known.clear()
        return trouble


def leave_latch(state_dir: Path, runtime_dir: Path, reason: Reason) -> bool:
    """Leave a latch for the daemon that holds the journal; False if no directory takes it."""
    line = latch_line(f"{reason.trigger}: {reason.text}", reason.accounts, reason.observed)
    return leave((state_dir / NAME, runtime_dir / NAME), line) is not None


def leave(paths: Sequence[Path], line: bytes, *, sync: bool = False) -> str | None:
    """Append a line to the first file that takes one; return what has been written, which a full disk may have cut."""
    for path in paths:
        try:
            fd = _open_locked(path)
        except OSError:
            continue
        written = 0
        try:
            written = os.write(fd, line + b"\n")
            if sync:
                os.fsync(fd)
        except OSError:
            pass  # an empty file trips as well
        finally:
            os.close(fd)
        return line[:written].decode("utf-8", "replace")
    return None


def sync_latch(state_dir: Path, runtime_dir: Path) -> None:
    """Have what was left put on the disk; may take as long as the disk does. What is gone has been taken over."""
    for path in (state_dir / NAME, runtime_dir / NAME):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            os.fsync(fd)
        except OSError:
            pass  # nothing is better than it was
        finally:
            os.close(fd)


def latch_line(text: str, accounts: object, at: Now) -> bytes:
    line = {"text": tellable(text), "at": clock.iso(at.wall_ns), "accounts": tellable(accounts)}
    return orjson.dumps(line, default=str)


def latch_text(said: str) -> str:
    """Return what a latch file's lines say, for people."""
    texts = []
    for line in said.removesuffix("\n").split("\n"):
        try:
            texts.append(str(orjson.loads(line)["text"]))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return "; ".join(texts) or "a latch was left in a file"


def latched_elsewhere(said: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the accounts that a latch file's lines name and that are not known here, yet or any more."""
    named: dict[str, None] = {}
    for line in said.removesuffix("\n").split("\n"):
        try:
            accounts = orjson.loads(line)["accounts"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
        if isinstance(accounts, list):
            named |= dict.fromkeys(name for name in accounts if isinstance(name, str))
    return tuple(name for name in named if name not in known)


def latched_accounts(said: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the accounts that a latch file's lines name; all that are known, if any line cannot be understood."""
    named: set[str] = set()
    for line in said.removesuffix("\n").split("\n"):
        try:
            accounts = orjson.loads(line)["accounts"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return tuple(known)
        if not isinstance(accounts, list):
            return tuple(known)
        named.update(str(name) for name in accounts)
    return tuple(name for name in known if name in named) or tuple(known)  # whom else could it have meant


def tellable(value: object) -> object:
    """Return a value that JSON can tell, its ASCII form if need be."""
    try:
        orjson.dumps(value, default=str)
    except (TypeError, ValueError):
        return ascii(value)
    return value


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            said = file.read(MOST_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return said.removesuffix("\n").split("\n")


def _remove(path: Path, known: Collection[str]) -> bool:
    """Remove a file unless it holds a line that is not known, or somebody is at it; True if it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
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


def _open_locked(path: Path) -> int:
    """Open a file to append to it, and lock it; a file that was removed meanwhile is made anew."""
    fd = -1
    for _ in range(_TRIES):
        if fd >= 0:
            os.close(fd)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except OSError:
            continue  # held, or a file system that knows no locks
    return fd
