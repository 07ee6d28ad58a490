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

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from kill_switch import clock
from kill_switch.core import order_tracker
from kill_switch.core.domain import Instant, Reason
from kill_switch.errors import CannotCreate
from kill_switch.journal import opening, segments
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.fsync import FsyncThread
from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from kill_switch.journal.latch_file import LatchFile, append_to_first
from kill_switch.journal.latch_lines import latch_line, latch_text
from kill_switch.journal.plain_json import to_plain
from kill_switch.journal.records import TRIPS
from kill_switch.journal.records import Entry as Entry
from kill_switch.journal.segments import GENESIS as GENESIS
from kill_switch.journal.segments import NAME as NAME
from kill_switch.journal.segments import JournalContents as JournalContents
from kill_switch.journal.segments import read_journal as read_journal
from kill_switch.journal.segments import remember
from kill_switch.journal.write_ahead import NAME as INTENT
from kill_switch.journal.write_ahead import FoundNotes, WriteAheadNote, unrecorded
from kill_switch.journal.writer import KEEP_SEGMENTS, JournalWriter, PendingRecord
from kill_switch.system.job_thread import JobThread

log = logging.getLogger(__name__)

LATCH_WITHIN_S = 0.1  # a kill whose intent could not be noted waits that long for its record
HANGS_AFTER_NS = 1_000_000_000  # a call that has lasted for so long hangs
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
            self.contents = remember(self.path, reading)
            distrust = opening.why_untrusted(self.path, self.contents, self._lock)
            if distrust:  # before anything is touched
                _leave_latch(latch_line(distrust, "all", clock.now()), state_dir)
            if self._write_ahead.found:
                for line in unrecorded(self._write_ahead.found, self.contents.entries):
                    _leave_latch(line, *self._directories)
                if not self._write_ahead.opened:
                    self._write_ahead.remove()
                    self._write_ahead.reopen_if_removed()
                self._write_ahead.discard_found(self._write_ahead.found, 0)
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
        self.announcements: deque[str] = self._writer.announcements  # what people are to be told, a line each
        self.on_entry: Callable[[Entry], None] = lambda entry: None
        self.on_latch: Callable[[], object] = lambda: None  # called in another thread: somebody has left a latch
        self._boot = clock.boot_id()
        self._appended = 0  # records so far
        self._trips = 0  # number of the last one that trips
        self._latch_stands_until = 1  # latch files stand until the disk has so many records
        self._fresh: list[
            tuple[str, Mapping[str, object], Instant]
        ] = []  # appended, and neither numbered nor written yet
        self._entries_for_listener: list[tuple[str, Mapping[str, object], Instant]] = []  # not told to `on_entry` yet
        self._announced_silence = self._closed = False
        self._latched_lines: deque[list[bytes]] = deque()  # lines of the intent that a latch was left for
        self._looked: deque[FoundNotes | None] = deque()  # what has come of a look after the intent
        self._looking = self._looking_runtime = self._leaving = False  # a job for that is not over yet
        self._looked_ns = 0  # when both were last asked to look
        self._may_have_foreign_latch = False  # somebody may have left a latch
        self._latch_files_checked = True  # both files were looked at since one of them was found
        self._write_scheduled = self._sync_scheduled = False  # to write; to have the disk take it
        begin_worker = worker or JobThread
        self._state = begin_worker("journal")
        self._run = begin_worker("journal-runtime")

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
        return self._displaced() or self._writer.trouble

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

    def _displaced(self) -> str:
        displaced = self._writer.displaced
        return displaced and f"journal {self.path} {displaced} under the running daemon: nothing is on record"

    @property
    def is_on_record(self) -> bool:
        """Every record so far is in the file."""
        return not self._fresh and self._writer.written >= self._appended and not self._writer.displaced

    @property
    def is_latched(self) -> bool:
        """Tell whether the next start trips by what has been reported, though it may not be in the file."""
        self._number()
        self._collect_results()
        written = self._writer.written >= self._trips and not self._writer.displaced
        return written or self._write_ahead.awaits or any(file.exists for file in self._files)

    @property
    def head(self) -> segments.ChainHead:
        """Return the newest record that is in the file."""
        return self._writer.head

    def backlog(self, mono_ns: int) -> tuple[int, int]:
        """Return how many records are not in the file yet, and for how long, in ns, the sync under way has lasted."""
        return self._appended + len(self._fresh) - self._writer.written, self._writer.syncing.running_ns(mono_ns)

    # ── records ───────────────────────────────────────────────────────────────────────────────────────────────────

    def note_ahead(self, reason: Reason) -> bool:
        """Say that `latch` follows with this reason's record; True if that cannot be lost until then."""
        return self._write_ahead.write(reason)

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        """Take a record; `flush` has it written. Costs next to nothing, so that answers are not kept waiting.

        What `tally.Due` has left for later in its data is computed when the record is numbered, in the same thread.
        """
        self._fresh.append((kind, data, at))

    def _number(self) -> None:
        """Number the fresh records, and pass them to the thread that writes."""
        if not self._fresh:
            return
        inbox, fresh, self._fresh = self._writer.inbox, self._fresh, []
        for kind, appended, at in fresh:
            data = order_tracker.settled(kind, appended)
            self._entries_for_listener.append((kind, data, at))
            if len(inbox) >= KEEP_SEGMENTS and kind not in TRIPS:
                continue  # the thread that takes them hangs
            self._appended += 1
            inbox.append(PendingRecord(self._appended, kind, data, at))
            if kind in TRIPS:
                self._trips = self._appended
            if kind == "reason":
                self._write_ahead.mark_recorded(data, self._appended)

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        """Take a record that must not be lost; False if it may be, with `trouble` told.

        A reason is in the intent when this returns, or in the file, or in a latch file. What gives a latch to another
        name is in the file, unless the disk takes longer than `LATCH_WITHIN_S`. The next `flush` tells `on_entry` of
        it, and `sync` has it written and put on the disk: a strike is waiting.
        """
        covered = self._write_ahead.covers(data) if kind == "reason" else not _changes_latched_login(kind, data)
        self.append(kind, data, at)
        self._number()
        if covered:  # a re-arm that is not on record is none at the next start, which is the safe side
            if kind != "reason" and not self._write_ahead.awaits:  # in a strike, `sync` comes soon enough
                self._schedule_write()
            return not self._writer.trouble and not self._writer.displaced
        self._state.carry_out(self._writer.write, LATCH_WITHIN_S)
        if self.is_on_record:
            return True
        if self._writer.written < self._appended and not self._writer.trouble and not self._writer.displaced:
            line = latch_line(_NOT_RECORDED, data.get("accounts"), at)
            self._latch_stands_until = max(self._latch_stands_until, self._appended)
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
        self._number()
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
        if self._write_ahead.found and not self._leaving:
            self._leaving = True
            lines = list(self._write_ahead.found)
            self._state.post(lambda: self._latched_lines.append(self._convert_write_ahead_to_latch(lines)))
        silent = self.silence_trouble
        if silent and not self._announced_silence:
            self.announcements.append(f"{silent}: a kill goes on without it, and nothing is on record")
        self._announced_silence = bool(silent)
        self._look_at_both()
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
            self._writer.let_go()
            os.close(self._lock)

    def deliver_entries(self) -> None:
        """Give `on_entry` every record that was taken so far, written or not. A strike does not wait for that."""
        self._number()
        untold, self._entries_for_listener = self._entries_for_listener, []
        for kind, data, at in untold:
            stamps = {"at": clock.iso(at.wall_ns), "mono_ns": at.mono_ns, "boot": self._boot}
            try:
                self.on_entry({**stamps, "kind": kind, "data": to_plain(data)})
            except Exception:  # what the reports cannot take is in the journal all the same
                log.exception("a record of the kind %s is not in the reports", kind)

    def _collect_results(self) -> None:
        """Take note of what the threads have done."""
        for file in self._files:
            file.poll()
        while self._latched_lines:
            self._leaving, lines = False, self._latched_lines.popleft()
            if lines and not self._write_ahead.opened:
                self._run.post(self._write_ahead.remove)  # the next look makes it anew
            self._write_ahead.discard_found(lines, self._writer.written)
        while self._looked:
            notes = self._looked.popleft()
            if notes is None:
                self._write_ahead.well()
            else:
                self._write_ahead.adopt(notes)
        self._write_ahead.truncate_if_recorded(0 if self._writer.displaced else self._writer.written)

    # ── latches ───────────────────────────────────────────────────────────────────────────────────────────────────

    def foreign_latch(self) -> str | None:
        """Return what latch files said that this journal has neither left itself nor taken over; None if nothing."""
        self._collect_results()
        under_way = self._looking or self._looking_runtime
        if under_way and clock.now().mono_ns - self._looked_ns < HANGS_AFTER_NS:
            return None  # soon
        lines = [line for file in self._files for line in file.unseen_lines()]
        self._may_have_foreign_latch = bool(lines)
        if (
            lines and not self._latch_files_checked
        ):  # a kill that found no room in one directory leaves something in both
            self._latch_files_checked = True
            self._look_at_both()
            return self.foreign_latch()
        self._latch_files_checked = False
        return "\n".join(lines) if lines else None

    @property
    def has_foreign_latch(self) -> bool:
        """Tell whether a latch file says something that is not this journal's, as far as the files were looked at."""
        return any(file.unseen_lines() for file in self._files)

    @property
    def is_looking(self) -> bool:
        """Tell whether a look after the latch files is under way; `settle` begins one."""
        self._collect_results()
        return self._looking or self._looking_runtime

    def adopt_latch(self, text: str) -> None:
        """Take over what `foreign_latch` said; the files stand until the disk has the journal's own word for it."""
        for file in self._files:
            file.acknowledge(text.split("\n"))
        self._number()
        self._latch_stands_until = max(self._latch_stands_until, self._appended)

    def _look_at_both(self) -> None:
        """Have both directories looked after, by their threads."""
        known, stands = [file.known() for file in self._files], self._latch_stands_until
        if not self._looking and not self._looking_runtime:
            self._looked_ns = clock.now().mono_ns
        if not self._looking:
            self._looking = True
            self._state.post(lambda: self._look(known, stands))
        if not self._looking_runtime:
            self._looking_runtime = True
            self._run.post(self._look_after_runtime)

    def _look(self, known: list[frozenset[str]], stands: int) -> None:
        """Look after the state directory, in its thread."""
        try:
            self._may_have_foreign_latch = self._writer.look(known, stands) or self._may_have_foreign_latch
        finally:
            self._looking = False
        if self._may_have_foreign_latch:
            self.on_latch()

    def _look_after_runtime(self) -> None:
        """Look after the runtime directory, in its thread."""
        try:
            self._looked.append(self._write_ahead.look())
            self._may_have_foreign_latch = self._files[1].look() or self._may_have_foreign_latch
        finally:
            self._looking_runtime = False
        if self._may_have_foreign_latch:
            self.on_latch()

    def _convert_write_ahead_to_latch(self, lines: list[bytes]) -> list[bytes]:
        """Leave a latch for what was intended and has never been put on record, in the thread; return what is done."""
        try:
            for line in unrecorded(lines, self.contents.entries):
                _leave_latch(line, *self._directories)
        except OSError as error:  # it stays where it is, and is tried again
            log.error("journal %s: %s", self.path, error.strerror)
            return []
        return lines


def _leave_latch(line: bytes, *directories: Path) -> None:
    """Leave a latch for the next look at them, whoever's it is, in the first directory that takes it, or raise."""
    if not append_to_first([directory / LATCH for directory in directories], line, sync=True):
        raise OSError(errno.ENOSPC, f"{latch_text(line.decode(errors='replace'))}, and no latch can be left beside it")


def _changes_latched_login(kind: str, data: Mapping[str, object]) -> bool:
    """Say whether a record has a latch under another name, or for another login: nothing else remembers that."""
    return kind == "identity" or (kind == "resume" and bool(data.get("moved")))
