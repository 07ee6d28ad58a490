"""Look at the latch files and at the write-ahead note's file, each directory in its own thread.

`Journal` calls this from the event loop's thread and polls `collect`. Nothing here waits for a file system.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence

from kill_switch import clock
from kill_switch.journal.latch_file import LatchFile
from kill_switch.journal.write_ahead import FoundNotes, WriteAheadNote
from kill_switch.system.job_thread import JobThread

HANGS_AFTER_NS = 1_000_000_000  # a call that has lasted for so long hangs


class LatchWatch:
    """Find latches that another process has left; `files` are those of the state and of the runtime directory."""

    def __init__(
        self,
        files: Sequence[LatchFile],
        note: WriteAheadNote,
        state_thread: JobThread,
        runtime_thread: JobThread,
        look_at_state: Callable[[Sequence[Collection[str]], int], bool],
        on_latch: Callable[[], object],
    ) -> None:
        """`look_at_state` and `on_latch` are called in the threads."""
        self._files, self._note = files, note
        self._state_thread, self._runtime_thread = state_thread, runtime_thread
        self._look_at_state_directory, self._on_latch = look_at_state, on_latch
        self._note_looks: deque[FoundNotes | None] = deque()  # what has come of a look after the note
        self._looking_at_state = self._looking_at_runtime = False
        self._requested_ns = 0  # when both were last asked to look
        self._may_have_foreign_latch = False  # somebody may have left a latch
        self._both_checked = True  # both files were looked at since one of them was found

    @property
    def is_looking(self) -> bool:
        return self._looking_at_state or self._looking_at_runtime

    @property
    def has_foreign_latch(self) -> bool:
        """Tell whether a latch file says something that is not this journal's, as far as the files were looked at."""
        return any(file.unseen_lines() for file in self._files)

    def collect(self) -> None:
        """Take note of what the threads have found."""
        for file in self._files:
            file.poll()
        while self._note_looks:
            notes = self._note_looks.popleft()
            if notes is None:
                self._note.on_file_present()
            else:
                self._note.adopt(notes)

    def foreign_latch(self, stands_until: int) -> str | None:
        """Return what latch files said that this journal has neither left itself nor taken over; None if nothing."""
        self.collect()
        if self.is_looking and clock.now().mono_ns - self._requested_ns < HANGS_AFTER_NS:
            return None  # soon
        lines = [line for file in self._files for line in file.unseen_lines()]
        self._may_have_foreign_latch = bool(lines)
        if lines and not self._both_checked:  # a kill that found no room in one directory leaves something in both
            self._both_checked = True
            self.request_look(stands_until)
            return self.foreign_latch(stands_until)
        self._both_checked = False
        return "\n".join(lines) if lines else None

    def acknowledge(self, text: str) -> None:
        """Take over what `foreign_latch` said."""
        for file in self._files:
            file.acknowledge(text.split("\n"))

    def request_look(self, stands_until: int) -> None:
        """Have both directories looked after, by their threads; latch files stand until the disk has that record."""
        known = [file.known() for file in self._files]
        if not self.is_looking:
            self._requested_ns = clock.now().mono_ns
        if not self._looking_at_state:
            self._looking_at_state = True
            self._state_thread.post(lambda: self._look_at_state(known, stands_until))
        if not self._looking_at_runtime:
            self._looking_at_runtime = True
            self._runtime_thread.post(self._look_at_runtime)

    def _look_at_state(self, known: Sequence[Collection[str]], stands_until: int) -> None:
        """Look after the state directory, in its thread."""
        try:
            has_latch = self._look_at_state_directory(known, stands_until)
            self._may_have_foreign_latch = has_latch or self._may_have_foreign_latch
        finally:
            self._looking_at_state = False
        if self._may_have_foreign_latch:
            self._on_latch()

    def _look_at_runtime(self) -> None:
        """Look after the runtime directory, in its thread."""
        try:
            self._note_looks.append(self._note.look())
            self._may_have_foreign_latch = self._files[1].look() or self._may_have_foreign_latch
        finally:
            self._looking_at_runtime = False
        if self._may_have_foreign_latch:
            self._on_latch()
