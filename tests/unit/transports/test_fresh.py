"""The fresh route, on real sockets: every call ends in an answer or a loss, and a loss says whether a byte left."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import cast

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from kill_switch.core.domain import Route
from kill_switch.transports import fresh
from kill_switch.transports.fresh import FreshRoute
from kill_switch.transports.network import Network
from kill_switch.transports.turn_scheduler import TurnScheduler
from kill_switch.venues.messages import Call, CallLost, Replied
from kill_switch.venues.request import Request
from tests.harness.lane_listeners import RecordingListener, elapsed_s, get, running, until
from tests.harness.scripted_server import Certificates, Peer, Script, Server, ok

pytestmark = pytest.mark.anyio

KILL = Call("kill", Request("DELETE", "/v3/all?x=%20y", {"Host": "h.test", "Key": "k"}, b"{}"), Route.FRESH, True, True)


def make(server: Server, ear: RecordingListener, group: anyio.abc.TaskGroup, ca_file: str) -> FreshRoute:
    return FreshRoute(server.https, ear, group.start_soon, ca_file=ca_file)


async def test_a_call_is_answered_and_says_when_its_last_byte_left(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        assert ear.sents == [(Route.FRESH, "kill")]
        await peer.say(ok(b'{"success":true}', b"X-Why: because"))

    server.script = script
    async with running() as group:
        make(server, ear, group, ca_file).call(KILL)
        end = await ear.end("kill")
    assert isinstance(end, Replied)
    assert (end.status, end.body, end.headers["x-why"]) == (200, b'{"success":true}', "because")
    assert 0 < end.rtt_us < 1_000_000
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"DELETE /v3/all?x=%20y HTTP/1.1" and body == b"{}"
    assert {b"Host: h.test", b"Key: k", b"Content-Length: 2"} <= set(lines)


async def test_a_request_with_an_origin_of_its_own_goes_to_that_host_whatever_pause_the_venue_asks_for(
    server: Server, ear: RecordingListener, certificates: Certificates
) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(ok(b'{"token":"t"}'))

    async def unwanted(peer: Peer) -> None:
        raise AssertionError("the account's own host was asked")

    server.script = unwanted
    async with Server(certificates.good) as other, running() as group:
        other.script = script
        route = FreshRoute(server.https, ear, group.start_soon, ca_file=certificates.ca_file, quiet=lambda: "a pause")
        origin = f"https://localhost:{other.port}"
        for tag in ("one", "two"):
            route.call(Call(tag, Request("POST", "/token", {"Host": "localhost"}, b"n=1", origin=origin), Route.FRESH))
            end = await ear.end(tag)
            assert isinstance(end, Replied) and end.body == b'{"token":"t"}', end
        route.call(get("own"))
        end = await ear.end("own")
        assert isinstance(end, CallLost) and end.why == "a pause"
    assert [head.split(b"\r\n")[0] for head in seen] == [b"POST /token HTTP/1.1"] * 2 and not server.peers


@pytest.mark.parametrize("fault", ["another host's certificate", "an unknown authority"])
async def test_a_request_with_an_origin_of_its_own_leaves_only_for_a_host_that_proves_its_name(
    server: Server, ear: RecordingListener, certificates: Certificates, elsewhere: str, fault: str
) -> None:
    tls, ca_file = certificates.good, certificates.ca_file
    if fault == "an unknown authority":
        ca_file = elsewhere
    else:
        tls = certificates.other_host
    async with Server(tls) as other, running() as group:
        route = FreshRoute(server.https, ear, group.start_soon, ca_file=ca_file)
        request = Request("POST", "/token", {"Host": "h", "Key": "k"}, origin=f"https://127.0.0.1:{other.port}")
        route.call(Call("token", request, Route.FRESH))
        end = await ear.end("token")
    assert isinstance(end, CallLost) and not end.sent and "certificate" in end.why


async def test_an_answer_is_awaited_for_as_long_as_its_call_says(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "TIMEOUT_S", 0.2)

    async def script(peer: Peer) -> None:
        await peer.request()
        await anyio.sleep(0.8)
        await peer.say(ok())

    server.script = script
    async with running() as group:
        route = make(server, ear, group, ca_file)
        route.call(get("soon"))
        route.call(get("late")._replace(answer_within_s=30.0))
        assert isinstance(await ear.end("soon"), CallLost)
        assert isinstance(await ear.end("late"), Replied)


async def test_reads_that_wait_hold_no_more_connections_than_the_venue_allows_and_commands_are_never_given_up(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stay()

    server.script = script
    async with running() as group:
        route = make(server, ear, group, ca_file)
        route.most_reads = lambda: 2
        route.call(KILL)
        for number, tag in enumerate(("1", "2", "3", "4"), start=2):
            route.call(get(tag)._replace(answer_within_s=30.0))
            await until(lambda number=number: len(server.peers) == number)  # type: ignore[misc]
        ends = [await ear.end(tag) for tag in ("1", "2")]
        assert all(isinstance(end, CallLost) and end.why == fresh.TOO_MANY_READS for end in ends)
        assert {tag: ear.ends(tag) for tag in ("kill", "3", "4") if ear.ends(tag)} == {}


async def test_every_call_has_a_connection_of_its_own(server: Server, ear: RecordingListener, ca_file: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(ok())
        await peer.stay()

    server.script = script
    async with running() as group:
        route = make(server, ear, group, ca_file)
        for tag in ("1", "2", "3"):
            route.call(get(tag))
        for tag in ("1", "2", "3"):
            assert isinstance(await ear.end(tag), Replied)
    assert len(server.peers) == 3


async def test_a_call_given_up_before_its_connection_is_ready_is_not_sent(
    certificates: Certificates, ear: RecordingListener
) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())

    async with Server(certificates.good) as server:
        server.script = script
        async with running() as group:
            ca_file = certificates.ca_file
            FreshRoute(server.https, ear, group.start_soon, ca_file=ca_file, wanted=lambda call: False).call(KILL)
            end = await ear.end("kill")
    assert isinstance(end, CallLost) and not end.sent
    assert seen == [] == ear.sents


async def test_a_refused_connection_is_provably_unsent(certificates: Certificates, ear: RecordingListener) -> None:
    async with Server(certificates.good) as server:
        pass
    async with running() as group:
        make(server, ear, group, certificates.ca_file).call(KILL)
        end = await ear.end("kill")
    assert isinstance(end, CallLost) and not end.sent and end.why
    assert ear.sents == []


@pytest.mark.parametrize("fault", ["other_host", "expired", "authority", "plain"])
async def test_a_certificate_that_is_not_right_gets_no_byte(
    fault: str, certificates: Certificates, ear: RecordingListener, elsewhere: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(b"220 hello\r\n")

    contexts = {"other_host": certificates.other_host, "expired": certificates.expired, "plain": None}
    async with Server(contexts.get(fault, certificates.good)) as server:
        server.script = script
        async with running() as group:
            make(server, ear, group, elsewhere if fault == "authority" else certificates.ca_file).call(KILL)
            end = await ear.end("kill")
    assert isinstance(end, CallLost) and not end.sent
    assert ear.sents == []


def saying(*pieces: bytes, every_s: float = 0.0, stay: bool = False) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.say(piece)
            await anyio.sleep(every_s)
        if stay:
            await peer.stay()

    return script


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
LOSSES: dict[str, Script] = {
    "closed": saying(),
    "cut": saying(HEAD + b"abc"),
    "garbage": saying(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "silence": saying(stay=True),
    "half": saying(HEAD + b"abc", stay=True),
    "dribble": saying(HEAD, *[b"x"] * 900, every_s=0.05),
    "body": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000, stay=True),
    "bad gzip": saying(ok(b"xxx", b"Content-Encoding: gzip")),
    "gzip cut off": saying(ok(gzip.compress(b"{}" * 500)[:-9], b"Content-Encoding: gzip")),
    "gzip bomb": saying(ok(gzip.compress(b" " * 50_000_000), b"Content-Encoding: gzip")),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_call_whose_answer_fails_is_lost_after_it_was_sent(
    loss: str, server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(fresh, "MAX_BODY_BYTES", 4000)
    server.script = LOSSES[loss]
    since_s = time.monotonic()
    async with running() as group:
        make(server, ear, group, ca_file).call(KILL)
        end = await ear.end("kill")
    assert isinstance(end, CallLost) and end.sent and end.why
    assert elapsed_s(since_s) < 1.5
    assert ear.sents == [(Route.FRESH, "kill")]


def endless(first: bytes, again: bytes) -> Script:
    """Answer with something that has no end, as fast as it is taken."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(first)
        while True:
            await peer.say(again * 2000)

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "interim answers": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "too many interim answers"),
    "headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: more\r\n"), "the answer's headers are too large"),
    "status": (endless(b"HTTP/1.1 200 ", b"O" * 20), "the answer's headers are too large"),
    "chunks of a byte": (endless(CHUNKED, b"1\r\nx\r\n"), "the answer is in too many pieces"),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_an_endless_answer_is_cut_off_early(
    what: str, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script, why = ENDLESS[what]
    since_s = time.monotonic()
    async with running() as group:
        make(server, ear, group, ca_file).call(KILL)
        end = await ear.end("kill")
    assert isinstance(end, CallLost) and end.sent and end.why == why
    assert elapsed_s(since_s) < 2


async def test_each_turn_of_the_event_loop_reads_one_piece_of_one_buffered_reply(
    ca_file: str,
) -> None:
    passes = 0
    seen: list[int] = []
    network = Network()

    async def others() -> None:
        nonlocal passes
        while True:
            await anyio.lowlevel.checkpoint()
            passes += 1

    async def reads() -> None:
        route = FreshRoute("https://127.0.0.1:1", RecordingListener(), print, ca_file=ca_file, network=network)
        reader = asyncio.StreamReader()
        reader.feed_data(b" " * (64 << 10))
        stream = fresh._Stream(reader, cast(asyncio.StreamWriter, None), route._turn)
        await stream.read(64 << 10)  # a short answer is all in the first piece, and waits for nobody
        for _ in range(20):
            assert len(await stream.read(64 << 10)) == fresh.READ_HEAD_BYTES
            seen.append(passes)

    async with running(others), anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(reads)
    assert len(seen) == len(set(seen)) == 80


async def test_an_answer_of_one_account_does_not_wait_behind_the_floods_of_others() -> None:
    turns, order = TurnScheduler(), []

    async def account(name: str, had: int) -> None:
        await turns.wait_turn(had)
        order.append(name)

    async with anyio.create_task_group() as group:
        for name, had in (("flood", 3 << 20), ("flood", 1 << 20), ("flood", 2 << 20), ("healthy", 1 << 10)):
            group.start_soon(account, name, had)
    assert order[0] == "healthy"


async def test_a_server_that_never_speaks_is_given_up_unsent(
    ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "TIMEOUT_S", 0.2)
    async with Server(None) as server, running() as group:
        make(server, ear, group, ca_file).call(KILL)
        end = await ear.end("kill")
    assert isinstance(end, CallLost) and not end.sent


async def test_a_compressed_answer_is_not_asked_for_and_is_read_all_the_same(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(ok(gzip.compress(b'{"success":true}'), b"Content-Encoding: gzip"))

    server.script = script
    async with running() as group:
        make(server, ear, group, ca_file).call(KILL)
        end = await ear.end("kill")
    assert isinstance(end, Replied) and end.body == b'{"success":true}'
    assert b"\r\naccept-encoding: identity\r\n" in seen[0].lower()


async def test_a_redirect_is_an_answer_and_is_not_followed(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = saying(b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    async with running() as group:
        make(server, ear, group, ca_file).call(KILL)
        end = await ear.end("kill")
    assert isinstance(end, Replied) and end.status == 302


async def test_a_call_under_way_when_the_daemon_stops_is_lost(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    async with running() as group:
        make(server, ear, group, ca_file).call(KILL)
        await until(lambda: ear.sents)
    assert ear.ends("kill") == [CallLost("kill", True, "the daemon is stopping")]


async def test_a_request_that_cannot_be_made_disturbs_no_other(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = saying(ok())
    async with running() as group:
        route = make(server, ear, group, ca_file)
        route.call(Call("bad", Request("GET", "/x", {"X": "a\r\nb"}), Route.FRESH))
        route.call(get("worse", target="\u2028"))
        route.call(get("good"))
        assert isinstance(await ear.end("good"), Replied)
        for tag in ("bad", "worse"):
            end = await ear.end(tag)
            assert isinstance(end, CallLost) and "a\r\nb" not in end.why


async def test_the_environments_proxies_are_not_used(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.script = saying(ok())
    async with running() as group:
        make(server, ear, group, ca_file).call(get("1"))
        assert isinstance(await ear.end("1"), Replied)


async def test_a_read_whose_time_is_over_as_another_takes_its_place_does_not_end_the_other(
    certificates: Certificates, ear: RecordingListener
) -> None:
    async with running() as group, Server(certificates.good) as server:
        route = make(server, ear, group, certificates.ca_file)
        route.most_reads = lambda: 1
        old, began = asyncio.timeout(0.05), asyncio.Event()

        async def hold() -> None:
            async with old, route._held_by(get("1"), old):
                began.set()
                await anyio.sleep_forever()

        async def follow() -> bool:
            async with asyncio.timeout(5) as new, route._held_by(get("2"), new):
                return old.expired()

        first = asyncio.create_task(hold())
        await began.wait()
        loop, followed = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        # both timers end in one turn of the loop: the second read begins before the first has heard of its end
        loop.call_at(loop.time(), lambda: followed.set_result(asyncio.create_task(follow())))
        old.reschedule(loop.time())
        time.sleep(0.02)  # noqa: ASYNC251 - so that both are due
        assert await (await followed)
        with pytest.raises(OSError, match=fresh.TOO_MANY_READS):
            await first
