"""The simulated Kraken, spot: REST and WebSocket v2; § numbers are those of docs/venues/kraken.md.

`sim.main` starts it. Where the file is silent, it refuses what a strict venue could refuse.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from kill_switch.sim.kit.auth import Lockout, TokenStore
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.limits import PoolSpec
from kill_switch.sim.kit.options import option
from kill_switch.sim.kit.protocol import Request, SimAnswer
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.venue import Route
from kill_switch.sim.kraken import payloads as wire
from kill_switch.sim.kraken.calls import PRIVATE, routes
from kill_switch.sim.kraken.desk import SpotDesk
from kill_switch.sim.kraken.modes import ModalOptions, ModalVenue
from kill_switch.sim.kraken.placing import PlaceFrames
from kill_switch.sim.kraken.rules import ALL_RIGHTS, TIERS
from kill_switch.sim.kraken.signing import SpotSignature
from kill_switch.sim.kraken.v2 import V2Socket


@dataclass
class KrakenOptions(ModalOptions):
    """The facts about Kraken that are inferred or unknown, or differ by account."""

    idle_s: float = option(60.0, "seconds without a message until a WebSocket is closed (§5.1 [G])", harsh=20.0)
    events: str = option("subscribed", "the sessions that get account events (§5.1)", "subscribed")
    snapshot: bool = option(False, "no meaning here: a subscription to executions has a snapshot of its own (§5.1)")
    mode: str = option(
        "online", "the system's mode (§8)", "online", "cancel_only", "post_only", "maintenance"
    )  # fmt: skip
    tier: str = option(
        "starter", "the tier of all accounts, which decides their counters (§7); `unlimited` has none", *TIERS
    )
    rights: str = option(",".join(ALL_RIGHTS), "the rights of the keys, with commas (§9)")
    nonce_window: int = option(0, "how far a nonce may be behind the highest, as set on the key (§2.1)")
    token_s: float = option(900.0, "seconds until a token ends (§2.2)")
    token_kept: bool = option(
        False, "a token that a subscription was made with lives on while the WebSocket does (§2.2: two pages differ)",
        kind=True,
    )  # fmt: skip
    token_single: bool = option(False, "a new token ends the account's earlier ones (§12)", harsh=True)
    cancel_all_charged: bool = option(
        False, "cancel-all is charged like single cancels, and refused while a pair's counter is full (§7, §11)",
        harsh=True,
    )  # fmt: skip
    lockout_after: int = option(
        20, "refused keys, signatures and nonces in a minute that lock an address out; 0 is none"
    )
    lockout_s: float = option(900.0, "seconds of the lockout (§7 [G])")
    equity_moves: str = option(
        "trade", "what a change of equity by the admin API is: a result of trading, or a transfer", "trade", "transfer"
    )


class Kraken(ModalVenue):
    """Kraken, spot."""

    options: KrakenOptions
    tokens: TokenStore
    name = "kraken"
    options_type = KrakenOptions
    symbols = tuple(pair.alt for pair in wire.PAIRS)
    kinds = wire.KINDS
    not_covered = ("derivatives", "contingent-close", "earn")
    lists = ("orders",)
    reads = ("order", "closed", "balance", "balances", "key")
    errors: ClassVar[Mapping[int, str]] = {
        400: "EGeneral:Invalid arguments",
        401: "EAPI:Invalid key",
        403: "EGeneral:Permission denied",
        404: "EGeneral:Unknown method",
        429: "EAPI:Rate limit exceeded",
        500: "EGeneral:Internal error",
        503: "EService:Unavailable",
    }

    def __init__(self, options: KrakenOptions, accounts: int) -> None:
        self.tokens = TokenStore(lambda: options.token_s)  # (§2.2)
        self.auth = SpotSignature(lambda: options.nonce_window)
        self._lockout = Lockout(options.lockout_after, 60.0, options.lockout_s)
        self.ledgers: dict[str, list[wire.LedgerEntry]] = {}  # by account: its transfers, the oldest first
        self.amends: dict[str, list[dict[str, object]]] = {}  # by order: how it was placed, then its amends
        self._transfer: wire.LedgerEntry | None = None  # that changes the money which is being set
        super().__init__(options, accounts)
        self.desk = SpotDesk(self)
        self.v2 = V2Socket(self, self.desk)
        self.sockets["/v2"] = self.v2
        self.v2.ops |= PlaceFrames(self).ops()
        self.routes |= routes(self)

    # accounts, orders, envelope

    def make_account(self, number: int) -> Account:
        """Create an account with a key of Kraken's shape."""
        key = base64.b64encode(secrets.token_bytes(42)).decode()
        credentials = {"api_key": key, "api_secret": base64.b64encode(secrets.token_bytes(64)).decode()}
        account = Account(f"{self.name}-{number}", f"AA{number:02d} N84G", credentials)
        self.keys[key] = account
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order with an id of Kraken's shape (§1)."""
        stop = None if kind in ("limit", "market") else Decimal("29000.0")
        side, price, at = "sell" if number % 2 else "buy", Decimal("30000.0"), self.now_ns()
        return Order(wire.new_id(), symbol, kind, side, Decimal("0.01"), price, "open", at, stop, category=category)

    def id_format(self, text: str) -> bool:
        """Return whether a text is an order id (§1)."""
        return wire.is_order_id(text)

    def good(self, result: object) -> object:
        """Return a body without errors."""
        return {"error": [], "result": result}

    def bad(self, code: str, text: str = "") -> object:
        """Return a body with one error and no result (§8)."""
        return {"error": [code]}

    def error_status(self, status: int) -> int:
        """Return 200: every answer has it (§8)."""
        return 200

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an error; a status of the proxy in front of the venue comes as HTML with that status (§8)."""
        if status > 500 and status != 503 and code is None:
            return SimAnswer((b"<html><body>cloudflare</body></html>",), status, ok=False)
        return super().http_error(status, code, text)

    # limits and modes

    def account_options(self) -> Mapping[str, object]:
        """Return the tier, where Kraken has one of this name."""
        return {} if self.options.tier == "unlimited" else {"tier": self.options.tier}

    def pool_specs(self) -> Iterable[PoolSpec]:
        """Return the REST counter (§7)."""
        tier = TIERS[self.options.tier]
        return (PoolSpec("rest", tier.rest_most, per_s=tier.rest_per_s),)

    def reconfigured(self) -> None:
        """Empty the counters, and announce a changed mode."""
        self._lockout = Lockout(self.options.lockout_after, 60.0, self.options.lockout_s)
        if self.sockets:  # and not in the middle of the start
            self.desk.reset()
        super().reconfigured()

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Refuse an address that is locked out (§7), and count a private request."""
        if request.path.startswith(PRIVATE) and self._lockout.locked(connection.peer, time.monotonic()):
            return self.http_error(403, "EGeneral:Temporary lockout", None)
        if request.path.startswith(PRIVATE) and not request.headers.get("user-agent"):
            return self.http_error(
                403, "EGeneral:Permission denied", None
            )  # it is to be sent (§2.1); the error is ours
        return super().throttle(connection, request)

    def login_failed(self, connection: Connection) -> None:
        """Count a refused key, signature or nonce towards the lockout (§7)."""
        self._lockout.fail(connection.peer, time.monotonic())

    def route(self, request: Request) -> Route | None:
        """Look the request up; an unknown public path needs no key to be refused."""
        route = super().route(request)
        return self.refused(request) if route is None and not request.path.startswith(PRIVATE) else route

    def set_equity(self, account: Account, equity: Decimal, unrealised: Decimal | None) -> None:
        """Set an account's money; the change of cash is a transfer where the option says so."""
        cash = equity - (account.unrealised if unrealised is None else unrealised)
        if self.options.equity_moves == "transfer" and cash != account.cash:
            self._transfer = wire.LedgerEntry(wire.new_id("L"), cash - account.cash, cash, self.now_ns())
            self.ledgers.setdefault(account.name, []).append(self._transfer)
        super().set_equity(account, equity, unrealised)
        self._transfer = None

    def transfer_of(self, account: Account) -> wire.LedgerEntry | None:
        """Return the transfer that is being pushed."""
        return self._transfer

    def subscribed_with(self, token: object) -> None:
        """Keep the token of a subscription, where the option says so."""
        if self.options.token_kept:
            self.tokens.keep(token)

    def show_pending(self, account: Account, orders: Sequence[Order]) -> None:
        """Note the orders of a cancel that the `pending` fault holds up."""
        if self.desk.holds_up:
            self.desk.cancelling |= {order.id for order in orders}
