"""Read the records that earlier runs left for triggers, drills and hooks. Latches are `recovery`'s part.

`recovery` trips on a record that it cannot read, perhaps of another version. This module skips and logs it, because a
daemon that does not start over an old drill record protects nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from kill_switch.core.records import ReloadRecord, StartRecord
from kill_switch.journal import records
from kill_switch.journal.records import Entry, Record

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


def records_of_kind(
    entries: Iterable[Entry], *types: type[R], fits: Callable[[R], bool] = lambda record: True
) -> list[R]:
    """Return the records of these types for which `fits` is true; log one warning about records that are skipped."""
    kinds, matching, strange = [record_type.kind for record_type in types], list[R](), []
    for entry in entries:
        if entry["kind"] in kinds:
            record = records.from_json(entry)
            if isinstance(record, types) and fits(record):
                matching.append(record)
            else:
                strange.append(entry["seq"])
    if strange:
        subject = f"{len(strange)} record(s) of the kind {' or '.join(kinds)}"
        log.warning("journal: %s left out, the last is number %d: this version cannot read them", subject, strange[-1])
    return matching


class WatchedUntil(NamedTuple):
    """Until when earlier runs have watched a trigger, by the journal's times."""

    until: datetime | None  # time of the last entry that is not in the future
    last: datetime  # time of the last entry; in the future if the clock was wrong then or is wrong now


def triggers_watched_until(entries: Sequence[Entry], now: datetime) -> dict[str, WatchedUntil]:
    """Return, by trigger, until when the last run has watched it."""
    configurations = _trigger_records(entries)
    instants = filter(None, (_instant(entry["at"]) for entry in reversed(entries)))
    last = next(instants, None) if configurations else None
    if last is None:
        return {}
    until = last if last <= now else next((instant for instant in instants if instant <= now), None)
    return dict.fromkeys(configurations[-1].triggers or (), WatchedUntil(until, last))


def _trigger_records(entries: Iterable[Entry]) -> list[StartRecord | ReloadRecord]:
    """Return the records that list the configured triggers."""
    return records_of_kind(entries, StartRecord, ReloadRecord, fits=lambda record: record.triggers is not None)


def in_force(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """Return the last recorded configuration, as `config.in_force` lists it; {} if there is none."""
    for entry in reversed(entries):
        if isinstance(record := records.from_json(entry), StartRecord | ReloadRecord):
            return record.config or {}
    return {}


def _instant(at: object) -> datetime | None:
    """Return an entry's time; None if it is unreadable, without a zone or before 1970."""
    try:
        read = datetime.fromisoformat(at) if isinstance(at, str) else None
        return read if read is not None and read.tzinfo is not None and read.timestamp() > 0 else None
    except (ValueError, ArithmeticError):
        return None
