"""Sign Deribit's REST requests and its WebSocket login (docs/venues/deribit.md § 2). It sends nothing."""

from __future__ import annotations

from kill_switch.core.domain import Instant
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.signing import RisingNonce, form, hex_hmac
from kill_switch.venues.request import Request

PREFIX = "/api/v2/"
NEVER = -(10**18)  # monotonic ns: before every event


class DeribitRequests:
    """The signed requests of one key; each copy has a time and a nonce of its own."""

    def __init__(self, host: str, client_id: str, secret: bytes, clock: ClockOffset) -> None:
        self.signed_ms = 0  # the time in the newest signature
        self._corrected_ns = NEVER  # when an answer has corrected this time last, monotonic
        self._client_id = client_id
        self._secret = secret
        self._clock = clock
        self._nonce = RisingNonce()
        self._headers = {"Host": host, "User-Agent": "kill-switch"}

    def get(self, method: str, **params: object) -> Build:
        """Return the builder of a GET, which needs no token and no session."""
        target = f"{PREFIX}{method}?{form(**params)}" if params else PREFIX + method

        def build(now: Instant) -> Request:
            stamp, nonce = self._mark(now)
            signature = sign(self._secret, stamp, nonce, f"GET\n{target}\n\n")
            value = f"deri-hmac-sha256 id={self._client_id},ts={stamp},nonce={nonce},sig={signature}"
            return Request("GET", target, {**self._headers, "Authorization": value})

        return build

    def login(self, now: Instant) -> dict[str, object]:
        """Return the arguments of `public/auth` that prove the key without the secret."""
        stamp, nonce = self._mark(now)
        return {
            "grant_type": "client_signature",
            "client_id": self._client_id,
            "timestamp": stamp,
            "nonce": nonce,
            "data": "",
            "signature": sign(self._secret, stamp, nonce, ""),
        }

    def note_correction(self, now: Instant) -> None:
        """Note that a refused signature has corrected the time: those made before have the wrong time too."""
        self._corrected_ns = now.mono_ns

    def is_outdated(self, signed_ns: int) -> bool:
        """Return whether the time has been corrected since this moment, monotonic."""
        return signed_ns <= self._corrected_ns

    def _mark(self, now: Instant) -> tuple[int, str]:
        self.signed_ms = self._clock.venue_ms(now)
        return self.signed_ms, str(self._nonce.next(now))


def sign(secret: bytes, stamp: int, nonce: str, text: str) -> str:
    """Return the signature of a login's data, or of a request as `METHOD\\nURI\\nBODY\\n`."""
    return hex_hmac(secret, f"{stamp}\n{nonce}\n{text}".encode())
