"""Execute the engine's commands against lanes, timers and the journal.

Nothing here awaits: from a reason to the last byte of the last account's command, all happens in one synchronous pass.
Read a reason's way from top to bottom: `fire`, `_send_early`, `handle`, `_step`, `_carry_out`, `_strike`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from kill_switch.core import engine, sweep
from kill_switch.core.commands import (
    Announce,
    AppendRecord,
    Command,
    PulseAnswered,
    ReadOrders,
    RearmGranted,
    RearmPending,
    RearmRefused,
    StrikeAccounts,
    WakeAt,
)
from kill_switch.core.domain import Instant, Phase, Reason, Route, Severity
from kill_switch.core.events import Event, Progress, RearmAsked, ReasonReported, Reconfigured, StrikesSent
from kill_switch.core.order_tracker import OrderTrackerPool
from kill_switch.core.outcome import describe_left
from kill_switch.core.state import State, armed_among
from kill_switch.dispatch.ports import ForwardedFact, JournalPort
from kill_switch.dispatch.record_writer import RecordWriter
from kill_switch.dispatch.session import AccountSession
from kill_switch.dispatch.timers import CallLater, TimerQueue
from kill_switch.errors import IllegalEvent

log = logging.getLogger(__name__)


class Dispatcher:
    """Holds the engine's state and the accounts' sessions, and carries out the engine's commands in their order."""

    def __init__(
        self,
        state: State,
        journal: JournalPort,
        clock: Callable[[], Instant],
        later: CallLater,
        announce: Callable[[Announce], None],
        lane_changed: Callable[[str, Route], None] = lambda account, route: None,
        on_fact: Callable[[str, ForwardedFact, Instant], None] = lambda account, fact, now: None,
    ) -> None:
        """`later` is the event loop's `call_later`; `on_fact` is called with facts that the engine does not need."""
        self.state = state
        self.clock = clock
        self.timers = TimerQueue(clock, later)
        self.on_lane_changed = lane_changed
        self.on_fact = on_fact
        self.sessions: dict[str, AccountSession] = {}
        self.counts = OrderTrackerPool()
        self.last_reason_ns: dict[str, int] = {}  # account → when its latest reason came, monotonic
        self.last_pulse_ns = 0  # when the engine last answered a pulse, monotonic
        self._journal = journal
        self._records = RecordWriter(journal, clock, later, announce)
        self._announce = announce
        self._queue: deque[Event] = deque()
        self._busy = False
        self._verdict: RearmGranted | RearmPending | RearmRefused | None = None

    # ── the way of a reason ───────────────────────────────────────────────────────────────────────────────────────

    def fire(self, reason: Reason) -> None:
        """Kill for a reason: when this returns, the commands of its accounts have been handed to their lanes.

        For armed accounts the prebuilt commands leave before the engine decides. Must not await; never raises for one
        account's failure.
        """
        now = self.clock()
        early = () if self._busy else self._send_early(reason, now)
        try:
            self.handle(ReasonReported(reason, now))
        finally:
            for session in early:
                if session.early_send.pending:  # no strike has claimed the command
                    session.early_send.abandon()
        self.last_reason_ns.update(dict.fromkeys(reason.accounts, now.mono_ns))

    def _send_early(self, reason: Reason, now: Instant) -> Sequence[AccountSession]:
        """Send the armed accounts' prebuilt commands, after the journal's write-ahead note; return their sessions.

        Without a note nothing leaves early, because a crash could then lose the latch.
        """
        names = armed_among(self.state, reason.accounts)
        try:
            sessions = [self.sessions[name] for name in names]
            known = reason if len(names) == len(reason.accounts) else self._restricted_to_known_accounts(reason)
            if not names or not self._journal.note_ahead(known):
                return ()
        except Exception:
            log.exception("the write-ahead note cannot be written: the commands wait for the journal's record")
            return ()
        for session in sessions:
            session.early_send.send(now)
        return sessions

    def handle(self, event: Event) -> None:
        """Step the engine with an event and carry out its commands; events that they cause follow in their order."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                self._step(self._queue.popleft())
        finally:
            self._busy = False

    def _step(self, event: Event) -> None:
        try:
            self.state, commands = engine.step(self.state, event)
        except IllegalEvent as error:
            log.error("%s", error)
            if isinstance(event, ReasonReported):
                self._retry_for_known_accounts(event)
            return
        for command in commands:
            try:
                self._carry_out(command)
            except Exception:  # because a later command may be the strike
                log.exception("%s failed", type(command).__name__)
        if self._records.sync_wanted:
            self._records.schedule_sync()

    def _carry_out(self, command: Command) -> None:
        match command:
            case WakeAt(account, at_ns):
                self.sessions[account].sweep_timer.set(at_ns)
            case AppendRecord(kind, data, latch):
                if latch:
                    self._records.latch(kind, data)
                else:
                    self._records.append(kind, data)
            case StrikeAccounts(accounts):
                self._strike(accounts)
            case ReadOrders(account):
                self.sessions[account].read_back()
            case Announce(level=Severity.RESIDUE, account=str(account)):
                self._announce(command._replace(text=self._describe_residue(account)))
            case Announce():
                self._announce(command)
            case RearmGranted(accounts):
                self._verdict = command
                for name in accounts:
                    self.sessions[name].drop_strike()
            case RearmPending() | RearmRefused():
                self._verdict = command
            case PulseAnswered():
                self.last_pulse_ns = self.clock().mono_ns
            case _:
                assert_never(command)

    def _describe_residue(self, account: str) -> str:
        """Return what is left of an account's orders, with the ids that its session knows."""
        ids = [order.id for order in self.sessions[account].status.orders]
        return f"{describe_left(self.state.accounts[account].orders_left, ids)} left, still chasing"

    def _strike(self, accounts: Sequence[tuple[str, int]]) -> None:
        """Strike the accounts, each with the number of its strike, in one pass.

        Every account's widest message leaves first, then the other messages; accounts that sign slowly come behind the
        others. Timers and counts come last.
        """
        now = self.clock()
        struck = [(self.sessions[name], number) for name, number in accounts]
        if len(struck) > 1:
            struck.sort(key=_signs_slowly)
        for session, number in struck:
            if number == 1 and not session.early_send.pending:
                session.early_send.send(now)
        for session, number in struck:
            session.send_widest(number, now)
        for session, _ in struck:
            session.send_remaining(now)
        left_at = self.clock()
        sent = tuple([session.finish_strike(left_at) for session, _ in struck])
        self._queue.appendleft(StrikesSent(sent, left_at))  # so that the engine records the strike before its answers

    def _retry_for_known_accounts(self, event: ReasonReported) -> None:
        """Step again with the configured accounts of a reason that names an account which a reload has removed."""
        reason = self._restricted_to_known_accounts(event.reason)
        if reason.accounts and reason is not event.reason:
            self._queue.appendleft(event._replace(reason=reason))

    def _restricted_to_known_accounts(self, reason: Reason) -> Reason:
        """Return the reason without the accounts that are not configured."""
        known = tuple([name for name in reason.accounts if name in self.state.accounts])
        return reason if len(known) == len(reason.accounts) else replace(reason, accounts=known)

    # ── for sessions ─────────────────────────────────────────────────────────────────────────────────────────

    def kill_of(self, account: str) -> str | None:
        """Return the id of the kill that a tripped account was last struck for; None: it is armed or not configured."""
        known = self.state.accounts.get(account)
        return None if known is None or known.sweep is None else known.kill or ""

    def wake_sweep(self, account: str) -> None:
        """Step the account's sweep with its timer."""
        now = self.clock()
        self.handle(Progress(account, sweep.SweepTimerFired(now.mono_ns), now))

    # ── for the daemon ─────────────────────────────────────────────────────────────────────────

    def register(self, session: AccountSession) -> AccountSession:
        """Add an account's session; it replaces a session of the same name."""
        self.sessions[session.name] = session
        return session

    def reconfigure(self, event: Reconfigured, new_sessions: Mapping[str, AccountSession]) -> None:
        """Replace the accounts by those of `event`; `new_sessions` has the sessions of new or changed accounts.

        Sessions that are no longer used are retired. Raises `IllegalEvent`, with nothing changed, if a tripped account
        is missing or a kill is being carried out.
        """
        missing = [name for name in self.state.tripped if name not in event.timings]
        if self._busy or missing:
            raise IllegalEvent(f"{', '.join(missing) or 'a kill'} under way", "Reconfigured")
        sessions = {name: new_sessions.get(name) or self.sessions[name] for name in event.timings}
        for name, session in self.sessions.items():
            if sessions.get(name) is not session:
                session.retire()
        self.sessions.clear()
        for session in sessions.values():
            self.register(session)
        self.handle(event)

    def rearm(self, asked: RearmAsked) -> RearmGranted | RearmPending | RearmRefused:
        """Submit a re-arm to the engine's gate; return the answer."""
        if self._busy:
            return RearmRefused(("a kill is being carried out",))
        self._verdict = None
        self.handle(asked)
        return self._verdict or RearmRefused(("it names an account that is not there",))

    def record_durably(self, kind: str, data: Mapping[str, object]) -> None:
        """Record a fact that is not the engine's, before this returns; it is synced within `SYNC_AFTER_S`."""
        self._records.latch(kind, data)
        self._records.schedule_sync()

    @property
    def striking_accounts(self) -> tuple[str, ...]:
        """Accounts whose sweep is under way and has not been given up as RESIDUE."""
        busy = (Phase.STRIKING, Phase.CONFIRMING)
        return tuple(name for name, account in self.state.accounts.items() if account.phase in busy)


def _signs_slowly(struck: tuple[AccountSession, int]) -> bool:
    return struck[0].venue.signs_slowly
