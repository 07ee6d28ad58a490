"""Clients of the simulators that are independent of the product.

The tests of the simulators use them. Signatures are written a second time here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

import anyio
import httpx
import websockets
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from websockets.asyncio.client import ClientConnection

from kill_switch.sim import serve
from kill_switch.sim.main import Entry, Login, Options, Ready


def b64_hmac(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


class Sim:
    """Running simulators, and the clients of one test."""

    def __init__(self, ready: Ready, admin: httpx.AsyncClient, web: httpx.AsyncClient, tls: ssl.SSLContext) -> None:
        self.ready = ready
        self.admin = admin
        self.web = web
        self.tls = tls

    def venue(self, name: str) -> Entry:
        return self.ready["venues"][name]

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self.admin.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def get(self, path: str, **query: str) -> Any:
        answer = await self.admin.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def rest_orders(self, venue: str, count: int = 3, **more: Any) -> list[str]:
        ids: list[str] = (await self.post("/orders", venue=venue, count=count, **more))["ids"]
        return ids

    async def fault(self, venue: str, fault: str, **more: Any) -> None:
        await self.post("/faults", venue=venue, fault=fault, **more)

    async def clear(self, venue: str) -> None:
        assert (await self.admin.delete("/faults", params={"venue": venue})).status_code == 200

    async def open(self, venue: str) -> int:
        count: int = (await self.get("/orders", venue=venue))["open"]
        return count

    async def states(self, venue: str) -> dict[str, int]:
        states: dict[str, int] = (await self.get("/orders", venue=venue))["by_state"]
        return states

    async def requests(self, venue: str) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = await self.get("/requests", venue=venue)
        return lines

    async def until(self, what: Callable[[], Awaitable[bool]], within_s: float = 5.0) -> None:
        with anyio.fail_after(within_s):
            while True:
                if await what():
                    return
                await anyio.sleep(0.005)

    async def until_open(self, venue: str, count: int) -> None:
        async def reached() -> bool:
            return await self.open(venue) == count

        await self.until(reached)

    # OX.FUN

    async def oxfun(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: str = "",
        login: Login | Entry | None = None,
        at: datetime | None = None,
        nonce: str = "1",
        signed: str | None = None,
        change: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request signed as in oxfun.md §2.

        `signed` replaces the payload in the signed text, `change` replaces headers.
        """
        entry = self.venue("oxfun")
        credentials = (login or entry)["credentials"]
        stamp = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S")
        payload = signed if signed is not None else query if method == "GET" else body
        text = f"{stamp}\n{nonce}\n{method}\n127.0.0.1\n{path}\n{payload}"
        headers = {
            "AccessKey": credentials["api_key"],
            "Timestamp": stamp,
            "Signature": b64_hmac(credentials["api_secret"], text),
            "Nonce": nonce,
            "Content-Type": "application/json",
        }
        url = entry["rest_url"] + path + (f"?{query}" if query else "")
        return await self.web.request(method, url, content=body.encode(), headers=headers | (change or {}))

    async def oxfun_cancel_all(self) -> httpx.Response:
        return await self.oxfun("DELETE", "/v3/orders/cancel-all", body="{}")

    @asynccontextmanager
    async def oxfun_socket(self, *channels: str, login: bool = True) -> AsyncIterator[ClientConnection]:
        """Open a WebSocket, read the greeting, log in, subscribe."""
        entry = self.venue("oxfun")
        async with websockets.connect(entry["ws_url"], ssl=self.tls) as ws:
            assert "nonce" in await receive(ws)
            if login:
                await ws.send(oxfun_login(entry))
                assert (await receive(ws))["success"] is True
            for channel in channels:
                await ws.send(json.dumps({"op": "subscribe", "tag": 101, "args": [channel]}))
                assert (await receive(ws))["success"] is True
            yield ws

    # Roxom

    async def roxom(
        self, method: str, path: str, *, body: str = "", change: dict[str, str] | None = None, text: str | None = None
    ) -> httpx.Response:
        """Send a REST request signed as in roxom.md §3; `text` replaces the signed text."""
        entry = self.venue("roxom")
        target = entry["options"]["path_prefix"] + path
        headers = roxom_headers(entry, text or f"{method}:{target}")
        return await self.web.request(
            method, entry["rest_url"] + target, content=body.encode(), headers=headers | (change or {})
        )

    async def roxom_cancel_all(self) -> httpx.Response:
        return await self.roxom("POST", "/orders/cancel-all")

    @asynccontextmanager
    async def roxom_socket(self, *channels: str) -> AsyncIterator[ClientConnection]:
        entry = self.venue("roxom")
        headers = roxom_headers(entry, "GET:/ws")
        async with websockets.connect(entry["ws_url"], ssl=self.tls, additional_headers=headers) as ws:
            if channels:
                await ws.send(json.dumps({"op": "subscribe", "args": [{"channel": channel} for channel in channels]}))
                assert (await receive(ws))["event"] == "subscribe"
            yield ws


def oxfun_login(entry: Entry, **change: Any) -> str:
    stamp = str(int(time.time() * 1000))
    signature = b64_hmac(entry["credentials"]["api_secret"], f"{change.get('timestamp', stamp)}GET/auth/self/verify")
    data = {"apiKey": entry["credentials"]["api_key"], "timestamp": stamp, "signature": signature}
    return json.dumps({"op": "login", "tag": 1, "data": data | change})


def roxom_headers(entry: Entry, text: str) -> dict[str, str]:
    headers = {"X-API-Key": entry["credentials"]["api_key"], "Content-Type": "application/json"}
    if "private_key" in entry["credentials"]:
        headers["X-API-Signature"] = rsa_signature(entry["credentials"]["private_key"], text)
    return headers


@cache
def rsa_signature(pem: str, text: str) -> str:
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()


async def receive_until_closed(ws: ClientConnection) -> None:
    """Receive messages until the venue closes the connection, which raises `ConnectionClosed`."""
    while True:
        await ws.recv()


async def receive(ws: ClientConnection) -> Any:
    with anyio.fail_after(5):
        return json.loads(await ws.recv())


@asynccontextmanager
async def running(*venues: str, accounts: int = 1, options: Options | None = None) -> AsyncIterator[Sim]:
    async with serve(venues, accounts=accounts, options=options) as ready:
        tls = ssl.create_default_context(cafile=ready["ca_file"])
        async with (
            httpx.AsyncClient(base_url=ready["admin"], verify=tls, trust_env=False) as admin,
            httpx.AsyncClient(verify=tls, trust_env=False, timeout=5) as web,
        ):
            yield Sim(ready, admin, web, tls)
