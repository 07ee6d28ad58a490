"""Put the engine's records into the journal, and have them written and made durable within their deadlines.

The dispatcher uses it. Nothing here waits: the journal's threads write, and timers of the event loop ask them to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kill_switch.core.domain import Instant, Severity
from kill_switch.core.engine import Announce
from kill_switch.dispatch.ports import JournalPort
from kill_switch.dispatch.timers import CallLater, Timer

FLUSH_AFTER_S = 0.05  # records that are not the latch are written together, when a strike's answers are all there
SYNC_AFTER_S = 0.005  # waking the thread that syncs takes as long as a strike, and its answers come at once
RETRY_AFTER_S = 1.0  # after a flush that failed


class RecordWriter:
    """Holds the deadlines of flush and sync, and announces the journal's trouble once for as long as it lasts."""

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
        self._announced = ""  # the journal's trouble that was announced and has lasted since

    def append(self, kind: str, data: Mapping[str, object]) -> None:
        """Append a record that is flushed within `FLUSH_AFTER_S`."""
        self._journal.append(kind, data, self._clock())
        if self._flush_timer is None:
            self._flush_timer = self._later(FLUSH_AFTER_S, self._flush)

    def latch(self, kind: str, data: Mapping[str, object]) -> None:
        """Write a record that must not be lost; call `schedule_sync` when nothing is waiting any more."""
        self.sync_wanted = True
        if not self._journal.append_latch(kind, data, self._clock()):
            self._announce_trouble()

    def schedule_sync(self) -> None:
        """Have the disk take what `latch` has written since, within `SYNC_AFTER_S`."""
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
