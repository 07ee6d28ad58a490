"""KUNA's requests: prebuilt with the single key, signed for each copy with the key pair (docs/venues/kuna.md § 2).

The adapter and its commands build every request here. Nothing here sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.signing import hex_hmac
from kill_switch.venues.request import Request

AHEAD_MS = 1000  # a nonce that is further ahead of the venue's clock may have been refused for that


class KunaSigner:
    """Build requests.

    A signature's nonce is our own time in milliseconds, and higher than every nonce before. KUNA does not document
    which nonces it accepts (§ 2), and may refuse every nonce below the highest that it has seen. A nonce that ran far
    ahead would then lock the key out, even after a restart. So neither a reply's date nor a step of our clock moves the
    nonce forward. Only a refusal does: the next nonce is the venue's time. If that is refused too, it is higher than
    the highest nonce before.
    """

    def __init__(self, headers: Mapping[str, str], secret: str | None, venue_ms: Callable[[Instant], int]) -> None:
        """Make a signer; `secret` is None if the headers hold the single key, and nothing is signed.

        `venue_ms` returns the venue's time in milliseconds, as the clock offset estimates it.
        """
        self._headers = headers
        self._secret = None if secret is None else secret.encode()
        self._venue_ms = venue_ms
        self._nonce = 0
        self._first: Instant | None = None  # when the first request was signed
        self._ahead_ms = 0  # how far the venue's time was ahead of ours at the latest refusal of a nonce
        self._turned_ns = 0  # when the strategy was last changed, monotonic
        self._highest = 0  # the highest nonce that was given up as too far ahead

    @property
    def needs_signature(self) -> bool:
        """Whether requests are signed."""
        return self._secret is not None

    def build(self, method: str, target: str, body: Mapping[str, object] | None = None) -> Build:
        """Return the builder that is called for each copy of this request."""
        content = b"" if body is None else orjson.dumps(body)
        secret = self._secret
        if secret is None:
            request = Request(method, target, self._headers, content)
            _ = request.wire  # rendered now, so that a kill only writes
            return lambda now: request
        return lambda now: self._signed(secret, method, target, content, now)

    def _signed(self, secret: bytes, method: str, target: str, body: bytes, now: Instant) -> Request:
        """Sign `path?query`, nonce and body (§ 2); a GET signs `{}` and has no body."""
        self._nonce = max(self._nonce + 1, self._own_ms(now) + self._ahead_ms)
        text = f"{target}{self._nonce}".encode() + (body or b"{}")
        signed = {"nonce": str(self._nonce), "signature": hex_hmac(secret, text, "sha384")}
        return Request(method, target, {**self._headers, **signed}, body)

    def _own_ms(self, now: Instant) -> int:
        """Return our time in milliseconds, without any forward step of our wall clock since the first request."""
        first = self._first = self._first or now
        return min(now.wall_ms, first.wall_ms + (now.mono_ns - first.mono_ns) // 1_000_000)

    def nonce_refused(self, asked_ns: int, now: Instant) -> None:
        """Change the strategy after a refused nonce: use the venue's time, or return to nonces above the highest.

        Requests that are sent together are refused together. A refusal of a request that was built (at `asked_ns`)
        before the latest change is ignored.
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
