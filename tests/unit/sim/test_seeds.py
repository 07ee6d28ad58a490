"""Run the seeds' own client code, unchanged but for address, credentials and indentation."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.protocol import State

from .clients import Sim, roxom_headers, running

pytestmark = pytest.mark.anyio

ROXOM = """
def emergency_cancel_all():
    \"\"\"Emergency function to cancel all active orders.\"\"\"

    try:
        response = requests.post(
            'https://api.roxom.com/api/v1/orders/cancel-all',
            headers=headers,
            timeout=5
        )

        if response.status_code == 200:
            result = response.json()
            print(f"Emergency cancel: {len(result['data']['cancelledOrderIds'])} orders canceled")
            return True
        else:
            print(f"Emergency cancel failed: {response.status_code}")
            return False

    except Exception as e:
        print(f"Emergency cancel error: {e}")
        return False
"""

OXFUN = """
ts = str(int(time.time() * 1000))
sig_payload = (ts+'GET/auth/self/verify').encode('utf-8')
signature = base64.b64encode(hmac.new(api_secret.encode('utf-8'), sig_payload, hashlib.sha256).digest()).decode('utf-8')
auth = \\
{
"op": "login",
"tag": 1,
"data": {
"apiKey": api_key,
"timestamp": ts,
"signature": signature
}
}
cancel_order = \\
{
"op": "cancelorder",
"tag": 456,
"data": {
"marketCode": "BTC-USD-SWAP-LIN",
"orderId": 12
}
}
url= 'wss://api.ox.fun/v2/websocket'
async def subscribe():
    async with websockets.connect(url) as ws:
        while True:
            if not ws.open:
                print("websocket disconnected")
                ws = await websockets.connect(url)
            response = await ws.recv()
            data = json.loads(response)
            print(data)
            if 'nonce' in data:
                await ws.send(json.dumps(auth))
            elif 'event' in data and data['event'] == 'login':
                if data['success'] == True:
                    await ws.send(json.dumps(cancel_order))
            elif 'event' in data and data['event'] == 'cancelorder':
                continue
"""


class _Opened(ClientConnection):
    """Have `open`, as connections had when the seed was written."""

    @property
    def open(self) -> bool:
        return self.state is State.OPEN


@pytest.mark.parametrize("auth", ["rsa", "api-key"])
async def test_roxoms_emergency_snippet_cancels_everything(auth: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with running("roxom", options={"roxom": {"auth": auth}}) as sim:
        await sim.rest_orders("roxom", 4)
        entry = sim.venue("roxom")
        client = httpx.Client(verify=sim.tls, trust_env=False)
        names: dict[str, Any] = {
            "requests": client,  # its post() is called as that of requests would be
            "headers": roxom_headers(entry, "POST:/api/v1/orders/cancel-all"),
        }
        exec(ROXOM.replace("https://api.roxom.com", entry["rest_url"]), names)  # noqa: S102 - the seed's own text
        with client:
            assert await anyio.to_thread.run_sync(names["emergency_cancel_all"]) is True
        assert "4 orders canceled" in capsys.readouterr().out
        assert await sim.open("roxom") == 0


async def test_oxfuns_login_and_cancel_dialogue_cancels_order_12(sim: Sim, capsys: pytest.CaptureFixture[str]) -> None:
    assert await sim.rest_orders("oxfun", 1, ids=[12]) == ["12"]
    entry = sim.venue("oxfun")

    def connect(url: str) -> websockets.connect:
        return websockets.connect(url, ssl=sim.tls, create_connection=_Opened)

    names: dict[str, Any] = {"time": time, "base64": base64, "hmac": hmac, "hashlib": hashlib, "json": json}
    names |= entry["credentials"] | {"websockets": SimpleNamespace(connect=connect)}
    exec(OXFUN.replace("wss://api.ox.fun/v2/websocket", entry["ws_url"]), names)  # noqa: S102 - the seed's own text
    dialogue = asyncio.create_task(names["subscribe"]())
    await sim.until_open("oxfun", 0)
    dialogue.cancel()
    await asyncio.wait([dialogue])
    printed = capsys.readouterr().out
    assert "'event': 'cancelorder', 'submitted': True, 'tag': '456'" in printed
    assert "'clientOrderId':" in printed and "'orderId': '12'" in printed


async def test_oxfuns_dialogue_hears_that_order_12_is_not_found(sim: Sim) -> None:
    async with sim.oxfun_socket() as ws:
        await ws.send(
            json.dumps({"op": "cancelorder", "tag": 456, "data": {"marketCode": "BTC-USD-SWAP-LIN", "orderId": 12}})
        )
        answer = json.loads(await ws.recv())
    assert answer.pop("timestamp").isdigit()
    assert answer == {  # oxfun.md §4.1
        "event": "cancelorder",
        "submitted": False,
        "tag": "456",
        "message": "Open order not found",
        "code": "100005",
        "data": {"marketCode": "BTC-USD-SWAP-LIN", "orderId": "12"},
    }
