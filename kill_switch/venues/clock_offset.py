"""Keep how far a venue's clock is ahead of ours, as an interval that every message with a time in it makes narrower.

A message that was made between our `sent` and our `received`, at a moment that the venue calls `earliest` to `latest`,
says that the venue's clock is ahead by `earliest - received` at least and by `latest - sent` at most. What is true now
lies in all of these intervals. Old ones are forgotten, because clocks drift.

A message whose interval has nothing in common with the others contradicts them; the first message of all contradicts
our own clock if it rules that out. One contradiction is kept and moves nothing: a cache, a proxy or one of the venue's
machines may be wrong. A second one that agrees with it is believed, and so is one by which the venue refuses our time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from kill_switch.core.domain import Instant
from kill_switch.venues.messages import Replied, ServerTime

KEPT_NS = 300 * 1_000_000_000  # a sample counts for one to two of these: a clock that drifts by 50 ppm moves 30 ms
_MONTHS = {name: n for n, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_IMF = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) (" + "|".join(_MONTHS) + r") (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII
)
_YEARS = range(1970, 2286)  # a clock that shows another is no clock, and with 2286 a time in ms gets a digit more
_Span = tuple[int, int]
OWN_CLOCK: _Span = (0, 0)  # what is taken to be so before the venue has shown its clock


class ClockOffset:
    """Estimate one venue's clock; `offset_ns` is what to add to ours.

    It is 0 while nothing says that it must be anything else.
    """

    __slots__ = ("_doubt", "_newer", "_older", "_since_ns", "bounds_ns", "offset_ns")

    def __init__(self) -> None:
        self.offset_ns = 0
        self.bounds_ns: _Span | None = None  # the venue's clock is ahead of ours by something in here; None: unknown
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
        """Take one sample, as wall times, from a message that the venue itself has made.

        `refused` says that the venue refused our time with this message: then a contradiction counts at once. A sample
        that contradicts itself says nothing. Give each message to this method once.
        """
        span = (earliest_ns - received_ns, latest_ns - sent_ns)
        if span[0] > span[1]:
            return
        newer, old = self._newer, mono_ns - self._since_ns > KEPT_NS
        if newer is not None and not old and self._doubt is None and _meet(newer, span) == newer:
            return  # it says nothing new
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
        """Return what the venue's clock shows now, in milliseconds: the time to sign."""
        return (now.wall_ns + self.offset_ns) // 1_000_000

    def note_message(
        self, earliest_ns: int, latest_ns: int, sent_ns: int, now: Instant, *, refused: bool = False
    ) -> tuple[ServerTime]:
        """Take the venue's clock from a message that has just come; `ServerTime` defines the arguments.

        `refused`: the venue refuses our time with this message. Otherwise one message alone moves nothing.
        """
        sample = ServerTime(earliest_ns, latest_ns, sent_ns, now.wall_ns)
        self.add_sample(*sample, now.mono_ns, refused=refused)
        return (sample,)

    def note_reply(self, reply: Replied, now: Instant, *, refused: bool = False) -> tuple[ServerTime, ...]:
        """Take the venue's clock from a reply's `Date`; one out of a cache (it has an `Age`) is as old as that says.

        `refused`: the reply refuses the time of a request, which is then built anew.
        """
        date = reply.headers.get("date")
        at_ns = date_ns(date) if date is not None and "age" not in reply.headers else None
        if at_ns is None:
            return ()
        return self.note_message(at_ns, at_ns + 1_000_000_000, now.wall_ns - reply.rtt_us * 1000, now, refused=refused)


def _meet(span: _Span | None, other: _Span | None) -> _Span | None:
    """Return what is in both; None is everything as an argument, and nothing as a result."""
    if span is None or other is None:
        return span or other
    low, high = max(span[0], other[0]), min(span[1], other[1])
    return (low, high) if low <= high else None


def _estimate(span: _Span) -> int:
    """Return nothing if that may be right: a host that keeps time needs no help, least of all from a coarse header.

    Otherwise the middle: no other choice has a smaller worst error, which is half the interval's width.
    """
    low, high = span
    return 0 if low <= 0 <= high else (low + high) // 2


@lru_cache(maxsize=16)  # a kill's answers come within a second or two, from every account
def date_ns(text: str) -> int | None:
    """Read an HTTP `Date`, an IMF-fixdate (RFC 9110, 5.6.7), as wall time; the obsolete forms are none."""
    match = _IMF.fullmatch(text)
    if match is None or int(match[3]) not in _YEARS:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        at = datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    return int(at.timestamp()) * 1_000_000_000
