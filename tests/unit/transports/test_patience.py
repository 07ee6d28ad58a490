"""How soon a lane tries again: each refusal, in each place, however its connection ends; in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import pytest

from kill_switch import clock
from kill_switch.core.domain import LaneState, Route
from kill_switch.transports import ws, ws_connection
from kill_switch.transports.http import HttpLane
from kill_switch.transports.ws import WsLane
from kill_switch.venues import retry_after
from kill_switch.venues.messages import Call, CallLost, Event, Opened, Replied
from kill_switch.venues.request import Upgrade
from tests.harness.lane_listeners import RecordingListener, get, running
from tests.harness.scripted_server import Peer, Script, Server, ok
from tests.harness.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio
PLACES = ("first connection", "reconnect", "rotation")
STATUSES = (400, 401, 403, 404, 418, 429, 451, 500, 502, 503, 504)
ROTATED_AFTER_S = 12.0
SLACK_S = 0.4  # a look at the authorities' files takes a thread, and the virtual clock does not wait for it
SOON_S = 0.3


@pytest.fixture
def anyio_backend() -> object:
    return ("asyncio", {"loop_factory": VirtualTimeLoop})


@pytest.fixture(autouse=True)
def hurry() -> None:
    """Let lanes wait as long as they do in earnest: it costs nothing here."""


def reset(peer: Peer) -> None:
    peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.writer.transport.abort()


async def ends(peer: Peer) -> None:
    """Let the script return, which closes the connection in good order."""


async def hangs(peer: Peer) -> None:
    await peer.stay()


async def resets(peer: Peer) -> None:
    await asyncio.sleep(0.01)
    reset(peer)


ENDINGS: dict[str, tuple[bytes, Callable[[Peer], Awaitable[None]]]] = {
    "body": (b"Content-Length: 2\r\n\r\nno", ends),
    "empty": (b"Content-Length: 0\r\n\r\n", ends),
    "EOF": (b"\r\n", ends),
    "EOF in the body": (b"Content-Length: 99\r\n\r\nno", ends),
    "EOF in the head": (b"Content-Le", ends),
    "reset": (b"\r\n", resets),
    "reset in the body": (b"Content-Length: 99\r\n\r\nno", resets),
    "silence": (b"Content-Length: 99\r\n\r\n", hangs),
}


def refuses(status: int, ending: str, *headers: bytes) -> Script:
    async def script(peer: Peer) -> None:
        rest, end = ENDINGS[ending]
        await peer.request()
        await peer.say(b"".join((b"HTTP/1.1 %d X\r\n" % status, *(header + b"\r\n" for header in headers), rest)))
        await end(peer)

    return script


async def lives(peer: Peer) -> None:
    await peer.upgrade()
    await peer.live()


class Venue:
    """A server and a lane to it; `refusals` are its answers to the upgrades that follow."""

    def __init__(self, server: Server, ca_file: str, *, max_age_s: float = math.inf) -> None:
        self.refusals: list[Script] = []
        self.at_s: list[float] = []  # when each connection came
        self.ear = RecordingListener()
        self.peers: list[Peer] = []
        self.lane = WsLane(server.wss, Upgrade, self.ear, ca_file=ca_file, max_age_s=max_age_s)
        self.ear.on_event = self._trust
        server.script = self._script

    def _trust(self, event: Event) -> None:
        if isinstance(event, Opened):
            self.lane.authenticated(event.conn)

    async def _script(self, peer: Peer) -> None:
        self.at_s.append(anyio.current_time())
        self.peers.append(peer)
        await (self.refusals.pop(0) if self.refusals else lives)(peer)

    async def up(self) -> None:
        await self.until(lambda: self.lane.state is LaneState.UP)

    async def until(self, what: Callable[[], object]) -> None:
        with anyio.fail_after(3600):
            while not what():  # noqa: ASYNC110 - in virtual time
                await anyio.sleep(0.1)

    async def refused(self, place: str, *refusals: Script) -> list[float]:
        """Have these refusals met in a place; return how long after each the next attempt came."""
        if place == "first connection":
            self.refusals[:] = refusals
        else:
            await self.up()
            await anyio.sleep(10)
            self.refusals[:] = refusals
            if place == "reconnect":
                reset(self.peers[-1])
        before = len(self.at_s)
        await self.until(lambda: not self.refusals and len(self.at_s) == before + len(refusals) + 1)
        await self.up()
        times = self.at_s[before:]
        return [after - at for at, after in itertools.pairwise(times)]


def bounds_s(status: int) -> tuple[float, float]:
    """Return after how long a lane tries again that was refused once."""
    if status == 401:
        return 30.0, 31.5
    return (1.0, 1.4) if status in (418, 429) else (0.0, SOON_S)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_one_refusal_of_an_upgrade_is_tried_again_soon_unless_it_is_of_the_key_however_it_ends(
    ending: str, place: str, server: Server, ca_file: str
) -> None:
    for status in STATUSES:
        venue = Venue(server, ca_file, max_age_s=ROTATED_AFTER_S if place == "rotation" else math.inf)
        async with running(venue.lane.run):
            [waited_s] = await venue.refused(place, refuses(status, ending))
        least_s, most_s = bounds_s(status)
        if ENDINGS[ending][1] is hangs:
            most_s += ws_connection.REFUSAL_WITHIN_S
        assert least_s <= waited_s <= most_s + SLACK_S, status
        told = [why for _, why in venue.ear.troubles]
        assert any(why.startswith(f"upgrade refused: HTTP {status} ") for why in told), (status, told)


@pytest.mark.parametrize("place", PLACES)
async def test_waits_grow_only_with_further_refusals_and_up_to_half_a_minute(
    place: str, server: Server, ca_file: str
) -> None:
    venue = Venue(server, ca_file, max_age_s=ROTATED_AFTER_S if place == "rotation" else math.inf)
    async with running(venue.lane.run):
        waits_s = await venue.refused(place, *[refuses(403, "body")] * 11)
        [again_s] = await venue.refused("reconnect" if place == "first connection" else place, refuses(403, "body"))
    assert all(wait_s <= 0.25 * 2**number + SLACK_S for number, wait_s in enumerate(waits_s))
    assert 15 <= waits_s[-1] <= 30 + SLACK_S and 1 <= sum(waits_s[:5]) <= 10
    assert again_s <= SOON_S + SLACK_S  # a connection that lasted is between them


@pytest.mark.parametrize("place", PLACES)
async def test_a_key_that_is_refused_again_and_again_is_tried_twice_a_minute_at_most(
    place: str, server: Server, ca_file: str
) -> None:
    venue = Venue(server, ca_file, max_age_s=ROTATED_AFTER_S if place == "rotation" else math.inf)
    async with running(venue.lane.run):
        waits_s = await venue.refused(place, *[refuses(401, ending) for ending in ENDINGS])
    assert all(30 <= wait_s <= 31.5 + ws_connection.REFUSAL_WITHIN_S + SLACK_S for wait_s in waits_s)


AT = datetime.now(UTC).replace(microsecond=0)
ASKED: dict[str, tuple[tuple[str, ...], float, float]] = {
    "seconds": (("Retry-After: 7",), 7, 7.4),
    "a date, by the answer's own": (
        (
            f"Date: {AT:%a, %d %b %Y %H:%M:%S GMT}",
            f"Retry-After: {AT + timedelta(seconds=20):%a, %d %b %Y %H:%M:%S GMT}",
        ),
        20,
        21.1,
    ),
    "the obsolete form of a date": (
        (
            f"Date: {AT:%A, %d-%b-%y %H:%M:%S GMT}",
            f"Retry-After: {AT + timedelta(seconds=20):%A, %d-%b-%y %H:%M:%S GMT}",
        ),
        20,
        21.1,
    ),
    "too long": (("Retry-After: 86400",), 120, 126.1),
    "longer than numbers go": (("Retry-After: " + "9" * 5000,), 120, 126.1),
    "a date that is over": (("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT",), 0, 1.4),
    "nothing": (("Retry-After: ",), 0, 1.4),
    "nonsense": (("Retry-After: soon",), 0, 1.4),
    "less than nothing": (("Retry-After: -5",), 0, 1.4),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("asked", ASKED)
async def test_a_venue_that_names_a_time_is_asked_again_then_within_a_bound(
    asked: str, place: str, server: Server, ca_file: str
) -> None:
    headers, least_s, most_s = ASKED[asked]
    for status in (429, 503, 403, 418):
        venue = Venue(server, ca_file, max_age_s=ROTATED_AFTER_S if place == "rotation" else math.inf)
        async with running(venue.lane.run):
            [waited_s] = await venue.refused(place, refuses(status, "body", *(line.encode() for line in headers)))
        assert least_s <= waited_s <= most_s + SLACK_S, status
    said = " ".join(why for _, why in venue.ear.troubles)
    assert ("the venue asks for" in said) is (least_s > 0)
    assert ("gets 120 s, the most that is given" in said) is (least_s == 120)


async def test_a_date_without_one_of_the_answer_counts_from_our_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    later = format_datetime(
        datetime.fromtimestamp(clock.now().wall_ns // 1_000_000_000, UTC) + timedelta(seconds=30), True
    )
    assert 28 <= retry_after.retry_after_s({"retry-after": later}, clock.now().wall_ns) <= 30


# ── rotation ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_old_connection_is_used_until_its_successor_is_ready_however_often_that_is_refused(
    server: Server, ca_file: str
) -> None:
    venue = Venue(server, ca_file, max_age_s=ROTATED_AFTER_S)
    async with running(venue.lane.run):
        await venue.up()
        [old] = venue.ear.opened()
        venue.refusals[:] = [refuses(status, "EOF") for status in (403, 401, 503, 429)]
        while len(venue.ear.opened()) == 1:
            assert venue.lane.state is LaneState.UP and venue.lane.send(old, b"still here")
            await anyio.sleep(0.05)
        await venue.until(venue.ear.closed)
        assert venue.lane.state is LaneState.UP and venue.lane.trouble == ""


@pytest.mark.parametrize("successor", [refuses(401, "body"), refuses(429, "body"), hangs], ids=["401", "429", "hangs"])
async def test_an_old_connection_that_ends_while_its_successor_is_refused_or_hangs_is_replaced_soon(
    successor: Script, server: Server, ca_file: str
) -> None:
    venue = Venue(server, ca_file, max_age_s=ROTATED_AFTER_S)
    async with running(venue.lane.run):
        await venue.up()
        venue.refusals[:] = [successor]
        await venue.until(lambda: len(venue.at_s) == 2)
        await anyio.sleep(0.3)
        since_s = anyio.current_time()
        reset(venue.peers[0])
        await venue.until(venue.ear.closed)
        await venue.up()
        assert anyio.current_time() - since_s < ws.ORPHAN_S + 1


async def test_an_old_connection_that_ends_does_not_shorten_the_venues_back_off(server: Server, ca_file: str) -> None:
    venue = Venue(server, ca_file, max_age_s=ROTATED_AFTER_S)
    async with running(venue.lane.run):
        await venue.up()
        venue.refusals[:] = [refuses(429, "body", b"Retry-After: 20")]
        await venue.until(lambda: len(venue.at_s) == 2)
        await anyio.sleep(1)
        reset(venue.peers[0])
        await venue.until(lambda: len(venue.at_s) == 3)
        assert venue.at_s[2] - venue.at_s[1] >= 20


# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def urgent(tag: str) -> Call:
    return get(tag)._replace(urgent=True)


@pytest.mark.parametrize("ending", [name for name in ENDINGS if name not in ("EOF in the head", "silence")])
async def test_a_refusal_over_http_is_an_answer_however_its_connection_ends(
    ending: str, server: Server, ca_file: str
) -> None:
    for status in STATUSES:
        ear = RecordingListener()
        lane = HttpLane(server.https, ear, ca_file=ca_file)
        server.script = refuses(status, ending)
        async with running(lane.run):
            with anyio.fail_after(60):
                while not ear.opened():  # noqa: ASYNC110 - in virtual time
                    await anyio.sleep(0.01)
                lane.call(urgent("1"))
                while not ear.ends("1"):  # noqa: ASYNC110
                    await anyio.sleep(0.01)
        [end] = ear.ends("1")
        cut = ending not in ("body", "empty", "EOF")  # RFC 9112, 6.3: without a length, the end is the end
        if cut and status >= 500:  # an answer of another route is worth more
            assert isinstance(end, CallLost) and end.sent, status
        else:
            assert isinstance(end, Replied) and end.status == status


@pytest.mark.parametrize("asked_s", [7.0, 100_000.0])
async def test_a_lane_in_back_off_sends_only_urgent_calls(asked_s: float, server: Server, ca_file: str) -> None:
    async def answers(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(ok())

    server.script = answers
    ear = RecordingListener()
    lane = HttpLane(server.https, ear, ca_file=ca_file, warm_every_s=2.0)
    async with running(lane.run):
        await anyio.sleep(5)
        lane.hold(asked_s)
        lane.hold(1.0)  # what is asked for later, and is less, shortens nothing
        since_s, warms = anyio.current_time(), ear.warms
        lane.call(get("housekeeping"))
        for tag, call in (("cancel", urgent("cancel")), ("command", get("command")._replace(command=True))):
            lane.call(call)
            assert (Route.HTTP, tag) in ear.sents  # in this very pass
        await anyio.sleep(min(asked_s, 120) - 0.5)
        assert (Route.HTTP, "housekeeping") not in ear.sents and ear.warms == warms
        while not ear.ends("housekeeping"):  # noqa: ASYNC110 - in virtual time
            await anyio.sleep(0.01)
        assert anyio.current_time() - since_s <= min(asked_s, retry_after.MAX_PAUSE_S) + 0.1
        assert warms < ear.warms <= warms + 2  # at once, and perhaps by the clock
