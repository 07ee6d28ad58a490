"""Define `Adapter`, the protocol object of one account at one venue: no sockets, no clock, no randomness.

`dispatch`, tests and simulations pass it events and carry out the outputs that it returns, in order (`messages`).
An adapter never raises for a message of the venue: an unreadable one is `UnexplainedMessage` or an `UNKNOWN` answer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, assert_never
from urllib.parse import urlsplit

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.decode import Evidence, parse_json
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.budget import Budget
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.kit.drill import DRILL, DrillTracker
from kill_switch.venues.kit.further_connections import FurtherConnections
from kill_switch.venues.kit.readback import AWAIT, REFRESH, ReadBackRunner
from kill_switch.venues.kit.second_route import SecondRoute
from kill_switch.venues.messages import (
    CallLost,
    Closed,
    Event,
    Opened,
    Output,
    Outputs,
    Received,
    Replied,
    Send,
    UnexplainedMessage,
    VenueTimerFired,
)
from kill_switch.venues.options import ws_url_of
from kill_switch.venues.profile import OptionsT, VenueProfile
from kill_switch.venues.request import Request, Upgrade
from kill_switch.venues.retry_after import retry_after_s
from kill_switch.venues.sharing import ConnectionShare, Member, share_connections

UNNAMED_PAUSE_S = 10.0  # of a call with a limit of its own that is refused, if the venue names none


class Adapter(VenueProfile[OptionsT], FurtherConnections):
    """Speak one account's protocol at its venue.

    `now` is the moment of a call: `mono_ns` for waiting, `wall_ns` for signing. Times named `_ns` are monotonic
    nanoseconds, unless their description names wall time. Every method is called from one thread. Each adapter owns
    the parts of `kit`: `calls`, `book`, `read_backs` and `drills`, beside its `clock` and its `evidence`.
    """

    def __init__(self, options: OptionsT, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        """Make an account's adapter with no lane up.

        `secrets` has the secrets that `secrets(options)` names, or their `alternatives(options)`, and those of
        `optional_secrets(options)` that the account has. `second_route_after_s` is how long a cancel waits for
        an answer before it takes its second route, in seconds; a reload passes another value to `second_route.change`.
        Raise ValueError, which shows no secret, for a secret that cannot be used.
        """
        self.environment = options.environment  # "production" or "testnet"
        self.ws_url = ws_url_of(options)  # "": the venue is served over HTTP alone
        self.rest_url = options.rest_url
        self.upgrade_request = Upgrade()  # with the login of a venue that takes it in the upgrade
        self.second_route = SecondRoute(second_route_after_s)
        self.host = urlsplit(options.rest_url).netloc
        key = secrets.get(self.key_name(options)) if self.secrets(options) else None
        self.member = Member(type(self), options, hash(key))
        self.connections: ConnectionShare = share_connections({"": self.member})[""]  # of the HTTP lane
        self.budget = Budget(self.pools(options), self.COSTS, self.demand(options), self.COUNT)
        # `dispatch.connect` has accounts that share limits share them
        self.limits = self.LIMITS(self.budget, self.plan(options, {}), self.most_probe_s())
        self.pushes_orders = (
            self.PUSHES_ORDERS
        )  # with these options; then no order placed on a ready lane lacks its `OrderPlaced`
        self.drill_routes = self.DRILLS  # with these options
        self.signs_slowly = False  # a signature takes so long that a strike's messages would hold other accounts' up
        self.closes_positions = False  # once its cancels are answered, a strike closes positions
        # what the adapter has found at the account that a kill does not reach now, as phrases: a running TWAP
        self.out_of_reach: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()  # what an operator should change at the venue: a key that may withdraw
        # what the venue has said of the key: `cancel`, `trade`, `read`, `withdraw`, `ip_bound` → whether;
        # `expires` → date or "never"
        self.key_rights: Mapping[str, bool | str] = {}
        self.answers_ns = 0  # when the strike was made whose WebSocket answer came last
        self.clock = ClockOffset()
        self.evidence = Evidence(secrets.values())
        self.calls = CallStarter(
            self.clock,
            self.on_reply,
            self.on_loss,
            connections=self.CONNECTIONS,
            not_processed=self.NOT_PROCESSED,
            bans=self.BANS,
            budget=self.budget,
        )
        self.book = OrderBook()
        self.read_backs = ReadBackRunner(
            self.book, self.calls, self.evidence, self.refresh, lambda: self.second_route.read_s
        )
        self.drills = DrillTracker(self.calls)

    # a kill

    def prebuilt_command(self, now: Instant) -> Request | Send | None:
        """Return the first message of strike 1 if it needs no look at the orders and no slow signature, else None.

        The dispatcher sends it for every armed account before it calls any `strike`. The `strike` that follows must
        yield the same object, or a `Call` with the same request: the dispatcher compares identities and sends it once.
        """
        return None

    @abstractmethod
    def strike(self, now: Instant, number: int) -> Iterable[Output]:
        """Yield the commands of one strike, which cancels every order of the account; the widest command is first.

        `number` is 1 for the first strike since the account was armed. It counts on until the re-arm, through pauses
        and other reasons. It may begin above 1, because a new process goes on with a kill.
        A generator lets the first command leave before the next is built: there may be thousands of orders. The
        strike ends in one `CancelAnswered`, which proves nothing. Mark each message that changes the account as
        `command`.
        """

    @abstractmethod
    def read(self, now: Instant) -> Outputs:
        """Read every open order back, conditional orders and other programs' orders too; ends in one `OrdersRead`.

        The calls are urgent. Each order that a list shows is in `OrdersRead`, even if another list fails.
        """

    def read_alongside_strike(self, now: Instant) -> Outputs:
        """Request the open orders beside a kill's first strike if no order is known, for `book.note_open`.

        Override it where the answer to a strike does not name the cancelled orders. Nothing waits for the answer.
        """
        return ()

    def drop_strike_work(self) -> None:
        """Drop the strikes' unfinished work, because the account is armed again; sent commands and reads stay known.

        No fact is returned for a dropped call. An adapter that keeps more of a strike than its calls overrides this.
        """
        self.book.stop_tracing()
        self.calls.forget_commands()

    def is_pending(self, tag: str) -> bool:
        """Return whether a call still has to leave: the other route may have answered it, or it may be queued."""
        return tag in self.calls.pending

    # lanes

    @abstractmethod
    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        """Begin the login of a lane that came up, or prove the lane; ends in `Ready` or `NotReady`.

        Pass a WebSocket connection that pushes orders to `read_backs.begin_pushes` once it is ready.
        """

    @abstractmethod
    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        """Forget a lane that went down, and return `NotReady`; the book and the drills are notified before."""

    @abstractmethod
    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        """Process one JSON object from the WebSocket; ignore it if the connection has been closed since."""

    def handle_raw_frame(self, conn: int, text: str | bytes, now: Instant) -> Outputs | None:
        """Process a frame that the venue does not send as JSON; return None if this frame is not of that kind."""
        return None

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        """Process a timer that the venue's adapter has started itself; its tag contains no `#`."""
        return ()

    def upgrade(self, now: Instant) -> Upgrade:
        """Return what the next WebSocket connection is requested with; by default always `upgrade_request`.

        It is called for each attempt, after `reason_to_stay_disconnected`. An address or a token that a REST answer has
        handed out may be in its `target`: no message, log or status shows it.
        """
        return self.upgrade_request

    def reason_to_stay_disconnected(self, now: Instant) -> str:
        """Return why the daemon must open no WebSocket connection now; "": it may open a connection.

        A venue that allows a single connection may have granted it to another program. Or the adapter waits for a
        token: once it has the token, it returns `ConnectNow`.
        """
        return ""

    @property
    def waits_for_token(self) -> bool:
        """Whether a token is under way, as at each start: why no connection is wanted is then not logged."""
        return False

    # calls

    @abstractmethod
    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        """Turn a reply into facts; return None if it proves nothing: then the call takes its second route at once."""

    @abstractmethod
    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Turn the loss of a call into facts; `call.sent` is whether a byte of the call may have left."""

    # between kills

    @abstractmethod
    def keep_warm(self, now: Instant) -> Outputs:
        """Probe the HTTP lane with a cheap authenticated read, which keeps the lane warm and proves the key."""

    def refresh(self, now: Instant) -> Outputs:
        """Read every list of orders with calls that are not urgent; by default the probe reads them."""
        return self.keep_warm(now)

    def describe_strike(self) -> tuple[str, ...]:
        """Return a strike's commands as they are now, a line each, without keys and signatures; change nothing."""
        return ()

    def drill(self, now: Instant) -> Outputs:
        """Send the cancel of an order that cannot exist; ends in one `Drilled` for each lane of `DRILLS`."""
        return ()

    def request_equity(self, now: Instant) -> Outputs:
        """Request the account's equity; ends in one `Equity`. An adapter whose venue pushes all figures returns ()."""
        return ()

    def why_not_ready(self, route: Route) -> str:
        """Return why a lane that answers could not carry a kill, for example a key without the right; "": it could."""
        return ""

    def slow_kill_warning(self, now: Instant) -> str:
        """Return one line for the operator if a kill would be slow now although every lane is ready, else ""."""
        return ""

    # events

    def handle(self, event: Event, now: Instant) -> Outputs:
        """Process one event, and return its outputs, which the caller carries out in order."""
        self.book.now_ns = now.mono_ns
        match event:
            case Received(conn, text):
                return _handle_frame(self, conn, text, now)
            case Replied():
                _note_reply(self, event, now)
                return self.calls.on_reply(event, now)
            case CallLost():
                return self.calls.on_lost(event, now)
            case VenueTimerFired(tag):
                return _handle_timer(self, tag, now)
            case Opened(route, conn):
                if route is not Route.WS:
                    self.read_backs.on_http_lane(up=True)
                return self.on_opened(route, conn, now)
            case Closed(Route.WS, conn, why):
                self.book.end_pushes(conn)
                failed = self.drills.on_closed(conn, why, now)
                return (*self.on_closed(Route.WS, conn, why, now), *failed)
            case Closed(route, conn, why):
                self.read_backs.on_http_lane(up=False)
                return self.on_closed(route, conn, why, now)
            case _:
                assert_never(event)


def _note_reply(adapter: Adapter, reply: Replied, now: Instant) -> None:
    """Note what a reply shows of the venue's limits and speed; an apart call that is refused pauses its kind alone."""
    if adapter.calls.is_apart(reply):
        if adapter.is_over_limit(reply):
            adapter.calls.hold(reply.tag, retry_after_s(reply.headers, now.wall_ns) or UNNAMED_PAUSE_S, now)
        return
    adapter.budget.on_answer()
    if usage := adapter.usage(reply):
        adapter.budget.on_usage(usage, now)
    if adapter.is_over_limit(reply):
        why = f"HTTP {reply.status}"
        adapter.budget.on_refusal(retry_after_s(reply.headers, now.wall_ns), now, why)
    elif adapter.STATUS_ACCEPTS and adapter.budget.refused_ns and reply.status < 400:
        call = adapter.calls.pending.get(reply.tag)
        if call is not None and call.cancel:  # it ends the pause that refusals have begun
            adapter.budget.on_accepted(call.asked_ns, now)
    adapter.second_route.note_round_trip(Route.HTTP, reply.rtt_us)


def _handle_frame(adapter: Adapter, conn: int, text: str | bytes, now: Instant) -> Outputs:
    raw_frame_outputs = adapter.handle_raw_frame(conn, text, now)
    if raw_frame_outputs is not None:
        return raw_frame_outputs
    message = parse_json(text)
    if not isinstance(message, dict):
        return (UnexplainedMessage("a frame that is not a JSON object"),)
    return adapter.on_message(conn, message, now)


def _handle_timer(adapter: Adapter, tag: str, now: Instant) -> Outputs:
    if "#" in tag:
        call = adapter.calls.pending.get(tag)
        if call is None:
            return ()
        return (*adapter.calls.on_timer(tag, now), *adapter.read_backs.report_late_list(call))
    if tag.startswith(DRILL):
        return adapter.drills.on_timer(tag, now)
    if tag == REFRESH:
        return adapter.read_backs.on_refresh_timer(now)
    if tag == AWAIT:
        return adapter.read_backs.on_await_timer(now)
    return adapter.on_timer(tag, now)
