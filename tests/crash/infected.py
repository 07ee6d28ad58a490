"""Run `kill-switch` with a disk whose `fdatasync` takes as many seconds as KILL_SWITCH_TEST_SYNC_S says."""

from __future__ import annotations

import os
import sys
import time

from kill_switch.cli import main


def _infect() -> None:
    seconds, real = float(os.environ["KILL_SWITCH_TEST_SYNC_S"]), os.fdatasync

    def slow(fd: int) -> None:
        time.sleep(seconds)
        real(fd)

    os.fdatasync = slow  # type: ignore[assignment]


if __name__ == "__main__":
    _infect()
    sys.exit(main())
