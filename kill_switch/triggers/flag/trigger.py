"""Fire when a file appears: `touch` works as a kill button.

inotify reports the file within a millisecond, and its event alone is the reason. A slow poll finds what inotify does
not see, and runs in a thread, so a file system that hangs blocks nothing. docs/guides/triggers/flag.md has every case.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import stat
import termios
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import anyio
from asyncinotify import Inotify

from kill_switch import printable
from kill_switch.core.domain import Instant, Reason
from kill_switch.system.offload import OffloadThread
from kill_switch.triggers.base import Figures, Report, Trigger, TriggerState, Unseen
from kill_switch.triggers.flag import evidence as flag_evidence
from kill_switch.triggers.flag.directory import (
    CAME,
    ENDED,
    GONE,
    LOST,
    MAX_NAME,
    Directory,
    close,
    identity,
    sift,
    watch,
)
from kill_switch.wakeup import AutoResetEvent

POLL_S = 0.5  # seconds between two looks while inotify reports nothing
LOOK_WITHIN_S = 1.0  # seconds that a re-arm waits for the file system
LOOK_APART_S = 0.01  # seconds between two looks at least, however many events come
WATCH_AGAIN_S = 0.02  # seconds until the next watch after the directory was replaced
TEXT_WITHIN_S = 1.0  # seconds; a text that is found so soon after its file belongs to the file's reason
TEXT_BYTES = 1024  # read of the file at most
EVENTS_BYTES = 8192  # read of inotify in one turn of the event loop: 256 events take 0.1 ms
REASONS, REASONS_NS = 100, 10_000_000_000  # reasons, and nanoseconds; a file that comes and goes more often waits


class FlagState(NamedTuple):
    """The result of one look at the path."""

    present: bool | None  # None: unknown
    text: str = ""  # the first line of the file
    trouble: str = ""  # why it is unknown


class FlagTrigger(Trigger):
    """Watch one path; the file must be gone before a re-arm.

    A text that is found within `TEXT_WITHIN_S` of its file is added to the file's reason, and a later text is a second
    reason. In one turn of the event loop at most `EVENTS_BYTES` of events are read, because any number may come.
    """

    kind = "flag"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        path: Path,
        *,
        clock: Callable[[], Instant],
        make: Callable[[], bool] = lambda: False,
        on_directory_made: Callable[[Path], None] = lambda directory: None,
        amend: Callable[[Reason, str, Mapping[str, object]], None] = lambda reason, text, evidence: None,
    ) -> None:
        """Build the trigger.

        `make` may make the path's directory, in the thread, and returns whether it did. `on_directory_made` is called
        in the event loop with a directory that was removed and has been made again. `amend` gets a text ("": none) and
        evidence for a reason that was reported before.
        """
        self.name = name
        self.accounts = accounts
        self.path = path
        self._name = os.fsencode(path.name)
        self._clock = clock
        self._make = make
        self._on_directory_made = on_directory_made
        self._amend = amend
        self._present = False
        self._text = ""
        self._trouble = ""
        self._watch = ""  # why inotify does not work; "": it does
        self._looked = self._had_directory = self._unknown = False
        self._changes = 0  # events and re-arms; a look that began before one of them is outdated
        self._fires_until = 0  # in `_read_bytes`: a look has found the file before its event was read
        self._inotify: Inotify | None = None  # while its events are read
        self._directory: Directory | None = None  # that inotify watches
        self._ended: asyncio.Future[None] | None = None  # done when no event follows
        self._read_bytes = 0  # bytes of inotify's events that were read, in all
        self._woken = AutoResetEvent()
        self._report: Report | None = None
        self._last: Reason | None = None  # the reason for the file that is there
        self._times: deque[int] = deque(maxlen=REASONS)  # when the last reasons were reported
        self._owed: Reason | None = None  # not reported yet: there are too many, or the task does not run
        self._files = OffloadThread(f"the file system of {path}")
        self._watching = OffloadThread(
            f"the file system of {path}"
        )  # it may hang for ever, and the poll must go on after it

    async def run(self, report: Report) -> None:
        """Poll and read inotify's events forever."""
        self._report = report
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._poll)
                group.start_soon(self._listen)
        finally:
            self._report = None
            self._files.close()
            self._watching.close()

    def state(self) -> tuple[TriggerState, str]:
        """Return the state, with the path and the file's text as detail."""
        if self._present:
            return TriggerState.TRIPPED, f"{self.path} is there" + (f": {self._text}" if self._text else "")
        if self._files.hangs:
            return TriggerState.BLIND, f"{self.path}: its file system does not answer"
        if self._trouble:
            return TriggerState.BLIND, f"{self.path}: {self._trouble}"
        watch = self._watch or self._watching.trouble
        return TriggerState.OK, f"{self.path} is not there" + (f" (polled only: {watch})" if watch else "")

    def measurements(self) -> Figures:
        """Return whether the file is there."""
        return {"present": (float(self._present), 1.0)}

    def rearm_blocker(self) -> str | None:
        """Return that the file is there; an `Unseen` if neither `look`, to be called before, nor inotify can tell."""
        if not self._present:
            if self._owed is not None:
                return f"{self._owed.text}; it is not reported yet"
            why = self._trouble if self._unknown else self._watch and self._files.trouble  # else inotify reports it
            if self._looked and not why:
                return None
            return Unseen(f"whether {self.path} is there", why or "the daemon could not look yet")
        if why := self._files.trouble or self._trouble:
            return f"{self.path} was there, and the daemon cannot see that it is gone: {why}"
        return f"{self.path} is still there: remove it"

    def on_rearmed(self) -> None:
        """Start over; a file that comes from now on is a new reason."""
        self._gone()  # if it is there again, it is a new reason
        self._times.clear()
        self._changes += 1

    async def look(self) -> None:
        """Look for the file now, and report it if it has just come. Waits at most `LOOK_WITHIN_S`.

        Events that wait in inotify are read first, because they are older than the look.
        """
        with anyio.move_on_after(LOOK_WITHIN_S):
            await self._catch_up()
            await self._look()
        self._report_owed()

    async def _poll(self) -> None:
        while True:
            await self._look()
            if not self._is_flood():
                self._report_owed()
            await anyio.sleep(LOOK_APART_S)
            with anyio.move_on_after(POLL_S):
                await self._woken.wait()

    async def _look(self) -> None:
        """Look for the file in the thread; look again if an event has come meanwhile."""
        while True:
            changes = self._changes
            seen, made_directory, directory, evidence = await self._files.run(self._look_in_thread)
            if changes == self._changes:
                break
            await anyio.sleep(LOOK_APART_S)
        if made_directory and self._had_directory:
            self._on_directory_made(self.path.parent)
        self._had_directory = self._had_directory or not seen.trouble
        if self._ended is not None and not self._ended.done() and directory not in (None, self._directory):
            self._ended.set_result(None)  # the path is another directory now
        self._on_state(seen, evidence)

    def _look_in_thread(self) -> tuple[FlagState, bool, Directory | None, Mapping[str, object]]:
        made_directory = self._make()
        seen = look(self.path)
        evidence = flag_evidence.find_evidence(self.path, seen.text) if seen.present else {}
        return seen, made_directory, identity(self.path.parent), evidence

    def _on_state(self, seen: FlagState, evidence: Mapping[str, object] = MappingProxyType({})) -> None:
        self._looked = True
        self._trouble, self._unknown = seen.trouble, seen.present is None
        if seen.present is None:
            return
        if not seen.present:
            self._gone()
        elif not self._present:
            self._present, self._text = True, seen.text
            self._fires_until = self._written_bytes()
            self._fire(seen.text or self._is_there, evidence)
        else:
            self._on_more_evidence(seen.text if seen.text != self._text else "", evidence)

    def _on_more_evidence(self, text: str, evidence: Mapping[str, object]) -> None:
        """Add a text, and the owner of the file, to the reason for the file.

        A text is another reason if the file came longer than `TEXT_WITHIN_S` ago.
        """
        self._text = text or self._text
        last, now_ns = self._last, self._clock().mono_ns
        if text and (last is None or now_ns - last.observed_at.mono_ns > TEXT_WITHIN_S * 1e9):
            self._fire(text, evidence)
            return
        if last is None or not (text or (evidence and not last.evidence.keys() & evidence.keys())):
            return
        self._last = replace(last, text=text or last.text, evidence={**last.evidence, **evidence})
        if self._owed is last:
            self._owed = self._last
        else:
            self._amend(last, text, evidence)

    def _gone(self) -> None:
        self._present, self._text, self._last = False, "", None

    def _fire(self, words: str, evidence: Mapping[str, object] = MappingProxyType({})) -> None:
        """Report a reason, at once or after a flood."""
        details = {"path": str(self.path), **evidence}
        self._last = self._owed = Reason(self.name, words, self.accounts, self._clock(), details)
        if not self._is_flood():
            self._report_owed()

    def _is_flood(self) -> bool:
        """Return whether too many reasons were reported of late; the first one has tripped the accounts."""
        return len(self._times) == REASONS and self._clock().mono_ns - self._times[0] < REASONS_NS

    def _report_owed(self) -> None:
        """Report the reason that waits, if there is one."""
        if self._owed is not None and self._report is not None:
            owed, self._owed = self._owed, None
            self._times.append(self._clock().mono_ns)
            self._report(owed)

    @property
    def _is_there(self) -> str:
        return f"{self.path} is there"

    # ── inotify ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        """Read inotify's events, and watch the directory again after it has gone."""
        while True:
            again_s = POLL_S
            try:
                inotify, directory = await self._watching.run(watch, self.path.parent, drop=close)
            except OSError as error:
                self._watch = error.strerror or type(error).__name__
            else:
                self._watch = ""
                self._directory = directory
                self._wake()  # the file may have come before the watch
                try:
                    await self._on_inotify(inotify)
                finally:
                    self._watching.post(close, (inotify, directory))
                again_s = WATCH_AGAIN_S
            await anyio.sleep(again_s)

    async def _on_inotify(self, inotify: Inotify) -> None:
        """Read events in a callback of the event loop, which wakes no task, until the directory is gone."""
        loop = asyncio.get_running_loop()
        self._ended = ended = loop.create_future()
        fd = inotify.fd

        def on_readable() -> None:
            try:
                if not ended.done() and not self._on_events(os.read(fd, EVENTS_BYTES)) and not ended.done():
                    ended.set_result(None)
            except BlockingIOError:
                pass
            except Exception as error:
                if not ended.done():
                    ended.set_exception(error)

        loop.add_reader(fd, on_readable)
        self._inotify = inotify
        try:
            await ended
        finally:
            loop.remove_reader(fd)
            self._inotify, self._ended, self._fires_until = None, None, 0
            self._wake()

    def _written_bytes(self) -> int:
        """Return how many bytes of events inotify has written so far, including those that wait."""
        waiting = array.array("i", [0])
        if self._inotify is not None:
            fcntl.ioctl(self._inotify.fd, termios.FIONREAD, waiting)
        return self._read_bytes + waiting[0]

    async def _catch_up(self) -> None:
        """Wait until the events that wait in inotify now have been read."""
        inotify, written = self._inotify, self._written_bytes()
        while self._inotify is inotify and self._read_bytes < written:  # noqa: ASYNC110 - the loop reads them
            await anyio.sleep(0.001)

    def _on_events(self, events: bytes) -> bool:
        """Apply the events of one read; return False if no event follows."""
        is_reported = self._read_bytes < self._fires_until
        self._read_bytes += len(events)
        ours, itself = sift(events, self._name)
        came = False
        for mask in ours:
            if mask & GONE:
                self._gone()
                is_reported = False
            elif mask & CAME and is_reported:
                is_reported = False
            elif mask & CAME:
                came = came or not self._present
                self._present = True
        if not is_reported or itself & LOST:
            self._fires_until = 0
        if ours:
            self._changes += 1
        if came:
            self._text = ""
            self._fire(self._is_there if self._present else f"{self.path} came and went")
        if ours or itself or len(events) > EVENTS_BYTES - MAX_NAME:  # then more events wait
            self._wake()
        return not itself & ENDED

    def _wake(self) -> None:
        """Wake the poll."""
        self._woken.set()


def look(path: Path) -> FlagState:
    """Look for a file, and read its first line. Waits for its file system."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return FlagState(False, trouble="" if path.parent.is_dir() else f"no directory {path.parent}")
    except OSError as error:
        return FlagState(None, trouble=error.strerror or type(error).__name__)
    return FlagState(True, _read(path))


def _read(path: Path) -> str:
    """Return the first line of a file; "" for a pipe, a link or an unreadable file."""
    text = ""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                text = os.read(fd, TEXT_BYTES).decode("utf-8", "replace").strip()
        finally:
            os.close(fd)
    return printable.line(text)
