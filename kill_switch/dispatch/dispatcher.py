"""Carry out what the engine commands: the one place where decisions meet lanes, timers and the journal.

There is no await in here. A reason's way is read from top to bottom: `fire`, `_send_early`, `handle`, `_step`,
`_carry_out`, `_strike`. From the reason to the last byte of the last account's command everything happens in one
synchronous pass. Armed accounts need no decision: the reason is noted ahead, and each venue's prebuilt command leaves.
Then the engine decides, the latch is written, and each venue's other messages go to its lanes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from kill_switch.core import engine, sweep
from kill_switch.core.domain import Instant, Phase, Reason, Route
from kill_switch.core.engine import RearmGranted, RearmPending, RearmRefused, State
from kill_switch.core.order_tracker import OrderTrackerPool
from kill_switch.dispatch.ports import ForwardedFact, JournalPort
from kill_switch.dispatch.record_writer import RecordWriter
from kill_switch.dispatch.session import AccountSession
from kill_switch.dispatch.timers import CallLater, TimerQueue
from kill_switch.errors import IllegalEvent

log = logging.getLogger(__name__)


class Dispatcher:
    """Holds the engine's state and the accounts' sessions, and carries out the engine's commands in order."""

    def __init__(
        self,
        state: State,
        journal: JournalPort,
        clock: Callable[[], Instant],
        later: CallLater,
        announce: Callable[[engine.Announce], None],
        lane_changed: Callable[[str, Route], None] = lambda account, route: None,
        told: Callable[[str, ForwardedFact, Instant], None] = lambda account, fact, now: None,
    ) -> None:
        """`later` is the event loop's `call_later`; `told` takes the facts that are not the engine's business."""
        self.state = state
        self.clock = clock
        self.timers = TimerQueue(clock, later)
        self.on_lane_changed = lane_changed
        self.on_fact = told
        self.sessions: dict[str, AccountSession] = {}
        self.counts = OrderTrackerPool()
        self.last_reason_ns: dict[str, int] = {}  # account → when its latest reason came
        self.last_pulse_ns = 0  # when the engine last answered a pulse
        self._journal = journal
        self._records = RecordWriter(journal, clock, later, announce)
        self._announce = announce
        self._queue: deque[engine.Event] = deque()
        self._busy = False
        self._verdict: RearmGranted | RearmPending | RearmRefused | None = None

    # ── the way of a reason ───────────────────────────────────────────────────────────────────────────────────────

    def fire(self, reason: Reason) -> None:
        """Take a reason: when this returns, the first bytes to every account have been handed over."""
        now = self.clock()
        early = () if self._busy else self._send_early(reason, now)
        try:
            self.handle(engine.ReasonReported(reason, now))
        finally:
            for session in early:
                if session.early_send.pending:  # no strike has come
                    session.early_send.abandon()
        self.last_reason_ns.update(dict.fromkeys(reason.accounts, now.mono_ns))

    def _send_early(self, reason: Reason, now: Instant) -> Sequence[AccountSession]:
        """Send the armed accounts' prebuilt commands, if the journal has noted the reason ahead of its record."""
        names = engine.armed_among(self.state, reason.accounts)
        try:
            sessions = [self.sessions[name] for name in names]
            known = reason if len(names) == len(reason.accounts) else self._restricted_to_known_accounts(reason)
            if not names or not self._journal.note_ahead(known):
                return ()
        except Exception:
            log.exception("the intent cannot be noted")
            return ()
        for session in sessions:
            session.early_send.send(now)
        return sessions

    def handle(self, event: engine.Event) -> None:
        """Step the engine and carry out what it says; events that this causes follow in their order."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                self._step(self._queue.popleft())
        finally:
            self._busy = False

    def _step(self, event: engine.Event) -> None:
        try:
            self.state, commands = engine.step(self.state, event)
        except IllegalEvent as error:
            log.error("%s", error)
            if isinstance(event, engine.ReasonReported):
                self._retry_for_known_accounts(event)
            return
        for command in commands:
            try:
                self._carry_out(command)
            except Exception:  # whatever fails here, what follows may be the strike
                log.exception("%s failed", type(command).__name__)
        if self._records.sync_wanted:
            self._records.schedule_sync()

    def _carry_out(self, command: engine.Command) -> None:
        match command:
            case engine.WakeAt(account, at_ns):
                self.sessions[account].sweep_timer.set(at_ns)
            case engine.AppendRecord(kind, data, latch):
                if latch:
                    self._records.latch(kind, data)
                else:
                    self._records.append(kind, data)
            case engine.StrikeAccounts(accounts):
                self._strike(accounts)
            case engine.ReadOrders(account):
                self.sessions[account].read_back()
            case engine.Announce():
                self._announce(command)
            case engine.RearmGranted(accounts):
                self._verdict = command
                for name in accounts:
                    self.sessions[name].drop_strike()
            case engine.RearmPending() | engine.RearmRefused():
                self._verdict = command
            case engine.PulseAnswered():
                self.last_pulse_ns = self.clock().mono_ns
            case _:
                assert_never(command)

    def _strike(self, accounts: Sequence[tuple[str, int]]) -> None:
        """Strike the accounts in one pass: every account's widest message first, then the others, then the rest."""
        now = self.clock()
        sessions = [self.sessions[name] for name, _ in accounts]
        for session in sessions:
            if not session.early_send.pending:
                session.early_send.send(now)
        for session, (_, number) in zip(sessions, accounts, strict=True):
            session.send_widest(number, now)
        for session in sessions:
            session.send_remaining(now)
        left_at = self.clock()
        sent = tuple([session.finish_strike(left_at) for session in sessions])
        self._queue.appendleft(engine.StrikesSent(sent, left_at))  # before the answers to it

    def _retry_for_known_accounts(self, event: engine.ReasonReported) -> None:
        """Let a reason hold for the accounts that are there, if it names one that a reload has just taken away."""
        reason = self._restricted_to_known_accounts(event.reason)
        if reason.accounts and reason is not event.reason:
            self._queue.appendleft(event._replace(reason=reason))

    def _restricted_to_known_accounts(self, reason: Reason) -> Reason:
        """Return a reason for those of its accounts that are there: itself, mostly."""
        known = tuple([name for name in reason.accounts if name in self.state.accounts])
        return reason if len(known) == len(reason.accounts) else replace(reason, accounts=known)

    # ── what sessions ask ─────────────────────────────────────────────────────────────────────────────────────────

    def kill_of(self, account: str) -> str | None:
        """Return the id of the kill that a tripped account was last struck for; None: it is armed, or not there."""
        known = self.state.accounts.get(account)
        return None if known is None or known.sweep is None else known.kill or ""

    def wake_sweep(self, account: str) -> None:
        """Tell the account's sweep that its timer has run out."""
        now = self.clock()
        self.handle(engine.Progress(account, sweep.SweepTimerFired(now.mono_ns), now))

    # ── what the daemon and its parts ask ─────────────────────────────────────────────────────────────────────────

    def register(self, session: AccountSession) -> AccountSession:
        """Take an account's session in, in place of any other of its name; its lanes are attached."""
        self.sessions[session.name] = session
        return session

    def reconfigure(self, event: engine.Reconfigured, anew: Mapping[str, AccountSession]) -> None:
        """Take other accounts on, and let those go that are no longer there; raise `IllegalEvent` if one is tripped."""
        missing = [name for name in self.state.tripped if name not in event.timings]
        if self._busy or missing:
            raise IllegalEvent(f"{', '.join(missing) or 'a kill'} under way", "Reconfigured")
        sessions = {name: anew.get(name) or self.sessions[name] for name in event.timings}
        for name, session in self.sessions.items():
            if sessions.get(name) is not session:
                session.retire()
        self.sessions.clear()
        for session in sessions.values():
            self.register(session)
        self.handle(event)

    def rearm(self, asked: engine.RearmAsked) -> RearmGranted | RearmPending | RearmRefused:
        """Put a re-arm before the gate and return its answer."""
        if self._busy:
            return RearmRefused(("a kill is being carried out",))
        self._verdict = None
        self.handle(asked)
        return self._verdict or RearmRefused(("it names an account that is not there",))

    def record_durably(self, kind: str, data: Mapping[str, object]) -> None:
        """Put something on record now that must outlive this process, and is no decision of the engine's."""
        self._records.latch(kind, data)
        self._records.schedule_sync()

    @property
    def striking_accounts(self) -> tuple[str, ...]:
        """Accounts whose sweep is under way and has not been given up as RESIDUE."""
        busy = (Phase.STRIKING, Phase.CONFIRMING)
        return tuple(name for name, account in self.state.accounts.items() if account.phase in busy)
