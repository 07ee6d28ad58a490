"""Metrics of this process (CPU, memory, file descriptors) under the standard names of `prometheus_client`.

The daemon's metrics include them. The daemon reads its own `/proc/self`: the worker that serves `/metrics` cannot,
because the daemon is not dumpable and `/proc` may be hidden.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

_SELF = Path("/proc/self")
_THREADS, _STARTED = 17, 19  # fields of proc_pid_stat(5), counted from the one after the name


class ProcessMetric(NamedTuple):
    """A figure of the process; `outbound.metric_table` describes it, with the prefix `process_`."""

    name: str
    value: float


class ProcessMetricsReader:
    """A reader of the figures. The start time is computed once, because setting the clock does not change it."""

    def __init__(self, wall_s: float) -> None:
        """`wall_s` is the current time of the wall clock, in seconds since 1970."""
        try:
            age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(_stat()[_STARTED]) / os.sysconf("SC_CLK_TCK")
        except OSError:
            age_s = 0.0
        self._started_s = wall_s - age_s

    def read(self) -> list[ProcessMetric]:
        """Return all available figures within some hundred microseconds.

        Without `/proc`, these are only CPU time and start time.
        """
        used = resource.getrusage(resource.RUSAGE_SELF)
        vitals = [
            ProcessMetric("cpu_seconds_total", used.ru_utime + used.ru_stime),
            ProcessMetric("start_time_seconds", self._started_s),
        ]
        try:
            threads = int(_stat()[_THREADS])
            virtual, resident, *_ = (int(pages) for pages in (_SELF / "statm").read_text().split())
            descriptors = len(os.listdir(_SELF / "fd")) - 1  # the listing itself has one descriptor
        except OSError:
            return vitals
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        return [
            *vitals,
            ProcessMetric("virtual_memory_bytes", virtual * page_bytes),
            ProcessMetric("resident_memory_bytes", resident * page_bytes),
            ProcessMetric("open_fds", descriptors),
            ProcessMetric("max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
            ProcessMetric("threads", threads),
        ]


def _stat() -> list[str]:
    """Return the fields of `/proc/self/stat` after the program's name, which may contain any characters."""
    return (_SELF / "stat").read_text().rpartition(")")[2].split()
