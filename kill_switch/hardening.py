"""Keep what this process holds from others: keys in its memory, the latch and the sockets in its directories."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
from pathlib import Path

from kill_switch.errors import CannotCreate

_PR_SET_DUMPABLE = 4  # prctl(2)


def forbid_dumps() -> bool:
    """Write no core dump and let nobody but root attach or read `/proc/PID/mem` and `environ`; False: not possible."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # not Linux
        return False


def make_directory(path: Path) -> None:
    """Make a directory of ours, or take one that only its owner and root can change; raise `CannotCreate`."""
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise CannotCreate(f"directory {path}: {error.strerror}") from error
    if why := distrust(status, path, os.geteuid()):
        raise CannotCreate(f"directory {path}: {why}")


def distrust(status: os.stat_result, path: Path, uid: int) -> str:
    """Say why the directory of a daemon that runs as `uid` cannot be trusted; "" if it can."""
    if status.st_uid not in (0, uid):
        return f"it belongs to uid {status.st_uid}, who could take the latch away"
    if status.st_mode & stat.S_IWOTH:
        return f"everyone can write there, and take the latch away; chmod o-w {path}"
    return ""
