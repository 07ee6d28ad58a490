"""Write down every decision, numbered and chained, so that the state survives and nobody can change the past unseen.

`journal.jsonl` holds one JSON object a line: `seq, at, mono_ns, boot, kind, data, prev, hash`. `hash` is SHA-256 over
the line without it, `prev` the hash of the line before. A latch record is written before anything else happens, but
for what its `intent` allows: `write(2)` into the page cache survives `kill -9`; `fdatasync`, for the machine's own
death, runs in a thread beside it.

Nothing here raises on the kill path. What cannot be written stays in memory and is tried again; a latch record goes to
a latch file (`latches`) meanwhile. That file's mere presence trips: at the next start, or at once if whoever wrote it
was another process (`fire --direct` beside a daemon that hangs). It goes once the disk itself has the journal's record:
there is no moment in which a power cut leaves neither.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kill_switch import clock, recovery
from kill_switch.domain import Now, Reason
from kill_switch.errors import AlreadyRunning, CannotCreate, JournalBroken
from kill_switch.intent import NAME as INTENT
from kill_switch.intent import Intent, unrecorded
from kill_switch.latches import NAME as LATCH
from kill_switch.latches import Latches, latch_line, latch_text, leave, sync_one, tellable
from kill_switch.ours import open_ours
from kill_switch.syncing import Syncing

log = logging.getLogger(__name__)

NAME = "journal.jsonl"
GENESIS = "0" * 64
_HASH_BYTES = len(b',"hash":"') + 64 + len(b'"}')
_CLOSE_WITHIN_S = 5.0
_KEEP = 20_000  # records of each kind of waiting that are held in memory while the disk takes none
_TRIPS = ("reason", "latch")  # kinds of records that trip an account at the next start: none of them is ever left out

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
        return any(b'"kind":"%b"' % kind.encode() in self.torn for kind in _TRIPS)


def read(path: Path) -> Replay:
    """Read and verify a journal; a missing one is empty. Raises `OSError` if it cannot be read."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Replay([], 0, b"", None)
    whole, ended, torn = raw.rpartition(b"\n")
    entries: list[Entry] = []
    prev, size = GENESIS, 0
    for number, line in enumerate(whole.split(b"\n") if ended else (), 1):
        try:
            entry = verify(line, number, prev)
        except JournalBroken as broken:
            return Replay(entries, size, b"", broken)
        entries.append(entry)
        prev = entry["hash"]
        size += len(line) + 1
    return Replay(entries, size, torn, None)


def _read_or_distrust(path: Path) -> Replay:
    """Read a journal; one that cannot be read, or understood, is as good as broken: it is set aside, and trips."""
    try:
        replay = read(path)
    except OSError as error:
        return Replay([], 0, b"", JournalBroken(1, f"cannot be read: {error.strerror}"))
    try:
        recovery.rebuild(replay.entries, {})
    except JournalBroken as broken:
        return Replay(replay.entries[: broken.line - 1], 0, b"", broken)
    return replay


def verify(line: bytes, number: int, prev: str) -> Entry:
    """Check one line against its own hash, its number and the hash before it; raises `JournalBroken`."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise JournalBroken(number, "not JSON") from None
    if not isinstance(entry, dict) or entry.keys() != {"seq", "at", "mono_ns", "boot", "kind", "data", "prev", "hash"}:
        raise JournalBroken(number, "not a journal record")
    if not isinstance(entry["data"], dict):
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
        self.latches = Latches(state_dir / LATCH, runtime_dir / LATCH)
        self._standing = 0.0  # latch files stand until the disk has so many bytes; infinity: not all is written yet
        self._unwritten = self._unmarked = ""  # why
        try:
            self._lock = open_ours(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CannotCreate(f"state directory {state_dir}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise AlreadyRunning(f"another daemon holds the state directory {state_dir}") from None
        self._intent = Intent(runtime_dir / INTENT)
        try:
            self.replay = _read_or_distrust(self.path)
            self._marked = os.fstat(self._lock).st_size > 0  # a record has been written here once
            distrust = self._distrust()
            if distrust:  # before anything is touched
                self._leave_for_next(latch_line(distrust, "all", clock.now()), state_dir)
            self._directories = state_dir, runtime_dir
            self._leave_intended()
            self.set_aside = self._set_aside() if self.replay.broken else None
            entries = [] if self.set_aside else self.replay.entries
            self._size = 0 if self.set_aside else self.replay.size
            self._fd = open_ours(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.ftruncate(self._fd, self._size)  # a torn tail goes; the next record says that it was there
        except OSError as error:
            self._intent.close()
            os.close(self._lock)
            raise CannotCreate(f"journal {self.path}: {error.strerror}") from error
        self._seq = len(entries)
        self._prev = entries[-1]["hash"] if entries else GENESIS
        self._boot = clock.boot_id()
        self._pending: list[tuple[str, Mapping[str, object], Now]] = []
        self._lines: list[bytes] = []  # made, not written yet
        self._untold: list[Entry] = []  # made, not told to `on_entry` yet
        self.on_entry: Callable[[Entry], None] = lambda entry: None
        self._named = False  # the disk has the file's name
        self._syncing = self._begin_syncing()

    @property
    def trouble(self) -> str:
        """Say what the matter is with the record, "" if nothing is."""
        return "; ".join(filter(None, (self._unwritten, self._unmarked, self.latches.trouble, self.unsynced)))

    @property
    def unintended(self) -> str:
        """Say why no intent can be noted, "" if it can: a kill's first commands wait for their record then."""
        return self._intent.trouble

    @property
    def unsynced(self) -> str:
        """Say why a power cut may undo what is in the file."""
        return self._syncing.trouble and f"journal {self.path}: sync failed: {self._syncing.trouble}"

    def intend(self, reason: Reason) -> bool:
        """Say that `latch` follows with this reason's record; True if that cannot be lost until then."""
        return self._intent.note(reason)

    def append(self, kind: str, data: Mapping[str, object], at: Now) -> None:
        """Take a record; `flush` writes it. Costs next to nothing, so that answers are not kept waiting."""
        self._pending.append((kind, data, at))
        if kind == "reason":
            self._intent.recorded(data)
        if len(self._pending) > _KEEP:
            oldest = next((n for n, (kind, _, _) in enumerate(self._pending) if kind not in _TRIPS), None)
            if oldest is not None:
                del self._pending[oldest]

    def latch(self, kind: str, data: Mapping[str, object], at: Now) -> bool:
        """Write a record before this returns; False if the disk did not take it (it is kept, and tried again).

        The next `flush` tells `on_entry` of it, and `sync` has it put on the disk: a strike is waiting.
        """
        self.append(kind, data, at)
        if self._write():
            return True
        if kind in _TRIPS:  # a re-arm that is not on record is none at the next start, which is the safe side
            if self.latches.leave(latch_line(kind, data.get("accounts"), at)):
                self._standing = math.inf
            else:
                self._unwritten += "; and no latch file can be written either"
        return False

    def flush(self) -> bool:
        """Write all that is pending in one `write(2)`; False, with `trouble` told, if the disk does not take it."""
        written = self._write()
        untold, self._untold = self._untold, []
        for entry in untold:
            try:
                self.on_entry(entry)
            except Exception:  # what the reports cannot take is in the journal all the same
                log.exception("journal record %d is not in the reports", entry["seq"])
        if written:
            self._intent.fulfil()
        return written

    def _write(self) -> bool:
        room = _KEEP - len(self._lines)  # a line has its number, and cannot be left out; what is pending can
        taken, self._pending = self._pending[:room], self._pending[room:]
        for kind, data, at in taken:
            self._lines.append(self._line(kind, data, at))
        if not self._lines:
            return True
        whole = b"".join(self._lines)
        try:
            written = os.write(self._fd, whole)
            if written != len(whole):
                os.ftruncate(self._fd, self._size)
                raise OSError(28, "no space left for a whole record")
        except OSError as error:
            self._unwritten = f"journal {self.path}: {error.strerror}"
            return False
        self._size += len(whole)
        self._lines.clear()
        self._unwritten = ""
        if not self._marked:
            self._mark()
        if self._pending:
            return self._write()
        if self._standing == math.inf:  # only now: the latch may have been among what was pending
            self._standing = self._size
        return True

    def sync(self) -> None:
        """Have all that is written put on the disk, by the thread beside."""
        self._syncing.ask(self._size)

    def settle(self) -> None:
        """Have the disk take what it has not, and let go of latch files that are not needed; it waits for nothing.

        To be called again and again: what has failed is tried once more.
        """
        if self._unwritten:
            self.flush()
        if self._size and not self._marked:
            self._mark()
        self._intent.mend()
        try:
            self._leave_intended()
        except OSError as error:  # it stays where it is, and is tried again
            log.error("journal %s: %s", self.path, error.strerror)
        if not self._pending and not self._lines:
            self._intent.fulfil()
        if self._syncing.durable < max(self._size, self._standing):
            self.sync()
        self._forget_latch()

    def lag(self, mono_ns: int) -> tuple[int, int]:
        """Return how many records are not in the file yet, and for how long, in ns, the sync under way has lasted."""
        return len(self._pending) + len(self._lines), self._syncing.lasts_ns(mono_ns)

    def close(self) -> None:
        """Write and sync what is left, and let go of the lock."""
        self.flush()
        self._syncing.close(self._size, _CLOSE_WITHIN_S)
        self._forget_latch()
        fd, self._fd = self._fd, -1  # its number may soon be another file's: whoever is late writes nowhere
        os.close(fd)
        self._intent.close()
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
            entry["data"] = {key: tellable(value) for key, value in data.items()}
            body = orjson.dumps(entry, default=str)
        self._prev = hashlib.sha256(body).hexdigest()
        self._untold.append({**entry, "hash": self._prev})
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
            self._unmarked = ""
        except OSError as error:
            self._unmarked = f"{self.path.with_name('lock')}: {error.strerror}"

    def _distrust(self) -> str:
        """Say why what is here cannot be believed, if so: a journal that is damaged, cut off in a latch, or gone."""
        if self.replay.broken:
            return f"the journal is damaged: {self.replay.broken}"
        if self.replay.latch_torn:
            return "the journal ends within a reason's record"
        if self._marked and not self.replay.entries:
            return "the journal that was here is gone"
        return ""

    def _leave_intended(self) -> None:
        """Leave a latch for what was intended and has never been put on record, or raise `OSError`."""
        if self._intent.found:
            for line in unrecorded(self._intent.found, self.replay.entries):
                self._leave_for_next(line, *self._directories)
            self._intent.forget()

    def _leave_for_next(self, line: bytes, *directories: Path) -> None:
        """Leave a latch for the next look at them, whoever's it is, in the first directory that takes it, or raise."""
        if not leave([directory / LATCH for directory in directories], line, sync=True):
            raise OSError(
                errno.ENOSPC, f"{latch_text(line.decode(errors='replace'))}, and no latch can be left beside it"
            )

    def displaced(self) -> bool:
        """Tell whether the file under the journal's name is not the one that is written any more."""
        try:
            here, written = os.stat(self.path), os.fstat(self._fd)
        except OSError:
            return True
        return (here.st_dev, here.st_ino) != (written.st_dev, written.st_ino)

    def foreign_latch(self) -> str | None:
        """Return what latch files say that this journal has neither left itself nor taken over; None if nothing."""
        return self.latches.foreign()

    def take_latch(self, said: str) -> None:
        """Take over what `foreign_latch` said; the files stand until the disk has the journal's own word for it."""
        self.latches.take(said)
        self._standing = math.inf if self._lines or self._pending else self._size

    def _forget_latch(self) -> None:
        if 0 < self._standing <= self._syncing.durable and self.latches.forget():
            self._standing = 0

    def _begin_syncing(self) -> Syncing:
        return Syncing(self._fd, self._size, self._sync_names)

    def _sync_names(self) -> None:
        """Put on the disk that there is a journal, and which latch files there are; in the thread that syncs."""
        if not self._named:
            sync_one(self.path.parent)
            self._named = True
        if self._standing:
            self.latches.sync()


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
