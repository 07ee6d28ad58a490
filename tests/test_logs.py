"""Logging never keeps a kill waiting."""

from __future__ import annotations

import subprocess
import sys
import time

FLOOD = """
import logging, os, sys, time
from kill_switch import logs
logs.set_up()
log = logging.getLogger("kill_switch.flood")
began = time.monotonic()
for number in range(30_000):
    log.warning("line %d of many, long enough to fill a pipe that nobody reads", number)
os.write(1, f"{time.monotonic() - began:.3f}\\n".encode())
os._exit(0)
"""


def test_a_reader_that_is_stuck_is_not_waited_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", FLOOD], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stderr is not None
        began_s = time.monotonic()
        took = process.stdout.readline()  # nobody reads its standard error
        assert float(took) < 15.0
        assert time.monotonic() - began_s < 18.0
    finally:
        process.kill()
        process.communicate()
