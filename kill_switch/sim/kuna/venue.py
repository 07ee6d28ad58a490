"""The simulated KUNA: accounts, orders, events, authentication, errors.

`sim.main` starts it. It has no call that docs/venues/kuna.md does not document; § numbers below are those of that file.
A fact that the file leaves open is a switch.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.faults import SPECS
from kill_switch.sim.kit.limits import Limiter, PoolSpec
from kill_switch.sim.kit.options import Options, option
from kill_switch.sim.kit.protocol import Request, SimAnswer
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.table_venue import TableVenue
from kill_switch.sim.kit.tables import Params, Refused
from kill_switch.sim.kit.values import is_uuid, plain
from kill_switch.sim.kuna import payloads as wire
from kill_switch.sim.kuna.calls import DAY_NS, PUBLIC, routes
from kill_switch.sim.kuna.signing import PUBLIC as PUBLIC_KEY
from kill_switch.sim.kuna.signing import SINGLE, KunaSignature
from kill_switch.sim.kuna.socket import KunaSocket

# The venue's usual code and text for a status; those that §4 does not have are [U].
_CODES = {
    400: ("BAD_REQUEST", "Bad Request"),
    401: ("UNAUTHORIZED", "Unauthorized"),
    403: ("FORBIDDEN", "Forbidden"),
    404: ("NOT_FOUND", "Not Found"),
    413: ("PAYLOAD_TOO_LARGE", "Payload Too Large"),
    429: ("TOO_MANY_REQUESTS", "Too Many Requests"),
    500: ("Internal Server Error", "Internal Server Error"),
    503: ("SERVICE_UNAVAILABLE", "Service Unavailable"),
}


@dataclass
class KunaOptions(Options):
    """The facts about KUNA that are inferred or unknown."""

    engine_ms: float = option(0.0, "milliseconds from an accepted cancel until it is executed (§6 [I])", harsh=150.0)
    idle_s: float = option(20.0, "seconds without a frame until a WebSocket is closed: pingTimeout (§5)")
    idle_close_code: int = option(4001, "close code after `idle_s`: SocketCluster's 'client pong timed out'")
    auth: str = option(
        "api-key", "the keys in an account's credentials; both kinds are accepted (§2)", "api-key", "hmac", fixed=True
    )
    ws_login: str = option("api-key", "whether accounts have a key for the WebSocket", "api-key", "none", fixed=True)
    account_type: str = option("", "'pro': requests need the header `account: pro` (§2)", "", "pro", fixed=True)
    signs_compact: bool = option(
        True,
        "the signed form of a body is its compact JSON, however it is sent (§2); else its bytes",
        harsh=False,
    )
    wrap: bool = option(True, "successes are wrapped in `data` (§3); else bare", harsh=False)
    id_key: str = option("id", "name of the id in the answer to cancel/multi (§3.2)", "id", "orderId", harsh="orderId")
    error_status: int = option(
        0, "HTTP status of every error but 429 and 503, as 200; 0 is the documented one (§4)", harsh=200
    )
    partial: str = option(
        "items", "a batch with ended orders: success false, or one error (§3.2 [U])", "items", "error", harsh="error"
    )
    batch_max: int = option(0, "longest batch; 0 is no limit (§3.2 [U])", harsh=3)
    max_open: int = option(100, "open orders of an account; 0 is no limit (§3.2)")
    active_has_stops: bool = option(False, "the active list has WaitStop orders (§6 [U])", kind=True)
    lists_pending: str = option(
        "history", "the list that has Pending orders (§6 [U])", "history", "active", "none", kind="active", harsh="none"
    )
    cancels_pending: bool = option(True, "Pending orders can be cancelled (§6 [U])", harsh=False)
    list_days: float = option(14.0, "days that lists go back without `start` (documented with them); 0 is for ever")
    order_age_days: float = option(0.0, "age of orders that the admin API rests")
    nonce: str = option("increasing", "what a nonce must be (§2 [U])", "increasing", "unique", "any", kind="any")
    nonce_window_s: float = option(0.0, "how far a nonce may be off, in seconds; 0 is no limit (§2 [U])", harsh=5.0)
    rest_per_min: int = option(300, "private requests a minute and key; 0 is no limit (§7 [I])", kind=0, harsh=150)
    token: str = option(
        "before",
        "when #setAuthToken is sent, relative to the answer of a login (§5)",
        "before",
        "after",
        "none",
        harsh="none",
    )
    token_s: float = option(0.0, "seconds until a login and its token expire; 0 is never (§5 [U])", harsh=20.0)
    ping_s: float = option(8.0, "seconds between pings (§5 [I]); 0 is never", harsh=15.0)
    numbered_pushes: bool = option(False, "pushes have a `cid` and expect an acknowledgement", harsh=True)
    push_event: str = option("", "the inner event's name in a push; empty is the channel's (§5 [U])", harsh="update")


class Kuna(TableVenue):
    """KUNA, with its REST API and its SocketCluster endpoint; its engine executes a cancel before it answers (§6)."""

    auth: KunaSignature
    name = "kuna"
    options_type = KunaOptions
    symbols = wire.PAIRS
    kinds = ("limit", "stop", "pending")
    lists = ("active", "Pending", "WaitStop")
    reads = ("order", "balance", "trades", "me")
    filled_state = "Closed"
    cancelled_word = "Canceled"  # (§6)
    malformed = ("", 500, "Invalid JSON")
    supported = frozenset(SPECS) - {"foreign_use"}  # the rate limit counts per key

    def __init__(self, options: KunaOptions, accounts: int) -> None:
        self.options = options
        self.auth = KunaSignature(options, self.now)
        super().__init__(options, accounts)
        self.socket = KunaSocket(self)
        self.sockets["/socketcluster/"] = self.socket
        self.routes |= routes(self)

    # accounts and orders

    def account_options(self) -> dict[str, str]:
        """Return the configuration keys that state which keys the account has."""
        keys = {"auth": self.options.auth}
        if self.options.ws_login != "api-key":
            keys["ws_login"] = self.options.ws_login
        return keys | ({"account_type": self.options.account_type} if self.options.account_type else {})

    def make_account(self, number: int) -> Account:
        """Create an account with a single key and a key pair (§2).

        Its credentials are those that its configuration needs.
        """
        single, public, secret = secrets.token_hex(24), secrets.token_hex(16), secrets.token_hex(32)
        signs = self.options.auth == "hmac"
        credentials = {"public_key": public, "api_secret": secret} if signs else {}
        if not signs or self.options.ws_login == "api-key":
            credentials["api_key"] = single
        account = Account(f"{self.name}-{number}", str(uuid.uuid4()), credentials)
        self.keys |= {SINGLE + single: account, PUBLIC_KEY + public: account}
        self.auth.secrets[account.name] = secret
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order; a stop is in WaitStop (§6)."""
        side, at, stop = "sell" if number % 2 else "buy", self.now_ns(), Decimal(29_000) if kind == "stop" else None
        state = {"stop": "WaitStop", "pending": "Pending"}.get(kind, "Open")
        kind = "limit" if kind == "pending" else kind
        return Order(str(uuid.uuid4()), symbol, kind, side, Decimal("0.001"), Decimal(30_000), state, at, stop)

    def rest(
        self, account: Account, count: int, symbol: str, kind: str, category: str = "", ids: Sequence[str] = ()
    ) -> list[Order]:
        """Place resting orders. Raises `ValueError` beyond the account's maximum (§3.2)."""
        most = self.options.max_open
        if most and len(account.open) + count > most:
            raise ValueError(f"an account of {self.name} may have {most} open orders, and has {len(account.open)}")
        orders = super().rest(account, count, symbol, kind, category, ids)
        for order in orders:
            order.created_ns -= int(self.options.order_age_days * DAY_NS)
        return orders

    def bot(self, account: Account) -> None:
        """Place an order, unless the account has its maximum."""
        if not self.options.max_open or len(account.open) < self.options.max_open:
            super().bot(account)

    def id_format(self, text: str) -> bool:
        """Return whether a text is a UUID (§4)."""
        return is_uuid(text)

    # events

    def order_events(self, account: Account, orders: Sequence[Order], news: str) -> Iterable[bytes]:
        """Return an event for each order (§5)."""
        return [self._publish("order", wire.order_event(account, order)) for order in orders]

    def tell_equity(self, account: Account) -> None:
        """Send the balances (§5). A spot venue has neither profit nor positions (§3.5)."""
        assets = [{"code": "USDT", "balance": plain(account.equity), "lockBalance": "0"}]
        self.emit(account, "accounts", self._publish("accounts", {"userId": account.venue_id, "assets": assets}))

    def _publish(self, channel: str, data: object) -> bytes:
        number = {"cid": secrets.randbelow(10_000)} if self.options.numbered_pushes else {}
        return orjson.dumps(wire.publish(channel, data, self.options.push_event or channel) | number)

    # limits, authentication, errors

    def pool_specs(self) -> Iterable[PoolSpec]:
        """Return the limit of private requests, 300 a minute per key (§7 [I])."""
        return (PoolSpec("rest", self.options.rest_per_min, 60.0),)

    def reconfigured(self) -> None:
        """Reset the rate limits; public requests have 60 a minute (§7)."""
        super().reconfigured()
        self._public = Limiter((60, 60.0))

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Count a request, a public one by its address (§7 [I])."""
        if request.path not in PUBLIC:
            return super().throttle(connection, request)
        return None if self._public.allow(connection.peer, time.monotonic()) else self.http_error(429, None, None)

    def parameters(self, request: Request) -> Params:
        """Parse the parameters; a body that is empty is refused as well."""
        if request.method == "POST" and not request.body:
            raise Refused(*self.malformed)
        return super().parameters(request)

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check the credentials (§2); public requests need none, and faults affect them all the same."""
        if request.path in PUBLIC:
            return self.account()
        if request.method == "POST" and not request.is_json:
            return self.http_error(400, None, "Content-Type must be application/json")
        return super().authenticate(request)

    def disconnected(self, connection: Connection) -> None:
        """Remove a closed connection."""
        super().disconnected(connection)
        self.socket.shaken.discard(connection)

    def expire(self, session: Session) -> None:
        """End a session's login as SocketCluster does: revoke its tokens, and send #removeAuthToken (§5)."""
        if session.account is not None:
            self.socket.revoke(session.account)
            super().expire(session)
            session.connection.say(orjson.dumps({"event": "#removeAuthToken", "data": {}}))

    def good(self, result: object) -> object:
        """Return a REST success, wrapped or bare (§3)."""
        return {"data": result} if self.options.wrap else result

    def bad(self, code: str, text: str = "") -> object:
        """Return a REST error (§4)."""
        return {"errors": [wire.error(code, text)]}

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a REST error with the code and text that are usual for its status (§4)."""
        usual = _CODES.get(status, _CODES[400])
        return super().http_error(status, code or usual[0], text or usual[1])
