"""The warm WebSocket lane, on real sockets, against servers that misbehave in one way each."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from kill_switch.core.domain import LaneState, Route
from kill_switch.transports import ws, ws_connection
from kill_switch.transports.ws import WsLane
from kill_switch.transports.ws_connection import WsConnection
from kill_switch.venues.messages import Closed, Event, Opened, Received
from kill_switch.venues.request import Upgrade
from tests.harness.lane_listeners import RecordingListener, elapsed_s, running, until
from tests.harness.scripted_server import Certificates, Peer, Script, Server, frame

pytestmark = pytest.mark.anyio


def make(server: Server, ear: RecordingListener, ca_file: str, *, trust: bool = True, **more: Any) -> WsLane:
    """Make a lane; with `trust` a connection is authenticated as soon as it is open."""
    lane = WsLane(server.wss, lambda: Upgrade(headers={"X-API-Key": "k"}), ear, ca_file=ca_file, **more)

    def authenticate(event: Event) -> None:
        if trust and isinstance(event, Opened):
            lane.authenticated(event.conn)

    ear.on_event = authenticate
    return lane


async def lives(peer: Peer) -> None:
    await peer.upgrade()
    await peer.live()


def first(spoilt: Script, rest: Script = lives) -> Script:
    """Do one thing on the first connection, another on those after it."""

    async def script(peer: Peer) -> None:
        await (spoilt if peer.number == 1 else rest)(peer)

    return script


def refuse(status: int) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status)

    return script


# ── up and down ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lane_is_up_once_the_venue_has_accepted_the_login(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.upgrade())
        await peer.live()

    server.script = script
    lane = make(server, ear, ca_file, trust=False)
    states = [lane.state]
    async with running(lane.run):
        await until(lambda: ear.opened())
        states.append(lane.state)
        [conn] = ear.opened()
        lane.authenticated(conn)
        lane.authenticated(conn + 1000)  # one that nobody knows
        states.append(lane.state)
        await until(lambda: ear.rtts)
    assert states == [LaneState.DOWN, LaneState.CONNECTING, LaneState.UP]
    assert lane.trouble == ""
    assert seen[0].startswith(b"GET /ws HTTP/1.1\r\n") and b"X-API-Key: k\r\n" in seen[0]
    route, rtt_us = ear.rtts[0]
    assert route is Route.WS and 0 < rtt_us < 1_000_000


async def test_frames_go_out_in_the_same_pass_or_provably_not_at_all(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[tuple[int, bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        while True:
            seen.append(await peer.frame())

    server.script = script
    lane = make(server, ear, ca_file, trust=False)
    assert not lane.send(1, b"nobody")
    async with running(lane.run):
        await until(lambda: ear.opened())
        [conn] = ear.opened()
        assert lane.send(conn, b'{"op":"login"}')
        assert not lane.send(conn + 1000, b"nobody")
        await until(lambda: (1, b'{"op":"login"}') in seen)
        lane.authenticated(conn)
        lane.drop(conn, "enough")
        assert not lane.send(conn, b"late")
        lane.drop(conn + 1000, "nobody")


async def test_a_text_whose_frame_was_made_beforehand_goes_out_under_a_mask_of_its_own_each_time(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bytes]] = []
    made: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        while True:
            seen.append(await peer.frame())

    def make_frame(text: bytes) -> bytes:
        made.append(real(text))
        return made[-1]

    real = ws_connection._frame
    monkeypatch.setattr(ws_connection, "_frame", make_frame)
    server.script = script
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: ear.opened())
        [conn] = ear.opened()
        text, same = b'{"cancel":"all"}', bytes(bytearray(b'{"cancel":"all"}'))
        lane.prepare(conn, text)
        lane.prepare(conn + 1000, text)
        assert len(made) == 1
        assert lane.send(conn, same) and len(made) == 2  # the text that was meant is that very object
        assert lane.send(conn, text) and len(made) == 2
        assert lane.send(conn, text) and len(made) == 3  # a mask is never used twice (RFC 6455, 5.3)
        await until(lambda: [one for one in seen if one[0] == 1] == [(1, text)] * 3)
    assert len({frame[2:6] for frame in made}) == 3


async def test_no_text_leaves_behind_a_close_that_has_come(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.frame()  # a ping: the connection is open
        await peer.say(frame(0x1, b"news") + frame(0x8, b"\x03\xe8"))
        await peer.live()

    server.script = first(script)
    lane = make(server, ear, ca_file)
    authenticate, sent = ear.on_event, []

    def answer(event: Event) -> None:
        authenticate(event)
        if isinstance(event, Received):
            sent.append(lane.send(event.conn, b"an answer"))

    ear.on_event = answer
    async with running(lane.run):
        await until(lambda: sent == [False])


async def test_a_dropped_connection_is_reported_and_replaced(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = lives
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: lane.state is LaneState.UP)
        one = ear.opened()[0]
        lane.drop(one, "no pong")
        await until(lambda: len(ear.opened()) == 2 and lane.state is LaneState.UP)
        assert ear.closed() == [Closed(Route.WS, one, "no pong")]
        assert ear.opened()[1] > one


async def test_a_connection_that_the_venue_ends_is_reported_and_replaced(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def ends(peer: Peer) -> None:
        await peer.upgrade()
        await anyio.sleep(0.05)
        peer.writer.transport.abort()

    server.script = first(ends)
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2 and lane.state is LaneState.UP)
        assert len(ear.closed()) == 1 and ear.closed()[0].why


@pytest.mark.parametrize("close", [b"\x03\xe8bye", b""])
async def test_a_close_frame_is_answered_and_ends_it_though_the_venue_keeps_tcp_open(
    close: bytes, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[tuple[int, bytes]] = []

    async def closes(peer: Peer) -> None:
        await peer.upgrade()
        await peer.say(frame(0x8, close))
        while True:  # never closes, never answers
            seen.append(await peer.frame())

    server.script = first(closes)
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2 and lane.state is LaneState.UP, 3.0)
        code = b"1000 bye" if close else b"1005"
        assert [event.why for event in ear.closed()] == [f"closed by the venue: {code.decode()}"]
        assert (0x8, close) in seen


OVERSIZED = {
    "frame": frame(0x1, b"x" * 5000),
    "fragments": frame(0x1, b"x" * 3000, fin=False) + frame(0x0, b"x" * 3000),
    "endless fragments": frame(0x1, b"", fin=False) + frame(0x0, b"", fin=False) * 60,
    "reserved bits": b"\xf1\x01x",
    "masked": b"\x81\x81\x00\x00\x00\x00x",
    "stray continuation": frame(0x0, b"x"),
    "bad close": frame(0x8, b"\x03"),
    "unknown opcode": frame(0x7, b"x"),
}


@pytest.mark.parametrize("what", OVERSIZED)
async def test_a_frame_against_the_rules_ends_the_connection_though_the_venue_keeps_tcp_open(
    what: str, server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws_connection, "MAX_MESSAGE_BYTES", 4000)
    monkeypatch.setattr(ws_connection, "MAX_FRAGMENTS", 50)

    async def breaks_rules(peer: Peer) -> None:
        await peer.upgrade()
        _, data = await peer.frame()
        await peer.say(frame(0xA, data) + OVERSIZED[what])
        await peer.stay()

    server.script = first(breaks_rules)
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2 and lane.state is LaneState.UP, 3.0)
        assert ear.texts() == []


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_venue_that_never_stops_talking_is_left_and_one_that_says_much_at_once_is_not(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws_connection, "PING_EVERY_S", 0.2)
    monkeypatch.setattr(ws_connection, "FRAMES_AT_ONCE", 1000)
    monkeypatch.setattr(ws_connection, "FRAMES_PER_S", 1000.0)
    much = frame(0x1, b"{}") * 900

    async def talks(peer: Peer) -> None:
        await peer.upgrade()
        await peer.say(much)
        await anyio.sleep(1.1)
        await peer.say(much)
        await peer.live()

    async def never_stops(peer: Peer) -> None:
        await peer.upgrade()
        while True:
            await peer.say(much)

    server.script = first(never_stops, talks)
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2)
        assert ["too many frames" in event.why for event in ear.closed()] == [True]
        flooding, talking = ear.opened()

        def texts(conn: int) -> int:
            return sum(isinstance(event, Received) and event.conn == conn for event in ear.events)

        assert texts(flooding) < 10_000
        await until(lambda: texts(talking) == 1800)
        assert len(ear.opened()) == 2 and lane.state is LaneState.UP


def test_frames_are_read_little_by_little() -> None:
    connection = WsConnection("wss://h.test/ws", Upgrade(), RecordingListener())
    assert len(connection.get_buffer(-1)) <= 4 << 10  # small frames are slow to read: then it is the others' turn


async def test_messages_come_in_whole_however_they_are_cut(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        stream = (
            frame(0x1, b"one")
            + frame(0x1, b"t", fin=False)
            + frame(0x9, b"ping")
            + frame(0x0, b"w", fin=False)
            + frame(0xA, b"nobody asked")
            + frame(0x0, b"o")
            + frame(0x2, b"three")
            + frame(0x1, b"f", fin=False)
            + frame(0x0, b"our")
            + frame(0x1, b"")
        )
        for byte in stream:
            await peer.say(bytes([byte]))
        while (await peer.frame()) != (0xA, b"ping"):
            pass
        await peer.say(frame(0x1, b"pong was heard"))
        await peer.live()

    server.script = script
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        expected = [b"one", b"two", b"three", b"four", b"", b"pong was heard"]
        await until(lambda: ear.texts() == expected)
        [conn] = ear.opened()
        assert all(event.conn == conn for event in ear.events if isinstance(event, Received))


def upgrading_with(more: bytes) -> Script:
    """Send something in the segment of the handshake's answer."""

    async def script(peer: Peer) -> None:
        written: list[bytes] = []

        async def keep(data: bytes) -> None:
            written.append(data)

        say = peer.say
        peer.say = keep  # type: ignore[method-assign]
        await peer.upgrade()
        peer.say = say  # type: ignore[method-assign]
        await peer.say(b"".join(written) + more)
        await peer.live()

    return script


async def test_a_message_in_the_same_segment_as_the_handshake_follows_it(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = upgrading_with(frame(0x1, b"welcome"))
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: ear.texts() == [b"welcome"])
        assert [type(event) for event in ear.events] == [Opened, Received]


async def test_a_pong_that_comes_before_any_ping_is_no_round_trip(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = upgrading_with(frame(0xA, b""))
    async with running(make(server, ear, ca_file).run):
        await until(lambda: ear.rtts)
    assert all(rtt_us > 0 for _, rtt_us in ear.rtts)


async def test_a_connection_that_is_silent_is_given_up_within_three_seconds(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws_connection, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(ws_connection, "DEAD_AFTER_S", 0.3)

    async def silent(peer: Peer) -> None:
        await peer.upgrade()
        await peer.stay()

    server.script = first(silent)
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2 and lane.state is LaneState.UP, 2.0)
        assert "no frame received" in ear.closed()[0].why
        await anyio.sleep(0.5)
        assert len(ear.closed()) == 1  # the second answers


@pytest.mark.parametrize("now_s", [7.0, 7.004, 7.06, 7.1, 7.2499, 1234567.8, 6.9996])
def test_connections_ping_together_however_they_came_up_and_after_a_second_at_the_latest(now_s: float) -> None:
    wait_s = ws_connection._until_tick_s(now_s)
    assert 0.74 < wait_s < 1.0051
    assert (now_s + wait_s) % 0.25 == pytest.approx(0, abs=1e-6)


async def test_a_loop_that_was_itself_deaf_does_not_blame_the_venue(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws_connection, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(ws_connection, "DEAD_AFTER_S", 0.15)
    deaf = 0

    async def script(peer: Peer) -> None:
        nonlocal deaf
        await peer.upgrade()
        while True:
            _, data = await peer.frame()
            if deaf < 2:
                deaf += 1
                time.sleep(0.3)  # noqa: ASYNC251 - the whole loop stands still, with a ping on its way
                await anyio.sleep(0.03)
            await peer.say(frame(0xA, data))

    server.script = script
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: len(ear.rtts) >= 4)
        assert ear.closed() == [] and lane.state is LaneState.UP


# ── connections that do not come up ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["other_host", "expired", "authority"])
async def test_a_certificate_that_is_not_right_keeps_the_lane_down_and_says_so(
    fault: str, certificates: Certificates, ear: RecordingListener, elsewhere: str
) -> None:
    contexts = {"other_host": certificates.other_host, "expired": certificates.expired}
    async with Server(contexts.get(fault, certificates.good)) as server:
        server.script = lives
        lane = make(server, ear, elsewhere if fault == "authority" else certificates.ca_file)
        async with running(lane.run):
            await until(lambda: len(server.peers) >= 0 and lane.trouble)
            assert lane.trouble.startswith("certificate: ")
            assert ear.events == [] and lane.state is LaneState.DOWN


async def test_a_refused_key_is_not_hammered(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "FATAL_WAIT_S", 0.5)
    server.script = first(refuse(401))
    lane = make(server, ear, ca_file)
    since_s = time.monotonic()
    async with running(lane.run):
        await until(lambda: lane.trouble)
        assert lane.trouble == "upgrade refused: HTTP 401 Unauthorized: no" and ear.events == []
        await until(lambda: lane.state is LaneState.UP and lane.trouble == "")
        assert elapsed_s(since_s) >= 0.5


@pytest.mark.parametrize("status", [200, 301, 403, 404, 503])
async def test_another_refused_upgrade_is_soon_tried_again(
    status: int, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = first(refuse(status))
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: lane.trouble.startswith(f"upgrade refused: HTTP {status}"))
        await until(lambda: lane.state is LaneState.UP, 1.0)


async def garbage(peer: Peer) -> None:
    await peer.say(b"\x00\x01 not http\r\n\r\n")
    await peer.stay()


async def wrong_accept(peer: Peer) -> None:
    await peer.request()
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    await peer.say(head + b"Sec-WebSocket-Accept: x\r\n\r\n")
    await peer.stay()


async def leaves(peer: Peer) -> None:
    await peer.request()


async def silent(peer: Peer) -> None:
    await peer.stay()


@pytest.mark.parametrize("script", [garbage, wrong_accept, leaves, silent])
async def test_a_handshake_that_fails_in_any_way_is_tried_again(
    script: Script, server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "LOGIN_WITHIN_S", 0.3)
    server.script = first(script)
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: lane.trouble)
        await until(lambda: lane.state is LaneState.UP, 2.0)
        assert len(ear.opened()) == 1


async def test_a_login_that_is_never_answered_is_given_up(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "LOGIN_WITHIN_S", 0.2)
    server.script = lives
    lane = make(server, ear, ca_file, trust=False)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2)
        assert lane.trouble == "no login in time: timed out after 0.2 s"
        assert ear.closed() == [Closed(Route.WS, ear.opened()[0], lane.trouble)]


async def test_a_server_that_never_speaks_is_given_up(
    ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "CONNECT_WITHIN_S", 0.1)
    async with Server(None) as server:
        lane = make(server, ear, ca_file)
        async with running(lane.run):
            await until(lambda: lane.trouble == "timed out after 0.1 s; 127.0.0.1 does not answer in the TLS handshake")


async def test_headers_that_cannot_be_made_are_trouble_and_no_end(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    asked = 0

    def upgrade() -> Upgrade:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ValueError("not shown")
        return Upgrade()

    server.script = lives
    lane = WsLane(server.wss, upgrade, ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: ear.opened())
        assert lane.trouble == "ValueError"


async def test_a_refusal_after_the_login_waits_long_too(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "FATAL_WAIT_S", 0.4)
    server.script = lives
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: lane.state is LaneState.UP)
        since_s = time.monotonic()
        lane.drop(ear.opened()[0], "key expired", fatal=True)
        lane.drop(ear.opened()[0], "key expired, again")
        await until(lambda: len(ear.opened()) == 2)
        assert elapsed_s(since_s) >= 0.4
        assert ear.closed()[0].why == "key expired"


async def test_the_trouble_is_that_of_the_last_attempt(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "LOGIN_WITHIN_S", 0.2)
    server.script = first(refuse(503), refuse(404))
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: lane.trouble.startswith("upgrade refused: HTTP 503"))
        await until(lambda: lane.trouble.startswith("upgrade refused: HTTP 404"))
        server.script = silent
        await until(lambda: lane.trouble == "no answer to the upgrade: timed out after 0.2 s")


# ── rotation and the end ──────────────────────────────────────────────────────────────────────────────────────────


async def test_rotation_opens_the_new_connection_before_it_closes_the_old(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = lives
    lane = make(server, ear, ca_file, max_age_s=0.2)
    states: list[LaneState] = []
    authenticate = ear.on_event

    def note(event: Event) -> None:
        authenticate(event)
        states.append(lane.state)

    ear.on_event = note
    async with running(lane.run):
        await until(lambda: len(ear.closed()) == 2)
    one, two, three = ear.opened()[:3]
    told = [(type(event), event.conn) for event in ear.events if isinstance(event, Opened | Closed)]
    assert told[:5] == [(Opened, one), (Opened, two), (Closed, one), (Opened, three), (Closed, two)]
    assert set(states[:5]) == {LaneState.UP}
    assert ear.closed()[0].why == "rotated before the venue's maximum age"


async def test_a_connection_that_is_to_be_replaced_closes_once_its_successor_is_ready(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = lives
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: lane.state is LaneState.UP)
        lane.replace(ear.opened()[0])
        lane.replace(99)  # is gone
        await until(lambda: ear.closed())
        assert lane.state is LaneState.UP
    one, two = ear.opened()
    told = [(type(event), event.conn) for event in ear.events if isinstance(event, Opened | Closed)]
    assert told[:3] == [(Opened, one), (Opened, two), (Closed, one)]
    assert ear.closed()[0].why == "the venue is closing it"


async def test_rotation_where_one_connection_is_allowed_closes_first(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = lives
    lane = make(server, ear, ca_file, max_age_s=0.2, overlap=False)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2 and ear.closed())
        assert ear.closed()[0].why == "rotated before the venue's maximum age"


async def test_a_rotation_that_fails_keeps_the_old_connection_and_is_tried_again(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        await (refuse(503) if peer.number == 2 else lives)(peer)

    server.script = script
    lane = make(server, ear, ca_file, max_age_s=0.2)
    async with running(lane.run):
        await until(lambda: lane.trouble.startswith("upgrade refused: HTTP 503"))
        assert lane.state is LaneState.UP and not ear.closed()
        await until(lambda: ear.closed())
        assert len(ear.opened()) >= 2 and lane.state is LaneState.UP


async def test_an_old_connection_that_dies_during_rotation_is_replaced_by_the_new(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def dies(peer: Peer) -> None:
        await peer.upgrade()
        await until(lambda: len(server.peers) == 2)
        peer.writer.transport.abort()

    server.script = first(dies)
    lane = make(server, ear, ca_file, max_age_s=0.2)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2 and ear.closed())
        await until(lambda: lane.state is LaneState.UP)


async def test_a_lane_of_two_connections_replaces_one_that_ends_and_each_that_is_old(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = lives
    lane = make(server, ear, ca_file, connections=2)
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2)
        one, two = ear.opened()
        lane.drop(two, "enough")
        assert lane.state is LaneState.UP and lane.send(one, b"{}")  # the command that follows leaves at once
        await until(lambda: len(ear.opened()) == 3)
        assert lane.send(ear.opened()[2], b"{}") and lane.send(one, b"{}")
    ear.events.clear()
    lane = make(server, ear, ca_file, connections=2, max_age_s=0.3)
    async with running(lane.run):
        await until(lambda: len(ear.closed()) >= 2)
        one, two = ear.opened()[:2]
        assert {event.conn for event in ear.closed()[:2]} == {one, two}
        assert {event.why for event in ear.closed()[:2]} == {"rotated before the venue's maximum age"}
        assert lane.state is LaneState.UP


@pytest.mark.parametrize("how", ["is silent", "refuses the login", "refuses the upgrade"])
async def test_a_second_connection_that_never_logs_in_is_the_lanes_trouble_until_it_does(
    how: str, server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "LOGIN_WITHIN_S", 0.2)
    monkeypatch.setattr(ws, "FATAL_WAIT_S", 0.1)
    refused = True

    async def script(peer: Peer) -> None:
        await (refuse(401) if how == "refuses the upgrade" and refused and peer.number > 1 else lives)(peer)

    server.script = script
    lane = make(server, ear, ca_file, trust=False, connections=2)

    def log_in(event: Event) -> None:
        if not isinstance(event, Opened):
            return
        if event.conn == ear.opened()[0] or not refused:
            lane.authenticated(event.conn)
        elif how == "refuses the login":
            lane.drop(event.conn, "login refused: 13004", fatal=True)

    ear.on_event = log_in
    async with running(lane.run):
        await until(lambda: lane.trouble.startswith("1 of 2 connections: "))
        why = {"is silent": "no login in time", "refuses the login": "13004", "refuses the upgrade": "HTTP 401"}[how]
        assert why in lane.trouble and lane.state is LaneState.UP and lane.connections == (1, 2)
        refused = False
        await until(lambda: lane.trouble == "" and lane.connections == (2, 2))


async def test_a_stopped_lane_says_good_bye(server: Server, ear: RecordingListener, ca_file: str) -> None:
    seen: list[tuple[int, bytes]] = []

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        while True:
            seen.append(await peer.frame())

    server.script = script
    lane = make(server, ear, ca_file)
    async with running(lane.run):
        await until(lambda: lane.state is LaneState.UP)
    await until(lambda: (0x8, b"\x03\xe8") in seen)
    assert lane.state is LaneState.DOWN
    await until(lambda: ear.closed())
    assert ear.closed()[0].why == "the daemon is stopping"


async def test_a_broken_lane_does_not_disturb_another(server: Server, ear: RecordingListener, ca_file: str) -> None:
    server.script = lives
    good = make(server, ear, ca_file)
    addresses = ("wss://127.0.0.1:1/ws", "wss://host.invalid/ws", "wss://a" + "b" * 70 + ".invalid/ws")
    others = [WsLane(url, Upgrade, RecordingListener(), ca_file=ca_file) for url in addresses]
    async with running(good.run, *(lane.run for lane in others)):
        await until(lambda: good.state is LaneState.UP and all(lane.trouble for lane in others))
        assert good.send(ear.opened()[0], b"still here")
