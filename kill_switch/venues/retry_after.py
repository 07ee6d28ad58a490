"""Read a venue's `Retry-After` header (RFC 9110, 10.2.3). Transports use it; it never waits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_PAUSE_S = 120.0  # a longer pause is cut to this: a single answer must not take a lane away for longer


def retry_after_s(headers: Mapping[str, str], wall_ns: int) -> float:
    """Return for how many seconds a venue wants no request; 0 without the header, or if it cannot be read.

    `headers` have names in lower case. A date counts from the answer's own `Date`, if it has one, else from `wall_ns`.
    """
    header_value = headers.get("retry-after", "").strip()
    if header_value.isascii() and header_value.isdigit():
        return float(header_value[:10])
    at_s = _epoch_s(header_value)
    if at_s is None:
        return 0.0
    from_s = _epoch_s(headers.get("date", ""))
    return max(0.0, at_s - (wall_ns / 1e9 if from_s is None else from_s))


def describe_pause(asked_s: float) -> str:
    """Return the pause that the venue asks for, and the pause that follows, in words for the operator."""
    if asked_s <= MAX_PAUSE_S:
        return f"the venue asks for {asked_s:,.0f} s without requests"
    return f"the venue asks for {asked_s:,.0f} s without requests, and gets {MAX_PAUSE_S:g} s, the most that is given"


def _epoch_s(text: str) -> float | None:
    """Read a date in any of the three forms of RFC 9110, 5.6.7."""
    try:
        at = parsedate_to_datetime(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
