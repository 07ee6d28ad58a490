"""A worker process steps back behind the daemon, and behind nobody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

POLICY = """
import os, sys
from kill_switch.worker import subordinate
subordinate.has_share = lambda: sys.argv[1] == "in its unit"
subordinate.begin()
subordinate.run_behind_daemon()
print(os.sched_getscheduler(0))
"""


@pytest.mark.parametrize(
    ("place", "policy"),
    [("in its unit", os.SCHED_IDLE), ("elsewhere", os.SCHED_OTHER)],  # there it would starve behind every busy process
)
def test_only_in_the_units_own_share_it_runs_when_the_daemon_does_not(place: str, policy: int) -> None:
    command = [sys.executable, "-c", POLICY, place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == policy
