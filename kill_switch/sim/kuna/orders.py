"""KUNA's switches, accounts, orders and events.

`calls` and `venue` build on it. § numbers are those of docs/venues/kuna.md; a fact that the file leaves open is a
switch here.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.options import Options, option
from kill_switch.sim.kit.protocol import SimAnswer, json_answer
from kill_switch.sim.kit.venue import Venue
from kill_switch.sim.kuna import payloads as wire

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
_DAY_NS = 86_400 * 10**9


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


class KunaExchange(Venue):
    """The accounts and orders of KUNA, whose engine executes a cancel before it answers (§6)."""

    name = "kuna"
    options_type = KunaOptions
    symbols = wire.PAIRS
    kinds = ("limit", "stop", "pending")
    lists = ("active", "Pending", "WaitStop")
    reads = ("order", "balance", "trades", "me")
    filled_state = "Closed"
    cancelled_word = "Canceled"  # (§6)

    def __init__(self, options: KunaOptions, accounts: int) -> None:
        self.options = options
        self.keys: dict[str, Account] = {}  # the accounts, by single key
        self.pairs: dict[str, tuple[Account, str]] = {}  # the accounts and their secrets, by public key
        super().__init__(options, accounts)

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
        self.keys[single] = account
        self.pairs[public] = (account, secret)
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        """Create an order; a stop is in WaitStop (§6)."""
        at = self.now_ns()
        stop = Decimal(29_000) if kind == "stop" else None
        state = {"stop": "WaitStop", "pending": "Pending"}.get(kind, "Open")
        side = "sell" if number % 2 else "buy"
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
            order.created_ns -= int(self.options.order_age_days * _DAY_NS)
        return orders

    def bot(self, account: Account) -> None:
        """Place an order, unless the account has its maximum."""
        if not self.options.max_open or len(account.open) < self.options.max_open:
            super().bot(account)

    def id_format(self, text: str) -> bool:
        """Return whether a text is a UUID (§4)."""
        return wire.is_uuid(text)

    def order_events(self, account: Account, orders: Sequence[Order], news: str) -> Iterable[bytes]:
        """Return an event for each order (§5)."""
        return [self.publish("order", wire.order_event(account, order)) for order in orders]

    def tell_equity(self, account: Account) -> None:
        """Send the balances (§5). A spot venue has neither profit nor positions (§3.5)."""
        assets = [{"code": "USDT", "balance": wire.plain(account.equity), "lockBalance": "0"}]
        self.emit(account, "accounts", self.publish("accounts", {"userId": account.venue_id, "assets": assets}))

    def publish(self, channel: str, data: object) -> bytes:
        """Return the frame of a push."""
        text = wire.publish(channel, data, self.options.push_event or channel)
        return text[:-1] + b',"cid":%d}' % secrets.randbelow(10_000) if self.options.numbered_pushes else text

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return a REST error (§4); its status may be HTTP 200."""
        usual = _CODES.get(status, _CODES[400])
        forced = self.options.error_status
        shown = forced if forced and status not in (429, 503) else status
        body = {"errors": [wire.error(code or usual[0], text or usual[1])]}
        return json_answer(body, shown, ok=False)

    def good(self, data: object) -> SimAnswer:
        """Return a REST success, wrapped or bare (§3)."""
        return json_answer({"data": data} if self.options.wrap else data)
