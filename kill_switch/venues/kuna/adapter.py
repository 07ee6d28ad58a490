"""The KUNA adapter: lists and batch cancels over REST, order pushes over SocketCluster (API v4).

It is made of the kit's parts; the other modules of this folder state what only KUNA has. It sends no cancel over the
WebSocket, because KUNA has none there. § numbers are those of docs/venues/kuna.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from kill_switch.core.domain import Instant, Order, Route, SweepTiming
from kill_switch.venues.decode import header_safe
from kill_switch.venues.described_venue import COMMAND_RETRIES
from kill_switch.venues.kit.balances import BalanceChecker
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.order_list import OrderList
from kill_switch.venues.kit.pools import Demand, Pool
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.kit.sessions import LoginRefused, Message
from kill_switch.venues.kit.strike import StrikeStep
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.kuna.options import KunaOptions
from kill_switch.venues.kuna.read_queue import ACTIVE, TURN, QueuedListReader
from kill_switch.venues.kuna.replies import (
    PAGE,
    balances_of,
    has_drill_passed,
    items_of,
    judge_http,
    listed_order_of,
    order_of,
)
from kill_switch.venues.kuna.signing import KunaSigner
from kill_switch.venues.kuna.socketcluster import (
    ACCOUNTS,
    LOGIN,
    ConnectionPings,
    login_steps,
    refusal_of,
    rid_of,
    subscription,
)
from kill_switch.venues.kuna.strike import MULTI, KunaCommands, KunaStriker
from kill_switch.venues.messages import Output, Outputs, Replied, Send, UnexplainedMessage
from kill_switch.venues.profile import Guess

DETAILS = "/v4/order/private/details"
NO_ORDER = "00000000-0000-4000-8000-000000000000"  # well-formed but not random: no order can have it


class Kuna(KitAdapter[KunaOptions]):
    """An account at KUNA.

    KUNA has no cancel-all (§ 3.3). A strike sends the known orders to `cancel/multi` at once and requests the lists
    beside it. Orders that only a list shows are cancelled when it comes. An error may come for a batch whose other
    orders were cancelled (§ 3.2): the next read shows it.

    An order is open while it is Open, Pending or WaitStop (§ 6). The active list is documented to have Open orders; the
    others are requested by status. An order that no list shows is looked up by its id if a push has shown it alive, or
    if its cancel was refused. A terminal status ends it, or the text "Order not found" (inferred).

    With `auth = "api-key"` the single key is sent, and nothing is signed. With `auth = "hmac"` each request is signed
    (§ 2). The WebSocket accepts the single key only (§ 5). With `ws_login = "none"` it is ready after the handshake,
    and only reads show the orders of other programs. A key sees one account type, so each type needs its own account.

    Equity is the balances by currency, amounts locked in orders included; KUNA is spot only (§ 3.5). It includes
    deposits and withdrawals, which look like profit and loss.
    """

    NAME = "kuna"
    POOLS: ClassVar[tuple[Pool, ...]] = (Pool("minute", 300, window_s=60.0),)  # of one key (§ 7, inferred)
    TIMING = SweepTiming(clean_reads=2, read_gap_s=1.2, strike_gap_s=1.0)
    STRIKER = KunaStriker
    CONNECTIONS = 5  # a strike is a batch, three lists, and a cancel of a single order
    SCOPE = ("account_type", "stop_orders", "since")
    PARTS = ("account_type",)
    DRILLS = (Route.HTTP,)  # § 5: the WebSocket is push only

    Options = KunaOptions
    READER = QueuedListReader
    reader: QueuedListReader
    COMMANDS = (
        "POST /v4/order/private/cancel/multi: batches of the known orders",
        "GET /v4/order/private/active and /v4/order/private/history beside them: what they add is cancelled too",
    )
    COVERED = ("Open, Pending and WaitStop orders of the key's account type, of every program and of the web page",)
    NOT_COVERED = ("the other account type, Pro or not: it needs an account of its own",)
    GUESSES = (
        Guess("the active list lacks WaitStop and Pending orders (§ 6)", "they are listed by their status too"),
        Guess(
            "some list has each Pending order (§ 6)",
            "nothing: one that no list has, and no push has shown, is not seen",
        ),
        Guess("a batch may have as many orders as a page (§ 3.2)", "a batch that is refused is halved"),
        Guess(
            "an error for a batch says nothing of its other orders (§ 3.2)",
            "the next read shows what is left, which is struck again",
        ),
        Guess(
            "an order that its look-up does not find has ended (§ 4)",
            "nothing: it is asked only for orders that no list shows",
        ),
    )

    @classmethod
    def not_covered(cls, options: KunaOptions) -> tuple[str, ...]:
        unread = (
            ("WaitStop orders that the active list lacks: stop_orders is false", options.stop_orders),
            ("Pending orders that the active list lacks: pending_orders is false", options.pending_orders),
            ("orders older than two weeks: since is empty", options.since),
        )
        return (*cls.NOT_COVERED, *(phrase for phrase, read in unread if not read))

    @classmethod
    def demand(cls, options: KunaOptions) -> Demand:
        """Return the requests: a list for each status, and in a strike a batch, singles and the lists again."""
        lists = ("GET /v4/order/private/active",) * (1 + options.stop_orders + options.pending_orders)
        return Demand(
            read=lists,
            probe=lists[:1],
            equity=("GET /v4/private/getBalance",),
            drill=(f"POST {MULTI}",),
            strike=(f"POST {MULTI}",) * 3 + lists,
        )

    @classmethod
    def secrets(cls, options: KunaOptions) -> tuple[str, ...]:
        signed = options.auth == "hmac"
        pair = ("public_key", "api_secret") if signed else ()
        return pair if signed and options.ws_login == "none" else (*pair, "api_key")

    def __init__(self, options: KunaOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        headers = {"Host": self.host, "Accept": "application/json", "Content-Type": "application/json"}
        if options.account_type:
            headers["account"] = options.account_type
        secret: str | None = None
        if options.auth == "hmac":
            headers["public-key"] = header_safe("public_key", secrets["public_key"])
            secret = header_safe("api_secret", secrets["api_secret"])
        else:
            headers["api-key"] = header_safe("api_key", secrets["api_key"])
        self._signer = KunaSigner(headers, secret, self.clock.venue_ms)
        key = header_safe("api_key", secrets["api_key"]) if options.ws_login == "api-key" else ""
        query = f"limit={PAGE}&sort=desc" + (f"&start={options.since}" if options.since else "")
        targets = {ACTIVE: f"/v4/order/private/active?{query}"}
        for status, wanted in (("WaitStop", options.stop_orders), ("Pending", options.pending_orders)):
            if wanted:
                targets[status] = f"/v4/order/private/history?status={status}&{query}"
        self._targets = tuple(targets.values())
        self.lists = tuple(
            self._order_list(name, self._signer.build("GET", target)) for name, target in targets.items()
        )
        self.look_up = lambda order_id: self._signer.build("GET", f"{DETAILS}/{quote(order_id, safe='')}")
        self.login = login_steps(key)
        self.pushes_orders = bool(key)  # without a login nothing is subscribed
        self.harmless = self._signer.build("POST", MULTI, {"orderIds": [NO_ORDER]})
        self.equity_request = self._signer.build("GET", "/v4/private/getBalance")
        self._commands = KunaCommands(self._signer, self.lists, self.book, self.evidence, options.batch_orders)
        self._balances = BalanceChecker()
        self._heartbeats: dict[int, ConnectionPings] = {}
        self.assemble()

    @staticmethod
    def _order_list(name: str, build: Build) -> OrderList:
        return OrderList(name, lambda cursor: build, lambda data: items_of(data.body), full=PAGE)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        self.reader.drop()
        return super().strike(now, number)

    def cancels(self, now: Instant) -> Iterator[StrikeStep]:
        return self._commands.strike(list(self.book.orders), now)

    def describe_strike(self) -> tuple[str, ...]:
        lists = (f"GET {target} (orders that it adds are cancelled too)" for target in self._targets)
        return (*self._commands.describe(self.book.orders), *lists)

    # ── REST replies ──────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        return judge_http(status, body, self.evidence, signed=self._signer.needs_signature)

    def may_sign_again(self, call: PendingCall) -> bool:
        """Return whether a refused nonce has a successor: after the venue's time comes one above the highest."""
        return call.retries < (COMMAND_RETRIES if call.command else 2)

    def on_wrong_time(self, reply: Replied, tries: int, now: Instant) -> None:
        super().on_wrong_time(reply, tries, now)
        self._signer.nonce_refused(self.calls.pending[reply.tag].asked_ns, now)

    def read_order(self, item: object) -> Order | None:
        return listed_order_of(item)

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        return order_of(data.body.get("data", data.body)) if isinstance(data.body, dict) else None

    def is_drill_passed(self, reply: Reply) -> bool:
        return has_drill_passed(reply.data, NO_ORDER)

    def read_equity(self, data: Any) -> Mapping[str, Decimal] | str:
        """Read the balances; an account that holds nothing has a zero of each listed currency."""
        amounts = balances_of(data.body)
        why = amounts if isinstance(amounts, str) else self._balances.why_incomplete(amounts)
        if isinstance(amounts, str) or why:
            return self.evidence(why)
        self._balances.remember(amounts)
        return {currency: amount for currency, amount in amounts.items() if amount} or amounts

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        outputs = super().on_opened(route, conn, now)
        if route is not Route.WS:
            return outputs
        heartbeat = self._heartbeats[conn] = ConnectionPings(conn, self.timers, now)
        return (*outputs, *heartbeat.start())

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        if route is Route.WS and (heartbeat := self._heartbeats.pop(conn, None)) is not None:
            heartbeat.is_closed = True
        return super().on_closed(route, conn, why, now)

    def on_session_ready(self, conn: int, now: Instant) -> Outputs:
        if not self.pushes_orders:
            return super().on_session_ready(conn, now)
        return (Send(conn, subscription(ACCOUNTS)), *super().on_session_ready(conn, now))

    def login_refusal(self, message: Message) -> LoginRefused | None:
        return refusal_of(message, self.evidence)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        return self.reader.on_turn(now) if tag == TURN else super().on_timer(tag, now)

    def handle_raw_frame(self, conn: int, text: str | bytes, now: Instant) -> Outputs | None:
        if text not in (b"", ""):
            return None
        heartbeat = self._heartbeats.get(conn)
        return () if heartbeat is None else heartbeat.on_ping(now)

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Process a message; an event with a `cid` is acknowledged."""
        heartbeat, cid = self._heartbeats.get(conn), message.get("cid")
        if heartbeat is None:
            return ()
        heartbeat.on_message(message, now)
        outputs = super().on_message(conn, message, now)
        if type(cid) is not int or ("rid" in message and message.get("event") is None):
            return outputs
        return (Send(conn, orjson.dumps({"rid": cid})), *outputs)

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        event, data = message.get("event"), message.get("data")
        if event is None and "rid" in message:
            # the answer to the login comes behind the token, and a kill needs no balances
            expected = rid_of(message) in (LOGIN, ACCOUNTS)
            return () if expected else (UnexplainedMessage("an answer to no request of ours"),)
        if event == "#publish" and isinstance(data, dict):
            return self._on_published(data.get("channel"), data.get("data"))
        if event in ("#setAuthToken", "#kickOut"):
            return ()
        return (UnexplainedMessage("a message that no document explains"),)

    def _on_published(self, channel: object, data: object) -> Outputs:
        """Apply a push by its channel; the object is three levels deep, and the inner event's name is unknown (§ 5)."""
        if channel in ("accounts", "trade"):
            return ()
        if channel != "order":
            return (UnexplainedMessage("a push on a channel that is not subscribed"),)
        inner = data.get("data") if isinstance(data, dict) else None
        order = order_of(inner if isinstance(inner, dict) else data)
        return (
            (UnexplainedMessage("an order push that cannot be read"),) if order is None else self.book.apply_push(order)
        )
