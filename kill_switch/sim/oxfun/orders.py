"""OX.FUN's switches, accounts, orders and events.

`calls` and `venue` build on it. § numbers are those of docs/venues/oxfun.md; a fact that the file leaves open is a
switch here.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.faults import SPECS
from kill_switch.sim.kit.options import Options, option
from kill_switch.sim.kit.protocol import SimAnswer, json_answer
from kill_switch.sim.kit.venue import Venue
from kill_switch.sim.oxfun import payloads as wire

_CHUNK = 20
_FIRST = 300_000_000_000_000_101  # the first order id: above 2**53, as the venue's ids are (§4.4)
_CLIENT = 1_700_000_000_011


@dataclass
class OxfunOptions(Options):
    """The facts about OX.FUN that are inferred or unknown."""

    engine_ms: float = option(
        5.0, "milliseconds from 'queued' or 'submitted' until the engine has executed it", harsh=150.0
    )
    idle_s: float = option(60.0, "seconds without a message until a WebSocket is closed (§3.3)")
    greeting: bool = option(True, "a Welcome frame with a nonce comes first (§3.1 [I])", harsh=False)
    max_skew_s: float = option(30.0, "how far a client's clock may be off, in seconds (§2 [U])", harsh=3.0)
    nonce_unique: bool = option(False, "a REST nonce is valid for one request (§2 [U])", harsh=True)
    counts_pings: bool = option(False, "a ping before the login is one of its messages (§3.4 [U])", harsh=True)
    login_s: float = option(0.0, "seconds until a login expires, without a message; 0 is never (§3.2 [U])", harsh=20.0)
    cancel_all: str = option(
        "account", "a cancel-all without marketCode: the whole account, or refused (§4.3)", "account", "market",
        harsh="market",
    )  # fmt: skip
    cancel_all_includes_stops: bool = option(True, "cancel-all includes stop orders (§12 [I])", harsh=False)
    string_ids: bool = option(False, "orderId may be text in WebSocket commands (§4.1: documented as integer)")
    max_message: int = option(4000, "longest WebSocket message in characters (§11 [I])", harsh=1000)
    page_limit: int = option(0, "longest working list; 0 is no limit (§5 [U])", harsh=5)
    error_status: int = option(
        0, "HTTP status of every error except 429 and 503; 0 is a fitting one (§5 [U])", harsh=200
    )
    limits: str = option("ip", "the client that the REST and connect limits count for (§3.4)", "ip", "account", "off")
    ws_limit: int = option(50, "WebSocket messages a second once logged in; 0 is no limit (§3.4)")


class OxfunExchange(Venue):
    """The accounts and orders of OX.FUN."""

    name = "oxfun"
    options_type = OxfunOptions
    symbols = ("BTC-USD-SWAP-LIN", "ETH-USD-SWAP-LIN", "BCH-USDT")
    filled_state = "FILLED"
    cancelled_word = "CANCELED_BY_USER"  # (§7); it has no pending state, an order reads OPEN until it is closed
    lists = ("orders",)
    reads = ("order", "positions", "balances", "account")
    supported = frozenset(SPECS) - {"foreign_use"}  # the rate limit counts per connection

    def __init__(self, options: OxfunOptions, accounts: int) -> None:
        self.options = options
        self.keys: dict[str, Account] = {}  # the accounts, by API key
        self._ids = itertools.count(_FIRST)
        super().__init__(options, accounts)

    def make_account(self, number: int) -> Account:
        """Create an account; an API key belongs to one sub-account (§1)."""
        credentials = {"api_key": secrets.token_urlsafe(24), "api_secret": secrets.token_urlsafe(32)}
        account = Account(f"{self.name}-{number}", str(12344 + number), credentials)
        self.keys[credentials["api_key"]] = account
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order; its id is a whole number, as text."""
        at = self.now_ns()
        order_number = next(self._ids)
        price, stop = Decimal("30000.0"), Decimal("29000.0") if kind == "stop" else None
        side = "sell" if number % 2 else "buy"
        client = str(order_number - _FIRST + _CLIENT)  # a number that differs for each order (§4.3)
        return Order(str(order_number), symbol, kind, side, Decimal("0.001"), price, "OPEN", at, stop, client_id=client)

    def id_format(self, text: str) -> bool:
        """Return whether a text is a whole number (§4.1)."""
        return text.isascii() and text.isdigit() and len(text) < 20

    def push_cancel_too_late(self, account: Account, orders: Sequence[Order]) -> None:
        """Send the late rejection of accepted cancels that came too late (§4.4)."""
        for order in orders:
            self.broadcast(account, orjson.dumps(wire.late_reject(order, self.now())), "order")

    def order_events(self, account: Account, orders: Sequence[Order], news: str) -> Iterable[bytes]:
        """Return order events, several orders in a frame (§4.4, §6)."""
        size, now = self.chunk(_CHUNK), self.now()
        for start in range(0, len(orders), size):
            data = [wire.notice(account, order, news, now) for order in orders[start : start + size]]
            yield orjson.dumps({"table": "order", "data": data})

    def tell_equity(self, account: Account) -> None:
        """Send the balance and the positions (§6); profit is in OX."""
        now = self.now()
        base = {"accountId": account.venue_id, "timestamp": wire.ms(now)}
        cash = wire.plain(account.cash)
        asset = {"total": cash, "reserved": "0", "instrumentId": "OX", "available": cash, "locked": "0"}
        balance = [asset | {"quantityLastUpdated": wire.ms(now)}]
        self.emit(
            account, "balance", orjson.dumps({"table": "balance", **base, "tradeType": "LINEAR", "data": balance})
        )
        if account.positions:
            held = wire.position_events(account, now)
            self.emit(account, "position", orjson.dumps({"table": "position", **base, "data": held}))

    def find(self, account: Account, item: Mapping[str, Any]) -> Order | None:
        """Return an open order by either of its ids; its market must match as well."""
        if item.get("orderId") is not None:
            order = account.open.get(str(item["orderId"]))
        else:
            wanted = str(item["clientOrderId"])
            order = next((order for order in account.open.values() if order.client_id == wanted), None)
        return order if order is not None and order.symbol == item["marketCode"] else None

    def no_account(self) -> SimAnswer:
        """Return the refusal of an unknown key (§8)."""
        return self.http_error(401, "20025", None)

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a REST error (§5)."""
        code = code or {401: "20000", 403: "05001", 429: "429", 503: "000101"}.get(status, "20001")
        forced = self.options.error_status
        if forced and status not in (429, 503):
            status = forced
        body = {"success": False, "code": code, "message": text or wire.TEXTS.get(code, "Refused")}
        return json_answer(body, status, ok=False)
