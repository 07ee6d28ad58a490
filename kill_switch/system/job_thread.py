"""Carry out jobs that may block, one after the other, in a thread of their own.

The journal has one worker for its state directory and one for the runtime directory. A file system that hangs stops
its own worker and nothing else: whoever posts a job waits for it within a bound, or not at all.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from kill_switch import clock

log = logging.getLogger(__name__)

Job = Callable[[], object]


class Worker:
    """Run one thread; a job that raises is logged, and the next one runs."""

    def __init__(self, name: str, begin: Callable[[threading.Thread], object] = threading.Thread.start) -> None:
        """Make the thread; `begin` starts it."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._began_ns = 0  # of the job that is under way; 0: none is
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        begin(self._thread)

    def post(self, job: Job) -> None:
        """Have a job carried out after those that were posted before; return at once."""
        self._jobs.put(job)

    def carry_out(self, job: Job, within_s: float) -> bool:
        """Post a job and wait for its end; False if it has not ended within so many seconds."""
        done = threading.Event()

        def told() -> None:
            try:
                job()
            finally:
                done.set()

        self.post(told)
        return done.wait(within_s)

    def lasts_ns(self, mono_ns: int) -> int:
        """Return for how long the job under way has lasted."""
        began_ns = self._began_ns
        return max(0, mono_ns - began_ns) if began_ns else 0

    def close(self, within_s: float) -> bool:
        """Have the thread end after the jobs that are posted; False if it has not ended within so many seconds."""
        self._jobs.put(None)
        self._thread.join(timeout=within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._began_ns = clock.now().mono_ns
            self._once(job)
            self._began_ns = 0

    def _once(self, job: Job) -> None:
        try:
            job()
        except Exception:
            log.exception("a job of the journal's failed")
