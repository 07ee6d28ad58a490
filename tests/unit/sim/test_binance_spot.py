"""Hold the simulator of Binance spot against docs/venues/binance.md, by raw requests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection

from .clients import receive, running
from .test_binance import ONE, Client, now_ms

pytestmark = pytest.mark.anyio
VENUE = "binance-spot"
SYMBOL = ONE[VENUE]
UNKNOWN = {"code": -2011, "msg": "Unknown order sent."}


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[Client]:
    async with running(VENUE) as sim:
        yield Client(sim, VENUE)


@asynccontextmanager
async def with_key(kind: str) -> AsyncIterator[tuple[Client, ClientConnection]]:
    async with running(VENUE, options={VENUE: {"auth": kind}}) as sim:
        client = Client(sim, VENUE)
        async with client.socket("/ws-api/v3") as ws:
            yield client, ws


@asynccontextmanager
async def subscribed(client: Client) -> AsyncIterator[ClientConnection]:
    async with client.socket("/ws-api/v3") as ws:
        answer = await client.say(ws, "userDataStream.subscribe.signature")
        assert answer["result"] == {"subscriptionId": 0}
        yield ws


async def events(ws: ClientConnection, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = await receive(ws)
        if "event" in message:
            found.append(message["event"])
    return found


# ── cancels (§3.1) ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancel_all_without_orders_is_an_error_on_both_lanes(client: Client) -> None:
    answer = await client.cancel_all()
    assert (answer.status_code, answer.json()) == (400, UNKNOWN)
    async with client.socket("/ws-api/v3") as ws:
        told = await client.say(ws, "openOrders.cancelAll", symbol=SYMBOL)
        assert (told["id"], told["status"], told["error"]) == ("x1", 400, UNKNOWN)


async def test_a_cancel_all_answers_with_orders_and_lists_mixed(client: Client) -> None:
    [single] = await client.sim.rest_orders(VENUE, 1)
    [stop] = await client.sim.rest_orders(VENUE, 1, kind="stop")
    legs = await client.sim.rest_orders(VENUE, 2, kind="oco")
    async with client.socket("/ws-api/v3") as ws:
        result = (await client.say(ws, "openOrders.cancelAll", symbol=SYMBOL))["result"]
    singles = [row for row in result if "orderReports" not in row]
    [group] = [row for row in result if "orderReports" in row]
    assert [(row["orderId"], row["status"]) for row in singles] == [(int(single), "CANCELED"), (int(stop), "CANCELED")]
    assert (group["contingencyType"], group["listOrderStatus"]) == ("OCO", "ALL_DONE")
    assert [row["orderId"] for row in group["orderReports"]] == [*map(int, legs)]
    assert {row["type"] for row in group["orderReports"]} == {"LIMIT_MAKER", "STOP_LOSS_LIMIT"}
    assert await client.sim.open(VENUE) == 0


@pytest.mark.parametrize("by", ["leg", "list"])
async def test_the_cancel_of_a_leg_or_of_a_list_ends_the_whole_list(client: Client, by: str) -> None:
    legs = await client.sim.rest_orders(VENUE, 4, kind="oco")
    [first, second] = await client.get("openOrderList")
    assert [row["orderId"] for row in first["orders"]] == [*map(int, legs[:2])]
    if by == "leg":
        answer = await client.send("DELETE", "order", symbol=SYMBOL, orderId=legs[1])
    else:
        answer = await client.send("DELETE", "orderList", symbol=SYMBOL, orderListId=first["orderListId"])
    assert len(answer.json()["orderReports"]) == 2
    assert await client.get("openOrderList") == [second]
    again = await client.code("DELETE", "orderList", symbol=SYMBOL, orderListId=first["orderListId"])
    assert again == (400, -2011)


async def test_a_cancel_costs_nothing_if_it_succeeds_and_one_if_it_fails(client: Client) -> None:
    for count in (1, 0):
        await client.sim.rest_orders(VENUE, count)
        await client.cancel_all()
    await client.get("openOrders", symbol=SYMBOL)
    await client.get("openOrders")
    [one] = await client.sim.rest_orders(VENUE, 1)
    async with client.socket("/ws-api/v3") as ws:
        told = await client.say(ws, "order.cancel", symbol=SYMBOL, orderId=int(one))
        assert told["rateLimits"][0] | {"count": 0} == {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": 6000,
            "count": 0,
        }
        await client.say(ws, "openOrders.status")
    lines = [(line["what"], line["weight"]) for line in await client.sim.requests(VENUE)]
    assert lines == [
        ("cancel-all", 0), ("cancel-all", 1), ("orders", 6), ("orders", 80), ("connect", 2), ("cancel", 0),
        ("orders", 80),
    ]  # fmt: skip
    answer = await client.raw("GET", "time")
    assert answer.headers["x-mbx-used-weight-1m"] == str(1 + 6 + 80 + 2 + 80 + 1)


async def test_cancel_restrictions_hold(client: Client) -> None:
    [one] = await client.sim.rest_orders(VENUE, 1)
    named = {"symbol": SYMBOL, "orderId": one}
    assert await client.code("DELETE", "order", **named, cancelRestrictions="ONLY_OLD") == (400, -1145)
    answer = await client.send("DELETE", "order", **named, cancelRestrictions="ONLY_PARTIALLY_FILLED")
    assert answer.json()["msg"] == "Order was not canceled due to cancel restrictions."
    assert (await client.send("DELETE", "order", **named, cancelRestrictions="ONLY_NEW")).status_code == 200


async def test_a_pending_leg_is_not_listed_until_the_working_leg_has_filled(client: Client) -> None:
    working, pending = await client.sim.rest_orders(VENUE, 2, kind="oto")
    assert [row["orderId"] for row in await client.get("openOrders")] == [int(working)]
    assert (await client.get("order", symbol=SYMBOL, orderId=pending))["status"] == "PENDING_NEW"
    await client.sim.post("/options", venue=VENUE, race=1)
    async with subscribed(client) as ws:
        assert (await client.cancel_all()).json() == UNKNOWN  # the working leg filled, and the other one rests since
        said = [(event.get("i"), event.get("X")) for event in await events(ws, 3)]
    assert said[0] == (int(working), "FILLED") and (int(pending), "NEW") in said
    assert [row["orderId"] for row in await client.get("openOrders")] == [int(pending)]
    await client.cancel_all()
    assert await client.sim.open(VENUE) == 0


async def test_a_cancel_all_takes_pending_legs_along(client: Client) -> None:
    await client.sim.rest_orders(VENUE, 2, kind="oto")
    [group] = (await client.cancel_all()).json()
    assert (group["contingencyType"], len(group["orderReports"]), await client.sim.open(VENUE)) == ("OTO", 2, 0)


async def test_margin_orders_rest_apart_from_spot_and_from_each_other(client: Client) -> None:
    order = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "quantity": 1, "price": 9}
    path = "/sapi/v1/margin/{}"
    for isolated in ("FALSE", "TRUE"):
        assert (await client.send("POST", path.format("order"), **order, isIsolated=isolated)).status_code == 200
    assert (await client.cancel_all()).json() == UNKNOWN
    assert len(await client.get(path.format("openOrders"))) == 1
    [crossed] = (await client.send("DELETE", path.format("openOrders"), symbol=SYMBOL)).json()
    assert await client.code("DELETE", path.format("openOrders"), symbol=SYMBOL) == (400, -2011)
    isolated_orders = {"symbol": SYMBOL, "isIsolated": "TRUE"}
    assert len(await client.get(path.format("openOrders"), **isolated_orders)) == 1
    assert await client.code("GET", path.format("openOrders"), isIsolated="TRUE") == (400, -1102)
    [isolated_one] = (await client.send("DELETE", path.format("openOrders"), **isolated_orders)).json()
    assert (crossed["isIsolated"], isolated_one["isIsolated"]) == (False, True)


async def test_a_margin_cancel_needs_the_symbol_of_its_order_and_a_known_account(client: Client) -> None:
    path, order = "/sapi/v1/margin/order", {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "quantity": 1}
    order_id = (await client.send("POST", path, **order)).json()["orderId"]
    assert await client.code("DELETE", path, orderId=order_id) == (400, -1102)
    assert await client.code("DELETE", path, orderId=order_id, symbol="ETHUSDT") == (400, -2011)
    assert await client.code("DELETE", path, orderId=order_id, symbol=SYMBOL, isIsolated="yes") == (400, -1130)
    assert (await client.send("DELETE", path, orderId=order_id, symbol=SYMBOL)).status_code == 200


@pytest.mark.parametrize("mode", ["DO_NOTHING", "CANCEL_ONLY"])
async def test_a_replace_beyond_the_limit_of_orders_keeps_the_old_order_unless_it_may_only_cancel(
    client: Client, mode: str
) -> None:
    order = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": 1, "price": 9}
    for _ in range(50):
        old = (await client.send("POST", "order", **order)).json()["orderId"]
    replace = order | {"cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": old}
    assert await client.code("POST", "order/cancelReplace", **replace, orderRateLimitExceededMode="x") == (400, -1130)
    answer = await client.send("POST", "order/cancelReplace", **replace, orderRateLimitExceededMode=mode)
    assert answer.status_code == 429
    if mode == "DO_NOTHING":
        assert (answer.json()["code"], await client.sim.open(VENUE)) == (-1015, 50)
    else:
        data = answer.json()["data"]
        assert (data["cancelResult"], data["newOrderResult"], data["newOrderResponse"]["code"]) == (
            "SUCCESS", "FAILURE", -1015,
        )  # fmt: skip
        assert await client.sim.open(VENUE) == 49


@pytest.mark.parametrize("key", ["order", "list"])
async def test_an_id_and_a_client_id_must_be_of_one_order(client: Client, key: str) -> None:
    ids = await client.sim.rest_orders(VENUE, 2, kind="oco")
    row = (await client.get("openOrders"))[0]
    [group] = await client.get("openOrderList")
    path, named, client_id = {
        "order": ("order", {"orderId": ids[0]}, {"origClientOrderId": row["clientOrderId"]}),
        "list": ("orderList", {"orderListId": group["orderListId"]}, {"listClientOrderId": group["listClientOrderId"]}),
    }[key]
    other = {name: "another" for name in client_id}
    assert await client.code("DELETE", path, symbol=SYMBOL, **named, **other) == (400, -2011)
    assert await client.sim.open(VENUE) == 2
    assert (await client.send("DELETE", path, symbol=SYMBOL, **named, **client_id)).status_code == 200
    assert await client.sim.open(VENUE) == 0


# ── sessions and subscriptions (§2, §5) ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["hmac", "rsa"])
async def test_only_an_ed25519_key_logs_on_and_the_others_subscribe_by_signature(kind: str) -> None:
    async with with_key(kind) as (client, ws):
        refused = await client.say(ws, "session.logon")
        assert (refused["status"], refused["error"]["code"]) == (400, -4056)
        assert (await client.say(ws, "userDataStream.subscribe", signs=False))["status"] == 401
        assert (await client.say(ws, "userDataStream.subscribe"))["status"] == 401
        assert (await client.say(ws, "userDataStream.subscribe.signature"))["result"] == {"subscriptionId": 0}
        assert (await client.say(ws, "userDataStream.subscribe.signature"))["error"]["code"] == -2035


async def test_a_logged_on_session_needs_no_signature_but_a_time_stamp() -> None:
    async with with_key("ed25519") as (client, ws):
        state = (await client.say(ws, "session.logon"))["result"]
        assert state["apiKey"] == client.keys["api_key"] and state["authorizedSince"] >= state["connectedSince"]
        await client.sim.rest_orders(VENUE, 1)
        bare = {"symbol": SYMBOL}
        assert (await client.say(ws, "openOrders.cancelAll", signs=False, **bare))["error"]["code"] == -1102
        late = await client.say(ws, "openOrders.cancelAll", signs=False, **bare, timestamp=now_ms() - 6000)
        assert late["error"]["code"] == -1021
        told = await client.say(ws, "openOrders.cancelAll", signs=False, **bare, timestamp=now_ms())
        assert told["status"] == 200 and await client.sim.open(VENUE) == 0
        assert (await client.say(ws, "userDataStream.subscribe", signs=False))["result"] == {"subscriptionId": 0}
        assert (await client.say(ws, "session.status", signs=False))["result"]["userDataStream"] is True
        await client.say(ws, "session.logout", signs=False)
        assert (await client.say(ws, "account.status", signs=False, timestamp=now_ms()))["status"] == 401


async def test_a_logout_ends_the_subscription_of_the_logon_with_an_event() -> None:
    async with with_key("ed25519") as (client, ws):
        await client.say(ws, "session.logon")
        await client.say(ws, "userDataStream.subscribe", signs=False)
        await ws.send(json.dumps({"id": 1, "method": "session.logout"}))
        assert (await receive(ws))["event"]["e"] == "eventStreamTerminated"
        assert (await receive(ws))["result"]["apiKey"] is None
        assert (await client.say(ws, "userDataStream.subscribe.signature"))["result"] == {"subscriptionId": 1}
        await client.say(ws, "session.logon")
        await client.say(ws, "session.logout", signs=False)
        assert (await client.say(ws, "session.subscriptions", signs=False))["result"] == [{"subscriptionId": 1}]


async def test_a_second_logon_replaces_the_key_and_a_signature_overrides_it() -> None:
    async with running(VENUE, accounts=2, options={VENUE: {"auth": "ed25519"}}) as sim:
        first, second = Client(sim, VENUE), Client(sim, VENUE, sim.venue(VENUE)["accounts"][0])
        async with first.socket("/ws-api/v3") as ws:
            await first.say(ws, "session.logon")
            uids = [(await second.say(ws, "account.status"))["result"]["uid"]]
            await second.say(ws, "session.logon")
            uids.append((await second.say(ws, "account.status", signs=False, timestamp=now_ms()))["result"]["uid"])
            own = (await first.say(ws, "account.status"))["result"]["uid"]
            assert uids[0] == uids[1] != own


async def test_a_revoked_key_is_answered_by_a_frame_without_an_id() -> None:
    async with with_key("ed25519") as (client, ws):
        await client.say(ws, "session.logon")
        await client.sim.fault(VENUE, "expire_token")
        revoked = await client.say(ws, "account.status", signs=False, timestamp=now_ms())
        assert revoked == {
            "id": None, "status": 401,
            "error": {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
        }  # fmt: skip
        assert (await client.say(ws, "account.status", signs=False, timestamp=now_ms()))["status"] == 401
        assert (await client.say(ws, "session.logon"))["status"] == 200


@pytest.mark.parametrize(("tells", "said"), [(True, "eventStreamTerminated"), (False, None)])
async def test_a_subscription_whose_key_became_bad_may_end_without_a_word(
    client: Client, tells: bool, said: str | None
) -> None:
    await client.sim.post("/options", venue=VENUE, tells_end=tells)
    async with subscribed(client) as ws:
        await client.sim.fault(VENUE, "expire_token")
        with anyio.move_on_after(5 if tells else 0.1) as waited:
            assert (await receive(ws))["event"]["e"] == said
        assert waited.cancelled_caught is (said is None)


async def test_a_websocket_signature_is_sorted_and_not_encoded(client: Client) -> None:
    async with client.socket("/ws-api/v3") as ws:
        wrong = await client.say(ws, "openOrders.status", apiKey="x" * 64, signature="0", signs=False)
        assert (wrong["status"], wrong["error"]["code"]) == (401, -2015)
        malformed = await client.say(ws, "openOrders.status", apiKey="x", signature="0", signs=False)
        assert (malformed["status"], malformed["error"]["code"]) == (401, -2014)
        key = {"apiKey": client.keys["api_key"], "timestamp": now_ms()}
        unsigned = await client.say(ws, "openOrders.status", signs=False, **key, signature="0" * 64)
        assert (unsigned["status"], unsigned["error"]["code"]) == (400, -1022)
        plain = await client.say(ws, "order.status", symbol=SYMBOL, origClientOrderId="１２ &%")
        assert plain["error"]["code"] == -2013  # its signature was right


@pytest.mark.parametrize("odd", [[], {}, 1.5, True, "９", "1" * 400])
async def test_a_parameter_of_any_type_is_answered(client: Client, odd: object) -> None:
    async with client.socket("/ws-api/v3") as ws:
        for method in ("openOrders.cancelAll", "order.cancel", "orderList.cancel", "order.place"):
            for name in ("symbol", "orderId", "orderListId", "cancelRestrictions", "type", "price", "newClientOrderId"):
                usual: dict[str, Any] = {
                    "symbol": SYMBOL,
                    "orderId": 1,
                    "orderListId": 1,
                    "side": "BUY",
                    "type": "LIMIT",
                }
                usual[name] = odd
                assert (await client.say(ws, method, **usual))["status"] == 400
        stamped = await client.say(ws, "account.status", signs=False, apiKey=odd, timestamp=odd, signature=odd)
        assert stamped["status"] == 401
    assert await client.code("GET", "order", symbol=SYMBOL, orderId=str(odd)) == (400, -1100)


# ── events (§5) ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancel_is_pushed_with_the_orders_id_and_the_end_of_its_list(client: Client) -> None:
    async with subscribed(client) as ws:
        legs = await client.sim.rest_orders(VENUE, 2, kind="oco")
        names = [row["clientOrderId"] for row in await client.get("openOrders")]
        await client.cancel_all()
        heard = await events(ws, 7)
    assert [nth for nth, event in enumerate(heard) if event["e"] == "outboundAccountPosition"] == [2, 6]
    said = [event for event in heard if event["e"] != "outboundAccountPosition"]
    assert [(event["x"], event["i"]) for event in said[:2]] == [("NEW", int(leg)) for leg in legs]
    cancels = said[2:4]
    assert [(event["X"], event["i"], event["C"]) for event in cancels] == [
        ("CANCELED", int(leg), name) for leg, name in zip(legs, names, strict=True)
    ]
    assert all(event["c"] not in names for event in cancels)
    assert (said[4]["e"], said[4]["L"], [row["i"] for row in said[4]["O"]]) == (
        "listStatus",
        "ALL_DONE",
        [*map(int, legs)],
    )


async def test_money_is_pushed_and_a_transfer_has_its_own_event(client: Client) -> None:
    async with subscribed(client) as ws:
        await client.sim.post("/equity", venue=VENUE, equity=150_000)
        [event] = await events(ws, 1)
        assert (event["e"], event["B"][0]["f"]) == ("outboundAccountPosition", "150000.00000000")
        await client.sim.post("/options", venue=VENUE, equity_moves="transfer")
        await client.sim.post("/equity", venue=VENUE, equity=150_100)
        said = await events(ws, 2)
        assert [event["e"] for event in said] == ["outboundAccountPosition", "balanceUpdate"]
        assert said[1]["d"] == "100.00000000"


async def test_maintenance_is_announced_on_every_websocket(client: Client) -> None:
    async with client.socket("/ws-api/v3") as ws:
        await client.sim.fault(VENUE, "maintenance")
        assert (await receive(ws))["event"]["e"] == "serverShutdown"


async def test_orders_are_placed_on_both_lanes(client: Client) -> None:
    order: dict[str, Any] = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1"}
    order["price"] = "9"
    placed = await client.send("POST", "order", **order)
    assert placed.json()["status"] == "NEW" and placed.headers["x-mbx-order-count-1d"] == "1"
    async with client.socket("/ws-api/v3") as ws:
        assert (await client.say(ws, "order.place", **order))["result"]["status"] == "NEW"
        assert (await client.say(ws, "order.place", **order | {"type": "STOP"}))["error"]["code"] == -1116
    assert await client.sim.open(VENUE) == 2


async def test_the_refusal_of_a_websocket_over_the_limit_says_when_it_ends() -> None:
    async with running(VENUE, options={VENUE: {"pool": "10"}}) as sim:
        client = Client(sim, VENUE)
        async with client.socket("/ws-api/v3") as ws:
            told = await client.say(ws, "openOrders.status")
            assert (told["status"], told["error"]["code"]) == (429, -1003)
            data = told["error"]["data"]
            assert 0 < data["retryAfter"] - data["serverTime"] <= 61_000
            assert (await client.say(ws, "ping", signs=False))["status"] == 200


async def test_account_and_lock_are_shown(client: Client) -> None:
    account = await client.get("account")
    assert (account["canTrade"], account["balances"][0]["free"]) == (True, "100000.00000000")
    assert (await client.get("/sapi/v1/account/apiTradingStatus"))["data"]["isLocked"] is False
    [wallet] = await client.get("/sapi/v1/asset/wallet/balance")
    assert (wallet["walletName"], wallet["balance"]) == ("Spot", "100000")
    assert await client.code("POST", "userDataStream") == (404, -5000)  # the listenKey was removed
