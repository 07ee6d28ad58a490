"""Whatever happens, in whatever order: the latch holds, CLEAR is proven, nobody is forgotten, the record is enough.

Two machines. The first lets anything happen at any time, an adversary's choice. The second is a venue of flesh and
blood, with faults that end: after that every account must come to its proof within a bound.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kill_switch.core import engine, sweep
from kill_switch.core.commands import (
    AppendRecord,
    ReadOrders,
    RearmGranted,
    RearmPending,
    RearmRefused,
    StrikeAccounts,
    WakeAt,
)
from kill_switch.core.domain import CancelOutcome, Instant, Phase, Reason, SweepTiming
from kill_switch.core.events import (
    Event,
    Progress,
    RearmAsked,
    ReasonReported,
    Reconfigured,
    Recovered,
    StrikeSent,
    StrikesSent,
)
from kill_switch.core.recovery import rebuild
from kill_switch.core.state import AccountState, State
from kill_switch.journal.kill_report import ReportBuilder
from tests.harness.core_playbook import START, TIMING, Run

ACCOUNTS = ("a", "b", "c")
PACES = {"a": TIMING, "b": SweepTiming(clean_reads=1, strike_gap_s=0.1), "c": SweepTiming(clean_reads=3, gap_cap_s=2.0)}
LIMITS = settings(deadline=None, derandomize=True, database=None)

accounts = st.sampled_from(ACCOUNTS)
scopes = st.lists(accounts, min_size=1, max_size=3, unique=True).map(tuple)
moments = st.sampled_from([0, 1, 40, 100, 250, 500, 1000, 2500, 11_000])


@dataclass
class Model:
    """What is known of one account without the engine: what has been sent, seen and asked."""

    struck_ns: int = -(10**18)
    late_ns: int = -(10**18)  # a second copy of the strike, sent later
    seen_ns: int = -(10**18)  # the last time that anything showed an order
    asked: list[int] = field(default_factory=list)  # reads that are on their way
    clean: int = 0  # clean, complete reads since the last strike and the last order, asked for after both
    wake_ns: int | None = None


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Let anything happen; check each command, and the state after it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = START.mono_ns
        accounts = {name: AccountState(pace, identity=self.login(name, 1)) for name, pace in PACES.items()}
        self.run = Run(State(accounts, approvals_needed=2))
        self.logins = dict.fromkeys(ACCOUNTS, 1)  # by name: the number of its login
        self.unproven: dict[str, set[int]] = {name: set() for name in ACCOUNTS}  # logins that were struck under a name
        self.models = {name: Model() for name in ACCOUNTS}
        self.tripped: set[str] = set()
        self.approved: dict[int, set[str]] = {}

    @staticmethod
    def login(name: str, number: int) -> dict[str, object]:
        names = ("venue", "host", "ws_host", "key", "salt")
        return {**dict.fromkeys(names, f"{name}{number}"), "scope": {}}

    # ── what may happen ──

    @rule(ms=moments)
    def time_passes(self, ms: int) -> None:
        self.now_ns += ms * 1_000_000

    @rule(scope=scopes)
    def a_trigger_fires(self, scope: tuple[str, ...]) -> None:
        self.tripped.update(scope)
        self.approved.clear()
        self.happens(ReasonReported(Reason("panic", "touched", scope, self.now()), self.now()), free_to_strike=True)

    @rule(name=accounts, answer=st.sampled_from(CancelOutcome))
    def an_answer_comes(self, name: str, answer: CancelOutcome) -> None:
        self.happens(Progress(name, sweep.StrikeAnswered(self.now_ns, answer), self.now()))

    @precondition(lambda self: any(model.asked for model in self.models.values()))
    @rule(data=st.data(), live=st.sampled_from([0, 0, 0, 1, 3]), pending=st.sampled_from([0, 0, 0, 1]))
    def a_read_comes(self, data: st.DataObject, live: int, pending: int) -> None:
        self._read(data, live, pending, complete=True)

    @precondition(lambda self: any(model.asked for model in self.models.values()))
    @rule(data=st.data(), live=st.sampled_from([0, 0, 1]))
    def a_read_fails(self, data: st.DataObject, live: int) -> None:
        self._read(data, live, 0, complete=False)

    def _read(self, data: st.DataObject, live: int, pending: int, complete: bool) -> None:
        name = data.draw(st.sampled_from([name for name in ACCOUNTS if self.models[name].asked]))
        model = self.models[name]
        asked_ns = model.asked.pop(data.draw(st.integers(0, len(model.asked) - 1)))  # in any order
        fresh = asked_ns >= max(model.struck_ns, model.late_ns, model.seen_ns)
        if fresh and (live or (pending and complete)):
            model.seen_ns = self.now_ns
        if fresh:
            model.clean = model.clean + 1 if complete and not live and not pending else 0
        self.happens(Progress(name, sweep.ReadCounted(self.now_ns, asked_ns, live, pending, complete), self.now()))

    @rule(name=accounts)
    def an_order_is_pushed(self, name: str) -> None:
        self.models[name].seen_ns = self.now_ns
        self.models[name].clean = 0
        self.happens(Progress(name, sweep.OrderAppeared(self.now_ns), self.now()))

    @precondition(lambda self: any(model.wake_ns is not None for model in self.models.values()))
    @rule(data=st.data())
    def a_timer_goes_off(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in ACCOUNTS if self.models[name].wake_ns is not None]))
        wake_ns = self.models[name].wake_ns
        assert wake_ns is not None
        self.now_ns = max(self.now_ns, wake_ns)
        self.models[name].wake_ns = None
        self.happens(Progress(name, sweep.SweepTimerFired(self.now_ns), self.now()))

    @rule(name=accounts)
    def a_timer_goes_off_too_early(self, name: str) -> None:
        wake_ns = self.models[name].wake_ns
        if wake_ns is not None and self.now_ns < wake_ns:
            self.happens(Progress(name, sweep.SweepTimerFired(self.now_ns), self.now()))

    @rule(name=accounts)
    def a_hedge_leaves(self, name: str) -> None:
        at_sweep = self.run.state.accounts[name].sweep
        if at_sweep is not None and at_sweep.strikes:
            model = self.models[name]
            if at_sweep.phase is not Phase.CLEAR and self.now_ns > at_sweep.struck_ns + engine._ONE_PASS_NS:
                model.late_ns, model.clean = self.now_ns, 0
            self.happens(StrikesSent((StrikeSent(name, at_sweep.strikes, ("fresh",), self.now_ns),), self.now()))

    @rule(uid=st.integers(1, 3), scope=scopes, force=st.booleans(), blocked=st.sampled_from([False] * 4 + [True]))
    def a_person_re_arms(self, uid: int, scope: tuple[str, ...], force: bool, blocked: bool) -> None:
        before = self.run.state
        phases = {name: before.accounts[name].phase for name in scope if name in self.tripped}
        holds = bool(phases) and not blocked and all(
            phase is Phase.CLEAR or (phase is Phase.RESIDUE and force) for phase in phases.values()
        )  # fmt: skip
        if any(self.unproven[name] for name in phases) and not force:
            holds = False
        if holds:
            self.approved.setdefault(uid, set()).update(phases)
        agreed = sum(approved.issuperset(phases) for approved in self.approved.values())
        self.happens(RearmAsked(uid, "user", "well", scope, force, ("it is there",) if blocked else (), self.now()))
        (verdict,) = [c for c in self.run.commands if isinstance(c, RearmGranted | RearmPending | RearmRefused)]
        if not holds:
            assert isinstance(verdict, RearmRefused)
            assert verdict.reasons
            assert self.run.state == before
        elif agreed < 2:
            assert verdict == RearmPending(agreed, 2)
        else:
            assert isinstance(verdict, RearmGranted)
            assert set(verdict.accounts) == set(phases)
            self.tripped.difference_update(phases)
            self.approved.clear()
            for name in phases:
                self.models[name] = Model(asked=self.models[name].asked)
                self.unproven[name].clear()

    @rule(name=accounts, number=st.integers(1, 3))
    def an_account_logs_in_as_somebody_else(self, name: str, number: int) -> None:
        account = self.run.state.accounts[name]
        if number == self.logins[name] or account.phase in (Phase.STRIKING, Phase.CONFIRMING):
            return  # which a reload refuses
        if account.phase is Phase.RESIDUE:
            self.unproven[name].add(self.logins[name])
        self.unproven[name].discard(number)
        before, self.logins[name] = self.logins[name], number
        new = self.login(name, number)
        owed = {}
        if account.sweep is not None:
            struck = (
                *account.unproven_identities,
                *((self.login(name, before),) if account.phase is Phase.RESIDUE else ()),
            )
            owed = {name: tuple(one for one in struck if one != new)}
        self.approved.clear()
        self.run.entries.append({"kind": "reload", "data": {"change": "of a login"}})
        self.happens(
            Reconfigured(PACES, frozenset((name,)), 2, self.now(), {name: new}, owed), free_to_strike=bool(owed)
        )
        assert self.run.state.accounts[name].phase is not Phase.CLEAR, "the proof was of another"

    @rule()
    def the_process_is_killed_and_starts_again(self) -> None:
        self.run.state = rebuild(self.run.entries, PACES, approvals_needed=2)
        for model in self.models.values():
            model.asked.clear()
            model.wake_ns = None
            model.struck_ns = -(10**18)
        self.happens(Recovered(self.now()), free_to_strike=True)

    # ── what must follow ──

    def now(self) -> Instant:
        return Instant(self.now_ns, START.wall_ns + self.now_ns - START.mono_ns)

    def happens(self, event: Event, free_to_strike: bool = False) -> None:
        before = self.run.state
        self.run(event)
        latched = False
        for command in self.run.commands:
            match command:
                case AppendRecord(kind, _, latch):
                    latched = latched or latch or kind == "resume"
                case StrikeAccounts(struck):
                    assert latched or not free_to_strike, "the latch is written first"
                    for name, number in struck:
                        self.struck(name, number, free_to_strike, before)
                case ReadOrders(name):
                    self.models[name].asked.append(self.now_ns)
                case WakeAt(name, at_ns):
                    self.models[name].wake_ns = at_ns
                case _:
                    pass
        for name in ACCOUNTS:
            old, new = before.accounts[name].phase, self.run.state.accounts[name].phase
            if new is Phase.CLEAR and old is not Phase.CLEAR:
                assert self.models[name].clean >= PACES[name].clean_reads, "CLEAR is proven by reads that count"
            if new is Phase.ARMED and old is not Phase.ARMED:
                assert isinstance(event, RearmAsked)

    def struck(self, name: str, number: int, free: bool, before: State) -> None:
        model = self.models[name]
        assert name in self.tripped, "only what is tripped is struck"
        gap_ns = self.now_ns - model.struck_ns
        assert free or gap_ns >= PACES[name].strike_gap_s * 1e9, "strikes keep their distance"
        old = before.accounts[name].sweep
        assert number == (1 if old is None else old.strikes + 1)
        model.struck_ns = self.now_ns
        model.clean = 0

    @invariant()
    def the_latch_holds(self) -> None:
        assert set(self.run.state.tripped) == self.tripped

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Every tripped account has an appointment, and it is the one that its sweep waits for."""
        for name in self.tripped:
            at_sweep = self.run.state.accounts[name].sweep
            assert at_sweep is not None
            assert self.models[name].wake_ns == at_sweep.due_ns

    @invariant()
    def the_kill_is_over_exactly_when_its_accounts_are_clear(self) -> None:
        state = self.run.state
        if state.kill is not None:
            under_way = (Phase.STRIKING, Phase.CONFIRMING, Phase.RESIDUE)
            its_own = {name for name, account in state.accounts.items() if account.kill == state.kill.id}
            assert state.kill.unclear == {name for name in its_own if state.accounts[name].phase in under_way}

    @invariant()
    def the_record_gives_the_state_back(self) -> None:
        state = rebuild(self.run.entries, PACES, approvals_needed=2)
        live = self.run.state
        assert state.tripped == live.tripped
        assert (state.kill, state.kill_count, state.approvals) == (live.kill, live.kill_count, live.approvals)
        for name in live.tripped:
            old, new = live.accounts[name], state.accounts[name]
            assert old.sweep is not None
            assert new.sweep is not None
            assert (new.kill, new.sweep.strikes) == (old.kill, old.sweep.strikes)
            assert (new.phase is Phase.CLEAR) == (old.phase is Phase.CLEAR)
            assert (new.identity, new.unproven_identities) == (old.identity, old.unproven_identities)
            assert {identity["key"] for identity in new.unproven_identities} == {
                f"{name}{number}" for number in self.unproven[name]
            }

    @invariant()
    def the_report_claims_no_more_than_is_proven(self) -> None:
        reports = ReportBuilder(250_000, self.run.entries)
        state = self.run.state
        for name, account in state.accounts.items():
            if account.kill is None or account.phase is Phase.ARMED:
                continue
            report: Any = reports.render(account.kill)
            told = report["accounts"][name]
            assert (told["verdict"] == "CONFIRMED") == (account.phase is Phase.CLEAR)
            assert (told["state"] == "CLEAR") == (account.phase is Phase.CLEAR)


TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
TestAnyOrderOfEvents.settings = settings(LIMITS, max_examples=60, stateful_step_count=40)


# ── a venue whose faults end ──────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Faults:
    """What a venue does wrong until `end_ms`."""

    end_ms: int = 0
    lost_strikes: int = 0  # never arrive
    lost_answers: int = 0  # strikes that do their work, and say nothing
    kept: int = 0  # strikes that are accepted and do nothing
    lost_reads: int = 0
    failed_reads: int = 0
    pending_ms: int = 0  # a cancelled order shows as pending for so long
    requotes: int = 0  # orders that a bot places after a strike
    latency_ms: int = 5
    answer_ms: int = 0  # by so much longer an answer takes than what it answers, and always
    never_answers: bool = False  # not even afterwards: strikes do their work, reads are answered


class Floor:
    """One account and its venue in virtual time."""

    def __init__(self, pace: SweepTiming, faults: Faults) -> None:
        self.faults = faults
        self.run = Run(State({"a": AccountState(pace)}))
        self.now_ns = START.mono_ns
        self.orders = 3
        self.pending_until_ns = 0
        self.strikes: list[int] = []
        self.reads: list[int] = []
        self.quick = 0  # answers that are not late
        self.proofs: list[int] = []
        self.residues = 0
        self._queue: list[tuple[int, int, str, int]] = []
        self._numbers: Iterator[int] = itertools.count()
        self._wake_ns = 0
        self._shown: dict[int, sweep.ReadCounted] = {}  # lists on their way to us, by when they were asked for

    def now(self) -> Instant:
        return Instant(self.now_ns, START.wall_ns + self.now_ns - START.mono_ns)

    def later(self, ms: int, what: str, asked_ns: int = 0) -> None:
        heapq.heappush(self._queue, (self.now_ns + ms * 1_000_000, next(self._numbers), what, asked_ns))

    def handle(self, event: Event) -> None:
        self.run(event)
        for command in self.run.commands:
            match command:
                case StrikeAccounts():
                    self.strikes.append(self.now_ns)
                    self.later(self.faults.latency_ms, "strike")
                case ReadOrders():
                    self.reads.append(self.now_ns)
                    self.later(self.faults.latency_ms, "look", self.now_ns)
                case WakeAt(_, at_ns):
                    self._wake_ns = at_ns
                    heapq.heappush(self._queue, (at_ns, next(self._numbers), "wake", at_ns))
                case AppendRecord("clear"):
                    assert not self.orders, "proven clear, and an order rests"
                    self.proofs.append(self.now_ns)
                case AppendRecord("residue"):
                    self.residues += 1
                case _:
                    pass

    def take(self, fault: str) -> bool:
        """Say whether this fault happens now, and use it up."""
        left: int = getattr(self.faults, fault)
        if left <= 0 or self.now_ns > START.mono_ns + self.faults.end_ms * 1_000_000:
            return False
        setattr(self.faults, fault, left - 1)
        return True

    def play(self, until_ms: int) -> None:
        self.handle(ReasonReported(Reason("panic", "touched", ("a",), self.now()), self.now()))
        while self._queue[0][0] <= START.mono_ns + until_ms * 1_000_000:
            self.now_ns, _, what, asked_ns = heapq.heappop(self._queue)
            if what == "wake" and asked_ns == self._wake_ns:
                self.handle(Progress("a", sweep.SweepTimerFired(self.now_ns), self.now()))
            elif what == "strike" and not self.take("lost_strikes"):
                self._strike()
            elif what == "answer":
                self.handle(Progress("a", sweep.StrikeAnswered(self.now_ns, CancelOutcome.ACCEPTED), self.now()))
            elif what == "look" and not self.take("lost_reads"):
                self._look(asked_ns)
            elif what == "shown":
                self.handle(Progress("a", self._shown.pop(asked_ns)._replace(at_ns=self.now_ns), self.now()))
            elif what == "requote":
                self.orders += 1

    def _strike(self) -> None:
        if self.orders and not self.take("kept"):
            self.orders = 0
            self.pending_until_ns = self.now_ns + self.faults.pending_ms * 1_000_000
        if self.take("requotes"):
            self.later(10, "requote")
        if not self.faults.never_answers and not self.take("lost_answers"):
            self.later(self._answers_ms(1), "answer")

    def _answers_ms(self, ms: int) -> int:
        self.quick -= 1
        return ms if self.quick >= 0 else ms + self.faults.answer_ms

    def _look(self, asked_ns: int) -> None:
        """Look at the book now, and show what is there when the answer comes."""
        complete = not self.take("failed_reads")
        pending = int(self.now_ns < self.pending_until_ns)
        self._shown[asked_ns] = sweep.ReadCounted(0, asked_ns, self.orders if complete else 0, pending, complete)
        self.later(self._answers_ms(0), "shown", asked_ns)


a_few = st.integers(0, 4)
faults_that_end = st.builds(
    Faults,
    end_ms=st.integers(0, 30_000),
    lost_strikes=a_few,
    lost_answers=a_few,
    kept=a_few,
    lost_reads=a_few,
    failed_reads=a_few,
    pending_ms=st.sampled_from([0, 0, 300, 900]),
    requotes=a_few,
    latency_ms=st.sampled_from([1, 5, 80, 900]),
    never_answers=st.booleans(),
)


@settings(LIMITS, max_examples=200)
@given(faults=faults_that_end, pace=st.sampled_from(list(PACES.values())))
def test_once_the_faults_have_ended_the_account_is_proven_clear_within_a_bound(
    faults: Faults, pace: SweepTiming
) -> None:
    floor = Floor(pace, faults)
    end_ms = faults.end_ms
    floor.play(end_ms + 40_000)
    state = floor.run.state.accounts["a"]
    assert state.phase is Phase.CLEAR
    assert floor.orders == 0
    first_ms = (floor.proofs[-1] - START.mono_ns) / 1e6
    assert first_ms <= end_ms + 20_000
    assert all(b - a >= pace.strike_gap_s * 1e9 for a, b in itertools.pairwise(floor.strikes))


@settings(LIMITS, max_examples=50)
@given(latency_ms=st.integers(1, 900), pace=st.sampled_from(list(PACES.values())), never_answers=st.booleans())
def test_a_venue_without_faults_is_struck_once(latency_ms: int, pace: SweepTiming, never_answers: bool) -> None:
    floor = Floor(pace, Faults(latency_ms=latency_ms, never_answers=never_answers))
    floor.play(20_000)
    assert len(floor.strikes) == len(floor.proofs) == 1
    assert floor.residues == 0


@settings(LIMITS, max_examples=150)
@given(
    latency_ms=st.integers(900, 14_000),
    pace=st.sampled_from(list(PACES.values())),
    never_answers=st.booleans(),
    quick_at_first=st.booleans(),
)
def test_a_venue_whose_every_answer_is_late_is_proven_clear_and_struck_only_while_nothing_comes_back(
    latency_ms: int, pace: SweepTiming, never_answers: bool, quick_at_first: bool
) -> None:
    floor = Floor(pace, Faults(latency_ms=2, answer_ms=latency_ms, never_answers=never_answers))
    floor.quick = 2 if quick_at_first else 0
    floor.play(200_000)
    silent_s = (2 if never_answers else 1) * (latency_ms / 1000 + pace.answer_within_s)
    most = 1 + silent_s / (pace.read_within_s + pace.answer_within_s)
    assert floor.run.state.accounts["a"].phase is Phase.CLEAR
    surprised = int(quick_at_first)  # a guard that knows short round trips only is blind once
    assert len(floor.proofs) <= 1 + surprised, "and it stays clear: a guard read that is late is late"
    assert len(floor.strikes) <= most * (1 + surprised)
    took_s = (floor.proofs[-1] - floor.strikes[-1]) / 1e9
    assert took_s <= (pace.clean_reads + 1) * (latency_ms / 1000 + pace.read_within_s)


@settings(LIMITS, max_examples=30)
@given(pace=st.sampled_from(list(PACES.values())), latency_ms=st.sampled_from([0, 5, 400]))
def test_an_account_in_residue_is_read_no_oftener_than_four_times_a_strike(pace: SweepTiming, latency_ms: int) -> None:
    floor = Floor(pace, Faults(end_ms=10**9, kept=10**9, latency_ms=latency_ms))
    floor.play(120_000)
    late_ns = START.mono_ns + 60_000_000_000
    reads, strikes = ([one for one in ones if one > late_ns] for ones in (floor.reads, floor.strikes))
    assert len(reads) <= 5 * (len(strikes) + 1)  # one behind the answer, and four


@settings(LIMITS, max_examples=30)
@given(pace=st.sampled_from(list(PACES.values())), latency_ms=st.sampled_from([1, 80]))
def test_a_venue_that_never_does_it_is_chased_for_ever_at_a_capped_gap(pace: SweepTiming, latency_ms: int) -> None:
    floor = Floor(pace, Faults(end_ms=10**9, kept=10**9, latency_ms=latency_ms))
    floor.play(120_000)
    assert floor.residues == 1
    assert floor.run.state.phase is Phase.RESIDUE
    gaps = [(b - a) / 1e9 for a, b in itertools.pairwise(floor.strikes)]
    assert max(gaps) <= pace.gap_cap_s + pace.answer_within_s + pace.read_gap_s
    assert gaps[-1] >= min(pace.gap_cap_s, 5.0) - 0.001
