"""Fire when a strategy's heartbeat stops for longer than its time-out, by the monotonic clock.

Stalled time does not count, and waiting datagrams are read before the trigger fires. A beat that may have been lost
puts the trigger in doubt: the whole time-out must be silent again. docs/guides/triggers/heartbeat.md has every case.
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

READY_WITHIN_S = 60.0  # seconds; a time-out waits no longer for accounts that are not ready
NOTES, NOTES_NS = 10, 10_000_000_000  # records, and nanoseconds: beats and goodbyes may alternate in a flood
BYE, TRIP, REARM = "bye", "trip", "re-arm"  # `why` in the record of a watch that has ended
HELD_LOOK_S = 0.1  # seconds between two reports of a lost heartbeat that a silence holds back
ABSENT_NS = 1_000_000_000  # nanoseconds; the intake reports a missing socket more often than that

Record = Callable[[Mapping[str, object]], None]


class HeartbeatTrigger(Trigger):
    """Watch the beats of one name; the intake calls `on_beat`, `on_bye` and `on_possible_beat`.

    A record is written when the watch begins or ends, and none for a beat, so a restart continues the watch. After a
    restart the time-out starts with `start_boot_timer`. A strategy that stops together with the daemon is thus found.
    """

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
        """Build the trigger.

        `start` says whether the watch begins with the first beat or with the boot. `allow_bye` allows the strategy to
        end the watch. `drain` reads all datagrams that wait in the intake. `past` is the last record of an earlier run.
        `tripped` says that no account is armed: if one is, a person has re-armed it, or it has joined since the trip.
        """
        self.name = name
        self.accounts = accounts
        self.timeout_ns = int(timeout_s * 1e9)
        self.start = start
        self._allow_bye = allow_bye
        self._clock = clock
        self._stall_clock = attention
        self._drain = drain
        self._watching = False
        self._beaten_ns: int | None = None  # the last beat by any way
        self._since = StallMark(0, 0)  # the last beat, or the beginning of the watch
        self._doubted = StallMark(0, 0)  # when a beat was last possibly lost
        self._absent_ns = -ABSENT_NS  # when a missing socket was last reported
        self._why_doubted = ""
        self._ways: set[str] = set()  # ways of the intake by which its beats have come
        self._record = record
        self._state = (False, "") if past is None else (past.watched, past.why)
        self._on_record = self._state
        self._notes: deque[int] = deque(maxlen=NOTES)  # when the last records were written, monotonic
        self._fired = self._state == (False, TRIP) and tripped
        self._owed = self._state[0]  # an earlier run watched it, and no beat has come since
        self._left = self._state == (False, BYE) and allow_bye  # the strategy has stopped on purpose
        self.booted = False
        self._changed = Signal()

    def start_boot_timer(self) -> None:
        """Start the time-out of a watch that needs no first beat: the accounts are ready, or have had their time."""
        self.booted = True
        if self._counts_from_boot():
            self._watch(self._clock().mono_ns, "boot")
        self._owed = False

    def continue_from(self, before: HeartbeatTrigger) -> None:
        """Continue from the trigger that this one replaces: its watch, doubts, silence and trip."""
        before.save()
        self._beaten_ns, self._since = before._beaten_ns, before._since
        self._doubted, self._why_doubted = before._doubted, before._why_doubted
        self._absent_ns, self._ways = before._absent_ns, before._ways
        self._watching, self._fired = before._watching, before._fired
        self._state, self._on_record, self._notes = before._state, before._on_record, before._notes
        self._owed, self._left = before._owed, before._left
        self.booted = before.booted and before.start == self.start

    def take_over(self, before: HeartbeatTrigger) -> None:
        """Continue from a trigger of another name that is gone; the time-out for beats of this name starts now."""
        self.continue_from(before)
        self._since = self._stall_clock.mark(self._clock().mono_ns)
        before._watching = before._owed = False
        self.record_anew()

    def record_anew(self) -> None:
        """Record the state under this name, because the last record has another name."""
        self._on_record = (False, "")
        self.save()

    @property
    def watched(self) -> bool:
        """Whether a missing beat fires: now, or once the time-out has started."""
        return self._watching or self._owed

    def on_beat(self, way: str = "") -> None:
        """Note a beat that has come by a way of the intake."""
        at_ns = self._clock().mono_ns
        if way:
            self._ways.add(way)
        self._beaten_ns = at_ns
        if not self._fired:
            self._watch(at_ns, "beat")

    def on_possible_beat(self, why: str, way: str = "", *, absent: bool = False) -> None:
        """Note that a beat may have come by a way and was lost; `absent`: the socket of that way is missing.

        A way by which none of its beats has come is ignored, if they have come by the other way.
        """
        if self._ways and way and way not in self._ways:
            return
        now_ns = self._clock().mono_ns
        self._doubted, self._why_doubted = self._stall_clock.mark(now_ns), why
        if absent:
            self._absent_ns = now_ns

    def on_bye(self) -> bool:
        """End the watch until the next beat, because the strategy stops on purpose; return False if that is not
        allowed.
        """
        if not self._allow_bye:
            return False
        if not self._fired:
            self._watching = self._owed = False
            self._left = True
            self._note(False, BYE)
            self._wake()
        return True

    async def run(self, report: Report) -> None:
        """Wait for the end of the time-out forever; record the state at the end."""
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
                if not self._fired:
                    with anyio.move_on_after(HELD_LOOK_S):
                        await self._changed.wait()

    def state(self) -> tuple[TriggerState, str]:
        """Return the state, with the age of the last beat as detail."""
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
        """Return the age of the last beat."""
        if self._beaten_ns is None:
            return {}
        return {"silent_s": ((self._clock().mono_ns - self._beaten_ns) / 1e9, self.timeout_ns / 1e9)}

    def rearm_blocker(self) -> str | None:
        """Return that no beat has come within the time-out, if one is awaited."""
        now_ns = self._clock().mono_ns
        if self._beaten_ns is not None and now_ns - self._beaten_ns < self.timeout_ns:
            return None
        if self._fired:  # with `start = "first-beat"` it waits for a beat again
            return (
                "no beat has come since it fired; it would fire again: start the strategy first"
                if self.start == "boot"
                else None
            )
        is_due = self._watching or self._counts_from_boot()
        return Unseen("whether it beats", self.state()[1]) if is_due else None

    def on_rearmed(self) -> None:
        """Start over if the trigger has fired; a re-arm for another reason does not end the watch."""
        if not self._fired:
            return
        self._fired = self._watching = False
        if self.start == "boot" and self.booted:
            self._watch(self._clock().mono_ns, REARM)
        else:
            self._note(False, REARM)
        self._wake()

    def _deadline_ns(self) -> int:
        now_ns = self._clock().mono_ns
        return now_ns - self._overdue_ns(max(self._since, self._doubted), now_ns)

    def _overdue_ns(self, since: StallMark, now_ns: int) -> int:
        """Return by how many nanoseconds the time-out since a mark is exceeded; stalled time does not count."""
        return since.listened_ns(self._stall_clock.mark(now_ns)) - self.timeout_ns

    def _in_doubt(self, now_ns: int) -> bool:
        """Return whether a beat may have been lost after the last one, less than a time-out ago."""
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
        """Record that the watch has ended, because the configuration does not have the trigger any more."""
        self._note(False, "removed")
        self.save()

    def save(self) -> None:
        """Record whether the heartbeat is watched, if that has changed since the last record."""
        if not _means_same(self._state, self._on_record):
            self._on_record = self._state
            self._notes.append(self._clock().mono_ns)
            watched, why = self._state
            self._record(HeartbeatRecord(trigger=self.name, watched=watched, why=why).to_json())

    def _note(self, watched: bool, why: str) -> None:
        """Note whether it is watched, and record it: at once, or with the next `save` after a flood of records."""
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
        if report(Reason(self.name, text, self.accounts, now, evidence)):
            self._fired = False
            return
        self._note(False, TRIP)


def _means_same(first: tuple[bool, str], other: tuple[bool, str]) -> bool:
    """Return whether two states mean the same to the next run; the reason of a watch does not matter."""
    return first == other or (first[0] and other[0])


def is_unwatched_since_rearm(trigger: HeartbeatTrigger) -> bool:
    """Return whether no beat has come since a person re-armed: a bot that is dead now is not noticed."""
    return not trigger._watching and not trigger._fired and trigger._state == (False, REARM)
