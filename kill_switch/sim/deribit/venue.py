"""The simulated Deribit: JSON-RPC over a WebSocket and over HTTP; § numbers are those of docs/venues/deribit.md.

`sim.main` starts it. Where the file is silent, it refuses what a strict venue could refuse.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.calls import methods
from kill_switch.sim.deribit.grants import Credentials, Grant, Grants, narrowed, unauthorized
from kill_switch.sim.deribit.payloads import DeribitOrder
from kill_switch.sim.deribit.rpc import MOST_BYTES, Call, Method, checked, error
from kill_switch.sim.deribit.socket import DeribitSocket
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.limits import DecayingCounter
from kill_switch.sim.kit.options import Options, option
from kill_switch.sim.kit.protocol import Request, SimAnswer, Understood
from kill_switch.sim.kit.server import Connection, PendingReply
from kill_switch.sim.kit.table_venue import TableVenue
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kit.values import json_object

_API = "/api/v2"
_HTTP_S = 900.0  # after which a connection of HTTP is closed (§1)
_ECHO_S = 1.0
TIERS = {"T1": (100, 30), "T2": (50, 20), "T3": (30, 10), "T4": (20, 5), "unlimited": (0, 0)}  # burst, per second
POOLS = {  # pool → cost of a call, burst, refill per second
    "cancel_all": (1, 250, 200), "credits": (500, 50_000, 10_000), "subscribe": (3_000, 30_000, 10_000),
    "instruments": (1, 50, 1),
}  # fmt: skip


@dataclass
class DeribitOptions(Options):
    """The facts about Deribit that are inferred or unknown, or differ by account."""

    idle_s: float = option(60.5, "seconds of silence until a WebSocket without heartbeat and subscription ends (§5)")
    idle_close_code: int = option(1006, "close code after `idle_s`; 1006 drops the connection (§5)")
    events: str = option("subscribed", "the sessions that get account events (§5)", "subscribed")
    snapshot: bool = option(False, "a subscription first shows the resting orders; measured: none (§5)")
    testnet: bool = option(False, "what replies say in `testnet` (§2)")
    max_scope: str = option(
        "account:read_write block_rfq:read_write trade:read_write", "the scopes that the keys allow (§9)"
    )
    expires_in: int = option(31_536_000, "seconds until a token ends (§2, §11)", harsh=120)
    needs_id: bool = option(
        True, "a request without an id is refused (§2: documents and measurement differ)", kind=False
    )
    token_in_params: bool = option(False, "each private request over a WebSocket must have an access token (§2)")
    tier: str = option("T4", "the tier of all accounts; `unlimited` has no limits at all (§7)", *TIERS)
    limited: str = option(
        "close", "after 10028 the session ends with a close frame, or is dropped at once (§7)", "close", "drop",
        harsh="drop",
    )  # fmt: skip
    connections: int = option(32, "connections of an address; the next one gets HTTP 429 (§5); 0 is no limit")
    error_status: int = option(0, "HTTP status of all errors but 429; 0: 401 for logins, else 400 (§8, §11)", harsh=200)
    queue_full: str = option("", "currencies, with commas, whose cancels a detailed answer reports as 10047 (§3.1)")
    echoes: bool = option(
        False, "a detailed answer repeats orders that cancel-on-disconnect has just cancelled (§11)", harsh=True
    )
    mark_price: float = option(60_000.0, "the price of every market; triggers that it reaches fire (§1)")
    settling: bool = option(False, "the pause at 08:00 UTC: commands get 10041 (§8)")
    settling_cancels: bool = option(False, "cancels pass in the pause (§11)", kind=True)
    locked: bool = option(False, "the account is frozen by Deribit: user.lock, and 10019 for new orders (§5, §8)")
    locked_cancels: bool = option(True, "cancels pass while the account is frozen (§8, §11)", harsh=False)
    starbase_cancelled: bool = option(False, "cancel_all reaches Starbase orders of the portfolio (§11)", kind=True)
    starbase_listed: bool = option(False, "lists show Starbase orders of the portfolio (§11)", kind=True)
    rfq: int = option(0, "open Block RFQ quotes of each account, which no cancel_all reaches (§3.3)")
    starbase: int = option(0, "open Starbase orders of each account, which no cancel_all reaches (§3.3)")
    liquidation: int = option(0, "liquidation orders of each account, which nobody can cancel (§3.1)")
    cross_collateral: bool = option(False, "summaries have `total_equity_usd` (§9)")


class Deribit(TableVenue):
    """Deribit."""

    name = "deribit"
    options_type = DeribitOptions
    symbols = tuple(wire.INSTRUMENTS)
    kinds = tuple(wire.KINDS)
    not_covered = wire.UNCOVERED
    lists = ("orders",)
    reads = ("order", "summaries", "positions", "trigger-history", "rfq-quotes", "log", "subaccounts", "cod")
    cancelled_word = "cancelled"
    auth: Credentials  # type: ignore[assignment]
    errors: ClassVar[Mapping[int, str]] = {**DeribitSocket.errors, 401: "13004", 404: "-32601"}

    def __init__(self, options: DeribitOptions, accounts: int) -> None:
        self.options = options
        self.arrived_ns = 0  # when the latest request or message came, monotonic
        self._number = 100_000
        self._exchange: PendingReply | None = None  # the HTTP request that is being answered
        self._rpc: dict[str, Any] | None = {}  # its body; None if that is no JSON object
        self._grant: Grant | None = None  # what it may do
        self._surplus: set[Connection] = set()  # connections above the limit
        self._frozen_until: dict[str, float] = {}
        self._told = (False, False)
        self.ledger: dict[str, list[dict[str, Any]]] = defaultdict(list)
        super().__init__(options, accounts)
        self.auth = Credentials(self.keys, lambda: self.now_ns() // 1_000_000)
        self.grants = Grants(lambda: time.monotonic())
        self.socket = DeribitSocket(self)
        self.methods: Mapping[str, Method] = methods(self) | self.socket.methods()
        self.socket.use(self.methods)
        self.sockets["/ws/api/v2"] = self.socket
        for name, method in self.methods.items():
            is_public = name.startswith("public/") and method.kind != "login"  # faults of logins are the kit's
            row = RouteSpec(method.kind, method.operation, partial(self._answer, name), public=is_public)
            self.routes["GET", f"{_API}/{name}"] = row
        self._place_uncovered()

    # accounts and orders

    def make_account(self, number: int) -> Account:
        """Create an account with a key of Deribit's shape."""
        credentials = {"client_id": secrets.token_urlsafe(6), "client_secret": secrets.token_urlsafe(32)}
        account = Account(f"{self.name}-{number}", str(1000 + number), credentials)
        self.keys[credentials["client_id"]] = account
        return account

    def next_number(self) -> int:
        """Return a number that no order had before."""
        self._number += 1
        return self._number

    def new_deribit_order(self, symbol: str, kind: str, order_type: str, side: str) -> DeribitOrder:
        """Create an order; a trigger lies 5,000 away from the price."""
        one = wire.order_id(symbol, self.next_number(), order_type)
        price, stop = Decimal(str(self.options.mark_price)), None
        if order_type in wire.TRIGGERS:
            is_below = (side == "sell") is not order_type.startswith("take")
            stop = price - 5_000 if is_below else price + 5_000
        state = "open" if stop is None else "untriggered"
        return DeribitOrder(
            one, symbol, kind, side, Decimal(10), price, state, self.now_ns(), stop, type=order_type
        )  # fmt: skip

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order of a kind of the admin API."""
        side = "sell" if number % 2 else "buy"
        order = self.new_deribit_order(symbol, kind, wire.KINDS.get(kind, "limit"), side)
        order.quote_set = "set-1" if kind == "quote" else ""
        return order

    def id_format(self, text: str) -> bool:
        """Return whether a text is an order id (§1)."""
        return wire.is_order_id(text)

    def is_classic(self, order: Order, *, listing: bool = False) -> bool:
        """Return whether this API knows an order: RFQ quotes and Starbase orders are elsewhere (§3.3)."""
        if order.kind == "starbase":
            return self.options.starbase_listed if listing else self.options.starbase_cancelled
        return order.kind != "rfq"

    def covered(self, account: Account) -> list[Order]:
        """Return the orders that cancels reach, and the liquidation orders that they fail at."""
        return [order for order in super().covered(account) if self.is_classic(order) or self._lists(order)]

    def _lists(self, order: Order) -> bool:
        return order.kind == "starbase" and self.options.starbase_listed

    def rfq_quotes(self, account: Account, number: int | None) -> list[Order]:
        """Return the open quotes of Block RFQs, of one or of all."""
        quotes = [order for order in account.open.values() if order.kind == "rfq"]
        return [quote for quote in quotes if number in (None, wire.rfq_number(quote))]

    def freeze_quotes(self, account: Account) -> None:
        """Refuse mass quotes for a second (§3.1)."""
        self._frozen_until[account.name] = time.monotonic() + 1.0

    def echoed(self, account: Account) -> list[Order]:
        """Return the orders that a detailed answer repeats, where the option says so."""
        if not self.options.echoes:
            return []
        since = time.monotonic() - _ECHO_S
        ended = (order for order in account.closed.values() if order.ended_s >= since)
        return [order for order in ended if getattr(order, "reason", "") == "cancel_on_disconnect"]

    def cancel_of_session(self, account: Account, session_id: str) -> None:
        """Cancel the orders that a WebSocket placed (§6)."""
        orders = [order for order in account.open.values() if getattr(order, "session", "") == session_id]
        self._end(account, orders, "cancel_on_disconnect")

    def _end(self, account: Account, orders: Sequence[Order], reason: str) -> None:
        ended = []
        for order in orders:
            if isinstance(order, DeribitOrder) and account.end(order, "cancelled", self.now_ns()):
                order.reason = reason
                ended.append(order)
        if ended:
            self.push_orders(account, ended, "cancelled")

    def push_orders(self, account: Account, orders: Sequence[Order], news: str) -> None:
        """Send the events of the orders that this API knows, then follow the links between orders (§3.2)."""
        shown = [order for order in orders if order.kind not in ("rfq", "starbase")]
        super().push_orders(account, shown, news)
        if news in ("cancelled", "filled", "triggered"):
            for order in orders:
                self._follow(account, order, is_filled=news == "filled")

    def _follow(self, account: Account, closed: Order, *, is_filled: bool) -> None:
        if not isinstance(closed, DeribitOrder):
            return
        linked = [order for order in account.open.values() if isinstance(order, DeribitOrder)]
        secondaries = [order for order in linked if order.primary == closed.id and order.dormant]
        if is_filled:
            for order in secondaries:
                order.dormant, order.state = False, "untriggered" if order.is_trigger else "open"
            if secondaries:
                self.push_orders(account, secondaries, "opened")
        else:
            self._end(account, secondaries, "oto_primary_closed")
        if closed.group:
            others = [order for order in linked if order.group == closed.group and not order.dormant]
            self._end(account, others, "oco_other_closed")

    def _place_uncovered(self) -> None:
        """Rest as many orders of the kinds that a kill does not reach as the options say."""
        for kind in wire.UNCOVERED:
            wanted: int = getattr(self.options, kind)
            for account in self.accounts.values():
                there = [order for order in account.open.values() if order.kind == kind]
                self._end(account, there[wanted:], "autoliquidation")
                self.rest(account, max(0, wanted - len(there)), self.symbol, kind)

    def _fire(self) -> None:
        """Turn the triggers that the price has reached into orders with new ids (§1)."""
        price = Decimal(str(self.options.mark_price))
        for account in self.accounts.values():
            for order in [*account.open.values()]:
                if not isinstance(order, DeribitOrder) or not order.is_trigger or order.dormant or not order.stop_price:
                    continue
                falls = (order.side == "sell") is not order.type.startswith("take")
                if (price <= order.stop_price) if falls else (price >= order.stop_price):
                    child_type = wire.TRIGGERS[order.type][1]
                    child = self.new_deribit_order(order.symbol, child_type, child_type, order.side)
                    child.qty, child.price, child.client_id = order.qty, order.price, order.client_id
                    child.parent, child.session, order.child = order.id, order.session, child.id
                    account.end(order, "triggered", self.now_ns())
                    self.push_orders(account, [order], "triggered")
                    self.place(account, child)

    def permit(self, *, cancels: bool) -> None:
        """Refuse a command in the pause at 08:00 UTC, or while the account is frozen."""
        if self.options.settling and not (cancels and self.options.settling_cancels):
            raise Refused("10041", 400)
        if self.options.locked and not (cancels and self.options.locked_cancels):
            raise Refused("10019", 400)

    def status(self) -> dict[str, object]:
        """Return what public/status answers (§8)."""
        return {"locked": "true" if self._told[1] else "false", "locked_indices": []}

    # the envelope

    def envelope(self, key: str, value: object, request: Mapping[str, Any] | None) -> dict[str, object]:
        """Return a reply: it repeats the request's id, and has its times in microseconds."""
        out = self.now_ns() // 1000
        took = max(0, (time.monotonic_ns() - self.arrived_ns) // 1000)
        named = {"id": request["id"]} if request and "id" in request else {}
        stamps = {"usIn": out - took, "usOut": out, "usDiff": took, "testnet": self.options.testnet}
        return {"jsonrpc": "2.0", **named, key: value, **stamps}

    def refusal(self, code: str, text: str, request: Mapping[str, Any] | None) -> dict[str, object]:
        """Return a reply with an error."""
        return self.envelope("error", error(code, text), request)

    def good(self, result: object) -> object:
        """Return the body of a success over HTTP."""
        return self.envelope("result", result, self._rpc)

    def bad(self, code: str, text: str = "") -> object:
        """Return the body of an error over HTTP."""
        return self.refusal(code, text, self._rpc)

    def error_status(self, status: int) -> int:
        """Return the HTTP status of an error: 401 and 429 are the only ones besides 400 (§8)."""
        if status == 429 or self._exchange is None:  # an upgrade is refused with the status itself
            return status
        return self.options.error_status or (status if status == 401 else 400)

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an error; a status of the proxy in front of the venue comes as HTML with that status."""
        if status > 500 and status != 503 and code is None:
            return SimAnswer((b"<html><body>cloudflare</body></html>",), status, ok=False)
        return super().http_error(status, code, text if code else None)

    def ws_error(self, heard: Understood, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an error; a refused login has a code of its own, and a limit ends the session."""
        usual = "13004" if status == 401 and heard.kind == "login" else None
        answer = super().ws_error(heard, status, code or usual, text if code else None)
        if status == 429:
            answer.close = 1000
        return answer

    # one method, over either transport

    def run(self, name: str, call: Call, params: object, *, texts: bool) -> object:
        """Check a call's scope and parameters, and carry it out. Raises `Refused`."""
        method = self.methods[name]
        if call.grant is not None and not call.grant.allows(method.scope):
            raise Refused("13021", 400, f"scope {method.scope}")
        call.params = checked(method.params, params, texts=texts)
        if call.session and method.kind == "read" and self.list_fails(call.account, method.operation):
            raise Refused("11094", 400)
        return method.handler(call)

    def _answer(self, name: str, account: Account, params: Params) -> object:
        exchange, rpc = self._exchange, self._rpc
        assert exchange is not None and rpc is not None  # noqa: S101 - a request is being answered
        is_post = exchange.request.method == "POST"
        given = rpc.get("params") if is_post else exchange.request.parameters() or None
        call = Call(account, {}, exchange.connection, None, self._grant)
        return self.run(name, call, given, texts=not is_post)

    # HTTP

    def requested(self, exchange: PendingReply) -> None:
        """Note the request, then answer it at once."""
        request = exchange.request
        self._exchange, self.arrived_ns, self._grant = exchange, request.t_ns, None
        self._rpc = json_object(request.body) if request.method == "POST" else {}
        super().requested(exchange)
        self._exchange = None

    def _method_of(self, request: Request) -> str:
        return (
            request.path.removeprefix(f"{_API}/") if request.method == "GET" else str((self._rpc or {}).get("method"))
        )

    def spec_of(self, request: Request) -> RouteSpec | None:
        """Return the row of a method; what is no request of JSON-RPC is refused whoever sends it."""

        def refused(code: str, text: str = "") -> RouteSpec:
            def handler(account: Account, params: Params) -> object:
                raise Refused(code, 400, text)

            return RouteSpec("other", f"refused {request.method} {request.path[:64]}", handler, public=True)

        if request.method == "POST":
            name = self._method_of(request)
            if len(request.body) > MOST_BYTES:
                return refused("-32600")
            if self._rpc is None or self._rpc.get("jsonrpc") != "2.0":
                return refused("11050")
            if request.path not in (_API, f"{_API}/{name}"):
                return refused("-32601")
            if "id" not in self._rpc and self.options.needs_id:
                return refused("11050", "not a request of JSON-RPC 2.0")
        elif request.method != "GET":
            return refused("-32601")
        spec = self.routes.get(("GET", f"{_API}/{self._method_of(request)}"))
        return refused("-32601") if spec is None else spec._replace(weight=self._weight(request))

    def _weight(self, request: Request) -> float:
        return self._cost(self._method_of(request), self._given(request))[1]

    def _given(self, request: Request) -> object:
        return (self._rpc or {}).get("params") if request.method == "POST" else request.parameters()

    def parameters(self, request: Request) -> Params:
        """Return nothing: a call parses its own."""
        return {}

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Refuse a connection too many, and charge a request; a refusal ends the connection (§7)."""
        fits = connection not in self._surplus
        if fits and "upgrade" not in request.headers:
            who = self.account_of(request) or connection.peer
            fits = self.charge(who, self._method_of(request), self._given(request))[1]
        if fits:
            return None
        if self._exchange is not None:
            self._exchange.close, request.keep_alive = True, False
        return self.http_error(429, None, None)

    def account_of(self, request: Request) -> str | None:
        """Return the account that a header names, or a login."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            grant = self.grants.by_access(token)
            return grant.account.name if grant else None
        given = self._given(request)
        login = given if self._method_of(request) == "public/auth" and isinstance(given, dict) else {}
        account = self.socket.claimed({"params": login}) or self.keys.get(self.auth.key_of(request))
        return account.name if account else None

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check what a private request proves itself with; a login is checked by its method."""
        if self._method_of(request) == "public/auth":
            return self.anonymous
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() == "bearer":
                self._grant = self.granted(token, None)
                if self._grant is None:
                    raise unauthorized()
            else:
                account = self.auth.by_header(request)
                self._grant = Grant(account, narrowed({}, self.options.max_scope, read_only=False))
        except Refused as refused:
            return self.http_error(refused.status, refused.code, refused.text or None)
        return self._grant.account

    def granted(self, token: object, connection: Connection | None) -> Grant | None:
        """Return what a token allows on a connection; None if it is not in force there."""
        grant = self.grants.by_access(token)
        here = connection or (self._exchange.connection if self._exchange else None)
        if grant is None or here is None or grant.connection not in (None, here) or grant.ip not in ("", here.peer):
            return None
        return grant

    # limits (§7)

    def _cost(self, name: str, params: object) -> tuple[str, float]:
        """Return the pool of a call, and its cost there."""
        method = self.methods.get(name)
        pool = method.pool if method else "credits"
        if pool == "cancel_all?":  # with a currency, it draws from the pool of the trade
            currency = params.get("currency") if isinstance(params, dict) else None
            pool = "cancel_all" if currency in (None, "any", ["any"]) else "trading"
        return pool, 1 if pool == "trading" else POOLS[pool][0]

    def charge(self, who: str, name: str, params: object) -> tuple[float, bool]:
        """Charge a call to its pool of an account, or of an address; return its cost, and whether it fits."""
        pool, cost = self._cost(name, params)
        most, per_s = TIERS[self.options.tier] if pool == "trading" else POOLS[pool][1:]
        unlimited = self.options.tier == "unlimited"
        counter = self._counters.setdefault((who, pool), DecayingCounter(0 if unlimited else most, per_s))
        return cost, counter.charge(cost, time.monotonic())

    def charge_foreign(self, account: Account) -> None:
        """Charge an order of another program to the pool of the trade."""
        self.charge(account.name, "private/buy", None)

    def limits_shown(self) -> dict[str, object]:
        """Return the limits as summaries have them."""
        burst, rate = TIERS[self.options.tier]
        total, every = {"burst": burst, "rate": rate}, {"burst": 250, "rate": 200}
        engine = {"trading": {"total": total}, "spot": total, "quotes": total, "cancel_all": every}
        return {
            "limits_per_currency": False,
            "non_matching_engine": {"burst": 100, "rate": 20},
            "matching_engine": engine,
        }

    def reconfigured(self) -> None:
        """Empty the pools, fire the triggers that the price has reached, and tell a changed state."""
        self._counters: dict[tuple[str, str], DecayingCounter] = {}
        if self.routes:  # and not in the middle of the start
            self._place_uncovered()
            self._fire()
            self._tell_state()

    def _tell_state(self) -> None:
        fault = self.faults.peek("maintenance")
        state = fault is not None and fault.on == "all", self.options.locked
        before, self._told = self._told, state
        if state[0] != before[0]:
            self.socket.tell("platform_state", {"maintenance": state[0]})
        if state[1] != before[1]:
            self.socket.tell("user.lock", {"currency": "ALL", "locked": state[1]})

    def put_fault(self, name: object, parameters: Mapping[str, object]) -> None:
        """Switch a fault on; tell maintenance to the sessions that asked for it (§8)."""
        super().put_fault(name, parameters)
        self._tell_state()

    def clear_faults(self, name: str | None = None) -> None:
        """Switch one fault off, or all."""
        super().clear_faults(name)
        self._tell_state()

    # connections and logins

    def connected(self, connection: Connection) -> None:
        """Register a connection: it may be one too many, and HTTP lasts for 15 minutes (§1, §5)."""
        most = self.options.connections
        if most and sum(other.peer == connection.peer for other in self.connections) >= most:
            self._surplus.add(connection)
        super().connected(connection)
        self.later(_HTTP_S, self._end_http, connection)

    def _end_http(self, connection: Connection) -> None:
        if not connection.is_websocket and not connection.closing and not connection.frozen:
            connection.finish()

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection; cancel the orders that end with it."""
        self._surplus.discard(connection)
        session = self.sessions.get(connection)
        super().disconnected(connection)
        if session is not None:
            self.socket.ended(session)

    def _watch(self, session: Session) -> None:
        def drop(connection: Connection) -> None:
            code = self.options.idle_close_code
            connection.abort() if code == 1006 else connection.close_websocket(code, "idle")

        self.socket.watch(session, drop)

    def expire(self, session: Session) -> None:
        """End a session's login."""
        self.socket.end_login(session)

    def expire_logins(self, account_name: str | None) -> None:
        """End the logins and the tokens of an account, or of all."""
        super().expire_logins(account_name)
        self.grants.revoke(lambda grant: account_name in (None, grant.account.name))

    def subscribed(self, session: Session) -> None:
        """Show the resting orders to a session that has subscribed to them, where the option says so."""
        if self.options.snapshot and session.account is not None and session.account.open:
            self.socket.push_orders(session, list(session.account.open.values()), "opened")

    def tell_equity(self, account: Account) -> None:
        """Send the portfolio, and note a change of the cash in the log (§9)."""
        change = account.cash - account.cash_before
        if account.cash_before and change:
            row = {"type": "settlement", "currency": "USDC", "change": float(change), "equity": float(account.equity),
                   "balance": float(account.cash), "timestamp": self.now_ns() // 1_000_000,
                   "user_seq": self.next_number()}  # fmt: skip
            self.ledger[account.name].append(row)
        super().tell_equity(account)
