"""Hold the product to its promises, from outside: by the venues' true books, and by what was asked and answered.

Nothing here uses the product's own folds: who is tripped is counted from the journal's lines again, in a few lines.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kill_switch import journal, recovery
from kill_switch.domain import Life as Left
from kill_switch.domain import Pace, Phase, Reason
from kill_switch.engine import Granted, RearmAsked, Refused, Waiting
from kill_switch.errors import IllegalEvent
from kill_switch.report import Reports
from kill_switch.venues.base import OrdersRead

from .world import World

if TYPE_CHECKING:
    from kill_switch.dispatch import Session

    from .house import House
    from .life import Life

STUCK_S = 60.0  # from the end of the faults until every account is clear
SLACK_S = 2.0
SYNC_WITHIN_S = 5.0
UNSTATED = ("crosstrade", "kuna")
"""Venues that may tell us to wait: the one has a bucket for which that is the protocol, the other states no number, and
the simulator's is what others assume."""


class _Complaints(logging.Handler):
    """Hear what the product logs that must not happen."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(logging.ERROR)
        self._judge = judge

    def emit(self, record: logging.LogRecord) -> None:
        illegal = isinstance(record.args, tuple) and any(isinstance(one, IllegalEvent) for one in record.args)
        if record.exc_info or illegal:
            error = record.exc_info[1] if record.exc_info else None
            self._judge.wrong(f"logged: {record.getMessage()} {error!r}")
            self._judge.error = self._judge.error or error


class Judge:
    """Know what was promised, and see whether it is kept."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.error: BaseException | None = None
        self.complaints = _Complaints(self)
        self.houses: dict[str, House] = {}
        self.found: list[str] = []
        self.told_to_wait = 0  # how often that was
        self.phases: dict[str, Phase] = {}
        self.promised: dict[str, int] = {}  # account → size of the journal with its reason; 0: it has been synced
        self.scoped: set[str] = set()  # accounts that a reason has ever named
        self.latches: list[str] = []  # accounts that a latch file names which nobody has taken over yet
        self.distrusted = False
        self._proved: dict[str, int] = {}
        self.commands = self.residues = 0
        self._read: dict[str, OrdersRead] = {}  # the last of each account
        self._clean: dict[str, int] = defaultdict(int)
        self._clean_ns: dict[str, int] = {}
        self._commanded_ns: dict[str, int] = {}
        self._tags: dict[str, int] = defaultdict(int)  # the number of each account's latest command
        self._granted: set[str] = set()
        self._maybe_granted: set[str] = set()
        self._maybe_scoped: set[str] = set()

    def wrong(self, what: str) -> None:
        self.world.note("WRONG", what)
        self.found.append(what)

    # what is reported and granted

    def reason(self, life: Life, reason: Reason) -> None:
        """Hear of a reason that is about to be reported."""
        self.world.note("reason", reason.trigger, *reason.accounts)
        self._maybe_scoped = set(reason.accounts)
        self.scoped.update(reason.accounts)

    def reported(self, life: Life, reason: Reason) -> None:
        """Take the report's return as a promise; the machine's death may break it until the record is synced."""
        self._maybe_scoped = set()
        for name in reason.accounts:
            self.promised[name] = life.journal.size
            if life.dispatcher.state.accounts[name].phase is Phase.ARMED:
                self.wrong(f"{name} is ARMED right after a reason")
        self.world.later(SYNC_WITHIN_S, self._must_be_synced, life, life.journal.size)
        self.look(life)

    def _must_be_synced(self, life: Life, size: int) -> None:
        if life.alive and life.journal.durable < size:
            self.wrong(f"a reason was reported {SYNC_WITHIN_S:g} s ago, and the disk was not asked to take its record")

    def latch_left(self, accounts: Iterable[str]) -> None:
        self.world.note("latch file", *accounts)
        self.latches = [*self.latches, *accounts]
        self.scoped.update(accounts)

    def latch_found(self, said: str, accounts: Iterable[str]) -> None:
        if not set(self.latches) <= set(accounts):
            self.wrong(f"a latch file named {self.latches} and was taken for {accounts}")
        if not self.latches and not self.distrusted:
            self.wrong(f"a latch file that nobody left: {said}")
        self.scoped.update(accounts)

    def latch_taken(self) -> None:
        self.latches = []

    def synced(self, size: int) -> None:
        for name, needs in self.promised.items():
            if needs and needs <= size:
                self.promised[name] = 0

    def rearm_asked(self, asked: RearmAsked) -> None:
        self.world.note("re-arm?", asked.uid, "force" if asked.force else "", *asked.accounts)
        self._maybe_granted = set(asked.accounts)

    def rearm_answered(self, life: Life, asked: RearmAsked, verdict: Granted | Waiting | Refused) -> None:
        """See whether a re-arm was granted rightly."""
        self._maybe_granted = set()
        self.world.note("re-arm:", verdict)
        if not isinstance(verdict, Granted):
            return
        for name in verdict.accounts:
            before = self.phases[name]
            if before in (Phase.STRIKING, Phase.CONFIRMING, Phase.ARMED):
                self.wrong(f"{name} was re-armed while {before}")
            if before is Phase.RESIDUE and not asked.force:
                self.wrong(f"{name} was re-armed in RESIDUE, without force")
            old = self.houses[name].book.older_than(asked.proved_since_ns + self.world.booted_ns)
            if old and not asked.force:
                self.wrong(f"{name} was re-armed with {len(old)} orders that rested before it was asked for")
            if asked.blockers:
                self.wrong(f"{name} was re-armed against {asked.blockers}")
            self.promised.pop(name, None)
            self._granted.add(name)
        self.look(life)

    # what is sent

    def commanded(self, house: House, what: str, tag: str | None) -> None:
        """Hear of a cancel command at the moment in which it leaves.

        `tag` is that of its other copies, None that of an extra: a single order's cancel beside a cancel of all.
        """
        self.commands += 1
        number = int(tag.rpartition("#")[2] or 0) if tag is not None else -1
        if not number or number > self._tags[house.name]:  # else it is late: a later one has left already
            self._tags[house.name] = max(number, self._tags[house.name])
            self._clean[house.name], self._commanded_ns[house.name] = 0, self.world.mono_ns
        if house.name not in self.scoped:
            self.wrong(f"{house.name}: {what} was sent, and no reason ever named the account")
        elif self.phases.get(house.name) is Phase.ARMED and house.name not in self._maybe_scoped:
            self.wrong(f"{house.name}: {what} was sent while the account is ARMED")

    def refused_for_rate(self, house: House, what: str) -> None:
        self.world.note(house.name, "refused for its rate:", what)
        if house.kind in UNSTATED:
            self.told_to_wait += 1
        else:
            self.wrong(f"{house.name}: {what} was refused for its rate")

    # after each step

    def look(self, life: Life) -> None:
        """Compare the product's state with what may be, and its claims with the books."""
        for name, account in life.dispatcher.state.accounts.items():
            if account.sweep is not None:
                self._count_reads(name, life.dispatcher.sessions[name], account.pace.read_gap_s)
            sweep = account.sweep
            phase = account.phase
            before = self.phases.get(name)
            if phase is not before:
                self._changed(name, before, phase)
            if sweep is not None and phase is Phase.CLEAR:
                if sweep.proved_ns != self._proved.get(name) or before is not Phase.CLEAR:
                    self._proved[name] = sweep.proved_ns
                    self._claims(name, sweep.proved_ns)
                pace = sweep.pace
                blind_s = 3 * pace.guard_every_s + 2 * pace.read_within_s + SLACK_S
                if life.alive and life.world.mono_ns - max(sweep.proved_ns, sweep.began_ns) > blind_s * 1e9:
                    self.wrong(f"{name} is CLEAR without a clean read for more than {blind_s:g} s")

    def _changed(self, name: str, before: Phase | None, phase: Phase) -> None:
        self.world.note(name, before, "->", phase)
        self.phases[name] = phase
        if before is None:
            return
        if before is Phase.ARMED and not (name in self._maybe_scoped or name in self.promised):
            self.wrong(f"{name} tripped without a reason")
        if phase is Phase.ARMED and name not in self._granted | self._maybe_granted:
            self.wrong(f"{name} is ARMED, and nobody granted that")
        self._granted.discard(name)
        self.residues += phase is Phase.RESIDUE
        if phase is Phase.CLEAR and self._clean[name] < 2:
            self.wrong(f"{name} is CLEAR after {self._clean[name]} clean read(s) since its last command")

    def _count_reads(self, name: str, session: Session, gap_s: float) -> None:
        """Count the clean reads in a row that were asked for after the last command left, the gap apart."""
        read = session.last_read
        if read is None or read is self._read.get(name):
            return
        self._read[name] = read
        if read.asked_ns < self._commanded_ns.get(name, 0):
            return
        if any(order.life is not Left.GONE for order in read.orders):
            if read.asked_ns >= self._clean_ns.get(name, 0):  # else it is older than the clean one, and was late
                self._clean[name] = 0
        elif read.complete and (not self._clean[name] or read.asked_ns - self._clean_ns[name] >= int(gap_s * 1e9)):
            self._clean[name] += 1
            self._clean_ns[name] = read.asked_ns

    def _claims(self, name: str, proved_ns: int) -> None:
        if not proved_ns:
            return  # the guard of a new process, which claims nothing yet: its first read is due at once
        old = self.houses[name].book.older_than(proved_ns + self.world.booted_ns)
        if old:
            self.wrong(f"{name} is CLEAR, and {len(old)} orders rest that did before it was read: {old[:2]}")

    # death and return

    def died(self, life: Life, cut: bool) -> None:
        self.world.note("POWER CUT" if cut else "KILLED")
        if cut:
            for name in [name for name, needs in self.promised.items() if needs]:
                del self.promised[name]  # it was not on the disk yet

    def opened(self, replay: journal.Replay) -> None:
        """Hear what a new process has found: a journal that is cut off in a reason, or gone, may trip by itself."""
        self.distrusted = self.distrusted or replay.latch_torn or not replay.entries

    def started(self, life: Life) -> None:
        """See whether a new process has every latch that is on record, and no other."""
        replay = life.journal.replay
        if replay.broken:
            self.wrong(f"the journal is broken: {replay.broken}")
        tripped = set(life.dispatcher.state.tripped)
        recorded = latched(replay.entries)
        self.world.note("starts with", *sorted(tripped))
        if tripped != recorded:
            self.wrong(f"the journal has {sorted(recorded)} tripped, the new process {sorted(tripped)}")
        lost = set(self.promised) - recorded
        if lost - set(self.latches) - self._maybe_granted:
            self.wrong(f"the latch of {sorted(lost)} is lost")
        if tripped - self.scoped:
            self.wrong(f"{sorted(tripped - self.scoped)} tripped, and no reason ever named them")
        for name in set(self.promised) & self._maybe_granted - tripped:
            del self.promised[name]
        for name in tripped:
            self.promised.setdefault(name, 0)
        self._maybe_granted, self._maybe_scoped, self._granted = set(), set(), set()
        self.phases = {name: account.phase for name, account in life.dispatcher.state.accounts.items()}
        for known in (self._proved, self._read, self._clean, self._clean_ns, self._commanded_ns):
            known.clear()
        self._tags.clear()

    def resumed(self, life: Life) -> None:
        """Hear that a new process has taken over all that was left for it."""
        self.distrusted = False
        if self.latches:
            self.wrong(f"the latch file for {self.latches} was not found at the start")

    # the end

    def settled(self, life: Life) -> bool:
        """Say whether everything that was promised is done."""
        accounts = life.dispatcher.state.accounts
        return not self.latches and all(
            accounts[name].phase is Phase.CLEAR and not self.houses[name].book for name in self.promised
        )

    def unsettled(self, life: Life) -> None:
        for name in self.promised:
            phase, left = life.dispatcher.state.accounts[name].phase, len(self.houses[name].book)
            if phase is not Phase.CLEAR or left:
                self.wrong(f"{name} is {phase} with {left} orders, {STUCK_S:g} s after the last fault")
        if self.latches:
            self.wrong("a latch file was never taken over")

    def end(self, life: Life, path: Path) -> None:
        """Compare the record with what has been."""
        life.journal.flush()
        self.look(life)
        replay = journal.read(path)
        if replay.broken or replay.torn:
            self.wrong(f"the journal does not verify: {replay.broken or 'torn'}")
        states = life.dispatcher.state.accounts
        tripped = {name for name, account in states.items() if account.phase is not Phase.ARMED}
        if latched(replay.entries) != tripped:
            self.wrong(f"the journal has {sorted(latched(replay.entries))} tripped, the engine {sorted(tripped)}")
        if tripped - self.scoped:
            self.wrong(f"{sorted(tripped - self.scoped)} tripped, and no reason ever named them")
        if set(self.promised) - tripped:
            self.wrong(f"{sorted(set(self.promised) - tripped)} should be tripped")
        recovered = recovery.rebuild(replay.entries, {name: Pace() for name in states})
        for name, account in states.items():
            if (account.phase is Phase.CLEAR) != (recovered.accounts[name].phase is Phase.CLEAR):
                self.wrong(f"{name} is {account.phase}, and would be {recovered.accounts[name].phase} after a restart")
        self._reports(life, Reports(life.reports.budget_us, replay.entries), {n: a.phase for n, a in states.items()})

    def _reports(self, life: Life, folded: Reports, phases: Mapping[str, Phase]) -> None:
        for kill in folded.ids():
            if folded.get(kill) != life.reports.get(kill):
                self.wrong(f"the report of {kill} is another one when it is read from the journal")
        latest: dict[str, Mapping[str, Any]] = {}
        for kill in folded.ids():
            report: Any = folded.get(kill)
            latest.update(report["accounts"])
        for name, told in latest.items():
            if told["state"] != phases[name]:
                self.wrong(f"the report has {name} {told['state']}, and it is {phases[name]}")
            if phases[name] is Phase.CLEAR and told["verdict"] != "CONFIRMED":
                self.wrong(f"the report has the clear {name} {told['verdict']}")
            if phases[name] not in (Phase.CLEAR, Phase.ARMED) and told["verdict"] == "CONFIRMED":
                self.wrong(f"the report has {name} CONFIRMED, and it is {phases[name]}")


def latched(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """Count from the journal's lines who is tripped."""
    names: set[str] = set()
    for entry in entries:
        if entry["kind"] in ("reason", "latch"):
            names.update(entry["data"]["accounts"])
        elif entry["kind"] == "rearm":
            names.difference_update(entry["data"]["accounts"])
    return names
