"""Decide whether a signed datagram is new: its stamp must rise strictly per trigger and sender. Pure; `intake` asks.

A captured datagram that is sent again is never new, also after a restart. The record of a sender's bound has a stamp
above all that were taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.journal.records import StampsRecord

NEW_WITHIN_MS = 300_000  # milliseconds; the stamp of a new sender is no further from this host's clock
AHEAD_MS = 500  # milliseconds of a sender's beats that a restart refuses: less than the usual interval of beats
CALM_NS = (
    60_000_000_000  # nanoseconds; a bound that begins sooner is twice as far ahead, so that jumps write few records
)
MAX_SENDERS = 100  # of a trigger; the sender with the lowest stamp is forgotten first
MAX_RECENT = 1024  # stamps of a trigger that are remembered to recognise a datagram that comes twice
DOUBT_NS = 60_000_000_000  # nanoseconds; a clock that was set back shows a time twice: that is no copied datagram

Record = Callable[[Mapping[str, object]], None]


class StampVerdict(StrEnum):
    """The verdict on a signed message."""

    TAKEN = "taken"  # it is new
    DOUBLED = "doubled"  # the same datagram came before
    WRONG_TIME = "wrong time"  # it may be old, or its sender's clock was set back


class StampBound(NamedTuple):
    """An upper bound of one sender's stamps over time.

    No stamp taken at the monotonic time T is above `ms + ahead_ms + (T - at)`. A sender whose clock keeps pace stays
    below it. So a record is written when a stamp comes near the bound, and none for a beat. After a restart only stamps
    above the bound's value at the start are taken: all captured stamps are below.

    A gap remains. A stamp that begins a bound is taken at once. A process that is killed within the milliseconds until
    the record is written forgets that bound.
    """

    ms: int
    ahead_ms: int
    at_ns: int  # when it began, by the monotonic clock of its boot
    wall_ms: int  # when it began, by this host's wall clock
    boot: str

    def bound_ms(self, mono_ns: int) -> int:
        """Return the bound, in milliseconds, of all stamps that were taken until `mono_ns`, within its boot."""
        return self.ms + self.ahead_ms + (mono_ns - self.at_ns) // 1_000_000


class _Sender:
    """The last stamp of a sender, and its bound; the stamp is None if only an earlier run has seen the sender."""

    def __init__(self, line: StampBound, last_ms: int | None = None) -> None:
        self.line = line
        self.last_ms = last_ms


class _Table:
    """The senders of one trigger."""

    def __init__(self, floor_ms: int = 0) -> None:
        self.senders: dict[str, _Sender] = {}
        self.floor_ms = floor_ms  # the highest stamp of a sender that was forgotten
        self.recent: dict[tuple[str, int], None] = {}
        self.doubted_ns = -DOUBT_NS  # when a stamp last had a wrong time that never came before

    def is_recent(self, sender: str, ms: int) -> bool:
        """Return whether that stamp came before, as far as stamps are remembered, and remember it."""
        if (sender, ms) in self.recent:
            return True
        self.recent[sender, ms] = None
        if len(self.recent) > MAX_RECENT:
            del self.recent[next(iter(self.recent))]
        return False


class StampJudge:
    """Judge the stamps of all triggers."""

    def __init__(self, start: Instant, boot: str, record: Record = lambda data: None) -> None:
        """Start at the moment `start`, in the boot with the id `boot`; `record` writes a `StampsRecord`."""
        self._start = start
        self._boot = boot
        self._record = record
        self._tables: dict[str, _Table] = {}

    def restore(self, records: Iterable[StampsRecord]) -> None:
        """Continue from the records of earlier runs; of each trigger, the last record counts."""
        for record in records:
            table = self._tables[record.trigger] = _Table(record.floor)
            for name, line in record.senders.items():
                table.senders[name] = _Sender(StampBound(*line))

    def settles_ns(self, trigger: str) -> int:
        """Return until when (monotonic) stamps of a trigger's senders may be refused because of a restart."""
        senders = self._tables[trigger].senders.values() if trigger in self._tables else ()
        ahead_ms = max((sender.line.ahead_ms for sender in senders if sender.last_ms is None), default=0)
        return self._start.mono_ns + 2 * ahead_ms * 1_000_000

    def judge(self, trigger: str, sender: str, ms: int, now: Instant) -> StampVerdict:
        """Return whether a stamp of that sender, for that trigger, is new, and note it if it is."""
        table = self._tables.setdefault(trigger, _Table())
        known = table.senders.get(sender)
        doubled = table.is_recent(sender, ms)
        if known is None:
            new = ms > table.floor_ms and abs(now.wall_ms - ms) <= NEW_WITHIN_MS
        else:
            last_ms = self._last_ms(known, now)
            new = last_ms is not None and ms > last_ms
        if not new:
            if not doubled:
                table.doubted_ns = now.mono_ns
            return StampVerdict.WRONG_TIME if now.mono_ns - table.doubted_ns < DOUBT_NS else StampVerdict.DOUBLED
        line = self._line(None if known is None else known.line, ms, now)
        if known is not None and line is known.line:
            known.last_ms = ms
            return StampVerdict.TAKEN
        table.senders[sender] = _Sender(line, ms)
        if len(table.senders) > MAX_SENDERS:
            self._forget_lowest(table, sender, now)
        senders = {name: sender_stamps.line for name, sender_stamps in table.senders.items()}
        self._record(StampsRecord(trigger=trigger, floor=table.floor_ms, senders=senders).to_json())
        return StampVerdict.TAKEN

    def _last_ms(self, sender: _Sender, now: Instant) -> int | None:
        """Return the stamp that the next one must exceed; None while it cannot be known."""
        if sender.last_ms is not None:
            return sender.last_ms
        line = sender.line
        if line.boot == self._boot:
            return line.bound_ms(self._start.mono_ns)
        started_ms = now.wall_ms - (now.mono_ns - self._start.mono_ns) // 1_000_000  # by today's setting of the clock
        if started_ms < line.wall_ms:
            return None  # this host's clock is wrong: by it, the process began before the bound did
        return line.ms + line.ahead_ms + started_ms - line.wall_ms

    def _line(self, line: StampBound | None, ms: int, now: Instant) -> StampBound:
        """Return the bound to record with a stamp: the same bound as long as it fits."""
        begun = StampBound(ms, AHEAD_MS, now.mono_ns, now.wall_ms, self._boot)
        if line is None or line.boot != self._boot:
            return begun
        most, calm = line.bound_ms(now.mono_ns), now.mono_ns - line.at_ns >= CALM_NS
        if ms + line.ahead_ms // 2 > most:  # record a new bound before a stamp exceeds this one
            return begun if calm else begun._replace(ahead_ms=2 * line.ahead_ms)
        if calm and most - ms > 4 * AHEAD_MS:  # a restart would refuse too many stamps
            return begun
        set_ms = (
            now.wall_ms - line.wall_ms - (now.mono_ns - line.at_ns) // 1_000_000
        )  # how far this host's clock was set since then
        return begun._replace(ahead_ms=line.ahead_ms) if abs(set_ms) > AHEAD_MS else line

    def _forget_lowest(self, table: _Table, but: str, now: Instant) -> None:
        """Forget the sender with the lowest stamp; stamps of a new sender must exceed it from then on."""

        def last_ms(name: str) -> int:
            sender = table.senders[name]
            return self._last_ms(sender, now) or sender.line.ms + sender.line.ahead_ms

        lowest = min((name for name in table.senders if name != but), key=last_ms)
        table.floor_ms = max(table.floor_ms, last_ms(lowest))
        del table.senders[lowest]
