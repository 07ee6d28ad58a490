"""Write moments for people: in UTC, and in the reader's own zone where that differs."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo


def moment(iso: str, now: datetime, zone: tzinfo | None = None) -> str:
    """Return a moment as "12:00:01Z, 13:00:01 CET", with its date unless it is today.

    `iso` is ISO 8601 with an offset. `zone` is the reader's zone, by default that of the process ($TZ).
    """
    at = datetime.fromisoformat(iso)
    there = at.astimezone(zone)
    utc = _words(at.astimezone(UTC), now.astimezone(UTC), "Z")
    if there.utcoffset() == at.astimezone(UTC).utcoffset():
        return utc
    return f"{utc}, {_words(there, now.astimezone(zone), f' {there.tzname()}')}"


def _words(at: datetime, now: datetime, suffix: str) -> str:
    day = "" if at.date() == now.date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M:%S}{suffix}"
