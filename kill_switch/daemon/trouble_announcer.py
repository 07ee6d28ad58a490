"""Announcements of faults that the daemon finds only by looking: journal, runtime directory, calls that hang.

The daemon's pulse calls it; each fault is announced once until it is over. Nothing is repaired here, except that the
journal tries again to write its pending records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from kill_switch import logging_setup
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Severity
from kill_switch.core.on_change import OnChange
from kill_switch.journal.journal import Journal
from kill_switch.triggers.intake.intake import Intake


class Troubled(Protocol):
    """A part with calls outside the event loop; `trouble` is a line about a call that hangs, "" if none does."""

    @property
    def trouble(self) -> str: ...


class TroubleAnnouncer:
    """The faults that were announced already; `parts` have calls that may hang."""

    def __init__(
        self, journal: Journal, intake: Intake, parts: Sequence[Troubled], announce: Callable[[Announce], None]
    ) -> None:
        self._journal = journal
        self._intake = intake
        self._parts = parts
        self._announce = announce
        self._unsynced = OnChange()
        self._intake_troubles = OnChange()
        self._hanging_calls = OnChange()

    def check(self) -> None:
        """Announce faults that are new since the last call; cheap enough for every pulse."""
        self._check_journal()
        for line in self._hanging_calls.update(self.hanging_calls()).begun:
            self._warn(line)
        unreachable = (self._intake.trouble, self._intake.udp_trouble)
        for line in self._intake_troubles.update(self._intake.troubles()).begun:
            about = "the intake cannot be reached" if line in unreachable else "intake"
            self._warn(f"{about}: {line}")

    def hanging_calls(self) -> Iterator[str]:
        """Yield a line for each call outside the event loop that has not returned for long, and for lost log lines."""
        yield from (part.trouble for part in self._parts if part.trouble)
        if lost := logging_setup.trouble():
            yield lost

    def _check_journal(self) -> None:
        """Write the journal's pending records; announce that a sync fails, or that the journal was removed."""
        self._journal.retry_pending()
        while self._journal.announcements:
            self._warn(self._journal.announcements.popleft())
        unsynced = self._journal.sync_trouble
        for line in self._unsynced.update([unsynced] if unsynced else []).begun:
            self._warn(f"{line}: a power cut may undo what is in it")

    def _warn(self, text: str) -> None:
        self._announce(Announce(Severity.WARN, text))
