"""Write down every decision, numbered and chained, so that the state survives and nobody can change the past unseen.

`journal.jsonl` holds one JSON object a line: `seq, at, mono_ns, boot, kind, data, prev, hash`. `hash` is SHA-256 over
the line without it, `prev` the hash of the line before. `segments` reads it, and says how it goes on in further files.

Nothing here raises on the kill path, and nothing waits for the state directory: `writer` has a thread for that. What a
kill waits for is its intent, one `write(2)` into memory. It stands until the record's `write(2)` has succeeded, which
survives `kill -9`; `fdatasync`, for the machine's own death, runs in another thread. Only where no intent can be noted,
a kill waits for its record, and no longer than `LATCH_WITHIN_S`.

What cannot be written stays in memory and is tried again; a latch record goes to a latch file (`latches`) meanwhile.
That file's mere presence trips: at the next start, or at once if whoever wrote it was another process (`fire --direct`
beside a daemon that hangs). It goes once the disk itself has the journal's record: there is no moment in which a power
cut leaves neither.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from kill_switch import clock
from kill_switch.core.domain import Instant, Reason
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

LATCH_WITHIN_S = 0.1  # a kill whose intent could not be noted waits that long for its record
SYNC_HANGS_AFTER_NS = 10_000_000_000  # a sync may take longer: a disk that is busy is no disk that hangs
_CLOSE_WITHIN_S = 5.0
_SYNC_WITHIN_S = 4.0
_NOT_RECORDED = "tripped accounts have other logins or names now, and the disk did not take that in time"


class Journal:
    """Append to the journal of one state directory; holds its lock, so that there is one daemon to a directory."""

    def __init__(
        self,
        state_dir: Path,
        runtime_dir: Path,
        reading: Callable[[], object] = lambda: None,
        *,
        syncer: Callable[[int, int, Callable[[], None]], FsyncThread] | None = None,
        worker: Callable[[str], JobThread] | None = None,
    ) -> None:
        """Open and lock; raises `AlreadyRunning` or `CannotCreate`. `replay` is what was there, set aside if broken.

        `replay.entries` stand for all that were ever written, as `checkpoint` says. `reading` is called again and again
        while a file is read that is longer than any that this version writes. `syncer` makes what syncs the file, and
        `worker` the thread of a directory.
        """
        self.path = state_dir / NAME
        self._lock = opening.lock(state_dir)
        self._directories = state_dir, runtime_dir
        self._files = LatchFile(state_dir / LATCH), LatchFile(runtime_dir / LATCH)
        self._write_ahead = WriteAheadNote(runtime_dir / INTENT)
        try:
            self.contents = read_at_start(self.path, reading)
            distrust = opening.why_untrusted(self.path, self.contents, self._lock)
            if distrust:  # before anything is touched
                leave_latch_line(latch_line(distrust, "all", clock.now()), state_dir)
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
        self.latch_watch = LatchWatch(
            self._files, self._write_ahead, self._state, self._run, self._writer.look, lambda: self.on_latch()
        )
        self._note_converter = NoteConverter(
            self._write_ahead, self.contents.entries, self._directories, self._state, self._run
        )
        self.announcements: deque[str] = self._writer.announcements  # what people are to be told, a line each
        self.on_entry: Callable[[Entry], None] = lambda entry: None
        self.on_latch: Callable[[], object] = lambda: None  # called in another thread: somebody has left a latch
        self._latch_stands_until = 1  # latch files stand until the disk has so many records
        self._queue = RecordQueue(self._writer.inbox, self._write_ahead, lambda entry: self.on_entry(entry))
        self._announced_silence = self._closed = False
        self._write_scheduled = self._sync_scheduled = False  # to write; to have the disk take it

    # ── what is the matter ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def trouble(self) -> str:
        """Say what the matter is with the record, "" if nothing is."""
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
        """Say that the state directory's file system does not answer, "" if it does."""
        lasts_ns = self._state.running_ns(clock.now().mono_ns)
        return f"the state directory {self._directories[0]} does not answer" if lasts_ns > HANGS_AFTER_NS else ""

    @property
    def write_trouble(self) -> str:
        """Say why records are not written, "" if they are, or nothing has come of it yet."""
        displaced = self._writer.displaced
        gone = displaced and f"journal {self.path} {displaced} under the running daemon: nothing is on record"
        return gone or self._writer.trouble

    @property
    def write_ahead_trouble(self) -> str:
        """Say why no intent can be noted, "" if it can: a kill's first commands wait for their record then."""
        return self._write_ahead.trouble

    @property
    def sync_trouble(self) -> str:
        """Say why a power cut may undo what is in the file."""
        syncing = self._writer.syncing
        slow = syncing.running_ns(clock.now().mono_ns) > SYNC_HANGS_AFTER_NS
        why = syncing.trouble or ("the disk does not answer" if slow else "")
        return why and f"journal {self.path}: sync failed: {why}"

    def displaced(self) -> bool:
        """Tell whether the file under the journal's name was another one than is written, when it was looked at."""
        return bool(self._writer.displaced)

    @property
    def is_on_record(self) -> bool:
        """Every record so far is in the file."""
        return not self._queue.fresh and self._writer.written >= self._queue.numbered and not self._writer.displaced

    @property
    def is_latched(self) -> bool:
        """Tell whether the next start trips by what has been reported, though it may not be in the file."""
        self._queue.number()
        self._collect_results()
        written = self._writer.written >= self._queue.last_trip and not self._writer.displaced
        return written or self._write_ahead.is_pending or any(file.exists for file in self._files)

    @property
    def head(self) -> segments.ChainHead:
        """Return the newest record that is in the file."""
        return self._writer.head

    def backlog(self, mono_ns: int) -> tuple[int, int]:
        """Return how many records are not in the file yet, and for how long, in ns, the sync under way has lasted."""
        return self._queue.numbered + self._queue.fresh - self._writer.written, self._writer.syncing.running_ns(mono_ns)

    # ── records ───────────────────────────────────────────────────────────────────────────────────────────────────

    def note_ahead(self, reason: Reason) -> bool:
        """Say that `latch` follows with this reason's record; True if that cannot be lost until then."""
        return self._write_ahead.write(reason)

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        """Take a record; `flush` has it written. Costs next to nothing, so that answers are not kept waiting.

        What `tally.Due` has left for later in its data is computed when the record is numbered, in the same thread.
        """
        self._queue.append(kind, data, at)

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        """Take a record that must not be lost; False if it may be, with `trouble` told.

        A reason is in the intent when this returns, or in the file, or in a latch file. What gives a latch to another
        name is in the file, unless the disk takes longer than `LATCH_WITHIN_S`. The next `flush` tells `on_entry` of
        it, and `sync` has it written and put on the disk: a strike is waiting.
        """
        covered = self._write_ahead.covers(data) if kind == "reason" else not _changes_latched_login(kind, data)
        self.append(kind, data, at)
        self._queue.number()
        if covered:  # a re-arm that is not on record is none at the next start, which is the safe side
            if kind != "reason" and not self._write_ahead.is_pending:  # in a strike, `sync` comes soon enough
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
        """Have all that came written, soon; False, with `trouble` told, if the disk took nothing the last time."""
        self.deliver_entries()
        self._collect_results()
        if not self.is_on_record:
            self._schedule_write()
        return not (self._writer.trouble or self._writer.displaced or self._closed)

    def sync(self) -> None:
        """Have all that came written and put on the disk, by the threads beside."""
        self._queue.number()
        self._sync_scheduled = True
        self._schedule_write()

    def _schedule_write(self) -> None:
        """Have the thread write, once for all who ask."""
        if not self._write_scheduled:
            self._write_scheduled = True
            self._state.post(self._write)

    def _write(self) -> None:
        """Write, in the thread; whoever asks from now on is not forgotten."""
        self._write_scheduled = False
        sync, self._sync_scheduled = self._sync_scheduled, False
        self._writer.write(sync=sync)

    def retry_pending(self) -> None:
        """Look after everything; it waits for nothing. To be called again and again: what has failed is tried again."""
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
        """Write and sync what is left, and let go of the lock; a disk that hangs is waited for within a bound."""
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
        if ended:  # else the thread still has the file, and nobody else is to have it before this process has ended
            self._writer.close_file()
            os.close(self._lock)

    def deliver_entries(self) -> None:
        """Give `on_entry` every record that was taken so far, written or not. A strike does not wait for that."""
        self._queue.deliver()

    def _collect_results(self) -> None:
        """Take note of what the threads have done."""
        self._note_converter.collect(self._writer.written)
        self.latch_watch.collect()
        self._write_ahead.truncate_if_recorded(0 if self._writer.displaced else self._writer.written)

    # ── latches ───────────────────────────────────────────────────────────────────────────────────────────────────

    def foreign_latch(self) -> str | None:
        """Return what latch files said that this journal has neither left itself nor taken over; None if nothing."""
        self._collect_results()
        return self.latch_watch.foreign_latch(self._latch_stands_until)

    def adopt_latch(self, text: str) -> None:
        """Take over what `foreign_latch` said; the files stand until the disk has the journal's own word for it."""
        self.latch_watch.acknowledge(text)
        self._queue.number()
        self._latch_stands_until = max(self._latch_stands_until, self._queue.numbered)


def _changes_latched_login(kind: str, data: Mapping[str, object]) -> bool:
    """Say whether a record has a latch under another name, or for another login: nothing else remembers that."""
    return kind == "identity" or (kind == "resume" and bool(data.get("moved")))
