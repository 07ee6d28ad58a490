"""Fire when a file appears: `touch` is a kill button that every tool has.

inotify tells within a fraction of a millisecond; a slow poll beside it covers what inotify does not see (network file
systems, a directory that was replaced, a file that was there before). The file fires at once, empty or not; a text that
is written into it afterwards is recorded as a second reason. It must be gone before a re-arm.

A file system that hangs (a network one, whose server is gone) must not stop the event loop: a thread asks it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
from asyncinotify import Event, Inotify, Mask

from kill_switch.domain import Now, Reason
from kill_switch.triggers.base import Figures, Report, TriggerState

POLL_S = 0.5
HANGS_AFTER_S = 2.0  # no answer from the file system by then: the trigger is blind
TICKS = 4
TEXT_BYTES = 1024
_CAME = Mask.CREATE | Mask.MOVED_TO
_WENT = Mask.DELETE_SELF | Mask.MOVE_SELF  # the directory itself
_WATCHED = _CAME | _WENT | Mask.CLOSE_WRITE | Mask.DELETE | Mask.MOVED_FROM


class Flag:
    """Watch one path."""

    kind = "flag"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        path: Path,
        *,
        clock: Callable[[], Now],
        reach: Callable[[Path], object] = os.lstat,
    ) -> None:
        """`reach` is called in a thread, and returns or raises `OSError` once the path's file system answers."""
        self.name = name
        self.accounts = accounts
        self.path = path
        self._clock = clock
        self._present = False
        self._text = ""
        self._trouble = ""
        self._watch = ""  # why inotify does not help, if so
        self._reach = reach
        self._threads = anyio.CapacityLimiter(2)  # of the poll and of inotify: they may hang, and no others with them
        self._asking = False  # the poll waits for the file system
        self._missed = 0  # ticks in a row at which it waited: a stopped process has none

    async def run(self, report: Report) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._poll, report)
            group.start_soon(self._listen, report)
            group.start_soon(self._tick)

    def condition(self) -> tuple[TriggerState, str]:
        if self._present:
            return TriggerState.TRIPPED, f"{self.path} is there" + (f": {self._text}" if self._text else "")
        if self._hangs():
            return TriggerState.BLIND, f"{self.path}: its file system does not answer"
        if self._trouble:
            return TriggerState.BLIND, f"{self.path}: {self._trouble}"
        return TriggerState.OK, f"{self.path} is not there" + (f" (polled only: {self._watch})" if self._watch else "")

    def figures(self) -> Figures:
        return {"present": (float(self._present), 1.0)}

    def against_rearm(self) -> str | None:
        """Look for the file, and leave it to `run` to report one that has only just come."""
        try:
            if self._hangs():
                raise TimeoutError
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            if not self._present:  # as far as anybody knows
                return None
        return f"{self.path} is still there: remove it"

    def reset(self) -> None:
        self._present, self._text = False, ""  # it has gone; if it is there again, that is news

    async def _poll(self, report: Report) -> None:
        while True:
            self._asking = True
            await self._answers()
            self._asking = False
            self._look(report)
            await anyio.sleep(POLL_S)

    async def _answers(self) -> None:
        """Return when the file system answers, whatever it says."""
        with contextlib.suppress(OSError):
            await anyio.to_thread.run_sync(self._reach, self.path, abandon_on_cancel=True, limiter=self._threads)

    def _hangs(self) -> bool:
        return self._asking and self._missed > TICKS

    async def _tick(self) -> None:
        while True:
            await anyio.sleep(HANGS_AFTER_S / TICKS)
            self._missed = self._missed + 1 if self._asking else 0

    async def _listen(self, report: Report) -> None:
        """Wait for inotify, and for its directory to be there again when it has gone."""
        while True:
            await self._answers()
            try:
                with Inotify() as inotify:
                    inotify.sync_timeout = 0
                    inotify.add_watch(self.path.parent, _WATCHED)
                    self._watch = ""
                    self._look(report)  # what came before the watch
                    await self._heard(inotify, report)
            except OSError as error:
                self._watch = error.strerror or type(error).__name__
            await anyio.sleep(POLL_S)

    async def _heard(self, inotify: Inotify, report: Report) -> None:
        """Take events in the event loop's own callback, which wakes no task, until the directory is gone."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def hear() -> None:
            try:
                if ended.done():
                    return
                if not self._present and not self._missed:
                    self._look(report, hasty=True)  # to read the events takes five times as long
                if not all(self._event(event, report) for event in inotify):
                    ended.set_result(None)
            except Exception as error:
                ended.set_exception(error)

        loop.add_reader(inotify.fd, hear)
        try:
            await ended
        finally:
            loop.remove_reader(inotify.fd)

    def _event(self, event: Event, report: Report) -> bool:
        """Take an event; False if it says that there will be no others."""
        if event.mask & (_WENT | Mask.IGNORED | Mask.Q_OVERFLOW):
            return False
        if event.name is not None and event.name.name == self.path.name:
            came = event.mask & _CAME and not self._present
            self._look(report)
            if came and not self._present:  # and it has gone already: it was touched all the same
                report(self._reason(f"{self.path} came and went", self._clock()))
        return True

    def _look(self, report: Report, *, hasty: bool = False) -> None:
        """Report the file if it is news; in haste, what seems to be empty is not read: another look follows."""
        try:
            size = os.lstat(self.path).st_size
        except (FileNotFoundError, NotADirectoryError):
            self._present, self._text = False, ""
            self._trouble = "" if self.path.parent.is_dir() else f"no directory {self.path.parent}"
            return
        except OSError as error:
            self._trouble = error.strerror or type(error).__name__
            return
        self._trouble = ""
        now = self._clock()
        if not self._present:
            self._present = True
            self._text = ""
            text = self._read() if size or not hasty else ""
            self._text = text
            report(self._reason(text, now))
            return
        text = self._read()
        if text and text != self._text:
            self._text = text
            report(self._reason(text, now))

    def _reason(self, text: str, now: Now) -> Reason:
        words = text or f"{self.path} is there"
        return Reason(self.name, words, self.accounts, now, {"path": str(self.path)})

    def _read(self) -> str:
        """Return the first line that the file holds; a pipe, a link or an unreadable file has none."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return ""
            head = os.read(fd, TEXT_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return ""
        finally:
            os.close(fd)
        return "".join(c if c.isprintable() else " " for c in head)
