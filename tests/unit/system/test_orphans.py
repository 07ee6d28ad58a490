"""Children that others leave to the daemon do not stay zombies, and its own keep their exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

SUBREAPER = "import ctypes; assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0"
LEAVE = """
import os, subprocess, sys, time
from kill_switch.system import orphans as orphans

def zombies():
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    return sum(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z" for pid in children)

def leave(count):
    subprocess.run(["/bin/sh", "-c", "for n in $(seq %d); do sh -c 'sleep 0.1' & done" % count], check=True)

def wait_for(count):
    for _ in range(500):
        if zombies() == count:
            return
        time.sleep(0.02)
    raise SystemExit(f"{zombies()} zombies, not {count}")
"""
CASE = """
leave(3)
wait_for(3)
assert orphans.reap_orphans(()) == 3 and zombies() == 0
ours = subprocess.Popen(["/bin/sh", "-c", "exit 7"])
wait_for(1)
assert orphans.reap_orphans([ours.pid, None]) == 0
assert ours.wait() == 7
assert orphans.reap_orphans(()) == 0
print("good")
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_inherits_orphans_collects_them_and_not_its_own_children() -> None:
    assert run(sys.executable, "-c", f"{SUBREAPER}\n{LEAVE}\n{CASE}") == "good\n"


def test_process_1_of_a_container_collects_orphans() -> None:
    words = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run((*words, "true"), capture_output=True).returncode:
        pytest.skip("this machine makes no namespaces")
    assert run(*words, sys.executable, "-c", f"{LEAVE}\nassert os.getpid() == 1\n{CASE}") == "good\n"


def test_a_process_that_inherits_no_orphans_collects_no_exit_code() -> None:
    code = """
child = subprocess.Popen(["/bin/sh", "-c", "exit 7"])
wait_for(1)
assert orphans.reap_orphans(()) == 0
assert child.wait() == 7
"""
    run(sys.executable, "-c", LEAVE + code)
