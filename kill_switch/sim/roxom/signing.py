"""Roxom's signature; § numbers are those of docs/venues/roxom.md."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.kit.tables import Refused
from kill_switch.sim.kit.values import json_object

_KEYS = 8
_PROOFS = 4096


class RoxomSignature:
    """Check X-API-Key and X-API-Signature (§3.2); an account without a public key has the key alone (§3.1)."""

    def __init__(self) -> None:
        self.public: dict[str, rsa.RSAPublicKey] = {}  # the public halves of the keys, by API key
        # Results of signature checks, because the same signatures return: they contain no time (§3.2).
        self._proofs: dict[tuple[str, bytes, str], bool] = {}

    def key_of(self, request: Request) -> str:
        """Return the header X-API-Key."""
        return request.headers.get("x-api-key", "")

    def check(self, request: Request, account: Account) -> str | None:
        """Refuse a body without the content type of JSON, and a wrong signature."""
        # §3.2 requires Content-Type in every request; it is checked where a body is possible
        if request.method == "POST" and not request.is_json:
            raise Refused("", 415, "Content-Type must be application/json")
        key, signature = self.key_of(request), request.headers.get("x-api-signature")
        if key not in self.public:
            return None
        if not signature:
            raise Refused("", 401, "Missing Signature")
        text = signing_text(request.method, request.target, request.body)
        if text is None:
            raise Refused("", 400, "Invalid JSON")
        right = self._proofs.get((key, text, signature))
        if right is None:
            right = self._proofs[key, text, signature] = _is_signed(self.public[key], text, signature)
            if len(self._proofs) > _PROOFS:
                del self._proofs[next(iter(self._proofs))]
        if not right:
            raise Refused("", 401, "Invalid Signature")
        return None


def key_pair(number: int) -> tuple[rsa.RSAPublicKey, str]:
    """Return an RSA-2048 key pair, the private half as PKCS#8 PEM (§3.2).

    Generating a pair takes 40 ms. So a process makes at most eight, which hundreds of accounts share; their key ids
    differ.
    """
    return _key(number % _KEYS)


@lru_cache(maxsize=_KEYS)
def _key(slot: int) -> tuple[rsa.RSAPublicKey, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.public_key(), pem.decode()


def _is_signed(key: rsa.RSAPublicKey, text: bytes, signature: str) -> bool:
    """Return whether a signature is base64(RSA PKCS#1 v1.5 over SHA-256 of the text) (§3.2)."""
    try:
        key.verify(base64.b64decode(signature, validate=True), text, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def signing_text(method: str, target: str, body: bytes) -> bytes | None:
    """Return the text that a request signs; None if the body is not a JSON object.

    The form is `METHOD:PATH?QUERY[:SORTED_BODY]` (§3.3). In it top-level keys are sorted, null values are omitted,
    texts have no quotes, and other values are compact JSON [I].
    """
    data = json_object(body or b"{}")
    if data is None:
        return None
    pairs = "&".join(f"{key}={_value(data[key])}" for key in sorted(data) if data[key] is not None)
    return f"{method}:{target}{':' if pairs else ''}{pairs}".encode()


def _value(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
