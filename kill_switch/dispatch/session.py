"""Run one account: carry out its adapter's outputs on its lanes, and pass the lanes' events to the adapter.

The dispatcher strikes and reads through `AccountSession`, and the lanes report to it. An exception in one account
becomes that account's cancel outcome or is logged, and never reaches another account.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kill_switch.core import sweep
from kill_switch.core.domain import CancelOutcome, Instant, LaneState, Route
from kill_switch.core.events import Progress, StrikeSent, StrikesSent
from kill_switch.dispatch.account_status import AccountStatus
from kill_switch.dispatch.early_send import EarlySend
from kill_switch.dispatch.lane_troubles import LaneTroubles
from kill_switch.dispatch.order_counter import OrderCounter
from kill_switch.dispatch.pacer import Pacer
from kill_switch.dispatch.ports import DispatcherPort, FreshPort, HttpPort, WsPort
from kill_switch.dispatch.strike_numbers import StrikeNumbers
from kill_switch.dispatch.timers import Appointment
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import (
    AccountFact,
    Call,
    CallLost,
    CancelAnswered,
    CloseConnection,
    Closed,
    ConnectNow,
    Drilled,
    Event,
    LaneEvent,
    NotReady,
    OrderSeen,
    OrdersRead,
    Output,
    Outputs,
    PrepareFrame,
    Ready,
    ReplaceConnection,
    Replied,
    RoundTrip,
    Send,
    UnexplainedMessage,
    VenueTimerFired,
    WakeAfter,
)

log = logging.getLogger(__name__)

_REPLIES = (Replied, CallLost)  # events that answer a call
_MESSAGES = (Call, Send)  # outputs of a strike that go to the venue


@dataclass(slots=True)
class StrikeInProgress:
    """A strike from its first message until all its outputs are carried out."""

    remaining: Iterator[Output]  # outputs that the adapter has not yielded yet
    deferred: list[Output]  # outputs besides messages, carried out at the end
    routes: list[str]  # routes that have accepted a command
    sent_ns: int = 0  # when the last command left, monotonic; 0: none has
    failure: Exception | None = None  # the first one
    in_pass: bool = False  # a pass over the accounts is running; a command that leaves later is reported by itself


class AccountSession:
    """An account's adapter, lanes and timers; it is the listener of its lanes.

    The dispatcher strikes with `send_widest`, `send_remaining` and `finish_strike`, each for all accounts before the
    next one, and calls `early_send.send` before them.
    """

    def __init__(
        self,
        name: str,
        venue: Adapter,
        dispatcher: DispatcherPort,
        make_lanes: Callable[[AccountSession], tuple[WsPort, HttpPort, FreshPort]],
    ) -> None:
        """`make_lanes` returns new lanes, whose listener is the session; it calls no method of it yet."""
        self.name, self.venue = name, venue
        self.numbers = StrikeNumbers()
        self.sweep_timer = Appointment(dispatcher.timers, lambda: dispatcher.wake_sweep(name))
        self._dispatcher = dispatcher
        self.pacer = Pacer(
            name, venue, dispatcher, lambda: self._request(venue.read), lambda error: self.status.log_unexpected(error)
        )
        self._cancels: set[str] = set()  # tags of cancel calls of the last strike; when each leaves is noted
        self._strike = StrikeInProgress(iter(()), [], [])
        self._retired = False
        self.ws, self.http, self.fresh = ws, http, _ = make_lanes(self)
        self._troubles = LaneTroubles(name, ws, http, dispatcher.clock)
        self.status = AccountStatus(name, venue, ws, http, self._troubles.quiet, self._troubles.key_refused)
        self.early_send = EarlySend(venue, ws, http, dispatcher.clock, self._note_sent, self.status.log_unexpected)
        self._counter = OrderCounter(name, venue, dispatcher.counts, self.status.log_unexpected)

    # ── for the dispatcher ──────────────────────────────────────────────────────────────────────────────────

    def send_widest(self, number: int, now: Instant) -> None:
        """Start strike `number` and send its first message, the widest; other accounts are waiting. Never raises."""
        strike = self._strike = StrikeInProgress(iter(()), [], [], in_pass=True)
        self.numbers.begin(number, now.mono_ns)
        self._cancels.clear()
        try:
            strike.remaining = iter(self.venue.strike(now, number))
            for output in strike.remaining:
                if isinstance(output, _MESSAGES):
                    self._carry_out_one(output, now)
                    break
                strike.deferred.append(output)
        except Exception as error:
            strike.failure = error

    def send_remaining(self, now: Instant) -> None:
        """Send the strike's other messages, which the adapter may build only now. Never raises."""
        strike = self._strike
        while True:
            try:
                for output in strike.remaining:
                    if isinstance(output, _MESSAGES):
                        self._carry_out_one(output, now)
                    else:
                        strike.deferred.append(output)
                return
            except Exception as error:  # the other lane's messages are sent in spite of it
                strike.failure = strike.failure or error

    def finish_strike(self, now: Instant) -> StrikeSent:
        """Carry out the strike's other outputs; return the routes and the time at which its last command left.

        `now` is the end of the pass. A failure becomes the cancel outcome `UNKNOWN`. Never raises.
        """
        strike, due = self._strike, None
        self.pacer.note_use(now)
        try:
            self._carry_out(strike.deferred, now)
            if strike.failure is not None:
                raise strike.failure
        except Exception as error:
            log.exception("account %s: the strike failed", self.name, extra={"account": self.name})
            self._carry_out_one(CancelAnswered(CancelOutcome.UNKNOWN, f"internal error: {type(error).__name__}"), now)
        finally:
            self.early_send.abandon()
            strike.in_pass = False
        try:
            book = self.venue.book
            nothing_known = not book.tracing and not book.is_known
            due = self._counter.on_strike(self._dispatcher.kill_of(self.name) or "", now)
            if nothing_known:
                self._carry_out(self.venue.read_alongside_strike(now), now)
        except Exception as error:  # because the strike has left and must be recorded
            self.status.log_unexpected(error)
        return StrikeSent(self.name, self.numbers.last, tuple(strike.routes), strike.sent_ns, due)

    def read_back(self, *, is_prompt: bool = False) -> float:
        """Request a read-back, or let it wait until the venue's limits have room, if the sweep allows.

        `is_prompt`: a person waits for it, so that it waits only while cancels would lack their part of a limit.
        Return in how many seconds it leaves; 0: it has left.
        """
        self.numbers.forget_old()
        return self.pacer.read_back(is_prompt=is_prompt)

    def drop_strike(self) -> None:
        """Drop pending work of strikes, because the account is armed again or has another session.

        After this call no command of the kill leaves, and no answer to its strikes counts. Never raises.
        """
        self._strike.in_pass = False
        self._counter.settle()
        self.pacer.cancel()
        self._cancels.clear()
        self.numbers.clear()
        try:
            self.venue.drop_strike_work()
        except Exception as error:  # `should_still_send` holds the commands back in any case
            self.status.log_unexpected(error)

    def retire(self) -> None:
        """Ignore all events and send no command from now on: the account has another session, or is not configured."""
        self._retired = True
        self._dispatcher.timers.forget(self)
        self.sweep_timer.cancel()
        self.drop_strike()

    # ── other requests, which cannot strike ─────────────────────────────────────────────────────────────────

    def read_alongside_strike(self) -> None:
        """Request the account's orders beside a strike, for the order count; nothing waits for the answer."""
        self._request(self.venue.read_alongside_strike)

    def dry_run(self) -> None:
        """Request a read of the orders that a kill would hit, behind all urgent calls; `status.last_read` gets it."""

        def read_unhurried(now: Instant) -> Outputs:
            outputs = self.venue.read(now)
            return tuple(output._replace(urgent=False) if isinstance(output, Call) else output for output in outputs)

        self._request(read_unhurried)

    def drill(self) -> None:
        """Send a harmless command through the order path of each lane, unless the venue refuses calls now."""

        def drill(now: Instant) -> Outputs:
            quiet = self._troubles.quiet()
            if not quiet and not self.venue.limits.has_room_for_drill(now):
                quiet = "the requests that the venue's limit leaves are kept for a kill"
            if not quiet:
                return self.venue.drill(now)
            return tuple(Drilled(route, False, 0, quiet, tried=False) for route in self.venue.drill_routes)

        self._request(drill)

    def request_equity(self) -> bool:
        """Request the account's equity and return True, unless the venue refuses calls or its limits have no room."""
        if self._troubles.quiet() or not self.pacer.has_room_for_equity(self._dispatcher.clock()):
            return False
        self._request(self.venue.request_equity)
        return True

    # ── for the lanes ───────────────────────────────────────────────────────────────────────────────────────

    def on_lane_event(self, event: Event) -> None:
        """Pass a lane's event to the adapter and carry out the outputs. Never raises."""
        if self._retired:
            return
        now, numbers, before = self._dispatcher.clock(), self.numbers, self.numbers.answered
        numbers.answered = number = numbers.of_command(event.tag) if isinstance(event, _REPLIES) else 0
        refused = isinstance(event, Replied) and event.status >= 400 and not self.venue.calls.is_apart(event)
        try:
            outputs = self.venue.handle(event, now)
            if isinstance(event, Replied):  # before the sweep gets to know that the venue has refused its read
                self.pacer.on_reply(now, is_refusal=refused)
            self._carry_out(outputs, now)
            if refused:
                self._troubles.on_refusal(event, now)  # type: ignore[arg-type]
            if isinstance(event, Closed) and event.route is Route.WS:
                self.pacer.probe_now(self.http.state, lambda: self._request(self.venue.keep_warm))
        except Exception as error:
            self.status.log_unexpected(error)
        if number and event.tag not in self.venue.calls.pending:  # type: ignore[union-attr]
            numbers.end_command(event.tag)  # type: ignore[union-attr]
        numbers.answered = before

    def on_sent(self, route: Route, tag: str) -> None:
        """Note that a call has left, if it is one of the last strike's cancels."""
        if tag in self._cancels and not self._retired:
            self._note_sent(route)

    def on_round_trip(self, route: Route, rtt_us: int) -> None:
        """Keep a lane's newest round trip, in microseconds; the adapter knows those of its HTTP calls by itself."""
        self.status.round_trips_us[route] = rtt_us
        if route is Route.WS:
            self.venue.second_route.note_round_trip(route, rtt_us)

    def on_trouble(self, route: Route, why: str) -> None:
        """Log a lane's trouble; `why` is "" once it has ended."""
        if not self._retired:
            self._troubles.on_trouble(route, why)

    def use_idle_http_lane(self) -> None:
        """Send a harmless call over the HTTP lane, which has been idle, unless the venue's limits forbid it."""
        if not self.pacer.omits_probe(self.http.state) and not self.pacer.replace_probe():
            self._request(self.venue.keep_warm)
            self.pacer.note_probe()

    def keep_connection(self) -> None:
        """Send next to nothing over an HTTP connection that is idle, if the venue's limits have room."""
        if self.pacer.has_room_to_keep_open():
            self._request(self.venue.keep_connection, is_use=False)

    break_silence = keep_connection  # without an answer the lane is not ready

    def should_still_send(self, call: Call) -> bool:
        """Return whether a call that had to wait may leave: it is not answered, and the account is not re-armed."""
        return not self._retired and self.venue.is_pending(call.tag) and (not call.command or self.is_tripped)

    @property
    def is_tripped(self) -> bool:
        """Whether a kill's command may leave now; for an armed account it would cancel orders that are to stay."""
        return not self._retired and self._dispatcher.kill_of(self.name) is not None

    # ── outputs of the adapter ────────────────────────────────────────────────────────────────────────────────────

    def _request(self, work: Callable[[Instant], Outputs], *, is_use: bool = True) -> None:
        """Carry out the outputs that `work` returns; a failure is logged. `is_use`: they prove the HTTP lane."""
        now = self._dispatcher.clock()
        if is_use:
            self.pacer.note_use(now)
        try:
            self._carry_out(work(now), now)
        except Exception as error:
            self.status.log_unexpected(error)

    def _carry_out(self, outputs: Iterable[Output], now: Instant) -> None:
        """Carry all outputs out, then raise the first failure: a failing lane does not stop the other lane."""
        failure: Exception | None = None
        for output in outputs:
            try:
                self._carry_out_one(output, now)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _carry_out_one(self, output: Output, now: Instant) -> None:
        match output:  # a strike's and its answer's cases first, because each case that does not match costs time
            case Call():
                self._call(output)
            case Send(conn, text, command):
                if (left_at := self.early_send.claim(output)) is not None:
                    self._note_sent(Route.WS, left_at)
                elif not command:
                    self.ws.send(conn, text)
                elif (self._strike.in_pass or self.is_tripped) and self.ws.send(conn, text):
                    self._note_sent(Route.WS)
            case CancelAnswered(answer, evidence, cancelled):
                kill = self._dispatcher.kill_of(self.name)
                due = None if kill is None else self._counter.on_answer(kill, now)
                number = self.numbers.of_answer(self.venue.answers_ns, in_pass=self._strike.in_pass)
                fact = sweep.StrikeAnswered(now.mono_ns, answer)
                self._dispatcher.handle(Progress(self.name, fact, now, evidence, cancelled, due, number))
            case WakeAfter(tag, seconds):
                due_ns = now.mono_ns + int(seconds * 1e9)
                self._dispatcher.timers.call_at(due_ns, self.on_lane_event, VenueTimerFired(tag))
            case PrepareFrame(conn, text):
                self.ws.prepare(conn, text)
            case CloseConnection(conn, why):
                self.ws.drop(conn, why)
            case ReplaceConnection(conn):
                self.ws.replace(conn)
            case ConnectNow():
                self.ws.connect_now()
            case _:
                self._on_fact(output, now)

    def _call(self, call: Call) -> None:
        if call.command:
            if not self._strike.in_pass and not self.is_tripped:
                self.on_lane_event(CallLost(call.tag, False, "the account is armed again"))
                return
            self.numbers.note_command(call.tag)
        left_at = self.early_send.claim(call.request)
        has_left = left_at is not None and call.cancel
        if has_left:
            self._note_sent(call.route, left_at)
        elif call.cancel:
            self._cancels.add(call.tag)
        (self.http if call.route is Route.HTTP else self.fresh).call(call)
        if has_left:  # only now, because `call` has just reported the same bytes as sent
            self._cancels.add(call.tag)

    def _note_sent(self, route: Route, left_at: Instant | None = None) -> None:
        """Note that a command has left, now or at `left_at`; behind a pass, tell the engine."""
        now, strike = left_at or self._dispatcher.clock(), self._strike
        is_new = route not in strike.routes
        if is_new:
            strike.routes.append(route)
        if strike.in_pass:
            strike.sent_ns = now.mono_ns
        else:  # the second route, or a call that had to wait
            sent = StrikeSent(self.name, self.numbers.last, (route,), now.mono_ns, further=not is_new)
            self._dispatcher.handle(StrikesSent((sent,), now))

    def _on_fact(self, fact: LaneEvent | AccountFact, now: Instant) -> None:
        match fact:
            case OrdersRead(orders, complete, asked_ns, why, cancelled) as read:
                self.status.last_read = read
                counted = sweep.count_read(orders, complete, asked_ns, now.mono_ns, self.venue.book.pushed_ns)
                evidence = why or ", ".join(f"{o.id} {o.symbol} {o.status}" for o in orders[:3])
                kill = self._dispatcher.kill_of(self.name)
                changes = None if kill is None else self._counter.on_read(kill, read, now)
                self._dispatcher.handle(Progress(self.name, counted, now, evidence, cancelled, changes))
                if complete:
                    self.pacer.keep_pace(now, proven=True)
            case OrderSeen(order):
                seen = f"{order.id} {order.symbol} {order.status}"
                self._dispatcher.handle(Progress(self.name, sweep.OrderAppeared(now.mono_ns), now, seen))
            case Ready(route, conn):
                self.status.refused.pop(route, None)
                if route is Route.WS:
                    self.ws.authenticated(conn)
                elif self.http.state is not LaneState.UP:
                    self._troubles.on_http_ready()
                    self.http.authenticated(True)
                self._dispatcher.on_lane_changed(self.name, route)
            case NotReady(route, _, why, fatal):
                self.status.refused |= {route: why} if fatal else {}
                if self._troubles.on_not_ready(fact, now):
                    self._dispatcher.on_lane_changed(self.name, route)
            case RoundTrip(route, rtt_us):
                self.on_round_trip(route, rtt_us)
            case UnexplainedMessage(why):
                self.status.count_unexplained(why)
            case _:
                self._dispatcher.on_fact(self.name, fact, now)
