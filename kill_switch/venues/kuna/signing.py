"""Make KUNA's requests: with the single key once and for all, with the key pair signed anew each time.

A signature's nonce is our own time in milliseconds, and higher than every one before. The venue may refuse each nonce
that is lower than the highest it has seen: one that ran far ahead would lock the key out, beyond this process's life.
So neither an answer's date nor a step of our own clock moves it forward. Only a refusal does, which is the venue's own
word: the next nonce is then the venue's time, and if that is refused too, it is higher than what was used before.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.request import Request

AHEAD_MS = 1000  # a nonce that is further ahead of the venue's clock may be refused for that


class KunaSigner:
    """Build requests; `secret` is None where the single key is among the headers, and nothing is signed."""

    def __init__(self, headers: Mapping[str, str], secret: str | None, venue_ms: Callable[[Instant], int]) -> None:
        self._headers = headers
        self._secret = None if secret is None else secret.encode()
        self._venue_ms = venue_ms
        self._nonce = 0
        self._first: Instant | None = None  # when the first request was signed
        self._ahead_ms = 0  # how far the venue's time was ahead of our own when it last refused a nonce
        self._turned_ns = 0  # when the nonce was last turned down or up
        self._highest = 0  # of those that were given up as too far ahead

    @property
    def needs_signature(self) -> bool:
        return self._secret is not None

    def build(self, method: str, target: str, body: dict[str, object] | None = None) -> Callable[[Instant], Request]:
        """Return what makes this request each time that it goes out."""
        content = b"" if body is None else orjson.dumps(body)
        secret = self._secret
        if secret is None:
            request = Request(method, target, self._headers, content)
            _ = request.wire  # made now, so that the kill only writes
            return lambda now: request
        return lambda now: self._signed(secret, method, target, content, now)

    def _signed(self, secret: bytes, method: str, target: str, body: bytes, now: Instant) -> Request:
        """Sign `path?query`, nonce and body (Authorizing requests); a GET signs `{}` and sends nothing."""
        self._nonce = max(self._nonce + 1, self._own_ms(now) + self._ahead_ms)
        text = f"{target}{self._nonce}".encode() + (body or b"{}")
        signature = hmac.digest(secret, text, "sha384").hex()
        return Request(method, target, {**self._headers, "nonce": str(self._nonce), "signature": signature}, body)

    def _own_ms(self, now: Instant) -> int:
        """Return our time; after a step of our wall clock forward, the time that it would show without that step."""
        first = self._first = self._first or now
        return min(now.wall_ms, first.wall_ms + (now.mono_ns - first.mono_ns) // 1_000_000)

    def nonce_refused(self, asked_ns: int, now: Instant) -> None:
        """Take note that the venue has refused a nonce: next comes the venue's time, or again what was higher.

        Requests that go together are refused together: one that was made (at `asked_ns`) before the nonce last turned
        says nothing of where it stands now.
        """
        if asked_ns < self._turned_ns:
            return
        self._turned_ns = now.mono_ns
        venue_ms = self._venue_ms(now)
        self._ahead_ms = venue_ms - self._own_ms(now)
        if self._nonce > venue_ms + AHEAD_MS:
            self._highest, self._nonce = max(self._highest, self._nonce), 0
        elif self._highest:
            self._highest, self._nonce = 0, max(self._highest, self._nonce)
