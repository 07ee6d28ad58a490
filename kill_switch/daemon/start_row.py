"""Starts in a row without a stop: how many there were, and how many of them were announced. Pure.

`start_and_stop` uses it to announce a single start at once, and a crash loop once an hour. The row is part of the
`start` record, so that it outlives the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kill_switch import clock
from kill_switch.core.domain import Instant
from kill_switch.core.records import StartRecord, StartRow
from kill_switch.journal import records
from kill_switch.journal.records import Entry, StartAnnouncedRecord, StopRecord

SETTLED_S = 600.0  # seconds: a start that comes later after the last one begins a row of its own
MAX_MESSAGES = 3  # of a row, before its starts are announced once in `AGAIN_AFTER_S`
AGAIN_AFTER_S = 3600.0  # seconds
_KINDS = (StartRecord.kind, StartAnnouncedRecord.kind, StopRecord.kind)


def next_row(entries: Sequence[Entry], now: Instant) -> StartRow:
    """Return the row of a start at `now`; `entries` are the journal's entries of earlier runs.

    A row ends with an orderly stop, because people have a message that nobody watches then. It also ends when the
    clock was set back, because no gap can be known.
    """
    last, last_at, sent = None, "", False
    for entry in (entry for entry in entries if entry["kind"] in _KINDS):
        match records.from_json(entry):
            case StartRecord() as start:
                last, last_at, sent = start, entry["at"], False
            case StartAnnouncedRecord():
                sent = True
            case StopRecord():
                last = None
            case _:
                pass
    at = clock.iso(now.wall_ns)
    if last is None or last.row is None or not _is_within(last_at, at, SETTLED_S):
        return StartRow(since=at)
    row = last.row
    return StartRow(
        starts=row.starts + 1,
        since=row.since,
        messages=row.messages + sent,
        last_message=last_at if sent else row.last_message,
    )


def is_loop(row: StartRow) -> bool:
    """Return whether the row, whose last start begins now, is a crash loop that messages name."""
    return row.messages >= MAX_MESSAGES - 1


def is_announced(row: StartRow, now: Instant) -> bool:
    """Return whether people get a message about the row's last start, which is at `now`."""
    return row.messages < MAX_MESSAGES or not _is_within(row.last_message, clock.iso(now.wall_ns), AGAIN_AFTER_S)


def _is_within(earlier: str, later: str, seconds: float) -> bool:
    """Return whether `later` comes after `earlier` by less than `seconds`; False if a time cannot be read."""
    try:
        gap = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    except (TypeError, ValueError):
        return False
    return timedelta(0) <= gap < timedelta(seconds=seconds)
