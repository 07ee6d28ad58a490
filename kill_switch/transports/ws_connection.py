"""A WebSocket connection of an account's lane: upgrade, frames, pings, and its end.

`ws.WsLane` opens it and sends texts over it. A connection never logs in by itself, and never reconnects.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import cast
from urllib.parse import unquote

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import WebSocketURI, parse_uri

from kill_switch import clock
from kill_switch.core.domain import Route
from kill_switch.transports.causes import describe_error
from kill_switch.transports.lane import READ_INTO, AddressUnusable, LaneListener, tune
from kill_switch.transports.upgrade import Hidden, UpgradeResponse
from kill_switch.venues import retry_after
from kill_switch.venues.decode import truncate
from kill_switch.venues.messages import Closed, Opened, Received
from kill_switch.venues.request import Upgrade

PING_EVERY_S = 1.0  # so that a dead connection is known within 2 s
PING_BATCHES = 4  # connections are spread over this many batches; the pings of a batch are sent together
_EARLY_S = 0.005  # an event loop may call back early by one tick of its clock
DEAD_AFTER_S = 2.0  # without any byte of the peer after a ping
CLOSE_WITHIN_S = 1.0  # for the peer to close TCP after a close frame of either side
REFUSAL_WITHIN_S = 0.5  # for the body of a refusal whose head is complete
MAX_MESSAGE_BYTES = 16 << 20
MAX_FRAGMENTS = 10_000
FRAMES_AT_ONCE = 50_000  # of a peer: cancelling 10,000 orders causes at most 30,000 events
FRAMES_PER_S = 5_000.0  # sustained; each frame takes 30 to 70 µs

_quiet = logging.getLogger("kill_switch.websocket")  # at DEBUG websockets logs headers, and so keys
_quiet.setLevel(logging.CRITICAL)
_numbers = count(1)


_NOTHING = (None, b"")
_READ_INTO = READ_INTO[: 4 << 10]  # read at once: 250 of the smallest messages take 16 ms, while other connections wait


class WsConnection(asyncio.BufferedProtocol):
    """A connection, from the TLS handshake to its end.

    Frames are built by websockets' protocol object, which does no I/O, and written in one pass of the event loop. A
    ping is sent every second. A peer that sends nothing for two seconds is dead, whatever the state of its TCP
    connection.
    """

    def __init__(
        self,
        url: str,
        upgrade: Upgrade,
        sink: LaneListener,
        on_end: Callable[[WsConnection], object] = lambda connection: None,
    ) -> None:
        """Create it. `on_end` is called when an open connection has ended, before the listener gets `Closed`.

        Raise ValueError, which does not show it, for a target of `upgrade` that no request line can carry.
        """
        self.number = next(_numbers)
        self.authenticated = asyncio.Event()
        self.closed = asyncio.Event()
        self.outdated = asyncio.Event()  # a successor is to be opened now
        self._why = ""
        self.fatal = False
        self.status = 0  # HTTP status of a refused upgrade
        self.asked_s = 0.0  # the `Retry-After` of the refusal, in seconds
        self.open = False  # text can be sent
        self._answer: UpgradeResponse | None = UpgradeResponse()  # the answer to the upgrade, until it is decided
        self._on_end = on_end
        self._sink = sink
        self._headers = upgrade.headers
        self._hidden = Hidden((*upgrade.headers.values(), *_pieces(upgrade.target)))
        self._protocol = ClientProtocol(_address(url, upgrade.target), max_size=MAX_MESSAGE_BYTES, logger=_quiet)
        self._transport: asyncio.Transport | None = None
        self._prepared: tuple[bytes | None, bytes] = _NOTHING  # a text and its frame
        self._upgraded = False
        self._ending = False
        self._fragments: list[bytes] = []
        self._frames_left = float(FRAMES_AT_ONCE)
        self._heard_s = 0.0
        self._pinged_s = 0.0  # when the unanswered ping was sent
        self._ticked_s = 0.0
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def why(self) -> str:
        """The first known cause of its end, without anything that the upgrade was requested with."""
        return self._why

    @why.setter
    def why(self, cause: str) -> None:
        self._why = self._hidden.remove_from(cause)

    @property
    def upgraded(self) -> bool:
        """Return whether the venue has accepted the upgrade."""
        return self._upgraded

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._transport

    def prepare(self, text: bytes) -> None:
        """Build the frame of a text for one later `send`; a frame's mask must not repeat (RFC 6455 §5.3)."""
        self._prepared = text, _frame(text)

    def send(self, text: bytes) -> bool:
        """Write one text frame; return False if the connection cannot take it, and then no byte was sent."""
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
        """Close in good order: send a close frame, and give the peer `CLOSE_WITHIN_S` to answer."""
        if self.open:
            self.open = False
            self.why = self.why or reason
            self._protocol.send_close(1000)
            self._flush()
            self._expect_end()
        else:
            self.abort(reason)

    def abort(self, reason: str) -> None:
        """Close the connection now."""
        if not self.closed.is_set() and self._transport is not None:
            self.why = self.why or reason
            self.open = False
            # not inside a read callback, where the TLS layer would answer the peer's close_notify on a closed socket
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
        # a close frame may follow the frames that are reported below
        self.open = self.open and self._protocol.state is OPEN
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._handshake(event)
            else:
                self._frame(cast(Frame, event))
        self._flush()
        if not self._upgraded and self._protocol.handshake_exc is not None:
            self.abort(describe_error(self._protocol.handshake_exc))
        elif self._protocol.parser_exc is not None:
            self.abort(f"frames that cannot be read: {type(self._protocol.parser_exc).__name__}")
        elif self._frames_left < 0:
            self.abort("the venue sends too many frames")
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
        end = describe_error(exc) if exc is not None else "closed by the venue without a close frame"
        self._refused(end)
        self.why = self.why or end
        self.open = False
        self.closed.set()
        if self._upgraded:
            self._on_end(self)
            self._sink.on_lane_event(Closed(Route.WS, self.number, self.why))

    # frames

    def _handshake(self, response: Response) -> None:
        error = self._protocol.handshake_exc
        if error is not None:
            self.abort(f"upgrade refused: HTTP {response.status_code}, but {describe_error(error)}")
            return
        self._upgraded = True
        self.open = self._protocol.state is OPEN
        self._heard_s = self._ticked_s = time.monotonic()
        self._tick()
        self._sink.on_lane_event(Opened(Route.WS, self.number))

    def _expect_refusal(self, answer: UpgradeResponse) -> None:
        """Wait for a refusal's body, at most `REFUSAL_WITHIN_S`, then abort. The status is known already."""
        if answer.is_complete:
            self._refused()
        elif not self.status:
            asyncio.get_running_loop().call_later(REFUSAL_WITHIN_S, self._refused)
        self.status = answer.status

    def _refused(self, end: str = "closed by the venue") -> None:
        """Decide the upgrade by the bytes that have come; `end` describes how the connection ended."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        answer.feed(b"")
        if answer.refuses:
            self.status = answer.status
            self.fatal = self.fatal or answer.status == 401
            self.asked_s = retry_after.retry_after_s(answer.headers, clock.now().wall_ns)
            asked = f" ({retry_after.describe_pause(self.asked_s)})" if self.asked_s else ""
            self.why = self.why or answer.describe_refusal(self._hidden) + asked
        self.abort(f"{end} {'in the middle of' if answer.raw else 'before'} its answer to the upgrade")

    def _frame(self, frame: Frame) -> None:
        self._frames_left -= 1
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                if frame.fin and not self._fragments:
                    self._sink.on_lane_event(Received(self.number, bytes(frame.data)))
                    return
                self._fragments.append(bytes(frame.data))
                # `max_size` bounds their bytes, but not the number of empty fragments
                if len(self._fragments) > MAX_FRAGMENTS:
                    self._fragments.clear()
                    self.abort("a message of too many fragments")
                elif frame.fin:
                    whole = b"".join(self._fragments)
                    self._fragments.clear()
                    self._sink.on_lane_event(Received(self.number, whole))
            # else the pong was received before the ping was sent
            case Opcode.PONG if 0 < self._pinged_s <= self._heard_s:
                rtt_us = int((self._heard_s - self._pinged_s) * 1e6)
                self._pinged_s = 0.0
                self._sink.on_round_trip(Route.WS, rtt_us)
            case Opcode.CLOSE:
                code = self._protocol.close_rcvd.code if self._protocol.close_rcvd else 1006
                reason = self._protocol.close_rcvd.reason if self._protocol.close_rcvd else ""
                shown = truncate(self._hidden.remove_from(reason), 80)  # cut behind that: a part would be shown
                self.why = self.why or f"closed by the venue: {code} {shown}".rstrip()
            case _:
                pass

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()  # the protocol object requests the end of the stream

    def _expect_end(self) -> None:
        """Wait `CLOSE_WITHIN_S` for the peer to close TCP, as a server should; then abort."""
        if not self._ending:
            self._ending = True
            asyncio.get_running_loop().call_later(CLOSE_WITHIN_S, self.abort, "not closed by the venue")

    def _tick(self) -> None:
        now_s = time.monotonic()
        self._ticker = asyncio.get_running_loop().call_later(_until_tick_s(now_s), self._tick)
        stalled = now_s - self._ticked_s > 1.5 * PING_EVERY_S  # then this process was stalled, not the peer
        self._ticked_s = now_s
        self._frames_left = min(self._frames_left + FRAMES_PER_S * PING_EVERY_S, FRAMES_AT_ONCE)
        if self._pinged_s and not stalled and now_s - max(self._pinged_s, self._heard_s) > DEAD_AFTER_S - 0.05:
            self.abort(f"no frame received for {DEAD_AFTER_S:g} s")
        elif not self._pinged_s and self._protocol.state is OPEN:
            self._pinged_s = now_s
            self._protocol.send_ping(b"kill-switch")
            self._flush()


def _until_tick_s(now_s: float) -> float:
    """Return the wait until the next ping, in seconds.

    Connections ping in batches, because waking the event loop costs more than a ping.
    """
    batch_s = PING_EVERY_S / PING_BATCHES
    return (now_s + PING_EVERY_S + _EARLY_S) // batch_s * batch_s - now_s


def _address(url: str, target: str) -> WebSocketURI:
    """Return the address of a connection: the host is always that of `url`, the configured address."""
    address = parse_uri(url)
    if not target:
        return address
    if not (target.startswith("/") and target.isascii() and target.isprintable()) or {" ", "#"} & set(target):
        raise AddressUnusable("the path that this connection was given cannot be requested")
    path, _, query = target.partition("?")
    return replace(address, path=path, query=query)


def _pieces(target: str) -> list[str]:
    """Return what a path and its query consist of, as it is sent and as a server may decode it."""
    return [text for piece in re.split("[/?&=]", target) for text in (piece, unquote(piece))]


def _frame(text: bytes) -> bytes:
    return Frame(Opcode.TEXT, text).serialize(mask=True)  # unfragmented, and no extension is negotiated
