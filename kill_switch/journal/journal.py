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
from kill_switch.core import tally
from kill_switch.core.domain import Now, Reason
from kill_switch.errors import CannotCreate
from kill_switch.journal import opening, segments
from kill_switch.journal.checkpoint import Snapshot
from kill_switch.journal.fsync import Syncing
from kill_switch.journal.latch_file import NAME as LATCH
from kill_switch.journal.latch_file import LatchFile, latch_line, latch_text, leave
from kill_switch.journal.records import TRIPS
from kill_switch.journal.records import Entry as Entry
from kill_switch.journal.segments import GENESIS as GENESIS
from kill_switch.journal.segments import NAME as NAME
from kill_switch.journal.segments import Replay as Replay
from kill_switch.journal.segments import read as read
from kill_switch.journal.segments import remember
from kill_switch.journal.write_ahead import NAME as INTENT
from kill_switch.journal.write_ahead import Found, Intent, unrecorded
from kill_switch.journal.writer import KEEP, Record, Writer, plain
from kill_switch.system.job_thread import Worker

log = logging.getLogger(__name__)

LATCH_WITHIN_S = 0.1  # a kill whose intent could not be noted waits that long for its record
SILENT_NS = 1_000_000_000  # a call that has lasted for so long hangs
SYNC_SILENT_NS = 10_000_000_000  # a sync may take longer: a disk that is busy is no disk that hangs
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
        syncer: Callable[[int, int, Callable[[], None]], Syncing] | None = None,
        worker: Callable[[str], Worker] | None = None,
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
        self._intent = Intent(runtime_dir / INTENT)
        try:
            self.replay = remember(self.path, reading)
            distrust = opening.why_untrusted(self.path, self.replay, self._lock)
            if distrust:  # before anything is touched
                _leave_latch(latch_line(distrust, "all", clock.now()), state_dir)
            if self._intent.found:
                for line in unrecorded(self._intent.found, self.replay.entries):
                    _leave_latch(line, *self._directories)
                if not self._intent.opened:
                    self._intent.remove()
                    self._intent.mend()
                self._intent.forget(self._intent.found, 0)
            fd, size, self.set_aside = opening.take_over(self.path, self.replay)
        except OSError as error:
            self._intent.close()
            os.close(self._lock)
            raise CannotCreate(f"journal {self.path}: {error.strerror}") from error
        known = not self.set_aside and self.replay.snapshot is not None
        snapshot = self.replay.snapshot if known and self.replay.snapshot is not None else Snapshot()
        entries = self.replay.entries if known else []
        self._writer = Writer(self.path, fd, size, snapshot, entries, self._lock, self._files, syncer or Syncing)
        for file in self._files:
            file.look()
        self.news: deque[str] = self._writer.news  # what people are to be told, a line each
        self.on_entry: Callable[[Entry], None] = lambda entry: None
        self.on_latch: Callable[[], object] = lambda: None  # called in another thread: somebody has left a latch
        self._boot = clock.boot_id()
        self._appended = 0  # records so far
        self._trips = 0  # number of the last one that trips
        self._stands = 1  # latch files stand until the disk has so many records
        self._fresh: list[tuple[str, Mapping[str, object], Now]] = []  # appended, and neither numbered nor written yet
        self._untold: list[tuple[str, Mapping[str, object], Now]] = []  # not told to `on_entry` yet
        self._told_silent = self._closed = False
        self._left: deque[list[bytes]] = deque()  # lines of the intent that a latch was left for
        self._looked: deque[Found | None] = deque()  # what has come of a look after the intent
        self._looking = self._looking_runtime = self._leaving = False  # a job for that is not over yet
        self._looked_ns = 0  # when both were last asked to look
        self._foreign = False  # somebody may have left a latch
        self._sure = True  # both files were looked at since one of them was found
        self._asked = self._sync_asked = False  # to write; to have the disk take it
        begin_worker = worker or Worker
        self._state = begin_worker("journal")
        self._run = begin_worker("journal-runtime")

    # ── what is the matter ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def trouble(self) -> str:
        """Say what the matter is with the record, "" if nothing is."""
        writer, latches = self._writer, [file.trouble for file in self._files]
        troubles = (self.silent, self.unwritten, writer.unmarked, *latches, writer.unrotated, self.unsynced)
        return "; ".join(filter(None, troubles))

    @property
    def silent(self) -> str:
        """Say that the state directory's file system does not answer, "" if it does."""
        lasts_ns = self._state.lasts_ns(clock.now().mono_ns)
        return f"the state directory {self._directories[0]} does not answer" if lasts_ns > SILENT_NS else ""

    @property
    def unwritten(self) -> str:
        """Say why records are not written, "" if they are, or nothing has come of it yet."""
        return self._displaced() or self._writer.trouble

    @property
    def unintended(self) -> str:
        """Say why no intent can be noted, "" if it can: a kill's first commands wait for their record then."""
        return self._intent.trouble

    @property
    def unsynced(self) -> str:
        """Say why a power cut may undo what is in the file."""
        syncing = self._writer.syncing
        slow = syncing.lasts_ns(clock.now().mono_ns) > SYNC_SILENT_NS
        why = syncing.trouble or ("the disk does not answer" if slow else "")
        return why and f"journal {self.path}: sync failed: {why}"

    def displaced(self) -> bool:
        """Tell whether the file under the journal's name was another one than is written, when it was looked at."""
        return bool(self._writer.displaced)

    def _displaced(self) -> str:
        what = self._writer.displaced
        return what and f"journal {self.path} {what} under the running daemon: nothing is on record"

    @property
    def on_record(self) -> bool:
        """Every record so far is in the file."""
        return not self._fresh and self._writer.written >= self._appended and not self._writer.displaced

    @property
    def is_latched(self) -> bool:
        """Tell whether the next start trips by what has been reported, though it may not be in the file."""
        self._number()
        self._poll()
        written = self._writer.written >= self._trips and not self._writer.displaced
        return written or self._intent.awaits or any(file.there for file in self._files)

    @property
    def head(self) -> segments.Head:
        """Return the newest record that is in the file."""
        return self._writer.head

    def lag(self, mono_ns: int) -> tuple[int, int]:
        """Return how many records are not in the file yet, and for how long, in ns, the sync under way has lasted."""
        return self._appended + len(self._fresh) - self._writer.written, self._writer.syncing.lasts_ns(mono_ns)

    # ── records ───────────────────────────────────────────────────────────────────────────────────────────────────

    def intend(self, reason: Reason) -> bool:
        """Say that `latch` follows with this reason's record; True if that cannot be lost until then."""
        return self._intent.note(reason)

    def append(self, kind: str, data: Mapping[str, object], at: Now) -> None:
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
            data = tally.settled(kind, appended)
            self._untold.append((kind, data, at))
            if len(inbox) >= KEEP and kind not in TRIPS:
                continue  # the thread that takes them hangs
            self._appended += 1
            inbox.append(Record(self._appended, kind, data, at))
            if kind in TRIPS:
                self._trips = self._appended
            if kind == "reason":
                self._intent.recorded(data, self._appended)

    def latch(self, kind: str, data: Mapping[str, object], at: Now) -> bool:
        """Take a record that must not be lost; False if it may be, with `trouble` told.

        A reason is in the intent when this returns, or in the file, or in a latch file. What gives a latch to another
        name is in the file, unless the disk takes longer than `LATCH_WITHIN_S`. The next `flush` tells `on_entry` of
        it, and `sync` has it written and put on the disk: a strike is waiting.
        """
        covered = self._intent.covers(data) if kind == "reason" else not _renames(kind, data)
        self.append(kind, data, at)
        self._number()
        if covered:  # a re-arm that is not on record is none at the next start, which is the safe side
            if kind != "reason" and not self._intent.awaits:  # in a strike, `sync` comes soon enough
                self._ask()
            return not self._writer.trouble and not self._writer.displaced
        self._state.carry_out(self._writer.write, LATCH_WITHIN_S)
        if self.on_record:
            return True
        if self._writer.written < self._appended and not self._writer.trouble and not self._writer.displaced:
            line = latch_line(_NOT_RECORDED, data.get("accounts"), at)
            self._stands = max(self._stands, self._appended)
            self._run.carry_out(lambda: self._files[1].leave(line), LATCH_WITHIN_S)
        return False

    def flush(self) -> bool:
        """Have all that came written, soon; False, with `trouble` told, if the disk took nothing the last time."""
        self.tell()
        self._poll()
        if not self.on_record:
            self._ask()
        return not (self._writer.trouble or self._writer.displaced or self._closed)

    def sync(self) -> None:
        """Have all that came written and put on the disk, by the threads beside."""
        self._number()
        self._sync_asked = True
        self._ask()

    def _ask(self) -> None:
        """Have the thread write, once for all who ask."""
        if not self._asked:
            self._asked = True
            self._state.post(self._write)

    def _write(self) -> None:
        """Write, in the thread; whoever asks from now on is not forgotten."""
        self._asked = False
        sync, self._sync_asked = self._sync_asked, False
        self._writer.write(sync=sync)

    def settle(self) -> None:
        """Look after everything; it waits for nothing. To be called again and again: what has failed is tried again."""
        self.tell()
        self._poll()
        self._intent.give_up()
        if self._intent.found and not self._leaving:
            self._leaving = True
            lines = list(self._intent.found)
            self._state.post(lambda: self._left.append(self._leave_intended(lines)))
        silent = self.silent
        if silent and not self._told_silent:
            self.news.append(f"{silent}: a kill goes on without it, and nothing is on record")
        self._told_silent = bool(silent)
        self._look_at_both()
        self._poll()

    def close(self) -> None:
        """Write and sync what is left, and let go of the lock; a disk that hangs is waited for within a bound."""
        self.tell()
        self._poll()
        known = [file.known() for file in self._files]
        self._state.post(lambda: self._writer.close(known, self._stands, _SYNC_WITHIN_S))
        until_s = time.monotonic() + _CLOSE_WITHIN_S
        ended = self._state.close(_CLOSE_WITHIN_S)
        self._run.close(max(0.0, until_s - time.monotonic()))
        self._poll()
        self._closed = True
        self._intent.close()
        if ended:  # else the thread still has the file, and nobody else is to have it before this process has ended
            self._writer.let_go()
            os.close(self._lock)

    def tell(self) -> None:
        """Give `on_entry` every record that was taken so far, written or not. A strike does not wait for that."""
        self._number()
        untold, self._untold = self._untold, []
        for kind, data, at in untold:
            stamps = {"at": clock.iso(at.wall_ns), "mono_ns": at.mono_ns, "boot": self._boot}
            try:
                self.on_entry({**stamps, "kind": kind, "data": plain(data)})
            except Exception:  # what the reports cannot take is in the journal all the same
                log.exception("a record of the kind %s is not in the reports", kind)

    def _poll(self) -> None:
        """Take note of what the threads have done."""
        for file in self._files:
            file.poll()
        while self._left:
            self._leaving, lines = False, self._left.popleft()
            if lines and not self._intent.opened:
                self._run.post(self._intent.remove)  # the next look makes it anew
            self._intent.forget(lines, self._writer.written)
        while self._looked:
            found = self._looked.popleft()
            if found is None:
                self._intent.well()
            else:
                self._intent.adopt(found)
        self._intent.fulfil(0 if self._writer.displaced else self._writer.written)

    # ── latches ───────────────────────────────────────────────────────────────────────────────────────────────────

    def foreign_latch(self) -> str | None:
        """Return what latch files said that this journal has neither left itself nor taken over; None if nothing."""
        self._poll()
        under_way = self._looking or self._looking_runtime
        if under_way and clock.now().mono_ns - self._looked_ns < SILENT_NS:
            return None  # soon
        said = [line for file in self._files for line in file.foreign()]
        self._foreign = bool(said)
        if said and not self._sure:  # a kill that found no room in one directory leaves something in both
            self._sure = True
            self._look_at_both()
            return self.foreign_latch()
        self._sure = False
        return "\n".join(said) if said else None

    @property
    def has_foreign_latch(self) -> bool:
        """Tell whether a latch file says something that is not this journal's, as far as the files were looked at."""
        return any(file.foreign() for file in self._files)

    @property
    def looking(self) -> bool:
        """Tell whether a look after the latch files is under way; `settle` begins one."""
        self._poll()
        return self._looking or self._looking_runtime

    def take_latch(self, said: str) -> None:
        """Take over what `foreign_latch` said; the files stand until the disk has the journal's own word for it."""
        for file in self._files:
            file.take(said.split("\n"))
        self._number()
        self._stands = max(self._stands, self._appended)

    def _look_at_both(self) -> None:
        """Have both directories looked after, by their threads."""
        known, stands = [file.known() for file in self._files], self._stands
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
            self._foreign = self._writer.look(known, stands) or self._foreign
        finally:
            self._looking = False
        if self._foreign:
            self.on_latch()

    def _look_after_runtime(self) -> None:
        """Look after the runtime directory, in its thread."""
        try:
            self._looked.append(self._intent.look())
            self._foreign = self._files[1].look() or self._foreign
        finally:
            self._looking_runtime = False
        if self._foreign:
            self.on_latch()

    def _leave_intended(self, lines: list[bytes]) -> list[bytes]:
        """Leave a latch for what was intended and has never been put on record, in the thread; return what is done."""
        try:
            for line in unrecorded(lines, self.replay.entries):
                _leave_latch(line, *self._directories)
        except OSError as error:  # it stays where it is, and is tried again
            log.error("journal %s: %s", self.path, error.strerror)
            return []
        return lines


def _leave_latch(line: bytes, *directories: Path) -> None:
    """Leave a latch for the next look at them, whoever's it is, in the first directory that takes it, or raise."""
    if not leave([directory / LATCH for directory in directories], line, sync=True):
        raise OSError(errno.ENOSPC, f"{latch_text(line.decode(errors='replace'))}, and no latch can be left beside it")


def _renames(kind: str, data: Mapping[str, object]) -> bool:
    """Say whether a record has a latch under another name, or for another login: nothing else remembers that."""
    return kind == "identity" or (kind == "resume" and bool(data.get("moved")))
