"""Read from the journal what earlier runs have left for this one, latches apart: it helps, and must never harm.

Another version may have written a record, and the chain only says that nobody has changed it since. What trips is
`recovery`'s business, which trips at what it does not understand. All else is left out then, with a line in the log: a
daemon that does not start for the sake of an old drill guards nothing, and is taken for dead by what stands behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

Entry = Mapping[str, Any]


def understood(
    entries: Iterable[Entry], kinds: Sequence[str], fits: Callable[[Mapping[str, Any]], bool]
) -> list[Mapping[str, Any]]:
    """Return the data of all entries of these kinds that it `fits`; say, once, that there are others."""
    found, strange = [], []
    for entry in entries:
        if entry["kind"] in kinds:
            if fits(entry["data"]):
                found.append(entry["data"])
            else:
                strange.append(entry["seq"])
    if strange:
        what = f"{len(strange)} record(s) of the kind {' or '.join(kinds)}"
        log.warning("journal: %s left out, the last is number %d: not as this version writes them", what, strange[-1])
    return found


class Seen(NamedTuple):
    """Until when earlier runs have watched, by the journal's own times."""

    until: datetime | None  # not beyond now
    last: datetime  # the journal's last word; beyond now, if the clock was wrong then or is wrong now


def seen(entries: Sequence[Entry], now: datetime) -> dict[str, Seen]:
    """Say, by trigger, until when the last run has watched it."""
    casts = understood(entries, ("start", "reload"), lambda data: isinstance(data.get("triggers"), dict))
    instants = filter(None, (_instant(entry["at"]) for entry in reversed(entries)))
    last = next(instants, None) if casts else None
    if last is None:
        return {}
    until = last if last <= now else next((instant for instant in instants if instant <= now), None)
    return dict.fromkeys(casts[-1]["triggers"], Seen(until, last))


def in_force(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """Return the configuration that was in force last, as `in_force` lists it; {} if none is on record."""
    for entry in reversed(entries):
        if entry["kind"] in ("start", "reload"):
            last = entry["data"].get("config")
            return last if isinstance(last, dict) else {}
    return {}


def names(value: object) -> bool:
    """Tell whether it is a list of names."""
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _instant(at: object) -> datetime | None:
    """Read the time of an entry; None if it is none that a schedule can count from."""
    try:
        read = datetime.fromisoformat(at) if isinstance(at, str) else None
        return read if read is not None and read.tzinfo is not None and read.timestamp() > 0 else None
    except (ValueError, ArithmeticError):
        return None
