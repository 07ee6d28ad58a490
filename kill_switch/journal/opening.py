"""Open the files of a journal at a start: the lock, what is there, and whether it can be believed.

`journal.Journal` calls this before it has a thread; every call may wait for the file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from kill_switch import clock
from kill_switch.errors import AlreadyRunning, CannotCreate
from kill_switch.journal import segments
from kill_switch.system.file_access import open_ours


class OpenedJournal(NamedTuple):
    """The file that is written from now on."""

    fd: int
    size: int  # bytes of its whole records
    set_aside: Path | None  # where a broken journal is kept as evidence


def lock(state_dir: Path) -> int:
    """Lock a state directory; return the lock's descriptor. Raises `AlreadyRunning` or `CannotCreate`."""
    try:
        fd = open_ours(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotCreate(f"state directory {state_dir}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise AlreadyRunning(f"another daemon holds the state directory {state_dir}") from None
    return fd


def why_untrusted(path: Path, replay: segments.JournalContents, lock_fd: int) -> str:
    """Say why a journal cannot be believed: it is damaged, cut off in a latch, or gone; "" if it can."""
    if replay.broken:
        return f"the journal is damaged: {replay.broken}"
    if replay.latch_torn:
        return "the journal ends within a reason's record"
    was_here = os.fstat(lock_fd).st_size or segments.full_segments(path.parent)  # a record has been written once
    if was_here and not replay.entries:
        return "the journal that was here is gone"
    return ""


def take_over(path: Path, replay: segments.JournalContents) -> OpenedJournal:
    """Open the file to append to it; a broken journal is renamed first, and a new one begun. Raises `OSError`."""
    set_aside = None
    if replay.broken:
        set_aside = _aside(path)
        path.rename(set_aside)
    if not replay.entries or set_aside:  # the chain begins anew: what was full is of another one
        for full in segments.full_segments(path.parent):
            full.rename(_aside(full))
    size = 0 if set_aside else replay.size
    fd = open_ours(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.ftruncate(fd, size)  # a torn tail goes; the next record says that it was there
    with contextlib.suppress(OSError):  # if it is there for good, the next file cannot be begun, and that is said
        os.unlink(path.with_name(segments.NEXT))  # the beginning of a file that never got the name
    return OpenedJournal(fd, size, set_aside)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.broken-{clock.now().wall_ns // 1_000_000_000}")
