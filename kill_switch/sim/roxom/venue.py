"""The simulated Roxom: accounts, orders, events, authentication, errors.

`sim.main` starts it. It has no call that docs/venues/roxom.md does not document; § numbers below are those of that
file. A fact that the file leaves open is a switch.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import orjson

from kill_switch.sim.kit.book import ZERO, Account, Order, Position
from kill_switch.sim.kit.faults import SPECS
from kill_switch.sim.kit.limits import PoolSpec
from kill_switch.sim.kit.options import Options, option
from kill_switch.sim.kit.protocol import Request, SimAnswer, json_answer
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.table_venue import TableVenue
from kill_switch.sim.kit.values import is_uuid
from kill_switch.sim.roxom import payloads as wire
from kill_switch.sim.roxom.calls import TYPES, routes
from kill_switch.sim.roxom.signing import RoxomSignature, key_pair
from kill_switch.sim.roxom.socket import RoxomSocket

_TEXTS = {
    400: "Bad Request",
    404: "Not Found",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    503: "Service Unavailable",
}


@dataclass
class RoxomOptions(Options):
    """The facts about Roxom that are inferred or unknown, and the generation of its documents."""

    auth: str = option("rsa", "both headers checked (§3.2), or the key alone (§3.1)", "rsa", "api-key", fixed=True)
    path_prefix: str = option("/api/v1", "in front of every REST path (§2)", "/api/v1", "/v1", fixed=True)
    fields: str = option("new", "field names of orders, positions, balance (§4.4)", "new", "old")
    unit: str = option("btc", "unit of the admin API's equity and unrealised", "btc", "sats")
    cancel_all_includes_stops: bool = option(True, "cancel-all includes orders in waitingtrigger (§6 [U])", harsh=False)
    nothing: str = option("empty", "the answer to a cancel-all without orders (§4.2 [I])", "empty", "404", harsh="404")
    cancels_pending: bool = option(True, "a cancel of a pendingcancel order is accepted (§4.6 [U])", harsh=False)
    cancel_all_closes: bool = option(False, "cancel-all closes positions, as one page has it (§4.2)", harsh=True)
    page_limit: int = option(0, "longest list of orders; 0 is no limit (§4.4 [U])", harsh=5)
    error_status: int = option(
        0, "HTTP status of every error except 429 and 503; 0 is a fitting one (§4.6 [U])", harsh=200
    )
    error_texts: str = option(
        "titles",
        "the texts of cancel errors: the documented titles, or others (§4.6 [U])",
        "titles",
        "other",
        harsh="other",
    )
    ack: str = option(
        "full", "the answer to a subscription: with its arguments, without, none (§5 [U])",
        "full", "bare", "none", harsh="none",
    )  # fmt: skip
    errors_close: bool = option(False, "a WebSocket is closed after an error frame (§5 [U])", harsh=True)
    ws_auth_failure: str = option(
        "frame+close", "the answer to a refused upgrade: error 600010 in a frame, or HTTP 401 (§5 [U])",
        "frame+close", "frame", "http", harsh="frame",
    )  # fmt: skip
    subscriptions: int = option(
        100, "subscriptions on a connection until 60016; 0 is no limit (§5, number [U])", harsh=4
    )
    rest_per_s: int = option(0, "REST requests a second and key; 0 is no limit (§7 [U])", harsh=30)


class Roxom(TableVenue):
    """Roxom, with its REST API and its WebSocket."""

    name = "roxom"
    options_type = RoxomOptions
    symbols = wire.SYMBOLS
    auth: RoxomSignature
    key_types = ("rsa",)
    categories = lists = TYPES
    reads = ("order", "positions", "balance", "instruments")
    cancelled_word = "cancelled"
    malformed = ("", 400, "Invalid JSON")
    supported = frozenset(SPECS) - {"foreign_use"}  # no limit is documented (§7)

    def __init__(self, options: RoxomOptions, accounts: int) -> None:
        self.options = options
        self.auth = RoxomSignature()
        self._held: dict[str, dict[str, Position]] = {}  # the positions of the last position event, by account
        super().__init__(options, accounts)
        self.socket = RoxomSocket(self)
        self.sockets["/ws"] = self.socket
        self.routes |= routes(self)

    # accounts and orders

    def account_options(self) -> dict[str, str]:
        """Return the configuration keys that select the generation of the documents."""
        return {"auth": self.options.auth, "path_prefix": self.options.path_prefix}

    def make_account(self, number: int) -> Account:
        """Create an account; the venue keeps only the public half of its key (§3.2)."""
        credentials = {"api_key": f"xrxk_key_{secrets.token_hex(16)}"}
        if self.options.auth == "rsa":
            self.auth.public[credentials["api_key"]], credentials["private_key"] = key_pair(number)
        equity = 10 * (wire.SATS if self.options.unit == "sats" else Decimal(1))
        account = Account(f"{self.name}-{number}", str(uuid.uuid4()), credentials, equity=equity)
        self.keys[credentials["api_key"]] = account
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order; a stop is in waitingtrigger (§6)."""
        state, stop = ("waitingtrigger", Decimal("0.05")) if kind == "stop" else ("submitted", None)
        side, at = "sell" if number % 2 else "buy", self.now_ns()
        qty, price, category = Decimal("0.1"), Decimal("0.06"), category or TYPES[0]
        return Order(wire.uuid7(at), symbol, kind, side, qty, price, state, at, stop, category=category)

    def id_format(self, text: str) -> bool:
        """Return whether a text is a UUIDv7 (§4.1)."""
        return is_uuid(text, "7")

    def cancelled_state(self, order: Order) -> str:
        """Return the state of a cancelled order (§6)."""
        return "partiallyfilledcancelled" if order.filled else "cancelled"

    def show_pending(self, account: Account, orders: Sequence[Order]) -> None:
        """Show the orders as pendingcancel, in which they may still fill (§6)."""
        for order in orders:
            order.state = "pendingcancel"
        self.push_orders(account, orders, "pending")

    # events

    def order_events(self, account: Account, orders: Sequence[Order], news: str) -> Iterable[bytes]:
        """Return one event for each order (§5)."""
        reason, at = {"cancelled": "user cancelled", "filled": "fill"}.get(news, ""), self.now_ns()
        return [orjson.dumps(wire.order_event(account, order, reason, at)) for order in orders]

    def push_orders(self, account: Account, orders: Sequence[Order], news: str) -> None:
        """Send order events, and after a fill those of positions and balance (§5)."""
        super().push_orders(account, orders, news)
        if news == "filled":
            self.tell_equity(account)

    def tell_equity(self, account: Account) -> None:
        """Send a balance event, in the unit that it names, and the positions with their profit, in BTC (§5)."""
        at = self.now_ns()
        balance = wire.balance_event(account, self.money(account.cash_before), self.money(account.cash), at)
        self.emit(account, "balance", orjson.dumps(balance))
        previous = self._held.get(account.name, {})
        self._held[account.name] = dict(account.positions)
        closed = [replace(held, qty=ZERO) for key, held in previous.items() if key not in account.positions]
        shown = [*self.pnls(account), *((held, ZERO) for held in closed)]
        if shown:
            data = [wire.position_event(account, held, pnl, at) for held, pnl in shown]
            self.emit(account, "position", orjson.dumps({"type": "position", "data": data}))

    def money(self, value: Decimal) -> Decimal:
        """Convert an amount of the admin API to BTC."""
        return value / wire.SATS if self.options.unit == "sats" else value

    def pnls(self, account: Account) -> list[tuple[Position, Decimal]]:
        """Return each position with its unrealised profit in BTC; the first position has all of the account's."""
        unrealised = self.money(account.unrealised)
        return [(held, ZERO if number else unrealised) for number, held in enumerate(account.positions.values())]

    # limits, authentication, errors

    def pool_specs(self) -> Iterable[PoolSpec]:
        """Return the limit of REST requests, if one is set: none is documented (§7)."""
        return (PoolSpec("rest", self.options.rest_per_s, 1.0),)

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check key and signature (§3); in the older generation the key alone."""
        if not self.auth.key_of(request):
            old = self.options.auth == "api-key"
            return self.http_error(401, None, "Authorization header is required" if old else "Missing API Key")
        return super().authenticate(request)

    def no_account(self) -> SimAnswer:
        """Return the refusal of an unknown key, in the generation's spelling (§3.4)."""
        return self.http_error(401, None, "Invalid API key" if self.options.auth == "api-key" else "Invalid API Key")

    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Authenticate the upgrade (§5) by the same two headers, over `GET:/ws`."""
        if request.path not in self.sockets:
            return self.http_error(404, None, None)
        account_name = self.account_of(request)
        if self.faults.hit("reject_login", "login", account_name, "ws") or self.vanished(account_name):
            account: Account | SimAnswer = self.no_account()
        else:
            account = self.authenticate(request)
        if isinstance(account, SimAnswer) and self.options.ws_auth_failure != "http":
            self.socket.strangers.add(connection)
            return None
        return account

    def good(self, result: object) -> object:
        """Return a REST success (§4)."""
        return {"data": result, "error": False}

    def bad(self, code: str, text: str = "", details: str = "") -> object:
        """Return a REST error, an object (§4.6)."""
        error = {"code": int(code) if code.isdigit() else code, "message": text, "details": details}
        stamp = datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"error": error, "timestamp": stamp, "requestId": f"req_{secrets.token_hex(8)}"}

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a REST error; that of a 401 is a number (§3.4)."""
        shown = self.error_status(status)
        if status == 401:
            return json_answer({"error": 401, "message": text or "Invalid API key"}, shown, ok=False)
        return super().http_error(status, code or str(status), text or _TEXTS.get(shown, "Refused"))
