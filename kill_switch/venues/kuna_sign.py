"""Make KUNA's requests: with the single key once and for all, with the key pair signed anew each time.

The nonce of a signature is the venue's time in milliseconds, as far as we know it, and higher than every one before,
whatever becomes of the clocks. What the venue takes is not documented beyond that. One that it refuses may be too low,
since a clock that ran ahead has used up the times to come, or too far off for the same reason: then it is tried the
other way.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping

import orjson

from kill_switch.domain import Now
from kill_switch.venues.base import Request

AHEAD_MS = 1000  # a nonce that is further ahead of the venue's clock may be refused for that


class Signer:
    """Build requests; `secret` is None where the single key is among the headers, and nothing is signed."""

    def __init__(self, headers: Mapping[str, str], secret: str | None, venue_ms: Callable[[Now], int]) -> None:
        self._headers = headers
        self._secret = None if secret is None else secret.encode()
        self._venue_ms = venue_ms
        self._nonce = 0
        self._turned_ns = 0  # when the nonce was last turned down or up
        self._highest = 0  # of those that were given up as too far ahead

    @property
    def signs(self) -> bool:
        return self._secret is not None

    def build(self, method: str, target: str, body: dict[str, object] | None = None) -> Callable[[Now], Request]:
        """Return what makes this request each time that it goes out."""
        content = b"" if body is None else orjson.dumps(body)
        secret = self._secret
        if secret is None:
            request = Request(method, target, self._headers, content)
            _ = request.wire  # made now, so that the kill only writes
            return lambda now: request
        return lambda now: self._signed(secret, method, target, content, now)

    def _signed(self, secret: bytes, method: str, target: str, body: bytes, now: Now) -> Request:
        """Sign `path?query`, nonce and body (Authorizing requests); a GET signs `{}` and sends nothing."""
        self._nonce = max(self._nonce + 1, self._venue_ms(now))
        text = f"{target}{self._nonce}".encode() + (body or b"{}")
        signature = hmac.digest(secret, text, "sha384").hex()
        return Request(method, target, {**self._headers, "nonce": str(self._nonce), "signature": signature}, body)

    def refused(self, asked_ns: int, now: Now) -> None:
        """Take note that the venue has refused a nonce: next comes the venue's time, or again what was higher.

        Requests that go together are refused together: one that was made (at `asked_ns`) before the nonce last turned
        says nothing of where it stands now.
        """
        if asked_ns < self._turned_ns:
            return
        self._turned_ns = now.mono_ns
        if self._nonce > self._venue_ms(now) + AHEAD_MS:
            self._highest, self._nonce = max(self._highest, self._nonce), 0
        elif self._highest:
            self._highest, self._nonce = 0, max(self._highest, self._nonce)
