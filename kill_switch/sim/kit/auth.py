"""Parts that check credentials: signatures, nonces, tokens that end, the lockout of a client that guesses.

A venue's own rule is an `Authenticator`, made of these parts.
"""

from __future__ import annotations

import base64
import hmac
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.limits import Window
from kill_switch.sim.kit.protocol import Request

_REMEMBERED = 10_000
_LARGEST = 2**64


class Authenticator(Protocol):
    """A venue's rule for signed requests."""

    def key_of(self, request: Request) -> str:
        """Return the key that a request names, unchecked; empty if it names none."""
        ...

    def check(self, request: Request, account: Account) -> str | None:
        """Return the venue's code for what is wrong with a request of this account; None if nothing is.

        Raises `Refused` where the answer needs another status than 401, or a text.
        """
        ...


class BearerToken:
    """The rule of a venue where a token in the header `Authorization` is all that a request needs."""

    def key_of(self, request: Request) -> str:
        """Return the token of a request; empty without one."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def check(self, request: Request, account: Account) -> str | None:
        """Return None: a known token is enough."""
        return None


def is_signed(secret: bytes, text: bytes, digest: str, signature: str) -> bool:
    """Return whether a signature is base64(HMAC(secret, text))."""
    right = base64.b64encode(hmac.digest(secret, text, digest))
    return hmac.compare_digest(right, signature.encode("utf-8", "replace"))


class NonceLedger:
    """The nonces of each key: an unsigned 64-bit number that rises, within a tolerance."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._used: dict[str, deque[int]] = {}

    def accept(self, key: str, nonce: str, window: int = 0) -> bool:
        """Return whether a nonce is right, and remember it.

        With a `window`, it is right if it is new and less than `window` behind the highest.
        """
        if not (nonce.isascii() and nonce.isdigit()) or int(nonce) >= _LARGEST:
            return False
        number, last = int(nonce), self._last.get(key, -1)
        used = self._used.setdefault(key, deque(maxlen=_REMEMBERED))
        if number <= last and (number <= last - window or number in used):
            return False
        self._last[key] = max(last, number)
        if window:
            used.append(number)
        return True

    def was_used(self, key: str, nonce: str) -> bool:
        """Return whether a nonce was accepted within a window before."""
        return nonce.isdigit() and int(nonce) in self._used.get(key, ())


class TokenStore:
    """The tokens that REST hands out for a WebSocket; each ends `life_s()` seconds after it was issued."""

    def __init__(self, life_s: Callable[[], float], clock: Callable[[], float] | None = None) -> None:
        self._life_s = life_s
        self._clock = clock or (lambda: time.monotonic())
        self._tokens: dict[str, tuple[Account, float]] = {}

    def issue(self, account: Account) -> str:
        """Return a new token of an account."""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (account, self._clock())
        return token

    def owner(self, token: object) -> Account | None:
        """Return the account of a token; None if it is unknown or has ended."""
        entry = self._tokens.get(token) if isinstance(token, str) else None
        if entry is None:
            return None
        account, issued_at = entry
        return account if self._clock() - issued_at < self._life_s() else None

    def keep(self, token: object) -> None:
        """Keep a token until it is revoked."""
        if isinstance(token, str) and token in self._tokens:
            self._tokens[token] = (self._tokens[token][0], math.inf)

    def revoke(self, account: Account | None = None) -> None:
        """End all tokens, or those of one account."""
        self._tokens = {
            token: held for token, held in self._tokens.items() if account is not None and held[0] is not account
        }


class Lockout:
    """Lock a client out for `lasts_s` seconds once it has failed `count` times in `seconds`; `count` 0 never does."""

    def __init__(self, count: int, seconds: float, lasts_s: float) -> None:
        self._count = count
        self._seconds = seconds
        self._lasts_s = lasts_s
        self._failures: dict[str, Window] = {}
        self._until: dict[str, float] = {}

    def fail(self, client: str, now: float) -> None:
        """Count a failure."""
        window = self._failures.setdefault(client, Window(self._count, self._seconds))
        window.add(now)
        if window.full(now):
            self._until[client] = now + self._lasts_s

    def locked(self, client: str, now: float) -> bool:
        """Return whether the client is locked out."""
        return now < self._until.get(client, now)
