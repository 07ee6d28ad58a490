"""KUNA's credentials: a single key, or a key pair that signs; § numbers are those of docs/venues/kuna.md."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.kit.tables import Refused

if TYPE_CHECKING:
    from kill_switch.sim.kuna.venue import KunaOptions

SINGLE, PUBLIC = "single ", "public "  # in front of a key's text, because the two kinds are no names for each other


class KunaSignature:
    """Check `api-key` alone, or `public-key`, `nonce` and `signature` (§2); then the requested account type."""

    def __init__(self, options: KunaOptions, now: Callable[[], float]) -> None:
        self._options = options
        self._now = now
        self.secrets: dict[str, str] = {}  # by account
        self._nonces: dict[str, set[float]] = {}

    def key_of(self, request: Request) -> str:
        """Return the single key, or the public key of the pair."""
        headers = request.headers
        if "api-key" in headers:
            return SINGLE + headers["api-key"]
        return PUBLIC + headers.get("public-key", "")

    def check(self, request: Request, account: Account) -> str | None:
        """Return the code for a wrong signature; refuse a wrong nonce or account type with its text."""
        if "api-key" not in request.headers and not self._is_signed(request, account):
            return "UNAUTHORIZED"
        if request.headers.get("account", "") != self._options.account_type:
            raise Refused("", 403, "Wrong account type")
        return None

    def _is_signed(self, request: Request, account: Account) -> bool:
        text, signature = request.headers.get("nonce", ""), request.headers.get("signature", "")
        at = parse_nonce(text)
        if at is None or (request.method == "GET" and request.body not in (b"", b"{}")):
            return False
        bodies = {request.body, compact(request.body) if self._options.signs_compact else request.body}
        texts = (signing_text(request.target, text, body) for body in bodies)
        if not any(is_signed(self.secrets[account.name], signed, signature) for signed in texts):
            return False
        self._accept(account, at)
        return True

    def _accept(self, account: Account, at: float) -> None:
        """Remember a nonce. Raises `Refused` if it is used, too small or too far off."""
        used, rule = self._nonces.setdefault(account.name, set()), self._options.nonce
        window = self._options.nonce_window_s
        late = rule == "increasing" and used and at <= max(used)
        if late or (rule == "unique" and at in used) or (window and abs(self._now() * 1000 - at) > window * 1000):
            raise Refused("", 401, "Nonce is too small or too far off")
        if rule == "increasing":
            used.clear()
        used.add(at)


def signing_text(target: str, nonce: str, body: bytes) -> bytes:
    """Return the signed text: `path?query`, nonce and body; a GET has `{}` as its body (§2)."""
    return f"{target}{nonce}".encode() + (body or b"{}")


def is_signed(secret: str, text: bytes, signature: str) -> bool:
    """Return whether a signature is the lower-case hex of HMAC-SHA384 (§2)."""
    right = hmac.new(secret.encode(), text, hashlib.sha384).hexdigest()
    return hmac.compare_digest(right.encode(), signature.encode())


def parse_nonce(text: str) -> float | None:
    """Parse a nonce, a time in milliseconds that may have a fraction (§2); None if it is invalid."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def compact(body: bytes) -> bytes:
    """Return a JSON body without blanks, the form that is signed (§2); any other body unchanged."""
    try:
        return orjson.dumps(orjson.loads(body))
    except orjson.JSONDecodeError:
        return body
