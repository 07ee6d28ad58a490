"""A thread holds the lock of the pipe to the daemon and waits for another: nothing can be told any more."""

import sys
import threading

from kill_switch.worker.main import JobServer
from tests.unit.worker.sick import answer_once

answer_once()
desk = JobServer(sys.stdout.fileno())
threading.Thread(target=lambda: desk._lock.acquire() and threading.Event().wait(), daemon=True).start()
desk.serve(sys.stdin.buffer)
