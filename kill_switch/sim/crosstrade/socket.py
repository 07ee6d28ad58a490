"""CrossTrade's WebSocket: RPCs, quotes, figures, order events; § numbers are those of docs/venues/crosstrade.md."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from kill_switch.sim.crosstrade import payloads as wire
from kill_switch.sim.crosstrade.calls import ApiCall, ApiCalls
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Understood
from kill_switch.sim.kit.tables import Frames, Op, Refused
from kill_switch.sim.kit.ws_protocol import WsProtocol

if TYPE_CHECKING:
    from kill_switch.sim.crosstrade.venue import CrossTrade

_SOONEST_S = 0.1  # the minimum between two pnlUpdate frames
_VIOLATIONS = "violations"  # messages over the limit in a row
_QUOTE = {"last": 5995.25, "bid": 5995.0, "ask": 5995.25, "volume": 1}


class CrossTradeSocket(WsProtocol):
    """The messages of `/ws/stream`; its upgrade is the login (§6)."""

    errors = wire.ERRORS
    unknown_op = unreadable = wire.ERRORS[400]

    def __init__(self, venue: CrossTrade, calls: ApiCalls) -> None:
        super().__init__()
        self._venue = venue
        self._calls = calls
        self.ops |= {
            "ping": Op("ping", self._ping),
            "subscribe": Op("other", self._subscribe),
            "unsubscribe": Op("other", self._unsubscribe),
            "streamPnl": Op("other", self._stream_pnl),
        }
        self.ops |= {f"rpc {name}": self._op(call) for call in calls.table for name in call.apis}

    def _op(self, call: ApiCall) -> Op:
        """Return the operation of an RPC."""
        run = self._calls.runner(call)

        def handle(session: Session, account: Account, data: dict[str, Any]) -> object:
            args = data.get("args", {})
            if not isinstance(args, dict):
                raise Refused(wire.ERRORS[400], text="args is an object")
            if call.kind == "read" and self._venue.list_fails(account, call.operation):
                raise Refused(wire.ERRORS[0])
            return run(account, args)

        return Op(call.kind, handle, operation=call.operation)

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return the action, with the API's name of an RPC; and the id."""
        action, tag = str(data.get("action")), data.get("id")
        return f"rpc {data.get('api')}" if action == "rpc" else action, tag if isinstance(tag, str) else None

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message; an RPC costs a token, and ten refusals in a row end the session (§3)."""
        heard = super().parse(session, message)
        heard.weight = int(heard.data.get("action") == "rpc")
        if not heard.weight or session.account is None:
            return heard
        if self._venue.takes_token(session.account):
            session.sequence[_VIOLATIONS] = 0
            return heard
        session.sequence[_VIOLATIONS] += 1
        heard.answer = self.error(heard, wire.ERRORS[429])
        heard.answer.close = 1008 if session.sequence[_VIOLATIONS] >= self._venue.options.violations else None
        return heard

    def good(self, heard: Understood, result: object) -> object:
        """Return the answer to an RPC."""
        data = {"data": self._venue.good(result)}
        return data if heard.tag is None else {"id": heard.tag, **data}

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return an error in the form that the `ws_errors` option selects (§6 [U])."""
        body = self._venue.bad(code, text)
        frame: dict[str, Any] = {} if heard.tag is None else {"id": heard.tag}
        if self._venue.options.ws_errors == "error":
            return frame | {key: value for key, value in body.items() if key != "success"}
        if self._venue.options.ws_errors == "data":
            return frame | {"data": {**body, "success": False}}
        return frame | {"data": {"error": body.get("detail") or body["error"]}}

    def _ping(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        return Frames(({"type": "pong"},) if self._venue.options.pong else ())

    def _subscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        """Subscribe to order events, where NT8 accounts have them [U], or to quotes."""
        events, instruments = data.get("events"), data.get("instruments")
        if isinstance(events, list):
            if not self._venue.options.order_events:
                raise Refused(wire.ERRORS[400], text="events need an origin")
            session.channels.update(map(str, events))
            self._venue.later(0.001, self._venue.subscribed, session)
            return Frames(({"status": "subscribed", "events": events},))
        if not isinstance(instruments, list):
            raise Refused(wire.ERRORS[400])
        self._count_subscription(account)
        quotes = [{"instrument": instrument, **_QUOTE} for instrument in instruments]
        return Frames(({"type": "marketData", "quotes": quotes},))

    def _unsubscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        self._count_subscription(account)
        return Frames(())

    def _count_subscription(self, account: Account) -> None:
        """Charge a change of a subscription to quotes to its own budget (§3). Raises `Refused` beyond it."""
        if not self._venue.subscriptions.charge(1, time.monotonic(), account=account.name):
            raise Refused(wire.ERRORS[429])

    def _stream_pnl(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        session.channels -= {channel for channel in session.channels if channel.startswith("pnl ")}
        interval = data.get("interval", 1000)
        if data.get("enabled") is True and isinstance(interval, int):
            interval_s = max(interval / 1000, _SOONEST_S)
            session.channels.add(f"pnl {interval_s}")
            self._venue.later(interval_s, self._push_pnl, session, account, interval_s)
        return Frames(())

    def _push_pnl(self, session: Session, account: Account, interval_s: float) -> None:
        """Send pnlUpdate frames until the session ends or stops them (§6)."""
        venue = self._venue
        if session.connection.closing or f"pnl {interval_s}" not in session.channels:
            return
        accounts = self._calls.summary(account) if venue.options.pnl_element == "snapshot" else [{"pnl": 0.0}]
        frame = {"type": "pnlUpdate", "epoch": int(venue.now() * 1000), "accounts": accounts}
        venue.event(session, orjson.dumps(frame), "balance")
        venue.later(interval_s, self._push_pnl, session, account, interval_s)
