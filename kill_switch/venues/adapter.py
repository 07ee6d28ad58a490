"""Define what a venue is to this program: a protocol object with no sockets, no clock and no randomness.

An `Adapter` turns a kill into messages, and a venue's answers into facts. Whoever drives it (`dispatch`, a test, a
simulation) gives it events and carries out what it returns, in order; `messages` defines all of these. An adapter
never raises for what a venue sends: a message that cannot be understood is `UnexplainedMessage`, or an answer that is
`UNKNOWN`.

A venue's class states the methods here. What every adapter needs besides, it owns: `calls`, `book`, `read_backs`,
`drills`, `clock` and `evidence`.
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
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.kit.drill import DRILL, DrillTracker
from kill_switch.venues.kit.rate_pool import RatePool
from kill_switch.venues.kit.readback import REFRESH, ReadBackRunner
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
from kill_switch.venues.profile import OptionsT, VenueProfile
from kill_switch.venues.request import Request


class Adapter(VenueProfile[OptionsT]):
    """One account at one venue.

    `now` is the moment of a call: `mono_ns` for waiting, `wall_ns` for signing. Times that are named `_ns` are
    monotonic nanoseconds unless they are said to be wall time. Every method is called from one thread.
    """

    def __init__(self, options: OptionsT, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        """Make an account's adapter with no lane up.

        `secrets` has what `secrets(options)` names. `hedge_after_s` is how long a cancel waits for an answer before it
        takes its second route, in seconds; a reload may assign another one. Raise ValueError, which shows no secret,
        for a secret that cannot be used.
        """
        self.ws_url = options.ws_url
        self.rest_url = options.rest_url
        self.hedge_after_s = hedge_after_s
        self.host = urlsplit(options.rest_url).netloc
        key = secrets.get(self.key_name(options)) if self.secrets(options) and self.LIMITED_BY == "key" else None
        self.limited_by = (self.NAME, self.host, hash(key))  # accounts with the same one share a limit
        self.pushes_orders = self.PUSHES_ORDERS  # with these options; then `OrderPlaced` misses none on a ready lane
        self.closes_positions = False  # a strike goes on to close positions once its cancels are answered
        self.answers_ns = 0  # the strike that was answered last over the WebSocket was made then
        self.clock = ClockOffset()
        self.evidence = Evidence(secrets.values())
        self.calls = CallStarter(
            self.clock,
            self.on_reply,
            self.on_loss,
            connections=self.CONNECTIONS,
            not_processed=self.NOT_PROCESSED,
            pool=None if self.LIMIT is None else RatePool(*self.LIMIT),
        )
        self.book = OrderBook()
        self.read_backs = ReadBackRunner(self.book, self.calls, self.evidence, self.refresh, lambda: self.hedge_after_s)
        self.drills = DrillTracker(self.calls)

    # the limit that accounts share

    def share_limit(self, other: Adapter) -> None:
        """Share the limit of `other`, whose `limited_by` is the same; call it before the first request."""
        self.calls.pool = other.calls.pool

    def read_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read may go that is to leave enough for cancels; 0: now."""
        return 0.0 if self.calls.pool is None else self.calls.pool.wait_s(now)

    # a kill

    def prebuilt_command(self, now: Instant) -> Request | Send | None:
        """Return what a strike begins with, if that is at hand: it leaves before any account's strike is made.

        Its identity is the protocol: `strike`, which is called next and a moment later, yields the same object, or a
        `Call` with the same request. None: it takes time to make, or it depends on what takes time to know.
        """
        return None

    @abstractmethod
    def strike(self, now: Instant) -> Iterable[Output]:
        """Make one strike, the widest command first: whatever gets every order off the account.

        The messages may be made one after the other, so that the first leaves before the next is made: there may be
        thousands of orders. The strike ends in one `CancelAnswered`, and an answer is no proof. A message that changes
        the account is marked as `command`.
        """

    @abstractmethod
    def read(self, now: Instant) -> Outputs:
        """Read all open orders back, conditional and foreign ones too; ends in one `OrdersRead`.

        It is urgent. An order that any list shows is in `OrdersRead`, also if another list fails.
        """

    def read_alongside_strike(self, now: Instant) -> Outputs:
        """Ask for the open orders beside a kill's first strike, of which none are known; `book.note_open` takes them.

        For a venue whose answer to the strike does not name the orders that it cancels; nothing waits for this.
        """
        return ()

    def drop_strike_work(self) -> None:
        """Drop what strikes still want: the account is armed again. What has left stays known, and what is read too.

        A venue that keeps more of a strike than its calls drops that too. Nothing is told of what was dropped.
        """
        self.book.stop_tracing()
        self.calls.forget_commands()

    def is_pending(self, tag: str) -> bool:
        """Tell whether a call is still to leave: it may have been answered on the other route, or wait for its turn."""
        return tag in self.calls.pending

    # lanes

    @abstractmethod
    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        """Take a lane that came up: begin its login, or prove it; ends in `Ready` or `NotReady`.

        A WebSocket connection that pushes orders is handed to `read_backs.begin_pushes` once it is ready.
        """

    @abstractmethod
    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        """Take a lane that went down, which the book and the drills know already; says `NotReady`."""

    @abstractmethod
    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        """Take one JSON object from the WebSocket; the connection may have been given up since."""

    def handle_raw_frame(self, conn: int, text: str | bytes, now: Instant) -> Outputs | None:
        """Take a frame that is not JSON, if the venue has such; None: it has not, or this is none of these."""
        return None

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        """Take a timer that the venue's class has asked for itself; its tag has no `#` in it."""
        return ()

    def upgrade_headers(self, now: Instant) -> Mapping[str, str]:
        """Return the headers of the WebSocket upgrade that authenticate it, where the venue does it so."""
        return {}

    def reason_to_stay_disconnected(self, now: Instant) -> str:
        """Return why no WebSocket connection is wanted now, where the venue allows one and another program has it.

        An empty text: a connection is wanted.
        """
        return ""

    # calls

    @abstractmethod
    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        """Turn a reply into facts; None says that it proves nothing and another route should be heard."""

    @abstractmethod
    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Turn the loss of a call into facts; `call.sent` says whether a byte of it may have left."""

    # between kills

    @abstractmethod
    def keep_warm(self, now: Instant) -> Outputs:
        """Use the HTTP lane for a cheap authenticated read, which keeps it warm and proves the key."""

    def refresh(self, now: Instant) -> Outputs:
        """Read every list, behind everything that is urgent; by default the probe does so."""
        return self.keep_warm(now)

    def describe_strike(self) -> tuple[str, ...]:
        """Return what a strike would send now, a line a command, without keys and signatures; nothing is changed."""
        return ()

    def drill(self, now: Instant) -> Outputs:
        """Send a command that cannot hit anything through the order path; ends in a `Drilled` for each of `DRILLS`."""
        return ()

    def request_equity(self, now: Instant) -> Outputs:
        """Ask for what the account is worth; ends in one `Equity`. A venue that pushes it all may return nothing."""
        return ()

    def slow_kill_warning(self, now: Instant) -> str:
        """Return in one line for people what would make a kill slow now, though every lane is ready; "": nothing."""
        return ""

    # what drives it

    def handle(self, event: Event, now: Instant) -> Outputs:
        """Take one event, and return what follows from it, to be carried out in order."""
        self.book.now_ns = now.mono_ns
        match event:
            case Received(conn, text):
                plain = self.handle_raw_frame(conn, text, now)
                if plain is not None:
                    return plain
                message = parse_json(text)
                if not isinstance(message, dict):
                    return (UnexplainedMessage("a frame that is not a JSON object"),)
                return self.on_message(conn, message, now)
            case Replied():
                return self.calls.on_reply(event, now)
            case CallLost():
                return self.calls.on_lost(event, now)
            case VenueTimerFired(tag) if "#" in tag:
                call = self.calls.pending.get(tag)
                if call is None:
                    return ()
                return (*self.calls.on_timer(tag, now), *self.read_backs.tell_early(call))
            case VenueTimerFired(tag) if tag.startswith(DRILL):
                return self.drills.on_timer(tag, now)
            case VenueTimerFired(tag) if tag == REFRESH:
                return self.read_backs.on_refresh_timer(now)
            case VenueTimerFired(tag):
                return self.on_timer(tag, now)
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
