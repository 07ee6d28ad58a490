"""Fire when a file appears: `touch` is a kill button that every tool has.

inotify tells within a fraction of a millisecond, and the event alone is the reason. A slow poll beside it covers what
inotify does not see (network file systems, a directory that was replaced, a file that was there before). A file that is
renamed into place may hold a text, which becomes the reason if it can be read in `TEXT_WITHIN_S`. A text that comes
later is recorded as a second reason. The file must be gone before a re-arm.

The event loop asks no file system anything: `Offload` does, in a thread. A file system that hangs makes this blind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import anyio
from asyncinotify import Inotify, Mask

from kill_switch import printable
from kill_switch.domain import Now, Reason
from kill_switch.offload import Offload
from kill_switch.triggers import flag_evidence
from kill_switch.triggers.base import Figures, Report, TriggerState, Unseen

POLL_S = 0.5
LOOK_WITHIN_S = 1.0  # so long a re-arm waits for the file system
TEXT_WITHIN_S = 0.02  # so long a file that was renamed into place waits for its text; one that was made does not
TEXT_BYTES = 1024
EVENTS_BYTES = 1 << 16  # read at once; inotify holds the rest
_CAME = int(Mask.CREATE | Mask.MOVED_TO)
_MOVED = int(Mask.MOVED_TO)
_GONE = int(Mask.DELETE | Mask.MOVED_FROM)
_ENDED = int(Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.Q_OVERFLOW)  # no more events, or some were lost
_WATCHED = Mask.CREATE | Mask.MOVED_TO | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.CLOSE_WRITE | Mask.DELETE
_WATCHED |= Mask.MOVED_FROM
_EVENT = struct.Struct("iIII")  # inotify(7): watch, mask, cookie, length of the name behind it


class Seen(NamedTuple):
    """What one look at the path has found."""

    present: bool | None  # None: nobody can tell
    text: str = ""  # the first line that the file holds
    trouble: str = ""  # why nobody can tell


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
        make: Callable[[], bool] = lambda: False,
        made: Callable[[Path], None] = lambda directory: None,
        found: Callable[[Reason, Mapping[str, object]], None] = lambda reason, evidence: None,
    ) -> None:
        """`make` may make the path's directory where it is missing, in the thread, and returns whether it did.

        `made` hears, in the event loop, of a directory that was removed and is there again. `found` takes whose the
        file of a reason is, where the reason was reported before anybody had looked.
        """
        self.name = name
        self.accounts = accounts
        self.path = path
        self._name = os.fsencode(path.name)
        self._clock = clock
        self._make = make
        self._made = made
        self._found = found
        self._unowned: Reason | None = None  # of the file that is there: whose it is has not been found yet
        self._present = False
        self._text = ""
        self._trouble = ""
        self._watch = ""  # why inotify does not help, if so
        self._looked = self._had_directory = self._unknown = False
        self._changes = 0  # events and re-arms: what a look has found before one of them may be over
        self._stirred = anyio.Event()
        self._report: Report | None = None
        self._untold: tuple[Now, asyncio.TimerHandle] | None = None  # when it came; its text is being read
        self._files = Offload(f"the file system of {path}")
        self._watching = Offload(f"the file system of {path}")  # it may hang for ever, and the poll must go on after it

    async def run(self, report: Report) -> None:
        self._report = report
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._poll)
                group.start_soon(self._listen)
        finally:
            if self._untold is not None:
                self._tell("")
            self._report = None
            self._files.close()
            self._watching.close()

    def condition(self) -> tuple[TriggerState, str]:
        if self._present:
            return TriggerState.TRIPPED, f"{self.path} is there" + (f": {self._text}" if self._text else "")
        if self._files.hangs:
            return TriggerState.BLIND, f"{self.path}: its file system does not answer"
        if self._trouble:
            return TriggerState.BLIND, f"{self.path}: {self._trouble}"
        watch = self._watch or self._watching.trouble
        return TriggerState.OK, f"{self.path} is not there" + (f" (polled only: {watch})" if watch else "")

    def figures(self) -> Figures:
        return {"present": (float(self._present), 1.0)}

    def against_rearm(self) -> str | None:
        """Say whether the file is there, as `look`, which comes before this, and inotify have found it.

        An `Unseen` where neither can tell.
        """
        if not self._present:
            why = self._trouble if self._unknown else self._watch and self._files.trouble  # else inotify tells
            if self._looked and not why:
                return None
            return Unseen(f"whether {self.path} is there", why or "nobody could look yet")
        if why := self._files.trouble or self._trouble:
            return f"{self.path} was there, and nobody can tell that it is gone: {why}"
        return f"{self.path} is still there: remove it"

    def reset(self) -> None:
        self._present, self._text, self._unowned = False, "", None  # if it is there again, that is news
        self._changes += 1

    async def look(self) -> None:
        """Look for the file now. A file that has only just come is reported. Waits at most `LOOK_WITHIN_S`."""
        with anyio.move_on_after(LOOK_WITHIN_S):
            await self._look()

    async def _poll(self) -> None:
        while True:
            self._stirred = anyio.Event()
            await self._look()
            with anyio.move_on_after(POLL_S):
                await self._stirred.wait()

    async def _look(self) -> None:
        """Look for the file, and take what was found unless something has happened meanwhile."""
        while True:
            changes = self._changes
            seen, made, evidence = await self._files.run(self._look_in_thread)
            if changes == self._changes:
                break
        if made and self._had_directory:
            self._made(self.path.parent)
        self._had_directory = self._had_directory or not seen.trouble
        self._take(seen, evidence)

    def _look_in_thread(self) -> tuple[Seen, bool, Mapping[str, object]]:
        made = self._make()
        seen = look(self.path)
        return seen, made, flag_evidence.find(self.path, seen.text) if seen.present else {}

    def _take(self, seen: Seen, evidence: Mapping[str, object] = MappingProxyType({})) -> None:
        self._looked = True
        self._trouble, self._unknown = seen.trouble, seen.present is None
        if seen.present is None:
            return
        if not seen.present:
            if self._untold is not None:
                self._tell(self._came_and_went)
            self._present, self._text, self._unowned = False, "", None
        elif not self._present or self._untold is not None or (seen.text and seen.text != self._text):
            self._present, self._text = True, seen.text
            self._tell(seen.text, evidence)
        elif self._unowned is not None and evidence:
            self._found(self._unowned, evidence)
            self._unowned = None

    def _tell(self, text: str, evidence: Mapping[str, object] = MappingProxyType({})) -> None:
        now = self._clock()
        if self._untold is not None:
            now, timer = self._untold
            timer.cancel()
            self._untold = None
        if self._report is not None:
            words = text or f"{self.path} is there"
            reason = Reason(self.name, words, self.accounts, now, {"path": str(self.path), **evidence})
            self._unowned = None if evidence or not self._present else reason
            self._report(reason)

    @property
    def _came_and_went(self) -> str:
        return f"{self.path} came and went"

    # ── inotify ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        """Wait for inotify, and for its directory to be there again when it has gone."""
        while True:
            try:
                inotify = await self._watching.run(watch, self.path.parent, drop=_close)
            except OSError as error:
                self._watch = error.strerror or type(error).__name__
            else:
                self._watch = ""
                self._stir()  # what came before the watch
                try:
                    await self._heard(inotify)
                finally:
                    self._watching.post(_close, inotify)
            await anyio.sleep(POLL_S)

    async def _heard(self, inotify: Inotify) -> None:
        """Take events in the event loop's own callback, which wakes no task, until the directory is gone."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        fd = inotify.fd

        def hear() -> None:
            try:
                if not ended.done() and not self._hear(os.read(fd, EVENTS_BYTES)):
                    ended.set_result(None)
            except BlockingIOError:
                pass
            except Exception as error:
                ended.set_exception(error)

        loop.add_reader(fd, hear)
        try:
            await ended
        finally:
            loop.remove_reader(fd)

    def _hear(self, events: bytes) -> bool:
        """Take events, all that there are; return False if they say that there will be no others."""
        came = moved = gone = about = ended = False
        for mask, name in parse(events):
            if mask & _ENDED:
                ended = True
            elif name == self._name:
                about = True
                if mask & _CAME:
                    came, moved, gone = True, bool(mask & _MOVED), False
                elif mask & _GONE:
                    gone = True
        if about:
            self._changes += 1
            if came and not self._present:
                self._present, self._text = not gone, ""
                if moved and not gone:
                    loop = asyncio.get_running_loop()
                    self._untold = self._clock(), loop.call_later(TEXT_WITHIN_S, self._tell, "")
                else:
                    self._tell(self._came_and_went if gone else "")
            elif gone:
                if self._untold is not None:
                    self._tell(self._came_and_went)
                self._present, self._text, self._unowned = False, "", None
        if about or ended:
            self._stir()
        return not ended

    def _stir(self) -> None:
        """Have the poll look now."""
        self._stirred.set()


def parse(events: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield mask and name of each event that inotify(7) has written; the name is empty for the directory itself."""
    at = 0
    while at < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, at)
        at += _EVENT.size
        yield mask, events[at : at + length].rstrip(b"\0")
        at += length


def watch(directory: Path) -> Inotify:
    """Have inotify watch a directory; raises `OSError`. Waits for the directory's file system."""
    inotify = Inotify()
    try:
        inotify.add_watch(directory, _WATCHED)
    except BaseException:
        inotify.close()
        raise
    return inotify


def _close(inotify: Inotify) -> None:
    inotify.close()


def look(path: Path) -> Seen:
    """Look for a file, and at its first line. Waits for its file system."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Seen(False, trouble="" if path.parent.is_dir() else f"no directory {path.parent}")
    except OSError as error:
        return Seen(None, trouble=error.strerror or type(error).__name__)
    return Seen(True, _read(path))


def _read(path: Path) -> str:
    """Return the first line that a file holds; a pipe, a link or an unreadable file has none."""
    text = ""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                text = os.read(fd, TEXT_BYTES).decode("utf-8", "replace").strip()
        finally:
            os.close(fd)
    return printable.line(text)
