"""Tell what this process takes of the machine, under the names that Prometheus' own clients give it.

It tells this of itself: another process cannot read it, since ours can be dumped by nobody and `/proc` may be hidden.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

_SELF = Path("/proc/self")
_THREADS, _STARTED = 17, 19  # fields of proc_pid_stat(5), counted from the one after the program's name


class Vital(NamedTuple):
    """One figure."""

    kind: str
    name: str
    text: str
    value: float


class Vitals:
    """Read the figures; when the process started is found out once, since a clock that is set starts nothing anew."""

    def __init__(self, wall_s: float) -> None:
        """`wall_s` is what the wall clock says now."""
        try:
            age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(_stat()[_STARTED]) / os.sysconf("SC_CLK_TCK")
        except OSError:
            age_s = 0.0
        self._started_s = wall_s - age_s

    def read(self) -> list[Vital]:
        """Return all that can be had, in some hundred microseconds; without `/proc`, that is CPU time and start."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        found = [
            Vital("counter", "cpu_seconds_total", "CPU time, user and system.", used.ru_utime + used.ru_stime),
            Vital("gauge", "start_time_seconds", "When the process started, since the epoch.", self._started_s),
        ]
        try:
            threads = int(_stat()[_THREADS])
            virtual, resident, *_ = (int(pages) for pages in (_SELF / "statm").read_text().split())
            descriptors = len(os.listdir(_SELF / "fd")) - 1  # the listing itself has one
        except OSError:
            return found
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        return [
            *found,
            Vital("gauge", "virtual_memory_bytes", "Virtual memory.", virtual * page_bytes),
            Vital("gauge", "resident_memory_bytes", "Resident memory.", resident * page_bytes),
            Vital("gauge", "open_fds", "Open file descriptors.", descriptors),
            Vital("gauge", "max_fds", "How many there may be.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            Vital("gauge", "threads", "Threads.", threads),
        ]


def _stat() -> list[str]:
    """Return the fields after the program's name, which may hold anything."""
    return (_SELF / "stat").read_text().rpartition(")")[2].split()
