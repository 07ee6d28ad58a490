"""Append the engine's records to the journal, and schedule flush and fsync within their deadlines.

The dispatcher uses it. It never waits: timers of the event loop ask the journal's threads to write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Severity
from kill_switch.dispatch.ports import JournalPort
from kill_switch.dispatch.timers import CallLater, Timer

FLUSH_AFTER_S = 0.05  # so that the records of a strike's answers are written together
SYNC_AFTER_S = 0.005  # because waking the fsync thread takes as long as a strike, and would delay its answers
RETRY_AFTER_S = 1.0  # after a flush that failed


class RecordWriter:
    """The deadlines of flush and fsync; it announces a trouble of the journal once, while the trouble lasts."""

    def __init__(
        self, journal: JournalPort, clock: Callable[[], Instant], later: CallLater, announce: Callable[[Announce], None]
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._later = later
        self._announce = announce
        self._flush_timer: Timer | None = None
        self._sync_timer: Timer | None = None
        self.sync_wanted = False  # a latch record was written, and no sync was scheduled since
        self._announced = ""  # the journal's trouble that was announced and has not ended

    def append(self, kind: str, data: Mapping[str, object]) -> None:
        """Append a record that is flushed within `FLUSH_AFTER_S`."""
        self._journal.append(kind, data, self._clock())
        if self._flush_timer is None:
            self._flush_timer = self._later(FLUSH_AFTER_S, self._flush)

    def latch(self, kind: str, data: Mapping[str, object]) -> None:
        """Append a record that must not be lost; call `schedule_sync` once the strike has left."""
        self.sync_wanted = True
        if not self._journal.append_latch(kind, data, self._clock()):
            self._announce_trouble()

    def schedule_sync(self) -> None:
        """Schedule the fsync of the latch records, within `SYNC_AFTER_S`."""
        self.sync_wanted = False
        if self._sync_timer is None:
            self._sync_timer = self._later(SYNC_AFTER_S, self._sync)

    def _sync(self) -> None:
        self._sync_timer = None
        self._journal.sync()

    def _flush(self) -> None:
        self._flush_timer = None
        if self._journal.flush():
            self._announced = ""
        else:
            self._flush_timer = self._later(RETRY_AFTER_S, self._flush)
            self._announce_trouble()

    def _announce_trouble(self) -> None:
        if self._journal.trouble != self._announced:
            self._announced = self._journal.trouble
            self._announce(Announce(Severity.WARN, self._announced))
