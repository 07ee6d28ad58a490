"""Requests as bytes: what is written is what is sent, and no library repairs it.

`strictness` uses it. The signatures are written here once more, from the venues' documents; nothing of the product and
nothing of the simulators is used.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

Pairs = Sequence[tuple[str, str]]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Raw:
    """A request before it is sent; `target` has the path and the query."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    host: str | None = None  # the header; None stands for the address that the request is sent to, empty for none

    def headed(self, **headers: str | None) -> Raw:
        """Return it with other headers, whose names have `_` for `-`; None leaves one out."""
        named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in named}
        return replace(self, headers=kept | {name: value for name, value in named.items() if value is not None})

    def spoilt(self, name: str) -> Raw:
        """Return it with one character of a header changed."""
        [key] = [key for key in self.headers if key.lower() == name.lower()]
        return replace(self, headers={**self.headers, key: spoil(self.headers[key])})


def spoil(text: str) -> str:
    """Return a text whose tenth character is another one, in either case."""
    return text[:9] + ("B" if text[9] in "Aa" else "A") + text[10:]


async def send(url: str, tls: ssl.SSLContext, request: Raw) -> tuple[int, str]:
    """Send a request on a connection of its own; return status and body of the answer."""
    host, _, port = url.partition("://")[2].partition("/")[0].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=host)
    body = request.body.encode()
    name = f"{host}:{port}" if request.host is None else request.host
    lines = [f"{request.method} {request.target} HTTP/1.1", *([f"Host: {name}"] if name else []), "Connection: close"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    lines += [f"Content-Length: {len(body)}"] if body or request.method == "POST" else []
    writer.write("\r\n".join((*lines, "", "")).encode() + body)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    head, _, said = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), said.decode()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def b64(secret: bytes, text: bytes, digest: str) -> str:
    return base64.b64encode(hmac.digest(secret, text, digest)).decode()


def binance(keys: Mapping[str, str], method: str, path: str, pairs: Pairs, at_ms: int | None = None) -> Raw:
    """Return a request of Binance with its parameters in the query (binance.md §2)."""
    query = urlencode([*pairs, ("timestamp", str(now_ms() if at_ms is None else at_ms))])
    signature = hmac.digest(keys["api_secret"].encode(), query.encode(), "sha256").hex()
    return Raw(method, f"{path}?{query}&signature={signature}", {"X-MBX-APIKEY": keys["api_key"]})


def binance_form(keys: Mapping[str, str], method: str, path: str, pairs: Pairs) -> Raw:
    """Return a request of Binance with its parameters in the body."""
    asked = binance(keys, method, path, pairs)
    target, _, query = asked.target.partition("?")
    return replace(asked, target=target, body=query, headers={**asked.headers, **FORM})


def kraken(keys: Mapping[str, str], call: str, pairs: Pairs = (), nonce: int | None = None) -> Raw:
    """Return a request of Kraken's spot API (kraken.md §2.1)."""
    number, path = str(time.time_ns() if nonce is None else nonce), f"/0/private/{call}"
    body = urlencode([("nonce", number), *pairs])
    text = path.encode() + hashlib.sha256((number + body).encode()).digest()
    signed = {"API-Key": keys["api_key"], "API-Sign": b64(base64.b64decode(keys["api_secret"]), text, "sha512")}
    return Raw("POST", path, {**signed, **FORM, "User-Agent": "a script"}, body)


def kraken_json(keys: Mapping[str, str], call: str, params: Mapping[str, object]) -> Raw:
    """Return a request of Kraken's spot API whose body is JSON, as a batch must be."""
    number, path = time.time_ns(), f"/0/private/{call}"
    body = json.dumps({"nonce": number, **params})
    text = path.encode() + hashlib.sha256((str(number) + body).encode()).digest()
    signed = {"API-Key": keys["api_key"], "API-Sign": b64(base64.b64decode(keys["api_secret"]), text, "sha512")}
    return Raw("POST", path, {**signed, **JSON, "User-Agent": "a script"}, body)


def kraken_futures(keys: Mapping[str, str], method: str, call: str, pairs: Pairs = (), nonce: int | None = None) -> Raw:
    """Return a request of Kraken's derivatives API, with its arguments in the body of a POST (kraken.md §2.3)."""
    arguments, number = urlencode(pairs), "" if nonce is None else str(nonce)
    text = hashlib.sha256(f"{arguments}{number}/api/v3/{call}".encode()).digest()
    signed = {"APIKey": keys["api_key"], "Authent": b64(base64.b64decode(keys["api_secret"]), text, "sha512")}
    headers = signed | ({"Nonce": number} if number else {})
    target = f"/derivatives/api/v3/{call}"
    if method == "GET":
        return Raw(method, target + (f"?{arguments}" if arguments else ""), headers)
    return Raw(method, target, {**headers, **FORM}, arguments)


def deribit(
    keys: Mapping[str, str], method: str, params: Mapping[str, Any], at_ms: int | None = None, nonce: str = ""
) -> Raw:
    """Return a request of Deribit with a signature of its own (deribit.md §2)."""
    stamp, once = str(now_ms() if at_ms is None else at_ms), nonce or uuid.uuid4().hex
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    text = f"{stamp}\n{once}\nPOST\n/api/v2\n{body}\n"
    signature = hmac.digest(keys["client_secret"].encode(), text.encode(), "sha256").hex()
    proof = f"deri-hmac-sha256 id={keys['client_id']},ts={stamp},nonce={once},sig={signature}"
    return Raw("POST", "/api/v2", {"Authorization": proof, **JSON}, body)


def oxfun(
    keys: Mapping[str, str], method: str, path: str, body: str = "", at_ms: int | None = None, nonce: str = "1"
) -> Raw:
    """Return a request of OX.FUN (oxfun.md §2)."""
    at = datetime.fromtimestamp((now_ms() if at_ms is None else at_ms) / 1000, UTC)
    stamp = at.strftime("%Y-%m-%dT%H:%M:%S")
    text = f"{stamp}\n{nonce}\n{method}\n127.0.0.1\n{path}\n{body}"
    signed = {
        "Timestamp": stamp,
        "Nonce": nonce,
        "Signature": b64(keys["api_secret"].encode(), text.encode(), "sha256"),
    }
    return Raw(method, path, {"AccessKey": keys["api_key"], **signed, **JSON}, body)


def kuna(keys: Mapping[str, str], method: str, target: str, body: str = "{}", nonce: int | None = None) -> Raw:
    """Return a request of KUNA with a pair of keys (kuna.md §2)."""
    number = str(now_ms() if nonce is None else nonce)
    signature = hmac.digest(keys["api_secret"].encode(), f"{target}{number}{body}".encode(), "sha384").hex()
    headers = {"public-key": keys["public_key"], "nonce": number, "signature": signature, **JSON}
    return Raw(method, target, headers, "" if method == "GET" else body)


def roxom(keys: Mapping[str, str], method: str, target: str, body: str = "") -> Raw:
    """Return a request of Roxom (roxom.md §3)."""
    key = load_pem_private_key(keys["private_key"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(f"{method}:{target}".encode(), padding.PKCS1v15(), hashes.SHA256())
    signed = {"X-API-Key": keys["api_key"], "X-API-Signature": base64.b64encode(signature).decode()}
    return Raw(method, target, {**signed, **JSON}, body)


def crosstrade(keys: Mapping[str, str], method: str, path: str, body: str = "{}") -> Raw:
    """Return a request of CrossTrade (crosstrade.md §1)."""
    headers = {"Authorization": f"Bearer {keys['token']}", **JSON}
    return Raw(method, f"/v1/api{path}", headers, "" if method == "GET" else body)
