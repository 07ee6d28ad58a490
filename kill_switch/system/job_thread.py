"""Carry out jobs that may block, one after the other, in a thread.

The journal has one such thread for its state directory and one for the runtime directory. A file system that hangs
stops only its own thread. The event loop never waits for a job without a bound.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from kill_switch import clock

log = logging.getLogger(__name__)

Job = Callable[[], object]


class JobThread:
    """A thread that runs the posted jobs in order; an exception in a job is logged, and the next job runs."""

    def __init__(self, name: str, begin: Callable[[threading.Thread], object] = threading.Thread.start) -> None:
        """Make the thread; `begin` starts it."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._began_ns = 0  # when the current job began; 0: there is none
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        begin(self._thread)

    def post(self, job: Job) -> None:
        """Queue a job behind those posted before; return at once."""
        self._jobs.put(job)

    def carry_out(self, job: Job, within_s: float) -> bool:
        """Post a job and wait for its end; return False if it has not ended within `within_s` seconds."""
        done = threading.Event()

        def job_then_done() -> None:
            try:
                job()
            finally:
                done.set()

        self.post(job_then_done)
        return done.wait(within_s)

    def running_ns(self, mono_ns: int) -> int:
        """Return for how many nanoseconds the current job has lasted; 0 if there is none."""
        began_ns = self._began_ns
        return max(0, mono_ns - began_ns) if began_ns else 0

    def close(self, within_s: float) -> bool:
        """End the thread behind the posted jobs; return False if it has not ended within `within_s` seconds."""
        self._jobs.put(None)
        self._thread.join(timeout=within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._began_ns = clock.now().mono_ns
            self._run_job(job)
            self._began_ns = 0

    def _run_job(self, job: Job) -> None:
        try:
            job()
        except Exception:
            log.exception("a write of the journal failed; the journal goes on with the next one")
