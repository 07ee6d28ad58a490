"""Collect ended processes that the kernel has given to this process, so that they do not stay zombies.

The kernel gives orphans to process 1 of their container. If that is the daemon, processes that hooks have started end
as its children. The daemon calls `reap` with every pulse; no system call here blocks.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Container

MAX_REAPED = 1000  # children a call, because a hook that forks without end must not occupy the event loop
_PR_GET_CHILD_SUBREAPER = 37  # prctl(2)


def reap_orphans(ours: Container[int | None]) -> int:
    """Collect each ended child that is not in `ours`; return their number.

    Does nothing unless this process gets orphans.

    An ended child in `ours` hides others until the code that started it has collected it.
    """
    if not _inherits():
        return 0
    for count in range(MAX_REAPED):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in ours:
                return count
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return count
    return MAX_REAPED


def _inherits() -> bool:
    """Return whether the kernel gives orphans to this process: it is process 1, or was made a subreaper."""
    if os.getpid() == 1:
        return True
    library, subreaper = _library(), ctypes.c_int(0)
    succeeded = library is not None and library.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(subreaper), 0, 0, 0) == 0
    return succeeded and bool(subreaper.value)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the C library; None if it has no prctl(2)."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "prctl") else None
