"""The simulated Binance futures, USD-M and COIN-M: one venue, two products (docs/venues/binance.md §3.3, §3.4, §5–§7).

`sim.main` starts them. Both share the pools of an address and the count of an account's orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import ClassVar, NamedTuple

from kill_switch.sim.binance import futures_payloads as wire
from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.futures_calls import routes
from kill_switch.sim.binance.futures_streams import RequestSocket, UserStream
from kill_switch.sim.binance.known import FUTURES
from kill_switch.sim.binance.limits import OrderRule
from kill_switch.sim.binance.listen_keys import ListenKeys
from kill_switch.sim.binance.venue import BASES, Binance, BinanceOptions
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.countdown import Countdown
from kill_switch.sim.kit.exchange import DeadMan, Session
from kill_switch.sim.kit.options import option
from kill_switch.sim.kit.protocol import Request, SimAnswer
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.venue import Venue

_FIRST_ORDER, _FIRST_ALGO = 8_886_774_000, 2_148_000


class Product(NamedTuple):
    """The differences of the two futures (§1, §3, §9)."""

    api: str  # the prefix of REST's paths
    account_versions: tuple[str, ...]
    asset: str  # that the money of an account is in
    equity: Decimal
    request_path: str  # of the WebSocket that takes requests
    stream_path: str  # of the user stream
    combined_path: str  # of the user stream whose events say which stream they are of
    key_in_path: bool  # whether the listenKey is the last part of the stream's path, or a parameter
    is_linear: bool

    @property
    def stream_paths(self) -> tuple[str, str]:
        """Return the paths of the user stream."""
        return self.stream_path, self.combined_path

    def stream_key(self, request: Request) -> str:
        """Return the listenKey in the address of a stream."""
        if self.key_in_path and request.path == self.combined_path:
            return request.parameters().get("streams", "")
        if self.key_in_path:
            return request.path.removeprefix(self.stream_path).strip("/")
        return request.parameters().get("listenKey", "")


USDM = Product(
    "/fapi", ("v2", "v3"), "USDT", Decimal(100_000), "/ws-fapi/v1", "/private/ws", "/private/stream", False, True
)
COINM = Product("/dapi", ("v1",), "BTC", Decimal(10), "/ws-dapi/v1", "/ws", "/stream", True, False)


@dataclass
class FuturesOptions(BinanceOptions):
    """The facts about the futures that are inferred or unknown, or differ by account."""

    pool: int = option(2400, "weight that an address may use in a minute at both futures (§7); 0 is no limit")
    ping_s: float = option(180.0, "seconds between the venue's pings; 0 is none (§5)")
    pong_s: float = option(600.0, "seconds without a pong until a WebSocket is closed (§5)")
    listen_key_s: float = option(3600.0, "seconds until a listenKey ends (§5)")
    dead_key: str = option(
        "silent", "a stream with an unknown listenKey: it opens and is silent, or the upgrade is refused (§10)",
        "silent", "refuse", kind="refuse",
    )  # fmt: skip
    bare_stream: str = option(
        "all", "the events of a stream whose address names none (§11 [unknown])", "all", "none", harsh="none"
    )
    nothing: str = option(
        "200", "the answer to a cancel-all without orders (§11 [unknown])", "200", "-2011", harsh="-2011"
    )
    sweep_reaches_algo: bool = option(False, "allOpenOrders cancels algo orders too (§11 [unknown])", kind=True)
    countdown_reaches_algo: bool = option(
        False, "countdownCancelAll cancels algo orders too (§6, §11 [unknown])", kind=True
    )
    countdown_survives: bool = option(
        True, "a countdown that ends during maintenance cancels (§11 [unknown])", harsh=False
    )
    countdown_least_ms: int = option(0, "smallest countdownTime that arms (§11 [unknown])", harsh=5000)
    portfolio_margin: str = option(
        "off", "accounts have portfolio margin, for which commands are refused (§3.5); the code is unknown (§11)",
        "off", "-2015", "-4109",
    )  # fmt: skip
    trigger_ms: float = option(0.0, "milliseconds until an algo order triggers; 0 is never")
    triggering_ms: float = option(50.0, "milliseconds in TRIGGERING, when no cancel reaches the order (§3.4)")
    triggering_listed: bool = option(False, "openAlgoOrders shows an order in TRIGGERING (§4)", kind=True)
    race: int = option(0, "so many algo orders trigger as an allOpenOrders of their symbol arrives (§3.4)")


class BinanceFutures(Binance):
    """Futures: regular orders and algo orders, each with ids of its own."""

    options_type = FuturesOptions
    options: FuturesOptions
    product: ClassVar[Product]
    kinds = ("limit", "stop", "algo")  # `stop` and `algo` rest in the algo service (§3.4)
    not_covered = ("twap", "portfolio-margin", "positions")
    lists = ("orders", "algo-orders")
    reads = ("order", "algo-order", "account", "balance", "positions", "income")
    keyed = ("/v1/listenKey",)
    order_rules = (OrderRule(300, 10, "10S"), OrderRule(1200, 60, "1M"))
    whole_weights: ClassVar[Mapping[str, float]] = {"orders": 40, "algo-orders": 40}
    parameter_names = FUTURES

    def __init__(self, options: FuturesOptions, accounts: int) -> None:
        self.futures_options = options
        self.became: dict[str, str] = {}  # the regular order that an algo order became, by id
        self._countdowns: dict[tuple[str, str], Countdown] = {}  # by account and symbol
        self.listen_keys = ListenKeys(self.later, lambda: options.listen_key_s, self._key_ended)
        super().__init__(options, accounts)
        self.stream, self.requests = UserStream(self), RequestSocket(self)
        self.sockets |= dict.fromkeys(self.product.stream_paths, self.stream) | {
            self.product.request_path: self.requests
        }
        self.routes |= routes(self)

    def joined(self, venues: Iterable[Venue]) -> None:
        """Share the pools of the first futures venue of the process (§7)."""
        first = next((venue for venue in venues if isinstance(venue, BinanceFutures)), self)
        if first is not self:
            self.limits = first.limits
            self.limits.on_ban.append(self.cut_off)

    # accounts and orders

    def make_account(self, number: int) -> Account:
        """Create an account with money in the product's asset."""
        account = super().make_account(number)
        account.equity = self.product.equity
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order of one of the two spaces of ids."""
        is_algo = kind in wire.ALGO_TYPES
        order = Order(
            self.new_id(_FIRST_ALGO if is_algo else _FIRST_ORDER), symbol, kind, "sell" if number % 2 else "buy",
            Decimal("0.01") if self.product.is_linear else Decimal(1), Decimal(0 if is_algo else 30_000), "NEW",
            self.now_ns(), Decimal(29_000) if is_algo else None, category="algo" if is_algo else "",
        )  # fmt: skip
        order.client_id = wire.client_id()
        return order

    def filled_as(self, order: Order) -> str:
        """Return FINISHED for an algo order, which is never FILLED itself (§4)."""
        return "FINISHED" if order.category else super().filled_as(order)

    def rest(
        self, account: Account, count: int, symbol: str, kind: str, category: str = "", ids: Sequence[str] = ()
    ) -> list[Order]:
        """Place resting orders; an algo order triggers after its time."""
        orders = super().rest(account, count, symbol, kind, category, ids)
        self._arm_triggers(account, orders)
        return orders

    def place(self, account: Account, order: Order) -> Order:
        """Rest a client's order; an algo order triggers after its time."""
        super().place(account, order)
        self._arm_triggers(account, [order])
        return order

    def markets(self) -> list[dict[str, object]]:
        """Return the symbols of exchangeInfo."""
        quote = "USDT" if self.product.is_linear else "USD"
        return [
            wire.market(
                symbol, base, quote, quote if self.product.is_linear else base, is_inverse=not self.product.is_linear
            )
            for symbol, base in zip(self.symbols, BASES, strict=True)
        ]

    def permit_command(self, account: Account) -> None:
        """Refuse a command of a key that may only read, or of an account with portfolio margin (§3.5)."""
        self.permit_trade(account)
        if self.options.portfolio_margin != "off":
            raise refusal(self.options.portfolio_margin)

    # algo orders that trigger (§3.4)

    def race(self, account: Account, symbol: str) -> None:
        """Trigger an algo order of the symbol, as often as the option says."""
        if self.options.race > 0:
            mine = (order for order in account.open.values() if order.category and order.symbol == symbol)
            order = next((order for order in mine if order.state == "NEW"), None)
            if order is not None:
                self.options.race -= 1
                self._trigger(account, order)

    def _arm_triggers(self, account: Account, orders: Iterable[Order]) -> None:
        if self.options.trigger_ms > 0:
            for order in orders:
                if order.category:
                    self.later(self.options.trigger_ms / 1000, self._trigger, account, order)

    def _trigger(self, account: Account, order: Order) -> None:
        if account.open.get(order.id) is order and order.state == "NEW":
            order.state = "TRIGGERING"
            self.push_orders(account, [order], "pending")
            self.later(self.options.triggering_ms / 1000, self._triggered, account, order)

    def _triggered(self, account: Account, order: Order) -> None:
        regular = self.make_order(account, order.symbol, "limit", "", 0)
        regular = replace(regular, side=order.side, qty=order.qty, client_id=order.client_id)
        self.became[order.id] = regular.id
        if account.end(order, "TRIGGERED", self.now_ns()):
            account.rest([regular])
            self.push_orders(account, [order], "pending")
            self.push_orders(account, [regular], "opened")

    # the countdown (§6): one for each symbol of an account

    def countdown(self, account: Account, symbol: str) -> Countdown:
        """Return the countdown of a symbol."""
        key = (account.name, symbol)
        if key not in self._countdowns:
            self._countdowns[key] = Countdown(self.later, lambda: self._silent(account, symbol))
        return self._countdowns[key]

    def dead_man(self, account: Account) -> DeadMan:
        """Return the next of the account's countdowns to end, and how often one has ended."""
        states = [countdown.state() for (name, _), countdown in self._countdowns.items() if name == account.name]
        left = [state.fires_in_s for state in states if state.fires_in_s is not None]
        return DeadMan(min(left, default=None), sum(state.fired for state in states))

    def _silent(self, account: Account, symbol: str) -> None:
        if not self.options.countdown_survives and self.faults.peek("maintenance"):
            return
        reaches_all, book = self.options.countdown_reaches_algo, account.open.values()
        orders = [order for order in book if order.symbol == symbol and (reaches_all or not order.category)]
        self.cancel_at_once(account, orders)

    # user streams (§5)

    def socket_path(self, path: str) -> str | None:
        """Return the path of `sockets` that a request's path belongs to; None if it is unknown."""
        if path in self.sockets:
            return path
        # USD-M has no streams there since 2026-04-23: they open, and are silent (§5, §10)
        return self.product.stream_path if path.startswith("/ws/") else None

    def account_of(self, request: Request) -> str | None:
        """Return the account of the key, or of the listenKey in a stream's address."""
        if "upgrade" in request.headers:
            owner = self.listen_keys.owner(self.product.stream_key(request))
            return owner.name if owner else None
        return super().account_of(request)

    def connect_weight(self, request: Request) -> float:
        """Return the weight of a new WebSocket; a user stream has none."""
        return super().connect_weight(request) if request.path == self.product.request_path else 0

    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Open a stream of a listenKey's account; one with a key that is unknown is silent (§10)."""
        path = self.socket_path(request.path)
        if path is None:
            return self.http_error(404, None, None)
        if path not in self.product.stream_paths or not self.product.stream_key(request):
            return None  # a stream without a key is for subscriptions
        owner = self.listen_keys.owner(self.product.stream_key(request))
        if owner is not None and (
            self.faults.hit("reject_login", "login", owner.name, "ws") or self.vanished(owner.name)
        ):
            owner = None
        if owner is None and self.options.dead_key == "refuse":
            return self.http_error(401, "-1125", None)
        return owner

    def opened(self, connection: Connection, request: Request) -> None:
        """Note the stream's key and the events that its address names."""
        session = self.sessions[connection]
        session.path = self.socket_path(request.path) or request.path
        if session.path in self.product.stream_paths:
            named = request.parameters().get("events", "")
            usual = {"*"} if self.options.bare_stream == "all" else set()
            session.channels |= {name for name in named.split("/") if name} or usual
            if self.product.is_linear and request.path not in self.product.stream_paths:
                session.channels.clear()  # the retired address: a subscription there is silent too
            session.id = self.product.stream_key(request)
            self.later(0.001, self.subscribed, session)
        super().opened(connection, request)

    def _key_ended(self, account: Account, key: str, is_announced: bool) -> None:
        """Silence the streams of a key; they stay open (§10)."""
        for session in tuple(self.listeners[account.name].values()):
            if session.id == key:
                if is_announced:
                    self.stream.push(
                        session, {"e": "listenKeyExpired", "E": self.now_ns() // 1_000_000, "listenKey": key}
                    )
                super().expire(session)

    def expire(self, session: Session) -> None:
        """End a session's login."""
        self.requests.revoke(session)
        super().expire(session)

    def expire_logins(self, account_name: str | None) -> None:
        """End the listenKeys: their streams get an event of it, then none."""
        for account in self.accounts.values():
            if account_name in (None, account.name):
                self.listen_keys.end(account, is_announced=True)
        super().expire_logins(account_name)

    def pushes_transfer(self, session: Session, account: Account, amount: Decimal, at_ms: int) -> None:
        """Send ACCOUNT_UPDATE with the reason of a transfer."""
        self.stream.push_account(session, account, "DEPOSIT" if amount > 0 else "WITHDRAW", amount, at_ms)


class BinanceUsdm(BinanceFutures):
    """USD-M futures."""

    name = "binance-usdm"
    product = USDM
    symbols = tuple(f"{base}USDT" for base in BASES)


class BinanceCoinm(BinanceFutures):
    """COIN-M futures."""

    name = "binance-coinm"
    product = COINM
    symbols = tuple(f"{base}USD_PERP" for base in BASES)
