"""Read from the journal what earlier runs have left for this one, latches apart: it helps, and must never harm.

Another version may have written a record, and the chain only says that nobody has changed it since. What trips is
`recovery`'s business, which trips at what it does not understand. All else is left out then, with a line in the log: a
daemon that does not start for the sake of an old drill guards nothing, and is taken for dead by what stands behind it.
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
    """Return all records of these types that it `fits`; log, once, that there are others that cannot be used."""
    kinds, matching, strange = [one.kind for one in types], list[R](), []
    for entry in entries:
        if entry["kind"] in kinds:
            record = records.from_json(entry)
            if isinstance(record, types) and fits(record):
                matching.append(record)
            else:
                strange.append(entry["seq"])
    if strange:
        subject = f"{len(strange)} record(s) of the kind {' or '.join(kinds)}"
        log.warning(
            "journal: %s left out, the last is number %d: not as this version writes them", subject, strange[-1]
        )
    return matching


class WatchedUntil(NamedTuple):
    """Until when earlier runs have watched, by the journal's own times."""

    until: datetime | None  # not beyond now
    last: datetime  # the journal's last word; beyond now, if the clock was wrong then or is wrong now


def triggers_watched_until(entries: Sequence[Entry], now: datetime) -> dict[str, WatchedUntil]:
    """Say, by trigger, until when the last run has watched it."""
    casts = _casts(entries)
    instants = filter(None, (_instant(entry["at"]) for entry in reversed(entries)))
    last = next(instants, None) if casts else None
    if last is None:
        return {}
    until = last if last <= now else next((instant for instant in instants if instant <= now), None)
    return dict.fromkeys(casts[-1].triggers or (), WatchedUntil(until, last))


def _casts(entries: Iterable[Entry]) -> list[StartRecord | ReloadRecord]:
    """Return the records that say which triggers there are."""
    return records_of_kind(entries, StartRecord, ReloadRecord, fits=lambda record: record.triggers is not None)


def in_force(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """Return the configuration that was in force last, as `in_force` lists it; {} if none is on record."""
    for entry in reversed(entries):
        if isinstance(record := records.from_json(entry), StartRecord | ReloadRecord):
            return record.config or {}
    return {}


def _instant(at: object) -> datetime | None:
    """Read the time of an entry; None if it is none that a schedule can count from."""
    try:
        read = datetime.fromisoformat(at) if isinstance(at, str) else None
        return read if read is not None and read.tzinfo is not None and read.timestamp() > 0 else None
    except (ValueError, ArithmeticError):
        return None
