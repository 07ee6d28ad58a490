"""Binance's signatures: what is signed on REST and on a WebSocket, three types of keys, the time rule.

§ numbers are those of docs/venues/binance.md: §2.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.params import missing
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request

KEY_TYPES = ("ed25519", "rsa")
_KEYS = 8  # pairs of RSA keys that a process makes: each takes 40 ms
_FORMAT = re.compile(r"[A-Za-z0-9]{64}")
_ENCODED = re.compile(r"(?:[A-Za-z0-9._~*+=&-]|%[0-9A-Fa-f]{2})*")
_VALUE = re.compile(r"(?:[A-Za-z0-9._~*-]|%[0-9A-Fa-f]{2})+")
_AHEAD_MS = 1000
_USUAL_WINDOW_MS, _MOST_WINDOW_MS = 5000, Decimal(60_000)
_WINDOW = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,3})?", re.ASCII)
_MICROSECONDS = 10**15  # a time stamp from here on is in µs

Public = ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class Signatures:
    """Check keys, signatures and time stamps of REST requests and of WebSocket messages.

    Spot refuses a text that is not percent-encoded, even if it is signed as it is sent (§2). With `takes_raw_bodies`,
    that holds for the query only: at the futures, clients put the JSON of `batchOrders` into the body as it is.
    """

    def __init__(self, now_ms: Callable[[], float], *, takes_raw_bodies: bool = False) -> None:
        self._now_ms = now_ms
        self._takes_raw_bodies = takes_raw_bodies
        self._public: dict[str, Public] = {}  # by API key; a key that is not here is an HMAC key

    def new_key(self, kind: str, number: int) -> dict[str, str]:
        """Return the credentials of a new key; the venue keeps the public half only, except of an HMAC secret."""
        key = (secrets.token_urlsafe(96).replace("-", "").replace("_", ""))[:64]
        if kind == "hmac":
            return {"api_key": key, "api_secret": secrets.token_hex(32)}
        pair = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else _rsa_key(number % _KEYS)
        self.know(key, pair.public_key())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return {"api_key": key, "private_key": pair.private_bytes(*form).decode()}

    def know(self, key: str, public: Public) -> None:
        """Note the public half of a key."""
        self._public[key] = public

    def is_ed25519(self, key: str) -> bool:
        """Return whether a key may log a session on (§2)."""
        return isinstance(self._public.get(key), ed25519.Ed25519PublicKey)

    # the `Authenticator` of REST

    def key_of(self, request: Request) -> str:
        """Return the header X-MBX-APIKEY."""
        return request.headers.get("x-mbx-apikey", "")

    def check(self, request: Request, account: Account) -> str | None:
        """Check time and signature of a REST request. Raises `Refused`."""
        forms = (request.query, form_of(request).decode("latin-1"))
        pairs = [parse_qsl(form, keep_blank_values=True) for form in forms]
        for form_pairs in pairs:
            names = [name for name, _ in form_pairs]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise refusal("-1101", f"Duplicate values for parameter '{twice}'.")
        text, signatures = rest_text(*forms)
        if len(signatures) != 1 or not signatures[0]:
            raise refusal("-1102", missing("signature"))
        self.check_time(dict(pairs[1]) | dict(pairs[0]))
        encoded = forms[:1] if self._takes_raw_bodies else forms
        is_encoded = all(map(_ENCODED.fullmatch, encoded)) and _VALUE.fullmatch(signatures[0]) is not None
        is_last = any(form.rpartition("&")[2].startswith("signature=") for form in forms)
        has_form = is_encoded and is_last
        if not has_form or not self.is_right(account, text.encode("latin-1"), unquote_plus(signatures[0])):
            raise refusal("-1022")
        return None

    # WebSocket

    def check_message(self, account: Account, params: Mapping[str, Any]) -> None:
        """Check time and signature of a WebSocket message. Raises `Refused`."""
        signature = params.get("signature")
        if not isinstance(signature, str) or not signature:
            raise refusal("-1102", missing("signature"))
        self.check_time(params)
        if not self.is_right(account, ws_text(params).encode(), signature):
            raise refusal("-1022")

    def check_time(self, params: Mapping[str, Any]) -> None:
        """Check `timestamp` and `recvWindow` of a request. Raises `Refused`."""
        stamp = str(params.get("timestamp", ""))
        if not (stamp.isascii() and stamp.isdigit()) or len(stamp) > 20:
            raise refusal("-1102", missing("timestamp"))
        text = str(params.get("recvWindow", _USUAL_WINDOW_MS))
        if not _WINDOW.fullmatch(text):
            raise refusal("-1130", "Data sent for parameter 'recvWindow' is not valid.")
        window = Decimal(text)
        if window > _MOST_WINDOW_MS:
            raise refusal("-1131")
        at_ms = int(stamp) / (1000 if int(stamp) >= _MICROSECONDS else 1)
        now_ms = self._now_ms()
        if at_ms >= now_ms + _AHEAD_MS:
            raise refusal("-1021", "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - at_ms > window:
            raise refusal("-1021")

    def is_right(self, account: Account, text: bytes, signature: str) -> bool:
        """Return whether a text is signed by the account's key; of the three types only HMAC ignores case."""
        public = self._public.get(account.credentials["api_key"])
        if public is None:
            right = hmac.digest(account.credentials["api_secret"].encode(), text, "sha256").hex()
            return hmac.compare_digest(right.encode(), signature.lower().encode("utf-8", "replace"))
        try:
            raw = base64.b64decode(signature, validate=True)
            if isinstance(public, rsa.RSAPublicKey):
                public.verify(raw, text, padding.PKCS1v15(), hashes.SHA256())
            else:
                public.verify(raw, text)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def form_of(request: Request) -> bytes:
    """Return the body of a request if it is a form.

    A GET has its parameters in the query, and a body of another content type has none (§2).
    """
    return request.body if request.is_form and request.method != "GET" else b""


def is_key(text: object) -> bool:
    """Return whether a text has the form of an API key."""
    return isinstance(text, str) and _FORMAT.fullmatch(text) is not None


def rest_text(query: str, body: str) -> tuple[str, list[str]]:
    """Return what a REST request signs, and the signatures that it has.

    The text is the query followed by the body, as sent, without the signature and with nothing between them.
    """
    signatures: list[str] = []
    parts: list[str] = []
    for form in (query, body):
        pairs = form.split("&")
        signatures += [pair.partition("=")[2] for pair in pairs if pair.startswith("signature=")]
        parts.append("&".join(pair for pair in pairs if not pair.startswith("signature=")))
    return "".join(parts), signatures


def ws_text(params: Mapping[str, Any]) -> str:
    """Return what a WebSocket message signs: all parameters by name, not percent-encoded."""
    return "&".join(f"{name}={_word(params[name])}" for name in sorted(params) if name != "signature")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache(maxsize=_KEYS)
def _rsa_key(slot: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
