"""Hold the OX.FUN simulator's REST side against docs/venues/oxfun.md."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from kill_switch.sim.kit.auth import is_signed
from kill_switch.sim.oxfun import payloads as wire

from .clients import Sim, receive, running

pytestmark = pytest.mark.anyio


def data(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["success"] is True
    return body["data"]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["success"] is False and body["message"]
    return answer.status_code, body["code"]


@pytest.mark.parametrize(
    ("start", "path", "payload", "signature"),
    [
        (
            "2026-06-08T00:00:00Z\nnonce-1\nGET",
            "/v3/account",
            "asset=OX",
            "8N+Ov1G0potibfVQkbwA5ZaOGPASA7I3xnxqR+F+DTw=",
        ),
        (
            "2026-06-08T00:00:00\n1\nDELETE",
            "/v3/orders/cancel-all",
            "{}",
            "fB9XgYbODK/9fIyRKYaTRPg/SL1hTcxBHOfu6lHQXes=",
        ),
        ("2026-06-08T00:00:00\n1\nGET", "/v3/orders/working", "", "5/LSLgJN1APmqEx2EvX9XzTUocfaZkq5Dm+vJcbWRN8="),
    ],
)
def test_documented_rest_signatures_are_right(start: str, path: str, payload: str, signature: str) -> None:
    stamp, nonce, verb = start.split("\n")
    text = wire.rest_text(stamp, nonce, verb, "api.ox.fun", path, payload.encode())
    assert is_signed(b"secret", text, "sha256", signature)
    assert not is_signed(b"secreT", text, "sha256", signature)
    assert not is_signed(b"secret", text + b"\n", "sha256", signature)


def test_documented_login_signature_is_right() -> None:
    assert is_signed(
        b"secret", wire.login_text("1700000000000"), "sha256", "qNyCEuPA4GPpD3gYnapr/2/0OOe1C+GUn5QWMIV8GoY="
    )


async def test_cancel_all_is_queued_and_done_later(sim: Sim) -> None:
    await sim.post("/options", venue="oxfun", engine_ms=250)
    await sim.rest_orders("oxfun", 3)
    assert data(await sim.oxfun_cancel_all()) == {"notice": "Orders queued for cancelation"}
    assert [row["status"] for row in data(await sim.oxfun("GET", "/v3/orders/working"))] == ["OPEN"] * 3
    await sim.until_open("oxfun", 0)
    assert await sim.states("oxfun") == {"CANCELED_BY_USER": 3}
    assert data(await sim.oxfun_cancel_all()) == {"notice": "No working orders found"}
    assert data(await sim.oxfun("GET", "/v3/orders/working")) == []


async def test_cancel_all_of_one_market_leaves_the_others(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 2)
    await sim.rest_orders("oxfun", 1, symbol="ETH-USD-SWAP-LIN")
    body = json.dumps({"marketCode": "BTC-USD-SWAP-LIN"})
    data(await sim.oxfun("DELETE", "/v3/orders/cancel-all", body=body))
    await sim.until_open("oxfun", 1)
    [row] = data(await sim.oxfun("GET", "/v3/orders/working", query="marketCode=ETH-USD-SWAP-LIN"))
    assert row["marketCode"] == "ETH-USD-SWAP-LIN"


async def test_cancel_all_takes_stop_orders_along(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 1, kind="stop")
    [row] = data(await sim.oxfun("GET", "/v3/orders/working"))
    assert row["orderType"] == "STOP_LIMIT" and row["stopPrice"] and row["isTriggered"] is False
    data(await sim.oxfun_cancel_all())
    await sim.until_open("oxfun", 0)


async def test_a_body_may_be_left_out(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 1)
    assert "queued" in data(await sim.oxfun("DELETE", "/v3/orders/cancel-all"))["notice"]


async def test_the_old_cancel_path_answers_in_its_own_words(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 1)
    body = (await sim.oxfun("DELETE", "/v2/cancel/orders")).json()
    assert body["event"] == "orders" and "queued for cancellation" in body["data"]["msg"]
    await sim.until_open("oxfun", 0)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"Signature": "AAAA"}, 401, "20000"),
        ({"Nonce": "2"}, 401, "20000"),
        ({"AccessKey": "nobody"}, 401, "20025"),
        ({"Timestamp": ""}, 401, "30001"),
        ({"Timestamp": "1700000000000"}, 400, "20001"),
        ({"Content-Type": "text/plain"}, 400, "20001"),
    ],
)
async def test_wrong_headers_are_refused(sim: Sim, change: dict[str, str], status: int, code: str) -> None:
    await sim.rest_orders("oxfun", 1)
    answer = await sim.oxfun("DELETE", "/v3/orders/cancel-all", body="{}", change=change)
    assert refusal(answer) == (status, code)
    assert await sim.open("oxfun") == 1
    assert (await sim.requests("oxfun"))[-1]["ok"] is False


async def test_the_query_is_signed_on_get_and_the_body_on_delete(sim: Sim) -> None:
    query, body = "marketCode=BCH-USDT", '{"marketCode":"BCH-USDT"}'
    assert (await sim.oxfun("GET", "/v3/orders/working", query=query)).status_code == 200
    assert refusal(await sim.oxfun("GET", "/v3/orders/working", query=query, signed=""))[1] == "20000"
    assert (await sim.oxfun("DELETE", "/v3/orders/cancel-all", body=body)).status_code == 200
    assert refusal(await sim.oxfun("DELETE", "/v3/orders/cancel-all", body=body, signed=""))[1] == "20000"
    assert refusal(await sim.oxfun("DELETE", "/v3/orders/cancel-all", body=body, signed=body + " "))[1] == "20000"


async def test_a_clock_that_is_off_gets_20024(sim: Sim) -> None:
    for seconds in (-45, 45):
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        assert refusal(await sim.oxfun("GET", "/v3/account", at=at)) == (401, "20024")
    await sim.post("/options", venue="oxfun", max_skew_s=60)
    assert (await sim.oxfun("GET", "/v3/account", at=at)).status_code == 200


async def test_a_nonce_may_be_good_for_one_request_only(sim: Sim) -> None:
    assert (await sim.oxfun("GET", "/v3/account")).status_code == 200
    await sim.post("/options", venue="oxfun", nonce_unique=True)
    assert (await sim.oxfun("GET", "/v3/account", nonce="7")).status_code == 200
    assert refusal(await sim.oxfun("GET", "/v3/account", nonce="7"))[0] == 401


async def test_errors_may_come_with_status_200(sim: Sim) -> None:
    await sim.post("/options", venue="oxfun", error_status=200)
    assert refusal(await sim.oxfun("GET", "/v3/account", change={"Signature": "AAAA"})) == (200, "20000")


async def test_the_101st_request_of_a_second_is_429(sim: Sim) -> None:
    sent = [(await sim.oxfun("GET", "/v3/account")).status_code for _ in range(130)]
    lines = await sim.requests("oxfun")
    fast = lines[100]["t_ns"] - lines[0]["t_ns"] < 10**9
    assert sent[:100] == [200] * 100
    assert (sent[100] == 429) == fast
    await sim.post("/options", venue="oxfun", limits="off")
    assert (await sim.oxfun("GET", "/v3/account")).status_code == 200


async def test_cancelling_by_id_answers_each_order(sim: Sim) -> None:
    [one] = await sim.rest_orders("oxfun", 1)
    orders = [
        {"marketCode": "BTC-USD-SWAP-LIN", "orderId": one},
        {"marketCode": "BTC-USD-SWAP-LIN", "orderId": "999"},
        {"marketCode": "ETH-USD-SWAP-LIN", "orderId": one},
        {"marketCode": "BTC-USD-SWAP-LIN"},
    ]
    body = {"timestamp": int(time.time() * 1000), "recvWindow": 5000, "responseType": "FULL", "orders": orders}
    rows = data(await sim.oxfun("DELETE", "/v3/orders/cancel", body=json.dumps(body)))
    assert [row["submitted"] for row in rows] == [True, False, False, False]
    assert rows[0]["notice"] == "OrderClosed" and rows[0]["status"] == "CANCELED_BY_USER"
    assert [row["code"] for row in rows[1:]] == ["40035", "40035", "20010"]
    assert rows[1]["message"] == "Open order not found with id"
    assert await sim.open("oxfun") == 0


async def test_nine_orders_are_too_many_for_one_cancel(sim: Sim) -> None:
    ids = await sim.rest_orders("oxfun", 9)
    orders = [{"marketCode": "BTC-USD-SWAP-LIN", "orderId": order_id} for order_id in ids]
    assert refusal(await sim.oxfun("DELETE", "/v3/orders/cancel", body=json.dumps({"orders": orders})))[1] == "20001"
    assert len(data(await sim.oxfun("DELETE", "/v3/orders/cancel", body=json.dumps({"orders": orders[:8]})))) == 8
    await sim.until_open("oxfun", 1)


async def test_a_cancel_whose_window_has_passed_is_dropped(sim: Sim) -> None:
    [one] = await sim.rest_orders("oxfun", 1)
    orders = [{"marketCode": "BTC-USD-SWAP-LIN", "orderId": one}]
    body = {"timestamp": int(time.time() * 1000) - 1500, "orders": orders}
    [row] = data(await sim.oxfun("DELETE", "/v3/orders/cancel", body=json.dumps(body)))
    assert (row["submitted"], row["code"]) == (False, "100015")
    [row] = data(await sim.oxfun("DELETE", "/v3/orders/cancel", body=json.dumps(body | {"recvWindow": 5000})))
    assert row["submitted"] is True


async def test_orders_are_placed_listed_filled_and_looked_up(sim: Sim) -> None:
    limit = {"clientOrderId": "42", "marketCode": "BTC-USD-SWAP-LIN", "side": "SELL", "quantity": "0.3"}
    limit |= {"timeInForce": "GTC", "orderType": "LIMIT", "price": "31000.5"}
    market = {"marketCode": "BTC-USD-SWAP-LIN", "side": "SELL", "quantity": "0.2", "orderType": "MARKET"}
    bad = {"marketCode": "BTC-USD-SWAP-LIN", "side": "UP", "quantity": "1", "orderType": "MARKET"}
    body = json.dumps({"responseType": "FULL", "orders": [limit, market, bad]})
    rows = data(await sim.oxfun("POST", "/v3/orders/place", body=body))
    assert [row["submitted"] for row in rows] == [True, True, False]
    [working] = data(await sim.oxfun("GET", "/v3/orders/working"))
    assert (working["clientOrderId"], working["side"], working["price"]) == ("42", "SELL", "31000.5")
    [held] = data(await sim.oxfun("GET", "/v3/positions"))
    assert held["positions"][0]["position"] == "-0.2"
    await sim.oxfun_cancel_all()
    await sim.until_open("oxfun", 0)
    status = data(await sim.oxfun("GET", "/v3/orders/status", query=f"orderId={working['orderId']}"))
    assert (status["status"], status["remainQuantity"]) == ("CANCELED", "0.3")


async def test_orders_that_cannot_be_placed_are_refused_one_by_one(sim: Sim) -> None:
    good = {"marketCode": "BTC-USD-SWAP-LIN", "side": "BUY", "quantity": "1", "orderType": "LIMIT", "price": "1"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"marketCode": ""}, "20011"),
        ({"quantity": "0"}, "20006"),
        ({"quantity": "many"}, "20001"),
        ({"orderType": "STOP_LIMIT"}, "20001"),
        ({"orderType": "ICEBERG"}, "20001"),
    ]
    body = json.dumps({"orders": [good | change for change, _ in wrong]})
    rows = data(await sim.oxfun("POST", "/v3/orders/place", body=body))
    assert [(row["submitted"], row["code"]) for row in rows] == [(False, code) for _, code in wrong]
    late = json.dumps({"timestamp": 1, "orders": [good]})
    assert data(await sim.oxfun("POST", "/v3/orders/place", body=late))[0]["code"] == "100015"
    assert refusal(await sim.oxfun("POST", "/v3/orders/place", body='{"orders":[]}'))[1] == "30001"
    assert refusal(await sim.oxfun("POST", "/v3/orders/place", body="{"))[1] == "30001"
    assert await sim.open("oxfun") == 0


async def test_a_body_that_is_no_object_cancels_nothing(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 1)
    for body in ("[]", "{", '{"marketCode":7}'):
        assert refusal(await sim.oxfun("DELETE", "/v3/orders/cancel-all", body=body))[1] == "20001"
    assert (await sim.oxfun("DELETE", "/v3/orders/all", body="{}")).status_code == 404
    assert await sim.open("oxfun") == 1


async def test_the_working_list_may_have_a_longest_page(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 5)
    await sim.post("/options", venue="oxfun", page_limit=2)
    assert len(data(await sim.oxfun("GET", "/v3/orders/working"))) == 2


async def test_equity_is_moved_and_pushed(sim: Sim) -> None:
    async with sim.oxfun_socket("balance:all", "position:all") as ws:
        await sim.post("/equity", venue="oxfun", equity="95000.5", unrealised=-1200)
        balance, position = await receive(ws), await receive(ws)
    [account] = data(await sim.oxfun("GET", "/v3/account"))
    assert account["collateral"] == "95000.5"
    assert account["balances"][0]["total"] == balance["data"][0]["total"] == "96200.5"
    assert account["positions"][0]["positionPnl"] == position["data"][0]["positionPnl"] == "-1200"
    [money] = data(await sim.oxfun("GET", "/v3/balances"))
    assert money["balances"][0]["asset"] == "OX"


async def test_accounts_do_not_see_each_other() -> None:
    async with running("oxfun", accounts=3) as sim:
        entry = sim.venue("oxfun")
        others = entry["accounts"]
        assert [entry["name"], *(login["name"] for login in others)] == ["oxfun-1", "oxfun-2", "oxfun-3"]
        await sim.rest_orders("oxfun", 2)
        await sim.rest_orders("oxfun", 5, account="oxfun-2")
        data(await sim.oxfun("DELETE", "/v3/orders/cancel-all", body="{}", login=others[0]))
        await sim.until_open("oxfun", 2)
        assert (await sim.get("/orders", venue="oxfun", account="oxfun-2"))["open"] == 0
        assert (await sim.requests("oxfun"))[-1]["account"] == "oxfun-2"


async def test_ten_thousand_orders_are_listed_and_cancelled(sim: Sim) -> None:
    await sim.rest_orders("oxfun", 10_000)
    assert len(data(await sim.oxfun("GET", "/v3/orders/working"))) == 10_000
    async with sim.oxfun_socket("order:all") as ws:
        started = time.monotonic()
        data(await sim.oxfun_cancel_all())
        closed: set[str] = set()
        while len(closed) < 10_000:
            frame = await receive(ws)
            closed |= {row["orderId"] for row in frame.get("data", [])}
        assert time.monotonic() - started < 5
    assert await sim.states("oxfun") == {"CANCELED_BY_USER": 10_000}
