"""The simulated CrossTrade: URLs, authentication, WebSocket messages.

`sim.main` starts it. It has no call that docs/venues/crosstrade.md does not document; § numbers below are those of that
file.
"""

from __future__ import annotations

from typing import Any

import orjson

from kill_switch.sim.crosstrade.calls import CrossTradeCalls
from kill_switch.sim.crosstrade.orders import CrossTradeOptions
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Request, SimAnswer, Understood
from kill_switch.sim.kit.server import Connection

ELSEWHERE = "Session active elsewhere"
_SOONEST_S = 0.1  # the minimum between two pnlUpdate frames


class CrossTrade(CrossTradeCalls):
    """CrossTrade, with an add-on in NinjaTrader and a broker behind it."""

    def __init__(self, options: CrossTradeOptions, accounts: int) -> None:
        super().__init__(options, accounts)
        self._violations: dict[Connection, int] = {}  # messages over the limit in a row

    def urls(self, authority: str) -> dict[str, str]:
        """Return the addresses (§1)."""
        return {"ws_url": f"wss://{authority}/ws/stream", "rest_url": f"https://{authority}"}

    # limits, authentication, errors

    def _user(self, request: Request) -> Account | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self.tokens.get(token.strip()) if scheme.lower() == "bearer" else None

    def account_of(self, request: Request) -> str | None:
        """Return the account of the token."""
        user = self._user(request)
        return user.name if user else None

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Count REST calls; an upgrade costs no token (§3)."""
        user = self._user(request)
        if user is None or "upgrade" in request.headers or not self.over(user):
            return None
        return self.http_error(429, None, None)

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check the token (§1), and then whether the path exists."""
        user = self._user(request)
        if user is None:
            return self.http_error(401, None, None)
        return user if self.route(request) is not None else self.lost(request)

    def ws_error(self, heard: Understood, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return the error of an RPC (§6)."""
        return self._rpc_error(heard, self.error(status, code, text))

    def _rpc_error(self, heard: Understood, body: dict[str, Any]) -> SimAnswer:
        """Return an error in the form that the `ws_errors` option selects (§6 [U])."""
        frame: dict[str, Any] = {} if heard.tag is None else {"id": heard.tag}
        if self.options.ws_errors == "error":
            frame |= {key: value for key, value in body.items() if key != "success"}
        elif self.options.ws_errors == "data":
            frame["data"] = {**body, "success": False}
        else:
            frame["data"] = {"error": body.get("detail") or body["error"]}
        return SimAnswer((orjson.dumps(frame),), ok=False)

    # WebSocket

    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Log in by the upgrade's token, and replace the user's other session (§6)."""
        if request.path != "/ws/stream":
            return self.lost(request)
        user = self._user(request)
        if user is None or self.faults.hit("reject_login", "login", user.name, "ws"):
            return self.http_error(401, None, None)
        for other in tuple(self.listeners[user.name]):
            if self.options.elsewhere_frame:
                other.say(orjson.dumps({"type": "error", "error": ELSEWHERE}))
            other.close_websocket(self.options.elsewhere_code, ELSEWHERE)
            self.listeners[user.name].pop(other)
        return user

    def disconnected(self, connection: Connection) -> None:
        """Remove a closed connection and its count of violations."""
        super().disconnected(connection)
        self._violations.pop(connection, None)

    def parse_message(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message (§6); an RPC costs a token (§3)."""
        heard = Understood("other", "unreadable", weight=0)
        try:
            data = orjson.loads(message)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            heard.answer = self.ws_error(heard, 400, None, "Invalid JSON")
            return heard
        heard.op, heard.data = str(data.get("action")), data
        heard.tag = data["id"] if isinstance(data.get("id"), str) else None
        heard.operation = heard.op
        if heard.op == "ping":
            heard.kind = "ping"
        elif heard.op == "rpc":
            heard.weight = 1
            call = self.apis.get(str(data.get("api")))
            if call is not None:
                heard.kind, heard.operation = call.kind, call.operation
            heard.answer = self._limited(session, heard)
            if heard.answer is None and call is None:
                heard.answer = self.ws_error(heard, 400, "unknown_api", f"Unknown api {data.get('api')}")
        elif heard.op not in ("subscribe", "unsubscribe", "streamPnl"):
            heard.answer = self.ws_error(heard, 400, "unknown_action", "Unknown action")
        return heard

    def _limited(self, session: Session, heard: Understood) -> SimAnswer | None:
        """Refuse an RPC without a token; ten refusals in a row end the session (§3)."""
        connection = session.connection
        if session.account is None or not self.over(session.account):
            self._violations.pop(connection, None)
            return None
        count = self._violations[connection] = self._violations.get(connection, 0) + 1
        answer = self.ws_error(heard, 429, None, None)
        if count >= self.options.violations:
            answer.close = 1008
        return answer

    def handle_message(self, session: Session, heard: Understood) -> SimAnswer:
        """Carry out a parsed message."""
        data = heard.data
        match heard.op:
            case "ping":
                return SimAnswer((b'{"type":"pong"}',) if self.options.pong else ())
            case "rpc":
                return self._rpc(session, heard)
            case "streamPnl":
                return self._stream_pnl(session, data)
            case "unsubscribe":
                return SimAnswer(())
            case _:
                return self._subscribe(session, heard)

    def _rpc(self, session: Session, heard: Understood) -> SimAnswer:
        args = heard.data.get("args", {})
        if not isinstance(args, dict) or session.account is None:
            return self.ws_error(heard, 400, None, "args is an object")
        call = self.apis[str(heard.data["api"])]
        if call.kind == "read" and self.list_fails(session.account, call.operation):
            return self.ws_error(heard, 500, None, None)
        status, body = self.call(call, session.account, args)
        if status >= 400:
            return self._rpc_error(heard, body)
        frame = {"data": body} if heard.tag is None else {"id": heard.tag, "data": body}
        return SimAnswer((orjson.dumps(frame),))

    def _subscribe(self, session: Session, heard: Understood) -> SimAnswer:
        """Subscribe to order events, where NT8 accounts have them [U], or to quotes."""
        events, instruments = heard.data.get("events"), heard.data.get("instruments")
        if isinstance(events, list):
            if not self.options.order_events:
                return self.ws_error(heard, 400, "invalid_request", "events need an origin")
            session.channels.update(map(str, events))
            self.later(0.001, self.subscribed, session)
            return SimAnswer((orjson.dumps({"status": "subscribed", "events": events}),))
        if not isinstance(instruments, list):
            return self.ws_error(heard, 400, None, None)
        price = {"last": 5995.25, "bid": 5995.0, "ask": 5995.25, "volume": 1}
        quotes = [{"instrument": instrument, **price} for instrument in instruments]
        return SimAnswer((orjson.dumps({"type": "marketData", "quotes": quotes}),))

    def _stream_pnl(self, session: Session, data: dict[str, Any]) -> SimAnswer:
        session.channels -= {channel for channel in session.channels if channel.startswith("pnl ")}
        interval = data.get("interval", 1000)
        if data.get("enabled") is True and isinstance(interval, int):
            interval_s = max(interval / 1000, _SOONEST_S)
            session.channels.add(f"pnl {interval_s}")
            self.later(interval_s, self.watch_pnl, session, interval_s)
        return SimAnswer(())
