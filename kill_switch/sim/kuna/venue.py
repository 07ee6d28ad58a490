"""The simulated KUNA: URLs, authentication, WebSocket messages.

`sim.main` starts it. It has no call that docs/venues/kuna.md does not document; § numbers below are those of that file.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import orjson

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.limits import Limiter
from kill_switch.sim.kit.protocol import Kind, Request, SimAnswer, Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kuna import payloads as wire
from kill_switch.sim.kuna.calls import PUBLIC, KunaRest
from kill_switch.sim.kuna.orders import KunaOptions

_PRIVATE = ("order", "trade", "accounts")
_EVENTS: dict[str, tuple[Kind, str]] = {
    "#handshake": ("other", "handshake"),
    "login": ("login", "login"),
    "#subscribe": ("other", "subscribe"),
    "#unsubscribe": ("other", "unsubscribe"),
}
_BEFORE_HANDSHAKE = 4009  # SocketCluster's close code for a message before the handshake
_NOTHING = SimAnswer(())


class Kuna(KunaRest):
    """KUNA, with its REST API and its SocketCluster endpoint."""

    def __init__(self, options: KunaOptions, accounts: int) -> None:
        super().__init__(options, accounts)
        self._tokens: dict[str, Account] = {}
        self._shaken: set[Connection] = set()  # connections whose SocketCluster handshake is complete
        self._nonces: dict[str, set[float]] = {}
        self.reconfigured()

    def account_options(self) -> dict[str, str]:
        """Return the configuration keys that state which keys the account has."""
        keys = {"auth": self.options.auth}
        if self.options.ws_login != "api-key":
            keys["ws_login"] = self.options.ws_login
        return keys | ({"account_type": self.options.account_type} if self.options.account_type else {})

    def urls(self, authority: str) -> dict[str, str]:
        """Return the addresses (§1)."""
        return {"ws_url": f"wss://{authority}/socketcluster/", "rest_url": f"https://{authority}"}

    def reconfigured(self) -> None:
        """Reset the rate limits (§7)."""
        self._private = Limiter((self.options.rest_per_min, 60.0))
        self._public = Limiter((60, 60.0))

    def disconnected(self, connection: Connection) -> None:
        """Remove a closed connection."""
        super().disconnected(connection)
        self._shaken.discard(connection)

    # limits, authentication, errors

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Count requests: 300 a minute per key, 60 a minute for public ones (§7 [I])."""
        if "upgrade" in request.headers:
            return None
        if request.path in PUBLIC:
            fits = self._public.allow(connection.peer, time.monotonic())
        else:
            key = request.headers.get("api-key") or request.headers.get("public-key") or connection.peer
            fits = self._private.allow(key, time.monotonic())
        return None if fits else self.http_error(429, None, None)

    def account_of(self, request: Request) -> str | None:
        """Return the account of the key."""
        account = self.keys.get(request.headers.get("api-key", ""))
        known = self.pairs.get(request.headers.get("public-key", ""))
        return account.name if account else known[0].name if known else None

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check the single key or the signature (§2), then the requested account type."""
        headers = request.headers
        if request.path in PUBLIC:
            return self.account()
        if request.method == "POST" and not headers.get("content-type", "").startswith("application/json"):
            return self.http_error(400, None, "Content-Type must be application/json")
        if "api-key" in headers:
            account: Account | SimAnswer | None = self.keys.get(headers["api-key"])
        else:
            account = self._signed(request)
        if account is None:
            return self.http_error(401, None, None)
        if isinstance(account, Account) and headers.get("account", "") != self.options.account_type:
            return self.http_error(403, None, "Wrong account type")
        return account

    def _signed(self, request: Request) -> Account | SimAnswer | None:
        headers = request.headers
        known = self.pairs.get(headers.get("public-key", ""))
        at = wire.nonce(headers.get("nonce", ""))
        if known is None or at is None or (request.method == "GET" and request.body not in (b"", b"{}")):
            return None
        account, secret = known
        bodies = {request.body, wire.compact(request.body) if self.options.signs_compact else request.body}
        texts = (wire.signing_text(request.target, headers["nonce"], body) for body in bodies)
        if not any(wire.signed(secret, text, headers.get("signature", "")) for text in texts):
            return None
        used, rule = self._nonces.setdefault(account.name, set()), self.options.nonce
        window = self.options.nonce_window_s
        late = rule == "increasing" and used and at <= max(used)
        if late or (rule == "unique" and at in used) or (window and abs(self.now() * 1000 - at) > window * 1000):
            return self.http_error(401, None, "Nonce is too small or too far off")
        if rule == "increasing":
            used.clear()
        used.add(at)
        return account

    def ws_error(self, heard: Understood, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a WebSocket error (§5); a message without a number gets no answer."""
        if heard.tag is None:
            return SimAnswer((), ok=False)
        code = code or {401: "REQUEST_INVALID_KEY", 429: "TOO_MANY_REQUESTS"}.get(status, "BAD_REQUEST")
        text = text or ("Wrong api key or user blocked" if status == 401 else "Refused")
        return SimAnswer((orjson.dumps({"rid": int(heard.tag), "error": wire.error(code, text)}),), ok=False)

    # WebSocket

    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Accept every upgrade; the login is a message (§5)."""
        return None if request.path == "/socketcluster/" else self.http_error(404, None, None)

    def send_greeting(self, session: Session) -> None:
        """Send no greeting, and start to ping (§5)."""
        self._ping(session, first=True)

    def _ping(self, session: Session, *, first: bool = False) -> None:
        every = self.options.ping_s
        if session.connection.closing or every <= 0:
            return
        if not first:
            session.connection.say(b"")
        self.later(every, lambda: self._ping(session))

    def parse_message(self, session: Session, message: str | bytes) -> Understood:
        """Parse a frame (§5): an empty one is a ping or a pong, any other a JSON object with an event or an answer."""
        if not message:
            return Understood("ping", "ping", answer=_NOTHING)
        heard = Understood("other", "unreadable")
        try:
            data = orjson.loads(message)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict) or isinstance(message, bytes):
            heard.answer = SimAnswer((), ok=False)
            return heard
        heard.data, cid, event = data, data.get("cid"), data.get("event")
        heard.tag = str(cid) if type(cid) is int else None
        if "rid" in data:
            heard.operation, heard.answer = "ack", _NOTHING
            return heard
        known = _EVENTS.get(event) if isinstance(event, str) else None
        if known is None:
            heard.answer = self.ws_error(heard, 400, None, "Unknown event")
            return heard
        heard.op = str(event)
        heard.kind, heard.operation = known
        if heard.op == "login":
            account = self.keys.get(str(data.get("data")))
            heard.who = account.name if account else None
        if (session.connection in self._shaken) == (heard.op == "#handshake"):
            heard.answer = SimAnswer((), ok=False, close=_BEFORE_HANDSHAKE)
        return heard

    def handle_message(self, session: Session, heard: Understood) -> SimAnswer:
        """Carry out an event; orders cannot be placed here (§5)."""
        data = heard.data.get("data")
        match heard.op:
            case "#handshake":
                return self._handshake(session, heard, data)
            case "login":
                return self._login(session, heard, data)
            case _:
                return self._subscribe(session, heard, data)

    def _handshake(self, session: Session, heard: Understood, data: Any) -> SimAnswer:
        """Start a session; a token of an earlier login logs it in (§5)."""
        self._shaken.add(session.connection)
        token = data.get("authToken") if isinstance(data, dict) else None
        account = self._tokens.get(str(token))
        if account is not None:
            self.attach(session, account)
        timeout_ms = int(self.base_options.idle_s * 1000)
        reply = {"id": secrets.token_urlsafe(15), "pingTimeout": timeout_ms, "isAuthenticated": account is not None}
        return self._replied(heard, reply)

    def _login(self, session: Session, heard: Understood, data: Any) -> SimAnswer:
        """Log in with the single key, which is sent unsigned (§5)."""
        account = self.keys.get(data) if isinstance(data, str) else None
        if account is None:
            return self.ws_error(heard, 401, None, None)
        self.attach(session, account)
        token = wire.token()
        self._tokens[token] = account
        if self.options.token_s > 0:
            self.later(self.options.token_s, self.expire, session)
        token_event = (orjson.dumps({"event": "#setAuthToken", "data": {"token": token}}),)
        replied = self._replied(heard, None).bodies
        order = {"before": token_event + replied, "after": replied + token_event, "none": replied}
        return SimAnswer(order[self.options.token])

    def expire(self, session: Session) -> None:
        """End a session's login as SocketCluster does: revoke its tokens, and send #removeAuthToken (§5)."""
        if session.account is None:
            return
        self._tokens = {token: account for token, account in self._tokens.items() if account is not session.account}
        super().expire(session)
        session.connection.say(orjson.dumps({"event": "#removeAuthToken", "data": {}}))

    def _subscribe(self, session: Session, heard: Understood, data: Any) -> SimAnswer:
        """Subscribe with `{"channel": name}`, unsubscribe with the name alone (§5)."""
        subscribing = heard.op == "#subscribe"
        channel = (data.get("channel") if isinstance(data, dict) else None) if subscribing else data
        if not isinstance(channel, str) or not channel:
            return self.ws_error(heard, 400, None, "Wrong channel")
        if subscribing and channel in _PRIVATE and session.account is None:
            return self.ws_error(heard, 400, "UNAUTHORIZED", "Log in first")
        (session.channels.add if subscribing else session.channels.discard)(channel)
        if subscribing and channel == "order":
            self.later(0.001, self.subscribed, session)
        return self._replied(heard, None)

    def _replied(self, heard: Understood, data: object) -> SimAnswer:
        if heard.tag is None:
            return _NOTHING
        return SimAnswer((orjson.dumps({"rid": int(heard.tag)} | ({} if data is None else {"data": data})),))
