"""Keep one WebSocket connection up, authenticated and proven alive, ready to carry a kill without an await.

Frames are made by websockets' protocol object, which does no I/O, and written in one pass. A ping goes out every
second; a peer that answers nothing for two is dead, whatever TCP says. Before the connection reaches the age that
the venue allows, a new one is opened and authenticated, and only then the old one goes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import cast

import anyio
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from kill_switch import clock
from kill_switch.core.domain import LaneState, Route
from kill_switch.transports import certificates
from kill_switch.transports.causes import why
from kill_switch.transports.certificates import Expiry
from kill_switch.transports.lane import CONNECT_WITHIN_S, READ_INTO, Backoff, Sink, tune
from kill_switch.transports.network import Network
from kill_switch.transports.resolver import Place
from kill_switch.transports.upgrade import UpgradeAnswer
from kill_switch.venues import retry_after
from kill_switch.venues.decode import brief
from kill_switch.venues.messages import Closed, Opened, Received

PING_EVERY_S = 1.0
PING_BATCHES = 4  # those of many connections leave in so many, each at one time
_EARLY_S = 0.005  # an event loop may wake us a clock's grain too early
DEAD_AFTER_S = 2.0
LOGIN_WITHIN_S = 10.0
STEADY_AFTER_S = 5.0  # a connection that lasted this long owes nothing to the failures before it
CLOSE_WITHIN_S = 1.0  # for the peer to end TCP once either side has said good-bye
FATAL_WAIT_S = 30.0  # the venue has refused the key: it may be put right, but not by hammering
REFUSED_FIRST_S = 0.25  # after an upgrade that was refused for another reason; twice as long each time,
REFUSED_MOST_S = 30.0  # up to this
TOO_MANY = (418, 429)  # requests, says the venue: an address is banned at some for what it does next
TOO_MANY_WAIT_S = 1.0  # at least, where the venue does not name a time
REFUSAL_WITHIN_S = 0.5  # for the body of a refusal, whose head is there
ORPHAN_S = 2.0  # for a successor that is being made, once the connection that it is to replace has gone
MAX_MESSAGE_BYTES = 16 << 20
MAX_FRAGMENTS = 10_000
FRAMES_AT_ONCE = 50_000  # of a peer: 10,000 orders that a kill takes away are told of in 30,000 at most
FRAMES_PER_S = 5_000.0  # and for good; each takes 30 to 70 us

_quiet = logging.getLogger("kill_switch.websocket")  # websockets logs headers, keys and all, at DEBUG
_quiet.setLevel(logging.CRITICAL)
_numbers = count(1)


_NOTHING = (None, b"")
_READ_INTO = READ_INTO[: 4 << 10]  # at once: 250 of the smallest messages take 16 ms, and others wait


class WsConnection(asyncio.BufferedProtocol):
    """One connection, from the TLS handshake to the end."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        sink: Sink,
        on_end: Callable[[WsConnection], object] = lambda connection: None,
    ) -> None:
        """`on_end` is called when one that was open has ended, before the sink is told."""
        self.number = next(_numbers)
        self.born_ns = time.monotonic_ns()
        self.authenticated = asyncio.Event()
        self.closed = asyncio.Event()
        self.why = ""  # the first cause that is known
        self.fatal = False
        self.status = 0  # of an upgrade that was refused
        self.asked_s = 0.0  # for so long the venue wants no other attempt, by its refusal
        self.open = False  # it takes text
        self._answer: UpgradeAnswer | None = UpgradeAnswer()  # to the upgrade, until that is decided
        self._on_end = on_end
        self._sink = sink
        self._headers = headers
        self._protocol = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE_BYTES, logger=_quiet)
        self._transport: asyncio.Transport | None = None
        self._prepared: tuple[bytes | None, bytes] = _NOTHING  # a text, and the frame of it
        self._told_open = False
        self._ending = False
        self._fragments: list[bytes] = []
        self._frames_left = float(FRAMES_AT_ONCE)
        self._heard_s = 0.0
        self._pinged_s = 0.0  # when the ping that is not answered yet went out
        self._ticked_s = 0.0
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def upgraded(self) -> bool:
        """Tell whether the venue has accepted the upgrade."""
        return self._told_open

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._transport

    def prepare(self, text: bytes) -> None:
        """Make the frame of a text that may be sent later; it is good for one time, as its mask is (RFC 6455, 5.3)."""
        self._prepared = text, _frame(text)

    def send(self, text: bytes) -> bool:
        """Write one text frame; False if the connection cannot take it, in which case no byte has left."""
        transport = self._transport
        if transport is None or not self.open or transport.is_closing():
            return False
        prepared, frame = self._prepared
        if prepared is text:
            self._prepared = _NOTHING
        else:
            frame = _frame(text)
        transport.write(frame)
        return True

    def close(self, reason: str) -> None:
        """End it in good order: a close frame, and a second for the peer to answer it."""
        if self.open:
            self.open = False
            self.why = self.why or reason
            self._protocol.send_close(1000)
            self._flush()
            self._expect_end()
        else:
            self.abort(reason)

    def abort(self, reason: str) -> None:
        """End it now."""
        if not self.closed.is_set() and self._transport is not None:
            self.why = self.why or reason
            self.open = False
            # not in the middle of a read: the peer's good-bye behind it would be answered on a socket that is closed
            asyncio.get_running_loop().call_soon(self._transport.abort)

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        tune(transport)
        request = self._protocol.connect()
        for name, value in self._headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _READ_INTO

    def buffer_updated(self, nbytes: int) -> None:
        self._heard_s = time.monotonic()
        data = bytes(_READ_INTO[:nbytes])
        if self._answer is not None:
            self._answer.feed(data)
            if not self._answer.for_websocket:
                if self._answer.refuses:
                    self._expect_refusal(self._answer)
                return
            data, self._answer = self._answer.raw, None
        try:
            self._protocol.receive_data(data)
        except EOFError:
            return
        self.open = self.open and self._protocol.state is OPEN  # what is told of now may have a close behind it
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._handshake(event)
            else:
                self._frame(cast(Frame, event))
        self._flush()
        if not self._told_open and self._protocol.handshake_exc is not None:
            self.abort(why(self._protocol.handshake_exc))
        elif self._protocol.parser_exc is not None:
            self.abort(f"frames that cannot be read: {type(self._protocol.parser_exc).__name__}")
        elif self._frames_left < 0:
            self.abort("more frames than anybody has to say")
        elif self._protocol.close_expected():
            self._expect_end()

    def eof_received(self) -> bool:
        self.open = False
        if self._answer is not None:
            self._refused()
            return False
        self._protocol.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        end = why(exc) if exc is not None else "closed by the venue without a word"
        self._refused(end)
        self.why = self.why or end
        self.open = False
        self.closed.set()
        if self._told_open:
            self._on_end(self)
            self._sink.event(Closed(Route.WS, self.number, self.why))

    # what the bytes mean

    def _handshake(self, response: Response) -> None:
        error = self._protocol.handshake_exc
        if error is not None:
            self.abort(f"upgrade refused: HTTP {response.status_code}, but {why(error)}")
            return
        self._told_open = True
        self.open = self._protocol.state is OPEN
        self._heard_s = self._ticked_s = time.monotonic()
        self._tick()
        self._sink.event(Opened(Route.WS, self.number))

    def _expect_refusal(self, answer: UpgradeAnswer) -> None:
        """Give a refusal's body a moment to come, and abort: whatever comes, the status is known."""
        if answer.whole:
            self._refused()
        elif not self.status:
            asyncio.get_running_loop().call_later(REFUSAL_WITHIN_S, self._refused)
        self.status = answer.status

    def _refused(self, end: str = "closed by the venue") -> None:
        """Take what has come of the answer to the upgrade for all there is of it; `end` is how the connection ended."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        answer.feed(b"")
        if answer.refuses:
            self.status = answer.status
            self.fatal = self.fatal or answer.status == 401
            self.asked_s = retry_after.asked_s(answer.headers, clock.now().wall_ns)
            asked = f" ({retry_after.words(self.asked_s)})" if self.asked_s else ""
            self.why = self.why or answer.words(self._headers.values()) + asked
        self.abort(f"{end} {'in the middle of' if answer.raw else 'before'} its answer to the upgrade")

    def _frame(self, frame: Frame) -> None:
        self._frames_left -= 1
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                if frame.fin and not self._fragments:
                    self._sink.event(Received(self.number, bytes(frame.data)))
                    return
                self._fragments.append(bytes(frame.data))
                if len(self._fragments) > MAX_FRAGMENTS:  # their bytes are bounded, empty ones are not
                    self._fragments.clear()
                    self.abort("a message of too many fragments")
                elif frame.fin:
                    whole = b"".join(self._fragments)
                    self._fragments.clear()
                    self._sink.event(Received(self.number, whole))
            case Opcode.PONG if 0 < self._pinged_s <= self._heard_s:  # else it came before our ping went out
                rtt_us = int((self._heard_s - self._pinged_s) * 1e6)
                self._pinged_s = 0.0
                self._sink.rtt(Route.WS, rtt_us)
            case Opcode.CLOSE:
                code = self._protocol.close_rcvd.code if self._protocol.close_rcvd else 1006
                reason = self._protocol.close_rcvd.reason if self._protocol.close_rcvd else ""
                self.why = self.why or f"closed by the venue: {code} {brief(reason, 80)}".rstrip()
            case _:
                pass

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()  # the protocol object asks for the end of the stream

    def _expect_end(self) -> None:
        """Give the peer a moment to end TCP, which is for the server to do, then do it."""
        if not self._ending:
            self._ending = True
            asyncio.get_running_loop().call_later(CLOSE_WITHIN_S, self.abort, "not closed by the venue")

    def _tick(self) -> None:
        now_s = time.monotonic()
        self._ticker = asyncio.get_running_loop().call_later(_until_tick_s(now_s), self._tick)
        stalled = now_s - self._ticked_s > 1.5 * PING_EVERY_S  # then it is we who were deaf, not the peer
        self._ticked_s = now_s
        self._frames_left = min(self._frames_left + FRAMES_PER_S * PING_EVERY_S, FRAMES_AT_ONCE)
        if self._pinged_s and not stalled and now_s - max(self._pinged_s, self._heard_s) > DEAD_AFTER_S - 0.05:
            self.abort(f"no sign of life for {DEAD_AFTER_S:g} s")
        elif not self._pinged_s and self._protocol.state is OPEN:
            self._pinged_s = now_s
            self._protocol.send_ping(b"kill-switch")
            self._flush()


def _until_tick_s(now_s: float) -> float:
    """Return how long to wait for the next ping: connections ping together, as to wake up costs more than a ping."""
    batch_s = PING_EVERY_S / PING_BATCHES
    return (now_s + PING_EVERY_S + _EARLY_S) // batch_s * batch_s - now_s


def _frame(text: bytes) -> bytes:
    return Frame(Opcode.TEXT, text).serialize(mask=True)  # whole, and no extension is negotiated


class WsLane:
    """The warm WebSocket lane of one account."""

    def __init__(
        self,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        sink: Sink,
        *,
        ca_file: str | None = None,
        max_age_s: float = 12 * 3600.0,
        overlap: bool = True,
        network: Network | None = None,
    ) -> None:
        """Make it; raise `OSError` for a `ca_file` that cannot be used. Without a `network` it has one of its own."""
        self._url = url
        self._dialer = (network or Network()).dialer(url, ca_file)
        self._headers = headers
        self._sink = sink
        self._max_age_s = max_age_s
        self._overlap = overlap  # False where the venue allows one connection only
        self._connections: dict[int, WsConnection] = {}
        self._failing = Backoff()
        self._refused = Backoff(first_s=REFUSED_FIRST_S, cap_s=REFUSED_MOST_S)
        self._not_before_s = 0.0  # by the event loop's clock: the venue has asked for that
        self._stopping = False
        self.trouble = ""  # why the last attempt failed, or the connection ended
        self.certificate: Expiry | None = None  # what the last connection was verified by ends then

    @property
    def state(self) -> LaneState:
        if any(c.open and c.authenticated.is_set() for c in self._connections.values()):
            return LaneState.UP
        return LaneState.CONNECTING if any(c.open for c in self._connections.values()) else LaneState.DOWN

    def prepare(self, conn: int, text: bytes) -> None:
        """Have a text's frame ready for when that text object is sent."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.prepare(text)

    def send(self, conn: int, text: bytes) -> bool:
        """Write a text frame in this pass of the event loop; False if provably no byte of it left."""
        connection = self._connections.get(conn)
        return connection is not None and connection.send(text)

    def authenticated(self, conn: int) -> None:
        """Take the venue's word that the connection is logged in: an older one may go now."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.authenticated.set()

    def drop(self, conn: int, reason: str, *, fatal: bool = False) -> None:
        """Give a connection up; `run` makes a new one, after longer if the venue refused the key."""
        connection = self._connections.get(conn)
        if connection is not None:
            connection.fatal = connection.fatal or fatal
            connection.abort(reason)

    async def run(self) -> None:
        """Keep a connection up for ever."""
        wait_s = self._failing.next_s()
        try:
            while True:
                await anyio.sleep(max(wait_s, self._not_before_s - anyio.current_time()))
                made = await self._connect()
                wait_s = await self._live(made) if isinstance(made, WsConnection) else made
        finally:
            self._stopping = True
            for connection in list(self._connections.values()):
                connection.close("the daemon is stopping")

    async def _connect(self) -> WsConnection | float:
        """Open and authenticate one connection; if that fails, tell the trouble and return when to try again, in s."""
        connection: WsConnection | None = None
        place: Place | None = None
        trouble = ""
        try:
            connection = WsConnection(self._url, self._headers(), self._sink, self._ended)
            self._connections[connection.number] = connection
            place = await self._dialer.connect(connection, within_s=CONNECT_WITHIN_S)
            self.certificate = certificates.expiry(connection.transport)
            with anyio.move_on_after(LOGIN_WITHIN_S):
                await _first(connection.authenticated, connection.closed)
            if connection.authenticated.is_set() and not connection.closed.is_set():
                self._tell("")
                return connection
            step = "no login in time" if connection.upgraded else "no answer to the upgrade"
            connection.abort(f"{step}: timed out after {LOGIN_WITHIN_S:g} s")
        except (OSError, WebSocketException, ValueError) as error:
            trouble = why(error)
        if connection is not None:
            connection.abort("not usable")
            self._connections.pop(connection.number, None)
        if place is not None:
            self._dialer.blame(place)  # TLS was fine; what is behind it is not
        if connection is None or not connection.upgraded:  # else it has told by itself, or does when it ends
            self._tell(trouble or (connection.why if connection is not None else ""))
        return self._wait_s(connection)

    async def _live(self, connection: WsConnection) -> float:
        """Stay with a connection, and with its successors before it is too old, until one ends by itself.

        Return after how long to make another.
        """
        age_s, due = self._max_age_s, False
        while True:
            since_s = anyio.current_time()
            with anyio.move_on_after(age_s):
                await connection.closed.wait()
            if connection.closed.is_set():
                self._connections.pop(connection.number, None)
                if anyio.current_time() - since_s >= STEADY_AFTER_S and not due:
                    self._steady()
                return self._wait_s(connection)
            if not due:
                self._steady()
            due = True
            successor = await self._succeed(connection) if self._overlap else 0.0
            if self._overlap and not isinstance(successor, WsConnection):
                # too old for the venue's liking, and better than none
                age_s = max(successor, self._not_before_s - anyio.current_time())
                continue
            age_s, due = self._max_age_s, False
            self._connections.pop(connection.number, None)
            connection.close("rotated before the venue's maximum age")
            if not isinstance(successor, WsConnection):
                return self._failing.next_s()
            connection = successor

    async def _succeed(self, old: WsConnection) -> WsConnection | float:
        """Make a connection that is to replace another; if that one ends, this is not waited for much longer."""
        made: WsConnection | float = 0.0
        async with anyio.create_task_group() as group:

            async def attempt() -> None:
                nonlocal made
                made = await self._connect()
                group.cancel_scope.cancel()

            group.start_soon(attempt)
            await old.closed.wait()
            await anyio.sleep(ORPHAN_S)
            group.cancel_scope.cancel()
        for connection in [one for one in self._connections.values() if one not in (old, made)]:
            self._connections.pop(connection.number)
            connection.abort("it has not come up in time")
        return made

    def _wait_s(self, connection: WsConnection | None) -> float:
        """Return how long to wait after an attempt, or a connection, that has ended; `Retry-After` is kept beside."""
        if connection is None:
            return self._failing.next_s()
        if connection.asked_s:
            least_s = min(connection.asked_s, retry_after.MOST_S)
            self._not_before_s = anyio.current_time() + least_s * random.uniform(1, 1.05)  # noqa: S311 - jitter
        if connection.fatal:
            return FATAL_WAIT_S * random.uniform(1, 1.05)  # noqa: S311 - jitter, nothing secret
        if 400 <= connection.status < 500:
            wait_s = self._refused.next_s()
            return max(wait_s, TOO_MANY_WAIT_S) if connection.status in TOO_MANY else wait_s
        return self._failing.next_s()

    def _steady(self) -> None:
        """Forget the failures before a connection that has lasted."""
        self._failing.reset()
        self._refused.reset()

    def _ended(self, connection: WsConnection) -> None:
        """Take note of why a connection that was open has ended, unless another one serves."""
        if self.state is not LaneState.UP and not self._stopping:
            self._tell(connection.why)

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble
        self._sink.trouble(Route.WS, trouble)


async def _first(*events: asyncio.Event) -> None:
    """Return as soon as one of the events is set."""
    async with anyio.create_task_group() as group:

        async def one(event: asyncio.Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        for event in events:
            group.start_soon(one, event)
