"""Hold what the Binance simulators have in common against docs/venues/binance.md, by raw requests.

`Client` signs requests independently of the product; the tests of the two kinds of venues use it too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import anyio
import httpx
import pytest
import websockets
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from websockets.asyncio.client import ClientConnection

from kill_switch.sim.binance.signing import Signatures, rest_text, ws_text
from kill_switch.sim.kit.book import Account
from kill_switch.sim.main import Entry, Login

from .clients import Sim

pytestmark = pytest.mark.anyio
VENUES = ("binance-coinm", "binance-spot", "binance-usdm")
FUTURES = ("binance-coinm", "binance-usdm")
API = {"binance-coinm": "/dapi/v1/", "binance-spot": "/api/v3/", "binance-usdm": "/fapi/v1/"}
ONE = {"binance-coinm": "BTCUSD_PERP", "binance-spot": "BTCUSDT", "binance-usdm": "BTCUSDT"}
TWO = {"binance-coinm": "ETHUSD_PERP", "binance-spot": "ETHUSDT", "binance-usdm": "ETHUSDT"}
CANCEL_ALL = {"binance-coinm": "allOpenOrders", "binance-spot": "openOrders", "binance-usdm": "allOpenOrders"}
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"


def sign(credentials: dict[str, str], text: str) -> str:
    if "api_secret" in credentials:
        return hmac.new(credentials["api_secret"].encode(), text.encode(), hashlib.sha256).hexdigest()
    key: Any = load_pem_private_key(credentials["private_key"].encode(), None)
    is_short = isinstance(key, ed25519.Ed25519PrivateKey)
    raw = key.sign(text.encode()) if is_short else key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return base64.b64encode(raw).decode()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Client:
    """A client of one account."""

    def __init__(self, sim: Sim, venue: str, login: Login | Entry | None = None) -> None:
        self.sim = sim
        self.venue = venue
        self.entry = sim.venue(venue)
        self.keys = (login or self.entry)["credentials"]
        self.headers = {"X-MBX-APIKEY": self.keys["api_key"]}

    def signed(self, text: str) -> str:
        return f"{text}&signature={quote(sign(self.keys, text), safe='')}"

    async def raw(self, method: str, path: str, query: str = "", **more: Any) -> httpx.Response:
        """Send a query exactly as it is written."""
        target = path if path.startswith("/") else API[self.venue] + path
        headers = self.headers | more.pop("headers", {})
        url = httpx.URL(self.entry["rest_url"]).copy_with(raw_path=f"{target}?{query}".rstrip("?").encode())
        return await self.sim.web.request(method, url, headers=headers, **more)

    async def send(self, method: str, path: str, **params: object) -> httpx.Response:
        """Send a signed request, all in the query."""
        return await self.raw(method, path, self.signed(urlencode({**params, "timestamp": now_ms()}, quote_via=quote)))

    async def get(self, path: str, **params: object) -> Any:
        answer = await self.send("GET", path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def code(self, method: str, path: str, **params: object) -> tuple[int, int]:
        answer = await self.send(method, path, **params)
        return answer.status_code, answer.json()["code"]

    async def cancel_all(self, symbol: str = "") -> httpx.Response:
        return await self.send("DELETE", CANCEL_ALL[self.venue], symbol=symbol or ONE[self.venue])

    # WebSockets

    @asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[ClientConnection]:
        url = self.entry["rest_url"].replace("https", "wss") + path
        async with websockets.connect(url, ssl=self.sim.tls) as ws:
            yield ws

    async def say(self, ws: ClientConnection, method: str, *, signs: bool = True, **params: Any) -> Any:
        """Send a request, signed by default, and return its answer."""
        if signs:
            params |= {"apiKey": self.keys["api_key"], "timestamp": now_ms()}
            params["signature"] = sign(self.keys, "&".join(f"{name}={params[name]}" for name in sorted(params)))
        await ws.send(json.dumps({"id": "x1", "method": method, "params": params}))
        with anyio.fail_after(5):
            while True:
                message = json.loads(await ws.recv())
                if "event" not in message and "e" not in message:
                    return message

    async def listen_key(self) -> str:
        answer = await self.raw("POST", "listenKey")
        assert answer.status_code == 200, answer.text
        key: str = answer.json()["listenKey"]
        return key

    @asynccontextmanager
    async def stream(self, events: str = "") -> AsyncIterator[ClientConnection]:
        """Open a user stream of futures."""
        key = await self.listen_key()
        path = f"/private/ws?listenKey={key}" if self.venue == "binance-usdm" else f"/ws/{key}"
        named = f"{'&' if '?' in path else '?'}events={events}" if events else ""
        async with self.socket(path + named) as ws:
            yield ws


# ── the documents' vectors (§2) ───────────────────────────────────────────────────────────────────────────────────

_REST = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
_ENCODED = _REST.replace("LTCBTC", "%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96")
_USDM_SECRET = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
_USDM = (
    "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000&timestamp=1591702613943"
)
_QUERY = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC"
_BODY = "quantity=1&price=9000&recvWindow=5000&timestamp= 1591702613943"
_AT = "recvWindow=5000&timestamp=1700000000123"


@pytest.mark.parametrize(
    ("secret", "query", "body", "signature"),
    [
        (SECRET, _REST, "", "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
        (SECRET, "", _REST, "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
        (SECRET, _ENCODED, "", "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3"),
        (_USDM_SECRET, _USDM, "", "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"),
        (_USDM_SECRET, _QUERY, _BODY, "f9d0ae5e813ef6ccf15c2b5a434047a0181cb5a342b903b367ca6d27a66e36f2"),
        (
            "secretsecret",
            f"symbol=BTCUSDT&{_AT}",
            "",
            "7d077793a278df7ec0a6505f5375d5ebc82e204bae5348e6ddf971f7042b4440",
        ),
        (
            "secretsecret",
            f"symbol=BTCUSDT&countdownTime=60000&{_AT}",
            "",
            "ee24b4a2a9379b7ba49e87e70a20c7665c0bed61c2fa3c7c1ad92167d4130a44",
        ),
        (
            "secretsecret",
            f"symbol=BTCUSDT&orderIdList=%5B1%2C2%5D&{_AT}",
            "",
            "072a10ac25e0c762bbaec6d409df2b10bf56c8790790fef59139b08cb69cb204",
        ),
    ],
)
def test_the_documents_rest_vectors_are_right(secret: str, query: str, body: str, signature: str) -> None:
    signatures, account = Signatures(lambda: 0.0), Account("a", "1", {"api_key": KEY, "api_secret": secret})
    text, found = rest_text(query, f"{body}&signature={signature}")
    assert found == [signature] and signatures.is_right(account, text.encode(), signature)
    assert signatures.is_right(account, text.encode(), signature.upper())
    assert not signatures.is_right(account, text.encode() + b"0", signature)


@pytest.mark.parametrize(
    ("params", "signature"),
    [
        (
            {
                "apiKey": KEY,
                "price": "52000.00",
                "quantity": "0.01000000",
                "recvWindow": 100,
                "side": "SELL",
                "symbol": "BTCUSDT",
                "timeInForce": "GTC",
                "timestamp": 1645423376532,
                "type": "LIMIT",
            },
            "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
        ),
        (
            {"timestamp": 1649729878532, "apiKey": KEY},
            "1cf54395b336b0a9727ef27d5d98987962bc47aca6e13fe978612d0adee066ed",
        ),
        (
            {"symbol": "BTCUSDT", "apiKey": KEY, "timestamp": 1660805557200},
            "773f01b6e3c2c9e0c1d217bc043ce383c1ddd6f0e25f8d6070f2b66a6ceaf3a5",
        ),
        (
            {
                "symbol": "BTCUSDT",
                "origClientOrderId": "4d96324ff9d44481926157",
                "apiKey": KEY,
                "timestamp": 1660801715830,
            },
            "33d5b721f278ae17a52f004a82a6f68a70c68e7dd6776ed0be77a455ab855282",
        ),
        (
            {"symbol": "BTCUSDT", "apiKey": KEY, "timestamp": 1660813156812},
            "d632b3fdb8a81dd44f82c7c901833309dd714fe508772a89b0a35b0ee0c48b89",
        ),
        (
            {"apiKey": KEY, "timestamp": 1660801839480},
            "83303b4a136ac1371795f465808367242685a9e3a42b22edb4d977d0696eb45c",
        ),
    ],
)
def test_the_documents_websocket_vectors_are_right(params: dict[str, Any], signature: str) -> None:
    at_ms = params["timestamp"] + 50
    signatures = Signatures(lambda: at_ms)
    account = Account("a", "1", {"api_key": KEY, "api_secret": SECRET})
    signatures.check_message(account, params | {"signature": signature})
    assert ws_text({"b": True, "a": 1, "signature": "x"}) == "a=1&b=true"


def test_the_rfc_8032_vector_is_right_for_an_ed25519_key() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signatures, account = Signatures(lambda: 0.0), Account("a", "1", {"api_key": "key"})
    signatures.know("key", ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key())
    signature = "9pxRNCc0tn1TJ1r96/xaFIxRJw7qZnCRwV6tMrg8ElOw/FEEozPnpuXELnVxFvM7b9pcJPHTITm8kSMYWGfCBg=="
    assert signatures.is_right(account, b"apiKey=key&timestamp=1700000000123", signature)
    assert not signatures.is_right(account, b"apiKey=key&timestamp=1700000000123", signature.swapcase())
