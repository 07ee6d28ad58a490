"""A daemon's start and stop: the journal is opened, the start is recorded, and both are announced.

The daemon uses it; its pulse calls `StartReporter.check`. Nothing is sent here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kill_switch
from kill_switch.config.loader import Config
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Severity
from kill_switch.core.records import FORMAT, ReloadRecord, StartRecord
from kill_switch.core.state import State
from kill_switch.daemon import start_row
from kill_switch.journal.journal import Journal
from kill_switch.journal.records import StartAnnouncedRecord, StopRecord

log = logging.getLogger(__name__)

# of a daemon's life; a reload is among them, because the journal's fold keeps the last start or reload alone
_LIVES = (StartRecord.kind, ReloadRecord.kind, StopRecord.kind)
MAX_NAMED = 10  # accounts that a text names
_SETTLED = f"{start_row.SETTLED_S / 60:g} min"


def open_journal(config: Config, reading: Callable[[], object]) -> Journal:
    """Open the journal of a configuration. May block, and raises, as `Journal` does.

    With `start = "tripped"`, the first start of an empty state directory is tripped. `reading` is that of `Journal`.
    """
    first = 'the configuration says start = "tripped"' if config.daemon.start == "tripped" else ""
    return Journal(config.daemon.state_dir, config.daemon.runtime_dir, reading, trip_first_start=first)


def started(entries: Sequence[Mapping[str, Any]], state: State, triggers: int) -> Announce:
    """Return that the daemon watches, and since when nobody did if the last one ended without a stop.

    `entries` are the journal's entries of earlier runs.
    """
    text = f"version {kill_switch.__version__} watches {len(state.accounts)} account(s) with {triggers} trigger(s)"
    if state.tripped:
        text += f"; tripped: {_named(state.tripped)}"
    lives = (entry["kind"] for entry in reversed(entries) if entry["kind"] in _LIVES)
    if next(lives, StopRecord.kind) != StopRecord.kind:
        text += f"; the last daemon ended without a stop, after {entries[-1]['at']}: nobody has watched since"
        return Announce(Severity.START, text, do="find out why: journalctl -u kill-switch")
    return Announce(Severity.START, text)


class StartReporter:
    """The record and the announcements of this start, and of the crash loop that it may belong to.

    Call `record`, then `announce`, then `check` from the pulse.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], Instant],
        announce: Callable[[Announce], None],
        sent: Callable[[], int],
    ) -> None:
        """Read the earlier runs' entries of the journal; `sent` returns how many messages have arrived by now."""
        self._journal = journal
        self._clock = clock
        self._announce = announce
        self._sent = sent
        self._began = clock()
        self._row = start_row.next_row(journal.contents.entries, self._began)
        self._is_announced = start_row.is_announced(self._row, self._began)
        self._is_loop = start_row.is_loop(self._row)

    def record(self, inventory: Mapping[str, Any]) -> None:
        """Record the start in the journal; `inventory` has the record's fields about the configuration."""
        torn = self._journal.contents.torn
        start = StartRecord(
            version=kill_switch.__version__,
            pid=os.getpid(),
            format=FORMAT,
            torn=torn.decode("utf-8", "replace") if torn else None,
            row=self._row,
            **inventory,
        )
        self._journal.append(start.kind, start.to_json(), self._clock())
        if not self._journal.flush():
            log.error("%s", self._journal.trouble)

    def announce(self, state: State, triggers: int) -> None:
        """Announce the start to people, or to the log alone if a crash loop has had its messages."""
        news = started(self._journal.contents.entries, state, triggers)
        if self._is_loop:
            text = (
                f"{news.text}; {self._starts()}: the next message about it comes in 1 h, or once it runs for {_SETTLED}"
            )
            news = news._replace(text=text)
        self._announce(news if self._is_announced else news._replace(level=Severity.INFO))

    def check(self) -> None:
        """Record that the message has arrived, and announce the end of a crash loop; cheap enough for every pulse."""
        now = self._clock()
        if self._is_announced and (sent := self._sent()):
            self._is_announced = False
            self._journal.append(StartAnnouncedRecord.kind, StartAnnouncedRecord(messages=sent).to_json(), now)
            self._journal.flush()
        if self._is_loop and now.mono_ns - self._began.mono_ns >= start_row.SETTLED_S * 1e9:
            self._is_loop = False
            self._announce(Announce(Severity.OVER, f"the daemon has run for {_SETTLED}, after {self._starts()}"))

    def _starts(self) -> str:
        return f"{self._row.starts} starts without a stop since {self._row.since}"


def stopped(signal: str, state: State) -> Announce:
    """Return that the daemon stops because of a signal, and which accounts stay tripped."""
    text = f"nobody watches now: the daemon was stopped by {signal}"
    if state.tripped:
        text += f"; {_named(state.tripped)} stay tripped, and nobody cancels new orders there"
    return Announce(Severity.STOP, text, do="unless it is restarted already: systemctl start kill-switch")


def _named(names: Sequence[str]) -> str:
    others = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + others
