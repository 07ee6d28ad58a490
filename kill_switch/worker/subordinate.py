"""Set up a worker process: lower its priority, and end it when the daemon has ended.

`main` and `commands` call `begin` first. Nothing here depends on the worker's errands.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys

from kill_switch.system.hardening import forbid_dumps
from kill_switch.system.unit import has_share
from kill_switch.worker import output

LAST_S = 2.0  # seconds for errands in progress once the daemon has ended; a stopping daemon waits for them
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NICE = 5  # because a kill is more urgent
_PR_SET_PDEATHSIG = 1  # prctl(2)


def begin() -> None:
    """Set the process up. Call it once, before any thread is started."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        # because the daemon may send errands until its end; not SIG_IGN, which every command would inherit
        signal.signal(number, lambda *_: None)
    logging.disable()  # because libraries log URLs
    sys.excepthook = output.say_uncaught
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as file:  # of this session, see sched(7)
        file.write(str(_NICE))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # a kill needs memory more
        file.write("200")
    forbid_dumps()
    die_with_parent(signal.SIGCONT)  # because a stopped process would not notice the end of its pipe


def run_behind_daemon() -> None:
    """Run only when the daemon does not, if this process shares a processor's time with the daemon alone: in its unit.

    At any niceness, the kernel may let this process run for a tick first, 4 ms, when a kill wakes the daemon.
    """
    if has_share():
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def die_with_parent(number: int) -> None:
    """Ask the kernel to send this process a signal when its parent ends. Does nothing where there is no prctl(2)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
