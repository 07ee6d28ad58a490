"""Leave the latch of a kill without the daemon in a file, and see what becomes of it.

`direct` leaves it before the first bytes go out. A directory that hangs holds up nothing beyond a bound: each call that
uses one runs in a thread of its own. The latch is taken back once the record has the kill.
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

WITHIN_S = 0.25  # for each of the two directories; a venue's first answer takes as long
LOOK_WITHIN_S = 1.0  # for what has become of the files
LOOK_EVERY_S = 0.05


class DirectLatch:
    """Look after one line in the latch files of the state directory and of the runtime directory."""

    def __init__(self, state_dir: Path, runtime_dir: Path) -> None:
        self._files = [directory / latch_file.LATCH_NAME for directory in (state_dir, runtime_dir)]
        self._line = b""
        self._left: list[str] = []  # what the files have taken of it, each

    async def append(self, line: bytes) -> None:
        """Leave the line in the first directory that takes all of it in time; to be called once."""
        self._line = line
        for path in self._files:
            leaving = abandonable_thread.start_abandonable(latch_file.append_to_first, [path], line, name="latch")
            leaving.add_done_callback(self._note)
            await asyncio.wait([leaving], timeout=WITHIN_S)
            if leaving.done() and any(len(left_line.encode()) >= len(line) for left_line in self._left):
                return
            if not leaving.done():
                log.error("%s does not answer", path.parent)
        log.error("no latch can be left for the daemon" if not self._left else "a latch could be left in part only")

    def take_back(self) -> None:
        """Remove the line, which the record has now; raises `OSError`. Waits for the file systems."""
        latch_file.remove_lines(self._files, self._left)

    async def look(self, within_s: float) -> LatchOutcome:
        """Return where the latch stands; `within_s` is for a daemon that is to take it over.

        A latch that could not be left is left now, if that can be.
        """
        within_s = within_s if self._left else 0.0
        looking = abandonable_thread.start_abandonable(self._look, within_s, name="latch")
        await asyncio.wait([looking], timeout=within_s + LOOK_WITHIN_S)
        if looking.done() and looking.exception() is None:
            return looking.result()
        hangs = dict.fromkeys(self._files, "does not answer")
        return LatchOutcome(self._files[:1], {}, True) if self._left else LatchOutcome((), hangs, False)

    def _look(self, within_s: float) -> LatchOutcome:
        until_s = time.monotonic() + within_s
        while self._left:
            files = latch_file.files_with_lines(self._files)
            ours = tuple(path for path, lines in files.items() if not set(lines).isdisjoint(self._left))
            if not ours or time.monotonic() >= until_s:
                return LatchOutcome(ours, {}, True)
            time.sleep(LOOK_EVERY_S)
        refused = {path: latch_file.append_trouble(path, self._line) for path in self._files}
        standing = tuple(latch_file.files_with_lines(self._files))  # whatever stands there: its presence trips
        return LatchOutcome(standing, {path: why for path, why in refused.items() if why}, False)

    def _note(self, leaving: asyncio.Future[list[str]]) -> None:
        if not leaving.cancelled() and leaving.exception() is None:
            self._left += leaving.result()
