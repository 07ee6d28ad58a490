"""Hold Kraken's calls of the past against docs.kraken.com, by raw requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from .clients import running
from .test_kraken import Kraken

pytestmark = pytest.mark.anyio
ORDER = {"pair": "XBTUSD", "type": "buy", "volume": "0.01"}


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[Kraken]:
    async with running("kraken", options={"kraken": {"tier": "unlimited", "equity_moves": "transfer"}}) as sim:
        yield Kraken(sim)


async def test_a_trade_is_listed_and_looked_up_with_every_documented_field(client: Kraken) -> None:
    [first], [second] = [(await client.result("AddOrder", ordertype="market", **ORDER))["txid"] for _ in range(2)]
    history = await client.result("TradesHistory")
    ids = list(history["trades"])
    assert [history["trades"][trade]["ordertxid"] for trade in ids] == [second, first] and history["count"] == 2
    row = history["trades"][ids[0]]
    assert row.keys() >= {"postxid", "margin", "leverage", "misc", "trade_id", "maker", "ledgers", "cost", "fee", "vol"}
    assert (row["maker"], row["ordertype"], row["pair"]) == (False, "market", "XXBTZUSD")
    assert await client.result("QueryTrades", txid=f"{ids[1]},{ids[0]}") == {
        trade: history["trades"][trade] for trade in ids
    }
    paged = await client.result("TradesHistory", ofs="1")
    assert (list(paged["trades"]), paged["count"]) == (ids[1:], 2)
    for wrong in ("", "TAAAAA-AAAAA-AAAAAA", ",".join([ids[0]] * 21)):
        assert await client.error("QueryTrades", txid=wrong) == "EGeneral:Invalid arguments:txid"


async def test_a_ledger_entry_is_looked_up_by_its_id(client: Kraken) -> None:
    await client.sim.post("/equity", venue="kraken", equity=100_500)
    [(name, row)] = (await client.result("Ledgers"))["ledger"].items()
    assert await client.result("QueryLedgers", id=name) == {name: row}
    assert await client.error("QueryLedgers", id="L4UESK-KG3EQ-UFO4T5") == "EGeneral:Invalid arguments:id"


async def test_the_amends_of_an_order_are_listed_behind_the_original(client: Kraken) -> None:
    [one] = (await client.result("AddOrder", ordertype="limit", price="100", **ORDER))["txid"]
    assert await client.result("OrderAmends", order_id=one) == {"count": 0, "amends": []}
    amended = await client.result("AmendOrder", txid=one, order_qty="0.02", limit_price="101")
    rows: list[dict[str, Any]] = (await client.result("OrderAmends", order_id=one))["amends"]
    assert [(row["amend_type"], row["order_qty"], row["limit_price"]) for row in rows] == [
        ("original", "0.01000000", "100"), ("user", "0.02000000", "101"),
    ]  # fmt: skip
    assert rows[1]["amend_id"] == amended["amend_id"] and rows[0]["timestamp"] < rows[1]["timestamp"]
    assert await client.error("OrderAmends", order_id="x") == "EGeneral:Invalid arguments:order_id"
    assert await client.error("OrderAmends", order_id="OAAAAA-AAAAA-AAAAAA") == "EOrder:Unknown order"


async def test_candles_trades_and_spreads_are_of_a_pair(client: Kraken) -> None:
    candles = await client.public("OHLC?pair=XBTUSD&interval=5")
    rows = candles["XXBTZUSD"]
    assert len(rows) == 720 and {len(row) for row in rows} == {8} and rows[-1][0] - rows[-2][0] == 300
    assert candles["last"] == rows[-2][0]
    since = await client.public(f"OHLC?pair=XBTUSD&interval=5&since={candles['last']}")
    assert len(since["XXBTZUSD"]) == 1  # the candle that is not complete
    assert (await client.public("Trades?pair=XBTUSD&since=7")) == {"XXBTZUSD": [], "last": "7"}
    spread = await client.public("Spread?pair=XBTUSD")
    assert spread["XXBTZUSD"][0][0] == spread["last"]
    for path in ("OHLC?pair=NOSUCH", "OHLC?pair=XBTUSD&interval=2", "Trades", "Spread?pair=X"):
        answer = await client.sim.web.get(f"{client.entry['rest_url']}/0/public/{path}")
        assert answer.json()["error"] and "result" not in answer.json()
