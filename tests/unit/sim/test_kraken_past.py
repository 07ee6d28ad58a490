"""Hold the history API and the settings of Kraken derivatives' simulator against docs/venues/kraken.md §4.3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from .clients import Sim, receive, running
from .test_kraken_futures import Futures, sign, subscribe

pytestmark = pytest.mark.anyio
VENUE = "kraken-futures"


@pytest.fixture
async def sim(anyio_backend: object) -> AsyncIterator[Sim]:
    async with running(VENUE) as started:
        yield started


async def ask(futures: Futures, call: str, *, signed_path: str = "", version: str = "v3", **values: Any) -> Any:
    """Request a call of the history API; `signed_path` replaces the path in the signed text."""
    path, query = f"/api/history/{version}/{call}", urlencode(values, doseq=True)
    authent = sign(futures.keys["api_secret"], query + (signed_path or path))
    headers = {"APIKey": futures.keys["api_key"], "Authent": authent}
    url = f"{futures.entry['rest_url']}{path}" + (f"?{query}" if query else "")
    return await futures.sim.web.get(url, headers=headers)


async def logs(futures: Futures, **values: Any) -> list[dict[str, Any]]:
    answer: httpx.Response = await ask(futures, "account-log", **values)
    assert answer.status_code == 200
    rows: list[dict[str, Any]] = answer.json()["logs"]
    return rows


async def test_a_transfer_is_pushed_and_in_the_log_under_one_number(sim: Sim) -> None:
    futures = Futures(sim)
    await sim.post("/options", venue=VENUE, equity_moves="transfer")
    async with futures.v1() as (ws, signed):
        assert (await subscribe(ws, "account_log", signed))["event"] == "subscribed"
        assert await receive(ws) == {"feed": "account_log_snapshot", "logs": []}
        await sim.post("/equity", venue=VENUE, equity=99_400)
        pushed = (await receive(ws))["new_entry"]
    [row] = await logs(futures)
    shared = ("id", "info", "asset", "margin_account", "old_balance", "new_balance", "booking_uid", "date")
    assert [pushed[name] for name in shared] == [row[name] for name in shared]
    assert [row[name] for name in shared[:6]] == [1, "cross-exchange transfer", "usd", "flex", 100_000.0, 99_400.0]
    assert row["execution"] is None and pushed["execution"] == ""  # the feed has no null
    async with futures.v1() as (ws, signed):
        await subscribe(ws, "account_log", signed)
        assert [entry["id"] for entry in (await receive(ws))["logs"]] == [1]


async def test_money_that_trading_made_is_no_transfer(sim: Sim) -> None:
    futures = Futures(sim)
    await sim.post("/equity", venue=VENUE, equity=99_400)
    await sim.post("/equity", venue=VENUE, equity=99_900, unrealised=500)  # the cash stays
    [row] = await logs(futures)
    assert (row["info"], row["realized_pnl"]) == ("futures trade", -600.0)


async def test_the_log_is_read_by_number_by_time_by_kind_and_in_either_order(sim: Sim) -> None:
    futures = Futures(sim)
    for equity, moves in ((99_000, "transfer"), (98_000, "trade"), (97_000, "transfer")):
        await sim.post("/options", venue=VENUE, equity_moves=moves)
        await sim.post("/equity", venue=VENUE, equity=equity)

    async def numbers(**values: Any) -> list[int]:
        return [row["id"] for row in await logs(futures, **values)]

    assert await numbers() == [3, 2, 1]
    assert await numbers(sort="asc", count=2) == [1, 2]
    assert await numbers(**{"from": 2, "sort": "asc"}) == [2, 3]
    assert await numbers(**{"from": 2, "to": 2}) == [2]
    assert await numbers(info=["cross-exchange transfer", "transfer"]) == [3, 1]
    last_ms = round(datetime.fromisoformat((await logs(futures))[0]["date"]).timestamp() * 1000)
    assert 3 in await numbers(since=last_ms) and await numbers(before=last_ms - 60_000) == []
    assert await numbers(since=last_ms + 1) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"info": "deposit"},
        {"sort": "up"},
        {"count": 0},
        {"count": "many"},
        {"from": "-1"},
        {"from": 0},
        {"since": "1.5"},
    ],
)
async def test_an_argument_that_no_document_has_is_refused(wrong: dict[str, Any], sim: Sim) -> None:
    assert (await ask(Futures(sim), "account-log", **wrong)).json()["error"] == "invalidArgument"


async def test_the_whole_path_is_signed(sim: Sim) -> None:
    futures = Futures(sim)
    for wrong in ("/api/v3/account-log", "/v3/account-log", "/api/history/v2/account-log"):
        answer = await ask(futures, "account-log", signed_path=wrong)
        assert answer.json()["error"] == "authenticationError"
    assert (await ask(futures, "account-log", version="v2")).json()["logs"] == []


async def test_an_order_s_life_is_in_the_history(sim: Sim) -> None:
    futures = Futures(sim)
    order = {"orderType": "lmt", "symbol": "PF_XBTUSD", "side": "buy", "size": 2, "limitPrice": 100, "cliOrdId": "mine"}
    placed = (await futures.post("sendorder", **order))["sendStatus"]["order_id"]
    await futures.post("editorder", orderId=placed, limitPrice=90)
    await futures.post("cancelorder", order_id=placed)
    bought = (await futures.post("sendorder", **{**order, "orderType": "mkt"}))["sendStatus"]["order_id"]
    whole = (await ask(futures, "orders", sort="asc")).json()
    names = [next(iter(element["event"])) for element in whole["elements"]]
    assert names == ["OrderPlaced", "OrderUpdated", "OrderCancelled", "OrderPlaced", "OrderUpdated"]
    assert whole["len"] == 5 and "continuationToken" not in whole
    edit, cancel, fill = (next(iter(whole["elements"][at]["event"].values())) for at in (1, 2, 4))
    assert (edit["oldOrder"]["limitPrice"], edit["newOrder"]["limitPrice"], edit["reason"]) == (
        "100", "90", "edited_by_user")  # fmt: skip
    assert [cancel["order"][name] for name in ("uid", "direction", "quantity", "clientId")] == [
        placed, "Buy", "2", "mine"]  # fmt: skip
    assert [fill["newOrder"][name] for name in ("uid", "filled")] == [bought, "2"] and fill["reason"] == "full_fill"
    [trade] = (await ask(futures, "executions")).json()["elements"]
    assert trade["event"]["Execution"]["execution"]["order"]["uid"] == bought
    [public] = (await sim.web.get(f"{futures.entry['rest_url']}/api/history/v3/market/PF_XBTUSD/executions")).json()[
        "elements"
    ]
    assert "accountUid" not in public["event"]["Execution"]["execution"]["makerOrder"]
    cash, position = await logs(futures, sort="asc")
    assert (cash["asset"], position["asset"], position["new_balance"]) == ("usd", "pf_xbtusd", 2.0)


async def test_a_trigger_has_a_history_of_its_own(sim: Sim) -> None:
    futures = Futures(sim)
    [stop] = await sim.rest_orders(VENUE, 1, kind="stop")
    await futures.post("cancelallorders")
    elements = (await ask(futures, "triggers", sort="asc")).json()["elements"]
    assert [next(iter(element["event"])) for element in elements] == ["OrderTriggerPlaced", "OrderTriggerCancelled"]
    assert elements[1]["event"]["OrderTriggerCancelled"]["order"]["uid"] == stop
    assert (await ask(futures, "orders")).json()["elements"] == []


async def test_a_page_ends_with_a_token_for_the_next_one_in_the_same_order(sim: Sim) -> None:
    futures = Futures(sim)
    ids = await sim.rest_orders(VENUE, 3)
    await futures.post("cancelallorders")
    first = (await ask(futures, "orders", closed="false", sort="asc", count=2)).json()
    token = first["continuationToken"]
    second = (await ask(futures, "orders", closed="false", sort="asc", count=2, continuation_token=token)).json()
    found = [each["event"]["OrderPlaced"]["order"]["uid"] for page in (first, second) for each in page["elements"]]
    assert found == ids and "continuationToken" not in second
    turned = await ask(futures, "orders", continuation_token=token)
    assert turned.json()["error"] == "invalidArgument"
    assert (await ask(futures, "orders", tradeable="PF_ETHUSD")).json()["len"] == 0


async def test_the_history_s_pool_is_apart_and_counts_rows(sim: Sim) -> None:
    futures = Futures(sim)
    await sim.post("/options", venue=VENUE, history_pool=10)
    assert (await ask(futures, "account-log")).status_code == 200  # 500 rows cost 3
    assert (await ask(futures, "account-log", count=5000)).status_code == 200  # 6
    assert (await ask(futures, "account-log", count=25)).status_code == 200
    refused = await ask(futures, "account-log", count=26)  # 2
    assert (refused.status_code, refused.headers["rate-limit-reset"]) == (429, "120")
    assert (await futures.post("cancelallorders"))["result"] == "success"


async def test_settings_are_kept_for_each_contract(sim: Sim) -> None:
    futures = Futures(sim)

    async def put(call: str, **values: object) -> Any:
        return (await futures.send("PUT", call, urlencode(values))).json()

    assert (await put("leveragepreferences", symbol="pf_ethusd", maxLeverage=30))["result"] == "success"
    kept = (await futures.get("leveragepreferences"))["leveragePreferences"]
    assert kept == [{"symbol": "PF_ETHUSD", "maxLeverage": 30.0}]
    assert (await put("leveragepreferences", symbol="PF_ETHUSD"))["result"] == "success"
    assert (await futures.get("leveragepreferences"))["leveragePreferences"] == []
    for values, error in (
        ({"maxLeverage": 5}, "requiredArgumentMissing"),
        ({"symbol": "PF_NONE", "maxLeverage": 5}, "contractNotFound"),
        ({"symbol": "PF_ETHUSD", "maxLeverage": 0}, "invalidArgument"),
        ({"symbol": "PF_ETHUSD", "maxLeverage": 500}, "invalidArgument"),
    ):
        assert (await put("leveragepreferences", **values))["error"] == error
    assert (await put("pnlpreferences", symbol="PF_XBTUSD", pnlPreference="XBT"))["result"] == "success"
    assert (await futures.get("pnlpreferences"))["preferences"] == [{"symbol": "PF_XBTUSD", "pnlCurrency": "XBT"}]
    schedules, volumes = await futures.get("feeschedules"), await futures.get("feeschedules/volumes")
    assert [each["uid"] for each in schedules["feeSchedules"]] == list(volumes["volumesByFeeSchedule"])


async def test_fills_before_a_time_cost_more(sim: Sim) -> None:
    futures = Futures(sim)
    order = {"orderType": "mkt", "symbol": "PF_XBTUSD", "side": "buy", "size": 1}
    await futures.post("sendorder", **order)
    [fill] = (await futures.get("fills"))["fills"]
    await sim.post("/options", venue=VENUE, pool=30)  # and the pool is empty
    for last, found in (("2020-01-01T00:00:00.000Z", 0), ("2100-01-01T00:00:00.000Z", None)):
        answer = (await futures.send("GET", "fills", urlencode({"lastFillTime": last}))).json()
        assert answer.get("error") == "apiLimitExceeded" if found is None else answer["fills"] == []
    assert (await futures.get("fills"))["fills"] == [fill]
