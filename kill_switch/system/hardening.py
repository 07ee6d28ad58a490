"""Keep what this process holds from others: keys in its memory, the latch and the sockets in its directories."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from kill_switch.errors import CannotCreate
from kill_switch.system import users

_PR_SET_DUMPABLE = 4  # prctl(2)


def forbid_dumps() -> bool:
    """Write no core dump and let nobody but root attach or read `/proc/PID/mem` and `environ`; False: not possible."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # not Linux
        return False


def make_directory(path: Path) -> str:
    """Make a directory of ours, or take one that nobody else can remove files from; return what `doubt` has to say.

    Raises `CannotCreate`.
    """
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise CannotCreate(f"directory {path}: {error.strerror}") from error
    if why := distrust(status, path, os.geteuid()):
        raise CannotCreate(f"directory {path}: {why}")
    return doubt(status, path)


def distrust(status: os.stat_result, path: Path, uid: int) -> str:
    """Return why a daemon that runs as `uid` must not use its directory `path`; "" if it may.

    It asks the data base of users who is in a directory's group, if that group can write. It waits for file systems.
    """
    if status.st_uid not in (0, uid):
        return f"it belongs to uid {status.st_uid}, who could take the latch away"
    if status.st_mode & stat.S_IWOTH:
        return f"everyone can write there, and take the latch away; chmod o-w {path}"
    trusted = (0, uid, status.st_uid)
    if others := _others_who_can_remove(status, trusted):
        return f"its group can write there, and {others} could take the latch away; chmod g-w {path}"
    for above, found in _above(path):
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return f"everyone can write to {above}, and move it away with the latch in it; chmod o-w {above}"
        if others := _others_who_can_remove(found, trusted):
            return f"the group of {above} can write there, and {others} could move it away; chmod g-w {above}"
    return ""


def doubt(status: os.stat_result, path: Path) -> str:
    """Return what to change at a directory that is not distrusted; "" if nothing. It waits for file systems."""
    if _group_can_remove(status):
        return f"its group can write there: whoever joins that group could take the latch away; chmod g-w {path}"
    for above, found in _above(path):
        if found.st_uid not in (0, os.geteuid(), status.st_uid):
            return (
                f"{above} belongs to uid {found.st_uid}, who could move it away with the latch in it; chown 0 {above}"
            )
        if _group_can_remove(found):
            return f"the group of {above} can write there: whoever joins it could move it away; chmod g-w {above}"
    return ""


def _above(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the directories that `path` leads through, as it is written and behind its links, that can be seen."""
    written, real = Path(os.path.abspath(path)), Path(os.path.realpath(path))
    for above in dict.fromkeys((*written.parents, *real.parents)):
        with contextlib.suppress(OSError):
            yield above, above.stat()


def _others_who_can_remove(status: os.stat_result, trusted: Collection[int]) -> str:
    """Name those members of a directory's group who could remove files of others in it; "" if there are none."""
    return users.strangers(status.st_gid, trusted) if _group_can_remove(status) else ""


def _group_can_remove(status: os.stat_result) -> bool:
    """Tell whether a member of the directory's group could remove or rename files of others in it; see unlink(2)."""
    return bool(status.st_mode & stat.S_IWGRP) and not status.st_mode & stat.S_ISVTX
