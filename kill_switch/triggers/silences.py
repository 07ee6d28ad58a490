"""Silences: a trigger's reasons are held back for planned work, while its watch goes on.

A silence ends when either clock reaches its end, so neither a wall clock that is set nor a suspended host makes it
longer. After its end the trigger reports what it still sees. A flag, a person and a latch are never silenced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from kill_switch.clock import iso
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Reason, Severity
from kill_switch.journal import history
from kill_switch.journal.records import Entry, HeldRecord, SilenceApprovedRecord, SilenceRecord

APPROVE_WITHIN_NS = 600 * 10**9  # nanoseconds; the first person's approval counts no longer
NEVER = ("flag",)  # kinds of triggers that are a person's own act


class Person(NamedTuple):
    """A caller, as the control socket names it."""

    uid: int
    user: str


PastRecord = SilenceRecord | SilenceApprovedRecord
_NOBODY = Person(-1, "")  # in a record that makes approvals void


class Silence(NamedTuple):
    """A silence of one trigger; `until` is on both clocks, and the first that is reached ends it."""

    trigger: str
    since: Instant
    until: Instant
    people: tuple[str, ...]
    text: str
    held: str = ""  # the text of the reason that it holds back; "": none

    def left_s(self, now: Instant) -> float:
        """Return the seconds until its end; 0 or less: it is over."""
        return min(self.until.mono_ns - now.mono_ns, self.until.wall_ns - now.wall_ns) / 1e9

    def end_iso(self, now: Instant) -> str:
        """Return the wall time at which it ends, in ISO 8601, as long as no clock is set."""
        return iso(now.wall_ns + max(0, min(self.until.mono_ns - now.mono_ns, self.until.wall_ns - now.wall_ns)))

    def describe(self, now: Instant) -> str:
        """Return it as a clause for people."""
        words = f"for another {describe_span(math.ceil(self.left_s(now)))}, by {' and '.join(self.people)}: {self.text}"
        return f"{words}; it would have fired: {self.held}" if self.held else words


class PendingSilence(NamedTuple):
    """A silence that waits for another person."""

    trigger: str
    for_ns: int
    text: str
    people: Mapping[int, str]  # uid → name
    asked_ns: int  # of the last approval, monotonic
    needed: int = 2  # people


class Silences:
    """The silences of the triggers, by name."""

    def __init__(
        self,
        record: Callable[[str, Mapping[str, object]], object],
        announce: Callable[[Announce], None],
        clock: Callable[[], Instant],
        boot: str,
        past: Iterable[PastRecord] = (),
    ) -> None:
        """Continue the silences and the approvals that earlier runs recorded.

        `record` writes a record of a kind durably. `boot` is the id of this boot. A silence of another boot ends by the
        wall clock, and lasts no longer than its whole length from this boot on. An approval of another boot ends by the
        wall clock, and is void if that was set back behind it.
        """
        self._record = record
        self._announce = announce
        self._clock = clock
        self._boot = boot
        self._pending: dict[str, PendingSilence] = {}
        self._silences: dict[str, Silence] = {}  # in force, or over and not looked at yet
        self._last: dict[str, tuple[int, int]] = {}  # trigger → wall times of the last silence: beginning and end
        for begun in past:
            if isinstance(begun, SilenceApprovedRecord):
                self._approved_before(begun)
                continue
            self._pending.pop(begun.trigger, None)
            self._last[begun.trigger] = (begun.since_wall_ns, begun.ended_wall_ns or begun.since_wall_ns + begun.for_ns)
            self._silences.pop(begun.trigger, None)
            if not begun.ended_wall_ns:
                since_ns = begun.since_mono_ns if begun.boot == boot else 0
                until = Instant(since_ns + begun.for_ns, begun.since_wall_ns + begun.for_ns)
                since = Instant(since_ns, begun.since_wall_ns)
                self._silences[begun.trigger] = Silence(begun.trigger, since, until, begun.people, begun.text)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, trigger: str, for_ns: int, text: str, person: Person, needed: int) -> Silence | PendingSilence:
        """Silence a trigger, or note an approval: `needed` different people must ask for the same time.

        It replaces a silence that is in force, and keeps the reason which that one holds back.
        """
        now = self._clock()
        people = {person.uid: person.user}
        if (pending := self.pending(trigger)) is not None and pending.for_ns == for_ns:
            people = {**pending.people, **people}
        if len(people) < needed:
            self._pending[trigger] = waiting = PendingSilence(trigger, for_ns, text, people, now.mono_ns, needed)
            self._record_approval(waiting, person, len(people), text, now)
            if pending is None or waiting._replace(asked_ns=pending.asked_ns) != pending:  # else people know
                self._announce(_approval_asked(waiting, person))
            return waiting
        self._pending.pop(trigger, None)
        before = self.active(trigger)
        until = Instant(now.mono_ns + for_ns, now.wall_ns + for_ns)
        silence = Silence(trigger, now, until, tuple(people.values()), text, before.held if before else "")
        self._silences[trigger] = silence
        self._last[trigger] = (now.wall_ns, until.wall_ns)
        self._record(SilenceRecord.kind, self._to_record(silence, for_ns).to_json())
        span = describe_span(for_ns / 1e9)
        words = f"trigger {trigger} is silenced for {span} by {' and '.join(silence.people)}: {text}"
        do = f"kill-switch silence {trigger} --end"
        text = f"{words}; it watches, and fires nothing until then"
        self._announce(Announce(Severity.WARN, text, do=do, about=f"silence {trigger}"))
        return silence

    def end(self, trigger: str, why: str) -> bool:
        """End the silence of a trigger now, because of `why`, or forget its approvals; return whether there was one."""
        pending = self._pending.pop(trigger, None)
        silence = self._silences.pop(trigger, None)
        if silence is None:
            if pending is not None:
                self._record_approval(pending, _NOBODY, 0, why, self._clock())
                people = " and ".join(pending.people.values())
                text = (
                    f"trigger {trigger} is not silenced: the approval of {people} is void ({why}); it fires as before"
                )
                self._announce(Announce(Severity.OVER, text, about=f"silence {trigger}"))
            return pending is not None
        now = self._clock()
        ended_wall_ns = min(max(now.wall_ns, silence.since.wall_ns), silence.until.wall_ns)
        self._last[trigger] = (silence.since.wall_ns, ended_wall_ns)
        record = self._to_record(silence, silence.until.mono_ns - silence.since.mono_ns, ended_wall_ns, why)
        self._record(record.kind, record.to_json())
        held = f"; it would have fired: {silence.held}" if silence.held else ""
        text = f"trigger {trigger} fires again: its silence ended ({why}){held}"
        self._announce(Announce(Severity.OVER, text, about=f"silence {trigger}"))
        return True

    # ── the triggers ──────────────────────────────────────────────────────────────────────────────────────────────

    def hold(self, reason: Reason) -> bool:
        """Return whether the reason is held back; the first one of a silence is recorded and announced."""
        silence = self.active(reason.trigger)
        if silence is None:
            return False
        if not silence.held:
            self._silences[reason.trigger] = silence._replace(held=reason.text)
            held = HeldRecord(trigger=reason.trigger, text=reason.text, accounts=reason.accounts)
            self._record(held.kind, held.to_json())
            words = f"trigger {reason.trigger} would have fired: {reason.text}; it is silenced"
            do = f"if that is no part of the work: kill-switch fire --reason {reason.trigger}"
            self._announce(Announce(Severity.WARN, f"{words} {silence.describe(self._clock())}", do=do))
        return True

    def covers(self, trigger: str, wall_ns: int) -> bool:
        """Return whether a silence of the trigger, in force or the last one, was in force at a wall time."""
        since_ns, until_ns = self._last.get(trigger, (0, 0))
        return since_ns <= wall_ns < until_ns

    def active(self, trigger: str) -> Silence | None:
        """Return the silence that is in force for a trigger."""
        silence = self._silences.get(trigger)
        return silence if silence is not None and silence.left_s(self._clock()) > 0 else None

    def all_active(self) -> dict[str, Silence]:
        """Return the silences that are in force, by trigger."""
        return {name: silence for name in self._silences if (silence := self.active(name)) is not None}

    def pending(self, trigger: str) -> PendingSilence | None:
        """Return the silence of a trigger that waits for another person."""
        pending = self._pending.get(trigger)
        if pending is None or self._clock().mono_ns - pending.asked_ns >= APPROVE_WITHIN_NS:
            return None
        return pending

    def all_pending(self) -> dict[str, PendingSilence]:
        """Return the silences that wait for another person, by trigger."""
        return {name: pending for name in self._pending if (pending := self.pending(name)) is not None}

    def look(self) -> None:
        """End the silences whose time is over; call it at each look."""
        now = self._clock()
        for name in [name for name, silence in self._silences.items() if silence.left_s(now) <= 0]:
            self.end(name, "its time is over")

    def rename(self, names: Mapping[str, str]) -> None:
        """Continue the silences of triggers whose names have changed; `names` maps the new names to the old ones."""
        silences, last = dict(self._silences), dict(self._last)
        for before in names.values():
            self._silences.pop(before, None)
            self._last.pop(before, None)
        for name, before in names.items():
            if before in last:
                self._last[name] = last[before]
            if (silence := silences.get(before)) is not None:
                self._silences[name] = renamed = silence._replace(trigger=name)
                for_ns = silence.until.mono_ns - silence.since.mono_ns
                ended_ns = min(self._clock().wall_ns, silence.until.wall_ns)
                ended = self._to_record(silence, for_ns, ended_ns, f"it is {name} now")
                self._record(ended.kind, ended.to_json())
                self._record(SilenceRecord.kind, self._to_record(renamed, for_ns).to_json())

    def retain(self, kinds: Mapping[str, str]) -> None:
        """End the silences of triggers that a reload has removed or has made a kind that is never silenced.

        `kinds` has the kind of each configured trigger.
        """
        for name in [name for name in (*self._silences, *self._pending) if kinds.get(name, NEVER[0]) in NEVER]:
            self.end(name, "the configuration has no such trigger any more")

    def _approved_before(self, approved: SilenceApprovedRecord) -> None:
        """Continue an approval that an earlier run recorded, or forget those before it that it makes void."""
        before, now = self._pending.pop(approved.trigger, None), self._clock()
        age_ns = now.wall_ns - approved.asked_wall_ns
        if not approved.approvals or not approved.asked_wall_ns or (approved.boot != self._boot and age_ns < 0):
            return
        people = {approved.uid: approved.user}
        if before is not None and before.for_ns == approved.for_ns:
            people = {**before.people, **people}
        if len(people) > approved.approvals:  # those before had lapsed when this one came
            people = {approved.uid: approved.user}
        self._pending[approved.trigger] = PendingSilence(
            approved.trigger,
            approved.for_ns,
            approved.text,
            people,
            approved.asked_mono_ns if approved.boot == self._boot else now.mono_ns - age_ns,
            approved.needed,
        )

    def _record_approval(self, asked: PendingSilence, person: Person, approvals: int, text: str, now: Instant) -> None:
        approved = SilenceApprovedRecord(
            trigger=asked.trigger,
            uid=person.uid,
            user=person.user,
            text=text,
            for_ns=asked.for_ns,
            approvals=approvals,
            needed=asked.needed,
            asked_wall_ns=now.wall_ns,
            asked_mono_ns=now.mono_ns,
            boot=self._boot,
        )
        self._record(approved.kind, approved.to_json())

    def _to_record(self, silence: Silence, for_ns: int, ended_wall_ns: int = 0, why: str = "") -> SilenceRecord:
        return SilenceRecord(
            trigger=silence.trigger,
            people=silence.people,
            text=silence.text,
            since_wall_ns=silence.since.wall_ns,
            since_mono_ns=silence.since.mono_ns,
            boot=self._boot,
            for_ns=for_ns,
            ended_wall_ns=ended_wall_ns,
            ended=why,
        )


def past_records(entries: Iterable[Entry]) -> list[PastRecord]:
    """Return the records of silences and of their approvals in the journal's entries of earlier runs."""
    return history.records_of_kind(entries, SilenceRecord, SilenceApprovedRecord)


def _approval_asked(pending: PendingSilence, person: Person) -> Announce:
    """Return the announcement that a silence waits for another person."""
    span, seconds, rest_ns = describe_span(pending.for_ns / 1e9), *divmod(pending.for_ns, 10**9)
    exactly = f"{pending.for_ns // 10**6}ms" if rest_ns else f"{seconds}s"
    count = f"{len(pending.people)} of {pending.needed} people"
    within = describe_span(APPROVE_WITHIN_NS / 1e9)
    text = f"{person.user} has asked to silence trigger {pending.trigger} for {span} ({pending.text}): {count}"
    who = " and ".join(pending.people.values())
    command = f"kill-switch silence {pending.trigger} --for {exactly} --reason …"
    do = f"another person than {who} types {command} within {within}"
    return Announce(Severity.APPROVAL, f"{text}; it fires as before", do=do, about=f"silence {pending.trigger}")


def describe_span(seconds: float) -> str:
    """Return a time for people, in the largest unit that says it well: `45 s`, `30 min`, `3 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
