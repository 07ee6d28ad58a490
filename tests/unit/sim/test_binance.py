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
from datetime import UTC, datetime
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
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode

from kill_switch.sim.binance.signing import Signatures, rest_text, ws_text
from kill_switch.sim.kit.book import Account
from kill_switch.sim.main import Entry, Login

from .clients import Sim, receive, receive_until_closed, running

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
            {"apiKey": "key", "recvWindow": 5000, "symbol": "BTCUSDT", "timestamp": 1700000000123},
            "57d21a077108938b0fda16073fdc9fe3e99cb4adffdf92388eb028f3ed722ec6",
        ),
        (
            {"apiKey": "key", "timestamp": 1700000000123},
            "f962a0ba821df03a07499f163b1d6c0adb9bd29e687901c7bd34ef06aa2fcd0d",
        ),
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
    secret = SECRET if params["apiKey"] == KEY else "secretsecret"
    account = Account("a", "1", {"api_key": KEY, "api_secret": secret})
    signatures.check_message(account, params | {"signature": signature})
    assert ws_text({"b": True, "a": 1, "signature": "x"}) == "a=1&b=true"


def test_the_rfc_8032_vector_is_right_for_an_ed25519_key() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signatures, account = Signatures(lambda: 0.0), Account("a", "1", {"api_key": "key"})
    signatures.know("key", ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key())
    signature = "9pxRNCc0tn1TJ1r96/xaFIxRJw7qZnCRwV6tMrg8ElOw/FEEozPnpuXELnVxFvM7b9pcJPHTITm8kSMYWGfCBg=="
    assert signatures.is_right(account, b"apiKey=key&timestamp=1700000000123", signature)
    assert not signatures.is_right(account, b"apiKey=key&timestamp=1700000000123", signature.swapcase())


# ── requests that are refused (§2, §8) ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=VENUES)
async def client(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Client]:
    async with running(request.param) as sim:
        yield Client(sim, request.param)


async def test_a_signature_with_one_other_character_is_refused(client: Client) -> None:
    query = client.signed(f"timestamp={now_ms()}")
    last = "1" if query[-1] == "0" else "0"
    for wrong in (query[:-1] + last, query.replace("timestamp=", "timestamp=0")):
        answer = await client.raw("GET", "openOrders", wrong)
        assert (answer.status_code, answer.json()["code"]) == (400, -1022)
    assert (await client.raw("GET", "openOrders", query)).json() == []


async def test_query_and_body_are_signed_without_a_separator(client: Client) -> None:
    symbol = ONE[client.venue]
    query, body = f"symbol={symbol}&side=BUY", f"type=LIMIT&timeInForce=GTC&quantity=1&price=9&timestamp={now_ms()}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for text, status in ((f"{query}&{body}", 400), (query + body, 200)):
        signed = f"{body}&signature={sign(client.keys, text)}"
        answer = await client.raw("POST", "order", query, content=signed, headers=form)
        assert answer.status_code == status, answer.text


async def test_a_text_that_is_signed_before_it_is_encoded_is_refused(client: Client) -> None:
    plain = f"symbol=１２３&timestamp={now_ms()}"
    signature = sign(client.keys, plain)
    answer = await client.raw("GET", "openOrders", f"{plain.replace('１２３', quote('１２３'))}&signature={signature}")
    assert answer.json()["code"] == -1022
    listed = f"orderIdList=[1,2]&timestamp={now_ms()}"  # sent as it was signed, with brackets and comma
    answer = await client.raw("GET", "openOrders", f"{listed}&signature={sign(client.keys, listed)}")
    assert answer.json()["code"] == -1022


async def test_a_body_that_is_signed_as_it_is_sent_needs_percent_encoding_on_spot_only(client: Client) -> None:
    is_spot = client.venue == "binance-spot"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    plain = f'batchOrders=[{{"symbol":"NOSUCH"}}]&timestamp={now_ms()}'
    for signed, code in ((plain, -1022 if is_spot else -1121), (plain + "0", -1022)):
        body = f"{plain}&signature={sign(client.keys, signed)}".encode()
        answer = await client.raw("POST", "order" if is_spot else "batchOrders", content=body, headers=form)
        assert f'"code":{code}' in answer.text


@pytest.mark.parametrize(
    ("offset_ms", "more", "code"),
    [
        (-5500, "", -1021),
        (-5500, "&recvWindow=9000", 0),
        (-200, "&recvWindow=100.125", -1021),
        (2500, "", -1021),
        (700, "", 0),
        (0, "&recvWindow=60000", 0),
        (0, "&recvWindow=60001", -1131),
        (0, "&recvWindow=100.1255", -1130),
    ],
)
async def test_a_time_stamp_is_right_within_the_window(client: Client, offset_ms: int, more: str, code: int) -> None:
    query = client.signed(f"timestamp={now_ms() + offset_ms}{more}")
    answer = await client.raw("GET", "openOrders", query)
    assert (answer.json() == []) if code == 0 else (answer.json()["code"] == code and answer.status_code == 400)


async def test_a_time_stamp_may_be_in_microseconds(client: Client) -> None:
    answer = await client.raw("GET", "openOrders", client.signed(f"timestamp={now_ms() * 1000}"))
    assert answer.json() == []


async def test_a_missing_or_doubled_parameter_is_named(client: Client) -> None:
    stamp = f"timestamp={now_ms()}"
    for query, code in (
        (stamp, -1102),
        (client.signed("recvWindow=5000"), -1102),
        (client.signed(f"{stamp}&{stamp}"), -1101),
    ):
        answer = await client.raw("GET", "openOrders", query)
        assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize(("key", "code"), [("", -2014), ("short", -2014), (KEY, -2015)])
async def test_a_malformed_key_and_an_unknown_key_are_refused(client: Client, key: str, code: int) -> None:
    client.headers["X-MBX-APIKEY"] = key
    assert await client.code("GET", "openOrders") == (401, code)


@pytest.mark.parametrize(("symbol", "code"), [("", -1102), ("NOSUCH", -1121), ("btcusdt", -1121)])
async def test_a_cancel_all_needs_a_symbol_that_there_is(client: Client, symbol: str, code: int) -> None:
    [_] = await client.sim.rest_orders(client.venue, 1)
    assert await client.code("DELETE", CANCEL_ALL[client.venue], symbol=symbol) == (400, code)
    assert await client.code("DELETE", CANCEL_ALL[client.venue]) == (400, -1102)
    assert await client.sim.open(client.venue) == 1


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_base64_signature_is_percent_encoded_on_rest(venue: str, kind: str) -> None:
    async with running(venue, options={venue: {"auth": kind}}) as sim:
        client = Client(sim, venue)
        assert set(client.keys) == {"api_key", "private_key"}
        assert (await client.send("GET", "openOrders")).json() == []
        plain = f"timestamp={now_ms()}"
        for form in (sign(client.keys, plain), sign(client.keys, plain).swapcase()):
            answer = await client.raw("GET", "openOrders", f"{plain}&signature={form}")
            assert answer.json()["code"] == -1022


async def test_an_order_of_another_account_is_unknown() -> None:
    async with running(*VENUES, accounts=2) as sim:
        for venue in VENUES:
            [one] = await sim.rest_orders(venue, 1)
            other = Client(sim, venue, sim.venue(venue)["accounts"][0])
            assert await other.code("DELETE", "order", symbol=ONE[venue], orderId=one) == (400, -2011)
            assert await other.code("GET", "order", symbol=ONE[venue], orderId=one) == (400, -2013)
            assert (await other.cancel_all()).status_code == (400 if venue == "binance-spot" else 200)
            assert await sim.open(venue) == 1


async def test_a_cancel_all_is_of_one_symbol(client: Client) -> None:
    await client.sim.rest_orders(client.venue, 2)
    [other] = await client.sim.rest_orders(client.venue, 1, symbol=TWO[client.venue])
    assert (await client.cancel_all()).status_code == 200
    rows = (await client.sim.get("/orders", venue=client.venue))["orders"]
    assert [row["id"] for row in rows] == [other]


async def test_there_are_enough_symbols_for_a_fan_out(client: Client) -> None:
    symbols = client.entry["symbols"]
    assert len(set(symbols)) == len(symbols) >= 80
    info = (await client.raw("GET", "exchangeInfo")).json()
    assert [row["symbol"] for row in info["symbols"]] == symbols


async def test_a_key_without_rights_reads_and_is_refused_like_a_wrong_one(client: Client) -> None:
    await client.sim.rest_orders(client.venue, 1)
    await client.sim.fault(client.venue, "read_only_key")
    answer = await client.cancel_all()
    assert (answer.status_code, answer.json()["code"]) == (401, -2015)
    rights = await client.get("/sapi/v1/account/apiRestrictions")
    assert not rights["enableFutures"] and not rights["enableSpotAndMarginTrading"]
    place = {"symbol": ONE[client.venue], "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": 1}
    assert await client.code("POST", "order", **place, price=9) == (401, -2015)
    assert len(await client.get("openOrders")) == await client.sim.open(client.venue) == 1


async def test_maintenance_has_its_texts_and_shows_in_the_status(client: Client) -> None:
    status = "/sapi/v1/system/status"
    assert (await client.raw("GET", status)).json()["status"] == 0
    await client.sim.fault(client.venue, "maintenance")
    assert (await client.raw("GET", status)).json()["status"] == 1
    for word, code in (("gone", -1016), ("overloaded", -1008), ("unknown", -1000), ("internal", -1001)):
        await client.sim.post("/options", venue=client.venue, unavailable=word)
        answer = await client.cancel_all()
        assert (answer.status_code, answer.json()["code"]) == (503, code)


async def test_lists_may_lag_behind_while_look_ups_do_not(client: Client) -> None:
    await client.sim.post("/options", venue=client.venue, lag_s=0.4)
    [one] = await client.sim.rest_orders(client.venue, 1)
    assert await client.get("openOrders") == []
    assert (await client.get("order", symbol=ONE[client.venue], orderId=one))["status"] == "NEW"

    async def shown() -> bool:
        return len(await client.get("openOrders")) == 1

    await client.sim.until(shown)
    await client.cancel_all()
    assert len(await client.get("openOrders")) == 1


async def test_a_list_may_lack_rows_so_often(client: Client) -> None:
    ids = await client.sim.rest_orders(client.venue, 3)
    await client.sim.post("/options", venue=client.venue, gaps=1)
    shown = [[row["orderId"] for row in await client.get("openOrders")] for _ in range(2)]
    assert shown == [[int(ids[1])], [*map(int, ids)]]


async def test_a_transfer_differs_from_a_result_of_trading(client: Client) -> None:
    path = "/sapi/v1/capital/deposit/hisrec" if client.venue == "binance-spot" else "income"
    await client.sim.post("/equity", venue=client.venue, equity=150_000)
    assert await client.get(path) == []
    await client.sim.post("/options", venue=client.venue, equity_moves="transfer")
    await client.sim.post("/equity", venue=client.venue, equity=150_007)
    [row] = await client.get(path)
    assert "7" in (row.get("amount"), row.get("income"))
    if client.venue == "binance-spot":
        await client.sim.post("/equity", venue=client.venue, equity=150_000)
        path = "/sapi/v1/capital/withdraw/history"
        [row] = await client.get(path)
        assert (row["amount"], row["walletType"]) == ("7", 0)
        applied = datetime.strptime(row["applyTime"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        assert await client.get(path, startTime=int(applied.timestamp() * 1000) + 2000) == []


async def test_a_twap_goes_on_placing_orders_until_it_is_stopped(client: Client) -> None:
    space = "spot" if client.venue == "binance-spot" else "futures"
    symbol = ONE[client.venue]
    placed = await client.send("POST", f"/sapi/v1/algo/{space}/newOrderTwap", symbol=symbol, side="BUY", quantity=1)
    assert placed.json()["success"] is True
    await client.cancel_all()
    await client.sim.until_open(client.venue, 1)
    running_algos = await client.get(f"/sapi/v1/algo/{space}/openOrders")
    assert (running_algos["total"], running_algos["orders"][0]["algoStatus"]) == (1, "WORKING")
    one = running_algos["orders"][0]["algoId"]
    stopped = await client.send("DELETE", f"/sapi/v1/algo/{space}/order", algoId=one)
    assert stopped.json() == {"algoId": one, "success": True, "code": 0, "msg": "OK"}
    assert await client.code("DELETE", f"/sapi/v1/algo/{space}/order", algoId=one) == (400, -2013)


# ── the pools (§7) ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_pool_refuses_then_bans_and_cuts_the_websockets() -> None:
    options = {"binance-usdm": {"pool": "100", "ban_after": "3", "ban_s": "1"}}
    async with running("binance-usdm", options=options) as sim:
        client = Client(sim, "binance-usdm")
        async with client.stream() as ws:
            for used in (41, 81):
                answer = await client.send("GET", "openOrders")
                assert (answer.status_code, answer.headers["x-mbx-used-weight-1m"]) == (200, str(used))
            for _ in range(2):
                answer = await client.send("GET", "openOrders")
                assert (answer.status_code, answer.json()["code"]) == (429, -1003)
                assert 50 < int(answer.headers["retry-after"]) <= 61
            answer = await client.send("GET", "openOrders")
            assert (answer.status_code, answer.json()["code"]) == (418, -1003)
            assert "IP banned until" in answer.json()["msg"] and int(answer.headers["retry-after"]) <= 2
            with pytest.raises(ConnectionClosed):
                await receive(ws)
        assert (await client.cancel_all()).status_code == 418  # though its weight is 1

        async def over() -> bool:
            return (await client.cancel_all()).status_code == 200

        await sim.until(over)


async def test_each_call_of_the_wallet_has_a_pool_of_its_own_and_a_banned_address_has_none() -> None:
    options = {"binance-spot": {"wallet_pool": "1", "pool": "100", "ban_after": "1"}}
    async with running("binance-spot", options=options) as sim:
        client = Client(sim, "binance-spot")
        assert await client.get("/sapi/v1/asset/wallet/balance")
        limited = await client.send("GET", "/sapi/v1/asset/wallet/balance")
        assert (limited.status_code, limited.json()["code"]) == (429, -1003) and limited.headers["retry-after"]
        assert await client.get("/sapi/v1/account/apiRestrictions") and await client.get("openOrders") == []
        assert (await client.send("GET", "openOrders")).status_code == 418
        assert (await client.send("GET", "/sapi/v1/account/apiTradingStatus")).status_code == 418


async def test_both_futures_and_all_accounts_of_an_address_share_one_pool() -> None:
    async with running(*VENUES, accounts=2) as sim:
        used = []
        for venue in (*FUTURES, "binance-spot"):
            for login in (sim.venue(venue), *sim.venue(venue)["accounts"]):
                answer = await Client(sim, venue, login).send("GET", "openOrders")
                used.append(int(answer.headers["x-mbx-used-weight-1m"]))
        assert used == [40, 80, 120, 160, 80, 160]


async def test_orders_are_counted_by_account_at_both_futures_together() -> None:
    async with running(*FUTURES, accounts=2) as sim:
        counts = []
        for venue in FUTURES:
            for login in (sim.venue(venue), *sim.venue(venue)["accounts"]):
                place = {"symbol": ONE[venue], "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
                answer = await Client(sim, venue, login).send("POST", "order", **place, quantity=1, price=9)
                counts.append(answer.headers["x-mbx-order-count-10s"])
        assert counts == ["1", "1", "2", "2"]


async def test_too_many_new_orders_are_refused_and_cancels_are_not(client: Client) -> None:
    most = 50 if client.venue == "binance-spot" else 300
    place = {
        "symbol": ONE[client.venue],
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": 1,
        "price": 9,
    }
    for _ in range(most):
        assert (await client.send("POST", "order", **place)).status_code == 200
    assert await client.code("POST", "order", **place) == (429, -1015)
    assert (await client.cancel_all()).status_code == 200
    assert await client.sim.open(client.venue) == 0


async def test_a_limit_of_the_admin_api_says_when_it_ends(client: Client) -> None:
    await client.sim.fault(client.venue, "rate_limit", seconds=30)
    answer = await client.cancel_all()
    assert (answer.status_code, answer.json()["code"]) == (429, -1003)
    assert 25 < int(answer.headers["retry-after"]) <= 31


async def test_an_address_may_open_so_many_websockets(client: Client) -> None:
    await client.sim.post("/options", venue=client.venue, connects=2)
    path = {"binance-spot": "/ws-api/v3", "binance-usdm": "/private/ws", "binance-coinm": "/ws/x"}[client.venue]
    for _ in range(2):
        async with client.socket(path):
            pass
    with pytest.raises(InvalidStatus, match="429"):
        async with client.socket(path):
            pass
    assert (await client.send("GET", "openOrders")).status_code == 200


async def test_another_program_uses_the_pool_too(client: Client) -> None:
    await client.get("openOrders")
    await client.sim.fault(client.venue, "foreign_use", per_s=100)

    async def fuller() -> bool:
        answer = await client.raw("GET", "time")
        return int(answer.headers["x-mbx-used-weight-1m"]) > 110

    await client.sim.until(fuller)


@pytest.mark.parametrize("account", [{}, {"account": "binance-usdm-2"}])
async def test_another_program_is_one_though_several_accounts_share_the_pool(
    anyio_backend: object, account: dict[str, str]
) -> None:
    async with running("binance-usdm", accounts=3) as sim:
        client = Client(sim, "binance-usdm")
        before = int((await client.raw("GET", "time")).headers["x-mbx-used-weight-1m"])
        await sim.fault("binance-usdm", "foreign_use", per_s=0.01, **account)  # one at once
        after = int((await client.raw("GET", "time")).headers["x-mbx-used-weight-1m"])
        assert after - before == 2


# ── the life of a WebSocket (§5) ──────────────────────────────────────────────────────────────────────────────────


async def test_a_websocket_is_pinged_and_closed_when_no_pong_comes(client: Client) -> None:
    await client.sim.post("/options", venue=client.venue, ping_s=0.05, pong_s=0.2)
    path = {"binance-spot": "/ws-api/v3", "binance-usdm": "/ws-fapi/v1", "binance-coinm": "/ws-dapi/v1"}
    async with client.socket(path[client.venue]) as ws:
        await anyio.sleep(0.6)  # the client answers each ping
        assert (await client.say(ws, "ping", signs=False))["result"] == {}
        ws.protocol.recv_frame = _deaf(ws.protocol.recv_frame)  # type: ignore[method-assign]
        with pytest.raises(ConnectionClosed), anyio.fail_after(5):
            await receive_until_closed(ws)


def _deaf(receive_frame: Any) -> Any:
    def without_pings(frame: Any) -> None:
        if frame.opcode is not Opcode.PING:
            receive_frame(frame)

    return without_pings
