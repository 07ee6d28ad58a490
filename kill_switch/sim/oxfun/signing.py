"""OX.FUN's REST signature; § numbers are those of docs/venues/oxfun.md."""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.sim.kit.auth import is_signed
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.kit.tables import Refused
from kill_switch.sim.oxfun import payloads as wire
from kill_switch.sim.oxfun.options import OxfunOptions

_NONCES = 100_000


class OxfunSignature:
    """Check AccessKey, Timestamp, Signature and Nonce of a request (§2)."""

    def __init__(self, options: OxfunOptions, now: Callable[[], float]) -> None:
        self._options = options
        self._now = now
        self._nonces: dict[tuple[str, str], None] = {}

    def key_of(self, request: Request) -> str:
        """Return the header AccessKey."""
        return request.headers.get("accesskey", "")

    def check(self, request: Request, account: Account) -> str | None:
        """Return the code for a wrong signature, time stamp or nonce."""
        headers = request.headers
        stamp, nonce = headers["timestamp"], headers["nonce"]
        at = wire.rest_time(stamp)
        if at is None:
            raise Refused("20001", 400, "Timestamp must be YYYY-MM-DDThh:mm:ss")
        payload = request.query.encode() if request.method == "GET" else request.body
        host = headers.get("host", "")
        # §2 signs the host alone, of a venue on the default port; a host with a port is accepted as well
        hosts = (host if host.endswith("]") else host.rsplit(":", 1)[0], host)
        texts = (wire.rest_text(stamp, nonce, request.method, name, request.path, payload) for name in hosts)
        secret = account.credentials["api_secret"].encode()
        if not any(is_signed(secret, text, "sha256", headers["signature"]) for text in texts):
            return "20000"
        if abs(self._now() - at) > self._options.max_skew_s:
            return "20024"
        if self._options.nonce_unique:
            if (account.name, nonce) in self._nonces:
                raise Refused("20001", 401, "Nonce was used before")
            self._nonces[account.name, nonce] = None
            if len(self._nonces) > _NONCES:
                del self._nonces[next(iter(self._nonces))]
        return None
