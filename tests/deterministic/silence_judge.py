"""Hold silences to what was granted: a reason is held until the first clock reaches the end, and no longer.

The judge keeps what was granted itself, and reads the journal's lines with code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from kill_switch.triggers.silences import NEVER, PendingSilence, Silence

from .scheduler import World

EDGE_NS = 1_000_000  # this close to its end, a silence may hold or not
KEPT_AFTER_NS = 5_000_000_000  # a well disk has a record by then, also if the power goes
APPROVED_FOR_NS = 600_000_000_000  # so long a first person's approval counts


class Granted(NamedTuple):
    """A silence that was granted: when it began, by true time and on our clocks, and how long it lasts."""

    asked_ns: int
    boot: int
    mono_ns: int
    wall_ns: int
    for_ns: int


class SilenceJudge:
    """Know which triggers are silenced, and see whether their reasons are held rightly."""

    def __init__(self, world: World, wrong: Callable[[str], None]) -> None:
        self._world, self._wrong = world, wrong
        self._granted: list[Granted] = []
        self._known: dict[str, Granted] = {}  # trigger → the silence that has not been seen to be over
        self._approved: dict[str, tuple[int, set[int]]] = {}  # trigger → the length, and who has asked for it
        self._is_asking = self._is_lost = False
        self._must: dict[str, Granted] = {}  # silences that a process which died has left to the next one

    def _left_ns(self, silence: Granted) -> int:
        """Return the time until its end; in another boot the monotonic clock counts from the boot on."""
        began_ns = silence.mono_ns if silence.boot == self._world.boots else 0
        now = self._world.read()
        return silence.for_ns - max(now.mono_ns - began_ns, now.wall_ns - silence.wall_ns)

    # what people ask for

    def asking(self, trigger: str, for_ns: int, uid: int) -> None:
        """Hear that a person asks for a silence; the process may die before it answers."""
        self._world.note("silence?", trigger, for_ns / 1e9, uid)
        length_ns, people = self._approved.get(trigger, (0, set()))
        self._approved[trigger] = (for_ns, {*people, uid} if length_ns == for_ns else {uid})
        self._is_asking = True

    def answered(self, trigger: str, for_ns: int, needed: int, answer: Silence | PendingSilence) -> None:
        """See whether a silence was granted rightly: by enough people."""
        self._is_asking = False
        self._world.note("silence:", answer)
        enough = len(self._approved[trigger][1]) >= needed
        if isinstance(answer, Silence) is not enough:
            self._wrong(f"{len(self._approved[trigger][1])} of {needed} people asked for a silence: {answer}")
        if isinstance(answer, Silence):
            now = self._world.read()
            silence = Granted(self._world.ns, self._world.boots, now.mono_ns, now.wall_ns, for_ns)
            self._granted.append(silence)
            self._known[trigger] = silence
            del self._approved[trigger]

    def ended(self, trigger: str) -> None:
        """Hear that a person has ended a silence."""
        self._world.note("silence ends:", trigger)
        self._known.pop(trigger, None)
        self._approved.pop(trigger, None)

    # what triggers see

    def judged(self, trigger: str, kind: str, held: bool) -> None:
        """See whether a reason is held or fires rightly."""
        silence = None if kind in NEVER else self._known.get(trigger)
        left_ns = -EDGE_NS if silence is None else self._left_ns(silence)
        if held:
            self._world.note("held:", trigger)
        if held and left_ns <= -EDGE_NS:
            self._wrong(f"a reason of {trigger} is held, and no silence is in force")
        if not held and left_ns >= EDGE_NS:
            self._wrong(f"a reason of {trigger} fires {left_ns / 1e9:g} s before the end of its silence")

    def looked(self) -> None:
        """Hear that the process has looked: what is over now is over for good."""
        self._known = {name: silence for name, silence in self._known.items() if self._left_ns(silence) > 0}

    # death and return

    def displaced(self) -> None:
        """Hear that the journal was taken away, and with it what a new process could know."""
        self._is_lost = True

    def died(self) -> None:
        """Hear that the process has died; what the disk must have is to be continued."""
        disk, now_ns = self._world.disk, self._world.ns
        kept = not self._is_lost and disk.well_for(KEPT_AFTER_NS / 1e9)
        self._must = {name: s for name, s in self._known.items() if kept and now_ns - s.asked_ns >= KEPT_AFTER_NS}

    def started(self, entries: Iterable[Mapping[str, Any]], *, is_whole: bool) -> None:
        """See what a new process can read: each silence that must be there, and none that nobody was granted."""
        recorded: dict[str, Mapping[str, Any]] = {}
        approved: dict[str, tuple[int, set[int]]] = {}
        for entry in entries:
            data = entry["data"]
            if entry["kind"] == "silence-approved":
                self._read_approval(approved, data)
            if entry["kind"] == "silence":
                recorded.pop(data["trigger"], None)
                approved.pop(data["trigger"], None)
                if not data.get("ended_wall_ns"):
                    recorded[data["trigger"]] = data
        lost = {name for name, silence in self._must.items() if is_whole and self._left_ns(silence) > 0} - set(recorded)
        if lost:
            self._wrong(f"the silence of {sorted(lost)} is lost")
        self._known, self._must, self._approved = {}, {}, approved
        for name, data in recorded.items():
            if (silence := self._find(data["since_wall_ns"], data["for_ns"])) is not None:
                self._known[name] = silence
            elif self._is_asking:
                world = self._world
                boot = world.boots if data["boot"] == world.boot else 0
                asked = Granted(world.ns, boot, data["since_mono_ns"], data["since_wall_ns"], data["for_ns"])
                self._granted.append(asked)
                self._known[name] = asked
            else:
                self._wrong(f"the journal has a silence that nobody was granted: {data}")
        self._is_asking = self._is_lost = False

    def _read_approval(self, approved: dict[str, tuple[int, set[int]]], data: Mapping[str, Any]) -> None:
        """Add a recorded approval to those of its trigger, or drop them: void, too old, or of another length."""
        length_ns, people = approved.pop(data["trigger"], (0, set()))
        now = self._world.read()
        is_this_boot = data["boot"] == self._world.boot
        age_ns = now.mono_ns - data["asked_mono_ns"] if is_this_boot else now.wall_ns - data["asked_wall_ns"]
        if data["approvals"] and 0 <= age_ns < APPROVED_FOR_NS:
            together = {*people, data["uid"]} if length_ns == data["for_ns"] else {data["uid"]}
            is_joined = len(together) <= data["approvals"]
            approved[data["trigger"]] = (data["for_ns"], together if is_joined else {data["uid"]})

    def _find(self, wall_ns: int, for_ns: int) -> Granted | None:
        """Return the silence that a record is of."""
        found = [s for s in self._granted if s.for_ns == for_ns and abs(s.wall_ns - wall_ns) < EDGE_NS]
        return found[-1] if found else None
