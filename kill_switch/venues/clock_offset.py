"""Estimate how far a venue's clock is ahead of ours, as an interval that each dated message makes narrower.

Adapters sign with `ClockOffset.venue_ms`; `health.clock_skew` reports the interval. This module never reads a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from kill_switch.core.domain import Instant
from kill_switch.venues.messages import Replied, ServerTime

KEPT_NS = (
    300 * 1_000_000_000
)  # a sample counts for one to two of these periods: a drift of 50 ppm moves a clock by 30 ms
_MONTHS = {name: n for n, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_IMF = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) (" + "|".join(_MONTHS) + r") (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII
)
_YEARS = range(1970, 2286)  # another year is a defect; from 2286 on, a time in ms has 14 digits
_Span = tuple[int, int]
OWN_CLOCK: _Span = (0, 0)  # the offset that holds before the venue has shown its clock


class ClockOffset:
    """Estimate one venue's clock; `offset_ns` is added to our wall time, and is 0 unless samples rule 0 out.

    A sample bounds the offset: at least `earliest - received`, at most `latest - sent`. The true offset lies in every
    such interval. Old samples are dropped, because clocks drift.

    A sample that no other one overlaps contradicts them; the first sample contradicts an offset of 0 if it excludes 0.
    A single contradiction is kept and moves nothing: a cache, a proxy or a single machine of the venue may be wrong.
    A second sample that agrees with it is believed. So is a sample by which the venue refuses our time.
    """

    __slots__ = ("_doubt", "_newer", "_older", "_since_ns", "bounds_ns", "offset_ns")

    def __init__(self) -> None:
        self.offset_ns = 0
        self.bounds_ns: _Span | None = None  # the interval in which the offset lies; None: unknown
        self._older: _Span | None = None
        self._newer: _Span | None = None
        self._since_ns = 0  # when `_newer` began, on our monotonic clock
        self._doubt: _Span | None = None  # the last contradiction, until it is confirmed or refuted

    def add_sample(
        self,
        earliest_ns: int,
        latest_ns: int,
        sent_ns: int,
        received_ns: int,
        mono_ns: int,
        *,
        refused: bool = False,
    ) -> None:
        """Add one sample, in wall-clock nanoseconds, from a message that the venue itself has made.

        `refused`: the venue refused our time with this message, and a contradiction counts at once. A sample whose
        bounds exclude each other is ignored. Call this once a message.
        """
        span = (earliest_ns - received_ns, latest_ns - sent_ns)
        if span[0] > span[1]:
            return
        newer, old = self._newer, mono_ns - self._since_ns > KEPT_NS
        if newer is not None and not old and self._doubt is None and _meet(newer, span) == newer:
            return  # the sample narrows nothing
        if newer is not None and old:
            self._older, self._newer = newer, None
        known = _meet(self._older, self._newer)
        if _meet(known or OWN_CLOCK, span) is None:
            agreed = span if refused else _meet(self._doubt, span) if self._doubt else None
            if agreed is None:
                self._doubt = span
                return
            self._older, self._newer, self._doubt, self._since_ns = None, agreed, None, mono_ns
        else:
            if self._newer is None:
                self._since_ns = mono_ns
            self._newer = _meet(self._newer, span)
            if _meet(self._doubt, span) is None:
                self._doubt = None
        self.bounds_ns = _meet(self._older, self._newer)
        self.offset_ns = 0 if self.bounds_ns is None else _estimate(self.bounds_ns)

    def venue_ms(self, now: Instant) -> int:
        """Return the venue's time now in milliseconds since the epoch: the time to sign."""
        return (now.wall_ns + self.offset_ns) // 1_000_000

    def note_message(
        self, earliest_ns: int, latest_ns: int, sent_ns: int, now: Instant, *, refused: bool = False
    ) -> tuple[ServerTime]:
        """Add the sample of a message that has just come; `ServerTime` defines the arguments.

        `refused`: the venue refuses our time with this message. Otherwise a single message moves nothing.
        """
        sample = ServerTime(earliest_ns, latest_ns, sent_ns, now.wall_ns)
        self.add_sample(*sample, now.mono_ns, refused=refused)
        return (sample,)

    def note_reply(self, reply: Replied, now: Instant, *, refused: bool = False) -> tuple[ServerTime, ...]:
        """Add the sample of a reply's `Date`; ignore a reply out of a cache, which has an `Age`.

        `refused`: the reply refuses the time of a request, which the caller then builds and signs again.
        """
        at_ns = _shown_ns(reply)
        if at_ns is None:
            return ()
        return self.note_message(at_ns, at_ns + 1_000_000_000, now.wall_ns - reply.rtt_us * 1000, now, refused=refused)


def shown_span(reply: Replied, now: Instant) -> tuple[int, int] | None:
    """Return the bounds of the venue's offset by the `Date` of a reply that has just come, in ns; None: it has none."""
    at_ns = _shown_ns(reply)
    if at_ns is None:
        return None
    return (at_ns - now.wall_ns, at_ns + 1_000_000_000 - now.wall_ns + reply.rtt_us * 1000)


def _shown_ns(reply: Replied) -> int | None:
    """Return the `Date` of a reply that comes from no cache, as wall time in ns; None if it has none."""
    date = reply.headers.get("date")
    return date_ns(date) if date is not None and "age" not in reply.headers else None


def _meet(span: _Span | None, other: _Span | None) -> _Span | None:
    """Return the overlap of two intervals; None is "everything" as an argument, and "nothing" as a result."""
    if span is None or other is None:
        return span or other
    low, high = max(span[0], other[0]), min(span[1], other[1])
    return (low, high) if low <= high else None


def _estimate(span: _Span) -> int:
    """Return 0 if the interval contains it: a host that keeps time needs no correction by a coarse header.

    Otherwise return the middle, because no other value has a smaller worst error: half the interval's width.
    """
    low, high = span
    return 0 if low <= 0 <= high else (low + high) // 2


@lru_cache(maxsize=16)  # the answers of a kill come within a second or two, for all accounts
def date_ns(text: str) -> int | None:
    """Read an HTTP `Date`, an IMF-fixdate (RFC 9110, 5.6.7), as wall time in ns; return None for other forms."""
    match = _IMF.fullmatch(text)
    if match is None or int(match[3]) not in _YEARS:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        at = datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    return int(at.timestamp()) * 1_000_000_000
