"""The warm HTTP lane at a venue that ends connections behind its answers, as RFC 9112, 9.3 and 9.6, lets it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import anyio
import pytest

from kill_switch.core.domain import LaneState, Route
from kill_switch.transports import connection_pool, http
from kill_switch.transports.http import HttpLane
from kill_switch.transports.lane import Backoff
from kill_switch.venues.messages import Call, CallLost, Closed, Event, Opened, Replied
from tests.harness.lane_listeners import RecordingListener, elapsed_s, get, running, until
from tests.harness.scripted_server import Peer, Script, Server, ok

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return ("asyncio", {"use_uvloop": request.param})


def closing(answer: bytes = ok()) -> Script:
    """Answer one request and close the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer)

    return script


async def whole(lane: HttpLane, count: int = http.CONNECTIONS) -> None:
    """Wait until every connection of the lane is idle."""
    await until(lambda: sum(c.idle for c in lane._connections) == count)


def chained(lane: HttpLane, ear: RecordingListener, calls: list[Call]) -> Callable[[Event], None]:
    """Make each of these calls in the moment in which the one before is answered."""

    def on_event(event: Event) -> None:
        if isinstance(event, Replied) and calls:
            lane.call(calls.pop(0))

    ear.on_event = on_event
    return on_event


CLOSED = ok(b"{}", b"Connection: close")
ENDS = {
    "it says so": CLOSED,
    "the body ends with the connection": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "something comes behind it": CLOSED + b"and more",
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_lane_stays_up_and_proven_at_a_venue_that_closes_behind_each_answer(
    end: str, server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = closing(ENDS[end])
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        await whole(lane)
        lane.authenticated(True)
        calls = [get(str(number), urgent=number % 2 == 0) for number in range(1, 12)]
        chained(lane, ear, list(calls))
        lane.call(get("0", urgent=True))
        ends = [await ear.end(call.tag) for call in calls]
        assert all(isinstance(one, Replied) for one in ends)
        await whole(lane)
        assert [event for event in ear.events if isinstance(event, Opened | Closed)] == [Opened(Route.HTTP, 0)]
        assert lane.state is LaneState.UP


async def test_an_idle_connection_that_is_closed_does_not_take_the_lane_down(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = closing()  # without a word
    lane = HttpLane(server.https, ear, ca_file=ca_file)
    async with running(lane.run):
        for number in range(1, 6):
            await whole(lane)
            lane.call(get(str(number)))
            assert isinstance(await ear.end(str(number)), Replied)
            await until(lambda number=number: len(server.peers) == http.CONNECTIONS + number)  # type: ignore[misc]
        assert [event for event in ear.events if isinstance(event, Opened | Closed)] == [Opened(Route.HTTP, 0)]


async def test_only_a_cancel_that_has_another_route_does_not_wait_for_a_connection_that_is_on_its_way_back(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = closing(CLOSED)
    lane = HttpLane(server.https, ear, ca_file=ca_file, connections=1)
    async with running(lane.run):
        await whole(lane, 1)

        def on_event(event: Event) -> None:
            if isinstance(event, Replied) and event.tag == "first":
                lane.call(get("housekeeping"))
                lane.call(get("read", urgent=True))
                for tag in ("one", "another"):  # of many orders, each cancelled by its id
                    lane.call(get(tag, urgent=True)._replace(command=True))
                lane.call(get("cancel", urgent=True)._replace(command=True, cancel=True))

        ear.on_event = on_event
        lane.call(get("first"))
        await ear.end("first")
        assert [type(one) for one in ear.ends("cancel")] == [CallLost]  # at once: another route is quicker
        waiting = ("one", "another", "read", "housekeeping")
        assert not any(map(ear.ends, waiting))
        for tag in waiting:
            assert isinstance(await ear.end(tag), Replied)


async def test_a_lane_that_does_not_reconnect_is_down_and_its_waiting_calls_are_unsent(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = closing(CLOSED)
    lane = HttpLane(server.https, ear, ca_file=ca_file, connections=1)
    async with running(lane.run):
        await whole(lane, 1)
        assert server._server is not None
        server._server.close()
        chained(lane, ear, [get("read", urgent=True)])
        lane.call(get("first"))
        end = await ear.end("read")
        assert isinstance(end, CallLost) and not end.sent
        assert ear.closed() == [Closed(Route.HTTP, 0, end.why)] and lane.state is LaneState.DOWN


async def test_a_lane_whose_way_back_hangs_is_down_in_time(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "RETURN_WITHIN_S", 0.1)
    server.script = closing(CLOSED)
    lane = HttpLane(server.https, ear, ca_file=ca_file, connections=1)
    async with running(lane.run):
        await whole(lane, 1)
        connect = lane._dialer.connect

        async def hang(*args: object, **kwargs: object) -> None:
            await anyio.sleep_forever()

        monkeypatch.setattr(lane._dialer, "connect", hang)
        chained(lane, ear, [get("read", urgent=True)])
        lane.call(get("first"))
        end = await ear.end("read")
        assert isinstance(end, CallLost) and not end.sent
        assert len(ear.closed()) == 1
        monkeypatch.setattr(lane._dialer, "connect", connect)


async def test_a_connection_that_has_ended_in_good_order_is_replaced_without_back_off(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = itertools.chain([0.0], itertools.repeat(60.0))
    monkeypatch.setattr(connection_pool, "Backoff", Backoff)
    monkeypatch.setattr(Backoff, "next_s", lambda self: next(waits))
    server.script = closing(CLOSED)
    lane = HttpLane(server.https, ear, ca_file=ca_file, connections=1)
    async with running(lane.run):
        for number in range(3):
            await whole(lane, 1)
            lane.call(get(str(number)))
            assert isinstance(await ear.end(str(number)), Replied)


async def test_connections_in_one_place_of_a_lane_begin_apart_however_quickly_they_end(
    server: Server, ear: RecordingListener, ca_file: str
) -> None:
    server.script = closing(CLOSED)
    lane = HttpLane(server.https, ear, ca_file=ca_file, connections=1)
    async with running(lane.run):
        await whole(lane, 1)
        since_s = time.monotonic()
        chained(lane, ear, [get(str(number)) for number in range(1, 6)])
        lane.call(get("0"))
        await ear.end("5")
        assert elapsed_s(since_s) > 4 * connection_pool.CONNECT_STAGGER_S
    assert len(server.peers) <= 7


async def test_a_lane_whose_connections_break_behind_their_answers_comes_up_more_and_more_seldom(
    server: Server, ear: RecordingListener, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "Backoff", Backoff)  # as long as in earnest
    server.script = closing(ok() + b"a stale answer")
    lane = HttpLane(server.https, ear, ca_file=ca_file)

    def on_event(event: Event) -> None:
        if isinstance(event, Opened):  # as each venue proves its key
            lane.call(get(f"probe {len(ear.events)}"))
            lane.call(get(f"read {len(ear.events)}"))

    ear.on_event = on_event
    async with running(lane.run):
        await until(lambda: len(ear.opened()) >= 2)
        await anyio.sleep(1.5)
    assert len(ear.opened()) <= 16  # a dozen, for two connections; without back-off it is a hundred
