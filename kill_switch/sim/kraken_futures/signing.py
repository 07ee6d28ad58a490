"""Kraken derivatives' signatures: Authent of REST v3, the challenge of WebSocket v1.

§ numbers are those of docs/venues/kraken.md: §2.3 and §2.4.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from kill_switch.sim.kit.auth import NonceLedger, is_signed
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request

_PREFIX = "/derivatives"


class Authent:
    """Check APIKey, Authent and the optional Nonce of a request; arguments are signed as they were sent."""

    def __init__(self, nonce_window: Callable[[], int]) -> None:
        self._window = nonce_window
        self._nonces = NonceLedger()

    def key_of(self, request: Request) -> str:
        """Return the header APIKey."""
        return request.headers.get("apikey", "")

    def check(self, request: Request, account: Account) -> str | None:
        """Return the code for a wrong signature or nonce (§8)."""
        nonce = request.headers.get("nonce", "")
        arguments = request.query.encode("latin-1") + request.body
        text = hashlib.sha256(arguments + nonce.encode() + request.path.removeprefix(_PREFIX).encode()).digest()
        secret = base64.b64decode(account.credentials["api_secret"])
        if not is_signed(secret, text, "sha512", request.headers.get("authent", "")):
            return "authenticationError"
        key = self.key_of(request)
        if nonce and not self._nonces.accept(key, nonce, max(1, self._window())):
            return "nonceDuplicate" if self._nonces.was_used(key, nonce) else "nonceBelowThreshold"
        return None


def answers_challenge(account: Account, challenge: str, signature: object) -> bool:
    """Return whether a WebSocket's challenge is signed by the account's secret."""
    secret = base64.b64decode(account.credentials["api_secret"])
    text = hashlib.sha256(challenge.encode()).digest()
    return isinstance(signature, str) and is_signed(secret, text, "sha512", signature)
