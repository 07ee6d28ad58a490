"""Open the files of a journal at a start: lock the directory, decide whether the start is tripped, open the journal.

`Journal` calls these functions before it has a thread. Every call may wait for the file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from kill_switch import clock
from kill_switch.errors import OWN_DIRECTORIES, AlreadyRunning, CannotCreate
from kill_switch.journal import segments
from kill_switch.system.file_access import open_ours


class OpenedJournal(NamedTuple):
    """The journal's file, open for appending."""

    fd: int
    size: int  # bytes of its complete records
    set_aside: Path | None  # where a broken journal is kept as evidence


def lock(state_dir: Path) -> int:
    """Lock a state directory and return the lock's descriptor. Raises `AlreadyRunning` or `CannotCreate`."""
    try:
        fd = open_ours(state_dir / segments.LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        hint = f"; {OWN_DIRECTORIES}" if isinstance(error, PermissionError) else ""
        raise CannotCreate(f"state directory {state_dir}: {error.strerror}{hint}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise AlreadyRunning(f"another daemon holds the state directory {state_dir}") from None
    return fd


def why_tripped(path: Path, replay: segments.JournalContents, lock_fd: int, first_start: str) -> str:
    """Return why this start is tripped, "" if it is not: the journal is damaged, ends within a latch, or is gone.

    `first_start` is why the first start of a state directory is tripped, "" if it is not.
    """
    if replay.broken:
        return f"the journal is damaged: {replay.broken}"
    if replay.latch_torn:
        return "the journal ends within a reason's record"
    was_here = os.fstat(lock_fd).st_size or segments.full_segments(
        path.parent
    )  # a record was written in this directory before
    if replay.entries:
        return ""
    return "the journal that was here is gone" if was_here else first_start


def take_over(path: Path, replay: segments.JournalContents) -> OpenedJournal:
    """Open the journal for appending. Raises `OSError`.

    A broken journal is renamed first, and a new one begins. An incomplete last record is cut off.
    """
    set_aside = None
    if replay.broken:
        set_aside = _aside(path)
        path.rename(set_aside)
    if not replay.entries or set_aside:  # a new chain begins: the full segments belong to another chain
        for full in segments.full_segments(path.parent):
            full.rename(_aside(full))
    size = 0 if set_aside else replay.size
    fd = open_ours(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.ftruncate(fd, size)  # cut the incomplete record off; the `start` record mentions it
    with contextlib.suppress(OSError):  # if it cannot be removed, the next rotation fails and reports it
        os.unlink(path.with_name(segments.NEXT))  # left over from a rotation that a crash interrupted
    return OpenedJournal(fd, size, set_aside)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.broken-{clock.now().wall_ns // 1_000_000_000}")
