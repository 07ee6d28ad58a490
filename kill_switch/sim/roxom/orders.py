"""Roxom's switches, accounts, orders and events.

`calls` and `venue` build on it. § numbers are those of docs/venues/roxom.md; a fact that the file leaves open is a
switch here.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa

from kill_switch.sim.kit.book import ZERO, Account, Order, Position
from kill_switch.sim.kit.options import Options, option
from kill_switch.sim.kit.protocol import SimAnswer, json_answer
from kill_switch.sim.kit.venue import Venue
from kill_switch.sim.roxom import payloads as wire

TYPES = ("perpetual", "spot", "btc", "digital", "stock", "index")  # values of instType (§4.4)
_TEXTS = {400: "Bad Request", 404: "Not Found", 415: "Unsupported Media Type", 429: "Too Many Requests"}


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


class RoxomExchange(Venue):
    """The accounts and orders of Roxom."""

    name = "roxom"
    options_type = RoxomOptions
    symbols = wire.SYMBOLS
    key_types = ("rsa",)
    categories = lists = TYPES
    reads = ("order", "positions", "balance", "instruments")
    filled_state = "filled"

    def __init__(self, options: RoxomOptions, accounts: int) -> None:
        self.options = options
        self._held: dict[str, dict[str, Position]] = {}  # the positions of the last position event, by account
        # the accounts and the public halves of their keys, by API key
        self.keys: dict[str, tuple[Account, rsa.RSAPublicKey | None]] = {}
        super().__init__(options, accounts)

    def make_account(self, number: int) -> Account:
        """Create an account; the venue keeps only the public half of its key (§3.2)."""
        credentials = {"api_key": f"xrxk_key_{secrets.token_hex(16)}"}
        public: rsa.RSAPublicKey | None = None
        if self.options.auth == "rsa":
            public, credentials["private_key"] = wire.key_pair(number)
        equity = 10 * (wire.SATS if self.options.unit == "sats" else Decimal(1))
        account = Account(f"{self.name}-{number}", str(uuid.uuid4()), credentials, equity=equity)
        self.keys[credentials["api_key"]] = (account, public)
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order; a stop is in waitingtrigger (§6)."""
        at = self.now_ns()
        state = "waitingtrigger" if kind == "stop" else "submitted"
        stop = Decimal("0.05") if kind == "stop" else None
        side = "sell" if number % 2 else "buy"
        order = Order(wire.uuid7(at), symbol, kind, side, Decimal("0.1"), Decimal("0.06"), state, at, stop)
        order.category = category or TYPES[0]
        return order

    def id_format(self, text: str) -> bool:
        """Return whether a text is a UUIDv7 (§4.1)."""
        return wire.is_uuid7(text)

    def cancelled_state(self, order: Order) -> str:
        """Return the state of a cancelled order (§6)."""
        return "partiallyfilledcancelled" if order.filled else "cancelled"

    def show_pending(self, account: Account, orders: Sequence[Order]) -> None:
        """Show the orders as pendingcancel, in which they may still fill (§6)."""
        for order in orders:
            order.state = "pendingcancel"
        self.push_orders(account, orders, "pending")

    def order_events(self, account: Account, orders: Sequence[Order], news: str) -> Iterable[bytes]:
        """Return one event for each order (§5)."""
        reason = {"cancelled": "user cancelled", "filled": "fill"}.get(news, "")
        at = self.now_ns()
        return [wire.order_event(account, order, reason, at) for order in orders]

    def push_orders(self, account: Account, orders: Sequence[Order], news: str) -> None:
        """Send order events, and after a fill those of positions and balance (§5)."""
        super().push_orders(account, orders, news)
        if news == "filled":
            self.tell_equity(account)

    def tell_equity(self, account: Account) -> None:
        """Send a balance event, in the unit that it names, and the positions with their profit, in BTC (§5)."""
        at = self.now_ns()
        before = self.money(account.cash_before)
        after = self.money(account.cash)
        balance = {
            "accountId": account.venue_id,
            "balanceBefore": wire.amount(before, "sats"),
            "balanceAfter": wire.amount(after, "sats"),
            "amount": wire.amount(after - before, "sats"),
            "unit": "sats",
            "updateType": "ordersettle",
            "timestamp": at,
        }
        self.emit(account, "balance", orjson.dumps({"type": "balance", "data": balance}))
        held = [
            wire.position_event(account, position, pnl, at)
            for position, pnl in zip(account.positions.values(), self.pnls(account), strict=True)
        ]
        previous = self._held.get(account.name, {})
        self._held[account.name] = dict(account.positions)
        closed = [replace(position, qty=ZERO) for key, position in previous.items() if key not in account.positions]
        held += [wire.position_event(account, position, ZERO, at) for position in closed]
        if held:
            self.emit(account, "position", orjson.dumps({"type": "position", "data": held}))

    def refuse(self, text: str) -> SimAnswer:
        """Return the refusal of credentials (§3.4)."""
        body = {"error": 401, "message": text}  # the error is a number here (§3.4)
        return json_answer(body, self.options.error_status or 401, ok=False)

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a REST error, an object (§4.6); 401 has a form of its own (§3.4)."""
        if status == 401:
            return self.refuse(text or "Invalid API key")
        if status == 503 and text is None:
            text = "Service Unavailable"
        number: int | str = status if code is None else int(code) if code.isdigit() else code
        if self.options.error_status and status not in (429, 503):
            status = self.options.error_status
        error = {"code": number, "message": text or _TEXTS.get(status, "Refused"), "details": ""}
        stamp = datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return json_answer(
            {"error": error, "timestamp": stamp, "requestId": f"req_{secrets.token_hex(8)}"}, status, ok=False
        )

    def money(self, value: Decimal) -> Decimal:
        """Convert an amount of the admin API to BTC."""
        return value / wire.SATS if self.options.unit == "sats" else value

    def pnls(self, account: Account) -> list[Decimal]:
        """Return the unrealised profit of each position in BTC; the first position has all of the account's."""
        return [self.money(account.unrealised) if number == 0 else ZERO for number in range(len(account.positions))]
