"""Fire when a strategy's heartbeat stops.

Time is the monotonic clock's: a wall clock that jumps neither trips this nor hides a loss. Before the time-out is taken
for true, what already waits in the intake's sockets is read, and time in which this process itself was deaf is not
counted (`attention`).

`doubt` says that beats may have come that could not be taken: the kernel has dropped datagrams, a socket is missing, a
signed beat has a wrong time. From then on the whole time-out must be silent before it counts as silence. Without a beat
for longer than the time-out, and in doubt, the trigger is blind.

That a heartbeat is watched outlives the process, by a record at each change and none for a beat. After a restart the
time-out counts from `boot` on, which the watch calls when the trigger's accounts are ready, or after a bound. So a
strategy that dies together with the daemon is found; one that said goodbye before is not waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal

import anyio

from kill_switch.core.domain import Instant, Reason
from kill_switch.journal.records import HeartbeatRecord
from kill_switch.triggers.base import Figures, Report, Trigger, TriggerState, Unseen
from kill_switch.triggers.stall_clock import StallClock, StallMark
from kill_switch.wakeup import Signal

READY_WITHIN_S = 60.0  # accounts that are not ready by then keep nothing from counting
NOTES, NOTES_NS = 10, 10_000_000_000  # records at once within that time: beats and goodbyes may alternate in a flood
BYE, TRIP = "bye", "trip"  # why one is not watched
ABSENT_NS = 1_000_000_000  # the intake says more often than that that a socket of its own is missing

Record = Callable[[Mapping[str, object]], None]


class HeartbeatTrigger(Trigger):
    """Watch one heartbeat; `beat` and `bye` come from the intake."""

    kind = "heartbeat"

    def __init__(
        self,
        name: str,
        accounts: tuple[str, ...],
        timeout_s: float,
        start: Literal["first-beat", "boot"],
        allow_bye: bool,
        *,
        clock: Callable[[], Instant],
        attention: StallClock,
        drain: Callable[[], None],
        record: Record = lambda data: None,
        past: HeartbeatRecord | None = None,
        tripped: bool = False,
    ) -> None:
        """`past` is the last record of an earlier run; `tripped`: not all accounts are armed."""
        self.name = name
        self.accounts = accounts
        self.timeout_ns = int(timeout_s * 1e9)
        self.start = start
        self._allow_bye = allow_bye
        self._clock = clock
        self._stall_clock = attention
        self._drain = drain
        self._watching = False
        self._beaten_ns: int | None = None  # the last beat of all
        self._since = StallMark(0, 0)  # the last beat, or the start of the watch
        self._doubted = StallMark(0, 0)  # when a beat may have been lost last
        self._absent_ns = -ABSENT_NS  # when a way in was last said to be missing
        self._why_doubted = ""
        self._ways: set[str] = set()  # by which its beats have come
        self._record = record
        self._state = (False, "") if past is None else (past.watched, past.why)
        self._on_record = self._state
        self._notes: deque[int] = deque(maxlen=NOTES)  # when the last records were written
        self._fired = self._state == (False, TRIP) and tripped
        self._owed = self._state[0]  # an earlier run has left it watched, and nothing has come since
        self._left = self._state == (False, BYE) and allow_bye  # the strategy has stopped on purpose
        self.booted = False
        self._changed = Signal()

    def start_boot_timer(self) -> None:
        """Start counting for what needs no first beat: the accounts are ready, or have had their time."""
        self.booted = True
        if self._counts_from_boot():
            self._watch(self._clock().mono_ns, "boot")
        self._owed = False

    def continue_from(self, before: HeartbeatTrigger) -> None:
        """Go on from the one that this replaces: who was waited for is waited for, and who was silent stays silent."""
        before.save()
        self._beaten_ns, self._since = before._beaten_ns, before._since
        self._doubted, self._why_doubted = before._doubted, before._why_doubted
        self._absent_ns, self._ways = before._absent_ns, before._ways
        self._watching, self._fired = before._watching, before._fired
        self._state, self._on_record, self._notes = before._state, before._on_record, before._notes
        self._owed, self._left = before._owed, before._left
        self.booted = before.booted and before.start == self.start

    def take_over(self, before: HeartbeatTrigger) -> None:
        """Go on from one of another name, which is no more: the time-out counts from now on, for beats of this name."""
        self.continue_from(before)
        self._since = self._stall_clock.mark(self._clock().mono_ns)
        before._watching = before._owed = False
        self.record_anew()

    def record_anew(self) -> None:
        """Put on record under this name what an earlier run, or another trigger, has left under another one."""
        self._on_record = (False, "")
        self.save()

    @property
    def watched(self) -> bool:
        """Tell whether a beat that does not come is noticed: now, or once it counts."""
        return self._watching or self._owed

    def on_beat(self, way: str = "") -> None:
        """Take a beat that has come by this way in."""
        at_ns = self._clock().mono_ns
        if way:
            self._ways.add(way)
        self._beaten_ns = at_ns
        if not self._fired:
            self._watch(at_ns, "beat")

    def on_possible_beat(self, why: str, way: str = "", *, absent: bool = False) -> None:
        """Say that a beat may have come by this way in and was not taken; `absent`: nothing can come there at all.

        A way by which its beats have never come, while they have come by another, is none of its business.
        """
        if self._ways and way and way not in self._ways:
            return
        now_ns = self._clock().mono_ns
        self._doubted, self._why_doubted = self._stall_clock.mark(now_ns), why
        if absent:
            self._absent_ns = now_ns

    def on_bye(self) -> bool:
        """Take an orderly goodbye: stop watching until the next beat; False where that is not allowed."""
        if not self._allow_bye:
            return False
        if not self._fired:
            self._watching = self._owed = False
            self._left = True
            self._note(False, BYE)
            self._wake()
        return True

    async def run(self, report: Report) -> None:
        try:
            await self._run(report)
        finally:
            self.save()

    async def _run(self, report: Report) -> None:
        while True:
            if not self._watching or self._fired:
                await self._changed.wait()
                continue
            wait_s = (self._deadline_ns() - self._clock().mono_ns) / 1e9
            if wait_s > 0:
                with anyio.move_on_after(wait_s):
                    await self._changed.wait()
                continue
            self._drain()
            now = self._clock()
            if self._watching and not self._fired and now.mono_ns >= self._deadline_ns():
                self._fire(now, report)

    def state(self) -> tuple[TriggerState, str]:
        now_ns = self._clock().mono_ns
        ago = "never" if self._beaten_ns is None else f"{(now_ns - self._beaten_ns) / 1e9:.1f} s ago"
        if self._fired:
            return TriggerState.TRIPPED, f"heartbeat lost; last beat: {ago}"
        if not self.booted and self._counts_from_boot():
            words = f"waits for {', '.join(self.accounts)} to be ready, {READY_WITHIN_S:g} s at most"
            return TriggerState.WAITING, f"watched before the restart; {words}" if self._owed else words
        if not self._watching:
            if now_ns - self._absent_ns < ABSENT_NS and not self._left:
                return TriggerState.BLIND, f"{self._why_doubted}; last beat: {ago}"
            doubt = f"; {self._why_doubted}" if self._in_doubt(now_ns) else ""
            return TriggerState.WAITING, f"waits for a beat; last beat: {ago}{doubt}"
        if self._in_doubt(now_ns) and self._overdue_ns(self._since, now_ns) > 0:
            return TriggerState.BLIND, f"{self._why_doubted}; last beat: {ago}, allowed: {self.timeout_ns / 1e9:g} s"
        return TriggerState.OK, f"last beat: {ago}, allowed: {self.timeout_ns / 1e9:g} s"

    def measurements(self) -> Figures:
        if self._beaten_ns is None:
            return {}
        return {"silent_s": ((self._clock().mono_ns - self._beaten_ns) / 1e9, self.timeout_ns / 1e9)}

    def rearm_blocker(self) -> str | None:
        now_ns = self._clock().mono_ns
        if self._beaten_ns is not None and now_ns - self._beaten_ns < self.timeout_ns:
            return None
        if self._fired:  # one that starts with a first beat waits for that again
            return "no heartbeat yet; it would fire again" if self.start == "boot" else None
        is_due = self._watching or self._counts_from_boot()
        return Unseen("whether it beats", self.state()[1]) if is_due else None

    def on_rearmed(self) -> None:
        if not self._fired:
            return  # it sees its beats: a re-arm is no reason to look away
        self._fired = self._watching = False
        if self.start == "boot" and self.booted:
            self._watch(self._clock().mono_ns, "re-arm")
        else:
            self._note(False, "re-arm")
        self._wake()

    def _deadline_ns(self) -> int:
        now_ns = self._clock().mono_ns
        return now_ns - self._overdue_ns(max(self._since, self._doubted), now_ns)

    def _overdue_ns(self, since: StallMark, now_ns: int) -> int:
        """Return by how much the time-out is over; time in which we were deaf does not count."""
        return since.heard_ns(self._stall_clock.mark(now_ns)) - self.timeout_ns

    def _in_doubt(self, now_ns: int) -> bool:
        """Tell whether a beat may have been lost since the last one, within the time-out."""
        return self._doubted.at_ns > self._since.at_ns and self._overdue_ns(self._doubted, now_ns) <= 0

    def _watch(self, at_ns: int, why: str) -> None:
        started = not self._watching
        self._watching, self._since = True, self._stall_clock.mark(at_ns)
        if started:
            self._owed = self._left = False
            self._note(True, why)
            self._wake()

    def _counts_from_boot(self) -> bool:
        idle = not self._watching and not self._fired
        return idle and (self._owed or (self.start == "boot" and not self._left))

    def record_ended(self) -> None:
        """Put on record that nobody watches any more: the configuration has it no longer."""
        self._note(False, "removed")
        self.save()

    def save(self) -> None:
        """Put on record whether it is watched, if that is news."""
        if not _means_same(self._state, self._on_record):
            self._on_record = self._state
            self._notes.append(self._clock().mono_ns)
            watched, why = self._state
            self._record(HeartbeatRecord(trigger=self.name, watched=watched, why=why).to_json())

    def _note(self, watched: bool, why: str) -> None:
        """Have it put on record: at once, or after a flood of records with the next `save`."""
        self._state = (watched, why)
        if len(self._notes) < NOTES or self._clock().mono_ns - self._notes[0] >= NOTES_NS:
            self.save()

    def _wake(self) -> None:
        self._changed.notify()

    def _fire(self, now: Instant, report: Report) -> None:
        self._fired = True
        silent_ms = (now.mono_ns - self._since.at_ns) // 1_000_000
        text = f"no heartbeat for {silent_ms / 1000:.3f} s (allowed: {self.timeout_ns / 1e9:g} s)"
        evidence = {
            "silent_ms": silent_ms,
            "timeout_ms": self.timeout_ns // 1_000_000,
            "deaf_ms": (self._stall_clock.stalled_ns(now.mono_ns) - self._since.stalled_ns) // 1_000_000,
            "beats_before": self._beaten_ns is not None,
        }
        report(Reason(self.name, text, self.accounts, now, evidence))
        self._note(False, TRIP)


def _means_same(first: tuple[bool, str], other: tuple[bool, str]) -> bool:
    """Tell whether two states mean the same after a restart: why one is watched does not matter."""
    return first == other or (first[0] and other[0])
