"""The simulated OX.FUN: URLs, authentication, WebSocket messages.

`sim.main` starts it. It has no call that docs/venues/oxfun.md does not document; § numbers below are those of that
file.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.limits import Limiter, Window
from kill_switch.sim.kit.protocol import Kind, Request, SimAnswer, Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.oxfun import payloads as wire
from kill_switch.sim.oxfun.calls import OxfunRest
from kill_switch.sim.oxfun.orders import OxfunOptions

_NONCES = 100_000
_PRIVATE = {"order", "position", "balance"}
_PUBLIC = {"ticker", "depth", "depthL5", "depthL10", "depthL25", "trade", "candles60s", "bestBidAsk", "market"}
_OPS: Mapping[str, Kind] = {
    "login": "login",
    "subscribe": "other",
    "unsubscribe": "other",
    "cancelorder": "cancel",
    "cancelorders": "cancel",
}


class Oxfun(OxfunRest):
    """OX.FUN, with its REST API and its WebSocket."""

    def __init__(self, options: OxfunOptions, accounts: int) -> None:
        super().__init__(options, accounts)
        self._nonces: dict[tuple[str, str], None] = {}
        self.reconfigured()

    def urls(self, authority: str) -> dict[str, str]:
        """Return the addresses (§1)."""
        return {"ws_url": f"wss://{authority}/v2/websocket", "rest_url": f"https://{authority}"}

    def reconfigured(self) -> None:
        """Reset the rate limits (§3.4)."""
        self._rest = Limiter((100, 1.0), (2500, 300.0))
        self._posts = Limiter((20, 1.0))
        self._connects = Limiter((200, 60.0))

    # limits, authentication, errors

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Count a request against 100/s and 2500/5 min, 20 order posts/s, and 200 connects/min (§3.4)."""
        by = self.options.limits
        if by == "off":
            return None
        client = connection.peer if by == "ip" else request.headers.get("accesskey", connection.peer)
        now = time.monotonic()
        if "upgrade" in request.headers:
            fits = self._connects.allow(client, now)
        else:
            fits = self._rest.allow(client, now)
            if fits and request.method == "POST" and request.path.startswith("/v3/orders"):
                fits = self._posts.allow(client, now)
        return None if fits else self.http_error(429, None, None)

    def account_of(self, request: Request) -> str | None:
        """Return the account of the key."""
        account = self.keys.get(request.headers.get("accesskey", ""))
        return account.name if account else None

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check the four headers (§2)."""
        headers = request.headers
        for name in ("AccessKey", "Timestamp", "Signature", "Nonce"):
            if not headers.get(name.lower()):
                return self.http_error(401, "30001", f"Missing parameter: {name}")
        if request.body and not headers.get("content-type", "").startswith("application/json"):
            return self.http_error(400, "20001", "Content-Type must be application/json")
        account = self.keys.get(headers["accesskey"])
        if account is None:
            return self.http_error(401, "20025", None)
        stamp, nonce = headers["timestamp"], headers["nonce"]
        at = wire.rest_time(stamp)
        if at is None:
            return self.http_error(400, "20001", "Timestamp must be YYYY-MM-DDThh:mm:ss")
        payload = request.query.encode() if request.method == "GET" else request.body
        host = headers.get("host", "")
        # §2 signs the host alone, of a venue on the default port; a host with a port is accepted as well
        hosts = (host if host.endswith("]") else host.rsplit(":", 1)[0], host)
        texts = (wire.rest_text(stamp, nonce, request.method, name, request.path, payload) for name in hosts)
        if not any(wire.signed(account.credentials["api_secret"], text, headers["signature"]) for text in texts):
            return self.http_error(401, "20000", None)
        if abs(self.now() - at) > self.options.max_skew_s:
            return self.http_error(401, "20024", None)
        if self.options.nonce_unique:
            if (account.name, nonce) in self._nonces:
                return self.http_error(401, "20001", "Nonce was used before")
            self._nonces[account.name, nonce] = None
            if len(self._nonces) > _NONCES:
                del self._nonces[next(iter(self._nonces))]
        return account

    def ws_error(self, heard: Understood, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a WebSocket error; errors of orders have `submitted`, all others `success` (§3.2, §4.1)."""
        code = code or {401: "20025", 403: "05001", 429: "20007", 503: "000101"}.get(status, "20001")
        body: dict[str, object] = {"event": heard.op} if heard.op else {}
        body["submitted" if heard.kind == "cancel" else "success"] = False
        body |= {"code": code, "message": text or wire.TEXTS.get(code, "Refused"), "timestamp": wire.ms(self.now())}
        if heard.tag is not None:
            body["tag"] = heard.tag
        if heard.kind == "cancel" and isinstance(data := heard.data.get("data"), dict):
            body["data"] = {key: value if key == "marketCode" else str(value) for key, value in data.items()}
        return SimAnswer((orjson.dumps(body),), ok=False)

    # WebSocket

    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Accept every upgrade; the login is a message (§3.2)."""
        return None if request.path == "/v2/websocket" else self.http_error(404, None, "No such path")

    def send_greeting(self, session: Session) -> None:
        """Send a greeting with an unused nonce (§3.1); the limit is one message a second until the login (§3.4)."""
        session.window = Window(1, 1.0)
        if self.options.greeting:
            nonce, stamp = secrets.token_hex(8), wire.ms(self.now())
            session.connection.say(
                orjson.dumps({"event": "Welcome", "nonce": nonce, "success": True, "timestamp": stamp})
            )

    def parse_message(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message (§3.2–§3.4): `ping`, or a JSON object with `op` and perhaps `tag`."""
        window, now, fits = session.window, time.monotonic(), True
        free = message == "ping" and session.account is None and not self.options.counts_pings
        if window is not None and not free:
            fits = not window.full(now)
            if fits:
                window.add(now)
        if message == "ping" and fits:
            return Understood("ping", "ping", answer=SimAnswer((b"pong",)))
        heard, code = self._parse(message)
        if not fits:
            code = "20007"
        if code:
            heard.answer = self.ws_error(heard, 400, code, None)
        return heard

    def _parse(self, message: str | bytes) -> tuple[Understood, str]:
        heard = Understood("other", "unreadable")
        try:
            data = orjson.loads(message)
        except orjson.JSONDecodeError:
            return heard, "20009"
        if not isinstance(data, dict):
            return heard, "20002"
        op, tag = data.get("op"), data.get("tag")
        if not isinstance(op, str):
            return heard, "20003"
        known = op in _OPS
        heard = Understood(_OPS.get(op, "other"), op if known else f"unknown {op[:32]}", op, data=data)
        if len(message) > self.options.max_message:
            return heard, "20027"
        if tag is not None:
            if len(str(tag)) > 32 or isinstance(tag, bool | dict | list):
                return heard, "20034"
            heard.tag = str(tag)  # returned as text (§3.2)
        if op == "login" and isinstance(data.get("data"), dict):
            account = self.keys.get(str(data["data"].get("apiKey")))
            heard.who = account.name if account else None
        return heard, "" if known else "20003"

    def handle_message(self, session: Session, heard: Understood) -> SimAnswer:
        """Carry out a command; order commands need a login (§4)."""
        if heard.op == "login":
            return self._login(session, heard)
        if heard.op in ("subscribe", "unsubscribe"):
            return self._subscribe(session, heard)
        account = session.account
        if account is None:
            return self.ws_error(heard, 400, "05001", None)
        if heard.op == "cancelorder":
            return self._cancel_frames(account, heard, [heard.data.get("data")])
        items = heard.data.get("dataArray")
        if not isinstance(items, list) or not items:
            return self.ws_error(heard, 400, "20002", None)
        return self._cancel_frames(account, heard, items)

    def _login(self, session: Session, heard: Understood) -> SimAnswer:
        account = self._credentials(session, heard.data.get("data"))
        if isinstance(account, str):
            return self.ws_error(heard, 400, account, None)
        self.attach(session, account)
        session.window = Window(self.options.ws_limit, 1.0)
        if self.options.login_s > 0:
            self.later(self.options.login_s, self.expire, session)
        body = {"event": "login", "success": True, "timestamp": wire.ms(self.now())}
        return SimAnswer((orjson.dumps(body | ({} if heard.tag is None else {"tag": heard.tag})),))

    def _credentials(self, session: Session, data: object) -> Account | str:
        """Check a login (§3.2); return its account, or the code of the refusal."""
        if session.account is not None:
            return "20005"
        if not isinstance(data, dict):
            return "20002"
        stamp = data.get("timestamp")
        if stamp is None or stamp == "":
            return "20023"
        account = self.keys.get(str(data.get("apiKey")))
        if account is None:
            return "20025"
        # documented as text; the number that ccxt sends is accepted as well
        if isinstance(stamp, bool) or not str(stamp).isdigit():
            return "20024"
        if abs(self.now() - int(stamp) / 1000) > self.options.max_skew_s:
            return "20024"
        right = wire.signed(account.credentials["api_secret"], wire.login_text(str(stamp)), str(data.get("signature")))
        return account if right else "20000"

    def _subscribe(self, session: Session, heard: Understood) -> SimAnswer:
        """Answer each channel separately (§6); private channels need a login."""
        channels = heard.data.get("args")
        if not isinstance(channels, list) or not channels:
            return self.ws_error(heard, 400, "20002", None)
        frames: list[bytes] = []
        good = True
        for channel in channels:
            base = str(channel).partition(":")[0]
            code = "" if base in _PRIVATE | _PUBLIC else "20001"
            if base in _PRIVATE and session.account is None:
                code = "05001"
            body: dict[str, object] = {"event": heard.op, "success": not code}
            body |= {} if heard.tag is None else {"tag": heard.tag}
            body |= {"channel": str(channel), "timestamp": wire.ms(self.now())}
            if code:
                good = False
                body |= {"code": code, "message": wire.TEXTS[code]}
            elif heard.op == "subscribe":
                session.channels.add(base)
                if base == "order":
                    self.later(0.001, self.subscribed, session)
            else:
                session.channels.discard(base)
            frames.append(orjson.dumps(body))
        return SimAnswer(tuple(frames), ok=good)

    def _cancel_frames(self, account: Account, heard: Understood, items: Sequence[Any]) -> SimAnswer:
        """Answer with one frame per order, all with the same tag (§4.1, §4.2); the engine cancels later."""
        orders: list[Order] = []
        rows: list[tuple[str, dict[str, str]]] = []
        for item in items:
            code, order = self._check(account, item)
            shown: dict[str, str] = {}
            if isinstance(item, dict):
                shown = {key: str(item[key]) for key in ("marketCode", "clientOrderId", "orderId") if key in item}
            if order is not None:
                orders.append(order)
                shown |= {"clientOrderId": order.client_id, "orderId": order.id}
            rows.append((code, shown))
        self.cancel(account, orders, whole=False, single=True)
        stamp = wire.ms(self.now())
        frames: list[bytes] = []
        for code, shown in rows:
            body: dict[str, object] = {"event": "cancelorder", "submitted": not code}
            body |= {} if heard.tag is None else {"tag": heard.tag}
            body |= {"message": wire.TEXTS[code], "code": code} if code else {}
            frames.append(orjson.dumps(body | {"timestamp": stamp, "data": shown}))
        return SimAnswer(tuple(frames), ok=any(not code for code, _ in rows))

    def _check(self, account: Account, item: object) -> tuple[str, Order | None]:
        if not isinstance(item, dict):
            return "20002", None
        if not isinstance(item.get("marketCode"), str):
            return "20011", None
        order_id = item.get("orderId")
        if order_id is None and item.get("clientOrderId") is None:
            return "20010", None
        text = self.options.string_ids and isinstance(order_id, str) and order_id.isdigit()
        if (
            order_id is not None
            and not text
            and (not isinstance(order_id, int) or isinstance(order_id, bool) or order_id < 0)
        ):
            return "20019", None
        order = self.find(account, item)
        if order is not None:
            return "", order
        if any(str(order_id) in other.open for other in self.accounts.values() if other is not account):
            return "100006", None
        return "100005", None
