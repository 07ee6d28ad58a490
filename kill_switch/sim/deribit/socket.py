"""Deribit's WebSocket: logins, heartbeats, subscriptions, cancel-on-disconnect (docs/venues/deribit.md §2, §5, §6)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.grants import Grant, narrowed, parse_scope, unauthorized, wrong
from kill_switch.sim.deribit.rpc import MOST_BYTES, Call, Method, invalid
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import SimAnswer, Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Frames, Op, Refused
from kill_switch.sim.kit.ws_protocol import WsProtocol

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

_SCOPES = {  # of channels `user.NAME…`
    "orders": "trade:read", "changes": "trade:read", "trades": "trade:read", "portfolio": "account:read",
    "lock": "account:read",
}  # fmt: skip
_PLATFORM = ("platform_state", "platform_state.public_methods_state")
_INTERVALS = ("raw", "100ms", "agg2")
_KINDS = ("any", "future", "option", "spot", "future_combo", "option_combo", "combo")
_BATCH_S = 0.1
_INACTIVE_S = 600.0


@dataclass(slots=True, eq=False)
class Beat:
    """The heartbeat of a WebSocket: test requests that were sent, and whether the last one is answered."""

    interval_s: int
    sent: int = 0
    answered: int = 0


@dataclass(slots=True, eq=False)
class State:
    """What the venue knows of one WebSocket besides its subscriptions."""

    grant: Grant | None = None
    beat: Beat | None = None
    cancels: bool = False  # its orders are cancelled when it ends
    latest: dict[str, float] = field(default_factory=dict)


class DeribitSocket(WsProtocol):
    """JSON-RPC over a WebSocket."""

    errors: ClassVar[Mapping[int, str]] = {
        400: "11050", 401: "13009", 403: "13021", 429: "10028", 500: "11094", 503: "11051",
    }  # fmt: skip
    unreadable = "11050"
    unknown_op = "-32601"
    no_login = "13009"

    def __init__(self, venue: Deribit) -> None:
        super().__init__()
        self._venue = venue
        self._states: dict[Session, State] = {}
        self._account_wide: set[str] = set()  # accounts whose new WebSockets cancel when they end

    def methods(self) -> dict[str, Method]:
        """Return the methods of sessions."""
        cod, none = "account:read_write", ""
        return {
            "public/auth": Method(
                "login", "login", self._auth,
                "grant_type! client_id client_secret timestamp nonce data signature refresh_token scope state",
            ),
            "private/logout": Method("other", "logout", self._log_out, "invalidate_token"),
            "public/test": Method("ping", "test", self._test, "expected_result"),
            "public/hello": Method("other", "hello", lambda call: {"version": "2.1.1"}, "client_name client_version"),
            "public/set_heartbeat": Method("other", "heartbeat", self._set_heartbeat, "interval!"),
            "public/disable_heartbeat": Method("other", "heartbeat", self._disable_heartbeat),
            "public/subscribe": Method("other", "subscribe", self._subscribe, "channels!", none, "subscribe"),
            "private/subscribe": Method("other", "subscribe", self._subscribe, "channels! label", none, "subscribe"),
            "public/unsubscribe": Method("other", "unsubscribe", self._unsubscribe, "channels!"),
            "private/unsubscribe": Method("other", "unsubscribe", self._unsubscribe, "channels!"),
            "private/unsubscribe_all": Method("other", "unsubscribe", self._unsubscribe),
            "private/enable_cancel_on_disconnect": Method(
                "other", "cod", lambda call: self._set_cod(call, on=True), "scope", cod
            ),
            "private/disable_cancel_on_disconnect": Method(
                "other", "cod", lambda call: self._set_cod(call, on=False), "scope", cod
            ),
            "private/get_cancel_on_disconnect": Method("read", "cod", self._get_cod, "scope", "account:read"),
        }  # fmt: skip

    def use(self, methods: Mapping[str, Method]) -> None:
        """Take the table of all methods as the operations."""
        for name, method in methods.items():
            handler = partial(self._run, name)
            self.ops[name] = Op(method.kind, handler, name.startswith("private/"), method.operation)

    def _run(self, name: str, session: Session, account: Account, data: dict[str, Any]) -> object:
        grant = self.grant_of(session, data)
        params = data.get("params")
        call = Call(account, params if isinstance(params, dict) else {}, session.connection, session, grant)
        return self._venue.run(name, call, params, texts=False)

    # the envelope

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message; refuse one that is too large or has no id, or that exceeds a limit."""
        self._venue.arrived_ns = session.connection.t_ns
        if len(message if isinstance(message, bytes) else message.encode()) > MOST_BYTES:
            heard = Understood("other", "too large", session_id=session.id)
            heard.answer = self.error(heard, "-32600")
            return heard
        heard = super().parse(session, message)
        if not heard.op:
            return heard
        if heard.data.get("jsonrpc") != "2.0" or ("id" not in heard.data and self._venue.options.needs_id):
            heard.answer = self.error(heard, "11050", "not a request of JSON-RPC 2.0")
        who = (session.account.name if session.account else "") or session.connection.peer
        heard.weight, fits = self._venue.charge(who, heard.op, heard.data.get("params"))
        if not fits:
            heard.answer = self._limited(session, heard)
        return heard

    def _limited(self, session: Session, heard: Understood) -> SimAnswer:
        """Refuse, and end the session (§7)."""
        answer = self.error(heard, "10028")
        if self._venue.options.limited == "close":
            answer.close = 1000
        else:
            self._venue.later(0.001, session.connection.abort)
        return answer

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return `method`."""
        return str(data.get("method") or "-"), None

    def good(self, heard: Understood, result: object) -> object:
        """Return an answer with `result`."""
        return self._venue.envelope("result", result, heard.data)

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return an answer with `error`."""
        return self._venue.refusal(code, text, heard.data)

    def account_of(self, session: Session, data: dict[str, Any]) -> Account | None:
        """Return the account of the token that a request names, or of the login."""
        grant = self.grant_of(session, data)
        return None if grant is None else grant.account

    def grant_of(self, session: Session, data: Mapping[str, Any]) -> Grant | None:
        """Return what a request may do; None if its token or the login is not in force (§2)."""
        params = data.get("params")
        token = params.get("access_token") if isinstance(params, dict) else None
        if token is not None:
            return self._venue.granted(token, session.connection)
        grant = self.state(session).grant
        return grant if self._venue.grants.live(grant) and not self._venue.options.token_in_params else None

    def claimed(self, data: dict[str, Any]) -> Account | None:
        """Return the account of the id or the refresh token in a login."""
        params = data.get("params")
        if not isinstance(params, dict):
            return None
        grant = self._venue.grants.by_refresh(params.get("refresh_token"))
        return grant.account if grant else self._venue.keys.get(str(params.get("client_id")))

    def state(self, session: Session) -> State:
        """Return the state of a WebSocket."""
        return self._states.setdefault(session, State())

    # logins

    def _auth(self, call: Call) -> object:
        params, venue = call.params, self._venue
        asked = parse_scope(params.get("scope", ""))
        client_id = params.get("client_id", "")
        match params["grant_type"]:
            case "client_credentials":
                account = venue.auth.by_secret(client_id, params.get("client_secret", ""))
            case "client_signature":
                for name in ("client_id", "timestamp", "nonce", "signature"):
                    if name not in params:
                        raise invalid(name, "value required")
                stamp, nonce, data = str(params["timestamp"]), params["nonce"], params.get("data", "")
                account = venue.auth.by_signature(client_id, stamp, nonce, data, params["signature"])
            case "refresh_token":
                grant = venue.grants.by_refresh(params.get("refresh_token"))
                if grant is None or grant.connection not in (None, call.connection):
                    raise unauthorized()
                return self._granted(call, grant, {})
            case _:
                raise invalid("grant_type", "invalid grant_type")
        if venue.vanished(account.name):
            raise wrong()
        read_only = venue.faults.on("read_only_key", account.name) is not None
        scopes = narrowed(asked, venue.options.max_scope, read_only=read_only)
        session = asked.get("session", "") or ("" if call.session else f"rest-{venue.next_number()}")
        bound = None if session else call.connection
        return self._granted(call, Grant(account, scopes, session, bound, asked.get("ip", "")), asked)

    def _granted(self, call: Call, grant: Grant, asked: Mapping[str, str]) -> object:
        venue, life_s = self._venue, self._venue.options.expires_in
        wanted = asked.get("expires", "")
        life_s = min(life_s, int(wanted)) if wanted.isascii() and wanted.isdigit() else life_s
        venue.grants.issue(grant, life_s)
        if session := call.session:
            state = self.state(session)
            if session.account is not grant.account:
                self.end_login(session)
                state.cancels = grant.account.name in self._account_wide
            state.grant = grant
            venue.attach(session, grant.account)
            venue.later(life_s, self._lapse, session, grant, grant.access)
        return {
            "access_token": grant.access, "expires_in": life_s, "refresh_token": grant.refresh,
            "scope": grant.text(), "enabled_features": [], "token_type": "bearer",
        }  # fmt: skip

    def _lapse(self, session: Session, grant: Grant, access: str) -> None:
        if self.state(session).grant is grant and grant.access == access:
            self._venue.expire(session)

    def end_login(self, session: Session) -> None:
        """End a session's login and its subscriptions; the WebSocket stays open."""
        if session.account is not None:
            self._venue.listeners[session.account.name].pop(session.connection, None)
            session.account = None
        session.channels.clear()
        self.state(session).grant = None

    def _log_out(self, call: Call) -> object:
        session = call.socket()
        state, grant = self.state(session), call.grant
        state.cancels = False  # a logout does not count as a disconnect (§6)
        if call.params.get("invalidate_token", True):
            self._venue.grants.revoke(lambda other: other is grant)
        self._venue.later(0.001, session.connection.close_websocket, 1000, "logout")
        return Frames(())

    # heartbeats (§5, as measured)

    def _test(self, call: Call) -> object:
        if call.session and (beat := self.state(call.session).beat):
            beat.answered = beat.sent
        if call.params.get("expected_result") == "exception":
            raise Refused("10001", 400)
        return {"version": "2.1.1"}

    def _set_heartbeat(self, call: Call) -> object:
        session, interval = call.socket(), call.params["interval"]
        if interval < 10:
            raise invalid("interval", "must be at least 10")
        beat = self.state(session).beat = Beat(interval)
        self._venue.later(interval, self._heartbeat, session, beat)
        self._venue.later(interval + 2.3, self._test_request, session, beat)
        return "ok"

    def _disable_heartbeat(self, call: Call) -> object:
        self.state(call.socket()).beat = None
        return "ok"

    def _is_on(self, session: Session, beat: Beat) -> bool:
        return self.state(session).beat is beat and not session.connection.closing

    def _heartbeat(self, session: Session, beat: Beat) -> None:
        if self._is_on(session, beat):
            session.connection.say(_notice("heartbeat", {"type": "heartbeat"}))
            self._venue.later(beat.interval_s, self._heartbeat, session, beat)

    def _test_request(self, session: Session, beat: Beat) -> None:
        if self._is_on(session, beat):
            session.connection.say(_notice("heartbeat", {"type": "test_request"}))
            beat.sent += 1
            self._venue.later(beat.interval_s, self._check, session, beat, beat.sent)
            self._venue.later(beat.interval_s + 0.6, self._test_request, session, beat)

    def _check(self, session: Session, beat: Beat, number: int) -> None:
        if self._is_on(session, beat) and beat.answered < number and not session.connection.frozen:
            session.connection.close_websocket(4000, "heartbeat close")

    # subscriptions

    def _subscribe(self, call: Call) -> object:
        """Acknowledge the channels that there are; the others are left out without an error (§5)."""
        session = call.socket()
        named = [name for name in call.params["channels"] if isinstance(name, str)]
        if call.grant is None and any(name.endswith(".raw") for name in named):
            raise Refused("13778", 400)
        accepted = [name for name in dict.fromkeys(named) if self._accepts(call, name)]
        if call.grant is not None and session.account is None and accepted:
            self._venue.attach(session, call.grant.account)
            self.state(session).grant = call.grant
        session.channels |= set(accepted)
        if any(name.startswith("user.orders.") for name in accepted):
            self._venue.later(0.001, self._venue.subscribed, session)
        return accepted

    def _accepts(self, call: Call, name: str) -> bool:
        first, *rest = name.split(".")
        if name in _PLATFORM:
            return True
        if first != "user" or not rest or call.grant is None or not call.grant.allows(_SCOPES.get(rest[0], "-:none")):
            return False
        match rest:
            case ["orders" | "changes" | "trades", market, interval]:
                return market in wire.INSTRUMENTS and interval in _INTERVALS
            case ["orders" | "changes" | "trades", kind, currency, interval]:
                return kind in _KINDS and currency.upper() in (*wire.CURRENCIES, "ANY") and interval in _INTERVALS
            case ["portfolio", currency]:
                return currency.upper() in (*wire.CURRENCIES, "ANY")
        return rest == ["lock"]

    def _unsubscribe(self, call: Call) -> object:
        session = call.socket()
        if "channels" not in call.params:
            session.channels.clear()
            return "ok"
        gone = [name for name in call.params["channels"] if name in session.channels]
        session.channels -= set(gone)
        return gone

    # pushes

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        """Send the events of orders; raw ones are single objects, the others lists."""
        if not self._venue.grants.live(self.state(session).grant):
            return
        for name in sorted(session.channels):
            _, what, *middle, interval = name.split(".") if name.count(".") >= 3 else ("", "", "")
            mine = [order for order in orders if what and wire.matches(middle, order)]
            match what:
                case "orders":
                    rows: list[Any] = [wire.order(order) for order in mine]
                case "trades":
                    rows = [wire.trade(order) for order in mine if order.state == "filled"]
                case "changes":
                    rows = [self._change(order) for order in mine]
                case _:
                    continue
            if interval == "raw":
                for row in rows:
                    self._push(session, name, [row] if what == "trades" else row, "order")
                continue
            size = self._venue.chunk(len(rows) or 1)
            for start in range(0, len(rows), size):
                for part in rows[start : start + size] if what == "changes" else [rows[start : start + size]]:
                    self._venue.later(_BATCH_S, self._push, session, name, part, "order")

    def _change(self, order: Order) -> dict[str, object]:
        trades = [wire.trade(order)] if order.state == "filled" else []
        return {"instrument_name": order.symbol, "orders": [wire.order(order)], "positions": [], "trades": trades}

    def push_equity(self, session: Session, account: Account) -> None:
        """Send the portfolios of the currencies that a session asked for."""
        money = wire.summaries(account, cross=self._venue.options.cross_collateral)
        for name in sorted(session.channels):
            if name.startswith("user.portfolio."):
                currency = name.rpartition(".")[2].upper()
                for row in (row for key, row in money.items() if currency in (key, "ANY")):
                    self._push(session, name, row, "balance")

    def tell(self, channel: str, data: object) -> None:
        """Send an event of the platform, or of all accounts, to the sessions that asked for it."""
        for session in tuple(self._venue.sessions.values()):
            if channel in session.channels:
                session.connection.say(_notice("subscription", {"channel": channel, "data": data}))

    def _push(self, session: Session, channel: str, data: object, push: str) -> None:
        self._venue.event(session, _notice("subscription", {"channel": channel, "data": data}), push)

    # cancel-on-disconnect (§6)

    def _set_cod(self, call: Call, *, on: bool) -> object:
        session, account = call.socket(), call.account
        if call.choice("scope", "connection", "account") == "account":
            (self._account_wide.add if on else self._account_wide.discard)(account.name)
        else:
            self.state(session).cancels = on
        return "ok"

    def _get_cod(self, call: Call) -> object:
        session, scope = call.socket(), call.choice("scope", "connection", "account") or "connection"
        is_on = call.account.name in self._account_wide if scope == "account" else self.state(session).cancels
        return {"scope": scope, "enabled": is_on}

    def watch(self, session: Session, drop: Callable[[Connection], None]) -> None:
        """End a session that is silent and has neither a heartbeat nor a subscription, and look again later.

        One that stays open although it is silent loses its orders after 10 minutes.
        """
        idle_s, state = self._venue.options.idle_s, self.state(session)
        if session.connection.closing or idle_s <= 0:
            return
        silent_s = time.monotonic() - session.heard_at
        if session.channels or state.beat:
            if silent_s >= _INACTIVE_S:
                self.cancel_own(session)
        elif silent_s >= idle_s and not session.connection.frozen:
            drop(session.connection)
            return
        left_s = idle_s - silent_s
        self._venue.later(left_s if left_s > 0.05 else idle_s, self.watch, session, drop)

    def cancel_own(self, session: Session) -> None:
        """Cancel the orders that a WebSocket placed, if it asked for that."""
        if self.state(session).cancels and session.account is not None:
            self._venue.cancel_of_session(session.account, session.id)

    def ended(self, session: Session) -> None:
        """Forget a WebSocket that is closed, and the tokens that end with it."""
        self.cancel_own(session)
        self._venue.grants.revoke(lambda grant: grant.connection is session.connection)
        self._states.pop(session, None)


def _notice(method: str, params: Mapping[str, object]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})
