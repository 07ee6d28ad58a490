"""Protect what this process holds: the keys in its memory, the latch and the sockets in its directories.

The daemon, the worker processes and commands that read secrets use this. No permission of an existing file is changed
here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from kill_switch.errors import OWN_DIRECTORIES, CannotCreate
from kill_switch.system import users

_PR_SET_DUMPABLE = 4  # prctl(2)


def forbid_dumps() -> bool:
    """Disable core dumps, and let only root attach or read `/proc/PID/mem` and `environ`.

    Returns whether that worked.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # not Linux
        return False


def make_directory(path: Path) -> str:
    """Create one of the daemon's directories, or accept an existing one; return the warning of `doubt`, or "".

    Raises `CannotCreate` if the directory cannot be made, or if other users could remove files from it.
    """
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        hint = f"; {OWN_DIRECTORIES}" if isinstance(error, PermissionError) else ""
        raise CannotCreate(f"directory {path}: {error.strerror}{hint}") from error
    if why := why_untrusted(status, path, os.geteuid()):
        raise CannotCreate(f"directory {path}: {why}")
    return why_doubtful(status, path)


def why_untrusted(status: os.stat_result, path: Path, uid: int) -> str:
    """Return why a daemon that runs as `uid` must not use the directory `path`; "" if it may.

    If the directory's group can write, the data base of users is asked for its members. Blocks on file systems.
    """
    if status.st_uid not in (0, uid):
        return f"it belongs to uid {status.st_uid}, who could remove the latch; chown {uid} {path}"
    if status.st_mode & stat.S_IWOTH:
        return f"everyone can write there, and could remove the latch; chmod o-w {path}"
    trusted = (0, uid, status.st_uid)
    if others := _others_who_can_remove(status, trusted):
        return f"its group can write there, and {others} could remove the latch; chmod g-w {path}"
    for above, parent_status in _parents_of(path):
        if parent_status.st_mode & stat.S_IWOTH and not parent_status.st_mode & stat.S_ISVTX:
            return f"everyone can write to {above}, and move it away with the latch in it; chmod o-w {above}"
        if others := _others_who_can_remove(parent_status, trusted):
            return f"the group of {above} can write there, and {others} could move it away; chmod g-w {above}"
    return ""


def why_doubtful(status: os.stat_result, path: Path) -> str:
    """Return what should be changed at a directory that `why_untrusted` accepts; "" if nothing. May block."""
    if _group_can_remove(status):
        return f"its group can write there: a new member of that group could remove the latch; chmod g-w {path}"
    for above, parent_status in _parents_of(path):
        if parent_status.st_uid not in (0, os.geteuid(), status.st_uid):
            return (
                f"{above} belongs to uid {parent_status.st_uid}, "
                f"who could move it away with the latch in it; chown 0 {above}"
            )
        if _group_can_remove(parent_status):
            return f"the group of {above} can write there: a new member could move it away; chmod g-w {above}"
    return ""


def _parents_of(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the parent directories of `path`, as written and with links followed, that this process can examine."""
    written, real = Path(os.path.abspath(path)), Path(os.path.realpath(path))
    for above in dict.fromkeys((*written.parents, *real.parents)):
        with contextlib.suppress(OSError):
            yield above, above.stat()


def _others_who_can_remove(status: os.stat_result, trusted: Collection[int]) -> str:
    """Return the members of a directory's group who could remove other users' files in it; "" if there are none."""
    return users.unlisted_members(status.st_gid, trusted) if _group_can_remove(status) else ""


def _group_can_remove(status: os.stat_result) -> bool:
    """Return whether a member of the directory's group could remove other users' files in it; see unlink(2)."""
    return bool(status.st_mode & stat.S_IWGRP) and not status.st_mode & stat.S_ISVTX
