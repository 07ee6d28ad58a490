"""Kraken's API-Sign: the check of a signed spot request (docs/venues/kraken.md §2.1)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from urllib.parse import parse_qs

from kill_switch.sim.kit.auth import NonceLedger, is_signed
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.kit.values import json_object


class SpotSignature:
    """Check API-Key, API-Sign and the nonce of a request; the body is signed as the bytes that were sent."""

    def __init__(self, nonce_window: Callable[[], int], credential: str = "api_secret") -> None:
        self._window = nonce_window
        self._credential = credential
        self._nonces = NonceLedger()

    def key_of(self, request: Request) -> str:
        """Return the header API-Key."""
        return request.headers.get("api-key", "")

    def check(self, request: Request, account: Account) -> str | None:
        """Return Kraken's code for a wrong signature or nonce (§8)."""
        nonce = body_nonce(request)
        text = request.path.encode() + hashlib.sha256(nonce.encode() + request.body).digest()
        secret = base64.b64decode(account.credentials[self._credential])
        if request.query or not is_signed(secret, text, "sha512", request.headers.get("api-sign", "")):
            return "EAPI:Invalid signature"
        if not self._nonces.accept(self.key_of(request), nonce, self._window()):
            return "EAPI:Invalid nonce"
        return None


def body_nonce(request: Request) -> str:
    """Return the nonce in a form or JSON body, as it is written there; empty if there is not exactly one."""
    if request.is_json:
        nonce = (json_object(request.body) or {}).get("nonce")
        return str(nonce) if isinstance(nonce, str | int) and not isinstance(nonce, bool) else ""
    if not request.is_form:
        return ""
    nonces = parse_qs(request.body.decode("utf-8", "replace")).get("nonce", [])
    return nonces[0] if len(nonces) == 1 else ""
