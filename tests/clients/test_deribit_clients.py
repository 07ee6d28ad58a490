"""typed-deribit at the simulator, unchanged but for address and authority: HTTP with each proof, WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .stage import Stage


@pytest.mark.parametrize("way", ["token", "hmac", "socket"])
def test_typed_deribit_lists_places_and_cancels(way: str, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    base = pytest.importorskip("typed_deribit.core.base")
    kind = pytest.importorskip("typed_deribit").Deribit
    entry = stage.venue("deribit")
    monkeypatch.setattr(base, "resolve_http_base_url", lambda testnet: f"{entry['rest_url']}/api/v2")
    monkeypatch.setattr(base, "resolve_ws_url", lambda testnet: entry["ws_url"])
    keys = entry["credentials"]
    login: dict[str, Any] = {"client_id": keys["client_id"], "client_secret": keys["client_secret"]}
    stage.rest("deribit", 2)

    async def main() -> None:
        async with kind.new(**login, http_auth="hmac" if way == "hmac" else "token") as sdk:
            client = sdk.ws_client if way == "socket" else sdk.rpc_client
            ask = client.authed_request
            assert (await sdk.account.get_account_summary(currency="BTC"))["currency"] == "BTC"
            placed = await ask("private/buy", params={"instrument_name": "BTC-PERPETUAL", "amount": 10, "price": 100})
            assert len(await ask("private/get_open_orders", params={})) == 3
            await ask("private/cancel", params={"order_id": placed["order"]["order_id"]})
            assert await ask("private/cancel_all", params={}) == 2

    asyncio.run(asyncio.wait_for(main(), 15))
    assert stage.open("deribit") == 0
