"""Hold Deribit's looks at orders by label, margins, closed positions and trades against docs.deribit.com."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from .clients import running
from .test_deribit import Derib

pytestmark = pytest.mark.anyio
MARKET = "BTC-PERPETUAL"


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[Derib]:
    async with running("deribit", options={"deribit": {"tier": "unlimited"}}) as sim:
        yield Derib(sim)


async def result(client: Derib, method: str, **params: Any) -> Any:
    answer = (await client.get(f"private/{method}", **params)).json()
    assert "error" not in answer, answer
    return answer["result"]


async def test_orders_of_a_label_are_found_open_and_ended(client: Derib) -> None:
    order = {"instrument_name": MARKET, "amount": 10, "price": 100}
    first, second = [(await result(client, "buy", label="mine", **order))["order"] for _ in range(2)]
    await result(client, "buy", label="other", **order)
    await result(client, "cancel", order_id=first["order_id"])
    rows = await result(client, "get_order_state_by_label", currency="BTC", label="mine")
    assert [(row["order_id"], row["order_state"]) for row in rows] == [
        (first["order_id"], "cancelled"), (second["order_id"], "open"),
    ]  # fmt: skip
    assert await result(client, "get_order_state_by_label", currency="ETH", label="mine") == []
    assert (await client.get("private/get_order_state_by_label", currency="BTC")).json()["error"]["code"] == -32602


async def test_a_position_is_closed_by_an_order_that_only_reduces(client: Derib) -> None:
    refused = await client.get("private/close_position", instrument_name=MARKET, type="market")
    assert refused.json()["error"]["code"] == 11030
    await result(client, "buy", instrument_name=MARKET, amount=30, type="market")
    rests = (await result(client, "close_position", instrument_name=MARKET, type="limit", price=90_000))["order"]
    assert (rests["direction"], rests["amount"], rests["reduce_only"], rests["order_state"]) == (
        "sell",
        30,
        True,
        "open",
    )
    closed = await result(client, "close_position", instrument_name=MARKET, type="market")
    assert closed["order"]["order_state"] == "filled" and len(closed["trades"]) == 1
    assert await result(client, "get_positions") == []
    for wrong in ({"type": "limit"}, {"type": "stop_limit", "price": 1}, {}):
        answer = await client.get("private/close_position", instrument_name=MARKET, **wrong)
        assert answer.json()["error"]["code"] in (-32602, 11030)


async def test_a_trade_has_each_documented_field(client: Derib) -> None:
    made = await result(client, "buy", instrument_name=MARKET, amount=10, type="market")
    [row] = made["trades"]
    assert row.keys() >= {
        "trade_seq", "matching_id", "tick_direction", "index_price", "mark_price", "fee_currency", "liquidity",
        "post_only", "reduce_only", "api", "mmp", "profit_loss",
    }  # fmt: skip
    assert (row["matching_id"], row["fee_currency"], row["liquidity"]) == (None, "BTC", "T")
    page = await result(client, "get_user_trades_by_instrument", instrument_name=MARKET)
    assert page["trades"] == [row] == await result(client, "get_user_trades_by_order", order_id=row["order_id"])
    await result(client, "buy", instrument_name="SOL_USDC-PERPETUAL", amount=10, type="market")
    [linear] = (await result(client, "get_user_trades_by_currency", currency="USDC"))["trades"]
    assert linear["fee_currency"] == "USDC"


async def test_margins_are_of_a_market_an_amount_and_a_price(client: Derib) -> None:
    shown = await result(client, "get_margins", instrument_name=MARKET, amount=10, price=100)
    assert {"buy", "sell", "min_price", "max_price"} < shown.keys() and shown["min_price"] < 100 < shown["max_price"]
    whole: dict[str, Any] = {"instrument_name": MARKET, "amount": 10, "price": 100}
    for missing in whole:
        asked = {name: value for name, value in whole.items() if name != missing}
        assert (await client.get("private/get_margins", **asked)).json()["error"]["code"] == -32602
