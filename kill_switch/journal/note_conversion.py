"""Convert write-ahead notes that have no record into latches, so that the next look at the latch files trips.

`Journal` converts the notes of an earlier process at its start. In the running daemon it converts the notes of a kill
that met a fault before its record.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from kill_switch.journal.latch_file import LATCH_NAME, append_to_first
from kill_switch.journal.latch_lines import latch_text
from kill_switch.journal.records import Entry
from kill_switch.journal.write_ahead import WriteAheadNote, unrecorded
from kill_switch.system.job_thread import JobThread

log = logging.getLogger(__name__)


class NoteConverter:
    """Convert the unrecorded lines of a note into latches, in the state directory's thread."""

    def __init__(
        self,
        note: WriteAheadNote,
        entries: Sequence[Entry],
        directories: Sequence[Path],
        state_thread: JobThread,
        runtime_thread: JobThread,
    ) -> None:
        self._note, self._entries, self._directories = note, entries, directories
        self._state_thread, self._runtime_thread = state_thread, runtime_thread
        self._converted: deque[list[bytes]] = deque()  # lines of the note that a latch was written for
        self._is_converting = False

    def request(self) -> None:
        """Post the conversion of the unrecorded lines, unless one is in progress."""
        if self._note.unrecorded_lines and not self._is_converting:
            self._is_converting = True
            lines = list(self._note.unrecorded_lines)
            self._state_thread.post(lambda: self._converted.append(self._convert(lines)))

    def collect(self, written: int) -> None:
        """Discard the lines that were converted; the journal has the records up to number `written`."""
        while self._converted:
            self._is_converting, lines = False, self._converted.popleft()
            if lines and not self._note.is_open:
                self._runtime_thread.post(self._note.remove)  # the next look creates it again
            self._note.discard_found(lines, written)

    def _convert(self, lines: list[bytes]) -> list[bytes]:
        """Write a latch for each line whose reason the journal lacks, in the thread; return the lines dealt with."""
        try:
            for line in unrecorded(lines, self._entries):
                leave_latch_line(line, *self._directories)
        except OSError as error:  # the note stays, and the next request tries again
            log.error("state directory %s: %s", self._directories[0], error.strerror)
            return []
        return lines


def convert_at_start(note: WriteAheadNote, entries: Sequence[Entry], directories: Sequence[Path]) -> None:
    """Convert the notes of an earlier process. Raises `OSError` if no latch can be written. May block."""
    if not note.unrecorded_lines:
        return
    for line in unrecorded(note.unrecorded_lines, entries):
        leave_latch_line(line, *directories)
    if not note.is_open:
        note.remove()
        note.reopen_if_removed()
    note.discard_found(note.unrecorded_lines, 0)


def leave_latch_line(line: bytes, *directories: Path) -> None:
    """Write and sync a latch in the first directory that takes the whole line; raise `OSError` if none does."""
    if not append_to_first([directory / LATCH_NAME for directory in directories], line, sync=True):
        raise OSError(errno.ENOSPC, f"{latch_text(line.decode(errors='replace'))}, and no latch can be left beside it")
