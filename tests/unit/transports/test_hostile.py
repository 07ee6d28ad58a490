"""What a venue, or somebody who sits between, can send and where the key goes then: to that venue alone."""

from __future__ import annotations

import gzip
import socket
import zlib
from collections.abc import Iterator

import pytest

from kill_switch.core.domain import LaneState, Route
from kill_switch.transports.http import HttpLane
from kill_switch.transports.inflate import MAX_MEMBERS, inflated
from kill_switch.transports.ws import WsLane
from kill_switch.venues.messages import Call, Replied
from kill_switch.venues.request import Request, Upgrade
from tests.harness.lane_listeners import RecordingListener, running, until
from tests.harness.scripted_server import Peer, Server, frame

pytestmark = pytest.mark.anyio

HEADERS = {"X-API-Key": "the-key"}


@pytest.fixture
def third_party() -> Iterator[socket.socket]:
    """Listen where nobody has any business."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def assert_nobody_came(sock: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        sock.accept()


def redirect(to: socket.socket) -> bytes:
    place = b"https://127.0.0.1:%d/" % to.getsockname()[1]
    return b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n"


async def test_an_upgrade_that_is_redirected_takes_the_key_nowhere(
    server: Server, ear: RecordingListener, ca_file: str, third_party: socket.socket
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(redirect(third_party))

    server.script = script
    lane = WsLane(server.wss, lambda: Upgrade(headers=HEADERS), ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: len(server.peers) >= 2, 5.0)
        assert lane.state is not LaneState.UP and "307" in lane.trouble
    assert_nobody_came(third_party)


async def test_a_call_that_is_redirected_takes_the_key_nowhere(
    server: Server, ear: RecordingListener, ca_file: str, third_party: socket.socket
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(redirect(third_party))

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: lane.spare)
        lane.call(Call("kill", Request("DELETE", "/orders", HEADERS), Route.HTTP, urgent=True))
        end = await ear.end("kill")
    assert isinstance(end, Replied) and end.status == 307
    assert_nobody_came(third_party)


async def test_warm_lanes_ask_no_proxy_of_the_environment(
    server: Server, ear: RecordingListener, ca_file: str, third_party: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"http://127.0.0.1:{third_party.getsockname()[1]}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY", "SOCKS_PROXY"):
        monkeypatch.setenv(name, proxy)
        monkeypatch.setenv(name.lower(), proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def script(peer: Peer) -> None:
        if b"upgrade" in (await peer.request()).lower():
            await peer.say(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

    server.script = script
    upgrade, call = (
        WsLane(server.wss, lambda: Upgrade(headers=HEADERS), ear, ca_file=ca_file),
        HttpLane(server.https, ear, ca_file=ca_file),
    )
    async with running(upgrade.run, call.run):
        await until(lambda: call.spare and "503" in upgrade.trouble)
    assert_nobody_came(third_party)


def bomb() -> bytes:
    """Return 16 MiB that take 16 KiB, as permessage-deflate (RFC 7692) has it."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(bytes(16 << 20)) + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]


@pytest.mark.parametrize("headers", [[b"Sec-WebSocket-Extensions: permessage-deflate"], []], ids=["agreed", "unasked"])
async def test_a_compressed_message_is_not_asked_for_and_ends_the_connection_unread(
    headers: list[bytes], server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.upgrade(*headers))
        await peer.say(frame(0x40 | 0x1, bomb()))  # RSV1: compressed (RFC 7692, 6)
        await peer.stay()

    server.script = script
    lane = WsLane(server.wss, lambda: Upgrade(headers=HEADERS), ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: len(server.peers) >= 2, 5.0)
        assert ear.texts() == []
    assert b"sec-websocket-extensions" not in seen[0].lower()


def test_a_compressed_answer_of_many_members_is_refused_and_costs_no_more_for_each() -> None:
    member = gzip.compress(b"{}")
    assert b"".join(inflated("gzip", member * MAX_MEMBERS)) == b"{}" * MAX_MEMBERS
    with pytest.raises(ValueError, match="too many members"):
        list(inflated("gzip", member * (MAX_MEMBERS + 1)))
    with pytest.raises(ValueError, match="too many members"):
        list(inflated("gzip", gzip.compress(b"") * 50_000))  # a mebibyte
