"""See what the systemd unit gives to this process: its name, and a share of the processor."""

from __future__ import annotations

from pathlib import Path

OWN_UNIT = "KILL_SWITCH_UNIT"  # a variable that is set by each unit of kill-switch


def has_weight(own: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/sys/fs/cgroup")) -> bool:
    """Return whether this process's control group has a share of the processor of its own, by version 2 or 1."""
    try:
        groups = [line.split(":", 2)[1:] for line in own.read_text().splitlines()]
    except OSError:  # not Linux
        return False
    files = [
        mounts / path.strip("/") / "cpu.weight" if not controllers else mounts / "cpu" / path.strip("/") / "cpu.shares"
        for controllers, path in groups
        if path.strip("/") and (not controllers or "cpu" in controllers.split(","))
    ]
    return any(file.exists() for file in files)
