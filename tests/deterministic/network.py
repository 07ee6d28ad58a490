"""Carry messages between an account's lanes and its venue, and lose them: what lies between the two ends of a lane.

The lanes here keep the rules of the real ones (which connection takes a call, when an answer is given up, what is told
of a call that was lost), at the level of messages. A connection keeps its messages in order, may die with any of them
on their way, or go dark without a word.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from kill_switch.core.domain import LaneState, Route
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.kit.server import Connection
from kill_switch.transports.connection_count import LOOK_EVERY_S, ConnectionCount, Step
from kill_switch.transports.connection_pool import MAX_LATE, NOT_NEEDED
from kill_switch.transports.fresh import LATE_WITHIN_S, TIMEOUT_S
from kill_switch.transports.http import CONNECTIONS, NOT_WANTED
from kill_switch.transports.idle_connections import is_refresh_due
from kill_switch.transports.lane import ConnectionCounts
from kill_switch.transports.ws import FATAL_WAIT_S, LOGIN_WITHIN_S, STEADY_AFTER_S
from kill_switch.transports.ws_connection import DEAD_AFTER_S, PING_EVERY_S
from kill_switch.venues.messages import ANSWER_WITHIN_S, Call, CallLost, Closed, Opened, Received, Replied
from kill_switch.venues.request import Request as VenueRequest
from kill_switch.venues.retry_after import MAX_PAUSE_S

if TYPE_CHECKING:
    from kill_switch.dispatch.session import AccountSession

    from .daemon_under_test import Life
    from .scheduler import Appointment, World
    from .simulated_account import House

CONNECT_WITHIN_S = 10.0
LEAST_S = 1e-6  # time goes on between two looks


class Weather:
    """What the network between us and one venue is like."""

    def __init__(self) -> None:
        self.base_s = 0.01
        self.spike = 0.0  # how often a message takes `spike_s` more
        self.spike_s = 0.0
        self.double = 0.0  # how often a frame comes twice
        self.refuses = False  # no connection comes about, and we are told so
        self.dark = False  # nothing passes, and nobody is told so
        self.opening_s = 0.0  # a connection takes so much longer to come about

    def calm(self) -> None:
        self.spike = self.double = self.opening_s = 0.0
        self.refuses = self.dark = False


class Link:
    """One connection. It is the simulator's `Connection` as well, with the names that it has there."""

    def __init__(self, house: House, number: int, *, websocket: bool = False) -> None:
        self.house = house
        self.world = house.world
        self.number = number
        self.open = True  # as far as we know
        self.ended: Callable[[str], None] = lambda why: None
        self.dark = house.weather.dark
        self.is_websocket = websocket
        self.peer = "127.0.0.1"
        self.account: str | None = None
        self.t_ns = 0
        self.pinged_at = 0.0
        self.frozen = False
        self._here = True  # as far as the venue knows
        self._closing = False
        self.ponged_at = 0.0  # when the last pong came, by the venue's clock
        self._up_ns = self._down_ns = 0
        self._unread: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._unsent: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        house.links.add(self)

    def __hash__(self) -> int:
        return self.number  # sets of links are gone through in an order that a seed repeats

    # messages

    def _takes_s(self) -> float:
        weather, chance = self.house.weather, self.world.net.random
        taken_s = weather.base_s * (0.7 + 0.6 * chance())
        if weather.spike and chance() < weather.spike:
            taken_s += weather.spike_s * chance()
        return taken_s

    def to_venue(self, deliver: Callable[..., object], *arguments: Any) -> None:
        if not self.dark:
            self._up_ns = max(self._up_ns + 1, self.world.ns + int(self._takes_s() * 1e9))
            self.world.at(self._up_ns / 1e9, self._arrived, deliver, arguments)

    def _arrived(self, deliver: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if self.closing:
            if deliver == self._gone:
                self._gone()
            return
        if self.frozen:
            self._unread.append((deliver, arguments))
        else:
            self.t_ns = self.world.ns
            deliver(*arguments)

    def to_us(self, deliver: Callable[..., object], *arguments: Any) -> None:
        if self.frozen:
            self._unsent.append((deliver, arguments))
        elif not self.dark:
            self._down_ns = max(self._down_ns + 1, self.world.ns + int(self._takes_s() * 1e9))
            self.world.at(self._down_ns / 1e9, self._reached, deliver, arguments)

    def _reached(self, deliver: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if self.open and not self.dark:
            deliver(*arguments)

    # ends

    def hang_up(self, why: str) -> None:
        """End it from our side; what is under way may still arrive."""
        if not self.open:
            return
        self.open = False
        self.world.later(0, self.ended, why)
        if self.world.net.random() < 0.5:
            self._gone()  # a reset overtakes it
        else:
            self.to_venue(self._gone)

    def cut(self, why: str = "connection reset") -> None:
        """Have the network end it, for both sides."""
        self._end(why)
        if self.world.net.random() < 0.5:
            self._gone()
        else:
            self.to_venue(self._gone)

    def go_dark(self) -> None:
        """Have nothing pass any more, without a word to either side."""
        self.dark = True
        self._watch_for_silence()

    def _watch_for_silence(self) -> None:
        if self.is_websocket:
            self.world.later(DEAD_AFTER_S + self.world.net.random() * PING_EVERY_S, self._silent)

    def _silent(self) -> None:
        if self.dark or self.frozen:
            self.hang_up(f"no frame received for {DEAD_AFTER_S:g} s")

    def _end(self, why: str) -> None:
        if self.open:
            self.open = False
            self.ended(why)

    def _gone(self) -> None:
        if self._here:
            self._here = False
            self.house.links.discard(self)
            self.house.venue.disconnected(self.as_connection)

    # what a simulator does with its Connection

    @property
    def as_connection(self) -> Connection:
        return cast(Connection, self)

    @property
    def closing(self) -> bool:
        return self._closing or not self._here

    def say(self, text: bytes) -> None:
        if not self.closing:
            self.to_us(self.hears, text)
            if self.house.weather.double and self.world.net.random() < self.house.weather.double:
                self.to_us(self.hears, text)

    def hears(self, text: bytes) -> None: ...

    def frame(self, text: bytes) -> bytes:
        return text

    def write(self, data: bytes) -> None:
        """Send a part of a frame: nothing comes of it."""

    def ping(self) -> None:
        """Note a pong at once: lanes answer pings by themselves, whatever else is lost."""
        self.ponged_at = time.monotonic()

    def close_websocket(self, code: int, reason: str = "") -> None:
        self.finish(f"closed by the venue: {code} {reason}".rstrip())

    def finish(self, why: str = "closed by the venue") -> None:
        if not self._closing:
            self._closing = True
            self.to_us(self._end, why)
            self.world.later(0, self._gone)

    def abort(self) -> None:
        self.finish("connection reset")

    def freeze(self) -> None:
        self.frozen = True
        self._watch_for_silence()

    def thaw(self) -> None:
        if self.frozen and self._here:
            self.frozen = False
            unsent, self._unsent = self._unsent, []
            for deliver, arguments in unsent:
                self.to_us(deliver, *arguments)
            unread, self._unread = self._unread, []
            for deliver, arguments in unread:
                self._arrived(deliver, arguments)


class WsLink(Link):
    """A WebSocket connection: what it hears goes to a lane."""

    def __init__(self, lane: WsLane, number: int) -> None:
        super().__init__(lane.house, number, websocket=True)
        self._lane = lane

    def hears(self, text: bytes) -> None:
        self._lane.heard(self, text)


class Exchange:
    """The place of one request's reply, for a simulator."""

    def __init__(self, link: Link, request: Request, told: Callable[[int, bytes, Mapping[str, str]], None]) -> None:
        self.connection = link
        self.request = request
        self._told = told

    def reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        if not self.connection.closing:
            self.connection.to_us(self._told, status, body, headers or {})

    def send(self, data: bytes, *, close: bool = False) -> None:
        """Send a reply that is cut off: the end of the connection is what is seen of it."""
        self.connection.finish("the answer is cut off")


class _Lane:
    """What lanes have in common: a reload ends them, and whatever they were about."""

    life: Life
    over = False

    def soon(self, seconds: float, function: Callable[..., object], *arguments: Any) -> Appointment:
        """Call a function of this lane, unless the lane or the process has ended."""
        return self.life.enter_later(seconds, self._go_on, function, arguments)

    def _go_on(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if not self.over:
            function(*arguments)

    def _leave(self, links: Iterable[Link]) -> None:
        """End these connections without a word to the session."""
        self.over = True
        for link in links:
            link.ended = lambda why: None
            link.hang_up("the account logs in as another one")


class _Backoff:
    def __init__(self, world: World) -> None:
        self._world = world
        self.failures = 0

    def next_s(self) -> float:
        longest = min(10.0, 0.1 * 2.0 ** min(self.failures, 10))
        low = longest / 2 if self.failures else 0.0
        self.failures += 1
        return low + self._world.net.random() * (longest - low)


def _asked(house: House, call: Call) -> Request:
    request = call.request
    parts = urlsplit(request.target)
    headers = {"host": house.host, **{name.lower(): value for name, value in request.headers.items()}}
    target, ns = request.target, house.world.ns
    return Request(request.method, target, parts.path, parts.query, headers, request.body, ns, True)


class WsLane(_Lane):
    """Stand in for the WebSocket lane."""

    certificate = None

    def __init__(self, life: Life, house: House, session: AccountSession) -> None:
        self.life, self.house, self.world, self.session = life, house, house.world, session
        self.trouble = ""
        self._link: WsLink | None = None
        self._opened = self._authenticated = False
        self._fatal = False
        self._since_ns = 0
        self._backoff = _Backoff(self.world)
        self._next: Appointment | None = None  # the next attempt, if none is under way
        self._asked_s = 0.0  # the venue's `Retry-After` at the last attempt
        self._hurry = False  # that is not to wait
        self._again()

    @property
    def state(self) -> LaneState:
        if self._link is None or not self._link.open or not self._opened:
            return LaneState.DOWN
        return LaneState.UP if self._authenticated else LaneState.CONNECTING

    @property
    def connections(self) -> ConnectionCounts:
        return ConnectionCounts(int(self.state is LaneState.UP), 1)

    def end(self) -> None:
        self._leave([self._link] if self._link is not None else [])
        self._link = None

    def prepare(self, conn: int, text: bytes) -> None:
        """Do nothing: there are no frames here."""

    def send(self, conn: int, text: bytes) -> bool:
        link = self._link
        self.life.step()
        if link is None or link.number != conn or not link.open or not self._opened:
            return False
        self.house.sends(self.life, text)
        link.to_venue(self._deliver, link, text)
        return True

    def _deliver(self, link: WsLink, text: bytes) -> None:
        if link.as_connection in self.house.venue.sessions:
            self.house.venue.received(link.as_connection, text.decode())

    def authenticated(self, conn: int) -> None:
        if self._link is not None and self._link.number == conn:
            self._authenticated = True

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None:
        if self._link is not None and self._link.number == conn:
            self._fatal = self._fatal or fatal
            self._link.hang_up(reason)

    def replace(self, conn: int) -> None:
        """Close the connection: a life has one at a time."""
        self.drop(conn, "the venue is closing it")

    def connect_now(self) -> None:
        """Make the next attempt without a wait; an open connection stays."""
        if self._next is None:
            self._hurry = True
        elif not self._asked_s:
            self._next.cancel()
            self._next = self.soon(0, self._connect)

    def heard(self, link: WsLink, text: bytes) -> None:
        self.house.hears(text)
        self.life.enter(self.session.on_lane_event, Received(link.number, text))

    def _again(self) -> None:
        wait_s = self._backoff.next_s() + (FATAL_WAIT_S if self._fatal else 0)
        self._next = self.soon(max(0 if self._hurry else wait_s, self._asked_s), self._connect)
        self._fatal = self._hurry = False

    def _connect(self) -> None:
        venue = self.session.venue
        now = self.world.now()
        self._next, self._asked_s = None, 0.0
        self._link, self._opened, self._authenticated = None, False, False
        if venue.reason_to_stay_disconnected(now) or self.house.weather.refuses:
            self.trouble = "refused"
            self._again()
            return
        upgrade = venue.upgrade(now)
        headers = {name.lower(): value for name, value in upgrade.headers.items()}
        link = self._link = WsLink(self, self.house.next_link())
        link.ended = lambda why: self.life.enter(self._ended, link, why)
        target = upgrade.target or urlsplit(venue.ws_url).path
        headers |= {"host": self.house.host, "upgrade": "websocket", "connection": "Upgrade"}
        request = Request("GET", target, target, "", headers, b"", self.world.ns, True)
        link.to_venue(self._upgrade, link, request)
        self.soon(CONNECT_WITHIN_S, self._late, link)

    def _upgrade(self, link: WsLink, request: Request) -> None:
        self.house.venue.connected(link.as_connection)
        refusal = self.house.venue.upgrading(link.as_connection, request)
        if link.closing:
            return
        if refusal is not None:
            link.to_us(self._refused, link, refusal.status, refusal.headers)
            return
        link.to_us(self.life.enter, self._open, link)
        self.house.venue.opened(link.as_connection, request)

    def _refused(self, link: WsLink, status: int, headers: Mapping[str, str]) -> None:
        self._fatal = self._fatal or status in (401, 403)
        self._asked_s = min(float(headers.get("Retry-After", 0)), MAX_PAUSE_S)
        link.hang_up(f"upgrade refused: HTTP {status}")

    def _open(self, link: WsLink) -> None:
        if link is self._link and link.open:
            self._opened, self._since_ns = True, self.world.ns
            self.session.on_lane_event(Opened(Route.WS, link.number))

    def _late(self, link: WsLink) -> None:
        if link is self._link and link.open and not self._opened:
            link.hang_up("timed out")
        elif link is self._link and link.open and not self._authenticated:
            self.soon(LOGIN_WITHIN_S, self._not_logged_in, link)

    def _not_logged_in(self, link: WsLink) -> None:
        if link is self._link and link.open and not self._authenticated:
            link.hang_up("no login in time")

    def _ended(self, link: WsLink, why: str) -> None:
        if link is not self._link:
            return
        opened, lasted_ns = self._opened, self.world.ns - self._since_ns
        self._link, self._opened, self._authenticated, self.trouble = None, False, False, why
        if opened and lasted_ns >= STEADY_AFTER_S * 1e9:
            self._backoff.failures = 0
        if opened:
            self.session.on_lane_event(Closed(Route.WS, link.number, why))
        self._again()


class _Connection:
    """One of the HTTP lane's connections."""

    def __init__(self, link: Link, backoff: _Backoff | None) -> None:
        self.link = link
        self.late = False  # it waits beside the lane for an answer
        self.backoff = backoff  # None: it is a further one, opened for strikes of many calls
        self.call: Call | None = None
        self.begun: VenueRequest | None = None
        self.used_ns = 0
        self.since_ns = link.world.ns

    @property
    def open(self) -> bool:
        return self.link.open

    @property
    def idle(self) -> bool:
        return self.call is None and self.begun is None and self.link.open


class HttpLane(_Lane):
    """Stand in for the HTTP lane: two connections, one of them always free for a kill; more for strikes of many calls.

    The product's own `ConnectionCount` decides on the further ones.
    """

    certificate = None
    waiting_s = 0.0

    def __init__(self, life: Life, house: House, session: AccountSession) -> None:
        self.life, self.house, self.world, self.session = life, house, house.world, session
        self.trouble = ""
        self._quiet_until_ns = 0
        self._connections: list[_Connection] = []
        self._urgent: deque[Call] = deque()
        self._waiting: deque[Call] = deque()
        self._begun: _Connection | None = None
        self._late: list[_Connection] = []
        self._proven = False
        for _ in range(CONNECTIONS):
            backoff = _Backoff(self.world)
            self.soon(backoff.next_s(), self._connect, backoff)
        self._warm_s = self.session.venue.WARM_EVERY_S / CONNECTIONS
        self.soon(self._warm_s, self._warm)
        self._count = ConnectionCount(
            lambda: session.pacer.wanted_connections(),
            per_s=lambda: session.venue.connections.per_s,
            pinned=lambda: session.is_tripped,
            idle_s=session.venue.IDLE_S,
        )
        self.soon(LOOK_EVERY_S, self._adjust)
        self.soon(LOOK_EVERY_S, self._keep_open)

    @property
    def state(self) -> LaneState:
        if not any(c.open for c in self._connections):
            return LaneState.DOWN
        return LaneState.UP if self._proven else LaneState.CONNECTING

    def authenticated(self, proven: bool) -> None:
        self._proven = proven

    def end(self) -> None:
        self._leave([connection.link for connection in (*self._connections, *self._late)])
        self._connections.clear()

    def begin(self, request: VenueRequest) -> bool:
        self.life.step()
        idle = [] if self._urgent else [c for c in self._connections if c.idle]
        if not idle:
            return False
        self._begun = max(idle, key=lambda c: c.used_ns)
        self._begun.begun = request
        self._write(self._begun, Call("", request, Route.HTTP, urgent=True, cancel=True))
        self.life.step()
        return True

    def abandon_begun(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.link.hang_up(NOT_WANTED)

    def call(self, call: Call) -> None:
        self.life.step()
        self.house.judge.handed(self.life, self.house, self.session, Route.HTTP, call)
        begun = self._begun
        if begun is not None and begun.begun is call.request:
            self._begun = None
            self._start(begun, call)
            return
        if call.command:
            self._urgent.insert(sum(waiting.command for waiting in self._urgent), call)
        else:
            (self._urgent if call.urgent else self._waiting).append(call)
        self._pump()

    @property
    def spare(self) -> bool:
        return not self._urgent and any(c.idle for c in self._connections)

    def hold(self, asked_s: float) -> None:
        end_ns = self.world.ns + int(min(asked_s, MAX_PAUSE_S) * 1e9)
        if end_ns > self._quiet_until_ns:
            self._quiet_until_ns = end_ns
            self.soon(min(asked_s, MAX_PAUSE_S) + 1e-6, self._release)

    @property
    def _quiet(self) -> bool:
        return self.world.ns < self._quiet_until_ns

    def _release(self) -> None:
        if not self._quiet:
            self._pump()
            if any(c.idle for c in self._connections):
                self.session.use_idle_http_lane()

    def _warm(self) -> None:
        if not self._quiet and any(c.idle for c in self._connections):
            self.session.use_idle_http_lane()
        self.soon(self._warm_s, self._warm)

    @property
    def _further(self) -> list[_Connection]:
        return [connection for connection in self._connections if connection.backoff is None]

    def _adjust(self) -> None:
        """Open or close a further connection, at the pace of the count."""
        if self._quiet:
            self.soon(LOOK_EVERY_S, self._adjust)
            return
        now_s, further = self._now_s, self._further
        step = self._count.next_step(now_s, CONNECTIONS, len(further))
        if step is Step.OPEN:
            self._connect(None)
        elif step is Step.CLOSE and (idle := [c for c in further if c.idle]):
            min(idle, key=lambda c: c.used_ns).link.hang_up(NOT_NEEDED)
        self.soon(max(self._count.wait_s(now_s, len(further)), LEAST_S), self._adjust)

    def _keep_open(self) -> None:
        """Use the connections of a lane with further ones in turn."""
        gap_s = self._count.idle_s / 2 / max(CONNECTIONS, len(self._connections))
        ages_s = sorted(((self.world.ns - c.used_ns) / 1e9 for c in self._connections if c.idle), reverse=True)
        if self._further and not self._quiet and is_refresh_due(iter(ages_s), gap_s, self._count.idle_s):
            self.session.keep_connection()
        self.soon(gap_s, self._keep_open)

    @property
    def _now_s(self) -> float:
        return self.world.ns / 1e9

    def _connect(self, backoff: _Backoff | None) -> None:
        weather = self.house.weather
        if weather.refuses or weather.dark:
            self.trouble = "refused"
            takes_s = CONNECT_WITHIN_S if weather.dark else 0.0
            if backoff is None:
                self.soon(takes_s, lambda: self._count.on_failed(self._now_s))
            else:
                self.soon(backoff.next_s() + takes_s, self._connect, backoff)
            return
        self.soon(3 * weather.base_s + weather.opening_s, self._up, backoff)

    def _up(self, backoff: _Backoff | None) -> None:
        link = Link(self.house, self.house.next_link())
        connection = _Connection(link, backoff)
        link.ended = lambda why: self.life.enter(self._ended, connection, why)
        first = not any(c.open for c in self._connections)
        if backoff is None:
            self._count.on_opened()
        self._connections.append(connection)
        self.house.venue.connected(link.as_connection)
        if first:
            self.trouble = ""
            self.session.on_lane_event(Opened(Route.HTTP, 0))
        self._pump()

    def _ended(self, connection: _Connection, why: str) -> None:
        call, connection.call = connection.call, None
        if call is not None:
            self.session.on_lane_event(CallLost(call.tag, True, why, self.spare))
        if connection.late:
            self._late = [one for one in self._late if one is not connection]
            self._pump()
            return
        self._leaves(connection, why)
        self._replace(connection, is_steady=self.world.ns - connection.since_ns >= STEADY_AFTER_S * 1e9, why=why)
        self._pump()

    def _replace(self, connection: _Connection, *, is_steady: bool, why: str) -> None:
        """Open another one; a further one comes back by the count."""
        backoff = connection.backoff
        if backoff is not None:
            backoff.failures = 0 if is_steady else backoff.failures
            self.soon(backoff.next_s(), self._connect, backoff)
        elif not is_steady and why != NOT_NEEDED:
            self._count.delay(self._now_s)

    def _leaves(self, connection: _Connection, why: str) -> None:
        self._connections.remove(connection)
        if not self._connections:
            self._proven = False
            self.trouble = why
            self.session.on_lane_event(Closed(Route.HTTP, 0, why))

    def _pump(self) -> None:
        while self._urgent or self._waiting:
            up = [c for c in self._connections if c.open]
            if not up:
                call = self._urgent.popleft() if self._urgent else self._waiting.popleft()
                self.session.on_lane_event(CallLost(call.tag, False, self.trouble or "the lane is down"))
                continue
            idle = [c for c in up if c.idle]
            queue = self._urgent or self._waiting
            if not self.session.should_still_send(queue[0]):
                self.session.on_lane_event(CallLost(queue.popleft().tag, False, NOT_WANTED))
            elif self._urgent and idle:
                self._start(max(idle, key=lambda c: c.used_ns), self._urgent.popleft())
            elif self._waiting and not self._quiet and len(idle) > (1 if len(up) > 1 else 0):
                self._start(min(idle, key=lambda c: c.used_ns), self._waiting.popleft())
            else:
                return

    def _write(self, connection: _Connection, call: Call) -> None:
        connection.used_ns = self.world.ns
        request = _asked(self.house, call)
        self.house.asks(Route.HTTP, call, request)
        link = connection.link

        def told(status: int, body: bytes, headers: Mapping[str, str]) -> None:
            if connection.call is not None and connection.call.request is call.request:
                self.life.enter(self._replied, connection, connection.call, status, body, headers)

        link.to_venue(self.house.venue.requested, Exchange(link, request, told))

    def _start(self, connection: _Connection, call: Call) -> None:
        if connection.begun is None:
            self._write(connection, call)
        connection.call, connection.begun = call, None
        self.soon(ANSWER_WITHIN_S, self._overdue, connection, call)
        self.session.on_sent(Route.HTTP, call.tag)

    def _overdue(self, connection: _Connection, call: Call) -> None:
        if connection.call is not call:
            return
        if connection.late or call.answer_within_s <= ANSWER_WITHIN_S:
            connection.link.hang_up("no answer in time")
            return
        connection.late = True
        self.soon(call.answer_within_s - ANSWER_WITHIN_S, self._overdue, connection, call)
        self._leaves(connection, "no answer in time")
        if len(self._late) >= MAX_LATE:
            self._late.pop(0).link.hang_up("no answer in time")
        self._late.append(connection)
        self._replace(connection, is_steady=True, why="no answer in time")
        self._pump()

    def _replied(
        self, connection: _Connection, call: Call, status: int, body: bytes, headers: Mapping[str, str]
    ) -> None:
        if connection.call is not call or not connection.open:
            return
        self.house.told(call, status, body)
        connection.call = None
        rtt_us = (self.world.ns - connection.used_ns) // 1000
        if connection.late:
            connection.link.hang_up("answered late")
        self.session.on_round_trip(Route.HTTP, rtt_us)
        self.session.on_lane_event(Replied(call.tag, status, _lower(headers), body, rtt_us))
        self._pump()


class FreshRoute:
    """Stand in for the fresh route: each call over a connection of its own."""

    def __init__(self, life: Life, house: House, session: AccountSession) -> None:
        self.life, self.house, self.world, self.session = life, house, house.world, session

    def call(self, call: Call) -> None:
        self.life.step()
        self.house.judge.handed(self.life, self.house, self.session, Route.FRESH, call)
        weather = self.house.weather
        wait_s = TIMEOUT_S if weather.dark else 3 * weather.base_s + weather.opening_s
        self.life.enter_later(wait_s, self._go, call, weather.refuses or weather.dark)

    def _go(self, call: Call, fails: bool) -> None:
        if fails or not self.session.should_still_send(call):
            self._lost(call, "refused" if fails else NOT_WANTED, sent=False)
            return
        link = Link(self.house, self.house.next_link())
        link.ended = lambda why: self.life.enter(self._lost, call, why)
        sent_ns = self.world.ns

        def told(status: int, body: bytes, headers: Mapping[str, str]) -> None:
            link.ended = lambda why: None
            link.hang_up("done")
            self.house.told(call, status, body)
            rtt_us = (self.world.ns - sent_ns) // 1000
            self.life.enter(self.session.on_lane_event, Replied(call.tag, status, _lower(headers), body, rtt_us))

        request = _asked(self.house, call)
        self.house.asks(Route.FRESH, call, request)
        link.to_venue(self.house.venue.connected, link.as_connection)
        link.to_venue(self.house.venue.requested, Exchange(link, request, told))
        within_s = LATE_WITHIN_S if call.answer_within_s > ANSWER_WITHIN_S else TIMEOUT_S
        self.world.later(within_s, link.hang_up, "timed out")
        self.session.on_sent(Route.FRESH, call.tag)

    def _lost(self, call: Call, why: str, *, sent: bool = True) -> None:
        self.session.on_lane_event(CallLost(call.tag, sent, why, cast(HttpLane, self.session.http).spare))


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
