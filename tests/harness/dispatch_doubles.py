"""Stand in for what the dispatcher drives: a clock, timers, a journal, lanes and venues, all writing one trace."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kill_switch.core.commands import Announce
from kill_switch.core.domain import CancelOutcome, Instant, LaneState, Order, OrderState, Reason, Route, SweepTiming
from kill_switch.core.events import RearmAsked
from kill_switch.core.order_tracker import settled
from kill_switch.core.state import AccountState, State
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.ports import JournalPort
from kill_switch.dispatch.session import AccountSession
from kill_switch.transports.certificates import CertificateExpiry
from kill_switch.transports.lane import ConnectionCounts
from kill_switch.venues import messages
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.messages import Call, CancelAnswered, OrdersRead, Output, Outputs, Replied
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.request import Request
from tests.harness.core_playbook import START, at

GET_ORDERS = Request("GET", "/orders", {})
CANCEL_ALL = Request("POST", "/cancel-all", {})


@dataclass(eq=False)
class Appointment:
    """A call at a time of the virtual clock, as `Time.later` keeps it."""

    at_ns: int
    number: int
    function: Callable[..., object]
    arguments: tuple[object, ...]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Time:
    """A clock that stands still until `advance`, and timers that go off meanwhile; `early_ns` before their time."""

    def __init__(self) -> None:
        self.ns = START.mono_ns
        self.early_ns = 0
        self.tick_ns = 1
        self._appointments: list[Appointment] = []
        self._numbers = itertools.count()

    def now(self) -> Instant:
        self.ns += self.tick_ns  # no two readings are the same
        return Instant(self.ns, START.wall_ns + self.ns - START.mono_ns)

    @property
    def ms(self) -> float:
        return (self.ns - START.mono_ns) / 1e6

    def later(self, seconds: float, function: Callable[..., object], *arguments: object) -> Appointment:
        made = Appointment(self.ns + round(seconds * 1e9), next(self._numbers), function, arguments)
        self._appointments.append(made)
        return made

    def advance(self, ms: float) -> None:
        end_ns = self.ns + round(ms * 1e6)
        while True:
            self._appointments = [a for a in self._appointments if not a.cancelled]  # hours of them add up
            waiting = [a for a in self._appointments if a.at_ns - self.early_ns <= end_ns]
            if not waiting:
                break
            first = min(waiting, key=lambda a: (a.at_ns, a.number))
            self._appointments.remove(first)
            self.ns = max(self.ns, first.at_ns - self.early_ns)
            first.function(*first.arguments)
        self.ns = max(self.ns, end_ns)

    @property
    def waiting(self) -> int:
        return sum(not appointment.cancelled for appointment in self._appointments)


class Recorder:
    """A journal in memory; `broken` makes it take nothing, `raises` makes it fail in a way that it must not."""

    def __init__(self, trace: list[str]) -> None:
        self.trouble = ""
        self.records: list[tuple[str, Mapping[str, Any]]] = []
        self.flushes = 0
        self.broken = False
        self.raises = False
        self.intends = True
        self.intended: list[tuple[str, ...]] = []
        self._trace = trace

    def note_ahead(self, reason: Reason) -> bool:
        if self.raises:
            raise RuntimeError("a fault within the journal")
        self._trace.append("intend")
        self.intended.append(reason.accounts)
        return self.intends

    def append(self, kind: str, data: Mapping[str, object], at: Instant) -> None:
        self._trace.append(f"append {kind}")
        self.records.append((kind, settled(kind, data)))

    def append_latch(self, kind: str, data: Mapping[str, object], at: Instant) -> bool:
        if self.raises:
            raise RuntimeError("a fault within the journal")
        self._trace.append(f"latch {kind}")
        self.records.append((kind, data))
        return self.flush()

    def flush(self) -> bool:
        self.flushes += 1
        self.trouble = "journal: No space left on device" if self.broken else ""
        return not self.broken

    def sync(self) -> None:
        self._trace.append("sync")

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [data for one, data in self.records if one == kind]


class Lane:
    """A WebSocket lane and an HTTP lane in one; every byte that it is given leaves at once, unless it is down."""

    def __init__(self, name: str, trace: list[str]) -> None:
        self.trouble = ""
        self.certificate: CertificateExpiry | None = None
        self.state = LaneState.UP
        self.connections = ConnectionCounts(1, 1)
        self.waiting_s = 0.0
        self.raises = False
        self.holds = False  # takes calls, and sends them when `release` says so
        self.calls: list[Call] = []
        self.session: AccountSession | None = None
        self._name = name
        self._trace = trace

    def serve(self, session: AccountSession) -> tuple[Lane, Lane, Lane]:
        """Become all lanes of a session."""
        self.session = session
        return self, self, self

    def prepare(self, conn: int, text: bytes) -> None:
        self._trace.append(f"{self._name} prepares {text.decode()}")

    def send(self, conn: int, text: bytes) -> bool:
        if self.raises:
            raise RuntimeError("a fault within the lane")
        self._trace.append(f"{self._name} ws {text.decode()}")
        return self.state is LaneState.UP

    def begin(self, request: Request) -> bool:
        if self.raises:
            raise RuntimeError("a fault within the lane")
        self._trace.append(f"{self._name} begins {request.method} {request.target}")
        return self.state is LaneState.UP and not self.holds

    def abandon_begun(self) -> None:
        self._trace.append(f"{self._name} forgoes")

    def hold(self, asked_s: float) -> None:
        self._trace.append(f"{self._name} holds for {asked_s:.0f} s")

    def call(self, call: Call) -> None:
        if self.raises:
            raise RuntimeError("a fault within the lane")
        self.calls.append(call)
        self._trace.append(f"{self._name} {call.route} {call.request.method} {call.request.target}")
        if not self.holds:
            self.release(call)

    def release(self, call: Call) -> None:
        assert self.session is not None
        self.session.on_sent(call.route, call.tag)

    def authenticated(self, proven: bool | int) -> None:
        self._trace.append(f"{self._name} authenticated {proven!r}")

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None:
        self._trace.append(f"{self._name} drop {conn} {reason}" + (" for good" if fatal else ""))

    def replace(self, conn: int) -> None:
        self._trace.append(f"{self._name} replace {conn}")

    def connect_now(self) -> None:
        self._trace.append(f"{self._name} connects now")


class Options(VenueOptions):
    """The options of the venue double: its addresses."""

    ws_url: str = "wss://venue.example"
    rest_url: str = "https://venue.example"


class Venue(Adapter):
    """A venue with one cancel-all call and one list of orders; `on_kill` and the like replace what it does."""

    NAME = "stub"
    TIMING: ClassVar[SweepTiming] = SweepTiming()
    Options = Options

    def __init__(self, second_route_after_s: float = 0.06) -> None:
        super().__init__(Options(), {}, second_route_after_s)
        self.on_first: Callable[[], Request | messages.Send | None] = lambda: None
        self.on_kill: Callable[[Instant], Outputs] | None = None
        self.on_event: Callable[[], Outputs] | None = None
        self.on_probe: Outputs = ()
        self.struck: list[int] = []  # the numbers of its strikes

    @classmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        return ()

    def prebuilt_command(self, now: Instant) -> Request | messages.Send | None:
        return self.on_first()

    def strike(self, now: Instant, number: int = 1) -> Outputs:
        self.struck.append(number)
        if self.on_kill is not None:
            return self.on_kill(now)
        hedge = self.second_route.cancel_s
        return self.calls.start_call(
            "cancel-all", lambda _: CANCEL_ALL, now, urgent=True, cancel=True, second_route_after_s=hedge
        )

    def read(self, now: Instant) -> Outputs:
        return self.calls.start_call("orders", lambda _: GET_ORDERS, now)

    def keep_warm(self, now: Instant) -> Outputs:
        return self.on_probe

    def show(self, *orders: str, asked_ns: int = 0) -> None:
        """Let a read have shown these orders, and pushes come ever since."""
        self.book.start_pushes(1, asked_ns)
        listed = [Order(name, "BTC", OrderState.LIVE, "open") for name in orders]
        self.book.apply_listing("orders", listed, asked_ns, whole=True)

    def on_reply(self, ask: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        if reply.status != 200:
            return None
        if ask.kind == "cancel-all":
            return (CancelAnswered(CancelOutcome.ACCEPTED, "ok"),)
        orders = [Order(name, "BTC", OrderState.LIVE, "open") for name in reply.body.decode().split()]
        found = self.book.apply_listing("orders", orders, ask.asked_ns, whole=True)
        return (OrdersRead(orders, True, ask.asked_ns), *found)

    def on_loss(self, ask: PendingCall, why: str, now: Instant) -> Outputs:
        if ask.kind == "cancel-all":
            return (CancelAnswered(CancelOutcome.UNKNOWN if ask.sent else CancelOutcome.UNSENT, why),)
        return (OrdersRead((), False, ask.asked_ns, why),)

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        return self._event()

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        return self._event()

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        return self._event()

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        return self._event()

    def _event(self) -> Outputs:
        return () if self.on_event is None else self.on_event()

    def will(self, *outputs: Output) -> None:
        """Answer the next events with these."""
        self.on_event = lambda: outputs


@dataclass(eq=False)
class Floor:
    """A dispatcher with all that it drives."""

    accounts: tuple[str, ...] = ("a",)
    state: State | None = None
    trace: list[str] = field(default_factory=list)
    announced: list[Announce] = field(default_factory=list)
    lane_changes: list[tuple[str, Route]] = field(default_factory=list)
    journal: JournalPort | None = None  # instead of one in memory

    def __post_init__(self) -> None:
        self.time = Time()
        self.recorder = Recorder(self.trace)
        self.announce: Callable[[Announce], None] = self.announced.append
        state = self.state or State({name: AccountState(SweepTiming()) for name in self.accounts})
        self.dispatcher = Dispatcher(
            state,
            self.journal or self.recorder,
            self.time.now,
            self.time.later,
            lambda announcement: self.announce(announcement),
            lambda account, route: self.lane_changes.append((account, route)),
        )
        self.venues: dict[str, Venue] = {}
        self.lanes = {name: Lane(name, self.trace) for name in self.accounts}
        for name in self.accounts:
            self.connect(name, Venue())

    def connect(self, name: str, venue: Venue, *, ws: Lane | None = None, http: Lane | None = None) -> None:
        """Give the account a session with this venue, over its lane or over these."""
        lane = self.lanes[name]
        ws, http = ws or lane, http or lane
        session = AccountSession(name, venue, self.dispatcher, lambda _: (ws, http, http))
        self.venues[name] = venue
        ws.session = http.session = self.dispatcher.register(session)

    def fire(self, *accounts: str) -> None:
        self.dispatcher.fire(Reason("panic", "touched", accounts or self.accounts, self.time.now()))

    def answer(self, name: str, status: int = 200, body: bytes = b"") -> None:
        """Answer the last call."""
        call = self.lanes[name].calls[-1]
        self.session(name).on_lane_event(Replied(call.tag, status, {}, body))

    def session(self, name: str = "a") -> AccountSession:
        return self.dispatcher.sessions[name]

    def phase(self, name: str = "a") -> str:
        return self.dispatcher.state.accounts[name].phase.value

    def asked(self, *accounts: str, uid: int = 1, force: bool = False) -> RearmAsked:
        return RearmAsked(uid, "user", "all well", accounts or self.accounts, force, (), at(self.time.ms))
