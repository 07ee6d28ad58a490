"""Write the journal's files, in a thread that may wait for the state directory.

`Journal` puts records into `inbox` and posts `write`, `look` and `close` as jobs; it polls the results as plain values.
A record counts as written when its bytes are in the file under the journal's name, and the size is as expected. While
the file is displaced (removed, replaced, renamed or cut), latch files for every account make the next start trip.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import orjson

from kill_switch import clock
from kill_switch.core.domain import Instant
from kill_switch.errors import JournalBroken
from kill_switch.journal import checkpoint, segments
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.condenser import Condenser
from kill_switch.journal.fsync import FsyncThread
from kill_switch.journal.latch_file import LatchFile, sync_file
from kill_switch.journal.latch_lines import latch_line
from kill_switch.journal.plain_json import encode_line
from kill_switch.journal.record_buffer import RecordBuffer
from kill_switch.journal.records import TRIPS, Entry
from kill_switch.system.file_access import open_ours

log = logging.getLogger(__name__)

FULL_BYTES = 1 << 19  # bytes of records after the checkpoint at which the next file begins
_CALM_NS = 2_000_000_000  # after the last reason before a file may begin: not in the middle of a kill
_AGAIN_NS = 60_000_000_000  # between two attempts to begin a file if the disk refuses
_FOLD = 16  # lines that are folded between two pauses, because the event loop needs the interpreter
_PAUSE_S = 0.0005  # length of such a pause


class JournalDisplaced(Exception):
    """The file under the journal's name is not the open file, or its size is unexpected."""


class JournalWriter:
    """The open journal file and the records that are to be written into it."""

    def __init__(
        self,
        path: Path,
        fd: int,
        size: int,
        snapshot: JournalSnapshot,
        entries: Sequence[Entry],
        lock: int,
        files: Sequence[LatchFile],
        begin_syncing: Callable[[int, int, Callable[[], None]], FsyncThread],
    ) -> None:
        """Own the open file `fd` of `size` bytes; `snapshot` is the fold of its records, `entries` its entries.

        `lock` is the descriptor of the state directory's lock. `files` are the latch files of the state and of the
        runtime directory. `begin_syncing` starts the fsync thread.
        """
        self.path = path
        self.written = 0  # number of the last record that is in the file, or counted in a `repeats` record
        self.trouble = ""  # why records are not written
        self.displaced = ""  # what happened to the file, "" if it is in place
        self.mark_trouble = ""
        self.rotate_trouble = ""
        self.announcements: deque[str] = deque()
        self._files = files
        self._lock = lock
        self._marked = os.fstat(lock).st_size > 0  # the lock file notes that a record was written here
        self._fd = fd
        self._size = size  # of the file
        self._found = size  # bytes of the file when this process began
        self._base = 0  # bytes of the files before, since this process began
        self._head = 0  # bytes of the checkpoint in the file
        self._seq, self._prev = snapshot.seq, snapshot.hash or segments.GENESIS
        self.head = segments.ChainHead(self._seq, self._prev)  # the newest record that counts as written
        self._boot = clock.boot_id()
        self._snapshot = snapshot
        self._unfolded: deque[bytes] = deque()  # lines in the file that are not folded into the snapshot yet
        self._buffer = RecordBuffer(Condenser(entries, self._boot))
        self.inbox = self._buffer.inbox
        self._owes_sync = False  # an fsync was requested for held records, and follows once they are written
        self._durable = 0  # number of the last durable record
        self._part = False  # the file may end with a part of a record
        self._foldable = True  # False after a record that cannot be folded: no further file begins
        self._trip_ns = -_CALM_NS
        self._rotate_ns = 0
        self._directory_synced = False  # the file's name is durable
        self._marks: deque[tuple[int, int]] = deque()  # (position in bytes, number of the last record up to there)
        self._filed = 0  # number of the last record for which a latch was written instead
        self._standing: dict[Path, int] = {}  # latch file → inode that has the line of a displaced journal
        self.syncing = begin_syncing(fd, size, self._sync_names)

    @property
    def position(self) -> int:
        """Return the bytes of all files of this process, including those found in the first file."""
        return self._base + self._size

    @property
    def sizes(self) -> tuple[int, int]:
        """Return the bytes that this process has written, and the size of the newest file."""
        return self.position - self._found, self._size

    # ── records ───────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, *, sync: bool = False) -> None:
        """Write the records of the inbox; if that fails, write a latch for each record that trips.

        With `sync`, request an fsync: now, and again once the records are in the journal.
        """
        self._buffer.drain_inbox()
        self._owes_sync = self._owes_sync or sync
        try:
            self._require_in_place()
            if self._buffer.held:
                self._append()
            self.trouble = ""
        except JournalDisplaced as displacement:
            self._note_displaced(str(displacement))
        except OSError as error:
            self.trouble = f"journal {self.path}: {error.strerror}"
        if self._buffer.held:
            self._buffer.trim()
            self._file()
        else:
            self.written = self._buffer.last_taken
        filed = self.displaced or self._filed > self.written  # a latch file holds what the journal lacks
        if self._owes_sync and (filed or self.syncing.durable < self.position):
            self.syncing.request(self.position)
        self._owes_sync = self._owes_sync and bool(self._buffer.held)

    def _append(self) -> None:
        """Write the held records and clear them; raise `OSError` or `JournalDisplaced` if they do not count."""
        seq, prev, lines = self._seq, self._prev, []
        for record in self._buffer.held:
            seq += 1
            line, prev = encode_line(seq, prev, self._boot, record.kind, record.data, record.at)
            lines.append(line)
        whole = b"".join(lines)
        written = os.write(self._fd, whole)
        if written != len(whole):
            self._part = True
            os.ftruncate(self._fd, self._size)
            self._part = False
            raise OSError(errno.ENOSPC, "no space left for a whole record")
        self._size += len(whole)
        try:
            self._require_in_place()
        except (JournalDisplaced, OSError):
            self._size -= len(whole)
            self._truncate(len(whole))
            raise
        self._seq, self._prev = seq, prev
        self.head = segments.ChainHead(seq, prev)
        if self._foldable:
            self._unfolded += lines
        if any(record.kind in TRIPS for record in self._buffer.held):
            self._trip_ns = clock.now().mono_ns
        self._buffer.held.clear()
        self.written = self._buffer.last_taken
        self._marks.append((self.position, self.written))
        if not self._marked:
            self._mark()

    def _truncate(self, size: int) -> None:
        """Cut off the bytes just written, unless the file was changed: the records are written again."""
        try:
            if os.fstat(self._fd).st_size == self._size + size:
                os.ftruncate(self._fd, self._size)
        except OSError:
            pass  # the next check of the size fails

    def _file(self) -> None:
        """Write a latch, once, for each held record that trips."""
        for record in self._buffer.held:
            if record.kind in TRIPS and record.number > self._filed:
                line = latch_line(record.kind, record.data.get("accounts"), record.at)
                if self._leave(line):
                    self._filed = record.number
                else:
                    self.trouble = f"{self.trouble or self.displaced}; and no latch file can be written either"

    def _leave(self, line: bytes) -> bool:
        """Append a line to the first latch file that takes all of it, to both if the journal is displaced."""
        left = False
        for file in self._files:
            whole = file.append_line(line)
            left = left or whole is not None
            if whole and not self.displaced:
                break
        return left

    # ── displacement ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _require_in_place(self) -> None:
        """Raise `JournalDisplaced` unless the file has its name and its size; `OSError` if that cannot be checked."""
        if self._part:
            os.ftruncate(self._fd, self._size)
            self._part = False
        ours = os.fstat(self._fd)
        if not ours.st_nlink:
            raise JournalDisplaced("was removed")
        if ours.st_size != self._size:
            raise JournalDisplaced("was cut" if ours.st_size < self._size else "was written by another process")
        try:
            here = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise JournalDisplaced("was renamed, or its directory was removed") from None
        if not os.path.samestat(here, ours):
            raise JournalDisplaced("was replaced by another file")
        if self.displaced:
            self.displaced = ""
            self.announcements.append(f"journal {self.path}: it is there again")

    def _note_displaced(self, note: str) -> None:
        """Write latches for every account, so that the next start trips whatever it finds."""
        if not self.displaced:
            self._standing.clear()
            self.announcements.append(
                f"journal {self.path} {note} under the running daemon: nothing is on record. The next start will be "
                "tripped. Put the file back, or restart the daemon and re-arm"
            )
        self.displaced, self.trouble = note, ""
        line = latch_line(f"the journal {note} under the running daemon", "all", clock.now())
        for file in self._files:
            if self._standing.get(file.path) != (inode := _inode(file.path)) or not inode:
                file.append_line(line)
                self._standing[file.path] = _inode(file.path)

    # ── the regular look ──────────────────────────────────────────────────────────────────────────────────────────

    def look(self, known: Sequence[Collection[str]], stands: int) -> bool:
        """Write due records, retry failures, look at the latch files, and begin the next file if this one is full.

        `known` are the known lines of each latch file: it is removed if it has no others and record `stands` is
        durable. Return True if the state directory has a foreign latch.
        """
        self._buffer.add_due_repeats(clock.now().mono_ns)
        self.write(sync=True)
        if self._size and not self._marked and not self.displaced:
            self._mark()
        self.remove_latch_files(known, stands)
        foreign = self._files[0].look()
        if not self.trouble and not self.displaced and not self.inbox:
            self._fold()
            self.rotate()
        return foreign

    def remove_latch_files(self, known: Sequence[Collection[str]], stands: int) -> None:
        """Remove the latch files if the records of all their latches are durable."""
        while self._marks and self._marks[0][0] <= self.syncing.durable:
            self._durable = self._marks.popleft()[1]
        if self.displaced or self._buffer.held or self._durable < max(stands, self._filed, 1):
            return
        for file, lines in zip(self._files, known, strict=True):
            if file.exists:
                file.remove(lines)

    def write_repeats(self) -> None:
        """Write a `repeats` record of all that was counted, due or not."""
        self._buffer.drain_inbox()
        self._buffer.add_all_repeats()
        self.write()

    def close(self, known: Sequence[Collection[str]], stands: int, within_s: float) -> None:
        """Write and fsync all records; wait for the fsync `within_s` seconds at most."""
        self.write_repeats()
        self.syncing.close(self.position, within_s)
        self.remove_latch_files(known, stands)

    def close_file(self) -> None:
        """Close the file, after the thread has ended."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _fold(self) -> None:
        """Fold the written lines into the snapshot, with pauses for the event loop's thread."""
        count = 0
        while self._unfolded and self._foldable and not self.inbox:
            try:
                self._snapshot.apply(orjson.loads(self._unfolded.popleft()))
            except JournalBroken as broken:  # the next start trips because of this record
                log.error("%s: no further file of the journal is begun", broken)
                self._foldable = False
                self._unfolded.clear()
            count += 1
            if not count % _FOLD:
                self._pause()

    def _pause(self) -> None:
        """Release the interpreter to the event loop's thread."""
        time.sleep(_PAUSE_S)

    def _mark(self) -> None:
        """Write into the lock file that a journal exists; after an error the next look tries again."""
        try:
            self._marked = os.pwrite(self._lock, b"a journal stands beside this\n", 0) > 0
            self.mark_trouble = ""
        except OSError as error:
            self.mark_trouble = f"{self.path.with_name('lock')}: {error.strerror}"

    def _sync_names(self) -> None:
        """Fsync the directory and the latch files, in the fsync thread."""
        if not self._directory_synced:
            sync_file(self.path.parent)
            self._directory_synced = True
        for file in self._files:
            file.sync()

    # ── the next file ─────────────────────────────────────────────────────────────────────────────────────────────

    def rotate(self) -> None:
        """Begin the next file if this file is full and no kill is being recorded."""
        now = clock.now()
        calm = now.mono_ns - self._trip_ns >= _CALM_NS or self._size > 4 * FULL_BYTES
        busy = self._buffer.held or self._unfolded or not self._foldable
        if self._size - self._head < FULL_BYTES or busy or not calm:
            return
        if self.rotate_trouble and now.mono_ns < self._rotate_ns:
            return
        self._rotate_ns = now.mono_ns + _AGAIN_NS
        try:
            self._begin_file(now)
            self.rotate_trouble = ""
        except OSError as error:
            self.rotate_trouble = (
                f"journal {self.path}: it is full, and the next file cannot be begun: {error.strerror}"
            )

    def _begin_file(self, now: Instant) -> None:
        """Link the full file to its number and rename a new file, with its checkpoint, to the journal's name.

        The rename is atomic: at any moment the journal's name has the full file or the new file. Raises `OSError`.
        """
        following = self.path.with_name(segments.NEXT)
        full = self.path.with_name(segments.segment_name(self._segment_number()))
        line, own = encode_line(self._seq + 1, self._prev, self._boot, checkpoint.KIND, self._snapshot.to_json(), now)
        fd = open_ours(following, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        try:
            if os.write(fd, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
            sync_file(self.path)
            synced = os.dup(fd)
        except OSError:
            os.close(fd)
            raise
        try:
            if not full.exists():
                os.link(self.path, full)
            sync_file(self.path.parent)
            os.rename(following, self.path)
        except OSError:
            os.close(synced)
            os.close(fd)
            raise
        before, self._fd = self._fd, fd
        self._base += self._size
        self._size = self._head = len(line)
        self._seq, self._prev = self._seq + 1, own
        self._snapshot.seq, self._snapshot.hash = self._seq, own
        self.head = segments.ChainHead(self._seq, own)
        self._directory_synced = False
        self.syncing.switch_file(synced)
        os.close(before)
        self._marks.append((self.position, self.written))

    def _segment_number(self) -> int:
        """Return the number for the full file: the next number, or its own if it was linked before."""
        known = segments.full_segments(self.path.parent)
        if not known:
            return 1
        last = known[-1]
        return segments.segment_number(last.name) + (not os.path.samestat(os.stat(last), os.fstat(self._fd)))


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
