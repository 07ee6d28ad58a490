"""A worker process steps back behind the daemon, and behind nobody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

POLICY = """
import os, sys
from kill_switch.worker import subordinate
subordinate.has_weight = lambda: sys.argv[1] == "weight"
subordinate.begin()
print(os.sched_getscheduler(0))
"""


@pytest.mark.parametrize(
    ("unit", "weight", "policy"),
    [
        ("yes", "weight", os.SCHED_IDLE),
        ("yes", "none", os.SCHED_OTHER),  # it would starve behind every busy process
        ("", "weight", os.SCHED_OTHER),  # the group may be a strategy's too
    ],
)
def test_only_in_the_units_own_share_it_runs_when_the_daemon_does_not(unit: str, weight: str, policy: int) -> None:
    environ = {**os.environ, **({"KILL_SWITCH_UNIT": unit} if unit else {})}
    command = [sys.executable, "-c", POLICY, weight]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == policy
