"""Keep what this process holds from others: keys in its memory, the latch and the sockets in its directories."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
from pathlib import Path

from kill_switch import users
from kill_switch.errors import CannotCreate

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

    It asks the data base of users who is in the directory's group, if that group can write.
    """
    if status.st_uid not in (0, uid):
        return f"it belongs to uid {status.st_uid}, who could take the latch away"
    if status.st_mode & stat.S_IWOTH:
        return f"everyone can write there, and take the latch away; chmod o-w {path}"
    if _group_can_remove(status) and (others := users.others_in(status.st_gid, (0, uid, status.st_uid))):
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        return f"its group can write there, and {shown} could take the latch away; chmod g-w {path}"
    return ""


def doubt(status: os.stat_result, path: Path) -> str:
    """Return what to change at a directory that is not distrusted; "" if nothing."""
    if _group_can_remove(status):
        return f"its group can write there: whoever joins that group could take the latch away; chmod g-w {path}"
    return ""


def _group_can_remove(status: os.stat_result) -> bool:
    """Tell whether a member of the directory's group could remove or rename files of others in it; see unlink(2)."""
    return bool(status.st_mode & stat.S_IWGRP) and not status.st_mode & stat.S_ISVTX
