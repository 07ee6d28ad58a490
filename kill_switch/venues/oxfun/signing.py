"""Sign OX.FUN's REST requests and its WebSocket login with HMAC-SHA256 (docs/venues/oxfun.md § 2, § 3.2).

A request's constant part is a template that is built once. Each copy has its own time, nonce and signature.
"""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from kill_switch.core.domain import Instant
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.decode import header_safe
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.request import Request, RequestTemplate


class SignedTemplate(NamedTuple):
    """A request without its time, nonce and signature."""

    form: RequestTemplate
    text: str  # the signed text after the time and the nonce


class OxFunSigner:
    """Sign with one account's key, by the venue's clock."""

    def __init__(self, key: str, secret: str, host: str, clock: ClockOffset) -> None:
        """Make a signer; `host` may have a port, which is not signed. Raise ValueError for a bad key or secret."""
        self.key = header_safe("api_key", key)
        self._host = host
        port = urlsplit(f"//{host}").port
        self._signed_host = host.removesuffix(f":{port}") if port else host
        self._clock = clock
        self._nonce = 0
        try:
            self._signer = hmac.new(secret.encode(), digestmod="sha256")  # copied for each signature
        except UnicodeEncodeError:
            raise ValueError("api_secret is not text") from None  # the cause would show the secret

    def template(self, method: str, target: str, body: bytes = b"") -> SignedTemplate:
        """Return the constant part of a request, and of its signed text."""
        path, _, query = target.partition("?")
        payload = query if method == "GET" else body.decode()
        headers = {"Host": self._host, "AccessKey": self.key, "Content-Type": "application/json"}
        return SignedTemplate(
            RequestTemplate(method, target, headers, body), f"{method}\n{self._signed_host}\n{path}\n{payload}"
        )

    def build(self, method: str, target: str, body: bytes = b"") -> Build:
        """Return the builder of this request, which signs each copy when it leaves."""
        template = self.template(method, target, body)
        return lambda now: self.sign(template, now)

    def sign(self, template: SignedTemplate, now: Instant) -> Request:
        """Sign `Timestamp \\n Nonce \\n VERB \\n host \\n path \\n payload` (§ 2), and return the request."""
        venue_ms = self._clock.venue_ms(now)
        self._nonce = max(
            self._nonce + 1, now.wall_ms
        )  # never used twice, because the uniqueness rule is unknown (§ 2)
        stamp, nonce = _stamp(venue_ms // 1000), str(self._nonce)
        signature = self.hmac(f"{stamp}\n{nonce}\n{template.text}")
        return template.form.with_headers({"Timestamp": stamp, "Nonce": nonce, "Signature": signature})

    def hmac(self, text: str) -> str:
        """Return the signature of a text, in base64."""
        signer = self._signer.copy()
        signer.update(text.encode())
        return base64.b64encode(signer.digest()).decode()


@lru_cache(maxsize=4)
def _stamp(venue_s: int) -> str:
    """Return a time in the format of the signatures; all accounts use the same text for a second."""
    return datetime.fromtimestamp(venue_s, UTC).isoformat()[:19]
