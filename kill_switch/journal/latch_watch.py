"""Look at the latch files and at the write-ahead note's file, each directory in its own thread.

`Journal` uses it from the event loop's thread. No method that the event loop calls waits for a file system.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence

from kill_switch import clock
from kill_switch.journal.latch_file import LatchFile
from kill_switch.journal.write_ahead import FoundNotes, WriteAheadNote
from kill_switch.system.job_thread import JobThread

HANGS_AFTER_NS = 1_000_000_000  # a call to a file system that lasts longer than this counts as hanging


class LatchWatch:
    """Find the latches that another process has written; collect the results of the two threads."""

    def __init__(
        self,
        files: Sequence[LatchFile],
        note: WriteAheadNote,
        state_thread: JobThread,
        runtime_thread: JobThread,
        look_at_state: Callable[[Sequence[Collection[str]], int], bool],
    ) -> None:
        """Connect the threads; nothing is looked at yet.

        `files` are the latch file of the state directory and that of the runtime directory, in this order.
        `look_at_state` is called in the state directory's thread.
        """
        self._files, self._note = files, note
        self._state_thread, self._runtime_thread = state_thread, runtime_thread
        self._look_at_state_directory = look_at_state
        self._on_latch: Callable[[], object] = lambda: None
        self._note_looks: deque[FoundNotes | None] = deque()  # results of looks at the note's file
        self._looking_at_state = self._looking_at_runtime = False
        self._requested_ns = 0  # monotonic time of the last request while no look was in progress
        self._may_have_foreign_latch = False  # another process may have written a latch
        self._both_checked = True  # both files were looked at since a line was found in one of them

    def listen(self, on_latch: Callable[[], object]) -> None:
        """Call `on_latch` in a thread after each look that found a foreign latch, from now on."""
        self._on_latch = on_latch

    def stop_listening(self) -> None:
        """Call nothing after a look any more."""
        self._on_latch = lambda: None

    @property
    def is_looking(self) -> bool:
        """True while a look that `request_look` began is in progress."""
        return self._looking_at_state or self._looking_at_runtime

    @property
    def has_foreign_latch(self) -> bool:
        """True if the last looks found a line that this process has neither written nor acknowledged."""
        return any(file.unseen_lines() for file in self._files)

    def collect(self) -> None:
        """Apply the results of the threads, in their order."""
        for file in self._files:
            file.poll()
        while self._note_looks:
            notes = self._note_looks.popleft()
            if notes is None:
                self._note.on_file_present()
            else:
                self._note.adopt(notes)

    def foreign_latch(self, stands_until: int) -> str | None:
        """Return the foreign lines of both latch files; None if there are none, or a look is still in progress.

        A look that hangs for `HANGS_AFTER_NS` is not waited for. `acknowledge` ends the reporting of these lines.
        """
        self.collect()
        if self.is_looking and clock.now().mono_ns - self._requested_ns < HANGS_AFTER_NS:
            return None  # the next call returns the lines
        # because a direct kill leaves the same line in both files
        lines = list(dict.fromkeys(line for file in self._files for line in file.unseen_lines()))
        self._may_have_foreign_latch = bool(lines)
        if lines and not self._both_checked:  # a kill that finds no room in one directory writes to both
            self._both_checked = True
            self.request_look(stands_until)
            return self.foreign_latch(stands_until)
        self._both_checked = False
        return "\n".join(lines) if lines else None

    def acknowledge(self, text: str) -> None:
        """Acknowledge the lines that `foreign_latch` has returned: it does not return them again."""
        for file in self._files:
            file.acknowledge(text.split("\n"))

    def request_look(self, stands_until: int) -> None:
        """Post a look at each directory to its thread, unless one is in progress.

        The latch files are kept until the disk has the record with number `stands_until`.
        """
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
        """Look at the state directory, in its thread."""
        try:
            has_latch = self._look_at_state_directory(known, stands_until)
            self._may_have_foreign_latch = has_latch or self._may_have_foreign_latch
        finally:
            self._looking_at_state = False
        if self._may_have_foreign_latch:
            self._on_latch()

    def _look_at_runtime(self) -> None:
        """Look at the runtime directory, in its thread."""
        try:
            self._note_looks.append(self._note.look())
            self._may_have_foreign_latch = self._files[1].look() or self._may_have_foreign_latch
        finally:
            self._looking_at_runtime = False
        if self._may_have_foreign_latch:
            self._on_latch()
