"""The simulated Kraken derivatives: REST v3, WebSocket v1, the Unified WebSocket (docs/venues/kraken.md).

`sim.main` starts it. The Unified WebSocket takes tokens that the spot API hands out to another key, and speaks the
spot WebSocket's language.
"""

from __future__ import annotations

import base64
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar
from urllib.parse import parse_qs

import orjson

from kill_switch.sim.kit.auth import TokenStore
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.limits import PoolSpec, RatePools
from kill_switch.sim.kit.options import option
from kill_switch.sim.kit.protocol import Request, SimAnswer, json_answer
from kill_switch.sim.kit.server import Connection, PendingReply
from kill_switch.sim.kit.tables import Params, Refused
from kill_switch.sim.kit.venue import Route
from kill_switch.sim.kraken.modes import ModalOptions, ModalVenue
from kill_switch.sim.kraken.payloads import iso_s
from kill_switch.sim.kraken.rules import TIERS
from kill_switch.sim.kraken.signing import SpotSignature
from kill_switch.sim.kraken.v2 import V2Socket
from kill_switch.sim.kraken_futures import payloads as wire
from kill_switch.sim.kraken_futures.calls import TOKEN_PATH, id_list, routes
from kill_switch.sim.kraken_futures.history import HISTORY, history_cost, history_routes, limited
from kill_switch.sim.kraken_futures.past import Past
from kill_switch.sim.kraken_futures.settings import setting_routes
from kill_switch.sim.kraken_futures.signing import Authent
from kill_switch.sim.kraken_futures.v1 import V1Socket

HISTORY_S = 600.0  # in which the pool of the history API comes back
_SPOT_ERRORS = {401: "EAPI:Invalid key", 403: "EGeneral:Permission denied", 429: "EAPI:Rate limit exceeded"}
_MARGIN_ERROR = {"errors": [{"code": 92, "message": "INSUFFICIENT_MARGIN"}]}


@dataclass
class KrakenFuturesOptions(ModalOptions):
    """The facts about Kraken derivatives that are inferred or unknown."""

    idle_s: float = option(60.0, "seconds without a ping or a message until a WebSocket is closed (§5.2)")
    events: str = option("subscribed", "the sessions that get account events (§5.2)", "subscribed")
    snapshot: bool = option(False, "no meaning here: subscriptions have snapshots of their own (§5.2)")
    pool: int = option(500, "cost that an account may spend in 10 s (§7); 0 is no limit")
    nonce_window: int = option(0, "how far a Nonce may be behind the highest (§2.3)")
    token_s: float = option(900.0, "seconds until a token of the Unified WebSocket ends (§2.2)")
    history_pool: int = option(100, "cost in the history API that comes back within 10 min (§7); 0 is no limit")
    equity_moves: str = option(
        "trade", "what a change of equity by the admin API is: a result of trading, or a transfer", "trade", "transfer"
    )
    unified: bool = option(True, "accounts have a spot key for the Unified WebSocket", fixed=True)


class KrakenFutures(ModalVenue):
    """Kraken, derivatives."""

    options: KrakenFuturesOptions
    tokens: TokenStore
    name = "kraken-futures"
    options_type = KrakenFuturesOptions
    symbols = wire.SYMBOLS
    kinds = wire.KINDS
    not_covered = ("spot", "positions", "transfers")
    lists = ("orders",)
    reads = ("order", "accounts", "positions")
    repeatable = frozenset({"orderIds", "info"})
    cancelled_word = "cancelled"
    pings_count = True
    errors: ClassVar[Mapping[int, str]] = {
        400: "invalidArgument",
        401: "authenticationError",
        403: "authenticationError",  # (§11: the text for a key without the right is unknown)
        404: "notFound",
        429: "apiLimitExceeded",
        503: "Unavailable",
    }

    def __init__(self, options: KrakenFuturesOptions, accounts: int) -> None:
        self.tokens = TokenStore(lambda: options.token_s)  # (§2.2)
        self.auth = TwoPlanes(options)
        self._is_spot = False  # whether the request that is being answered is one of the spot API
        self._pasts: dict[str, Past] = {}  # by account
        super().__init__(options, accounts)
        self.desk = FuturesDesk(self)
        self.v2 = V2Socket(self, self.desk, "derivatives")
        self.sockets |= {"/ws/v1": V1Socket(self), "/v2/private": self.v2}
        self.routes |= routes(self) | setting_routes(self) | history_routes(self)

    # accounts, orders, envelopes

    def make_account(self, number: int) -> Account:
        """Create an account with a derivatives key and, for the Unified WebSocket, a spot key."""
        credentials = {"api_key": _text(42), "api_secret": _text(64)}
        account = Account(f"{self.name}-{number}", str(uuid.uuid4()), credentials)
        self.keys["v3 " + credentials["api_key"]] = account
        if self.options.unified:
            credentials |= {"unified_key": _text(42), "unified_secret": _text(64)}
            self.keys["spot " + credentials["unified_key"]] = account
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order; its id is a UUID (§1)."""
        stop = Decimal(29_000) if kind in ("stop", "take_profit") else None
        side, price, at = "sell" if number % 2 else "buy", Decimal(30_000), self.now_ns()
        return Order(str(uuid.uuid4()), symbol, kind, side, Decimal(1), price, "untouched", at, stop)

    def id_format(self, text: str) -> bool:
        """Return whether a text is a UUID."""
        try:
            return str(uuid.UUID(text)) == text
        except ValueError:
            return False

    def good(self, result: object) -> object:
        """Return a success of the API that was called."""
        if self._is_spot:
            return {"error": [], "result": result}
        shown = result if isinstance(result, dict) else {}
        return {"result": "success", **shown, "serverTime": wire.iso_ms(self.now_ns())}

    def bad(self, code: str, text: str = "") -> object:
        """Return a refusal of the API that was called (§8)."""
        if self._is_spot:
            return {"error": [code]}
        return {"result": "error", "error": code, "serverTime": wire.iso_ms(self.now_ns())}

    def error_status(self, status: int) -> int:
        """Return 200: errors have it (§8)."""
        return 200

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an error; HTTP 500 has the second shape, a proxy's status is HTML (§8)."""
        if status == 500 and code is None:
            return json_answer(_MARGIN_ERROR, 500)
        if status > 500 and status != 503 and code is None:
            return SimAnswer((b"<html><body>cloudflare</body></html>",), status, ok=False)
        if self._is_spot and code is None:
            code = _SPOT_ERRORS.get(status, "EService:Unavailable")
        return super().http_error(status, code, text)

    def requested(self, exchange: PendingReply) -> None:
        """Note which of the two APIs a request is for, then answer it at once."""
        self._is_spot = exchange.request.path.startswith("/0/")
        super().requested(exchange)

    def urls(self, authority: str) -> dict[str, str]:
        """Return the addresses (§1)."""
        unified = {"unified_ws_url": f"wss://{authority}/v2/private", "token_url": f"https://{authority}{TOKEN_PATH}"}
        return super().urls(authority) | (unified if self.options.unified else {})

    def parameters(self, request: Request) -> Params:
        """Parse the arguments, wherever they were sent; a list may be repeated or written as JSON.

        Raises `Refused` for a body that is no form, and for an argument in both places.
        """
        if request.body and not request.is_form:
            raise Refused("invalidArgument")
        sent = [set(parse_qs(text)) for text in (request.query, request.body.decode("utf-8", "replace"))]
        if sent[0] & sent[1]:
            raise Refused("invalidArgument")
        params = dict(super().parameters(request))
        lists = parse_qs(request.query) | parse_qs(request.body.decode("utf-8", "replace"))
        if "orderIds" in lists:
            params["orderIds"] = id_list(lists["orderIds"])
        if "info" in lists:
            params["info"] = lists["info"]
        return params

    # the past

    def past(self, account: Account) -> Past:
        """Return what an account has done."""
        return self._pasts.setdefault(account.name, Past())

    def push_orders(self, account: Account, orders: Sequence[Order], news: str) -> None:
        """Note what has happened to orders, and send the events of it."""
        rows = self.past(account).note_orders(account, orders, news, self.now_ns())
        super().push_orders(account, orders, news)
        self._tell_log(account, rows)

    def set_equity(self, account: Account, equity: Decimal, unrealised: Decimal | None) -> None:
        """Set an account's money; the change of cash is a row of the log, of a trade or a transfer."""
        super().set_equity(account, equity, unrealised)
        before, after = account.cash_before, account.cash
        if before != after:
            is_transfer = self.options.equity_moves == "transfer"
            facts = {} if is_transfer else {"contract": self.symbol.lower(), "realized_pnl": float(after - before)}
            info = "cross-exchange transfer" if is_transfer else "futures trade"
            self._tell_log(account, [self.past(account).note_money(info, before, after, self.now_ns(), **facts)])

    def _tell_log(self, account: Account, rows: Iterable[dict[str, object]]) -> None:
        for row in rows:
            text = orjson.dumps({"feed": "account_log", "new_entry": wire.feed_log(row)})
            for session in tuple(self.listeners[account.name].values()):
                if self.wants(session, "account_log"):
                    self.event(session, text, "balance")

    # limits, modes, tokens

    def pool_specs(self) -> Iterable[PoolSpec]:
        """Return the pool of costs (§7)."""
        return (PoolSpec("derivatives", self.options.pool, seconds=10.0),)

    def reconfigured(self) -> None:
        """Empty the pools, and tell a changed mode."""
        tier = TIERS["starter"]
        per_s = self.options.history_pool / HISTORY_S
        self._history_pools = RatePools([PoolSpec("history", self.options.history_pool, per_s=per_s)])
        self._spot_pools = RatePools([PoolSpec("rest", tier.rest_most, per_s=tier.rest_per_s)])
        super().reconfigured()

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Charge a request to the pool of its plane."""
        spec = self.spec_of(request)
        if request.path.startswith(HISTORY) and spec is not None and not spec.public:
            account = self.account_of(request) or connection.peer
            cost = history_cost(request)
            fits = self._history_pools.charge(cost, time.monotonic(), account=account)
            return None if fits else limited(cost * HISTORY_S / self.options.history_pool)
        if request.path != TOKEN_PATH:
            return super().throttle(connection, request)
        if not request.headers.get("user-agent"):
            return self.http_error(403, _SPOT_ERRORS[403], None)  # as the simulated spot API
        account = self.account_of(request) or connection.peer
        fits = self._spot_pools.charge(1, time.monotonic(), account=account)
        return None if fits else self.http_error(429, None, None)

    def charge(self, account: Account, cost: float) -> None:
        """Charge a further cost of the request that is being answered. Raises `Refused`."""
        if not self.pools.charge(cost, time.monotonic(), account=account.name, address=""):
            raise Refused("apiLimitExceeded")

    def route(self, request: Request) -> Route | None:
        """Look the request up; an unknown path is refused without a key: public calls share the private prefix."""
        route = super().route(request)
        has_key = "apikey" in request.headers or "api-key" in request.headers
        return self.refused(request) if route is None and not has_key else route

    def permit_rest(self, account: Account) -> None:
        """Refuse a command in maintenance, or of a key that may only read."""
        self.permit_read()
        if self.faults.on("read_only_key", account.name):
            raise Refused(self.errors[403])

    def permit_read(self) -> None:
        """Refuse in maintenance: no document says that the account can be read then (§8)."""
        if self.mode == "maintenance":
            raise Refused("Unavailable")

    def subscribed_with(self, token: object) -> None:
        """Do nothing: a token ends, used or not."""

    def transfer_of(self, account: Account) -> None:
        """Return None: money changes by trades alone."""


class TwoPlanes:
    """The keys of the two planes: neither is known on the other."""

    def __init__(self, options: KrakenFuturesOptions) -> None:
        self._spot = SpotSignature(lambda: 0, "unified_secret")
        self._v3 = Authent(lambda: options.nonce_window)

    def key_of(self, request: Request) -> str:
        """Return the key with the plane's name."""
        if request.path.startswith("/0/"):
            return "spot " + self._spot.key_of(request)
        return "v3 " + self._v3.key_of(request)

    def check(self, request: Request, account: Account) -> str | None:
        """Check by the plane's rule."""
        return (self._spot if request.path.startswith("/0/") else self._v3).check(request, account)


class FuturesDesk:
    """Cancel for the Unified WebSocket, in the spot API's words."""

    def __init__(self, venue: KrakenFutures) -> None:
        self._venue = venue

    def permit(self, account: Account, call: str) -> None:
        """Refuse in maintenance, and refuse commands of a key that may only read."""
        if self._venue.mode == "maintenance":
            raise Refused("EService:Unavailable")
        if not call.startswith("subscribe") and self._venue.faults.on("read_only_key", account.name):
            raise Refused("EGeneral:Permission denied")

    def cancel_every(self, account: Account) -> int:
        """Cancel all orders; return the count of those that were open."""
        covered = self._venue.covered(account)
        self._venue.cancel(account, covered, whole=True)
        return len(covered)

    def cancel_named(self, account: Account, orders: Sequence[Order | None]) -> list[str | None]:
        """Cancel orders one by one; return the code of each refusal. An order that is named again is gone by then."""
        there = [order is not None and order not in orders[:place] for place, order in enumerate(orders)]
        first = [order for order, is_there in zip(orders, there, strict=True) if order is not None and is_there]
        self._venue.cancel(account, first, whole=False, single=True)
        return [None if is_there else "EOrder:Unknown order" for is_there in there]

    def cancel_batch(self, account: Account, orders: Sequence[Order | None]) -> int:
        """Cancel the orders that are known; return their number."""
        return self.cancel_named(account, orders).count(None)

    def set_countdown(self, account: Account, timeout: object) -> object:
        """Arm or disarm the countdown."""
        return self._venue.countdowns.arm(account, timeout, "EGeneral:Invalid arguments:timeout", iso_s)


def _text(length: int) -> str:
    return base64.b64encode(secrets.token_bytes(length)).decode()
