"""Switch every fault on, and see it on real sockets."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kill_switch.sim.kit.faults import SPECS, Faults
from kill_switch.sim.main import VENUES

from .clients import Sim, oxfun_login, receive, roxom_headers, running

pytestmark = pytest.mark.anyio


async def silent(ws: ClientConnection, seconds: float = 0.1) -> bool:
    with anyio.move_on_after(seconds):
        await ws.recv()
        return False
    return True


async def test_delay_holds_replies_back(sim: Sim) -> None:
    await sim.fault("roxom", "delay", ms=1000, on="cancel")
    started = time.monotonic()
    assert (await sim.roxom_cancel_all()).status_code == 200
    assert time.monotonic() - started >= 1.0
    started = time.monotonic()
    await sim.roxom("GET", "/accounts/balance")
    assert time.monotonic() - started < 1.0  # however busy the machine is


async def test_an_event_comes_before_a_delayed_reply(sim: Sim) -> None:
    await sim.rest_orders("roxom", 1)
    await sim.fault("roxom", "delay", ms=150)
    order: list[str] = []
    async with sim.roxom_socket("orders") as ws, anyio.create_task_group() as group:

        async def cancel() -> None:
            await sim.roxom_cancel_all()
            order.append("reply")

        group.start_soon(cancel)
        assert (await receive(ws))["data"]["status"] == "cancelled"
        order.append("event")
    assert order == ["event", "reply"]


@pytest.mark.parametrize("venue", ["oxfun", "roxom"])
async def test_a_dropped_reply_was_carried_out(sim: Sim, venue: str) -> None:
    await sim.rest_orders(venue, 2)
    await sim.fault(venue, "drop_reply", times=1)
    call = sim.oxfun_cancel_all if venue == "oxfun" else sim.roxom_cancel_all
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.3):
            await call()
    await sim.until_open(venue, 0)
    assert (await call()).status_code == 200  # once


async def test_a_dropped_reply_on_the_websocket_was_carried_out(sim: Sim) -> None:
    [one] = await sim.rest_orders("oxfun", 1)
    async with sim.oxfun_socket() as ws:
        await sim.fault("oxfun", "drop_reply")
        data = {"marketCode": "BTC-USD-SWAP-LIN", "orderId": int(one)}
        await ws.send(json.dumps({"op": "cancelorder", "tag": 1, "data": data}))
        assert await silent(ws)
    assert await sim.open("oxfun") == 0


@pytest.mark.parametrize("venue", ["oxfun", "roxom"])
async def test_accept_but_keep_says_yes_and_keeps(sim: Sim, venue: str) -> None:
    await sim.rest_orders(venue, 2)
    await sim.fault(venue, "accept_but_keep", times=1)
    call = sim.oxfun_cancel_all if venue == "oxfun" else sim.roxom_cancel_all
    first = (await call()).json()
    assert await sim.open(venue) == 2
    second = (await call()).json()
    assert first == second
    await sim.until_open(venue, 0)


async def test_partial_leaves_some_orders(sim: Sim) -> None:
    ids = await sim.rest_orders("roxom", 5)
    await sim.fault("roxom", "partial", keep=2)
    assert (await sim.roxom_cancel_all()).json()["data"]["cancelledOrderIds"] == ids[:3]
    assert (await sim.roxom_cancel_all()).json()["data"]["cancelledOrderIds"] == []
    for order_id in ids[3:]:
        assert (await sim.roxom("POST", f"/orders/{order_id}/cancel")).status_code == 200
    assert await sim.open("roxom") == 0


@pytest.mark.parametrize(("fill", "end"), [(False, "cancelled"), (True, "filled")])
async def test_pending_orders_on_roxom_end_later(sim: Sim, fill: bool, end: str) -> None:
    [one] = await sim.rest_orders("roxom", 1)
    await sim.fault("roxom", "pending", ms=20, fill=fill)
    async with sim.roxom_socket("orders") as ws:
        assert (await sim.roxom_cancel_all()).json()["data"]["cancelledOrderIds"] == [one]
        assert [(await receive(ws))["data"]["status"] for _ in range(2)] == ["pendingcancel", end]
    assert await sim.states("roxom") == {end: 1}


async def test_the_list_on_roxom_shows_a_pending_order_as_such(sim: Sim) -> None:
    await sim.rest_orders("roxom", 1)
    await sim.fault("roxom", "pending", ms=60_000)
    await sim.roxom_cancel_all()
    [row] = (await sim.roxom("GET", "/orders?instType=perpetual")).json()["data"]["orders"]
    assert row["status"] == "pendingcancel"


async def test_pending_orders_on_oxfun_stay_open(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 1)
    await sim.fault("oxfun", "pending", ms=60_000)
    await sim.oxfun_cancel_all()
    assert await sim.states("oxfun") == {"OPEN": 1}


async def test_pending_orders_on_oxfun_may_fill(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 1)
    await sim.fault("oxfun", "pending", ms=20, fill=True)
    async with sim.oxfun_socket("order:all") as ws:
        await sim.oxfun_cancel_all()
        assert (await receive(ws))["event"] == "CANCEL"
        [row] = (await receive(ws))["data"]
    assert (row["notice"], row["status"], row["remainQuantity"]) == ("OrderMatched", "FILLED", "0.000")
    assert await sim.states("oxfun") == {"FILLED": 1}


@pytest.mark.parametrize(("more", "status"), [({"status": 500}, 500), ({"code": "710001"}, 400)])
async def test_refuse_says_no(sim: Sim, more: dict[str, Any], status: int) -> None:
    await sim.rest_orders("oxfun", 1)
    await sim.fault("oxfun", "refuse", **more)
    answer = await sim.oxfun_cancel_all()
    assert answer.status_code == status and answer.json()["code"] == more.get("code", "20001")
    assert (await sim.oxfun("GET", "/v3/account")).status_code == 200
    async with sim.oxfun_socket() as ws:
        await ws.send('{"op":"cancelorder","tag":5,"data":{"marketCode":"X","orderId":1}}')
        refused = await receive(ws)
    assert (refused["submitted"], refused["tag"], refused["code"]) == (False, "5", more.get("code", "20001"))
    assert await sim.open("oxfun") == 1


async def test_an_expired_key_can_be_played(sim: Sim) -> None:
    await sim.fault("roxom", "refuse", status=401, message="API key has expired", on="all")
    assert (await sim.roxom_cancel_all()).json() == {"error": 401, "message": "API key has expired"}


async def test_rate_limit_ends_by_itself(sim: Sim) -> None:
    await sim.fault("oxfun", "rate_limit", seconds=0.5)
    await sim.fault("roxom", "rate_limit", seconds=0.5, on="cancel")
    answer = await sim.oxfun_cancel_all()
    assert answer.status_code == 429 and answer.json()["code"] == "429"
    assert (await sim.roxom_cancel_all()).status_code == 429
    assert (await sim.roxom("GET", "/accounts/balance")).status_code == 200

    async def over() -> bool:
        return (await sim.oxfun_cancel_all()).status_code == 200 and (await sim.roxom_cancel_all()).status_code == 200

    await sim.until(over)


async def test_rate_limit_on_the_websocket_is_20007(sim: Sim) -> None:
    async with sim.oxfun_socket() as ws:
        await sim.fault("oxfun", "rate_limit", seconds=30)
        await ws.send('{"op":"cancelorder","data":{"marketCode":"X","orderId":1}}')
        assert (await receive(ws))["code"] == "20007"
        await ws.send("ping")
        assert await ws.recv() == "pong"


async def test_garble_is_no_json(sim: Sim) -> None:
    await sim.rest_orders("roxom", 1)
    await sim.fault("roxom", "garble")
    answer = await sim.roxom_cancel_all()
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert await sim.open("roxom") == 0


async def test_truncate_cuts_the_reply(sim: Sim) -> None:
    await sim.fault("roxom", "truncate")
    with pytest.raises(httpx.RemoteProtocolError):
        await sim.roxom_cancel_all()
    async with sim.oxfun_socket() as ws:
        await sim.fault("oxfun", "truncate")
        await ws.send('{"op":"cancelorder","data":{"marketCode":"X","orderId":1}}')
        with pytest.raises(ConnectionClosed):
            await receive(ws)
        assert ws.close_code == 1006


async def test_half_open_keeps_the_connection_and_says_nothing(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 1)
    async with sim.oxfun_socket("order:all") as ws:
        await sim.fault("oxfun", "half_open")
        before = len(await sim.requests("oxfun"))
        await ws.send("ping")
        await sim.rest_orders("oxfun", 1)
        assert await silent(ws)
        with pytest.raises(TimeoutError):  # a new connection is not read either
            with anyio.fail_after(0.2):
                await sim.oxfun_cancel_all()
        assert len(await sim.requests("oxfun")) == before
        await sim.clear("oxfun")
        assert (await receive(ws))["table"] == "order"
        assert await ws.recv() == "pong"


async def test_disconnect_drops_everything_now(sim: Sim) -> None:
    async with sim.oxfun_socket() as ws:
        await sim.fault("oxfun", "disconnect")
        with pytest.raises(ConnectionClosed):
            await ws.recv()
    assert (await sim.get("/faults", venue="oxfun")) == {"faults": []}
    assert (await sim.oxfun_cancel_all()).status_code == 200


@pytest.mark.parametrize(("after", "left"), [(False, 1), (True, 0)])
async def test_disconnect_on_a_cancel_comes_before_or_behind_it(sim: Sim, after: bool, left: int) -> None:
    await sim.rest_orders("roxom", 1)
    await sim.fault("roxom", "disconnect", on="cancel", after=after)
    assert (await sim.roxom("GET", "/accounts/balance")).status_code == 200
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await sim.roxom_cancel_all()
    assert await sim.open("roxom") == left
    assert (await sim.roxom_cancel_all()).status_code == 200


async def test_reject_login_refuses_good_credentials(sim: Sim) -> None:
    await sim.fault("oxfun", "reject_login", times=1)
    async with sim.oxfun_socket(login=False) as ws:
        await ws.send(oxfun_login(sim.venue("oxfun")))
        assert (await receive(ws))["code"] == "20025"
    async with sim.oxfun_socket():
        pass  # once
    await sim.fault("roxom", "reject_login")
    entry = sim.venue("roxom")
    headers = roxom_headers(entry, "GET:/ws")
    async with websockets.connect(entry["ws_url"], ssl=sim.tls, additional_headers=headers) as ws:
        assert (await receive(ws))["code"] == "600010"
    assert (await sim.roxom_cancel_all()).status_code == 200
    await sim.fault("roxom", "reject_login", on="all")
    assert (await sim.roxom_cancel_all()).status_code == 401


async def test_maintenance_is_503_and_000101(sim: Sim) -> None:
    async with sim.oxfun_socket() as ws:
        await sim.fault("oxfun", "maintenance")
        await ws.send('{"op":"cancelorder","data":{"marketCode":"X","orderId":1}}')
        assert (await receive(ws))["code"] == "000101"
    answer = await sim.oxfun_cancel_all()
    assert answer.status_code == 503 and answer.json()["code"] == "000101"
    with pytest.raises(InvalidStatus) as refused:
        await websockets.connect(sim.venue("oxfun")["ws_url"], ssl=sim.tls)
    assert refused.value.response.status_code == 503
    await sim.fault("roxom", "maintenance")
    assert (await sim.roxom_cancel_all()).status_code == 503


@pytest.mark.parametrize("venue", ["oxfun", "roxom"])
async def test_requote_places_an_order_after_each_cancel_until_used_up(sim: Sim, venue: str) -> None:
    await sim.rest_orders(venue, 3)
    await sim.fault(venue, "requote", times=2)
    call = sim.oxfun_cancel_all if venue == "oxfun" else sim.roxom_cancel_all
    for cancelled, left in ((3, 1), (4, 1), (5, 0), (5, 0)):
        await call()

        async def settled(cancelled: int = cancelled) -> bool:
            states = await sim.states(venue)
            return sum(n for state, n in states.items() if state not in ("OPEN", "submitted")) == cancelled

        await sim.until(settled)
        assert await sim.open(venue) == left


async def test_requote_waits_for_a_cancel_that_cancels_something(sim: Sim) -> None:
    await sim.fault("roxom", "requote", times=1)
    await sim.roxom_cancel_all()
    assert await sim.open("roxom") == 0
    await sim.fault("roxom", "pending", ms=1, fill=True, times=1)
    await sim.rest_orders("roxom", 1)
    await sim.roxom_cancel_all()
    await sim.until_open("roxom", 0)  # it was filled
    assert await sim.states("roxom") == {"filled": 1}
    await sim.rest_orders("roxom", 1)
    await sim.roxom_cancel_all()
    assert await sim.states("roxom") == {"filled": 1, "cancelled": 1, "submitted": 1}


async def test_a_late_order_appears_after_the_next_cancel(sim: Sim) -> None:
    await sim.rest_orders("roxom", 1)
    await sim.fault("roxom", "late_order", ms=150)
    await sim.roxom_cancel_all()
    assert await sim.open("roxom") == 0
    await sim.until_open("roxom", 1)
    await sim.roxom_cancel_all()
    assert await sim.open("roxom") == 0


async def test_skew_makes_a_good_clock_look_wrong(sim: Sim) -> None:
    await sim.fault("oxfun", "skew", seconds=-120)
    assert (await sim.oxfun_cancel_all()).json()["code"] == "20024"
    async with sim.oxfun_socket(login=False) as ws:
        await ws.send(oxfun_login(sim.venue("oxfun")))
        answer = await receive(ws)
    assert answer["code"] == "20024"
    assert abs(int(answer["timestamp"]) / 1000 + 120 - datetime.now(UTC).timestamp()) < 5


@pytest.mark.parametrize("venue", ["roxom", "oxfun"])
async def test_every_answer_shows_the_venues_clock(sim: Sim, venue: str) -> None:
    for seconds in (0, -120, 120):
        await sim.fault(venue, "skew", seconds=seconds)
        answer = await (sim.roxom_cancel_all() if venue == "roxom" else sim.oxfun_cancel_all())
        date = datetime.strptime(answer.headers["date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        assert abs(date.timestamp() - seconds - datetime.now(UTC).timestamp()) < 3


async def test_duplicate_sends_events_twice(sim: Sim) -> None:
    async with sim.roxom_socket("orders") as ws:
        await sim.fault("roxom", "duplicate")
        await sim.rest_orders("roxom", 1)
        assert await receive(ws) == await receive(ws)


async def test_reorder_swaps_events_and_loses_none(sim: Sim) -> None:
    async with sim.oxfun_socket("order:all") as ws:
        await sim.fault("oxfun", "reorder", ms=30)
        ids = await sim.rest_orders("oxfun", 3)
        seen = [(await receive(ws))["data"][0]["orderId"] for _ in range(3)]
    assert seen == [ids[1], ids[0], ids[2]]


async def test_a_fault_may_hit_one_account_only() -> None:
    async with running("oxfun", accounts=2) as sim:
        other = sim.venue("oxfun")["accounts"][0]
        await sim.fault("oxfun", "refuse", status=500, account="oxfun-1")
        assert (await sim.oxfun("DELETE", "/v3/orders/cancel-all", body="{}", login=other)).status_code == 200
        assert (await sim.oxfun_cancel_all()).status_code == 500


async def roxom_list(sim: Sim, kind: str = "perpetual") -> tuple[int, list[str]]:
    answer = await sim.roxom("GET", f"/orders?instType={kind}")
    rows = answer.json()["data"]["orders"] if answer.status_code == 200 else []
    return answer.status_code, [row["id"] for row in rows]


async def test_a_partial_list_fails_one_product_of_several(sim: Sim) -> None:
    ids = await sim.rest_orders("roxom", 1)
    await sim.fault("roxom", "partial_list", times=1)
    assert await roxom_list(sim) == (200, ids)
    assert [(await roxom_list(sim, "index"))[0] for _ in range(2)] == [500, 200]
    await sim.fault("roxom", "partial_list", list="spot")
    assert [(await roxom_list(sim, kind))[0] for kind in ("index", "spot", "spot")] == [200, 500, 500]


async def test_an_unlisted_order_is_pushed_and_found_by_its_id_but_no_list_and_no_cancel_all_knows_it(sim: Sim) -> None:
    await sim.fault("roxom", "unlisted")
    heard_of = await sim.rest_orders("roxom", 1)  # nobody hears events yet: it is listed
    async with sim.roxom_socket("orders") as ws:
        [hidden] = await sim.rest_orders("roxom", 1)
        assert (await receive(ws))["data"]["orderId"] == hidden
        assert await roxom_list(sim) == (200, heard_of)
        assert (await sim.roxom_cancel_all()).json()["data"]["cancelledOrderIds"] == heard_of
        response = await sim.roxom("GET", f"/orders/{hidden}")
        assert response.json()["data"]["order"]["status"] == "submitted"
        await sim.clear("roxom")
        assert await roxom_list(sim) == (200, [hidden])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"fault": "delai", "ms": 1}, "Did you mean 'delay'?"),
        ({"fault": "delay"}, "needs 'ms'"),
        ({"fault": "delay", "ms": "soon"}, "'ms' cannot be 'soon'"),
        ({"fault": "delay", "ms": 1, "on": "sunday"}, "one of cancel, read, login, all"),
        ({"fault": "delay", "ms": 1, "keep": 1}, "unknown parameter 'keep'"),
        ({"fault": "refuse"}, "needs 'status' or 'code'"),
        ({"fault": "delay", "ms": 1, "account": "oxfun-9"}, "unknown oxfun account 'oxfun-9'"),
        ({"fault": "garble", "times": 0}, "a whole number from 1 on"),
    ],
)
async def test_an_impossible_fault_is_refused_in_one_line(sim: Sim, body: dict[str, Any], says: str) -> None:
    answer = await sim.admin.post("/faults", json={"venue": "oxfun", **body})
    assert answer.status_code == 400
    assert says in answer.json()["error"] and "\n" not in answer.json()["error"]


CODE: dict[str, object] = {"code": "7"}
INTERFACE: dict[str, dict[str, object]] = {
    "delay": {"ms": 5},
    "drop_reply": {},
    "accept_but_keep": {"times": 2},
    "partial": {"keep": 1},
    "pending": {"ms": 5, "fill": True},
    "refuse": {"status": 403},
    "rate_limit": {"seconds": 1},
    "garble": {},
    "truncate": {},
    "half_open": {},
    "disconnect": {},
    "reject_login": {},
    "maintenance": {},
    "requote": {"times": 3},
    "late_order": {"ms": 5},
    "skew": {"seconds": 40},
    "duplicate": {},
    "reorder": {},
    "stale_reads": {"seconds": 2},
    "empty_reads": {"times": 2},
    "partial_list": {"times": 2},
    "read_only_key": {},
    "ip_refused": {},
    "expire_token": {},
    "hang_login": {},
}


@pytest.mark.parametrize("venue", sorted(VENUES))
async def test_each_fault_of_the_interface_is_taken_or_the_supported_ones_are_named(venue: str) -> None:
    supported = VENUES[venue].supported
    assert len(supported & set(INTERFACE)) >= len(INTERFACE) - 3
    async with running(venue) as sim:
        for name, parameters in (*INTERFACE.items(), ("refuse", CODE)):
            answer = await sim.admin.post("/faults", json={"venue": venue, "fault": name, **parameters})
            if name in supported:
                assert answer.status_code == 200, answer.text
                on = [fault["fault"] for fault in answer.json()["faults"]]
                assert on == ([] if name in ("disconnect", "expire_token") else [name])  # those two act at once
                assert (await sim.admin.delete("/faults", params={"venue": venue})).json() == {"faults": []}
            else:
                assert answer.status_code == 400
                assert answer.json()["error"].endswith(f" Known: {', '.join(sorted(supported))}.")


def test_an_unsupported_fault_names_the_supported_ones() -> None:
    faults = Faults(frozenset({"delay", "garble"}))
    with pytest.raises(ValueError, match=r"unknown fault 'half_open'.*Known: delay, garble\."):
        faults.put("half_open", {})


def test_the_interfaces_faults_are_all_there() -> None:
    named = "delay drop_reply accept_but_keep partial pending refuse rate_limit garble truncate half_open disconnect"
    named += " reject_login maintenance requote late_order skew duplicate reorder partial_list unlisted foreign_use"
    named += " lose_push late_push stale_reads empty_reads vanish expire_token hang_login read_only_key ip_refused"
    assert set(SPECS) == set(named.split())
