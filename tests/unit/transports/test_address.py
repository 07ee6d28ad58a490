"""A WebSocket connection to an address that the venue hands out for it: where it goes, and what is shown of it."""

from __future__ import annotations

import logging
import struct
import time
from typing import Any

import anyio
import pytest

from kill_switch.core.domain import LaneState
from kill_switch.transports.lane import ConnectionNotWanted
from kill_switch.transports.ws import WsLane
from kill_switch.venues.messages import Opened
from kill_switch.venues.request import Upgrade
from tests.harness.lane_listeners import RecordingListener, elapsed_s, running, until
from tests.harness.scripted_server import Peer, Server, frame

pytestmark = pytest.mark.anyio

TOKEN = "tok3n/+which=nobody&may%see"
TARGET = "/private/2neverlog?token=tok3n%2F%2Bwhich%3Dnobody%26may%25see&connectId=1"
SECRETS = (TOKEN, "tok3n", "2neverlog", TARGET)


def trusting(server: Server, ear: RecordingListener, ca_file: str, upgrade: Any) -> WsLane:
    """Make a lane whose connections are authenticated as soon as they are open."""
    lane = WsLane(server.wss, upgrade, ear, ca_file=ca_file)
    ear.on_event = lambda event: lane.authenticated(event.conn) if isinstance(event, Opened) else None
    return lane


async def test_a_connection_asks_for_the_path_that_it_was_given_at_the_configured_host(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.upgrade())
        if peer.number == 1:
            return
        await peer.live()

    targets = iter((TARGET, ""))
    server.script = script
    lane = trusting(server, ear, ca_file, lambda: Upgrade(next(targets), {"X-K": "v"}))
    async with running(lane.run):
        await until(lambda: len(ear.opened()) == 2)
    lines = [request.split(b"\r\n") for request in seen]
    assert [line[0] for line in lines] == [f"GET {TARGET} HTTP/1.1".encode(), b"GET /ws HTTP/1.1"]
    assert lines[0][1] == lines[1][1] == f"Host: {server.wss.split('/')[2]}".encode()
    assert all(b"X-K: v" in line for line in lines)


async def test_nothing_of_a_handed_out_address_is_shown_whatever_the_venue_echoes(
    server: Server,
    ear: RecordingListener,
    ca_file: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    troubles: list[str] = []

    async def script(peer: Peer) -> None:
        if peer.number == 1:
            body = (await peer.request()).split(b"\r\n")[0] + TOKEN.encode()
            await peer.say(b"HTTP/1.1 403 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        await peer.upgrade()
        if peer.number == 2:
            await peer.say(frame(8, struct.pack("!H", 4001) + b"bad token " + b"." * 60 + TOKEN.encode()))
            return
        await peer.live()

    server.script = script
    upgrade = Upgrade(TARGET)
    lane = trusting(server, ear, ca_file, lambda: upgrade)
    async with running(lane.run):
        await until(lambda: bool(lane.trouble))
        troubles.append(lane.trouble)
        await until(lambda: len(ear.opened()) == 2)
    shown = [*troubles, *(closed.why for closed in ear.closed()), repr(upgrade), repr(lane), *capfd.readouterr()]
    shown += [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert any("403" in text and "[secret]" in text for text in shown)
    assert any("4001 bad token" in text for text in shown)
    assert not [secret for secret in SECRETS for text in shown if secret in text]


@pytest.mark.parametrize("target", ["ws?token=tok3n", "/ws token=tok3n", "/tok3n#x", "/tok3n\r\nHost: else", "/tok3né"])
async def test_a_path_that_no_request_line_can_carry_is_trouble_that_does_not_show_it(
    server: Server, ear: RecordingListener, ca_file: str, target: str
) -> None:
    lane = trusting(server, ear, ca_file, lambda: Upgrade(target))
    async with running(lane.run):
        await until(lambda: lane.trouble)
    assert lane.trouble == "the path that this connection was given cannot be requested"
    assert not server.peers


async def test_a_lane_that_waits_for_a_token_connects_as_soon_as_the_token_has_come(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    tokens: list[str] = []

    def upgrade() -> Upgrade:
        if not tokens:
            raise ConnectionNotWanted("waits for a token")
        return Upgrade(f"/ws?token={tokens[0]}")

    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.live()

    server.script = script
    lane = trusting(server, ear, ca_file, upgrade)
    lane._failing.failures = 30  # so the next wait is from 5 s to 10 s
    async with running(lane.run):
        lane.connect_now()
        await until(lambda: lane.trouble)
        assert (lane.trouble, lane.state) == ("waits for a token", LaneState.DOWN)
        since_s = time.monotonic()
        tokens.append("abc")
        lane.connect_now()
        await until(lambda: lane.state is LaneState.UP)
        assert elapsed_s(since_s) < 4.0
        lane.connect_now()  # it is up
        await anyio.sleep(0.1)
        assert len(server.peers) == 1


async def test_a_new_token_shortens_no_wait_that_the_venue_has_asked_for(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.request()
            await peer.say(b"HTTP/1.1 429 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            return
        await peer.upgrade()
        await peer.live()

    server.script = script
    lane = trusting(server, ear, ca_file, Upgrade)
    async with running(lane.run):
        await until(lambda: "429" in lane.trouble)
        since_s = time.monotonic()
        lane.connect_now()
        await until(lambda: lane.state is LaneState.UP)
        assert elapsed_s(since_s) >= 0.9
