"""Begin a process beside the daemon: it steps back behind the daemon, and ends when the daemon is gone.

`errands` and `commands` call `begin` first. Nothing here knows what such a process does.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal

from kill_switch.system.hardening import forbid_dumps

LAST_S = 2.0  # what is under way has this long left once the daemon is gone; the daemon that stops waits for it
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PR_SET_PDEATHSIG = 1  # prctl(2)


def begin() -> None:
    """Set the process up. Call it once, before any thread is started."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        # the daemon may have something to say until its very end; not SIG_IGN, which every command would inherit
        signal.signal(number, lambda *_: None)
    logging.disable()  # libraries log URLs
    with contextlib.suppress(OSError):  # nothing here is as urgent as a kill, nor worth as much memory
        os.setpriority(os.PRIO_PROCESS, 0, 5)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("200")
    forbid_dumps()
    die_with_parent(signal.SIGCONT)  # a process that was stopped would not see that its pipe has ended


def die_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent ends. Does nothing where there is no prctl(2)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
