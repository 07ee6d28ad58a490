"""Execute the journal's jobs at once, in the thread that posts them, so that a test sees their results."""

from __future__ import annotations

from collections.abc import Mapping

from kill_switch.core.domain import Instant
from kill_switch.journal.journal import Journal
from kill_switch.system.job_thread import Job, JobThread


class AtOnce(JobThread):
    """A worker without a thread; while it is `stuck`, jobs wait, as they do behind a call that hangs."""

    def __init__(self, name: str) -> None:
        self.stuck = False
        self.waiting: list[Job] = []
        super().__init__(name, begin=lambda thread: None)

    def post(self, job: Job) -> None:
        self.waiting.append(job)
        self.go_on()

    def carry_out(self, job: Job, within_s: float) -> bool:
        self.post(job)
        return not self.stuck

    def close(self, within_s: float) -> bool:
        return not self.stuck

    def running_ns(self, mono_ns: int) -> int:
        return 10**18 if self.stuck and self.waiting else 0

    def go_on(self) -> None:
        """Carry out what waits, unless it is stuck."""
        while self.waiting and not self.stuck:
            self._run_job(self.waiting.pop(0))


class Prompt(Journal):
    """A journal whose threads have always just done their work."""

    @property
    def state(self) -> AtOnce:
        assert isinstance(self._state, AtOnce)
        return self._state

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        taken = super().append_latch(kind, data, at)
        self._schedule_write()
        return taken and self.is_on_record

    def flush(self) -> bool:
        written = super().flush()
        self._collect_results()
        return written

    def retry_pending(self) -> None:
        super().retry_pending()
        super().retry_pending()  # what the first has found

    def foreign_latch(self) -> str | None:
        for file in self._files:
            file.look()
        return super().foreign_latch()

    def displaced(self) -> bool:
        self._schedule_write()
        return super().displaced()
