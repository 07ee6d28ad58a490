"""Sign the private requests of a spot key (docs/venues/kraken.md § 2.1). It sends nothing.

A spot key hands out the tokens of both WebSockets v2, spot's and the Unified WebSocket's.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant
from kill_switch.venues.described_venue import COMMAND_RETRIES
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.nonce_watch import HINT, NonceWatch
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.signing import RisingNonce, base64_hmac, form, sha256
from kill_switch.venues.request import Request

TOKEN_PATH = "/0/private/GetWebSocketsToken"  # noqa: S105 - a path


class SpotRequests:
    """The private requests of one spot key; all of them draw from one row of rising nonces."""

    def __init__(self, host: str, key: str, secret: bytes, *, origin: str = "") -> None:
        """Make the requests of `key`; `origin` is that of `Request`, for an account whose `rest_url` is another."""
        self._secret = secret
        self._origin = origin
        self._headers = {
            "Host": host,
            "User-Agent": "kill-switch",
            "API-Key": key,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self._nonce = RisingNonce()
        self.watch = NonceWatch()

    def post(self, path: str, **values: object) -> Build:
        """Return the builder of a request; each copy has a nonce and a signature of its own."""
        signed_path, arguments = path.encode(), f"&{form(**values)}" if values else ""

        def build(now: Instant) -> Request:
            nonce = self._nonce.next(now)
            body = f"nonce={nonce}{arguments}".encode()
            signature = api_sign(self._secret, signed_path, nonce, body)
            return Request("POST", path, {**self._headers, "API-Sign": signature}, body, origin=self._origin)

        return build

    def note_judged(self, call: PendingCall, reply: Reply, now: Instant) -> Reply:
        """Note whether a reply to a request of this key accepts its nonce; add to its evidence why it does not."""
        if reply.ok or reply.not_found:
            self.watch.on_accepted()
        elif reply.outcome is ReplyOutcome.WRONG_TIME:
            self.watch.on_refusal(now)
            if self.watch.is_outrun or call.retries >= COMMAND_RETRIES:
                return reply._replace(evidence=f"{reply.evidence}: {HINT}")
        return reply

    def may_sign_again(self, call: PendingCall) -> bool:
        """Return whether a refused nonce may be followed by another; each refusal nears the lockout.

        Once another program is known to use larger nonces, only a command is tried again, and once.
        """
        if self.watch.is_outrun:
            return call.command and not call.retries
        return call.retries < (COMMAND_RETRIES if call.command else 1)

    def note_refusal(self, tries: int) -> None:
        """Note that the venue has refused the nonce of a request `tries` times in a row; its next copy is built now."""
        self._nonce.note_refusal(COMMAND_RETRIES if self.watch.is_outrun else tries)


def api_sign(secret: bytes, path: bytes, nonce: int, body: bytes) -> str:
    """Return the `API-Sign` of a request; `body` has the same nonce (§ 2.1)."""
    return base64_hmac(secret, path + sha256(b"%d%b" % (nonce, body)))
