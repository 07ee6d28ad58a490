"""Run `kill-switch` with a sick disk.

KILL_SWITCH_TEST_SYNC_S: each `fdatasync` takes so many seconds. KILL_SWITCH_TEST_HANGS: every call of `os` about the
directory KILL_SWITCH_TEST_STATE waits for as long as there is a file of that name.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from kill_switch.cli import main

CALLS = ("stat", "fstat", "open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "link", "rename", "unlink")


def _infect() -> None:
    seconds = float(os.environ.get("KILL_SWITCH_TEST_SYNC_S", "0"))
    if seconds:
        real = os.fdatasync

        def slow(fd: int) -> None:
            time.sleep(seconds)
            real(fd)

        os.fdatasync = slow  # type: ignore[assignment]
    if hangs := os.environ.get("KILL_SWITCH_TEST_HANGS"):
        for name in CALLS:
            setattr(os, name, _hanging(getattr(os, name), os.environ["KILL_SWITCH_TEST_STATE"], hangs, os.access))


def _hanging(real: Callable[..., Any], state: str, hangs: str, there: Callable[..., bool]) -> Callable[..., Any]:
    def call(target: Any, *arguments: Any, **more: Any) -> Any:
        while there(hangs, os.F_OK) and _about(target).startswith(state):
            time.sleep(0.02)
        return real(target, *arguments, **more)

    return call


def _about(target: Any) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
    except OSError:
        return ""


if __name__ == "__main__":
    _infect()
    sys.exit(main())
