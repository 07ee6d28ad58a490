"""Carry out what the engine commands: the one place where decisions meet lanes, timers and the journal.

There is no await in here. From a reason to the last byte of the last account's command everything happens in one
synchronous pass. Accounts that are armed need no decision: the intent is noted, and what their venues have at hand
leaves. Then the engine decides, the latch is written, and each venue's other messages go to its lanes. Whatever goes
wrong with one account becomes that account's answer; another account never feels it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol, assert_never

from kill_switch import printable
from kill_switch.core import engine, sweep
from kill_switch.core.domain import Answer, Now, Phase, Reason, Route
from kill_switch.core.engine import Granted, Refused, Sent, State, Waiting
from kill_switch.core.tally import Counts, Due
from kill_switch.dispatch.order_counter import OrderCounter
from kill_switch.dispatch.repeats import Repeats
from kill_switch.dispatch.timers import Alarms, Later, Timer
from kill_switch.errors import IllegalEvent
from kill_switch.transports.certificates import Expiry
from kill_switch.transports.lane import LaneState
from kill_switch.venues import messages, retry_after
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.request import Request

log = logging.getLogger(__name__)

FLUSH_AFTER_S = 0.05  # records that are not the latch are written together, when a strike's answers are all there
SYNC_AFTER_S = 0.005  # waking the thread that syncs takes as long as a strike, and its answers come at once
STRIKES_KNOWN = 32  # of each account, the last ones: an answer to an older one counts for the last
NOISE_LOGGED = 20  # of each account; all are counted
REFUSED_FIRST_S = 2.0  # without housekeeping on the HTTP lane, once a login was refused; twice as long each time,
REFUSED_MOST_S = 30.0  # up to this


class Recorder(Protocol):
    """What the journal is to this module."""

    @property
    def trouble(self) -> str: ...

    def intend(self, reason: Reason) -> bool: ...

    def append(self, kind: str, data: Mapping[str, object], at: Now) -> None: ...

    def latch(self, kind: str, data: Mapping[str, object], at: Now) -> bool: ...

    def flush(self) -> bool: ...

    def sync(self) -> None: ...


class Ws(Protocol):
    trouble: str  # the newest

    @property
    def certificate(self) -> Expiry | None: ...

    @property
    def state(self) -> LaneState: ...

    def prepare(self, conn: int, text: bytes) -> None: ...

    def send(self, conn: int, text: bytes) -> bool: ...

    def authenticated(self, conn: int) -> None: ...

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None: ...


class Http(Protocol):
    trouble: str  # the newest

    @property
    def certificate(self) -> Expiry | None: ...

    @property
    def state(self) -> LaneState: ...

    def begin(self, request: Request) -> bool: ...

    def forgo(self) -> None: ...

    def call(self, call: messages.Call) -> None: ...

    def authenticated(self, proven: bool) -> None: ...

    def hold(self, asked_s: float) -> None: ...


class Fresh(Protocol):
    def call(self, call: messages.Call) -> None: ...


_REPLIES = (messages.Replied, messages.Lost)  # to a call
_MESSAGES = (messages.Call, messages.Send)  # what is in a strike for others to receive
Told = (
    messages.OrderPlaced
    | messages.OrdersFound
    | messages.Equity
    | messages.Transferred
    | messages.ServerTime
    | messages.Drilled
)  # not the engine's business


class Session:
    """One account at work: its venue's protocol object, its lanes and its timers. It is the lanes' sink."""

    ws: Ws
    http: Http
    fresh: Fresh

    def __init__(self, name: str, venue: Adapter, dispatcher: Dispatcher) -> None:
        self.name = name
        self.venue = venue
        self.rtt_us: dict[Route, int] = {}
        self.noise = 0
        self._repeats = {Route.WS: Repeats(), Route.HTTP: Repeats()}
        self._quiet = ("", 0)  # why only what is urgent leaves, and until when
        self._refusals = 0  # of the key, over HTTP, one after the other
        self.last_read: messages.OrdersRead | None = None
        self.strike = 0
        self._dispatcher = dispatcher
        self._due_ns = 0  # when the sweep wants to be told so; 0: it does not
        self._read_ns = (
            0  # when a read that the sweep wants is to leave, as the limit had no room for it; 0: none waits
        )
        self._cancels: set[str] = set()  # tags of the cancel calls of the strike that is under way
        self._counter = OrderCounter(name, venue, dispatcher.counts, self._not_understood)
        self._strike_of: dict[str, int] = {}  # tags of commands that may still be answered → number of their strike
        self._made: dict[int, int] = {}  # when a strike was made → its number
        self._answered = 0  # the number of the strike whose command the event that is taken answers; 0: it says none
        self._routes: list[str] = []
        self._sent_ns = 0
        self._passing = False
        self.begun = False  # the strike that follows in this pass was begun
        self._begun: Request | messages.Send | None = None  # has left already; the strike says what it is for
        self._begun_at: Now | None = None
        self._left_at: Now | None = None  # when what is being noted left, if it was that
        self._stumble: Exception | None = None  # over what was to begin
        self._more: Iterator[messages.Output] = iter(())  # what a strike wants behind its first message
        self._afterwards: list[messages.Output] = []  # what it wants besides messages
        self._failure: Exception | None = None
        self._retired = False

    @property
    def ready(self) -> bool:
        """Every lane could carry its part of a kill now."""
        return self.ws.state is LaneState.UP and self.http.state is LaneState.UP

    def troubles(self) -> dict[str, str]:
        """Say what is wrong with each lane: the newest that is known, and whether the venue wants no calls."""
        http = "; ".join(dict.fromkeys(filter(None, (self.http.trouble, self.quiet))))
        return {route.value: why for route, why in ((Route.WS, self.ws.trouble), (Route.HTTP, http)) if why}

    @property
    def open_orders(self) -> int | None:
        return self.venue.open_orders

    @property
    def _tripped(self) -> bool:
        account = self._dispatcher.state.accounts.get(self.name)
        return not self._retired and account is not None and account.sweep is not None

    # what the dispatcher asks

    def begin(self, now: Now) -> None:
        """Send what the venue has at hand, and nothing else: `kill`, which follows in this pass, says what it was."""
        self.begun = True
        try:
            message = self.venue.first(now)
            if isinstance(message, messages.Send):
                gone = self.ws.send(message.conn, message.text)
            else:
                gone = message is not None and self.http.begin(message)
            if gone:
                self._begun, self._begun_at = message, self._dispatcher.clock()
        except Exception as error:
            self._stumble = error  # others are waiting

    def kill(self, number: int, now: Now) -> None:
        """Send a strike's first message, which is its widest, and do nothing else: other accounts are waiting.

        `kill_on` sends the others, `killed` does the rest.
        """
        self.strike, self._routes, self._sent_ns, self._passing = number, [], 0, True
        self._cancels.clear()
        self._made[now.mono_ns] = number
        try:
            self._more = iter(self.venue.strike(now))
            for output in self._more:
                if isinstance(output, _MESSAGES):
                    self._carry_out_one(output, now)
                    break
                self._afterwards.append(output)
        except Exception as error:
            self._failure = error

    def kill_on(self, now: Now) -> None:
        """Send the strike's other messages, which a venue may make only now."""
        more, self._more = self._more, iter(())
        while True:
            try:
                for output in more:
                    if isinstance(output, _MESSAGES):
                        self._carry_out_one(output, now)
                    else:
                        self._afterwards.append(output)
                return
            except Exception as error:  # one lane's failure is not the other's
                self._failure = self._failure or error

    def killed(self, now: Now) -> Sent:
        """Do what the strike wants besides its messages, and tell how it went; whatever went wrong is an answer."""
        afterwards, self._afterwards = self._afterwards, []
        failure, self._failure = self._failure, None
        try:
            self._carry_out(afterwards, now)
            if failure is not None:
                raise failure
        except Exception as error:
            log.exception("account %s: the strike failed", self.name)
            self._carry_out_one(messages.CancelAnswered(Answer.UNKNOWN, f"internal error: {type(error).__name__}"), now)
        finally:
            self.disown()
            self._passing = False
        return Sent(self.name, self.strike, tuple(self._routes), self._sent_ns, self._count_strike(now))

    def number_on(self, before: int) -> None:
        """Count so many strikes of an earlier process as the account's first ones: answers to ours are yet to come."""
        self.strike += before
        self._strike_of = {tag: number + before for tag, number in self._strike_of.items()}
        self._made = {made_ns: number + before for made_ns, number in self._made.items()}

    def disown(self) -> None:
        """Be done with what `begin` has begun: if no strike has taken it for its own, it has left all the same."""
        self.begun = False
        try:
            self._give_up()
        except Exception as error:  # other accounts are waiting
            self._stumble = self._stumble or error
        if self._stumble is not None:
            self._not_understood(self._stumble)
            self._stumble = None

    def _give_up(self) -> None:
        if self._begun is not None:
            route = Route.WS if isinstance(self._begun, messages.Send) else Route.HTTP
            self._adopt()
            try:
                self._note_sent(route)
            finally:
                self.http.forgo()

    def _count_strike(self, now: Now) -> Due | None:
        """Take the orders that are open into the kill's count; return what the strike's record is to say of them."""
        try:
            if len(self._made) > STRIKES_KNOWN:
                del self._made[next(iter(self._made))]
            cold = not (self.venue.tracing or self.venue.book_known)
            due = self._counter.on_strike(self._kill, now)
            if cold:
                self._carry_out(self.venue.look_beside(now), now)
            return due
        except Exception as error:  # the strike has left, and is to be told
            self._not_understood(error)
            return None

    @property
    def _kill(self) -> str:
        return self._dispatcher.state.accounts[self.name].kill or ""

    def read(self) -> None:
        """Ask the venue for what is left; of a kill that gets nowhere, once the venue's limit has room for it."""
        now, account = self._dispatcher.clock(), self._dispatcher.state.accounts.get(self.name)
        waits = account is not None and account.sweep is not None and sweep.may_wait(account.sweep, now.mono_ns)
        wait_s = self.venue.read_wait_s(now) if waits else 0.0
        if not wait_s:
            self._read_ns = 0
            self._guarded(self.venue.read)
        elif not self._read_ns:
            self._read_ns = now.mono_ns + int(wait_s * 1e9)
            self._dispatcher.alarms.set(self._read_ns, self._read_at, self._read_ns)

    def _read_at(self, at_ns: int) -> None:
        if at_ns == self._read_ns:
            self._read_ns = 0
            if self._tripped:
                self.read()

    def look_beside(self) -> None:
        """Ask the venue for what rests there, if a strike will not say; nothing waits for it."""
        self._guarded(self.venue.look_beside)

    def look(self) -> None:
        """Ask the venue for what rests there, behind everything that is urgent: nobody is being killed."""

        def unhurried(now: Now) -> messages.Outputs:
            outputs = self.venue.read(now)
            return tuple(one._replace(urgent=False) if isinstance(one, messages.Call) else one for one in outputs)

        self._guarded(unhurried)

    def wake_at(self, at_ns: int) -> None:
        """Tell the sweep `Due` then; an earlier appointment is void."""
        self._due_ns = at_ns
        self._dispatcher.alarms.set(at_ns, self._wake, at_ns)

    def void(self) -> None:
        """Drop what strikes still want: a person has armed the account again, or another session has taken it over."""
        self._counter.settle()
        self._cancels.clear()
        self._strike_of.clear()
        self._made.clear()
        try:
            self.venue.void()
        except Exception as error:  # no command leaves all the same
            self._not_understood(error)

    def retire(self) -> None:
        """Hear no more, and send no command: another session has taken the account over, or nobody has it."""
        self._retired = True
        self._due_ns = 0
        self.void()

    def _wake(self, at_ns: int) -> None:
        if at_ns == self._due_ns:
            self._due_ns = 0
            now = self._dispatcher.clock()
            self._dispatcher.handle(engine.Progress(self.name, sweep.Due(now.mono_ns), now))

    # what the lanes tell

    def event(self, event: messages.Event) -> None:
        if self._retired:
            return
        now = self._dispatcher.clock()
        before, tag = self._answered, event.tag if isinstance(event, _REPLIES) else ""
        self._answered = self._strike_of.get(tag, 0)
        try:
            self._carry_out(self.venue.feed(event, now), now)
            if type(event) is messages.Replied and event.status >= 400:
                self._mind(event, now)
        except Exception as error:
            self._not_understood(error)
        if self._answered and tag not in self.venue.asked:
            self._strike_of.pop(tag, None)
        self._answered = before

    def _mind(self, reply: messages.Replied, now: Now) -> None:
        """Keep to what a refusal says about when to come again: until then, only what is urgent leaves."""
        asked_s = retry_after.asked_s(reply.headers, now.wall_ns)
        if asked_s:
            why = f"HTTP {reply.status}: {retry_after.words(asked_s)}; cancels leave all the same"
            self._hold(asked_s, why, now)
            self._log(Route.HTTP, logging.WARNING, why)

    def _hold(self, asked_s: float, why: str, now: Now) -> None:
        """Let no call leave for a while but urgent ones and commands."""
        until_ns = now.mono_ns + int(min(asked_s, retry_after.MOST_S) * 1e9)
        if until_ns > self._quiet[1]:
            self._quiet = why, until_ns
        self.http.hold(asked_s)

    @property
    def quiet(self) -> str:
        """Say why only urgent calls and commands leave now; "" if all do."""
        why, until_ns = self._quiet
        return why if self._dispatcher.clock().mono_ns < until_ns else ""

    def wanted(self, call: messages.Call) -> bool:
        """Say whether a call that had to wait is to leave: if nothing else has answered it, and nobody has re-armed."""
        return not self._retired and self.venue.awaits(call.tag) and self._allowed(call)

    def _allowed(self, message: messages.Call | messages.Send) -> bool:
        """Say whether a message may leave now.

        A kill's command leaves for a tripped account only, whatever its priority: it would hit orders that are to stay.
        """
        return not message.command or self._tripped

    def sent(self, route: Route, tag: str) -> None:
        if tag in self._cancels and not self._retired:
            self._note_sent(route)

    def rtt(self, route: Route, rtt_us: int) -> None:
        self.rtt_us[route] = rtt_us

    def trouble(self, route: Route, why: str) -> None:
        """Log what is wrong with a lane: once, and again at a bounded pace; and that it is over."""
        if self._retired:
            return
        if why:
            self._log(route, logging.WARNING, why)
        elif self._repeats[route].over():
            log.info("account %s: %s lane: up again", self.name, route)

    def _log(self, route: Route, level: int, why: str) -> None:
        if line := self._repeats[route].line(why, self._dispatcher.clock().mono_ns):
            log.log(level, "account %s: %s lane: %s", self.name, route, printable.line(line))

    def drill(self) -> None:
        """Send a harmless command through the order path of each lane."""
        self._guarded(self._drill)

    def _drill(self, now: Now) -> messages.Outputs:
        if not (quiet := self.quiet):
            return self.venue.drill(now)
        return tuple(messages.Drilled(route, False, 0, quiet, tried=False) for route in self.venue.DRILLS)

    def measure(self) -> None:
        """Ask the venue what the account is worth, unless it wants no requests now."""
        if not self.quiet:
            self._guarded(self.venue.measure)

    def warm(self) -> None:
        self._guarded(self.venue.probe)

    # what the venue wants

    def _guarded(self, work: Callable[[Now], messages.Outputs]) -> None:
        now = self._dispatcher.clock()
        try:
            self._carry_out(work(now), now)
        except Exception as error:
            self._not_understood(error)

    def _not_understood(self, error: Exception) -> None:
        self.noise += 1
        if self.noise <= NOISE_LOGGED:
            log.error("account %s: an event was not understood", self.name, exc_info=error)

    def _carry_out(self, outputs: Iterable[messages.Output], now: Now) -> None:
        """Carry all of them out, then raise the first failure: one lane's is not the other's."""
        failure: Exception | None = None
        for output in outputs:
            try:
                self._carry_out_one(output, now)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _carry_out_one(self, output: messages.Output, now: Now) -> None:
        match output:  # a strike and its answer first: each case takes its time
            case messages.Call():
                self._call(output)
            case messages.Send():
                self._send(output)
            case messages.WakeAfter(tag, seconds):
                self._dispatcher.alarms.set(now.mono_ns + int(seconds * 1e9), self._woke, tag)
            case messages.CancelAnswered(answer, evidence, cancelled):
                told = sweep.Answered(now.mono_ns, answer)
                orders = self._counter.on_answer(self._kill, now) if self._tripped else None
                number = self._answered or self._made.get(self.venue.answers_ns, 0)
                if self._passing:  # the strike itself says so
                    number = self.strike
                answered = engine.Progress(self.name, told, now, evidence, cancelled, orders, number)
                self._dispatcher.handle(answered)
            case messages.Prepare(conn, text):
                self.ws.prepare(conn, text)
            case messages.Drop(conn, why):
                self.ws.drop(conn, why)
            case _:
                self._fact(output, now)

    def _call(self, call: messages.Call) -> None:
        if not self._allowed(call):
            self.event(messages.Lost(call.tag, False, "the account is armed again"))
            return
        if call.command:
            if call.cancel:
                self._cancels.add(call.tag)
            self._strike_of.setdefault(call.tag, self._answered or self.strike)
        if call.request is self._begun:
            self._adopt()
        (self.http if call.route is Route.HTTP else self.fresh).call(call)
        self._left_at = None

    def _send(self, message: messages.Send) -> None:
        if message is self._begun:
            self._adopt()
            self._note_sent(Route.WS)
        elif message.command:
            if self._allowed(message) and self.ws.send(message.conn, message.text):
                self._note_sent(Route.WS)
        else:
            self.ws.send(message.conn, message.text)

    def _woke(self, tag: str) -> None:
        self.event(messages.Woke(tag))

    def _adopt(self) -> None:
        """Take what has begun for what is being carried out now."""
        self._begun, self._left_at = None, self._begun_at

    def _note_sent(self, route: Route) -> None:
        now = self._left_at or self._dispatcher.clock()
        self._left_at = None
        self._sent_ns = now.mono_ns
        if route not in self._routes:
            self._routes.append(route)
        if not self._passing:  # a hedge, or a call that had to wait
            self._dispatcher.handle(engine.Struck((Sent(self.name, self.strike, (route,), now.mono_ns),), now))

    def _unready(self, fact: messages.NotReady, now: Now) -> None:
        route, conn, why, fatal = fact
        if route is Route.WS:
            self.ws.drop(conn, why, fatal=fatal)
            if self.ws.state is LaneState.UP:  # it was not the connection that serves
                return
            self.ws.trouble = why
        else:
            self.http.trouble = why
            self.http.authenticated(False)
            if fatal:
                wait_s = min(REFUSED_FIRST_S * 2 ** min(self._refusals, 10), REFUSED_MOST_S)
                self._refusals += 1
                self._hold(wait_s, f"the login was refused: {why}", now)
        self._log(route, logging.ERROR if fatal else logging.WARNING, why)
        self._dispatcher.lane_changed(self, route)

    def _fact(self, fact: messages.Lanes | messages.Facts, now: Now) -> None:
        at_ns = now.mono_ns
        match fact:
            case messages.OrdersRead(orders, complete, asked_ns, why, cancelled) as read:
                self.last_read = read
                told = sweep.count(orders, complete, asked_ns, at_ns)
                evidence = why or ", ".join(f"{o.id} {o.symbol} {o.status}" for o in orders[:3])
                news = self._counter.on_read(self._kill, read, now) if self._tripped else None
                self._dispatcher.handle(engine.Progress(self.name, told, now, evidence, cancelled, news))
            case messages.OrderSeen(order):
                seen = f"{order.id} {order.symbol} {order.status}"
                self._dispatcher.handle(engine.Progress(self.name, sweep.OrderSeen(at_ns), now, seen))
            case messages.Ready(route, conn):
                if route is Route.WS:
                    self.ws.authenticated(conn)
                elif self.http.state is not LaneState.UP:
                    self._refusals = 0
                    self.http.authenticated(True)
                self._dispatcher.lane_changed(self, route)
            case messages.NotReady():
                self._unready(fact, now)
            case messages.RoundTrip(route, rtt_us):
                self.rtt_us[route] = rtt_us
            case (
                messages.OrderPlaced()
                | messages.OrdersFound()
                | messages.Equity()
                | messages.Transferred()
                | messages.ServerTime()
                | messages.Drilled()
            ):
                self._dispatcher.told(self, fact, now)
            case messages.Noise(why):
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
        self.alarms = Alarms(clock, later)
        self.lane_changed = lane_changed
        self.told = told
        self.sessions: dict[str, Session] = {}
        self.counts = Counts()
        self.reported_ns: dict[str, int] = {}  # account → when its latest reason came
        self.alive_ns = 0  # when the engine last answered a pulse
        self._journal = journal
        self._later = later
        self._announce = announce
        self._queue: deque[engine.Event] = deque()
        self._busy = False
        self._flushing: Timer | None = None
        self._syncing: Timer | None = None
        self._unsynced = False  # a latch has been written, and the disk has not been asked to take it for good
        self._alarmed = ""  # the journal's trouble that was announced and has lasted since
        self._verdict: Granted | Waiting | Refused | None = None

    def add(self, name: str, venue: Adapter) -> Session:
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
        begun = () if self._busy else self._begin(reason, now)
        try:
            self.handle(engine.Reported(reason, now))
        finally:
            for session in begun:
                if session.begun:  # no strike has come
                    session.disown()
        self.reported_ns.update(dict.fromkeys(reason.accounts, now.mono_ns))

    def _begin(self, reason: Reason, now: Now) -> list[Session]:
        """Have the first commands leave before anything else happens, if the latch is safe all the same."""
        names = engine.untouched(self.state, reason.accounts)
        try:
            sessions = [self.sessions[name] for name in names]
            known = reason if len(names) == len(reason.accounts) else self._for_known(reason)
            if not names or not self._journal.intend(known):
                return []
        except Exception:
            log.exception("the intent cannot be noted")
            return []
        for session in sessions:
            session.begin(now)
        return sessions

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
        self._have_synced()

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
            if isinstance(event, engine.Reported):
                self._report_the_others(event)
            return
        for command in commands:
            try:
                self._carry_out(command)
            except Exception:  # whatever fails here, what follows may be the strike
                log.exception("%s failed", type(command).__name__)
        if self._unsynced:
            self._have_synced()

    def _report_the_others(self, event: engine.Reported) -> None:
        """Let a reason hold for the accounts that are there, if it names one that a reload has just taken away."""
        reason = self._for_known(event.reason)
        if reason.accounts and reason is not event.reason:
            self._queue.appendleft(event._replace(reason=reason))

    def _for_known(self, reason: Reason) -> Reason:
        """Return a reason for those of its accounts that are there: itself, mostly."""
        known = tuple([name for name in reason.accounts if name in self.state.accounts])
        return reason if len(known) == len(reason.accounts) else replace(reason, accounts=known)

    def _have_synced(self) -> None:
        """Have the latch put on the disk, soon."""
        self._unsynced = False
        if self._syncing is None:
            self._syncing = self._later(SYNC_AFTER_S, self._sync)

    def _carry_out(self, command: engine.Command) -> None:
        match command:
            case engine.WakeAt(account, at_ns):
                self.sessions[account].wake_at(at_ns)
            case engine.Record(kind, data, latch):
                self._record(kind, data, latch)
            case engine.Strike(accounts):
                now = self.clock()
                sessions = [self.sessions[name] for name, _ in accounts]
                for session in sessions:
                    if not session.begun:
                        session.begin(now)
                for session, (_, number) in zip(sessions, accounts, strict=True):
                    session.kill(number, now)
                for session in sessions:
                    session.kill_on(now)
                gone = self.clock()
                sent = tuple([session.killed(gone) for session in sessions])
                self._queue.appendleft(engine.Struck(sent, gone))  # before the answers to it
            case engine.Read(account):
                self.sessions[account].read()
            case engine.Announce():
                self._announce(command)
            case engine.Granted(accounts):
                self._verdict = command
                for name in accounts:
                    self.sessions[name].void()
            case engine.Waiting() | engine.Refused():
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
                self._alarm()
        else:
            self._journal.append(kind, data, now)
            if self._flushing is None:
                self._flushing = self._later(FLUSH_AFTER_S, self._flush)

    def _sync(self) -> None:
        self._syncing = None
        self._journal.sync()

    def _flush(self) -> None:
        self._flushing = None
        if self._journal.flush():
            self._alarmed = ""
        else:
            self._flushing = self._later(1.0, self._flush)
            self._alarm()

    def _alarm(self) -> None:
        """Announce the journal's trouble, once for as long as it lasts."""
        if self._journal.trouble != self._alarmed:
            self._alarmed = self._journal.trouble
            self._announce(engine.Announce("warn", self._journal.trouble))

    @property
    def striking(self) -> tuple[str, ...]:
        """Accounts whose sweep is under way and has not been given up as RESIDUE."""
        busy = (Phase.STRIKING, Phase.CONFIRMING)
        return tuple(name for name, account in self.state.accounts.items() if account.phase in busy)
