"""Write down every decision, numbered and chained, so that the state survives and nobody can change the past unseen.

`journal.jsonl` holds one JSON object a line: `seq, at, mono_ns, boot, kind, data, prev, hash`. `hash` is SHA-256 over
the line without it, `prev` the hash of the line before. A latch record is written before anything else happens:
`write(2)` into the page cache survives `kill -9`; `fdatasync`, for the machine's own death, runs in a thread beside it.

Nothing here raises on the kill path. What cannot be written stays in memory and is tried again; a latch record goes to
`latch.jsonl`, in the state directory or else in the runtime directory, meanwhile. That file's mere presence trips: at
the next start, or at once if whoever wrote it was another process (`fire --direct` beside a daemon that hangs).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kill_switch import clock
from kill_switch.domain import Now, Reason
from kill_switch.errors import AlreadyRunning, CannotCreate, JournalBroken

log = logging.getLogger(__name__)

NAME = "journal.jsonl"
LATCH = "latch.jsonl"
GENESIS = "0" * 64
_HASH_BYTES = len(b',"hash":"') + 64 + len(b'"}')
_KEEP = 100_000  # records held in memory while the disk takes none

Entry = Mapping[str, Any]


class Replay(NamedTuple):
    """What a journal holds: its entries up to the first fault, and the fault, if it has one."""

    entries: list[Entry]
    size: int  # bytes of the whole lines that verify
    torn: bytes  # what stands after the last newline: a write that the machine's death cut off
    broken: JournalBroken | None

    @property
    def latch_torn(self) -> bool:
        """The record that was cut off was one that trips."""
        return b'"kind":"reason"' in self.torn


def read(path: Path) -> Replay:
    """Read and verify a journal; a missing one is empty. Raises `OSError` if it cannot be read."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Replay([], 0, b"", None)
    whole, _, torn = raw.rpartition(b"\n")
    entries: list[Entry] = []
    prev, size = GENESIS, 0
    for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
        try:
            entry = verify(line, number, prev)
        except JournalBroken as broken:
            return Replay(entries, size, b"", broken)
        entries.append(entry)
        prev = entry["hash"]
        size += len(line) + 1
    return Replay(entries, size, torn, None)


def _read_or_distrust(path: Path) -> Replay:
    """Read a journal; one that cannot be read is as good as broken: it is set aside, and trips."""
    try:
        return read(path)
    except OSError as error:
        return Replay([], 0, b"", JournalBroken(1, f"cannot be read: {error.strerror}"))


def verify(line: bytes, number: int, prev: str) -> Entry:
    """Check one line against its own hash, its number and the hash before it; raises `JournalBroken`."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise JournalBroken(number, "not JSON") from None
    if not isinstance(entry, dict) or entry.keys() != {"seq", "at", "mono_ns", "boot", "kind", "data", "prev", "hash"}:
        raise JournalBroken(number, "not a journal record")
    if entry["hash"] != hashlib.sha256(line[:-_HASH_BYTES] + b"}").hexdigest():
        raise JournalBroken(number, "its hash does not fit its content")
    if entry["seq"] != number:
        raise JournalBroken(number, f"is numbered {entry['seq']}: a record is missing or doubled")
    if entry["prev"] != prev:
        raise JournalBroken(number, "does not follow from the line before")
    return entry


class Journal:
    """Append to the journal of one state directory; holds its lock, so that there is one daemon to a directory."""

    def __init__(self, state_dir: Path, runtime_dir: Path) -> None:
        """Open and lock; raises `AlreadyRunning` or `CannotCreate`. `replay` is what was there, set aside if broken."""
        self.path = state_dir / NAME
        self._latches = (state_dir / LATCH, runtime_dir / LATCH)
        self._left_latch = False  # one of them is our own
        self.trouble = ""
        try:
            self._lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotCreate(f"state directory {state_dir}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise AlreadyRunning(f"another daemon holds the state directory {state_dir}") from None
        try:
            self.replay = _read_or_distrust(self.path)
            self._marked = os.fstat(self._lock).st_size > 0  # a record has been written here once
            distrust = self._distrust()
            if distrust:  # before anything is touched: whatever becomes of this start, the next one trips
                self._leave_for_next(distrust)
            self.set_aside = self._set_aside() if self.replay.broken else None
            entries = [] if self.set_aside else self.replay.entries
            self._size = 0 if self.set_aside else self.replay.size
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            os.ftruncate(self._fd, self._size)  # a torn tail goes; the next record says that it was there
        except OSError as error:
            os.close(self._lock)
            raise CannotCreate(f"journal {self.path}: {error.strerror}") from error
        self._seq = len(entries)
        self._prev = entries[-1]["hash"] if entries else GENESIS
        self._boot = clock.boot_id()
        self._pending: list[tuple[str, Mapping[str, object], Now]] = []
        self._lines: list[bytes] = []  # made, not written yet
        self._sync: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._syncing, name="journal-sync", daemon=True)
        self._thread.start()
        self.on_entry: Callable[[Entry], None] = lambda entry: None

    def append(self, kind: str, data: Mapping[str, object], at: Now) -> None:
        """Take a record; `flush` writes it. Costs next to nothing, so that answers are not kept waiting."""
        self._pending.append((kind, data, at))
        del self._pending[:-_KEEP]

    def latch(self, kind: str, data: Mapping[str, object], at: Now) -> bool:
        """Write a record before this returns; False if the disk did not take it (it is kept, and tried again)."""
        self.append(kind, data, at)
        if self.flush():
            self.sync()
            return True
        if kind == "reason":  # a re-arm that is not on record is none at the next start, which is the safe side
            if _leave(self._latches, _latch_line(kind, data.get("accounts"), at)):
                self._left_latch = True
            else:
                self.trouble += "; and no latch file can be written either"
        return False

    def flush(self) -> bool:
        """Write all that is pending in one `write(2)`; False, with `trouble` told, if the disk does not take it."""
        for kind, data, at in self._pending:
            self._lines.append(self._line(kind, data, at))
        self._pending.clear()
        if not self._lines:
            return not self.trouble
        whole = b"".join(self._lines)
        try:
            written = os.write(self._fd, whole)
            if written != len(whole):
                os.ftruncate(self._fd, self._size)
                raise OSError(28, "no space left for a whole record")
        except OSError as error:
            self.trouble = f"journal {self.path}: {error.strerror}"
            return False
        self._size += len(whole)
        self._lines.clear()
        self.trouble = ""
        if not self._marked:
            self._mark()
        if self._left_latch:
            self._left_latch = False
            self.forget_latch()
        return True

    def sync(self) -> None:
        """Have all that is written put on the disk, by the thread beside."""
        self._sync.put(True)

    def close(self) -> None:
        """Write and sync what is left, and let go of the lock."""
        self.flush()
        self._sync.put(False)
        self._thread.join(timeout=5)
        os.close(self._fd)
        os.close(self._lock)

    def _line(self, kind: str, data: Mapping[str, object], at: Now) -> bytes:
        self._seq += 1
        entry = {
            "seq": self._seq,
            "at": clock.iso(at.wall_ns),
            "mono_ns": at.mono_ns,
            "boot": self._boot,
            "kind": kind,
            "data": data,
            "prev": self._prev,
        }
        try:
            body = orjson.dumps(entry, default=str)
        except (TypeError, ValueError):  # what cannot be told in JSON is told all the same
            entry["data"] = {key: _tellable(value) for key, value in data.items()}
            body = orjson.dumps(entry, default=str)
        self._prev = hashlib.sha256(body).hexdigest()
        try:
            self.on_entry({**entry, "hash": self._prev})
        except Exception:  # a report that cannot be told must not keep a latch from being written
            log.exception("journal record %d is not in the reports", self._seq)
        return b'%b,"hash":"%b"}\n' % (body[:-1], self._prev.encode())

    def _set_aside(self) -> Path:
        """Keep a broken journal as evidence, under a name that says when, and begin a new one."""
        aside = self.path.with_name(f"{NAME}.broken-{clock.now().wall_ns // 1_000_000_000}")
        self.path.rename(aside)
        return aside

    def _mark(self) -> None:
        """Note beside the journal that there is one; if the disk does not take that, the next flush tries again."""
        try:
            self._marked = os.pwrite(self._lock, b"a journal stands beside this\n", 0) > 0
        except OSError as error:
            self.trouble = f"{self.path.with_name('lock')}: {error.strerror}"

    def _distrust(self) -> str:
        """Say why what is here cannot be believed, if so: a journal that is damaged, cut off in a latch, or gone."""
        if self.replay.broken:
            return f"the journal is damaged: {self.replay.broken}"
        if self.replay.latch_torn:
            return "the journal ends within a reason's record"
        if self._marked and not self.replay.entries:
            return "the journal that was here is gone"
        return ""

    def _leave_for_next(self, why: str) -> None:
        """Leave a latch for all accounts, on the disk, or raise `OSError`."""
        if not _leave(self._latches[:1], _latch_line(why, "all", clock.now()), sync=True):
            raise OSError(errno.ENOSPC, f"{why}, and no latch can be left beside it")

    def displaced(self) -> bool:
        """Tell whether the file under the journal's name is not the one that is written any more."""
        try:
            here, written = os.stat(self.path), os.fstat(self._fd)
        except OSError:
            return True
        return (here.st_dev, here.st_ino) != (written.st_dev, written.st_ino)

    def foreign_latch(self) -> str | None:
        """Return what a latch file says that this journal has not left itself; None if there is none."""
        if self._left_latch:
            return None
        said: list[str] = []
        for path in self._latches:
            try:
                said.append(path.read_text("utf-8", "replace").removesuffix("\n")[: 1 << 16])
            except FileNotFoundError:
                continue
            except OSError as error:
                said.append(f"{path}: {error.strerror}")
        return "\n".join(said) if said else None

    def forget_latch(self) -> None:
        """Remove the latch files: the journal itself has the latch now."""
        for path in self._latches:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self.trouble = f"{path}: {error.strerror}"

    def _syncing(self) -> None:
        more = True
        while more:
            more = self._sync.get()
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self.trouble = f"journal {self.path}: sync failed: {error.strerror}"


def leave_latch(state_dir: Path, runtime_dir: Path, reason: Reason) -> bool:
    """Leave a latch for the daemon that holds the journal; False if no directory takes it."""
    line = _latch_line(f"{reason.trigger}: {reason.text}", reason.accounts, reason.observed)
    return _leave((state_dir / LATCH, runtime_dir / LATCH), line)


def latch_text(said: str) -> str:
    """Return what a latch file's lines say, for people."""
    texts = []
    for line in said.removesuffix("\n").split("\n"):
        try:
            texts.append(str(orjson.loads(line)["text"]))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return "; ".join(texts) or "a latch was left in a file"


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


def _latch_line(text: str, accounts: object, at: Now) -> bytes:
    line = {"text": _tellable(text), "at": clock.iso(at.wall_ns), "accounts": _tellable(accounts)}
    return orjson.dumps(line, default=str)


def _tellable(value: object) -> object:
    try:
        orjson.dumps(value, default=str)
    except (TypeError, ValueError):
        return ascii(value)
    return value


def _leave(paths: Sequence[Path], line: bytes, *, sync: bool = False) -> bool:
    for path in paths:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError:
            continue
        try:
            os.write(fd, line + b"\n")
            if sync:
                os.fsync(fd)
        except OSError:
            pass  # an empty file trips as well
        finally:
            os.close(fd)
        return True
    return False


def follow(path: Path, tick: Callable[[], None]) -> Iterator[Entry]:
    """Yield the entries of a journal and those that come; `tick` waits between two looks. Raises `JournalBroken`."""
    prev, number, rest = GENESIS, 0, b""
    with path.open("rb") as file:
        while True:
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                number += 1
                entry = verify(line, number, prev)
                prev = entry["hash"]
                yield entry
            tick()
