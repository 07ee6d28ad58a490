"""The simulated CrossTrade: switches, NT accounts, orders, tokens, events, errors.

`sim.main` starts it. It has no call that docs/venues/crosstrade.md does not document; § numbers below are those of that
file. A fact that the file leaves open is a switch.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import orjson

from kill_switch.sim.crosstrade import payloads as wire
from kill_switch.sim.crosstrade.calls import BASE, CANCELLING, ApiCalls, split_names
from kill_switch.sim.crosstrade.socket import CrossTradeSocket
from kill_switch.sim.kit.auth import BearerToken
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.faults import SPECS
from kill_switch.sim.kit.limits import PoolSpec, RatePools
from kill_switch.sim.kit.options import Options, option, unknown
from kill_switch.sim.kit.protocol import Request, SimAnswer, json_answer
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.table_venue import TableVenue
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kit.values import json_object

ELSEWHERE = "Session active elsewhere"


@dataclass
class CrossTradeOptions(Options):
    """The facts about CrossTrade that are inferred or unknown, and the user's NT accounts."""

    engine_ms: float = option(
        40.0, "milliseconds from an accepted cancel until the order is Cancelled (§4)", harsh=400.0
    )
    nt_accounts: str = option("Sim101", "the user's accounts in NinjaTrader, with commas between", fixed=True)
    addon: bool = option(True, "the add-on is connected; without it NT8 calls get 408 (§2)")
    close_ms: float = option(40.0, "milliseconds from an accepted flatten until its market orders are filled (§4)")
    close_share: float = option(1.0, "the share of each market order that is filled; the remainder is rejected")
    flat: str = option(
        "warning", "the answer to a flatten without positions (§2)", "warning", "empty", "400", harsh="400"
    )
    pnl_element: str = option(
        "snapshot", "the form of an element of pnlUpdate (§6 [U])", "snapshot", "other", harsh="other"
    )
    broker: str = option("Connected", "connectionStatus of every account (§5)", "Connected", "ConnectionLost")
    hidden: str = option("", "accounts that NinjaTrader does not show; their orders rest on at the broker")
    cut_off: str = option("", "accounts without a connection: shown as ConnectionLost, and their orders are not listed")
    warning: str = option("", "a warning in each answer to a read (§2)")
    errors: str = option(
        "new", "the envelope of errors (§2); `empty`: no body with 401 and 408 (§1, §11 [U])",
        "new", "old", "empty", harsh="empty",
    )  # fmt: skip
    ws_errors: str = option(
        "error", "an RPC's error: beside the id, or in `data` in one of the two envelopes (§6 [U])",
        "error", "data", "data-old", harsh="data-old",
    )  # fmt: skip
    nothing: str = option(
        "empty", "the answer to a cancel-all without orders (§4 [U])", "empty", "warning", "400", harsh="400"
    )
    cancelall: str = option("account", "the scope of CancelAllOrders (§4 [U])", "account", "everywhere")
    has_orders: bool = option(True, "REST has GET /orders (§5 [I])", harsh=False)
    orders_key: str = option("orders", "the key of a list of orders (§5 [I])", "orders", "data", harsh="data")
    page_limit: int = option(0, "longest list of orders; 0 is no limit (§5 [U])", harsh=5)
    lists_terminal: bool = option(True, "lists of orders show terminal ones too (§5 [U])", harsh=False)
    renumber: bool = option(
        False, "lists show the broker's ids; ids given at placement are accepted too (§2)", harsh=True
    )
    order_events: bool = option(
        False, "a subscription to order events works for NT8 accounts (§6 [U])", kind=True, harsh=False
    )
    pong: bool = option(True, "a ping is answered (§6 [U])", harsh=False)
    elsewhere_code: int = option(1008, "close code of a session that a newer session replaces (§6 [U])", harsh=1000)
    elsewhere_frame: bool = option(False, "a replaced session first gets an error frame (§6 [U])")
    retry_after: bool = option(True, "a 429 has a Retry-After header (§3 [D2])", harsh=False)
    submitted_ms: float = option(15.0, "milliseconds in CancelPending before CancelSubmitted (§7)")
    burst: int = option(20, "tokens of a user; 0 is no limit (§3)")
    per_s: float = option(3.0, "tokens that are refilled a second (§3)")
    violations: int = option(10, "WebSocket messages over the limit in a row until 1008 (§3)")


class CrossTrade(TableVenue):
    """CrossTrade, with an add-on in NinjaTrader and a broker behind it."""

    options: CrossTradeOptions
    auth = BearerToken()
    name = "crosstrade"
    options_type = CrossTradeOptions
    symbols = ("ES 09-26", "NQ 09-26")
    not_covered = ("tradovate",)  # orders in the Tradovate cloud have calls of their own (§0)
    upgrade_weight = 0  # (§3)
    lists = ("orders", "all-orders")
    reads = ("snapshot", "positions", "order", "account", "accounts", "watermarks")
    # Nothing in the protocol depends on the client's clock, order events are not guaranteed, and a token has neither an
    # expiry nor scopes.
    supported = frozenset(SPECS) - {"skew", "unlisted", "expire_token", "read_only_key"}
    order_channel = "orders"
    filled_state = "Filled"
    cancelled_word = "Cancelled"  # (§7)
    errors = wire.ERRORS

    def __init__(self, options: CrossTradeOptions, accounts: int) -> None:
        self.options = options
        self.categories = split_names(options.nt_accounts)
        if not self.categories or len({name.casefold() for name in self.categories}) != len(self.categories):
            raise ValueError("option 'nt_accounts' names different accounts, with commas between")
        self.aliases: dict[str, str] = {}
        self._seq = 0
        super().__init__(options, accounts)
        calls = ApiCalls(self)
        self.sockets["/ws/stream"] = CrossTradeSocket(self, calls)
        self.routes |= calls.routes()

    # accounts and orders

    def account_options(self) -> Mapping[str, object]:
        """Return the NT accounts, which the configuration must name."""
        return {"nt_accounts": list(self.categories)}

    def make_account(self, number: int) -> Account:
        """Create a user, whose token is the only credential (§1)."""
        token = f"ct-{secrets.token_hex(20)}"
        account = Account(f"{self.name}-{number}", f"user-{number}", {"token": token})
        self.keys[token] = account
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order of the NT account `category`; stops are TriggerPending or Accepted at the broker (§7)."""
        at = self.now_ns()
        state = "Accepted" if kind == "stop" else "Working"
        stop = Decimal("6100") if kind == "stop" else None
        side = "sell" if number % 2 else "buy"
        order = Order(uuid.uuid4().hex, symbol, kind, side, Decimal(1), Decimal("5990.25"), state, at, stop)
        order.category = category or self.categories[0]
        return order

    def id_format(self, text: str) -> bool:
        """Return whether a text is a GUID without dashes (§2)."""
        return len(text) == 32 and all(char in "0123456789abcdef" for char in text)

    @property
    def shown(self) -> tuple[str, ...]:
        """Return the NT accounts that NinjaTrader shows."""
        gone = self.faults.peek("vanish")
        hidden = split_names(self.options.hidden)
        there = (name for name in self.categories if name not in hidden)
        return tuple(name for name in there if gone is None or gone.account not in (None, name))

    def vanished(self, who: str | None) -> bool:
        """Return False: the `vanish` fault hides an NT account, never the user."""
        return False

    def check_target(self, fault: str, name: object) -> None:
        """Raise `ValueError` if a fault cannot be limited to this name; `vanish` takes an NT account."""
        if fault != "vanish":
            super().check_target(fault, name)
        elif name not in self.categories:
            raise ValueError(unknown("NT account", name, self.categories))

    def reaches(self, name: str) -> bool:
        """Return whether NinjaTrader knows, and can cancel, the orders of an NT account."""
        return name in self.shown and name not in split_names(self.options.cut_off)

    def shown_id(self, order: Order) -> str:
        """Return the id that lists show: the broker's own, where the `renumber` option is on."""
        if not self.options.renumber:
            return order.id
        alias = hashlib.blake2b(order.id.encode(), digest_size=16).hexdigest()
        self.aliases[alias] = order.id
        return alias

    def show_pending(self, account: Account, orders: Sequence[Order]) -> None:
        """Show CancelPending, then CancelSubmitted; an order may still fill in both (§7)."""
        for order in orders:
            order.state = CANCELLING[0]
        self.push_orders(account, orders, "pending")
        self.later(max(self.options.submitted_ms, 0.001) / 1000, self._submitted, account, orders)

    def _submitted(self, account: Account, orders: Sequence[Order]) -> None:
        moved = [order for order in orders if order.id in account.open and order.state == CANCELLING[0]]
        for order in moved:
            order.state = CANCELLING[1]
        self.push_orders(account, moved, "pending")

    def order_events(self, account: Account, orders: Sequence[Order], news: str) -> Iterable[bytes]:
        """Return an orderUpdate for each order, where the `order_events` option is on (§6 [U])."""
        for order in orders if self.options.order_events else ():
            self._seq += 1
            frame = {"type": "orderUpdate", "seq": self._seq, "order": wire.order_item(order, self.shown_id(order))}
            yield orjson.dumps(frame)

    def wants(self, session: Session, channel: str) -> bool:
        """Return whether the session has subscribed to the channel; the `events` option has no effect here (§6)."""
        return channel in session.channels

    # limits, authentication, errors

    def pool_specs(self) -> Iterable[PoolSpec]:
        """Return the user's tokens, which REST and WebSocket share (§3)."""
        return (PoolSpec("tokens", self.options.burst, per_s=self.options.per_s),)

    def reconfigured(self) -> None:
        """Reset the rate limits; changes of subscriptions have about 20 a minute of their own (§3)."""
        super().reconfigured()
        self.subscriptions = RatePools((PoolSpec("subscriptions", 5, per_s=1 / 3),))

    def takes_token(self, account: Account) -> bool:
        """Spend one of a user's tokens for an RPC; return False if there is none."""
        return self.pools.charge(1, time.monotonic(), account=account.name)

    def spec_of(self, request: Request) -> RouteSpec | None:
        """Look the request up; that REST has `GET /orders` is inferred (§5)."""
        spec = super().spec_of(request)
        return None if spec is not None and spec.operation == "all-orders" and not self.options.has_orders else spec

    def parameters(self, request: Request) -> Params:
        """Parse the parameters: a POST has a JSON object, whatever its Content-Type (§4)."""
        body = {} if request.method == "GET" else json_object(request.body)
        if body is None:
            raise Refused(wire.TEXTS["invalid_request"], 400)
        return body | self.path_parameters(request)

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check the token (§1), and then whether the path exists."""
        user = super().authenticate(request)
        return self._lost(request) if isinstance(user, Account) and self.spec_of(request) is None else user

    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Log in by the upgrade's token, and replace the user's other session (§6)."""
        if request.path not in self.sockets:
            return self._lost(request)
        user = self.keys.get(self.auth.key_of(request))
        if user is None or self.faults.hit("reject_login", "login", user.name, "ws"):
            return self.http_error(401, None, None)
        for other in tuple(self.listeners[user.name]):
            if self.options.elsewhere_frame:
                other.say(orjson.dumps({"type": "error", "error": ELSEWHERE}))
            other.close_websocket(self.options.elsewhere_code, ELSEWHERE)
            self.listeners[user.name].pop(other)
        return user

    def _lost(self, request: Request) -> SimAnswer:
        """Answer an unknown path: with a hint below the API, with the marketing site elsewhere (§1)."""
        if not request.path.startswith(f"{BASE}/"):
            return SimAnswer((b"<!doctype html><title>CrossTrade</title>",), 404, ok=False)
        near = get_close_matches(request.path, [path for _, path in self.routes], n=1, cutoff=0.3)
        return json_answer({**self.bad("not_found"), "did_you_mean": near[0] if near else f"{BASE}/_endpoints"}, 404)

    def good(self, result: object) -> object:
        """Return a success; the snapshot states none (§5)."""
        return {**result, "success": True} if isinstance(result, dict) and "type" not in result else result

    def bad(self, code: str, text: str = "") -> dict[str, Any]:
        """Return an error in the envelope that the `errors` option selects (§2)."""
        if " " in code:
            return {"error": code}
        detail = text or wire.TEXTS.get(code, "Refused")
        return (
            {"error": detail} if self.options.errors == "old" else {"success": False, "error": code, "detail": detail}
        )

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a REST error; 429 has a Retry-After header (§3)."""
        if self.options.errors == "empty" and status in (401, 408):
            return SimAnswer((b"",), status, ok=False)
        answer = super().http_error(status, code, text)
        if status == 429 and self.options.retry_after:
            answer.headers = {"Retry-After": "1"}
        return answer
