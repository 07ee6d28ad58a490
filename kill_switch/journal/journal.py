"""The journal of one state directory: append records, note reasons ahead, and find latches of other processes.

The dispatcher and the daemon call `Journal` from the event loop; nothing here raises or waits for the state directory
during a kill. A kill waits for one `write(2)` of the write-ahead note into memory; if that fails, for its record, at
most `LATCH_WITHIN_S`. Records that cannot be written stay in memory; a latch file stands for those that trip, until
their records are durable.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from kill_switch import clock
from kill_switch.core.domain import Instant, Reason
from kill_switch.core.outcome import DISPLACED
from kill_switch.errors import CannotCreate
from kill_switch.journal import opening, segments
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.fsync import FsyncThread
from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from kill_switch.journal.latch_file import LatchFile
from kill_switch.journal.latch_lines import latch_line
from kill_switch.journal.latch_watch import HANGS_AFTER_NS, LatchWatch
from kill_switch.journal.note_conversion import NoteConverter, convert_at_start, leave_latch_line
from kill_switch.journal.record_queue import RecordQueue
from kill_switch.journal.records import Entry as Entry
from kill_switch.journal.segments import GENESIS as GENESIS
from kill_switch.journal.segments import NAME as NAME
from kill_switch.journal.segments import JournalContents as JournalContents
from kill_switch.journal.segments import read_at_start
from kill_switch.journal.segments import read_journal as read_journal
from kill_switch.journal.write_ahead import NAME as INTENT
from kill_switch.journal.write_ahead import WriteAheadNote
from kill_switch.journal.writer import JournalWriter
from kill_switch.system.job_thread import JobThread

log = logging.getLogger(__name__)

LATCH_WITHIN_S = 0.1  # seconds that a kill waits for its record if the note could not be written
SYNC_HANGS_AFTER_NS = 10_000_000_000  # longer than `HANGS_AFTER_NS`, because a busy disk may take seconds
_CLOSE_WITHIN_S = 5.0  # for the last write and fsync when the process stops
_SYNC_WITHIN_S = 4.0  # the part of it for the last fsync
_NOT_RECORDED = "tripped accounts have other logins or names now, and the disk did not take that in time"


class JournalFigures(NamedTuple):
    """The amounts of a journal, for metrics."""

    unwritten: int  # records that are not in the file
    syncing_ns: int  # age of the fsync in progress; 0: none is
    records: int  # in the file, or counted in one of its records, since the process began
    written_bytes: int  # since the process began
    file_bytes: int  # size of the newest file


class Journal:
    """The journal of one state directory, whose lock it holds: one daemon to a directory."""

    def __init__(
        self,
        state_dir: Path,
        runtime_dir: Path,
        reading: Callable[[], object] = lambda: None,
        *,
        trip_first_start: str = "",
        syncer: Callable[[int, int, Callable[[], None]], FsyncThread] | None = None,
        worker: Callable[[str], JobThread] | None = None,
    ) -> None:
        """Lock the directory, read the journal and open it. Raises `AlreadyRunning` or `CannotCreate`. May block.

        `contents` is the journal as found; its entries stand for all entries ever written (see `checkpoint`). A broken
        journal is renamed to `set_aside`. `reading` is called repeatedly while an oversized file is read. With
        `trip_first_start`, a directory without any record gets a latch with this text for all accounts. `syncer` makes
        the fsync thread, and `worker` the thread of a directory.
        """
        self.path = state_dir / NAME
        self._lock = opening.lock(state_dir)
        self._directories = state_dir, runtime_dir
        self._files = LatchFile(state_dir / LATCH), LatchFile(runtime_dir / LATCH)
        self._write_ahead = WriteAheadNote(runtime_dir / INTENT)
        try:
            self.contents = read_at_start(self.path, reading)
            tripped = opening.why_tripped(self.path, self.contents, self._lock, trip_first_start)
            if tripped:  # the latch is durable before any file is changed
                leave_latch_line(latch_line(tripped, "all", clock.now()), state_dir)
            convert_at_start(self._write_ahead, self.contents.entries, self._directories)
            fd, size, self.set_aside = opening.take_over(self.path, self.contents)
        except OSError as error:
            self._write_ahead.close()
            os.close(self._lock)
            raise CannotCreate(f"journal {self.path}: {error.strerror}") from error
        known = not self.set_aside and self.contents.snapshot is not None
        snapshot = self.contents.snapshot if known and self.contents.snapshot is not None else JournalSnapshot()
        entries = self.contents.entries if known else []
        self._writer = JournalWriter(
            self.path, fd, size, snapshot, entries, self._lock, self._files, syncer or FsyncThread
        )
        for file in self._files:
            file.look()
        begin_worker = worker or JobThread
        self._state = begin_worker("journal")
        self._run = begin_worker("journal-runtime")
        self.latch_watch = LatchWatch(self._files, self._write_ahead, self._state, self._run, self._writer.look)
        self._note_converter = NoteConverter(
            self._write_ahead, self.contents.entries, self._directories, self._state, self._run
        )
        self.announcements: deque[str] = self._writer.announcements  # lines for notifications; the daemon removes them
        self._on_entry: Callable[[Entry], object] = lambda entry: None
        self._latch_stands_until = 1  # latch files are kept until the record of this number is durable
        self._queue = RecordQueue(self._writer.inbox, self._write_ahead, lambda entry: self._on_entry(entry))
        self._announced_silence = self._closed = False
        self._write_scheduled = self._sync_scheduled = False  # a write is posted; the next write requests an fsync

    def deliver_to(self, on_entry: Callable[[Entry], object]) -> None:
        """Call `on_entry` with each record from now on; reports are folded from `contents` before."""
        self._on_entry = on_entry

    # ── state and troubles ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def trouble(self) -> str:
        """Return all that is wrong with the journal in one line, "" if nothing is."""
        writer, latches = self._writer, [file.trouble for file in self._files]
        troubles = (
            self.silence_trouble,
            self.write_trouble,
            writer.mark_trouble,
            *latches,
            writer.rotate_trouble,
            self.sync_trouble,
        )
        return "; ".join(filter(None, troubles))

    @property
    def silence_trouble(self) -> str:
        """Return a message if the state directory's file system hangs, "" if it does not."""
        lasts_ns = self._state.running_ns(clock.now().mono_ns)
        return f"the state directory {self._directories[0]} does not answer" if lasts_ns > HANGS_AFTER_NS else ""

    @property
    def write_trouble(self) -> str:
        """Return why records are not written, "" if they are or the first write is still in progress."""
        displaced = self._writer.displaced
        gone = displaced and f"journal {self.path} {displaced} {DISPLACED}: nothing is on record"
        return gone or self._writer.trouble

    @property
    def write_ahead_trouble(self) -> str:
        """Return why no note can be written, "" if it can. Without a note a kill waits for its record."""
        return self._write_ahead.trouble

    @property
    def sync_trouble(self) -> str:
        """Return why records in the file may not survive a power cut, "" if the last fsync succeeded."""
        syncing = self._writer.syncing
        slow = syncing.running_ns(clock.now().mono_ns) > SYNC_HANGS_AFTER_NS
        why = syncing.trouble or ("the disk does not answer" if slow else "")
        return why and f"journal {self.path}: sync failed: {why}"

    def displaced(self) -> bool:
        """Return whether the file under the journal's name was another file or cut, at the last look."""
        return bool(self._writer.displaced)

    @property
    def is_on_record(self) -> bool:
        """True if every record so far is in the file."""
        return not self._queue.fresh and self._writer.written >= self._queue.numbered and not self._writer.displaced

    @property
    def is_latched(self) -> bool:
        """True if the next start trips by the reported reasons: by record, note or latch file."""
        self._queue.number()
        self._collect_results()
        written = self._writer.written >= self._queue.last_trip and not self._writer.displaced
        return written or self._write_ahead.is_pending or any(file.exists for file in self._files)

    @property
    def head(self) -> segments.ChainHead:
        """Return the newest record that is in the file."""
        return self._writer.head

    def figures(self, mono_ns: int) -> JournalFigures:
        """Return how much is written, and how much is not."""
        writer = self._writer
        unwritten = self._queue.numbered + self._queue.fresh - writer.written
        return JournalFigures(unwritten, writer.syncing.running_ns(mono_ns), writer.written, *writer.sizes)

    # ── records ───────────────────────────────────────────────────────────────────────────────────────────────────

    def note_ahead(self, reason: Reason) -> bool:
        """Write the reason's write-ahead note; return False if the note may be lost with this process.

        After True the caller may send commands before `append_latch` has the reason's record.
        """
        return self._write_ahead.write(reason)

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        """Queue a record; `flush` requests the write. The call is cheap, because venues' replies wait behind it.

        Data that `order_tracker` has deferred is computed when the record is numbered, in the same thread.
        """
        self._queue.append(kind, data, at)

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        """Queue a record that must survive this process; return False if it may be lost, with `trouble` set.

        On return a reason is in the note, in the journal or in a latch file. A record that moves a latch to another
        name is in the journal, unless the disk takes longer than `LATCH_WITHIN_S`. The caller sends the strike next
        and then calls `sync` and `flush`.
        """
        covered = self._write_ahead.covers(data) if kind == "reason" else not _changes_latched_login(kind, data)
        self.append(kind, data, at)
        self._queue.number()
        if covered:  # a re-arm that is not recorded is none at the next start, which is the safe side
            if kind != "reason" and not self._write_ahead.is_pending:  # during a strike, `sync` follows
                self._schedule_write()
            return not self._writer.trouble and not self._writer.displaced
        self._state.carry_out(self._writer.write, LATCH_WITHIN_S)
        if self.is_on_record:
            return True
        if self._writer.written < self._queue.numbered and not self._writer.trouble and not self._writer.displaced:
            line = latch_line(_NOT_RECORDED, data.get("accounts"), at)
            self._latch_stands_until = max(self._latch_stands_until, self._queue.numbered)
            self._run.carry_out(lambda: self._files[1].append_line(line), LATCH_WITHIN_S)
        return False

    def flush(self) -> bool:
        """Request a write of all records so far; return False, with `trouble` set, if the last write failed."""
        self.deliver_entries()
        self._collect_results()
        if not self.is_on_record:
            self._schedule_write()
        return not (self._writer.trouble or self._writer.displaced or self._closed)

    def sync(self) -> None:
        """Request a write and an fsync of all records so far; the threads do both."""
        self._queue.number()
        self._sync_scheduled = True
        self._schedule_write()

    def _schedule_write(self) -> None:
        """Post one write to the thread for all requests until it begins."""
        if not self._write_scheduled:
            self._write_scheduled = True
            self._state.post(self._write)

    def _write(self) -> None:
        """Write, in the thread."""
        self._write_scheduled = False  # first, so that a request from now on posts another write
        sync, self._sync_scheduled = self._sync_scheduled, False
        self._writer.write(sync=sync)

    def retry_pending(self) -> None:
        """Retry all that has failed, and look at the latch files; waits for nothing. Call it about once a second."""
        self.deliver_entries()
        self._collect_results()
        self._write_ahead.give_up()
        self._note_converter.request()
        silent = self.silence_trouble
        if silent and not self._announced_silence:
            self.announcements.append(f"{silent}: a kill goes on without it, and nothing is on record")
        self._announced_silence = bool(silent)
        self.latch_watch.request_look(self._latch_stands_until)
        self._collect_results()

    def close(self) -> None:
        """Write and fsync the remaining records and release the lock; wait for `_CLOSE_WITHIN_S` at most."""
        self.deliver_entries()
        self._collect_results()
        known = [file.known() for file in self._files]
        self._state.post(lambda: self._writer.close(known, self._latch_stands_until, _SYNC_WITHIN_S))
        until_s = time.monotonic() + _CLOSE_WITHIN_S
        ended = self._state.close(_CLOSE_WITHIN_S)
        self._run.close(max(0.0, until_s - time.monotonic()))
        self._collect_results()
        self._closed = True
        self._write_ahead.close()
        if ended:  # else the thread still uses the file, and the lock is kept until this process ends
            self._writer.close_file()
            os.close(self._lock)

    def deliver_entries(self) -> None:
        """Pass every record so far to the listener of `deliver_to`, written or not."""
        self._queue.deliver()

    def _collect_results(self) -> None:
        """Apply the results of the threads."""
        self._note_converter.collect(self._writer.written)
        self.latch_watch.collect()
        self._write_ahead.truncate_if_recorded(0 if self._writer.displaced else self._writer.written)

    # ── latches ───────────────────────────────────────────────────────────────────────────────────────────────────

    def foreign_latch(self) -> str | None:
        """Return the foreign lines of the latch files, None if there are none yet. `adopt_latch` acknowledges them."""
        self._collect_results()
        return self.latch_watch.foreign_latch(self._latch_stands_until)

    def adopt_latch(self, text: str) -> None:
        """Acknowledge the lines that `foreign_latch` returned; call it after the reason's record was appended.

        The latch files are kept until that record is durable.
        """
        self.latch_watch.acknowledge(text)
        self._queue.number()
        self._latch_stands_until = max(self._latch_stands_until, self._queue.numbered)


def _changes_latched_login(kind: str, data: Mapping[str, object]) -> bool:
    """Return whether a record moves a latch to another name or login: no other file has that."""
    return kind == "identity" or (kind == "resume" and bool(data.get("moved")))
