"""Switch on, at every venue, the faults of a venue that shows less than there is, or shows it later."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
import pytest
from websockets.exceptions import ConnectionClosed

from kill_switch.sim.main import VENUES

from .clients import oxfun_login, receive, receive_until_closed, running
from .desks import DESKS, OPTIONS, CrossTradeDesk, Desk, upgraded

pytestmark = pytest.mark.anyio

SOON_S = 0.1  # in which nothing comes
TOKENS = ("kraken", "binance-coinm", "binance-usdm")  # whose sessions need a token of REST
LIST = {
    "binance-coinm": "orders",
    "binance-spot": "orders",
    "binance-usdm": "orders",
    "oxfun": "orders",
    "roxom": "perpetual",
    "kuna": "active",
    "crosstrade": "all-orders",
    "kraken": "orders",
    "kraken-futures": "orders",
}


@pytest.fixture(params=sorted(DESKS))
async def desk(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Desk]:
    name = request.param
    async with running(name, options={name: OPTIONS.get(name, {})}) as sim:
        yield DESKS[name](sim)


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lost_push_never_comes_and_the_order_is_listed(desk: Desk) -> None:
    async with desk.listening() as ws:
        await desk.fault("lose_push")
        ids = await desk.rest()
        assert await desk.heard(ws, SOON_S) is None
        assert await desk.ids() == set(ids)
        await desk.clear()
        [one] = await desk.rest()
        assert await desk.heard(ws) == one


async def test_a_share_of_the_pushes_is_lost_evenly(desk: Desk) -> None:
    if desk.name == "kraken":
        pytest.skip("a new order has two events")
    async with desk.listening() as ws:
        await desk.fault("lose_push", share=0.5)
        ids = await desk.rest(4)
        assert [await desk.heard(ws) for _ in range(2)] == [ids[0], ids[2]]
        assert await desk.heard(ws, SOON_S) is None


async def test_a_fault_of_other_events_leaves_those_of_orders_alone(desk: Desk) -> None:
    async with desk.listening() as ws:
        await desk.fault("lose_push", push="balance")
        await desk.fault("late_push", push="position", ms=60_000)
        [one] = await desk.rest()
        assert await desk.heard(ws) == one


async def test_a_late_push_comes_behind_answers_that_know_of_it(desk: Desk) -> None:
    async with desk.listening() as ws:
        await desk.fault("late_push", ms=300)
        began_s = time.monotonic()
        [one] = await desk.rest()
        assert await desk.ids() == {one}
        assert await desk.heard(ws) == one
        assert time.monotonic() - began_s >= 0.3


async def test_a_late_push_shows_the_state_at_its_event(desk: Desk) -> None:
    async with desk.listening() as ws:
        await desk.fault("late_push", ms=200)
        ids = await desk.rest()
        await desk.cancel(*ids)
        assert await desk.ids() == set()
        assert await desk.heard(ws) == ids[0]  # alive, long after it has ended


async def test_the_equity_that_is_streamed_can_be_lost(anyio_backend: object) -> None:
    async with running("crosstrade") as sim, upgraded(sim, "crosstrade") as ws:
        await ws.send('{"action":"streamPnl","enabled":true,"interval":100}')
        assert (await receive(ws))["type"] == "pnlUpdate"
        await sim.fault("crosstrade", "lose_push", push="balance")
        with pytest.raises(TimeoutError), anyio.fail_after(0.4):
            await receive_until_closed(ws)  # one may be under way
        await sim.clear("crosstrade")
        assert (await receive(ws))["type"] == "pnlUpdate"


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_empty_read_shows_nothing_for_each_list_so_many_times(desk: Desk) -> None:
    ids = await desk.rest(2)
    await desk.fault("empty_reads", times=2, list=LIST[desk.name])
    assert [await desk.ids() for _ in range(3)] == [set(), set(), set(ids)]
    for order_id in ids:
        assert order_id in (await desk.look_up(order_id)).text


async def test_a_stale_read_shows_the_earlier_orders(desk: Desk) -> None:
    ids = await desk.rest()
    await anyio.sleep(0.25)
    await desk.cancel(*ids)
    new = await desk.rest()
    await desk.fault("stale_reads", seconds=0.2)
    assert await desk.ids() == set(ids)  # alive, as it was then
    assert new[0] in (await desk.look_up(new[0])).text
    await anyio.sleep(0.25)
    assert await desk.ids() == set(new)


async def test_a_stale_read_from_before_the_first_order_shows_nothing(desk: Desk) -> None:
    ids = await desk.rest()
    await desk.fault("stale_reads", seconds=60)
    assert await desk.ids() == set()
    await desk.clear()
    assert await desk.ids() == set(ids)


async def test_a_stale_read_shows_an_order_that_rested_while_the_clock_was_skewed(desk: Desk) -> None:
    if "skew" in VENUES[desk.name].supported:
        await desk.fault("skew", seconds=60)
    ids = await desk.rest()
    await desk.clear()
    await desk.fault("stale_reads", seconds=0.0)
    assert await desk.ids() == set(ids)


async def test_any_list_and_any_other_read_can_fail_alone(desk: Desk) -> None:
    [one] = await desk.rest()
    await desk.fault("partial_list", list=LIST[desk.name])
    assert ((await desk.ask()).status_code, (await desk.look_up(one)).status_code) == (desk.status(500), 200)
    await desk.fault("partial_list", list="order")
    assert ((await desk.ask()).status_code, (await desk.look_up(one)).status_code) == (200, desk.status(500))


async def test_a_list_that_there_is_not_cannot_fail(desk: Desk) -> None:
    answer = await desk.sim.admin.post("/faults", json={"venue": desk.name, "fault": "partial_list", "list": "x"})
    assert answer.status_code == 400 and LIST[desk.name] in answer.json()["error"]


async def test_a_list_over_the_websocket_can_fail_too(anyio_backend: object) -> None:
    async with running("crosstrade") as sim, upgraded(sim, "crosstrade") as ws:
        await sim.fault("crosstrade", "partial_list", list="all-orders", times=1)
        desk = CrossTradeDesk(sim)
        assert "error" in str(await desk.rpc_orders(ws))
        assert "orders" in str(await desk.rpc_orders(ws))


# ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_that_has_vanished_keeps_its_orders_and_comes_back(desk: Desk) -> None:
    async with desk.listening() as ws:
        ids = await desk.rest()
        assert await desk.heard(ws) == ids[0]
        await desk.fault("vanish")
        answer, cancelled = await desk.ask(), await desk.cancel(*ids)
        if desk.name == "crosstrade":  # the user is there; it is the NT account that is not
            assert (answer.json()["orders"], cancelled.json()["error"]) == ([], "invalid_account")
        else:
            assert (answer.status_code, cancelled.status_code) == (desk.status(401),) * 2
            ids += await desk.rest()
            assert await desk.heard(ws, SOON_S) is None
        assert await desk.sim.open(desk.name) == len(ids)
        await desk.clear()
        assert await desk.ids() == set(ids)


async def test_an_account_that_vanishes_for_a_while_is_back_by_itself(desk: Desk) -> None:
    ids = await desk.rest()
    await desk.fault("vanish", seconds=0.4)
    assert ids[0] not in (await desk.ask()).text

    async def back() -> bool:
        return ids[0] in (await desk.ask()).text

    await desk.sim.until(back)


async def test_one_nt_account_vanishes_and_the_other_does_not(anyio_backend: object) -> None:
    async with running("crosstrade", options={"crosstrade": {"nt_accounts": "Sim101,Live1"}}) as sim:
        desk = CrossTradeDesk(sim)
        [kept] = await desk.rest()
        await sim.rest_orders("crosstrade", 1, inst_type="Live1")
        await desk.fault("vanish", account="Live1")
        assert await desk.ids() == {kept}
        wrong = await sim.admin.post(
            "/faults", json={"venue": "crosstrade", "fault": "vanish", "account": "crosstrade-1"}
        )
        assert wrong.status_code == 400 and "Known: Live1, Sim101" in wrong.json()["error"]


# ── keys and logins ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_that_may_only_read_reads_and_cancels_nothing(desk: Desk) -> None:
    if "read_only_key" not in VENUES[desk.name].supported:
        pytest.skip("its token has no scopes")
    ids = await desk.rest()
    await desk.fault("read_only_key")
    assert await desk.ids() == set(ids)
    assert (await desk.cancel(*ids)).status_code == desk.status(403)
    assert await desk.ids() == set(ids)


async def test_an_address_that_is_not_allowed_is_refused_on_both_lanes(desk: Desk) -> None:
    await desk.fault("ip_refused")
    assert (await desk.ask()).status_code == desk.status(403)
    with pytest.raises(Exception, match=r"40[13]"):
        async with upgraded(desk.sim, desk.name):
            pass


async def test_a_login_that_hangs_is_never_answered(desk: Desk) -> None:
    async def log_in() -> None:
        async with desk.listening():
            pass

    await desk.fault("hang_login")
    with pytest.raises(TimeoutError), anyio.fail_after(0.3):
        await log_in()
    assert (await desk.ask()).status_code == 200
    await desk.clear()
    async with desk.listening():
        pass


async def test_an_expired_login_hears_nothing_until_a_new_one(desk: Desk) -> None:
    if "expire_token" not in VENUES[desk.name].supported:
        pytest.skip("a session lasts as long as its connection")
    async with desk.listening() as ws:
        await desk.fault("expire_token")
        await desk.rest()
        assert await desk.heard(ws, SOON_S) is None
        if desk.name == "oxfun":
            await ws.send('{"op":"cancelorder","data":{"marketCode":"X","orderId":1}}')
            assert (await receive(ws))["code"] == "05001"
            await ws.send(oxfun_login(desk.sim.venue("oxfun")))
            assert (await receive(ws))["success"] is True
    async with desk.listening() as ws:
        assert await desk.heard(ws, SOON_S) is None
        [one] = await desk.rest()
        assert await desk.heard(ws) == one


# ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lane", ["ws", "http"])
async def test_one_lane_is_dropped_and_the_other_is_not(desk: Desk, lane: str) -> None:
    assert (await desk.ask()).status_code == 200
    async with desk.listening() as ws:
        await desk.fault("disconnect", on=lane)
        if lane == "ws":
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert (await desk.ask()).status_code == 200
        else:
            [one] = await desk.rest()
            assert await desk.heard(ws) == one
    assert (await desk.sim.get("/faults", venue=desk.name)) == {"faults": []}


@pytest.mark.parametrize("lane", ["ws", "http"])
async def test_one_lane_is_half_open_and_the_other_is_not(desk: Desk, lane: str) -> None:
    async with desk.listening() as ws:
        await desk.fault("half_open", on=lane)
        [one] = await desk.rest()
        if lane == "ws":
            assert await desk.heard(ws, SOON_S) is None
            assert await desk.ids() == {one}
        else:
            assert await desk.heard(ws) == one
            with pytest.raises(TimeoutError), anyio.fail_after(0.3):
                await desk.ask()
        if lane == "ws":
            with pytest.raises(TimeoutError), anyio.fail_after(0.3):
                async with upgraded(desk.sim, desk.name):
                    pass
        await desk.clear()
        if lane == "ws":
            assert await desk.heard(ws) == one
    assert await desk.ids() == {one}


async def test_a_fault_of_one_lane_spares_the_other(desk: Desk) -> None:
    await desk.fault("maintenance", on="ws")
    assert (await desk.ask()).status_code == 200
    with pytest.raises(Exception, match="503"):
        async with upgraded(desk.sim, desk.name):
            pass
    await desk.fault("maintenance", on="http")
    assert (await desk.ask()).status_code == desk.status(503)
    async with upgraded(desk.sim, desk.name) if desk.name in TOKENS else desk.listening():
        pass
