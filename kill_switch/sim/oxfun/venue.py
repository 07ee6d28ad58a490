"""The simulated OX.FUN: accounts, orders, events, limits, errors.

`sim.main` starts it. It has no call that docs/venues/oxfun.md does not document; § numbers below are those of that
file.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.faults import SPECS
from kill_switch.sim.kit.limits import Limiter
from kill_switch.sim.kit.protocol import Request, SimAnswer
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.table_venue import TableVenue
from kill_switch.sim.kit.tables import Params
from kill_switch.sim.kit.values import json_object, plain
from kill_switch.sim.oxfun import payloads as wire
from kill_switch.sim.oxfun.calls import routes
from kill_switch.sim.oxfun.options import OxfunOptions
from kill_switch.sim.oxfun.signing import OxfunSignature
from kill_switch.sim.oxfun.socket import OxfunSocket

_CHUNK = 20
_FIRST = 300_000_000_000_000_101  # the first order id: above 2**53, as the venue's ids are (§4.4)
_CLIENT = 1_700_000_000_011


class Oxfun(TableVenue):
    """OX.FUN, with its REST API and its WebSocket."""

    name = "oxfun"
    options_type = OxfunOptions
    symbols = ("BTC-USD-SWAP-LIN", "ETH-USD-SWAP-LIN", "BCH-USDT")
    filled_state = "FILLED"
    cancelled_word = "CANCELED_BY_USER"  # (§7); it has no pending state, an order reads OPEN until it is closed
    lists = ("orders",)
    reads = ("order", "positions", "balances", "account")
    supported = frozenset(SPECS) - {"foreign_use"}  # the rate limit counts per connection
    errors: ClassVar[Mapping[int, str]] = {401: "20000", 403: "05001", 429: "429", 503: "000101", 0: "20001"}

    def __init__(self, options: OxfunOptions, accounts: int) -> None:
        self.options = options
        self.auth = OxfunSignature(options, self.now)
        self._ids = itertools.count(_FIRST)
        super().__init__(options, accounts)
        self.sockets["/v2/websocket"] = OxfunSocket(self)
        self.routes |= routes(self)

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
        cash = plain(account.cash)
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

    # the tables

    def parameters(self, request: Request) -> Params:
        """Return the parameters of the path and the query; otherwise `body` too, None if it is no JSON object."""
        if request.method == "GET":
            return request.parameters()
        return {**self.path_parameters(request), "body": json_object(request.body or b"{}")}

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

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check the four headers (§2)."""
        for name in ("AccessKey", "Timestamp", "Signature", "Nonce"):
            if not request.headers.get(name.lower()):
                return self.http_error(401, "30001", f"Missing parameter: {name}")
        if request.body and not request.is_json:
            return self.http_error(400, "20001", "Content-Type must be application/json")
        return super().authenticate(request)

    def no_account(self) -> SimAnswer:
        """Return the refusal of an unknown key (§8)."""
        return self.http_error(401, "20025", None)

    def good(self, result: object) -> object:
        """Return a REST success (§5)."""
        return {"success": True, "data": result}

    def bad(self, code: str, text: str = "") -> object:
        """Return a REST error (§5)."""
        return {"success": False, "code": code, "message": text or wire.TEXTS.get(code, "Refused")}
