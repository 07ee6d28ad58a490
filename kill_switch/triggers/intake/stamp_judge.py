"""Decide whether a signed datagram is new: its stamp rises strictly per trigger and sender. Pure; `intake` asks.

A captured datagram that is sent again is never new, also after a restart. So the record holds, for each sender, a line:
no stamp that was taken at a monotonic time T lies above `ms + ahead_ms + (T - at)`. A sender whose clock keeps pace
stays below its line, so that a record is written when a stamp comes near the line, and none for a beat. A restart takes
only stamps above the line's value at its own beginning: whatever was captured before lies below.

The gap that remains: a stamp that begins a line is taken at once, and a process that is killed within the milliseconds
until the journal has written the record forgets that line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.journal.records import StampsRecord

NEW_WITHIN_MS = 300_000  # a sender that was never seen is within so much of our clock
AHEAD_MS = 500  # after a restart, so much of a sender's time is refused: less than a beat's usual period
CALM_NS = 60_000_000_000  # lines that begin sooner reach twice as far ahead: a stamp that jumps writes few records
MAX_SENDERS = 100  # of a trigger; the one with the lowest stamp goes first
MAX_RECENT = 1024  # stamps of a trigger by which a datagram that comes twice is known
DOUBT_NS = 60_000_000_000  # a clock that was set back may show a time twice: among other stamps, that is no copy

Record = Callable[[Mapping[str, object]], None]


class StampVerdict(StrEnum):
    TAKEN = "taken"
    DOUBLED = "doubled"  # the same datagram came before
    WRONG_TIME = "wrong time"  # it may be old, or its sender's clock was set back


class StampBound(NamedTuple):
    """Bound the stamps of one sender over time."""

    ms: int
    ahead_ms: int
    at_ns: int  # when it began, by the monotonic clock of its boot
    wall_ms: int  # when it began, by our wall clock of then
    boot: str

    def bound_ms(self, mono_ns: int) -> int:
        """Return the bound of all stamps that were taken until then, within its boot, in milliseconds."""
        return self.ms + self.ahead_ms + (mono_ns - self.at_ns) // 1_000_000


class _Sender:
    """Hold the last stamp of a sender, and the line above it; None for a sender that was seen before this start."""

    def __init__(self, line: StampBound, last_ms: int | None = None) -> None:
        self.line = line
        self.last_ms = last_ms


class _Table:
    """Hold the senders of one trigger."""

    def __init__(self, floor_ms: int = 0) -> None:
        self.senders: dict[str, _Sender] = {}
        self.floor_ms = floor_ms  # the highest stamp of a sender that was forgotten
        self.recent: dict[tuple[str, int], None] = {}
        self.doubted_ns = -DOUBT_NS  # when a stamp last had a wrong time that never came before

    def is_recent(self, sender: str, ms: int) -> bool:
        """Tell whether that stamp came before, as far as that is remembered, and remember it."""
        if (sender, ms) in self.recent:
            return True
        self.recent[sender, ms] = None
        if len(self.recent) > MAX_RECENT:
            del self.recent[next(iter(self.recent))]
        return False


class StampJudge:
    """Judge the stamps of all triggers."""

    def __init__(self, start: Instant, boot: str, record: Record = lambda data: None) -> None:
        """`start` is when this process began to listen, `boot` this boot's id; `record` writes a `StampsRecord`."""
        self._start = start
        self._boot = boot
        self._record = record
        self._tables: dict[str, _Table] = {}

    def restore(self, records: Iterable[StampsRecord]) -> None:
        """Go on from the records of earlier runs; of each trigger, the last one counts."""
        for record in records:
            table = self._tables[record.trigger] = _Table(record.floor)
            for name, line in record.senders.items():
                table.senders[name] = _Sender(StampBound(*line))

    def settles_ns(self, trigger: str) -> int:
        """Return until when what the senders of a trigger say may be refused because of a restart (monotonic)."""
        senders = self._tables[trigger].senders.values() if trigger in self._tables else ()
        ahead_ms = max((sender.line.ahead_ms for sender in senders if sender.last_ms is None), default=0)
        return self._start.mono_ns + 2 * ahead_ms * 1_000_000

    def judge(self, trigger: str, sender: str, ms: int, now: Instant) -> StampVerdict:
        """Say whether a stamp of that sender, for that trigger, is new; take note of it if it is."""
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
            self._forget_one(table, sender, now)
        senders = {name: sender_stamps.line for name, sender_stamps in table.senders.items()}
        self._record(StampsRecord(trigger=trigger, floor=table.floor_ms, senders=senders).to_json())
        return StampVerdict.TAKEN

    def _last_ms(self, sender: _Sender, now: Instant) -> int | None:
        """Return the stamp that the next one must lie above; None as long as that cannot be known."""
        if sender.last_ms is not None:
            return sender.last_ms
        line = sender.line
        if line.boot == self._boot:
            return line.bound_ms(self._start.mono_ns)
        started_ms = now.wall_ms - (now.mono_ns - self._start.mono_ns) // 1_000_000  # by the clock of now
        if started_ms < line.wall_ms:
            return None  # our clock is wrong: it says that we began before the line did
        return line.ms + line.ahead_ms + started_ms - line.wall_ms

    def _line(self, line: StampBound | None, ms: int, now: Instant) -> StampBound:
        """Return the line that goes on record with a stamp: the same one as long as it fits."""
        begun = StampBound(ms, AHEAD_MS, now.mono_ns, now.wall_ms, self._boot)
        if line is None or line.boot != self._boot:
            return begun
        most, calm = line.bound_ms(now.mono_ns), now.mono_ns - line.at_ns >= CALM_NS
        if ms + line.ahead_ms // 2 > most:  # ahead of need: the record is written before a stamp lies above the line
            return begun if calm else begun._replace(ahead_ms=2 * line.ahead_ms)
        if calm and most - ms > 4 * AHEAD_MS:  # it would refuse too much after a restart
            return begun
        set_ms = now.wall_ms - line.wall_ms - (now.mono_ns - line.at_ns) // 1_000_000  # our own clock, since then
        return begun._replace(ahead_ms=line.ahead_ms) if abs(set_ms) > AHEAD_MS else line

    def _forget_one(self, table: _Table, but: str, now: Instant) -> None:
        """Keep a trigger's senders bounded; what a forgotten one has sent stays below the floor for new names."""

        def last_ms(name: str) -> int:
            sender = table.senders[name]
            return self._last_ms(sender, now) or sender.line.ms + sender.line.ahead_ms

        lowest = min((name for name in table.senders if name != but), key=last_ms)
        table.floor_ms = max(table.floor_ms, last_ms(lowest))
        del table.senders[lowest]
