"""Both routes take the same answers: all that RFC 9112 asks of a client, and none that could be read in two ways."""

from __future__ import annotations

import gzip
import zlib

import pytest

from kill_switch.core.domain import Route
from kill_switch.transports import http
from kill_switch.transports.fresh import FreshRoute
from kill_switch.transports.http import HttpLane
from kill_switch.venues.messages import Call, CallLost, Replied
from kill_switch.venues.request import Request
from tests.harness.lane_listeners import RecordingListener, running, until
from tests.harness.scripted_server import Peer, Script, Server, ok

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return ("asyncio", {"use_uvloop": request.param})


OK = b"HTTP/1.1 200 OK\r\n"
THREE = b"Content-Length: 3\r\n\r\nabc"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
RAW = zlib.compress(b"abc")
TWO_MEMBERS = gzip.compress(b"a") + gzip.compress(b"bc")

# what is sent, whether the server then closes, and what it means
LEGAL: dict[str, tuple[bytes, bool, int, bytes]] = {
    "a length": (OK + THREE, False, 200, b"abc"),
    "no length, ends with the connection": (OK + b"\r\nabc", True, 200, b"abc"),
    "no length, nothing in it": (OK + b"\r\n", True, 200, b""),
    "no length, interim answers first": (b"HTTP/1.1 103 \r\nLink: x\r\n\r\n" + OK + b"\r\nabc", True, 200, b"abc"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nabc", True, 200, b"abc"),
    "HTTP/1.0 with a length": (b"HTTP/1.0 200 OK\r\n" + THREE, False, 200, b"abc"),
    "HTTP/1.0 kept alive": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + THREE, False, 200, b"abc"),
    "a later minor version": (b"HTTP/1.2 200 OK\r\n" + THREE, False, 200, b"abc"),
    "interim answers": (b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 102 P\r\n\r\n" + OK + THREE, False, 200, b"abc"),
    "a folded line": (OK + b"X: a\r\n b\r\n\tc\r\n" + THREE, False, 200, b"abc"),
    "a folded length": (OK + b"Content-Length:\r\n 3\r\n\r\nabc", False, 200, b"abc"),
    "a folded coding": (OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS, False, 200, b"abc"),
    "a coding with blanks behind it": (OK + b"Transfer-Encoding: \tchunked \t\r\n\r\n" + CHUNKS, False, 200, b"abc"),
    "a coding in capitals": (OK + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + CHUNKS, False, 200, b"abc"),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\nC:\r\n\r\n", False, 200, b"abc"),
    "trailers that would frame": (CHUNKED + b"3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n", False, 200, b"abc"),
    "chunk extensions": (CHUNKED + b'3;a=b;c;d="e;\\"f"\r\nabc\r\n0;z\r\n\r\n', False, 200, b"abc"),
    "zeros before a chunk's size": (CHUNKED + b"0003\r\nabc\r\n000\r\n\r\n", False, 200, b"abc"),
    "one length, twice in a line": (OK + b"Content-Length: 3, 3\r\n\r\nabc", False, 200, b"abc"),
    "one length, in two lines": (OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", False, 200, b"abc"),
    "a length with a zero before it": (OK + b"Content-Length: 03\r\n\r\nabc", False, 200, b"abc"),
    "blanks around values": (OK + b"X:\r\nY: \t \r\nContent-Length: \t3 \t\r\n\r\nabc", False, 200, b"abc"),
    "no blank before a value": (OK + b"Content-Length:3\r\n\r\nabc", False, 200, b"abc"),
    "bytes that are not ASCII": (OK[:-2] + b" \xe9\xff\r\nX: \xe9\xff\r\n" + THREE, False, 200, b"abc"),
    "no reason": (b"HTTP/1.1 200 \r\n" + THREE, False, 200, b"abc"),
    "no reason and no blank": (b"HTTP/1.1 200\r\n" + THREE, False, 200, b"abc"),
    "empty lines before it": (b"\r\n\r\n" + OK + THREE, False, 200, b"abc"),
    "an empty line behind it": (OK + THREE + b"\r\n", False, 200, b"abc"),
    "lines that end in LF": (b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", False, 200, b"abc"),
    "closed, with something behind it": (OK + b"Connection: close\r\n" + THREE + b"more", False, 200, b"abc"),
    "closed, in a list": (OK + b"Connection: x, Close\r\n" + THREE, False, 200, b"abc"),
    "an upgrade that is offered": (OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + THREE, False, 200, b"abc"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", False, 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False, 304, b""),
    "205": (b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", False, 205, b""),
    "a status that nobody knows": (b"HTTP/1.1 599 X\r\n" + THREE, False, 599, b"abc"),
    "gzip": (ok(gzip.compress(b"abc"), b"Content-Encoding: gzip"), False, 200, b"abc"),
    "gzip by its old name": (ok(gzip.compress(b"abc"), b"Content-Encoding: x-gzip"), False, 200, b"abc"),
    "gzip of two members": (ok(TWO_MEMBERS, b"Content-Encoding: gzip"), False, 200, b"abc"),
    "deflate": (ok(RAW, b"Content-Encoding: deflate"), False, 200, b"abc"),
    "gzip, ends with the connection": (OK + b"Content-Encoding: gzip\r\n\r\n" + TWO_MEMBERS, True, 200, b"abc"),
    "identity": (ok(b"abc", b"Content-Encoding: identity"), False, 200, b"abc"),
}
ILLEGAL: dict[str, tuple[bytes, bool]] = {
    "two lengths": (OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", True),
    "two lengths in a line": (OK + b"Content-Length: 3, 4\r\n\r\nabcd", True),
    "a length and chunks": (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, True),
    "chunks and a length": (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + CHUNKS, True),
    "a signed length": (OK + b"Content-Length: +3\r\n\r\nabc", True),
    "a negative length": (OK + b"Content-Length: -1\r\n\r\nabc", True),
    "a length in hex": (OK + b"Content-Length: 0x3\r\n\r\nabc", True),
    "an empty length": (OK + b"Content-Length:\r\n\r\nabc", True),
    "a length that is cut off": (OK + b"Content-Length: 9\r\n\r\nabc", True),
    "chunks that are cut off": (CHUNKED + b"3\r\nabc\r\n", True),
    "a coding hidden by a blank": (OK + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, True),
    "a coding that nobody asked for": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, True),
    "chunks that are not the last coding": (OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS, True),
    "a coding of its own": (OK + b"Transfer-Encoding: identity\r\n\r\nabc", True),
    "two codings": (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, True),
    "a coding that is folded away": (OK + b"Transfer-Encoding: chunked\r\n , x\r\n\r\n" + CHUNKS, True),
    "a chunk's size that overflows": (CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n", True),
    "a chunk's size with a prefix": (CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", True),
    "a chunk longer than it says": (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", True),
    "a bare CR": (OK + b"X: a\rb\r\n" + THREE, True),
    "a zero byte": (OK + b"X: a\0b\r\n" + THREE, True),
    "a first line that is folded": (OK + b" X: y\r\n" + THREE, True),
    "a line without a colon": (OK + b"abc\r\n" + THREE, True),
    "a name that is empty": (OK + b": x\r\n" + THREE, True),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\n" + THREE, True),
    "a status below 100": (b"HTTP/1.1 099 OK\r\n" + THREE, True),
    "another protocol": (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc", True),
    "no head": (b"abc", True),
    "nothing": (b"", True),
    "gzip that is cut off": (ok(gzip.compress(b"abc")[:-4], b"Content-Encoding: gzip"), False),
    "a content encoding that was not requested": (ok(b"abc", b"Content-Encoding: br"), False),
    "two encodings": (ok(gzip.compress(RAW), b"Content-Encoding: deflate, gzip"), False),
}


def saying(answer: bytes, close: bool, every: int) -> Script:
    """Send an answer in pieces of some bytes, once for each request."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for at in range(0, len(answer), every):
                await peer.say(answer[at : at + every])
            if close:
                return

    return script


async def ends(server: Server, ear: RecordingListener, ca_file: str) -> list[Replied | CallLost]:
    """Ask by both routes; return what came of it on the warm one and on the fresh one."""
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run) as group:
        await until(lambda: sum(connection.idle for connection in lane._connections) == http.CONNECTIONS)
        fresh = FreshRoute(server.https, ear, group.start_soon, ca_file=ca_file)
        request = Request("GET", "/x", {"Host": "127.0.0.1"})
        lane.call(Call("warm", request, Route.HTTP, urgent=True))
        fresh.call(Call("fresh", request, Route.FRESH, urgent=True))
        return [await ear.end("warm"), await ear.end("fresh")]


@pytest.mark.parametrize("every", [1, 7, 1 << 16])
@pytest.mark.parametrize("what", LEGAL)
async def test_a_legal_answer_is_taken_by_both_routes(
    what: str, every: int, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    answer, close, status, body = LEGAL[what]
    server.script = saying(answer, close, every)
    for end in await ends(server, ear, ca_file):
        assert isinstance(end, Replied), end
        assert (end.status, end.body) == (status, body)


@pytest.mark.parametrize("every", [1, 1 << 16])
@pytest.mark.parametrize("what", ILLEGAL)
async def test_an_illegal_answer_is_taken_by_neither_route(
    what: str, every: int, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    answer, close = ILLEGAL[what]
    server.script = saying(answer, close, every)
    for end in await ends(server, ear, ca_file):
        assert isinstance(end, CallLost) and end.sent, end


async def test_a_server_that_ends_each_answer_with_the_connection_is_asked_again_and_again(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = saying(OK + b"\r\nabc", True, 1 << 16)
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        for number in range(8):
            await until(lambda: lane.spare)
            lane.call(Call(str(number), Request("GET", "/x", {"Host": "h"}), Route.HTTP, urgent=True))
            assert isinstance(await ear.end(str(number)), Replied)
        assert len(server.peers) >= 8


async def test_folded_answers_leave_the_connection_in_use(server: Server, ear: RecordingListener, ca_file: str) -> None:
    server.script = saying(OK + b"X: a\r\n b\r\n" + THREE, False, 1 << 16)
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: sum(connection.idle for connection in lane._connections) == http.CONNECTIONS)
        for number in range(6):
            lane.call(Call(str(number), Request("GET", "/x", {"Host": "h"}), Route.HTTP, urgent=True))
            end = await ear.end(str(number))
            assert isinstance(end, Replied) and end.headers["x"] == "a b"
        assert len(server.peers) == http.CONNECTIONS


async def test_a_folded_answer_with_another_behind_it_never_answers_the_next_call(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    first = True

    async def script(peer: Peer) -> None:
        nonlocal first
        while True:
            await peer.request()
            spoilt, first = first, False
            stale = ok(b"stale") if spoilt else b""
            await peer.say(OK + b"X: a\r\n b\r\n" + THREE + stale)

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: sum(connection.idle for connection in lane._connections) == http.CONNECTIONS)
        for number in range(3):
            lane.call(Call(str(number), Request("GET", "/x", {"Host": "h"}), Route.HTTP, urgent=True))
            end = await ear.end(str(number))
            assert isinstance(end, CallLost) or end.body == b"abc"
