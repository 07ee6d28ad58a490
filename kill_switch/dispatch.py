"""Carry out what the engine commands: the one place where decisions meet lanes, timers and the journal.

There is no await in here. From a reason to the last byte of the last account's command everything happens in one
synchronous pass: the engine decides, the latch is written, each venue's messages go to its lanes. Whatever goes wrong
with one account becomes that account's answer; another account never feels it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, assert_never

from kill_switch import engine, sweep
from kill_switch.domain import Answer, Now, Phase, Reason, Route
from kill_switch.engine import Granted, Refused, Sent, State, Waiting
from kill_switch.errors import IllegalEvent
from kill_switch.transports.lane import LaneState
from kill_switch.venues import base

log = logging.getLogger(__name__)

FLUSH_AFTER_S = 0.02  # records that are not the latch are written together, when a strike's answers are all there
NOISE_LOGGED = 20  # of each account; all are counted


class Timer(Protocol):
    def cancel(self) -> object: ...


class Recorder(Protocol):
    """What the journal is to this module."""

    trouble: str

    def append(self, kind: str, data: Mapping[str, object], at: Now) -> None: ...

    def latch(self, kind: str, data: Mapping[str, object], at: Now) -> bool: ...

    def flush(self) -> bool: ...

    def sync(self) -> None: ...


class Ws(Protocol):
    trouble: str

    @property
    def state(self) -> LaneState: ...

    def send(self, conn: int, text: bytes) -> bool: ...

    def authenticated(self, conn: int) -> None: ...

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None: ...


class Http(Protocol):
    trouble: str

    @property
    def state(self) -> LaneState: ...

    def call(self, call: base.Call) -> None: ...

    def authenticated(self, proven: bool) -> None: ...


class Fresh(Protocol):
    def call(self, call: base.Call) -> None: ...


Told = base.OrderPlaced | base.Equity | base.Transferred | base.ServerTime | base.Drilled  # not the engine's business
Later = Callable[..., Timer]  # (seconds, function, *arguments)


class Session:
    """One account at work: its venue's protocol object, its lanes and its timers. It is the lanes' sink."""

    ws: Ws
    http: Http
    fresh: Fresh

    def __init__(self, name: str, venue: base.Adapter, dispatcher: Dispatcher) -> None:
        self.name = name
        self.venue = venue
        self.rtt_us: dict[Route, int] = {}
        self.noise = 0
        self.not_ready: dict[Route, str] = {}  # why the venue does not take a lane for ready
        self.last_read: base.OrdersRead | None = None
        self.strike = 0
        self._dispatcher = dispatcher
        self._due: Timer | None = None
        self._cancels: set[str] = set()  # tags of the cancel calls of the strike that is under way
        self._routes: list[str] = []
        self._sent_ns = 0
        self._passing = False
        self._more: list[base.Output] = []  # a strike's messages behind its first
        self._afterwards: list[base.Output] = []  # what it wants besides messages
        self._failure: Exception | None = None
        self._retired = False

    @property
    def ready(self) -> bool:
        """Every lane could carry its part of a kill now."""
        return self.ws.state is LaneState.UP and self.http.state is LaneState.UP

    @property
    def open_orders(self) -> int | None:
        return len(self.venue.book) if self.venue.book_known else None

    # what the dispatcher asks

    def kill(self, number: int, now: Now) -> None:
        """Send a strike's first message, which is its widest, and do nothing else: other accounts are waiting.

        `kill_on` sends the others, `killed` does the rest.
        """
        self.strike, self._routes, self._sent_ns, self._passing = number, [], 0, True
        self._cancels.clear()
        first: base.Output | None = None
        try:
            for output in self.venue.kill(now):
                if type(output) is not base.Call and type(output) is not base.Send:
                    self._afterwards.append(output)
                elif first is None:
                    first = output
                else:
                    self._more.append(output)
            if first is not None:
                self._carry_out_one(first)
        except Exception as error:
            self._failure = error

    def kill_on(self) -> None:
        """Send the strike's other messages."""
        more, self._more = self._more, []
        for output in more:
            try:
                self._carry_out_one(output)
            except Exception as error:  # one lane's failure is not the other's
                self._failure = self._failure or error

    def killed(self) -> Sent:
        """Do what the strike wants besides its messages, and tell how it went; whatever went wrong is an answer."""
        afterwards, self._afterwards = self._afterwards, []
        failure, self._failure = self._failure, None
        try:
            self._carry_out(afterwards)
            if failure is not None:
                raise failure
        except Exception as error:
            log.exception("account %s: the strike failed", self.name)
            self._fact(base.CancelAnswered(Answer.UNKNOWN, f"internal error: {type(error).__name__}"))
        finally:
            self._passing = False
        return Sent(self.name, self.strike, tuple(self._routes), self._sent_ns)

    def read(self) -> None:
        """Ask the venue for what is left."""
        self._guarded(lambda: self.venue.read(self._dispatcher.clock()))

    def look(self) -> None:
        """Ask the venue for what rests there, behind everything that is urgent: nobody is being killed."""

        def unhurried() -> base.Outputs:
            outputs = self.venue.read(self._dispatcher.clock())
            return tuple(one._replace(urgent=False) if isinstance(one, base.Call) else one for one in outputs)

        self._guarded(unhurried)

    def wake_at(self, at_ns: int) -> None:
        """Tell the sweep `Due` then; an earlier appointment is void."""
        if self._due is not None:
            self._due.cancel()
        wait_s = max(0.0, (at_ns - self._dispatcher.clock().mono_ns) / 1e9)
        self._due = self._dispatcher.later(wait_s, self._wake, at_ns)

    def retire(self) -> None:
        """Hear no more: another session has taken the account over."""
        self._retired = True
        if self._due is not None:
            self._due.cancel()

    def _wake(self, at_ns: int) -> None:
        now = self._dispatcher.clock()
        if now.mono_ns < at_ns:  # an event loop may wake a clock's grain too early
            self.wake_at(at_ns)
        else:
            self._dispatcher.handle(engine.Progress(self.name, sweep.Due(now.mono_ns), now))

    # what the lanes tell

    def event(self, event: base.Event) -> None:
        if self._retired:
            return
        try:
            self._carry_out(self.venue.feed(event, self._dispatcher.clock()))
        except Exception:
            self._not_understood()

    def sent(self, route: Route, tag: str) -> None:
        if tag in self._cancels and not self._retired:
            self._note_sent(route)

    def rtt(self, route: Route, rtt_us: int) -> None:
        self.rtt_us[route] = rtt_us

    def drill(self) -> None:
        """Send a harmless command through the order path of each lane."""
        self._guarded(lambda: self.venue.drill(self._dispatcher.clock()))

    def measure(self) -> None:
        """Ask the venue what the account is worth."""
        self._guarded(lambda: self.venue.measure(self._dispatcher.clock()))

    def warm(self) -> None:
        self._guarded(lambda: self.venue.probe(self._dispatcher.clock()))

    # what the venue wants

    def _guarded(self, work: Callable[[], base.Outputs]) -> None:
        try:
            self._carry_out(work())
        except Exception:
            self._not_understood()

    def _not_understood(self) -> None:
        self.noise += 1
        if self.noise <= NOISE_LOGGED:
            log.exception("account %s: an event was not understood", self.name)

    def _carry_out(self, outputs: Iterable[base.Output]) -> None:
        """Carry all of them out, then raise the first failure: one lane's is not the other's."""
        failures: list[Exception] = []
        for output in outputs:
            try:
                self._carry_out_one(output)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _carry_out_one(self, output: base.Output) -> None:
        match output:
            case base.Call():
                if output.cancel:
                    self._cancels.add(output.tag)
                (self.http if output.route is Route.HTTP else self.fresh).call(output)
            case base.Send(conn, text, urgent):
                if self.ws.send(conn, text) and urgent:
                    self._note_sent(Route.WS)
            case base.WakeAfter(tag, seconds):
                self._dispatcher.later(seconds, self.event, base.Woke(tag))
            case base.Drop(conn, why):
                self.ws.drop(conn, why)
            case _:
                self._fact(output)

    def _note_sent(self, route: Route) -> None:
        now = self._dispatcher.clock()
        self._sent_ns = now.mono_ns
        if route not in self._routes:
            self._routes.append(route)
        if not self._passing:  # a hedge, or a call that had to wait
            self._dispatcher.handle(engine.Struck((Sent(self.name, self.strike, (route,), now.mono_ns),), now))

    def _fact(self, fact: base.Lanes | base.Facts) -> None:
        now = self._dispatcher.clock()
        at_ns = now.mono_ns
        match fact:
            case base.CancelAnswered(answer, evidence, cancelled):
                told: sweep.Event = sweep.Answered(at_ns, answer)
                self._dispatcher.handle(engine.Progress(self.name, told, now, evidence, cancelled))
            case base.OrdersRead(orders, complete, asked_ns, why, cancelled):
                self.last_read = fact
                told = sweep.count(orders, complete, asked_ns, at_ns)
                evidence = why or ", ".join(f"{o.id} {o.symbol} {o.status}" for o in orders[:3])
                self._dispatcher.handle(engine.Progress(self.name, told, now, evidence, cancelled))
            case base.OrderSeen(order):
                seen = f"{order.id} {order.symbol} {order.status}"
                self._dispatcher.handle(engine.Progress(self.name, sweep.OrderSeen(at_ns), now, seen))
            case base.Ready(route, conn):
                self.not_ready.pop(route, None)
                if route is Route.WS:
                    self.ws.authenticated(conn)
                elif self.http.state is not LaneState.UP:
                    self.http.trouble = ""
                    self.http.authenticated(True)
                self._dispatcher.lane_changed(self, route)
            case base.NotReady(route, conn, why, fatal):
                self.not_ready[route] = why
                log.log(logging.ERROR if fatal else logging.WARNING, "account %s: %s lane: %s", self.name, route, why)
                if route is Route.WS:
                    self.ws.drop(conn, why, fatal=fatal)
                else:
                    self.http.trouble = why
                    self.http.authenticated(False)
                self._dispatcher.lane_changed(self, route)
            case base.RoundTrip(route, rtt_us):
                self.rtt_us[route] = rtt_us
            case base.OrderPlaced() | base.Equity() | base.Transferred() | base.ServerTime() | base.Drilled():
                self._dispatcher.told(self, fact, now)
            case base.Noise(why):
                self.noise += 1
                if self.noise <= NOISE_LOGGED:
                    log.warning("account %s: %s", self.name, why)
            case _:
                assert_never(fact)


class Dispatcher:
    """Hold the engine's state, and carry out its commands in order."""

    def __init__(
        self,
        state: State,
        journal: Recorder,
        clock: Callable[[], Now],
        later: Later,
        announce: Callable[[engine.Announce], None],
        lane_changed: Callable[[Session, Route], None] = lambda session, route: None,
        told: Callable[[Session, Told, Now], None] = lambda session, fact, now: None,
    ) -> None:
        self.state = state
        self.clock = clock
        self.later = later
        self.lane_changed = lane_changed
        self.told = told
        self.sessions: dict[str, Session] = {}
        self.reported_ns: dict[str, int] = {}  # account → when its latest reason came
        self.alive_ns = 0  # when the engine last answered a pulse
        self._journal = journal
        self._announce = announce
        self._queue: deque[engine.Event] = deque()
        self._busy = False
        self._flushing: Timer | None = None
        self._unsynced = False  # a latch has been written, and the disk has not been asked to take it for good
        self._verdict: Granted | Waiting | Refused | None = None

    def add(self, name: str, venue: base.Adapter) -> Session:
        """Take an account in; its lanes are to be set before the first event."""
        session = self.sessions[name] = Session(name, venue, self)
        return session

    def reconfigure(self, event: engine.Reconfigured, anew: Mapping[str, Session]) -> None:
        """Take other accounts on, and let those go that are no longer there; raise `IllegalEvent` if one is tripped."""
        missing = [name for name in self.state.tripped if name not in event.paces]
        if self._busy or missing:
            raise IllegalEvent(f"{', '.join(missing) or 'a kill'} under way", "Reconfigured")
        sessions = {name: anew.get(name) or self.sessions[name] for name in event.paces}
        for name, session in self.sessions.items():
            if sessions.get(name) is not session:
                session.retire()
        self.sessions.clear()
        self.sessions.update(sessions)
        self.handle(event)

    def report(self, reason: Reason) -> None:
        """Take a reason: when this returns, the first bytes to every account have been handed over."""
        now = self.clock()
        self.handle(engine.Reported(reason, now))
        self.reported_ns.update(dict.fromkeys(reason.accounts, now.mono_ns))

    def rearm(self, asked: engine.RearmAsked) -> Granted | Waiting | Refused:
        """Put a re-arm before the gate and return its answer."""
        if self._busy:
            return Refused(("a kill is being carried out",))
        self._verdict = None
        self.handle(asked)
        return self._verdict or Refused(("it names an account that is not there",))

    def record(self, kind: str, data: Mapping[str, object]) -> None:
        """Put something on record now that must outlive this process, and is no decision of the engine's."""
        self._record(kind, data, latch=True)

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
            return
        for command in commands:
            try:
                self._carry_out(command)
            except Exception:  # whatever fails here, what follows may be the strike
                log.exception("%s failed", type(command).__name__)
        if self._unsynced:  # only now: waking a thread takes longer than the strike itself
            self._unsynced = False
            self._journal.sync()

    def _carry_out(self, command: engine.Command) -> None:
        match command:
            case engine.Record(kind, data, latch):
                self._record(kind, data, latch)
            case engine.Strike(accounts):
                now = self.clock()
                sessions = [self.sessions[name] for name, _ in accounts]
                for session, (_, number) in zip(sessions, accounts, strict=True):
                    session.kill(number, now)
                for session in sessions:
                    session.kill_on()
                sent = tuple([session.killed() for session in sessions])
                self._queue.appendleft(engine.Struck(sent, self.clock()))  # before the answers to it
            case engine.WakeAt(account, at_ns):
                self.sessions[account].wake_at(at_ns)
            case engine.Read(account):
                self.sessions[account].read()
            case engine.Announce():
                self._announce(command)
            case engine.Granted() | engine.Waiting() | engine.Refused():
                self._verdict = command
            case engine.Alive():
                self.alive_ns = self.clock().mono_ns
            case _:
                assert_never(command)

    def _record(self, kind: str, data: Mapping[str, object], latch: bool) -> None:
        now = self.clock()
        if latch:
            self._unsynced = True
            if not self._journal.latch(kind, data, now):
                self._queue_alarm()
        else:
            self._journal.append(kind, data, now)
            if self._flushing is None:
                self._flushing = self.later(FLUSH_AFTER_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if not self._journal.flush():
            self._flushing = self.later(1.0, self._flush)
            self._queue_alarm()

    def _queue_alarm(self) -> None:
        self._announce(engine.Announce("warn", self._journal.trouble))

    @property
    def striking(self) -> tuple[str, ...]:
        """Accounts whose sweep is under way and has not been given up as RESIDUE."""
        busy = (Phase.STRIKING, Phase.CONFIRMING)
        return tuple(name for name, account in self.state.accounts.items() if account.phase in busy)
