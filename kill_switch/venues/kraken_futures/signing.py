"""Sign the requests of REST v3 and of the history API, and the challenge of WebSocket v1.

docs/venues/kraken.md § 2.3 and § 2.4 have the rules.
"""

from __future__ import annotations

from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.signing import base64_hmac, form, sha256
from kill_switch.venues.request import Request

PREFIX = "/derivatives"  # of each target of REST v3; it is not signed
HISTORY = "/api/history/v3/"  # of the targets of the history API, which are signed whole


class FuturesRequests:
    """The private requests of one derivatives key.

    They have no nonce: it is optional, and another process with the same key then disturbs nobody. So a signature is
    made once for each request, and none is made in a kill.
    """

    def __init__(self, host: str, key: str, secret: bytes) -> None:
        self._secret = secret
        self._headers = {"Host": host, "User-Agent": "kill-switch", "APIKey": key}

    def get(self, name: str) -> Build:
        """Return the builder of a GET without arguments."""
        return self._builder("GET", name, "")

    def post(self, name: str, **values: object) -> Build:
        """Return the builder of a POST with its arguments in the body."""
        return self._builder("POST", name, form(**values))

    def history(self, name: str, **values: object) -> Build:
        """Return the builder of a GET of the history API, with its arguments in the query."""
        path, query = HISTORY + name, form(**values)
        headers = {**self._headers, "Authent": authent(self._secret, query.encode(), path.encode())}
        return lambda now: Request("GET", f"{path}?{query}", headers, b"")

    def _builder(self, method: str, name: str, data: str) -> Build:
        path, body = f"/api/v3/{name}", data.encode()
        headers = {**self._headers, "Authent": authent(self._secret, body, path.encode())}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        return lambda now: Request(method, PREFIX + path, headers, body)


def authent(secret: bytes, data: bytes, path: bytes, nonce: bytes = b"") -> str:
    """Return the `Authent` of a request; `data` is its argument string as sent, `path` begins behind /derivatives."""
    return base64_hmac(secret, sha256(data + nonce + path))


def sign_challenge(secret: bytes, challenge: str) -> str:
    """Return the `signed_challenge` of a challenge that the venue has sent."""
    return base64_hmac(secret, sha256(challenge.encode()))
