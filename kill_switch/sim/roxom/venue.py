"""The simulated Roxom: URLs, authentication, WebSocket messages.

`sim.main` starts it. It has no call that docs/venues/roxom.md does not document; § numbers below are those of that
file.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import orjson

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.limits import Limiter
from kill_switch.sim.kit.protocol import Request, SimAnswer, Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.roxom import payloads as wire
from kill_switch.sim.roxom.calls import RoxomRest
from kill_switch.sim.roxom.orders import RoxomOptions

_PRIVATE = {"orders": "order", "positions": "position", "balance": "balance", "account": "account"}
_MARKET = {"level1", "trade", "depth", "ticker"}
_PROOFS = 4096
_ERRORS: Mapping[str, str] = {  # WebSocket error codes and texts (§5)
    "600010": "Authentication failed",
    "60014": "Invalid channel",
    "60015": "Invalid symbol",
    "60016": "Subscription limit reached",
    "60017": "Message could not be parsed",
    "60018": "Binary frames are not supported",
    "60019": "Internal error",
}


class Roxom(RoxomRest):
    """Roxom, with its REST API and its WebSocket."""

    def __init__(self, options: RoxomOptions, accounts: int) -> None:
        super().__init__(options, accounts)
        # connections whose upgrade failed to authenticate and which get the error in a frame
        self._strangers: set[Connection] = set()
        # Results of signature checks, because the same signatures return: they contain no time (§3.2).
        self._proofs: dict[tuple[str, bytes, str], bool] = {}
        self.reconfigured()

    def account_options(self) -> dict[str, str]:
        """Return the configuration keys that select the generation of the documents."""
        return {"auth": self.options.auth, "path_prefix": self.options.path_prefix}

    def urls(self, authority: str) -> dict[str, str]:
        """Return the addresses (§2)."""
        return {"ws_url": f"wss://{authority}/ws", "rest_url": f"https://{authority}"}

    def reconfigured(self) -> None:
        """Reset the rate limit."""
        self._limit = Limiter((self.options.rest_per_s, 1.0))

    # limits, authentication, errors

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Count a request against the limit, if one is set: none is documented (§7)."""
        if not self.options.rest_per_s or "upgrade" in request.headers:
            return None
        fits = self._limit.allow(request.headers.get("x-api-key", connection.peer), time.monotonic())
        return None if fits else self.http_error(429, None, None)

    def account_of(self, request: Request) -> str | None:
        """Return the account of the key."""
        known = self.keys.get(request.headers.get("x-api-key", ""))
        return known[0].name if known else None

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check key and signature (§3); in the older generation the key alone."""
        headers = request.headers
        key, signature = headers.get("x-api-key"), headers.get("x-api-signature")
        old = self.options.auth == "api-key"
        if not key:
            return self.refuse("Authorization header is required" if old else "Missing API Key")
        known = self.keys.get(key)
        if known is None:
            return self.refuse("Invalid API key" if old else "Invalid API Key")
        account, public = known
        # §3.2 requires Content-Type in every request; it is checked where a body is possible
        if request.method == "POST" and not headers.get("content-type", "").startswith("application/json"):
            return self.http_error(415, None, "Content-Type must be application/json")
        if public is None:
            return account
        if not signature:
            return self.refuse("Missing Signature")
        text = wire.signing_text(request.method, request.target, request.body)
        if text is None:
            return self.http_error(400, None, "Invalid JSON")
        right = self._proofs.get((key, text, signature))
        if right is None:
            right = self._proofs[key, text, signature] = wire.signed(public, text, signature)
            if len(self._proofs) > _PROOFS:
                del self._proofs[next(iter(self._proofs))]
        return account if right else self.refuse("Invalid Signature")

    def ws_error(self, heard: Understood, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a WebSocket error frame (§5)."""
        code = code or {401: "600010", 429: "60016"}.get(status, "60019")
        body = {"event": "error", "code": code, "msg": text or _ERRORS.get(code, "Refused"), "connId": heard.tag}
        return SimAnswer((orjson.dumps(body),), ok=False, close=1008 if self.options.errors_close else None)

    # WebSocket

    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Authenticate the upgrade (§5) by the same two headers, over `GET:/ws`."""
        if request.path != "/ws":
            return self.http_error(404, None, None)
        account_name = self.account_of(request)
        if self.faults.hit("reject_login", "login", account_name, "ws") or self.vanished(account_name):
            account: Account | SimAnswer = self.refuse("Invalid API key")
        else:
            account = self.authenticate(request)
        if isinstance(account, SimAnswer) and self.options.ws_auth_failure != "http":
            self._strangers.add(connection)
            return None
        return account

    def send_greeting(self, session: Session) -> None:
        """Send nothing to an authenticated client; send error 600010 to any other (§5)."""
        if session.connection in self._strangers:
            self._strangers.discard(session.connection)
            session.connection.say(self.ws_error(self._heard(session), 401, None, None).bodies[0])
            if self.options.ws_auth_failure == "frame+close":
                session.connection.close_websocket(1008, "Authentication failed")

    def _heard(self, session: Session) -> Understood:
        return Understood("other", "unreadable", tag=session.id)

    def parse_message(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message (§5): JSON in text frames only."""
        heard = self._heard(session)
        code = "60018" if isinstance(message, bytes) else ""
        if not code:
            try:
                data = orjson.loads(message)
            except orjson.JSONDecodeError:
                code = "60017"
            else:
                heard.op = str(data.get("op")) if isinstance(data, dict) else ""
                heard.data = data if isinstance(data, dict) else {}
                if heard.op == "ping":  # §5 mentions a heartbeat without its form [U]
                    heard.kind, heard.operation = "ping", "ping"
                elif heard.op in ("subscribe", "unsubscribe") and isinstance(data.get("args"), list):
                    heard.operation = heard.op
                else:
                    code = "60017"
        if code:
            heard.answer = self.ws_error(heard, 400, code, None)
        return heard

    def handle_message(self, session: Session, heard: Understood) -> SimAnswer:
        """Subscribe or unsubscribe: orders cannot be placed over the WebSocket (§5)."""
        if heard.op == "ping":
            return SimAnswer((orjson.dumps({"event": "pong", "connId": heard.tag}),))
        channels: list[str] = []
        for item in heard.data["args"]:
            name = item.get("channel") if isinstance(item, dict) else None
            code = "" if name in _PRIVATE or name in _MARKET else "60014"
            if name in _PRIVATE and session.account is None:
                code = "600010"
            elif name in _MARKET and not item.get("symbol"):
                code = "60015"
            elif not code and heard.op == "subscribe" and 0 < self.options.subscriptions <= len(session.channels):
                code = "60016"
            if code:
                return self.ws_error(heard, 400, code, None)
            channels.append(_PRIVATE.get(str(name)) or f"{name}.{item['symbol']}")
        for channel in channels:
            (session.channels.add if heard.op == "subscribe" else session.channels.discard)(channel)
        if heard.op == "subscribe" and "order" in channels:
            self.later(0.001, self.subscribed, session)
        if self.options.ack == "none":
            return SimAnswer(())
        details = {} if self.options.ack == "bare" else {"args": heard.data["args"], "connId": heard.tag}
        return SimAnswer((orjson.dumps({"event": heard.op} | details),))
