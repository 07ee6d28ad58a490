"""Find out whether this process runs in kill-switch's own systemd unit, with a share of the processor."""

from __future__ import annotations

import re
from pathlib import Path

_UNIT = re.compile(r"kill-switch(@.*)?\.service")  # its control group's name; a strategy's may begin like it


def has_share(own: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/sys/fs/cgroup")) -> bool:
    """Return whether this process is in a control group of kill-switch's own unit, with a share of the processor.

    In another unit's group, and in a container's, a strategy may be beside it. Reads cgroups(7), version 2 or 1.
    """
    try:
        groups = [line.split(":", 2)[1:] for line in own.read_text().splitlines()]
    except OSError:  # not Linux
        return False
    for controllers, path in groups:
        group = Path(path.strip("/"))
        if _UNIT.fullmatch(group.name):
            if not controllers and (mounts / group / "cpu.weight").exists():
                return True
            if "cpu" in controllers.split(",") and (mounts / "cpu" / group / "cpu.shares").exists():
                return True
    return False
