"""The machine's two clocks: the monotonic clock and the wall clock.

Every module that needs the time gets it from here, or is given an `Instant` or a clock function by its caller. Pure
modules never read a clock themselves, so that tests can run them in virtual time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from kill_switch.core.domain import Instant


def now() -> Instant:
    """Return the current time in nanoseconds: CLOCK_MONOTONIC and CLOCK_REALTIME.

    All processes of a boot share the monotonic clock.
    """
    return Instant(time.monotonic_ns(), time.time_ns())


def iso(wall_ns: int) -> str:
    """Format a wall-clock time, in nanoseconds since 1970, as ISO 8601 in UTC with microseconds."""
    return f"{_seconds(wall_ns // 1_000_000_000)}.{wall_ns // 1000 % 1_000_000:06d}Z"


@lru_cache(maxsize=4)  # the records of a kill share a second or two
def _seconds(wall_s: int) -> str:
    return datetime.fromtimestamp(wall_s, UTC).isoformat()[:19]  # strftime takes twice as long


def boot_id() -> str:
    """Return the kernel's id of this boot. Monotonic times of different boots must not be subtracted."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
