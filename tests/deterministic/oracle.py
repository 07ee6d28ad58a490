"""Hold the product to its promises, from outside: by the venues' true books, and by what was asked and answered.

Nothing here uses the product's own folds: who is tripped is counted from the journal's lines again, in a few lines.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from kill_switch.core import recovery
from kill_switch.core.commands import RearmGranted, RearmPending, RearmRefused
from kill_switch.core.domain import OrderState as Left
from kill_switch.core.domain import Phase, Reason, Route, SweepTiming
from kill_switch.core.events import RearmAsked
from kill_switch.errors import IllegalEvent, JournalBroken
from kill_switch.journal import checkpoint, journal, segments
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.venues.messages import Call, OrdersRead
from tests.harness.recorded import what_is_wrong

from .scheduler import World
from .silence_judge import SilenceJudge

if TYPE_CHECKING:
    from kill_switch.dispatch.session import AccountSession

    from .daemon_under_test import Life
    from .simulated_account import House

Mark = tuple[str, str]  # what tells one account from another on record: its host, and its key's digest
SIGHT_NS = 5_000_000_000  # two reads of a guard, each a list and a snapshot
LOOKED_WITHIN_NS = 1_000_000_000  # at the place of the journal
STUCK_S = 60.0  # from the end of the faults until every account is clear
SLACK_S = 2.0
ASKED_WITHIN_S = 0.05
FILED_WITHIN_S = 2.5
SYNC_WITHIN_S = 5.0
RECORDED_WITHIN_S = 1.0
LATER_PATIENCE_S = 5.0  # the longest wait of a later strike's command for an answer that is slow
HEDGED_WITHIN_S = 0.001
TWIN_AFTER_S = 0.5  # a frame that nothing answers has its twin by then, however few tokens there are
UNSTATED = ("crosstrade", "kraken", "kraken-futures", "kuna")
"""Venues that may tell us to wait: the one has a bucket for which that is the protocol, the other states no number, and
the simulator's is what others assume."""


class _Complaints(logging.Handler):
    """Hear what the product logs that must not happen."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(logging.ERROR)
        self._judge = judge

    def emit(self, record: logging.LogRecord) -> None:
        illegal = isinstance(record.args, tuple) and any(isinstance(argument, IllegalEvent) for argument in record.args)
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
        self.silences = SilenceJudge(world, self.wrong)
        self.houses: dict[str, House] = {}
        self.found: list[str] = []
        self.told_to_wait = 0  # how often that was
        self.phases: dict[str, Phase] = {}
        self.promised: dict[str, float] = {}  # account → size of the journal with its reason; 0: it has been synced
        self.scoped: set[str] = set()  # accounts that a reason has ever named
        self.latches: list[str] = []  # accounts that a latch file names which nobody has taken over yet
        self.filed = False  # there are latch files that somebody has left, or may be
        self.distrusted = self.damaged = self._all_must_trip = False
        self._unclear_ns: dict[str, int] = {}  # since when a tripped account has not been clear
        self._not_clear: set[House] = set()  # who was not when the process died, and whose record says so
        self._unwritten = False  # the process before had a reason that it had not written yet
        self._resumed = False  # the process has taken over what was left for it
        self._set_aside = False  # a journal was, and with it the beginnings of kills
        self._unlisted: set[str] = set()  # accounts that were promised, and that a new process's journal does not have
        self._proved: dict[str, int] = {}
        self.commands = self.residues = self.switches = self.stays = 0
        self._read: dict[str, OrdersRead] = {}  # the last of each account
        self._clean: dict[str, int] = defaultdict(int)
        self._clean_ns: dict[str, int] = {}
        self._took_s: dict[str, float] = defaultdict(float)  # the longest that an account's read ever took
        self._commanded_ns: dict[str, int] = {}
        self._life: Life
        self._strike: dict[str, tuple[int, int]] = {}  # each account's latest
        self._strikes: dict[tuple[str, str], tuple[int, int]] = {}  # that a call belongs to, by account and tag
        self._twins: dict[str, int] = defaultdict(int)  # cancel calls so far
        self._under: dict[str, list[House]] = defaultdict(list)  # who was struck under a name since it was armed
        self._switched_ns: dict[str, int] = {}  # when a reload gave a latched account another login
        self._labels: set[str] = set()  # names that are tripped in the journal, for all that we know
        self._exchanged: set[str] = set()  # names that more than one account has had
        self._had: dict[str, House] = {}  # who had a name when accounts were last edited
        self._rate_refused_ns: dict[str, int] = {}  # when a venue last refused a request for its rate
        self._displaced_ns = -LOOKED_WITHIN_NS
        self._renamed: set[str] = set()  # names that accounts have got since the last process died
        self._unmarked: set[str] = set()  # names of accounts whose new login the process died before it could record
        self._resumed_as: set[House] = set()  # who had such a name when a process went on with its latch
        self._began_ns = 0  # when the process began, true time
        self._died_ns = -(10**18)  # when the process before died, true time
        self._before_reload: dict[str, Phase] = {}
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
        latches = life.journal.latched
        self._labels.update(reason.accounts)
        for name in reason.accounts:
            if self.houses[name] not in self._under[name]:
                self._under[name].append(self.houses[name])
            if self.promised.get(name) != 0:
                self.promised[name] = latches[-1]
            if life.dispatcher.state.accounts[name].phase is Phase.ARMED:
                self.wrong(f"{name} is ARMED right after a reason")
        self.world.later(ASKED_WITHIN_S, self._must_be_asked, life, len(latches) - 1)
        self.world.later(FILED_WITHIN_S, self._must_be_filed, life, len(latches) - 1)
        self.world.later(SYNC_WITHIN_S, self._must_be_synced, life, len(latches) - 1)
        self.look(life)

    def _must_be_asked(self, life: Life, latch: int) -> None:
        size, disk = life.journal.latched[latch], self.world.disk
        sick = size == math.inf and (disk.displaced or not disk.well_for(2 * ASKED_WITHIN_S))
        if life.alive and life.journal.asked < size and not sick and not disk.hangs:
            self.wrong(f"a reason was reported {ASKED_WITHIN_S:g} s ago, and the disk was not asked to take its record")

    def _must_be_filed(self, life: Life, latch: int) -> None:
        """See whether the disk has the latch file, if that has what the journal has not."""
        disk = self.world.disk
        if not life.alive:
            return
        intended = disk.hung_for(FILED_WITHIN_S) and disk.intent.stat().st_size  # as long as the disk says nothing
        if life.journal.latched[latch] == math.inf and not disk.has_files() and not intended:
            self.wrong(f"a reason was reported {FILED_WITHIN_S:g} s ago, and neither journal nor latch file has it")
        filed = life.journal.latched[latch] == math.inf and disk.latch.exists()
        if filed and not disk.has_latch and disk.syncs_for(FILED_WITHIN_S):
            self.wrong(f"a reason was reported {FILED_WITHIN_S:g} s ago, and the latch file that has it is not synced")

    def _must_be_synced(self, life: Life, latch: int) -> None:
        """See whether the disk has the record of a latch, unless it is the disk's fault, and that is said."""
        journal, disk = life.journal, self.world.disk
        if not life.alive or disk.durable >= journal.latched[latch] or journal.sync_trouble:
            return
        if disk.well_for(SYNC_WITHIN_S):
            self.wrong(f"the disk has been well for {SYNC_WITHIN_S:g} s, and does not have a reason that was reported")
        elif self._is_untold(life, latch):  # its record may have been written just now, once the disk took it
            self.world.later(ASKED_WITHIN_S, self._must_be_told, life, latch)
        else:
            self.world.later(SYNC_WITHIN_S, self._must_be_synced, life, latch)

    def _must_be_told(self, life: Life, latch: int) -> None:
        """See whether the disk was asked to take the record of a latch meanwhile, or its trouble is said."""
        if life.alive and self._is_untold(life, latch):
            self.wrong(f"a reason was reported {SYNC_WITHIN_S:g} s ago, the disk does not have it, and nobody is told")
        else:
            self._must_be_synced(life, latch)

    def _is_untold(self, life: Life, latch: int) -> bool:
        journal = life.journal
        size = journal.latched[latch]
        return not journal.trouble and math.inf > size > max(journal.asked, self.world.disk.durable)

    def latch_left(self, accounts: Iterable[str]) -> None:
        self.world.note("latch file", *accounts)
        self.latches, self.filed = [*self.latches, *accounts], True
        self.scoped.update(accounts)

    def latch_found(self, said: str, accounts: Iterable[str]) -> None:
        if not set(self.latches) <= set(accounts):
            self.wrong(f"a latch file named {self.latches} and was taken for {accounts}")
        if not self.filed and not self.distrusted:
            self.wrong(f"a latch file that nobody left: {said}")
        if '"accounts":null' in said:
            self.wrong(f"a latch file names nobody, and everybody trips: {said}")
        # on a full disk a direct kill leaves an empty file beside its line elsewhere; it is seen late if that disk hung
        if self._resumed and not self.latches and said:
            self.wrong(f"a latch of our own was taken for somebody else's: {said}")
        self.scoped.update(accounts)

    def latch_taken(self) -> None:
        self.latches = []

    def settled_disk(self, life: Life) -> None:
        """Compare what the product believes of the disk with what is so."""
        disk = self.world.disk
        if life.journal.durable > disk.durable and not disk.displaced:
            self.wrong(f"the disk has {disk.durable} bytes, and is believed to have {life.journal.durable}")
        self.filed = self.filed and disk.has_files()

    def latch_written(self, size: int) -> None:
        for name, needs in self.promised.items():
            self.promised[name] = size if needs == math.inf else needs

    def synced(self, size: int) -> None:
        """Hear that the disk has so much of the journal: the latches in that are kept for good."""
        for name, needs in self.promised.items():
            if needs <= size:
                self.promised[name] = 0

    def latch_synced(self, content: bytes) -> None:
        """Hear that the disk has a latch file: the latches in that are kept until the journal has them."""
        for name in named(content, self.houses):
            if name in self.latches or self.promised.get(name) == math.inf:
                self.promised[name] = 0

    def rearm_asked(self, asked: RearmAsked) -> None:
        self.world.note("re-arm?", asked.uid, "force" if asked.force else "", *asked.accounts)
        self._maybe_granted = set(asked.accounts)

    def rearm_answered(
        self, life: Life, asked: RearmAsked, verdict: RearmGranted | RearmPending | RearmRefused
    ) -> None:
        """See whether a re-arm was granted rightly."""
        self._maybe_granted = set()
        self.world.note("re-arm:", verdict)
        if not isinstance(verdict, RearmGranted):
            return
        for name in verdict.accounts:
            before = self.phases[name]
            if before in (Phase.STRIKING, Phase.CONFIRMING, Phase.ARMED):
                self.wrong(f"{name} was re-armed while {before}")
            if before is Phase.RESIDUE and not asked.force:
                self.wrong(f"{name} was re-armed in RESIDUE, without force")
            since_ns = asked.proved_since_ns + self.world.booted_ns
            lag_ns = self.houses[name].lag_ns
            old = self.houses[name].book.older_than(max(since_ns - lag_ns, min(since_ns, self._began_ns)))
            if old and not asked.force:
                self.wrong(f"{name} was re-armed with {len(old)} orders that rested before it was asked for")
            if asked.blockers:
                self.wrong(f"{name} was re-armed against {asked.blockers}")
            strangers = [h.host for h in self._under.pop(name, []) if h not in self.houses.values()]
            if strangers and not asked.force:
                self.wrong(f"{name} was re-armed, and {strangers}, which were struck under that name, are in no file")
            self.promised.pop(name, None)
            self._granted.add(name)
        self.look(life)

    # what is sent

    def commanded(self, house: House, what: str, tag: str | None) -> None:
        """Hear of a cancel command at the moment in which it leaves.

        `tag` is that of its other copies, "" if there are none, or none yet; None is that of an extra: a single order's
        cancel beside a cancel of all.
        """
        if not self.asked(house, what):
            return
        self.look(self._life)  # what has been decided before this leaves
        self.commands += 1
        if tag == "" or (tag and self._strikes[house.name, tag] == self._strike[house.name]):  # an older one only helps
            self._clean[house.name], self._commanded_ns[house.name] = 0, self.world.mono_ns
        if house.name not in self.scoped:
            self.wrong(f"{house.name}: {what} was sent, and no reason ever named the account")
        elif self.phases.get(house.name) is Phase.ARMED:
            if house.name in self._maybe_scoped:  # the engine does not know yet, and whoever comes next has to
                self.promised.setdefault(house.name, math.inf)
            else:
                self.wrong(f"{house.name}: {what} was sent while the account is ARMED")

    def asked(self, house: House, what: str) -> bool:
        """Hear of whatever leaves for a login: it is to be in force, which is said."""
        in_force = self.houses.get(house.name) is house
        if not in_force:
            self.wrong(f"{what} was sent at {house.host}, as {house.name}: that login is in force no more")
        return in_force

    def handed(self, life: Life, house: House, session: AccountSession, route: Route, call: Call) -> None:
        """Hear of a call that is given to a lane: a cancel without an answer is to go out over another one, too."""
        if not self.asked(house, call.tag) or not call.cancel:
            return
        self._twins[house.name] += 1
        if (house.name, call.tag) not in self._strikes:
            self._strikes[house.name, call.tag] = self._strike[house.name] = self._strike_of(life, house)
        if route is Route.FRESH:
            life.doubled.add((house.name, call.tag))
        else:
            wait_s = self._patience_s(life, house, house.patience_s) + HEDGED_WITHIN_S
            self.world.later(wait_s, self._must_be_doubled, life, house, session, call.tag)

    def _must_be_doubled(self, life: Life, house: House, session: AccountSession, tag: str) -> None:
        if not life.alive or life.dispatcher.sessions.get(house.name) is not session:
            return
        tripped = life.dispatcher.state.accounts[house.name].sweep is not None
        call = session.venue.calls.pending.get(tag)
        is_answered = call is None or getattr(call.part, "settled", False)  # its frame was: then no copy is wanted
        if tripped and not is_answered and (house.name, tag) not in life.doubled:
            self.wrong(f"{house.name}: {tag} has no answer, and goes out by no second route")

    def framed(self, life: Life, house: House) -> None:
        """Hear of a frame that cancels everything: without an answer, its twin is to go out over HTTP."""
        strike = self._strike[house.name] = self._strike_of(life, house)
        wait_s = self._patience_s(life, house, TWIN_AFTER_S) + HEDGED_WITHIN_S
        session, twins = life.dispatcher.sessions[house.name], self._twins[house.name]
        self.world.later(wait_s, self._must_have_a_twin, life, house, session, strike, twins, self.world.ns)

    def _must_have_a_twin(
        self, life: Life, house: House, session: AccountSession, strike: tuple[int, int], twins: int, sent_ns: int
    ) -> None:
        if not life.alive or life.dispatcher.sessions.get(house.name) is not session:
            return
        striking = life.dispatcher.state.accounts[house.name].phase is Phase.STRIKING
        silent = house.heard_ns < sent_ns and striking and self._strike_of(life, house) == strike
        waits = house.kind == "crosstrade" and self._rate_refused_ns.get(house.name, 0) > sent_ns  # for a token
        if silent and not waits and self._twins[house.name] == twins:
            self.wrong(f"{house.name}: a frame that cancels has no answer, and goes out by no second route")

    def _patience_s(self, life: Life, house: House, first_s: float) -> float:
        """Return how long a command may wait for its second route: up to 5 s for a slow answer.

        A later strike does so, and one of many commands.
        """
        sweep = life.dispatcher.state.accounts[house.name].sweep
        is_later = (sweep is not None and sweep.strikes > 1 and house.kind != "crosstrade") or house.cancels_by_symbol
        return max(first_s, LATER_PATIENCE_S) if is_later else first_s

    def _strike_of(self, life: Life, house: House) -> tuple[int, int]:
        """Return what tells an account's latest strike from all others; of an armed one, it is none."""
        sweep = life.dispatcher.state.accounts[house.name].sweep
        return (0, 0) if sweep is None else (sweep.began_ns, sweep.strikes)

    def refused_for_rate(self, house: House, what: str) -> None:
        self.world.note(house.name, "refused for its rate:", what)
        self._rate_refused_ns[house.name] = self.world.ns
        crashed = self.world.ns - self._died_ns < house.loop_s * 1e9
        if house.kind in UNSTATED or crashed:
            self.told_to_wait += 1
        else:
            self.wrong(f"{house.name}: {what} was refused for its rate")

    # after each step

    def look(self, life: Life) -> None:
        """Compare the product's state with what may be, and its claims with the books."""
        for name, account in life.dispatcher.state.accounts.items():
            if account.sweep is not None:
                self._count_reads(name, life.dispatcher.sessions[name], account.timing.read_gap_s)
            sweep = account.sweep
            phase = account.phase
            before = self.phases.get(name)
            if phase is not before:
                self._changed(name, before, phase)
            if sweep is not None and phase is Phase.CLEAR:
                is_news = sweep.last_proof_ns != self._proved.get(name) or before is not Phase.CLEAR
                if is_news and name not in life.going_over:  # a crash within a reload: nothing is said of the new login
                    self._proved[name] = sweep.last_proof_ns
                    self._claims(name, sweep.last_proof_ns)
                pace = sweep.timing
                blind_s = 3 * pace.guard_every_s + 2 * max(pace.read_within_s, 2 * self._took_s[name]) + SLACK_S
                if life.alive and life.world.mono_ns - max(sweep.last_proof_ns, sweep.began_ns) > blind_s * 1e9:
                    self.wrong(f"{name} is CLEAR without a clean read for more than {blind_s:g} s")

    def _changed(self, name: str, before: Phase | None, phase: Phase) -> None:
        self.world.note(name, before, "->", phase)
        self.phases[name] = phase
        if phase in (Phase.ARMED, Phase.CLEAR):
            self._unclear_ns.pop(name, None)
        else:
            self._unclear_ns.setdefault(name, self.world.ns)
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

    def _count_reads(self, name: str, session: AccountSession, gap_s: float) -> None:
        """Count the clean reads in a row that were asked for after the last command left, the gap apart."""
        read = session.status.last_read
        if read is None or read is self._read.get(name):
            return
        self._read[name] = read
        self._took_s[name] = max(self._took_s[name], (self.world.mono_ns - read.asked_ns) / 1e9)
        if read.asked_ns < self._commanded_ns.get(name, 0):
            return
        if any(order.state is not Left.GONE for order in read.orders):
            if read.asked_ns >= self._clean_ns.get(name, 0):  # else it is older than the clean one, and was late
                self._clean[name] = 0
        elif read.complete and (not self._clean[name] or read.asked_ns - self._clean_ns[name] >= int(gap_s * 1e9)):
            self._clean[name] += 1
            self._clean_ns[name] = read.asked_ns

    def _claims(self, name: str, proved_ns: int) -> None:
        if not proved_ns:
            return  # the guard of a new process, which claims nothing yet: its first read is due at once
        house = self.houses[name]
        # lists that lag show what rested before the last command, and whatever rests for longer than they lag
        seen_ns = proved_ns - house.lag_ns
        if name in self._commanded_ns:  # a new process has sent none, and its clock may have begun with the boot
            seen_ns = max(seen_ns, min(self._commanded_ns[name], proved_ns))
        old = house.book.older_than(seen_ns + self.world.booted_ns)
        # out of sight for the one list between two snapshots: the venue tells nobody, and the next list shows it
        if old and self.world.ns - house.sight_ns > SIGHT_NS:
            self.wrong(f"{name} is CLEAR, and {len(old)} orders rest that did before it was read: {old[:2]}")

    # other logins in a process that lives

    def reload_judged(self, houses: Mapping[str, House], problems: Sequence[str]) -> None:
        """See whether a reload is granted, or refused, rightly; it is granted if there are no problems."""
        self.world.note("reload", *(f"{name}={house.host}" for name, house in houses.items()), *problems)
        self._before_reload = phases = dict(self.phases)
        if problems:
            self.stays += 1
            if all(phase is Phase.ARMED for phase in phases.values()):
                self.wrong(f"every account is ARMED, and a reload is refused: {problems}")
            return
        for name, was in self.houses.items():
            house, phase = houses[name], phases[name]
            if phase is Phase.ARMED or house is was:
                continue
            if phase in (Phase.STRIKING, Phase.CONFIRMING):
                self.wrong(f"{name} is {phase}, and a reload has it log in as another one")
            if (house.kind, house.host) != (was.kind, was.host) and house not in self._under[name]:
                self.wrong(f"{name} is {phase} at {was.host}, and a reload moves it to {house.host}")
            if was in houses.values():
                self.wrong(f"{name} is {phase}, and a reload gives its login to another account")

    def switched(self, before: Mapping[str, House]) -> None:
        """Hear that names stand for others from now on: what was proven of one login is proven of no other."""
        changed = {name for name, house in self.houses.items() if before[name] is not house}
        self.switches += len(changed)
        for known in (self._proved, self._read, self._clean, self._clean_ns, self._commanded_ns, self._strike):
            for name in changed:
                known.pop(name, None)
        self._strikes = {key: strike for key, strike in self._strikes.items() if key[0] not in changed}
        for name in changed:
            if self.phases[name] is not Phase.ARMED:
                self._switched_ns[name] = self.world.ns
                struck = [*self._under[name], before[name]]
                if self.phases[name] is Phase.CLEAR:  # else it is owed
                    struck = [house for house in struck if house is not before[name]]
                self._under[name] = [*(house for house in struck if house is not self.houses[name]), self.houses[name]]
        if changed & self.scoped:  # a latch may come to light under the other's name, if the power goes
            self.scoped |= changed
        self._had.update(self.houses)

    def reloaded(self, life: Life) -> None:
        """See what a reload has left of the proofs and the latches that there were."""
        for name, account in life.dispatcher.state.accounts.items():
            before = self._before_reload[name]
            if (account.phase is Phase.ARMED) != (before is Phase.ARMED):
                self.wrong(f"{name} was {before}, and is {account.phase} after a reload")
            if account.phase is Phase.CLEAR and name not in self._proved:
                self.wrong(f"{name} logs in as another one, and is CLEAR by what that one has never shown")
        self.look(life)

    # another file

    def nothing_is_between(self) -> bool:
        """Say whether all that was reported and granted is in the journal, under the names of now."""
        return not (self.latches or self.filed or self._maybe_scoped or self._maybe_granted or self._all_must_trip)

    def edited(self) -> None:
        """Hear that the accounts have other names now, or are others: a promise is to the account that was struck."""
        names = {house: name for name, house in self.houses.items()}
        promised, under = {}, defaultdict(list)
        self._renamed = set(self.houses) - set(self._under)
        # an account that a reason has named is named under its new name too, though its re-arm may be lost
        self.scoped |= {names[house] for name, house in self._had.items() if name in self.scoped and house in names}
        self._exchanged |= {name for name, house in self.houses.items() if self._had.get(name, house) is not house}
        self._had.update(self.houses)
        for name, houses in self._under.items():
            kept = name in self.houses and name in self._labels
            now = names.get(houses[-1], name if kept else None)
            at_ns = self._switched_ns.get(name)
            if now is not None and now != name and at_ns is not None:
                self._unmarked |= {now} if self.world.ns - at_ns < RECORDED_WITHIN_S * 1e9 else set()
            if now is not None and now != name and self.promised.get(name) == math.inf:
                self._unmarked.add(now)  # only the intent has its latch, and that has the name alone
            if now is not None and name in self.promised:
                # under another name only the record of its login tells whose the latch is, and the disk may lack that
                promised[now] = math.inf if now != name and self._is_login_unsynced(name) else self.promised[name]
                if self.promised[name] != math.inf:
                    under[now] = houses  # else no record has the login that was struck
        self.promised, self._under = promised, under
        self.scoped |= set(promised) | {name for name, house in self.houses.items() if house in self._resumed_as}

    def _is_login_unsynced(self, name: str) -> bool:
        """Say whether the disk may lack the record of the login that a reload has given to a latched account."""
        at_ns, disk = self._switched_ns.get(name), self.world.disk
        late = at_ns is not None and self.world.ns - at_ns >= SYNC_WITHIN_S * 1e9 and disk.well_for(SYNC_WITHIN_S)
        return at_ns is not None and not late

    # death and return

    def died(self, life: Life, cut: bool) -> None:
        self.world.note("POWER CUT" if cut else "KILLED")
        self.silences.died()
        self._died_ns = self.world.ns
        self._unwritten = not cut and math.inf in life.journal.latched
        if self.world.ns - self._displaced_ns < LOOKED_WITHIN_NS:  # nobody has looked since all files were removed
            self.promised, self._all_must_trip = {}, False
        told = not cut and self.world.disk.well_for(RECORDED_WITHIN_S) and not self.world.disk.displaced
        late_ns = self.world.ns - int(RECORDED_WITHIN_S * 1e9)
        self._not_clear = {self.houses[name] for name, ns in self._unclear_ns.items() if told and ns < late_ns}
        if cut:
            for name in [name for name, needs in self.promised.items() if needs]:
                del self.promised[name]  # it was not on the disk yet

    def displaced(self) -> None:
        """Hear that the journal was taken away: all that it had is lost, and the next start is to trip for that."""
        self.distrusted = self.damaged = self._all_must_trip = self._set_aside = self.filed = True
        self._displaced_ns = self.world.ns
        self.silences.displaced()
        self.promised = dict.fromkeys(self.promised, math.inf)
        self.scoped.update(self.houses)

    def rebooted(self, damaged: bool, file: bytes | None) -> None:
        """Hear what the machine's death has left: a journal with a gap, perhaps, and this latch file."""
        self.damaged = self.damaged or damaged
        self.filed = file is not None
        left = () if file is None else named(file, self.houses)
        self.latches = [name for name in self.latches if name in left]

    def opening(self, intent: Path) -> None:
        """See what a new process will find: a report that was cut short has left an intent, which becomes a latch."""
        if (self._maybe_scoped or self._unwritten) and intent.exists() and intent.stat().st_size:
            self.filed = True

    def opened(self, replay: journal.JournalContents) -> None:
        """Hear what a new process has found: a journal that is cut off in a reason, or gone, may trip by itself."""
        self.distrusted = self.distrusted or replay.latch_torn or not replay.entries or self.damaged
        self._had.update(self.houses)
        if self.distrusted:  # who was struck was in the journal alone: latch files have names
            self._under.clear()
        gone = not replay.entries and self.world.disk.marked
        self._all_must_trip = self._all_must_trip or replay.latch_torn or replay.broken is not None or gone
        self.filed = self.filed or self._all_must_trip  # the journal leaves one before it touches anything

    def started(self, life: Life) -> None:
        """See whether a new process has every latch that is on record, and no other."""
        self._life, replay = life, life.journal.contents
        self._began_ns = self.world.ns
        base = self.world.disk.forget_base()
        self.promised = {name: max(0, needs - base) for name, needs in self.promised.items()}
        if replay.broken and not self.damaged:
            self.wrong(f"the journal is broken: {replay.broken}")
        tripped = set(life.dispatcher.state.tripped)
        # a damaged journal was set aside, and what is believed of it is all that there is
        recorded = self._now_called(believed(replay.entries) if replay.broken else struck(whole(life.journal.path)))
        lines = replay.entries if replay.broken else whole(life.journal.path)
        self.silences.started(lines, is_whole=not replay.broken)
        for entry in () if replay.broken else lines:
            if entry["kind"] not in ("start", "reload", "rearm-asked") and (
                strange := what_is_wrong(entry)
            ):  # those are the story's
                self.wrong(strange)
        self.world.note("starts with", *sorted(tripped))
        if tripped != recorded:
            self.wrong(f"the journal has {sorted(recorded)} tripped, the new process {sorted(tripped)}")
        self._unlisted = set(self.promised) - recorded - self._maybe_granted
        if tripped - self.scoped:
            self.wrong(f"{sorted(tripped - self.scoped)} tripped, and no reason ever named them")
        states = life.dispatcher.state.accounts
        if clear := [n for n in tripped if self.houses[n] in self._not_clear and states[n].phase is Phase.CLEAR]:
            self.wrong(f"{clear} were not clear, and the new process takes them for clear")
        self._not_clear = set()
        self._unclear_ns = {name: self.world.ns for name in tripped if states[name].phase is not Phase.CLEAR}
        for name in set(self.promised) & self._maybe_granted - tripped:
            del self.promised[name]
        self._resumed = False
        self._set_aside = self._set_aside or replay.broken is not None
        if replay.broken is None:  # else a latch file has everything until the new one does
            for name in tripped:
                self.promised[name] = min(self.promised.get(name, math.inf), replay.size)
            life.journal.started()
            self.world.later(SYNC_WITHIN_S, self._must_be_synced, life, len(life.journal.latched) - 1)
        self._maybe_granted, self._maybe_scoped, self._granted = set(), set(), set()
        self.phases = {name: account.phase for name, account in life.dispatcher.state.accounts.items()}
        for known in (self._proved, self._read, self._clean, self._clean_ns, self._commanded_ns):
            known.clear()
        self._strike.clear()
        self._strikes.clear()

    def resumed(self, life: Life) -> None:
        """Hear that a new process has taken over all that was left for it."""
        self.distrusted = self.damaged = False
        armed = {name for name, account in life.dispatcher.state.accounts.items() if account.sweep is None}
        if self._all_must_trip and armed:
            self.wrong(f"the journal cannot be believed, and {sorted(armed)} are armed")
        self._all_must_trip, self._resumed = False, True
        self._labels = set(life.dispatcher.state.tripped)
        self._resumed_as |= {self.houses[name] for name in self._labels}
        for name in set(self._under) - self._labels:  # it has no latch, rightly or not: that is judged below
            del self._under[name]
        for name in self._labels & set(self._under):  # the start's record says who has the latch from now on
            if self._under[name][-1] is not self.houses[name]:
                self._under[name].append(self.houses[name])
                self._switched_ns[name] = self.world.ns
        lost = self._unlisted - set(life.dispatcher.state.tripped)
        # a latch file, and an intent, have the names of the accounts alone; a login that is on no record tells nothing
        for name in lost & (self._renamed | self._unmarked):
            del self.promised[name]
        if lost := lost - self._renamed - self._unmarked:
            self.wrong(f"the latch of {sorted(lost)} is lost")
        self._renamed, self._unmarked = set(), set()
        if self.latches:
            self.wrong(f"the latch file for {self.latches} was not found at the start")

    def _now_called(self, tripped: Mapping[str, Mark]) -> set[str]:
        """Call who is tripped, each with a mark, by their names of now: their marks tell who they are."""
        marks = {house.mark: name for name, house in self.houses.items()}
        names = set()
        for name, mark in tripped.items():
            if mark == (self.houses[name].mark if name in self.houses else None):
                names.add(name)
            else:
                names.add(marks.get(mark, name))
        return names & set(self.houses)

    # the end

    def settled(self, life: Life) -> bool:
        """Say whether everything that was promised is done."""
        accounts = life.dispatcher.state.accounts
        return not self.latches and all(
            accounts[name].phase is Phase.CLEAR and not self.houses[name].book for name in self.promised
        )

    def unsettled(self, life: Life, within_s: float) -> None:
        for name in self.promised:
            phase, left = life.dispatcher.state.accounts[name].phase, len(self.houses[name].book)
            if phase is not Phase.CLEAR or left:
                self.wrong(f"{name} is {phase} with {left} orders, {within_s:g} s after the last fault")
        if self.latches:
            self.wrong("a latch file was never taken over")

    def end(self, life: Life, path: Path) -> None:
        """Compare the record with what has been."""
        life.journal.all()
        self.look(life)
        if self.world.disk.has_files() and not life.journal.sync_trouble:
            self.wrong("a latch file stands, and the journal has all that it says")
        try:
            entries = whole(path)
        except JournalBroken as broken:
            self.wrong(f"the journal does not verify: {broken}")
            return
        states = life.dispatcher.state.accounts
        tripped = {name for name, account in states.items() if account.phase is not Phase.ARMED}
        if (recorded := set(struck(entries)) & set(states)) != tripped:
            self.wrong(f"the journal has {sorted(recorded)} tripped, the engine {sorted(tripped)}")
        if tripped - self.scoped:
            self.wrong(f"{sorted(tripped - self.scoped)} tripped, and no reason ever named them")
        if set(self.promised) - tripped:
            self.wrong(f"{sorted(set(self.promised) - tripped)} should be tripped")
        begun = segments.read_at_start(path).entries  # what a start reads
        recovered = recovery.rebuild(begun, {name: SweepTiming() for name in states})
        if recovered != recovery.rebuild(entries, {name: SweepTiming() for name in states}):
            self.wrong("the last file of the journal says other things than all of them")
        for name, account in states.items():
            if (account.phase is Phase.CLEAR) != (recovered.accounts[name].phase is Phase.CLEAR):
                self.wrong(f"{name} is {account.phase}, and would be {recovered.accounts[name].phase} after a restart")
        phases = {name: account.phase for name, account in states.items()}
        for known in (entries, begun):
            self._reports(life, ReportBuilder(life.reports.budget_us, known), phases)

    def _reports(self, life: Life, folded: ReportBuilder, phases: Mapping[str, Phase]) -> None:
        for kill in folded.kill_ids():
            if folded.render(kill) != life.reports.render(kill) and not self._set_aside:
                self.wrong(f"the report of {kill} is another one when it is read from the journal")
        latest: dict[str, Mapping[str, Any]] = {}
        for kill in folded.kill_ids():
            report: Any = folded.render(kill)
            latest.update(report["accounts"])
        for name, told in latest.items():
            if name not in phases or name in self._exchanged:
                continue  # it has another name now, and another account may have this one
            if phases[name] is Phase.ARMED:
                if self._set_aside:  # which strikes were before, nobody knows: one that left late is taken for another
                    continue
                if told["state"] not in (Phase.CLEAR, Phase.RESIDUE):  # the kill's last state stays
                    self.wrong(f"the report has {name} {told['state']}, and it was re-armed")
            elif told["state"] != phases[name]:
                self.wrong(f"the report has {name} {told['state']}, and it is {phases[name]}")
            if phases[name] is Phase.CLEAR and told["verdict"] != "CONFIRMED":
                self.wrong(f"the report has the clear {name} {told['verdict']}")
            if phases[name] not in (Phase.CLEAR, Phase.ARMED) and told["verdict"] == "CONFIRMED":
                self.wrong(f"the report has {name} CONFIRMED, and it is {phases[name]}")


def named(content: bytes, everyone: Iterable[str]) -> set[str]:
    """Return the accounts that a latch file trips: those that its lines name, or everyone."""
    names: set[str] = set()
    for line in content.split(b"\n")[: -1 if content.endswith(b"\n") else None]:
        try:
            names.update(orjson.loads(line)["accounts"])
        except (ValueError, LookupError, TypeError):
            return set(everyone)
    return names & set(everyone) or set(everyone)


def whole(path: Path) -> list[Mapping[str, Any]]:
    """Return the entries of all files, without checkpoints; raises `JournalBroken`.

    A file without a record is one that a start has just begun, behind one that it has set aside.
    """
    entries: list[Mapping[str, Any]] = []
    try:
        entries.extend(entry for entry in segments.JournalReader(path).entries() if entry["kind"] != checkpoint.KIND)
    except JournalBroken:
        if path.stat().st_size:
            raise
    return entries


def believed(entries: Iterable[Mapping[str, Any]]) -> dict[str, Mark]:
    """Return who is tripped by a start's own reading, by name, and the mark of each."""
    found = recovery.tripped_unconfigured(entries, {})
    return {name: _mark(ones[-1] if ones else {}) for name, ones in found.items()}


def struck(entries: Iterable[Mapping[str, Any]]) -> dict[str, Mark]:
    """Count from the journal's lines who is tripped, by name, and the mark of each."""
    marks: dict[str, Mark] = {}
    for entry in entries:
        kind, data = entry["kind"], entry["data"]
        if kind in ("reason", "latch"):
            identities = data.get("identities", {})
            marks.update({name: _mark(identities.get(name, {})) for name in data["accounts"]})
        elif kind == "rearm":
            marks = {name: mark for name, mark in marks.items() if name not in data["accounts"]}
        elif kind in ("resume", "identity"):
            marks = {data["moved"].get(name, name): mark for name, mark in marks.items()}
            marks.update({name: _mark(ones[-1]) for name, ones in data["identities"].items()})
    return marks


def _mark(identity: Mapping[str, Any]) -> Mark:
    return identity.get("host", ""), identity.get("key", "")
