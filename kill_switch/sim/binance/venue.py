"""The common part of the simulated Binance venues: keys, envelope, error codes, pools, pings, the lag of reads.

§ numbers are those of docs/venues/binance.md. Where the file is silent, a venue refuses what a strict one could refuse.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from kill_switch.sim.binance import wallet
from kill_switch.sim.binance.errors import BY_STATUS, TEXTS, refusal
from kill_switch.sim.binance.known import check_known
from kill_switch.sim.binance.limits import Limit, Limits, OrderRule, limit_text
from kill_switch.sim.binance.order_ends import EndingVenue
from kill_switch.sim.binance.signing import KEY_TYPES, Signatures, form_of, is_key
from kill_switch.sim.kit.book import ZERO, Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.options import Options, option
from kill_switch.sim.kit.protocol import Request, SimAnswer, json_answer
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Params
from kill_switch.sim.kit.venue import Route

BASES = tuple(
    "BTC ETH BNB SOL XRP ADA DOGE AVAX DOT LINK LTC BCH ETC UNI ATOM XLM NEAR FIL ICP APT ARB OP INJ SUI SEI TIA"
    " RUNE AAVE MKR SNX CRV LDO GRT ALGO VET EGLD FTM SAND MANA AXS GALA CHZ ENJ THETA FLOW KAVA ZEC DASH XMR EOS"
    " TRX XTZ NEO IOTA QTUM ZIL ONT BAT ZRX COMP YFI SUSHI 1INCH DYDX GMX IMX APE MASK ENS PEOPLE WLD PYTH JUP"
    " STRK ORDI BLUR MAGIC HOOK ID EDU PENDLE FET AR STX".split()
)
_UNAVAILABLE = {  # what HTTP 503 says (§8)
    "gone": ("-1016", ""),
    "overloaded": ("-1008", ""),
    "unknown": ("-1000", "Unknown error, please check your request or try again later."),
    "unavailable": ("-1000", "Service Unavailable."),
    "internal": ("-1001", ""),
}


@dataclass
class BinanceOptions(Options):
    """The facts about every Binance venue that are inferred or unknown, or differ by account."""

    auth: str = option("hmac", "the type of the API keys (§2)", "hmac", *KEY_TYPES, fixed=True)
    idle_s: float = option(0.0, "no meaning here: pings and pongs decide (§5)")
    life_s: float = option(86_400.0, "seconds after which a WebSocket is closed in any case (§5)", harsh=30.0)
    events: str = option("subscribed", "the sessions that get account events (§5)", "subscribed")
    pool: int = option(0, "weight that an address may use in a minute (§7); 0 is no limit")
    wallet_pool: int = option(0, "requests of one wallet call that an address may make in a minute (§7); 0 is no limit")
    ban_after: int = option(20, "refusals for too much weight in a minute that ban an address; 0 is none (§7)", harsh=3)
    ban_s: float = option(120.0, "seconds of the ban (§7)")
    connects: int = option(300, "WebSockets that an address may open in five minutes (§5); 0 is no limit")
    ping_s: float = option(20.0, "seconds between the venue's pings; 0 is none (§5)")
    pong_s: float = option(60.0, "seconds without a pong until a WebSocket is closed (§5)")
    lag_s: float = option(0.0, "seconds by which lists of open orders lag behind (§10, §11 [unknown])", harsh=2.0)
    gaps: int = option(0, "so many lists of open orders lack every other row, the first one too (§4, §10)")
    unavailable: str = option("gone", "what HTTP 503 says (§8)", *_UNAVAILABLE)
    equity_moves: str = option(
        "trade", "what a change of equity by the admin API is: a result of trading, or a transfer", "trade", "transfer"
    )
    key_rights: str = option("trade", "the permissions of the keys, with commas: `trade`, `withdraw`, `ip` (§9)")


class Binance(EndingVenue):
    """A space of orders at Binance."""

    options_type: ClassVar[type[BinanceOptions]] = BinanceOptions
    key_types = KEY_TYPES
    filled_state = "FILLED"
    cancelled_word = "CANCELED"
    errors: ClassVar[Mapping[int, str]] = BY_STATUS
    pings_count = True
    order_rules: ClassVar[tuple[OrderRule, ...]]  # on new orders of an account (§7)
    whole_weights: ClassVar[Mapping[str, float]]  # what reads cost without a symbol, by operation (§4)
    parameter_names: ClassVar[Mapping[str, str]]  # that calls have, by operation (§8)
    keyed: ClassVar[tuple[str, ...]] = ()  # the ends of paths that need the key only, no signature (§2)

    def __init__(self, options: BinanceOptions, accounts: int) -> None:
        self.options = options
        self.limits = Limits()
        self.auth: Signatures = Signatures(lambda: self.now() * 1000, takes_raw_bodies=self.name != "binance-spot")
        self.transfers: dict[str, list[wallet.Transfer]] = {}  # by account
        self.address = ""  # of the client that is being answered
        self._next_id = 1
        super().__init__(options, accounts)
        self.limits.on_ban.append(self.cut_off)
        self.routes |= wallet.routes(self)

    @abstractmethod
    def pushes_transfer(self, session: Session, account: Account, amount: Decimal, at_ms: int) -> None:
        """Send a session the event of a transfer, which has the time of its row in the history."""

    # accounts, orders, envelope

    def make_account(self, number: int) -> Account:
        """Create an account; its number is the same in every space of orders of one owner."""
        credentials = self.auth.new_key(self.options.auth, number)
        account = Account(f"{self.name}-{number}", str(354_937_867 + number), credentials)
        self.keys[credentials["api_key"]] = account
        return account

    def new_id(self, first: int) -> str:
        """Return a new id of a space of ids that begins with `first`."""
        self._next_id += 1
        return str(first + self._next_id)

    def id_format(self, text: str) -> bool:
        """Return whether a text is an order id: a whole number of 63 bits (§4)."""
        is_number = text.isascii() and text.isdigit() and len(text) < 20 and not text.startswith("0")
        return is_number and int(text) < 2**63

    def good(self, result: object) -> object:
        """Return a result as it is."""
        return result

    def bad(self, code: str, text: str = "") -> object:
        """Return an error (§8)."""
        number = code.removeprefix("-").isdigit()
        return {"code": int(code) if number else -1000, "msg": text or TEXTS.get(code, code)}

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an error of the venue; a key without the right is refused like an unknown key (§8)."""
        if status == 503 and code is None:
            code, text = unavailable(self.options)
        shown = code or BY_STATUS.get(status, BY_STATUS[0])
        answer = super().http_error(401 if status == 403 else status, shown, text if code else None)
        if status in (418, 429) and code is None:
            fault = self.faults.peek("rate_limit")
            wait_s = max(1.0, fault.until - time.monotonic()) if fault else 1.0
            answer.headers = {"Retry-After": str(int(wait_s) + 1)}
        return answer

    # the pools (§7)

    def reconfigured(self) -> None:
        """Empty the pools."""
        super().reconfigured()
        self.limits.reset()

    def charge(self, address: str, weight: float) -> Limit | None:
        """Charge a weight to an address; return the refusal if it does not fit."""
        self.address, options = address, self.options
        return self.limits.charge(address, weight, options.pool, options.ban_after, options.ban_s)

    def charge_foreign(self, account: Account) -> None:
        """Charge a request of another program, once for all accounts: they share the pool of their address."""
        fault = self.faults.peek("foreign_use")
        if account is next(iter(self.accounts.values())) or (fault is not None and fault.account == account.name):
            self.limits.charge_everyone(1)

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Charge every request, public ones and upgrades too; each call of the wallet has a pool of its own."""
        if "upgrade" in request.headers:
            if not self.limits.connects(connection.peer, self.options.connects):
                return self.http_error(429, "-1034", None)
            self.log[-1].weight = self.connect_weight(request)
            limit = self.charge(connection.peer, self.log[-1].weight)
        elif request.path.startswith("/sapi/"):
            self.log[-1].weight = 0
            limit = self.limits.charge_call(connection.peer, request.path, self.options.wallet_pool)
        else:
            route = self.route(request)
            limit = self.charge(connection.peer, 1 if route is None else route.weight)
        if limit is None:
            return None
        most = self.options.wallet_pool if request.path.startswith("/sapi/") else self.options.pool
        answer = json_answer(self.bad("-1003", limit_text(limit, most, self.now())), limit.status, ok=False)
        answer.headers = {"Retry-After": str(int(limit.wait_s) + 1)}
        return answer

    def connect_weight(self, request: Request) -> float:
        """Return the weight of a new WebSocket (§5)."""
        return 2

    def usage_headers(self, connection: Connection) -> Mapping[str, str]:
        """Return the weight that the address has used."""
        return {"X-MBX-USED-WEIGHT-1M": str(self.limits.used(connection.peer))}

    def spare(self) -> None:
        """Return the weight of the command that is being answered: it succeeded (§3.1)."""
        self.limits.refund(self.address, self.log[-1].weight)
        self.log[-1].weight = 0

    def cut_off(self, address: str) -> None:
        """Drop the WebSockets of an address that is banned."""
        for connection in tuple(self.connections):
            if connection.is_websocket and connection.peer == address:
                connection.abort()

    # requests

    def parameters(self, request: Request) -> Params:
        """Parse the query and the body, which is a form; the query wins. Raises `Refused`."""
        form = parse_qsl(form_of(request).decode("utf-8", "replace"), keep_blank_values=True)
        params = dict(form) | request.parameters()
        if spec := self.spec_of(request):
            check_known(self.parameter_names, spec.operation, params)
        return params

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check the key's form, then the key, then time and signature (§2)."""
        key = self.auth.key_of(request)
        if not is_key(key):
            return self.http_error(401, "-2014", None)
        if request.path.endswith(self.keyed):
            return self.keys.get(key) or self.no_account()
        return super().authenticate(request)

    def route(self, request: Request) -> Route | None:
        """Look the request up; a read without a symbol costs more (§4). An unknown path needs no key to be refused."""
        route = super().route(request) or self.refused(request)
        if "symbol=" not in request.query:
            route.weight = self.whole_weights.get(route.operation, route.weight)
        return route

    def permit_trade(self, account: Account) -> None:
        """Refuse a command of a key that may only read. Raises `Refused`."""
        if self.faults.on("read_only_key", account.name) or "trade" not in self.options.key_rights.split(","):
            raise refusal("-2015")

    # lists, events, life of a WebSocket

    def listed(self, account: Account, name: str, *, ended: bool = False) -> list[Order]:
        """Return a list, which may lag behind or lack rows."""
        lag_s = self.options.lag_s
        if lag_s > 0 and self.faults.peek("stale_reads") is None and self.faults.peek("empty_reads") is None:
            orders = self._past(account, (), time.monotonic() - lag_s)
        else:
            orders = super().listed(account, name, ended=ended)
        if orders and self.options.gaps > 0:
            self.options.gaps -= 1
            return orders[1::2]
        return orders

    def subscribed(self, session: Session) -> None:
        """Send the resting orders as events, where the option says so."""
        if self.base_options.snapshot and session.account is not None:
            self.sockets[session.path].push_orders(session, list(session.account.open.values()), "opened")

    def set_equity(self, account: Account, equity: Decimal, unrealised: Decimal | None) -> None:
        """Set an account's money; the change of cash is a transfer where the option says so."""
        super().set_equity(account, equity, unrealised)
        amount = account.cash - account.cash_before
        if self.options.equity_moves == "transfer" and amount:
            at_ms = self.now_ns() // 1_000_000
            self.transfers.setdefault(account.name, []).append(wallet.Transfer(amount, at_ms))
            for session in tuple(self.listeners[account.name].values()):
                self.pushes_transfer(session, account, amount, at_ms)

    def opened(self, connection: Connection, request: Request) -> None:
        """Greet, watch, and begin to send pings (§5)."""
        super().opened(connection, request)
        connection.ponged_at = time.monotonic()
        self._ping(connection)

    def _ping(self, connection: Connection) -> None:
        options = self.options
        if connection.closing or options.ping_s <= 0:
            return
        if time.monotonic() - connection.ponged_at > max(options.pong_s, options.ping_s):
            connection.close_websocket(1008, "Pong timeout")
            return
        connection.ping()
        self.later(options.ping_s, self._ping, connection)


def unavailable(options: BinanceOptions) -> tuple[str, str]:
    """Return code and text of HTTP 503."""
    return _UNAVAILABLE[options.unavailable]


def money(amount: Decimal) -> str:
    """Format an amount with the eight places of the documents."""
    return f"{amount + ZERO:.8f}"


def rate_limits(kinds: Sequence[tuple[str, str, int, int]]) -> list[dict[str, Any]]:
    """Return `rateLimits` of exchangeInfo, from type, interval, number of intervals, limit."""
    names = ("rateLimitType", "interval", "intervalNum", "limit")
    return [dict(zip(names, kind, strict=True)) for kind in kinds]
