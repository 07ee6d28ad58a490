"""Why a connection failed, in one sentence for people: every way in which one can, on all three routes."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import struct
import time
from collections.abc import Callable

import h11
import httpcore
import pytest
from websockets.exceptions import InvalidHeader, InvalidMessage, PayloadTooBig

from kill_switch.core.domain import Route
from kill_switch.transports import connection_pool, fresh, http_connection, ws
from kill_switch.transports.causes import describe_error
from kill_switch.transports.fresh import FreshRoute
from kill_switch.transports.http import HttpLane
from kill_switch.transports.lane import ConnectionNotWanted
from kill_switch.transports.network import Network
from kill_switch.transports.ws import WsLane
from kill_switch.venues.messages import Call, CallLost, Opened, Replied
from kill_switch.venues.request import Upgrade
from tests.harness.lane_listeners import RecordingListener, get, running, until
from tests.harness.scripted_server import Certificates, Peer, Script, Server, silent

pytestmark = pytest.mark.anyio
SECRET = "s3cr3t-of-somebody"


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


def in_context(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (httpcore.ConnectError(SECRET), "ConnectError"),
        (
            caused(httpcore.ConnectError(SECRET), OSError(errno.ECONNREFUSED, "Connection refused")),
            "Connection refused",
        ),
        (in_context(httpcore.ReadError(SECRET), ConnectionResetError()), "connection reset by the venue"),
        (caused(ValueError(SECRET), KeyError(SECRET)), "ValueError from KeyError"),
        (ExceptionGroup("all", [TimeoutError()]), "timed out"),
        (TimeoutError(errno.ETIMEDOUT, "timed out after 5 s: no answer"), "timed out after 5 s: no answer"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (BrokenPipeError(), "connection reset by the venue"),
        (EOFError(SECRET), "closed by the venue before a whole answer"),
        (asyncio.IncompleteReadError(b"", 5), "closed by the venue before a whole answer"),
        (
            httpcore.RemoteProtocolError("Server disconnected without " + SECRET),
            "closed by the venue before a whole answer",
        ),
        (
            caused(
                httpcore.RemoteProtocolError("x"), h11.RemoteProtocolError("peer closed connection without " + SECRET)
            ),
            "closed by the venue before a whole answer",
        ),
        (h11.RemoteProtocolError(SECRET), "the answer is not HTTP"),
        (InvalidMessage(SECRET), "the answer to the upgrade is not HTTP"),
        (InvalidHeader("Sec-WebSocket-Accept", SECRET), "the answer to the upgrade accepts no WebSocket"),
        (PayloadTooBig(5, 4), "a violation of the WebSocket protocol: PayloadTooBig"),
        (ConnectionNotWanted("another program has it"), "another program has it"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (
            OSError(0, "two\nlines \x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}"),
            "two lines \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}",
        ),
    ],
)
def test_an_exception_with_its_causes_is_one_sentence_that_shows_nothing_of_others(
    error: BaseException, sentence: str
) -> None:
    assert describe_error(error) == sentence


def test_an_exception_that_causes_itself_has_a_sentence_too() -> None:
    error = ValueError()
    error.__cause__ = caused(KeyError(), error)
    assert describe_error(error) == "ValueError from KeyError"


# ── on real sockets ───────────────────────────────────────────────────────────────────────────────────────────────


async def closes(peer: Peer) -> None:
    peer.writer.close()


def reset(peer: Peer) -> None:
    sock = peer.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.writer.transport.abort()


async def resets(peer: Peer) -> None:
    await peer.reader.read(1)
    reset(peer)


async def talks_plainly(peer: Peer) -> None:
    await peer.say(b"220 mail.example ready\r\n")
    await peer.stay()


def old_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("AES128-SHA")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


TLS: dict[str, tuple[Callable[[Certificates], ssl.SSLContext | None], Script, tuple[str, ...]]] = {
    "expired": (lambda c: c.expired, silent, ("certificate: expired on 2020-01-01 00:00Z", "clock says 20")),
    "not yet valid": (lambda c: c.not_yet, silent, ("certificate: not valid before 2090-01-01 00:00Z", "clock says")),
    "other host": (
        lambda c: c.other_host,
        silent,
        ("certificate: not valid for 127.0.0.1 (it is for elsewhere.test)",),
    ),
    "silent in TLS": (
        lambda c: None,
        silent,
        ("timed out after 0.3 s", "127.0.0.1 does not answer in the TLS handshake"),
    ),
    "closes in TLS": (lambda c: None, closes, ("TLS handshake: ",)),
    "resets in TLS": (lambda c: None, resets, ("TLS handshake: connection reset by the venue",)),
    "no TLS": (lambda c: None, talks_plainly, ("TLS handshake: TLS failed: wrong version number",)),
    "no common cipher": (lambda c: old_tls(), silent, ("TLS handshake: ",)),
}


@pytest.fixture(params=["ws", "http", "fresh"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for module, bound in ((ws, "CONNECT_WITHIN_S"), (connection_pool, "CONNECT_WITHIN_S"), (fresh, "TIMEOUT_S")):
        monkeypatch.setattr(module, bound, 0.3)
    route_name: str = request.param
    return route_name


async def said(route: str, port: int, ca_file: str, host: str = "127.0.0.1", network: Network | None = None) -> str:
    """Have a connection fail on a route; return what people are told."""
    ear = RecordingListener()
    https = f"https://{host}:{port}"
    if route == "fresh":
        async with running() as group:
            carrier = FreshRoute(https, ear, group.start_soon, ca_file=ca_file, network=network)
            carrier.call(Call("1", get("1").request, Route.FRESH))
            end = await ear.end("1")
        assert isinstance(end, CallLost) and not end.sent
        return end.why
    lane = (
        WsLane(f"wss://{host}:{port}/ws", Upgrade, ear, ca_file=ca_file, network=network)
        if route == "ws"
        else HttpLane(https, ear, ca_file=ca_file, network=network)
    )
    async with running(lane.run):
        await until(lambda: lane.trouble)
        trouble = lane.trouble
    assert (Route(route), trouble) in ear.troubles and ear.events == []
    return trouble


@pytest.mark.parametrize("fault", TLS)
async def test_a_tls_fault_has_the_same_words_on_every_route(
    fault: str, route: str, certificates: Certificates
) -> None:
    context, script, words = TLS[fault]
    async with Server(context(certificates)) as server:
        server.script = script
        sentence = await said(route, server.port, certificates.ca_file)
    assert all(word in sentence for word in words), sentence


async def test_an_unknown_issuer_is_named_with_the_ca_file(route: str, server: Server, elsewhere: str) -> None:
    sentence = await said(route, server.port, elsewhere)
    assert sentence.startswith("certificate: unknown issuer Testing CA #")
    assert sentence.endswith(f": not in ca_file {elsewhere}")


async def test_a_port_without_a_listener_is_named(route: str, certificates: Certificates) -> None:
    async with Server(certificates.good) as server:
        port = server.port
    assert await said(route, port, certificates.ca_file) == "Connection refused"


async def test_a_name_that_does_not_resolve_is_named(route: str, ca_file: str) -> None:
    def query(name: str) -> list[tuple[object, ...]]:
        raise socket.gaierror(-2, "Name or service not known")

    sentence = await said(route, 443, ca_file, "venue.test", Network(query))
    assert sentence == "the name venue.test does not resolve: Name or service not known"


async def test_two_addresses_that_fail_differently_are_both_named(route: str, certificates: Certificates) -> None:
    def query(name: str) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, 0, 0, "", (address, 0)) for address in ("127.0.0.1", "127.0.0.2")]

    async with Server(certificates.expired) as server:  # on the first address
        sentence = await said(route, server.port, certificates.ca_file, "localhost", Network(query))
    first, second = sorted(sentence.split("; "))
    assert first.startswith("127.0.0.1: certificate: ") and second == "127.0.0.2: Connection refused"


# ── the upgrade and the login ─────────────────────────────────────────────────────────────────────────────────────


def answers(data: bytes, end: Callable[[Peer], object] = lambda peer: None) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(data)
        end(peer)

    return script


PAGE = b"<!DOCTYPE html><html><head><title>Access \n denied</title><style>a{}</style></head><body>x</body></html>"
UPGRADES: dict[str, tuple[Script, str]] = {
    "short body": (
        answers(b"HTTP/1.1 403 X\r\nContent-Length: 7\r\n\r\nno: api"),
        "upgrade refused: HTTP 403 Forbidden: no: api",
    ),
    "page": (
        answers(b"HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE),
        "upgrade refused: HTTP 503 Service Unavailable: Access denied",
    ),
    "chunked": (
        answers(b"HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n5\r\n here\r\n0\r\n\r\n"),
        "upgrade refused: HTTP 404 Not Found: not here",
    ),
    "until the end": (
        answers(b"HTTP/1.1 401 X\r\n\r\nwho are you"),
        "upgrade refused: HTTP 401 Unauthorized: who are you",
    ),
    "compressed": (
        answers(b"HTTP/1.1 403 X\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"),
        "upgrade refused: HTTP 403 Forbidden",
    ),
    "no phrase of ours": (answers(b"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n"), "upgrade refused: HTTP 599"),
    "redirected": (
        answers(b"HTTP/1.1 301 X\r\nLocation: https://x/?token=1\r\nContent-Length: 0\r\n\r\n"),
        "upgrade refused: HTTP 301 Moved Permanently",
    ),
    "interim first": (
        answers(b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n"),
        "upgrade refused: HTTP 403 Forbidden",
    ),
    "escapes": (
        answers(b"HTTP/1.1 400 X\r\nContent-Length: 9\r\n\r\na\x1b[2Jb\xff\r\n"),
        "upgrade refused: HTTP 400 Bad Request: a\ufffd[2Jb\ufffd",
    ),
    "cut head": (answers(b"HTTP/1.1 403 Forbi"), "upgrade refused: HTTP 403 Forbidden"),
    "nothing": (answers(b""), "closed by the venue before its answer to the upgrade"),
    "reset": (answers(b"", reset), "connection reset by the venue before its answer to the upgrade"),
    "cut": (answers(b"HTTP/1.1 "), "closed by the venue in the middle of its answer to the upgrade"),
    "garbage": (answers(b"\x00\x01 not http\r\n\r\n"), "the answer to the upgrade is not HTTP"),
    "no upgrade": (
        answers(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"),
        "upgrade refused: HTTP 101, but the answer to the upgrade accepts no WebSocket",
    ),
}


@pytest.mark.parametrize("fault", UPGRADES)
async def test_an_upgrade_that_fails_says_how(fault: str, server: Server, ca_file: str) -> None:
    server.script, sentence = UPGRADES[fault]
    ear = RecordingListener()
    lane = WsLane(server.wss, Upgrade, ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: lane.trouble)
        assert lane.trouble == sentence
    assert ear.events == []


async def test_a_refusal_over_http_whose_body_never_comes_is_an_answer(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stops(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 403 X\r\nContent-Length: 9\r\n\r\nno")
        await peer.stay()

    monkeypatch.setattr(http_connection, "ANSWER_WITHIN_S", 0.2)
    server.script = stops
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await until(ear.opened)
        lane.call(get("1", urgent=True)._replace(answer_within_s=0.2))
        end = await ear.end("1")
    assert isinstance(end, Replied) and (end.status, end.body) == (403, b"no")


async def test_a_refusal_that_echoes_our_request_is_shown_without_it(server: Server, ca_file: str) -> None:
    async def echoes(peer: Peer) -> None:
        body = (await peer.request()).split(b"\r\n\r\n")[0].replace(b"\r\n", b" ")[-100:]
        await peer.say(b"HTTP/1.1 403 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    server.script = echoes
    lane = WsLane(
        server.wss,
        lambda: Upgrade(headers={"Authorization": f"Bearer {SECRET}", "X-K": SECRET[:8]}),
        RecordingListener(),
        ca_file=ca_file,
    )
    async with running(lane.run):
        await until(lambda: lane.trouble)
    assert "[secret]" in lane.trouble
    assert SECRET not in lane.trouble and SECRET[:8] not in lane.trouble


# ── certificates that are about to expire ─────────────────────────────────────────────────────────────────────────


async def test_a_lane_knows_when_the_certificate_that_it_was_verified_by_ends(certificates: Certificates) -> None:
    async with Server(certificates.ending_in(13)) as server:
        server.script = silent
        lane = HttpLane(server.https, RecordingListener(), ca_file=certificates.ca_file)
        async with running(lane.run):
            await until(lambda: lane.certificate)
        assert lane.certificate is not None and lane.certificate.issuer == ""
        assert 12.9 < (lane.certificate.at_s - time.time()) / 86_400 < 13.1

        async def lives(peer: Peer) -> None:
            await peer.upgrade()
            await peer.live()

        server.script = lives
        ear = RecordingListener()
        socket_lane = WsLane(server.wss, Upgrade, ear, ca_file=certificates.ca_file)
        ear.on_event = lambda event: socket_lane.authenticated(event.conn) if isinstance(event, Opened) else None
        async with running(socket_lane.run):
            await until(lambda: socket_lane.certificate)
        assert socket_lane.certificate == lane.certificate
