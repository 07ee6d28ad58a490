"""The latch files of a direct kill: written before the first bytes leave, removed once the journal has the kill.

`direct_kill` uses it. Each call that may hang on a directory runs in a thread of its own, and its wait is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from kill_switch.core.outcome import LatchOutcome
from kill_switch.journal import latch_file
from kill_switch.system import abandonable_thread

log = logging.getLogger(__name__)

WITHIN_S = 0.25  # seconds for the two directories, at the same time; a venue's first answer takes as long
LOOK_WITHIN_S = 1.0  # seconds to look at the files afterwards
LOOK_EVERY_S = 0.05  # seconds between two looks


class DirectLatch:
    """A line in the latch files of the state directory and of the runtime directory.

    If the mount of the state directory has failed, the line is written beneath it. There it is hidden once the mount is
    back; the other line is not.
    """

    def __init__(self, state_dir: Path, runtime_dir: Path) -> None:
        self._files = [directory / latch_file.LATCH_NAME for directory in (state_dir, runtime_dir)]
        self._line = b""
        self._written: list[str] = []  # the parts of the line that the files have, one each

    async def append(self, line: bytes) -> None:
        """Write the line in both files, as far as they take it in time; to be called once."""
        self._line = line
        writing = {
            path: abandonable_thread.start_abandonable(latch_file.append_to_first, [path], line, name="latch")
            for path in self._files
        }
        for each in writing.values():
            each.add_done_callback(self._note)
        await asyncio.wait(writing.values(), timeout=WITHIN_S)
        for path, each in writing.items():
            if not each.done():
                log.error("%s does not answer", path.parent)
        if not self._written:
            log.error("no latch can be left for the daemon")
        elif not any(len(part.encode()) >= len(line) for part in self._written):
            log.error("the latch was written in part only")

    def take_back(self, *, all_files: bool) -> None:
        """Remove the line once the journal has the kill; raises `OSError`. May block.

        Without `all_files` it stays in the runtime directory, for a daemon with another journal.
        """
        latch_file.remove_lines(self._files if all_files else self._files[:1], self._written)

    async def look(self, within_s: float) -> LatchOutcome:
        """Return in which files the latch is, after at most `within_s` seconds for a daemon to adopt it.

        A latch that could not be written before is written now, if possible.
        """
        within_s = within_s if self._written else 0.0
        looking = abandonable_thread.start_abandonable(self._look, within_s, name="latch")
        await asyncio.wait([looking], timeout=within_s + LOOK_WITHIN_S)
        if looking.done() and looking.exception() is None:
            return looking.result()
        hangs = dict.fromkeys(self._files, "does not answer")
        return LatchOutcome(self._files[:1], {}, True) if self._written else LatchOutcome((), hangs, False)

    def _look(self, within_s: float) -> LatchOutcome:
        until_s = time.monotonic() + within_s
        while self._written:
            files = latch_file.files_with_lines(self._files)
            ours = tuple(path for path, lines in files.items() if not set(lines).isdisjoint(self._written))
            if not ours or time.monotonic() >= until_s:
                return LatchOutcome(ours, {}, True)
            time.sleep(LOOK_EVERY_S)
        refused = {path: latch_file.append_trouble(path, self._line) for path in self._files}
        present = tuple(latch_file.files_with_lines(self._files))  # whatever their lines, because a latch file trips
        return LatchOutcome(present, {path: why for path, why in refused.items() if why}, False)

    def _note(self, writing: asyncio.Future[list[str]]) -> None:
        if not writing.cancelled() and writing.exception() is None:
            self._written += writing.result()
