"""Every venue's adapter on the real lanes, against its simulator."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import httpx
import pytest

from kill_switch import clock
from kill_switch.core.domain import CancelOutcome, LaneState, Route
from kill_switch.sim import serve
from kill_switch.sim.main import Entry
from kill_switch.transports import ws
from kill_switch.venues import VENUES
from kill_switch.venues.messages import (
    Call,
    CancelAnswered,
    CloseConnection,
    Drilled,
    Equity,
    NotReady,
    OrdersRead,
    PrepareFrame,
    RoundTrip,
    Send,
    UnexplainedMessage,
)
from tests.harness.lane_listeners import AdapterDriver, elapsed_s, until

pytestmark = pytest.mark.anyio
every_venue = pytest.mark.parametrize("venue", list(VENUES))
every_timed_venue = pytest.mark.parametrize("venue", [name for name in VENUES if VENUES[name].CLOCK_WINDOW_S])
STAGED: Mapping[str, Mapping[str, str]] = {  # orders are pushed, and the driver may probe as often as it likes
    "binance-coinm": {"pool": "0", "dead_key": "refuse"},
    "binance-usdm": {"pool": "0", "dead_key": "refuse"},
    "crosstrade": {"order_events": "true"},
    "deribit": {
        "tier": "unlimited",
        "cross_collateral": "true",  # its equity is one figure
        "max_scope": "account:read_write trade:read_write",  # a strike is one command
    },
    "kraken": {"tier": "unlimited"},
    "kraken-futures": {"pool": "0"},
}
WS_FIRST = {"binance-spot", "crosstrade", "deribit", "kraken", "kraken-futures"}  # strikes are frames first
FANS_OUT = {"binance-usdm", "binance-coinm"}  # a strike has two cancels for each symbol, with a signed query
TOKEN = re.compile(r'"(?:access_)?token":"([^"]+)"')  # in a frame
MOST_TO_HIDE: Mapping[str, Mapping[str, str]] = {"kuna": {"auth": "hmac"}}


class Stage:
    """A simulator, and an account on it with its lanes up."""

    def __init__(self, venue: str, entry: Entry, driver: AdapterDriver, admin: httpx.AsyncClient) -> None:
        self.venue = venue
        self.entry = entry
        self.driver = driver
        self.admin = admin

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self.admin.post(path, json={"venue": self.venue, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def open(self) -> int:
        answer = await self.admin.get("/orders", params={"venue": self.venue})
        count: int = answer.json()["open"]
        return count

    def ready(self) -> bool:
        return self.driver.ws.state is LaneState.UP and self.driver.http.state is LaneState.UP

    def facts(self, kind: Any) -> list[Any]:
        return [output for output in self.driver.outputs if isinstance(output, kind)]


@asynccontextmanager
async def on_stage(
    venue: str, second_route_after_s: float = 0.2, wait: bool = True, options: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    async with serve([venue], options={venue: {**STAGED.get(venue, {}), **(options or {})}}) as ready:
        entry = ready["venues"][venue]
        kind = VENUES[venue]
        addresses: dict[str, Any] = {key: entry[key] for key in ("ws_url", "rest_url")}
        settings = kind.Options(**addresses, **entry["options"])
        adapter = kind(settings, entry["credentials"], second_route_after_s)
        async with (
            httpx.AsyncClient(base_url=ready["admin"], trust_env=False) as admin,
            anyio.create_task_group() as group,
        ):
            driver = AdapterDriver(adapter, ready["ca_file"], group)
            stage = Stage(venue, entry, driver, admin)
            group.start_soon(driver.ws.run)
            group.start_soon(driver.http.run)
            if wait:
                await until(stage.ready)
            yield stage
            group.cancel_scope.cancel()
        driver.stop()
        await anyio.sleep(0.02)


@every_venue
async def test_a_kill_on_warm_lanes_empties_the_book_and_is_read_back(venue: str) -> None:
    async with on_stage(venue) as stage:
        await until(lambda: stage.driver.adapter.book.is_known)
        await stage.post("/orders", count=50)
        await stage.post("/orders", count=2, kind="stop")
        await until(lambda: len(stage.driver.adapter.book.orders) == 52)  # pushed
        stage.driver.kill()
        await until(lambda: stage.facts(CancelAnswered))
        [answered] = stage.facts(CancelAnswered)
        assert answered.answer is CancelOutcome.ACCEPTED
        with anyio.fail_after(2):
            while await stage.open():  # noqa: ASYNC110 - the simulator's engine takes its time
                await anyio.sleep(0.01)
        told = len(stage.facts(OrdersRead))
        stage.driver.read()
        await until(lambda: len(stage.facts(OrdersRead)) > told)
        assert stage.facts(OrdersRead)[-1].complete and stage.facts(OrdersRead)[-1].orders == ()
        assert not stage.driver.adapter.book.orders
        assert not stage.facts(NotReady)
        routes = {route for route, tag in stage.driver.sents if not tag.startswith("token")}  # it precedes the lane
        assert routes == {Route.HTTP}
        await until(lambda: any(route is Route.WS for route, _ in stage.driver.rtts))


@every_venue
async def test_a_kill_that_is_not_answered_takes_the_fresh_route(venue: str) -> None:
    async with on_stage(venue, second_route_after_s=0.05) as stage:
        await stage.post("/orders", count=3)
        await until(lambda: len(stage.driver.adapter.book.orders) == 3)  # pushed
        await stage.post("/faults", fault="drop_reply", times=2 if venue in WS_FIRST else 1)
        stage.driver.kill()
        await until(lambda: stage.facts(CancelAnswered))
        # at KUNA, which has no cancel-all, the second copy finds the orders cancelled, and is told `success: false`
        expected = CancelOutcome.REFUSED if venue == "kuna" else CancelOutcome.ACCEPTED
        assert stage.facts(CancelAnswered)[0].answer is expected
        routes = [*([Route.HTTP] if venue in FANS_OUT else []), Route.HTTP, Route.FRESH]
        assert [call.route for call in stage.facts(Call) if call.cancel] == routes
        assert [route for route, tag in stage.driver.sents if tag.startswith("cancel")] == routes


@every_venue
async def test_lanes_that_were_cut_come_back(venue: str) -> None:
    async with on_stage(venue) as stage:

        def opened() -> int:  # the HTTP lane may have one connection back before it has lost the other
            return sum(1 for conn in stage.driver.opened() if conn)

        assert opened() == 1
        await stage.post("/faults", fault="disconnect")
        await until(lambda: opened() == 2 and stage.ready())
        stage.driver.kill()
        await until(lambda: stage.facts(CancelAnswered))
        assert stage.facts(CancelAnswered)[0].answer is CancelOutcome.ACCEPTED


async def test_a_half_open_websocket_is_noticed_within_three_seconds() -> None:
    async with on_stage(next(iter(VENUES))) as stage:  # one will do: the lane is the same for all
        await until(lambda: any(route is Route.WS for route, _ in stage.driver.rtts))
        await stage.post("/faults", fault="half_open")
        await until(lambda: [event.why for event in stage.driver.closed() if event.route is Route.WS] != [], 3.5)
        [closed] = [event for event in stage.driver.closed() if event.route is Route.WS]
        assert "no frame received" in closed.why


@every_venue
async def test_a_refused_login_keeps_the_lane_down_and_does_not_hammer(
    venue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "FATAL_WAIT_S", 0.4)
    async with on_stage(venue) as stage:
        await stage.post("/faults", fault="reject_login")
        await stage.post("/faults", fault="disconnect")
        await until(lambda: any(fact.fatal for fact in stage.facts(NotReady)) or "401" in stage.driver.ws.trouble)
        since_s, before = time.monotonic(), len(stage.driver.opened())
        await anyio.sleep(0.3)
        assert stage.driver.ws.state is LaneState.DOWN and stage.driver.ws.trouble
        assert len([conn for conn in stage.driver.opened()[before:] if conn]) == 0
        await stage.admin.delete("/faults", params={"venue": venue})
        await until(stage.ready)
        assert elapsed_s(since_s) >= 0.3


@every_venue
async def test_a_drill_proves_every_lane_that_carries_a_kill_and_fails_where_the_venue_refuses(
    venue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        AdapterDriver, "use_idle_http_lane", lambda driver: None
    )  # the drivers' probes leave some venues' drills no room
    async with on_stage(venue) as stage:
        lanes = set(stage.driver.adapter.drill_routes)
        ids = (await stage.post("/orders", count=3))["ids"]
        for fault, good in (("", True), ("refuse", False)):
            if fault:
                await stage.post("/faults", fault=fault, status=401)
            before = len(stage.facts(Drilled))
            with anyio.fail_after(8):
                while {fact.route for fact in stage.facts(Drilled)[before:] if fact.rtt_us} != lanes:
                    stage.driver.drill()
                    await anyio.sleep(1)
            assert {fact.ok for fact in stage.facts(Drilled)[before:] if fact.rtt_us} == {good}
        assert await stage.open() == len(ids) and not stage.facts(CancelAnswered)


@every_venue
async def test_the_account_is_measured(venue: str) -> None:
    async with on_stage(venue) as stage:
        for equity, unrealised in (("9.5", "0"), ("9.25", "-0.25"), ("9.75", "0.25")):
            await stage.post("/equity", equity=equity, unrealised=unrealised)
            with anyio.fail_after(4):
                while Decimal(equity) not in [amount for e in stage.facts(Equity) for amount in e.amounts.values()]:
                    stage.driver.measure()
                    await anyio.sleep(0.4)
        assert all(set(stage.driver.adapter.CURRENCIES) <= set(fact.amounts) for fact in stage.facts(Equity))


@every_timed_venue
@pytest.mark.parametrize("seconds", [-3600, 45, 3600])
async def test_a_venue_whose_clock_is_wrong_is_killed_all_the_same(venue: str, seconds: int) -> None:
    async with on_stage(venue, wait=False) as stage:
        await stage.post("/faults", fault="skew", seconds=seconds)
        await until(lambda: stage.ready() and abs(stage.driver.adapter.clock.offset_ns / 1e9 - seconds) < 1.6)
        await stage.post("/orders", count=3)
        stage.driver.kill()
        await until(lambda: stage.facts(CancelAnswered))
        assert stage.facts(CancelAnswered)[0].answer is CancelOutcome.ACCEPTED
        with anyio.fail_after(2):
            while await stage.open():  # noqa: ASYNC110 - the simulator's engine takes its time
                await anyio.sleep(0.01)


@every_timed_venue
async def test_a_venue_whose_clock_is_set_before_a_kill_is_killed_all_the_same(venue: str) -> None:
    async with on_stage(venue) as stage:
        await stage.post("/orders", count=3)
        await until(lambda: len(stage.driver.adapter.book.orders) == 3)
        await stage.post("/faults", fault="skew", seconds=3600)
        stage.driver.kill()
        await until(lambda: stage.facts(CancelAnswered))
        assert stage.facts(CancelAnswered)[0].answer is CancelOutcome.ACCEPTED


@every_venue
async def test_real_lanes_show_no_secret_anywhere_at_debug_level(
    venue: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with on_stage(venue, second_route_after_s=0.02, options=MOST_TO_HIDE.get(venue)) as stage:
        caplog.set_level(logging.DEBUG)  # for loggers that were made meanwhile
        await stage.post("/orders", count=3)
        await stage.post("/faults", fault="delay", ms=60)
        stage.driver.kill()
        stage.driver.read()
        await until(lambda: stage.facts(CancelAnswered))
        await stage.post("/faults", fault="refuse", status=401, on="all")
        stage.driver.kill()
        await until(lambda: len(stage.facts(CancelAnswered)) == 2)
        await stage.post("/faults", fault="reject_login")
        await stage.post("/faults", fault="disconnect")
        await until(lambda: any(fact.fatal for fact in stage.facts(NotReady)) or "401" in stage.driver.ws.trouble)
        outputs, lanes = stage.driver.outputs, (stage.driver.ws, stage.driver.http, stage.driver.fresh)
        shown = [repr(output) for output in outputs if not isinstance(output, Send | PrepareFrame)]
        shown += [repr(event) for event in stage.driver.events if type(event).__name__ in ("Closed", "Lost", "Woke")]
        shown += [stage.driver.ws.trouble, stage.driver.http.trouble, *map(repr, lanes)]
        assert any(call.route is Route.FRESH for call in stage.facts(Call)) or venue in WS_FIRST
        assert stage.facts(UnexplainedMessage | CloseConnection | NotReady | RoundTrip)
        headers = [call.request.headers for call in stage.facts(Call)]
        headers.append(stage.driver.adapter.upgrade(clock.now()).headers)
    secrets = {value for value in stage.entry["credentials"].values() if "\n" not in value}
    secrets |= {line for value in stage.entry["credentials"].values() for line in value.splitlines() if len(line) > 30}
    signed = {"ignature", "API-Sign", "Authorization"}
    secrets |= {
        value.rpartition("sig=")[2]
        for header in headers
        for name, value in header.items()
        if any(one in name for one in signed)
    }
    secrets |= {call.request.target.partition("&signature=")[2] for call in stage.facts(Call)} - {""}
    secrets |= set(TOKEN.findall(" ".join(output.text.decode() for output in outputs if isinstance(output, Send))))
    out, err = capfd.readouterr()
    logged = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]  # the simulator's
    assert caplog.records
    for text in (*shown, *logged, out, err):
        for secret in secrets:
            assert secret not in text
    assert len(secrets) > 3 or venue == "crosstrade"
