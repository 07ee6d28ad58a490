"""Collect children that other processes have left to this one, so that they do not stay zombies.

The kernel gives orphans to process 1 of their container. Where that is the daemon, what hooks leave running ends as its
child. `reap` makes system calls that never wait, and the daemon calls it with every pulse.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Container

MOST = 1000  # a call: a hook that forks without end is not to keep the event loop
_PR_GET_CHILD_SUBREAPER = 37  # prctl(2)


def reap(ours: Container[int | None]) -> int:
    """Collect each child that has ended and is not in `ours`; return how many. Does nothing unless orphans come here.

    A child in `ours` that has ended hides others, until whoever started it has collected it.
    """
    if not _inherits():
        return 0
    for count in range(MOST):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in ours:
                return count
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return count
    return MOST


def _inherits() -> bool:
    """Tell whether the kernel gives orphans to this process: it is process 1, or was made a subreaper."""
    if os.getpid() == 1:
        return True
    library, found = _library(), ctypes.c_int(0)
    asked = library is not None and library.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0
    return asked and bool(found.value)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the C library; None where it has no prctl(2)."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "prctl") else None
