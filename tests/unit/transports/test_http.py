"""The warm HTTP lane, on real sockets, against servers that misbehave in one way each."""

from __future__ import annotations

import time

import anyio
import anyio.lowlevel
import pytest

from kill_switch.core.domain import LaneState, Route
from kill_switch.transports import connection_pool, http, http_connection
from kill_switch.transports.fresh import FreshRoute
from kill_switch.transports.http import HttpLane
from kill_switch.venues.messages import Call, CallLost, Closed, Opened, Replied
from kill_switch.venues.request import Request
from tests.harness.lane_listeners import RecordingListener, elapsed_s, get, running, until
from tests.harness.scripted_server import Certificates, Peer, Script, Server, ok

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return ("asyncio", {"use_uvloop": request.param})  # where there is no uvloop, the lane has to work too


async def answers(peer: Peer) -> None:
    """Answer every request with its own target."""
    while True:
        request = await peer.request()
        await peer.say(ok(request.split(b" ")[1]))


def once(first: Script) -> Script:
    """Do something with the first request; a connection that is made after that answers properly."""
    spoilt = False

    async def script(peer: Peer) -> None:
        nonlocal spoilt
        request = await peer.request()
        if not spoilt:
            spoilt = True
            await first(peer)
            return
        await peer.say(ok(request.split(b" ")[1]))
        await answers(peer)

    return script


def saying(*pieces: bytes, stay: bool = True) -> Script:
    """Answer a request with these bytes, then keep the connection open, or not."""

    async def script(peer: Peer) -> None:
        for piece in pieces:
            await peer.say(piece)
            await anyio.sleep(0.01)
        if stay:
            await peer.stay()

    return script


async def both_up(lane: HttpLane, server: Server) -> None:
    """Wait until both connections are up, in the eyes of both sides."""

    def up() -> bool:
        on_its_side = [peer for peer in server.peers if not peer.writer.is_closing()]
        return len([c for c in lane._connections if c.open]) == len(on_its_side) == http.CONNECTIONS

    await until(up)


# ── up and down ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lane_is_up_once_the_venue_has_accepted_the_key(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    assert lane.state is LaneState.DOWN
    async with running(lane.run):
        await both_up(lane, server)
        assert ear.events == [Opened(Route.HTTP, 0)]
        states = [lane.state]
        for proven in (True, False, True):
            lane.authenticated(proven)
            states.append(lane.state)
        assert states == [LaneState.CONNECTING, LaneState.UP, LaneState.CONNECTING, LaneState.UP]
        assert lane.trouble == ""
        await server.stop()
        await until(lambda: ear.closed())
        assert LaneState(lane.state) is LaneState.DOWN and lane.trouble
        lane.call(get("late"))
        assert ear.ends("late") == [CallLost("late", False, lane.trouble)]


async def test_a_lane_keeps_as_many_connections_as_the_venue_asks_for(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    lane = HttpLane(server.https, ear, ca_file=ca_file, connections=4)
    async with running(lane.run):
        await until(lambda: len(server.peers) == 4)
        assert lane._connections is not None
        await until(lambda: sum(c.idle for c in lane._connections) == 4)
        for number in range(4):
            lane.call(get(f"urgent {number}", urgent=True))
        assert [c.idle for c in lane._connections] == [False] * 4  # none waits for another


async def test_a_lane_that_comes_back_has_to_prove_the_key_again(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        lane.authenticated(True)
        for peer in tuple(server.peers):
            peer.writer.transport.abort()
        await until(lambda: ear.opened() == [0, 0])
        assert [type(event) for event in ear.events] == [Opened, Closed, Opened]
        assert lane.state is LaneState.CONNECTING


async def test_a_call_on_a_lane_that_was_never_up_is_provably_unsent(ear: RecordingListener, ca_file: str) -> None:
    lane = HttpLane("https://127.0.0.1:1", ear, ca_file=ca_file)
    lane.call(get("one", urgent=True))
    lane.call(get("two"))
    assert ear.events == [CallLost("one", False, "the lane is down"), CallLost("two", False, "the lane is down")]


@pytest.mark.parametrize("fault", ["other_host", "expired", "authority", "plain"])
async def test_a_certificate_that_is_not_right_keeps_the_lane_down(
    fault: str, certificates: Certificates, ear: RecordingListener, elsewhere: str
) -> None:
    contexts = {"other_host": certificates.other_host, "expired": certificates.expired, "plain": None}
    async with Server(contexts.get(fault, certificates.good)) as server:
        server.script = saying(b"220 hello\r\n", stay=False)
        lane = HttpLane(server.https, ear, ca_file=elsewhere if fault == "authority" else certificates.ca_file)
        async with running(lane.run):
            await until(lambda: lane.trouble)
            lane.call(get("one", urgent=True))
            assert ear.events == [CallLost("one", False, lane.trouble)]
            if fault != "plain":
                assert lane.trouble.startswith("certificate: ")
            assert lane.state is LaneState.DOWN


async def test_a_refused_connection_is_named(ear: RecordingListener, certificates: Certificates) -> None:
    async with Server(certificates.good) as server:
        pass
    lane = HttpLane(server.https, ear, ca_file=certificates.ca_file)
    async with running(lane.run):
        await until(lambda: lane.trouble)
        lane.call(get("1"))
        assert ear.events == [CallLost("1", False, lane.trouble)]


async def test_a_server_that_never_speaks_is_given_up(
    ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "CONNECT_WITHIN_S", 0.1)
    async with Server(None) as server:
        lane = HttpLane(server.https, ear, ca_file=ca_file)
        async with running(lane.run):
            await until(lambda: lane.trouble == "timed out after 0.1 s; 127.0.0.1 does not answer in the TLS handshake")


# ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_is_written_as_it_is_and_answered(server: Server, ear: RecordingListener, ca_file: str) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(b"HTTP/1.1 401 No\r\nX-Why: because\r\nCONTENT-LENGTH: 4\r\n\r\nbody")
        await peer.stay()

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        call = Call("kill", Request("DELETE", "/all", {"Host": "h", "Key": "k"}, b"{}"), Route.HTTP, True, True)
        lane.call(call)
        assert ear.sents == [(Route.HTTP, "kill")]  # in the same pass
        end = await ear.end("kill")
        assert isinstance(end, Replied)
        assert (end.status, end.body, end.headers) == (401, b"body", {"x-why": "because", "content-length": "4"})
        assert seen == [call.request.wire]
        assert 0 < end.rtt_us < 1_000_000 and ear.rtts == [(Route.HTTP, end.rtt_us)]


async def test_a_request_that_has_begun_is_written_once_and_keeps_its_connection_for_its_call(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[tuple[int, str]] = []

    async def script(peer: Peer) -> None:
        while True:
            target = (await peer.request()).split(b" ")[1].decode()
            seen.append((peer.number, target))
            await peer.say(ok(target.encode()))

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        request = Request("POST", "/all", {"Host": "h"})
        assert lane.begin(request) and ear.sents == []
        lane.call(get("other", target="/other", urgent=True))
        lane.call(Call("kill", request, Route.HTTP, True, True))
        assert ear.sents == [(Route.HTTP, "other"), (Route.HTTP, "kill")]
        for tag, body in (("kill", b"/all"), ("other", b"/other")):
            end = await ear.end(tag)
            assert isinstance(end, Replied) and end.body == body
        assert sorted(target for _, target in seen) == ["/all", "/other"]
        assert seen[0][0] != seen[1][0]
        lane.call(Call("kill-2", request, Route.HTTP, True, True))  # the same request, and it has not begun
        assert isinstance(await ear.end("kill-2"), Replied)
        assert len(seen) == 3


async def test_a_cancelled_early_send_ends_its_connection_and_delivers_no_reply(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = answers
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        assert lane.begin(Request("POST", "/all", {"Host": "h"}))
        lane.abandon_begun()
        lane.abandon_begun()  # there is nothing more to give up
        lane.call(get("1", target="/1", urgent=True))
        end = await ear.end("1")
        assert isinstance(end, Replied) and end.body == b"/1"
        await until(lambda: len(server.peers) == 3)  # the lane is whole again
        assert [event for event in ear.events if isinstance(event, Replied)] == [end]


async def test_a_lane_without_an_idle_connection_begins_nothing(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    assert not lane.begin(Request("POST", "/all", {"Host": "h"}))
    async with running(lane.run):
        await both_up(lane, server)
        for name in ("1", "2"):
            lane.call(get(name, urgent=True))
        assert not lane.begin(Request("POST", "/all", {"Host": "h"}))


async def test_connections_are_kept_and_used_again(server: Server, ear: RecordingListener, ca_file: str) -> None:
    server.script = answers
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        for number in range(20):
            lane.call(get(str(number), urgent=number % 2 == 0, target=f"/{number}"))
            end = await ear.end(str(number))
            assert isinstance(end, Replied) and end.body == f"/{number}".encode()
        assert len(server.peers) == http.CONNECTIONS


async def test_urgent_calls_go_before_those_that_wait_and_these_leave_one_connection_free(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[str] = []
    free = anyio.Semaphore(0)

    async def script(peer: Peer) -> None:
        while True:
            seen.append((await peer.request()).split(b" ")[1].decode())
            await free.acquire()
            await peer.say(ok())

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        for name in ("read-1", "read-2", "read-3"):
            lane.call(get(name, target=f"/{name}"))
        await until(lambda: seen)
        await anyio.sleep(0.05)
        assert seen == ["/read-1"]  # one connection stays free
        lane.call(get("kill-1", target="/kill-1", urgent=True))
        await until(lambda: seen == ["/read-1", "/kill-1"])
        lane.call(get("kill-2", target="/kill-2", urgent=True))  # both are busy now
        lane.call(get("kill-3", target="/kill-3", urgent=True))
        for _ in range(6):
            free.release()
        for name in ("read-1", "read-2", "read-3", "kill-1", "kill-2", "kill-3"):
            assert isinstance(await ear.end(name), Replied)
        assert seen.index("/kill-3") < seen.index("/read-2") < seen.index("/read-3")
        assert seen[2] == "/kill-2"


async def test_a_call_that_waited_beyond_its_deadline_is_lost_unsent(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[bytes] = []
    free = anyio.Semaphore(0)

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            await free.acquire()
            await peer.say(ok())

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file, wanted=lambda call: call.tag != "late")
    async with running(lane.run):
        await both_up(lane, server)
        for tag in ("1", "2", "late", "3"):
            lane.call(get(tag, urgent=True, target=f"/{tag}"))
        for _ in range(3):
            free.release()
        assert isinstance(await ear.end("3"), Replied)
        end = await ear.end("late")
    assert isinstance(end, CallLost) and not end.sent
    assert len(seen) == 3


async def test_a_read_that_waited_until_its_copy_was_answered_elsewhere_is_lost_unsent(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[bytes] = []
    free = anyio.Semaphore(0)
    answered: set[str] = set()

    async def script(peer: Peer) -> None:
        while True:
            seen.append((await peer.request()).split(b" ")[1])
            await free.acquire()
            await peer.say(ok())

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file, wanted=lambda call: call.tag not in answered)
    async with running(lane.run):
        await both_up(lane, server)
        for tag in ("kill-1", "kill-2"):
            lane.call(get(tag, urgent=True, target=f"/{tag}"))
        for tag in ("answered", "other"):
            lane.call(get(tag, target=f"/{tag}"))
        answered.add("answered")
        for _ in range(3):
            free.release()
        assert isinstance(await ear.end("other"), Replied)
        end = await ear.end("answered")
    assert isinstance(end, CallLost) and not end.sent
    assert sorted(seen) == [b"/kill-1", b"/kill-2", b"/other"]


async def test_a_command_that_has_to_wait_goes_before_reads_that_wait_and_behind_other_commands(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[bytes] = []
    free = anyio.Semaphore(0)

    async def script(peer: Peer) -> None:
        while True:
            seen.append((await peer.request()).split(b" ")[1])
            await free.acquire()
            await peer.say(ok())

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        for tag in ("read-1", "read-2", "read-3", "cancel-1", "read-4", "cancel-2"):
            command = tag.startswith("cancel")
            lane.call(get(tag, urgent=True, target=f"/{tag}")._replace(command=command))
        for tag in ("read-1", "read-2", "cancel-1", "cancel-2", "read-3"):
            free.release()
            await ear.end(tag)
        await until(lambda: len(seen) == 6)
    assert set(seen[:2]) == {b"/read-1", b"/read-2"}
    assert seen[2:] == [b"/cancel-1", b"/cancel-2", b"/read-3", b"/read-4"]


async def test_with_one_connection_left_everything_uses_it(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        if peer.number > 1:
            return
        await answers(peer)

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: len(server.peers) > 1)
        await until(lambda: len([c for c in lane._connections if c.open]) == 1)
        lane.call(get("read"))
        assert isinstance(await ear.end("read"), Replied)


async def test_an_idle_lane_asks_to_be_used(server: Server, ear: RecordingListener, ca_file: str) -> None:
    lane = HttpLane(server.https, ear, ca_file=ca_file, warm_every_s=0.04)
    async with running(lane.run):
        await until(lambda: ear.warms >= 3)


# ── answers in all shapes ─────────────────────────────────────────────────────────────────────────────────────────

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
SHAPES: dict[str, tuple[tuple[bytes, ...], int, bytes]] = {
    "chunked": ((CHUNKED,), 200, b"abcde"),
    "byte by byte": (tuple(bytes([byte]) for byte in ok(b"x")), 200, b"x"),
    "interim": ((INTERIM + ok(b"abc"),), 200, b"abc"),
    "interim apart": ((INTERIM, ok(b"abc")), 200, b"abc"),
    "no content": ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204, b""),
    "empty": ((b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",), 500, b""),
    "large": ((ok(b"x" * 300_000),), 200, b"x" * 300_000),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_answer_is_read_in_any_shape_and_the_connection_stays(
    shape: str, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    pieces, status, body = SHAPES[shape]

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for piece in pieces:
                await peer.say(piece)
                await anyio.lowlevel.checkpoint()

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        for tag in ("1", "2", "3"):
            lane.call(get(tag, urgent=True))
            end = await ear.end(tag)
            assert isinstance(end, Replied) and (end.status, end.body) == (status, body)
            assert "link" not in end.headers
        assert len(server.peers) == http.CONNECTIONS


@pytest.mark.parametrize("how", [(b"Connection: close",), (b"connection: CLOSE", b"X: y")])
async def test_connection_close_is_honoured_at_once(
    how: tuple[bytes, ...], server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = once(saying(ok(b"bye", *how)))  # and the server does not close it itself
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        lane.call(get("1", urgent=True))
        end = await ear.end("1")
        assert isinstance(end, Replied) and end.body == b"bye"
        await until(lambda: len(server.peers) == 3, 2.0)  # replaced, though the old one is not closed by the venue
        await both_up(lane, server)
        lane.call(get("2", urgent=True))
        assert isinstance(await ear.end("2"), Replied)


@pytest.mark.parametrize("status", [408, 421, 425])
async def test_a_connection_on_which_nothing_was_processed_is_not_the_next_one(
    status: int, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[int] = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            seen.append(peer.number)
            await peer.say(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        for tag in ("1", "2"):
            lane.call(get(tag, urgent=True))
            assert isinstance(await ear.end(tag), Replied)
    assert sorted(seen) == [1, 2]


async def test_a_call_that_is_lost_says_whether_another_connection_is_idle(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = once(saying(stay=False))
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run) as group:
        fresh = FreshRoute("https://127.0.0.1:1", ear, group.start_soon, ca_file=ca_file, spare=lambda: lane.spare)
        await both_up(lane, server)
        lane.call(get("1", urgent=True))
        end = await ear.end("1")
        assert isinstance(end, CallLost) and end.spare
        fresh.call(get("2", urgent=True))
        end = await ear.end("2")
        assert isinstance(end, CallLost) and end.spare
        await server.stop()
        await until(lambda: not lane.spare)
        fresh.call(get("3", urgent=True))
        end = await ear.end("3")
        assert isinstance(end, CallLost) and not end.spare


# ── calls that are lost ───────────────────────────────────────────────────────────────────────────────────────────

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nx"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
MUCH = b"X: %b\r\n" % (b"y" * 900) * 80
CRUMBS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 400
ENDLESS_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=" + b"y" * 200_000
LOSSES: dict[str, tuple[Script, str]] = {
    "closed": (saying(stay=False), ""),
    "cut": (saying(HALF, stay=False), ""),
    "garbage": (saying(b"SSH-2.0-OpenSSH\r\n"), "the answer is not HTTP"),
    "bad length": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "the answer is not HTTP"),
    "two lengths": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + HALF[17:]), "the answer is not HTTP"),
    "upgrade": (saying(UPGRADE), "the answer is not HTTP"),
    "headers": (saying(b"HTTP/1.1 200 OK\r\n" + MUCH), "the answer's headers are too large"),
    "headers whole": (saying(ok(b"{}").replace(b"OK\r\n", b"OK\r\n" + MUCH)), "the answer's headers are too large"),
    "body": (saying(ok(b"x" * 5000)), "the answer is too large"),
    "body in pieces": (saying(ok(b"x" * 5000)[:-1], b"x"), "the answer is too large"),
    "length too large": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"), "the answer is too large"),
    "one long header": (saying(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000), "the answer's headers are too large"),
    "long status line": (saying(b"HTTP/1.1 200 " + b"O" * 200_000), "the answer's headers are too large"),
    "interim answers": (saying(b"HTTP/1.1 100 Continue\r\n\r\n" * 60), "too many interim answers"),
    "large interim answers": (saying((b"HTTP/1.1 103 \r\n" + MUCH[: 3 * 905] + b"\r\n") * 40), "headers are too large"),
    "chunk extension": (saying(ENDLESS_CHUNK), "the answer is too large"),
    "crumbs": (saying(CRUMBS), "the answer is in too many pieces"),
    "silence": (saying(), "no answer in time"),
    "half": (saying(HALF), "no answer in time"),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_call_whose_answer_fails_is_lost_after_it_was_sent_and_the_lane_recovers(
    loss: str, server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "ANSWER_WITHIN_S", 0.3)
    monkeypatch.setattr(http_connection, "MAX_BODY_BYTES", 4000)
    monkeypatch.setattr(http_connection, "MAX_PIECES", 300)
    first, why = LOSSES[loss]
    server.script = once(first)
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        lane.call(get("1", urgent=True))
        end = await ear.end("1")
        assert isinstance(end, CallLost) and end.sent and end.why
        assert why in end.why
        lane.call(get("2", urgent=True))
        assert isinstance(await ear.end("2"), Replied)
        await until(lambda: len(server.peers) == 3)
        await both_up(lane, server)
        assert ear.ends("1") == [end]


def late(tag: str) -> Call:
    """Make a call whose answer is worth having when it is late, too."""
    return get(tag, urgent=True, target=f"/{tag}")._replace(answer_within_s=30.0)


async def slowly(peer: Peer) -> None:
    """Answer the requests to late calls only when they are late, the others at once."""
    while True:
        target = (await peer.request()).split(b" ")[1]
        if target.startswith(b"/late"):
            await anyio.sleep(0.4)
        await peer.say(ok(target))


async def test_a_late_answer_arrives_and_other_calls_do_not_wait_for_it(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "ANSWER_WITHIN_S", 0.1)
    server.script = slowly
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        lane.call(late("late-1"))
        lane.call(late("late-2"))
        await until(lambda: len(server.peers) == 4)
        await until(lambda: len([c for c in lane._connections if c.idle]) == 2)
        assert not ear.ends("late-1") and not ear.ends("late-2")
        lane.call(get("kill", urgent=True))
        assert isinstance(await ear.end("kill"), Replied)
        assert not ear.ends("late-1")
        ends = [await ear.end(tag) for tag in ("late-1", "late-2")]
        assert [end.body for end in ends if isinstance(end, Replied)] == [b"/late-1", b"/late-2"]
        assert min(end.rtt_us for end in ends if isinstance(end, Replied)) > 300_000
        await until(lambda: not any(c.open for c in lane.pool._late))  # it is closed once its answer has come
    assert len(server.peers) == 4


async def test_an_answer_that_never_comes_is_lost_when_its_time_is_up_or_too_many_are_awaited(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "ANSWER_WITHIN_S", 0.05)
    server.script = saying()
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    lane.pool.most_late = lambda: 2
    async with running(lane.run):
        await both_up(lane, server)
        lane.call(late("1")._replace(answer_within_s=0.2))
        end = await ear.end("1")
        assert isinstance(end, CallLost) and end.sent and end.why == "no answer in time"
        for tag in ("2", "3", "4"):
            await both_up_again(lane)
            lane.call(late(tag))
        end = await ear.end("2")
        assert isinstance(end, CallLost) and end.sent
        assert not ear.ends("3") and not ear.ends("4")
    ends = [ear.ends(tag) for tag in ("3", "4")]
    assert all(isinstance(end, CallLost) and end.sent for [end] in ends)  # the lane is at its end, and says so


async def both_up_again(lane: HttpLane) -> None:
    await until(lambda: len([c for c in lane._connections if c.idle]) == http.CONNECTIONS)


async def test_a_lane_all_of_whose_answers_are_late_is_down_until_it_has_other_connections(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "ANSWER_WITHIN_S", 0.1)
    server.script = slowly
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        lane.authenticated(True)
        lane.call(late("late-1"))
        lane.call(late("late-2"))
        await until(lambda: len(ear.events) >= 3)
        assert ear.events[:3] == [Opened(Route.HTTP, 0), Closed(Route.HTTP, 0, "no answer in time"), ear.events[0]]
        assert lane.state is LaneState.CONNECTING


async def test_an_answer_without_a_call_ends_the_connection(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.say(ok())
            await peer.stay()
        await answers(peer)

    server.script = script
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await until(lambda: len(server.peers) == 3)
        await both_up(lane, server)
        assert not any(isinstance(event, Replied) for event in ear.events)


@pytest.mark.parametrize("rest", [ok(b"/stale"), ok(b"/stale")[:-1], b"garbage", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_bytes_behind_a_reply_never_answer_the_next_call(
    rest: bytes, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = once(saying(ok(b"/1") + rest))
    lane = HttpLane(server.https, ear, ca_file=ca_file)

    def again(event: object) -> None:
        if isinstance(event, Replied) and event.tag == "1":
            lane.call(get("2", target="/2", urgent=True))  # at once, while the rest is still to be read
            lane.call(get("3", target="/3", urgent=True))

    ear.on_event = again
    async with running(lane.run):
        await both_up(lane, server)
        lane.call(get("1", target="/1", urgent=True))
        for tag in ("1", "2", "3"):
            end = await ear.end(tag)
            assert isinstance(end, Replied) and end.body == f"/{tag}".encode()
        await until(lambda: len(server.peers) == 3)


async def test_a_call_that_waits_when_the_last_connection_goes_is_provably_unsent(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        for tag in ("1", "2", "3"):
            lane.call(get(tag, urgent=True))
        lane.call(get("4"))
        await server.stop()
        ends = {tag: await ear.end(tag) for tag in ("1", "2", "3", "4")}
        assert {tag: isinstance(end, CallLost) and end.sent for tag, end in ends.items()} == {
            "1": True,
            "2": True,
            "3": False,
            "4": False,
        }


async def test_a_stopped_lane_leaves_no_call_without_an_end(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await both_up(lane, server)
        for tag in ("1", "2", "3"):
            lane.call(get(tag, urgent=True))
    ends = [await ear.end(tag) for tag in ("1", "2", "3")]
    assert all(isinstance(end, CallLost) for end in ends)


async def test_a_broken_lane_does_not_disturb_another(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = answers
    good = HttpLane(server.https, ear, ca_file=ca_file)
    async with Server(None) as strange:
        strange.script = saying(b"\x00" * 100, stay=False)
        addresses = ("https://127.0.0.1:1", strange.https, "https://host.invalid", "https://a" + "b" * 70 + ".invalid")
        others = [HttpLane(url, RecordingListener(), ca_file=ca_file) for url in addresses]
        async with running(good.run, *(lane.run for lane in others)):
            await both_up(good, server)
            await until(lambda: all(lane.trouble for lane in others))
            since_s = time.monotonic()
            good.call(get("1", urgent=True))
            assert isinstance(await ear.end("1"), Replied) and elapsed_s(since_s) < 1
