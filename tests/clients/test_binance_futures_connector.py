"""Binance's older futures connector at the simulators, unchanged but for address and authority."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .stage import Stage, until

LIMIT = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": 100}
FUTURES = {
    "binance-usdm": ("um_futures", "UMFutures", "BTCUSDT", "/private"),
    "binance-coinm": ("cm_futures", "CMFutures", "BTCUSD_PERP", ""),
}


@contextmanager
def listening(entry: Any, package: str, path: str, key: str) -> Iterator[list[Any]]:
    """Open the user stream as the connector does: a subscription to the listenKey."""
    module = pytest.importorskip(f"binance.websocket.{package}.websocket_client")
    kind, said = getattr(module, f"{'UM' if package == 'um_futures' else 'CM'}FuturesWebsocketClient"), []
    address = f"wss://{entry['rest_url'].partition('://')[2]}{path}"
    sdk = kind(stream_url=address, on_message=lambda socket, text: said.append(json.loads(text)))
    try:
        sdk.user_data(key, id=1)
        until(lambda: bool(said))
        assert said == [{"result": None, "id": 1}]
        yield said
    finally:
        sdk.stop()


@pytest.mark.parametrize("venue", FUTURES)
def test_the_futures_connector_trades_lists_cancels_and_hears_of_it(venue: str, stage: Stage) -> None:
    package, name, symbol, path = FUTURES[venue]
    entry = stage.venue(venue)
    keys = {"key": entry["credentials"]["api_key"], "secret": entry["credentials"]["api_secret"]}
    sdk = getattr(pytest.importorskip(f"binance.{package}"), name)(**keys, base_url=entry["rest_url"], timeout=5)
    assert sdk.account()["canTrade"] and sdk.balance() and sdk.get_position_mode() == {"dualSidePosition": False}
    with pytest.raises(Exception, match="-4059"):
        sdk.change_position_mode("false")
    with listening(entry, package, path, sdk.new_listen_key()["listenKey"]) as said:
        placed = sdk.new_order(symbol=symbol, quantity=1, **LIMIT)
        assert sdk.query_order(symbol, orderId=placed["orderId"])["status"] == "NEW"
        assert sdk.modify_order(symbol, "BUY", quantity=2, price=101, orderId=placed["orderId"])["origQty"] == "2"
        assert sdk.cancel_order(symbol, orderId=placed["orderId"])["status"] == "CANCELED"
        stage.rest(venue, 2)
        assert len(sdk.get_orders(symbol=symbol)) == 2 <= len(sdk.get_all_orders(symbol=symbol))
        assert sdk.cancel_open_orders(symbol)["code"] == 200
        until(lambda: sum(message.get("o", {}).get("X") == "CANCELED" for message in said) == 3)
    assert {message["o"]["x"] for message in said[1:]} == {"NEW", "AMENDMENT", "CANCELED"}
    assert sdk.get_account_trades(symbol=symbol) == [] == sdk.force_orders() and stage.open(venue) == 0
