"""Read inotify(7)'s events of a directory, and make a flag's directory. `trigger` decides what follows from an
event.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from asyncinotify import Inotify, Mask

Directory = tuple[int, int]  # device and inode

CAME = int(Mask.CREATE | Mask.MOVED_TO)
GONE = int(Mask.DELETE | Mask.MOVED_FROM)
ENDED = int(Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED)  # no event follows
LOST = int(Mask.Q_OVERFLOW)  # the kernel has dropped events
MAX_NAME = 16 + 256  # bytes of an event: a header, and a name of at most 255 with a NUL
_WATCHED = Mask.CREATE | Mask.MOVED_TO | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.CLOSE_WRITE | Mask.DELETE
_WATCHED |= Mask.MOVED_FROM
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name behind it


def sift(events: bytes, name: bytes) -> tuple[list[int], int]:
    """Parse what inotify(7) has written; return the masks of the events about `name`, and the mask of the watch itself.

    Names of other files are compared as bytes and not decoded, because there may be very many.
    """
    ours: list[int] = []
    itself, at, end, wanted = 0, 0, len(events), name + b"\0"
    while at < end:
        _, mask, _, length = _EVENT.unpack_from(events, at)
        at += _EVENT.size
        if not length:
            itself |= mask
        elif events.startswith(wanted, at):
            ours.append(mask)
        at += length
    return ours, itself


def watch(directory: Path) -> tuple[Inotify, Directory | None]:
    """Watch a directory with inotify; return the inotify object, and the directory's identity. Raises `OSError`.

    Waits for the directory's file system. The identity is read first: a directory that is replaced meanwhile is found
    to be another one at the next look.
    """
    watched = identity(directory)
    inotify = Inotify()
    try:
        inotify.add_watch(directory, _WATCHED)
    except BaseException:
        inotify.close()
        raise
    return inotify, watched


def identity(directory: Path) -> Directory | None:
    """Return the device and inode of a directory; None if there is no such directory. Waits for its file system."""
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def close(watching: tuple[Inotify, Directory | None]) -> None:
    """Close an inotify object."""
    watching[0].close()


def make_directory(directory: Path, runtime_dir: Path) -> bool:
    """Make a flag's directory if it is missing and below the runtime directory; return whether it was made.

    systemd-tmpfiles(8) makes it at boot; its group may put the flag there. If it cannot be made, the flag's trigger is
    blind. Waits for the file system.
    """
    try:
        if not directory.is_relative_to(runtime_dir) or directory.exists():
            return False
        directory.mkdir(parents=True)
        directory.chmod(0o2770)
    except OSError:
        return False
    return True
