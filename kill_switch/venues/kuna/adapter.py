"""Speak to KUNA: list and batch cancel over REST, order pushes over SocketCluster (docs.kuna.io, API v4).

There is no cancel-all. A strike sends the orders that are known to `cancel/multi` at once and reads the lists beside
it; whatever they show that no call has named yet is cancelled as it comes. All of it ends in one `CancelAnswered`, and
ACCEPTED means: each of these cancels was accepted, or its order had ended, and the lists were read. An error may stand
for a batch whose other orders were cancelled: the next read decides.

An order is alive while it is Open, Pending or WaitStop. The list of active orders is documented to have the first;
each of the others is asked for by its status. An order that a push has shown alive, or whose cancel was refused, and
that no list shows is looked up by its id. What ends it is a terminal status, or words that say that there is no such
order (inferred: "Order not found"). Spot is all that there is; a key sees one account type, and each needs its own.

`auth = "api-key"` sends one key, and computes nothing when it counts. `auth = "hmac"` signs `PATH?QUERY NONCE BODY`.
The WebSocket knows the single key only. It is push only and carries no cancel; with `ws_login = "none"` it is up once
the session stands, and orders of others show in reads alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, field_validator

from kill_switch.core.domain import Instant, Order, OrderState, Route, SweepTiming
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.decode import header_safe, parse_json
from kill_switch.venues.kit.balances import BalanceChecker
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.readback import LOOK_UP, ReadBack
from kill_switch.venues.kuna.read_queue import ACTIVE, TURN, ReadQueue
from kill_switch.venues.kuna.replies import (
    Body,
    KunaError,
    carried,
    error_of_reply,
    items_of,
    order_of,
    orders_of,
    worth_of,
)
from kill_switch.venues.kuna.signing import KunaSigner
from kill_switch.venues.kuna.socketcluster import SocketClusterSession
from kill_switch.venues.kuna.strike import MULTI, KunaStriker
from kill_switch.venues.messages import Drilled, Equity, NotReady, Output, Outputs, Ready, Replied, UnexplainedMessage
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.profile import shared_timing
from kill_switch.venues.request import Request

PAGE = 100  # the longest list, and the most orders that an account may have open
NO_ORDER = "00000000-0000-4000-8000-000000000000"  # well-formed, and of no randomness: no order can have it
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", re.ASCII)


class KunaOptions(VenueOptions):
    """The keys of an account at this venue."""

    ws_url: str = "wss://ws-pro.kuna.io/socketcluster/"
    rest_url: str = "https://api.kuna.io"
    auth: Literal["api-key", "hmac"] = "api-key"
    ws_login: Literal["api-key", "none"] = "api-key"  # "none": for an account that has no single key
    account_type: Literal["", "pro"] = ""
    stop_orders: bool = True  # read WaitStop orders too: whether the active list has them is not documented
    pending_orders: bool = True  # read Pending orders too, for the same reason
    since: str = "2014-01-01T00:00:00Z"  # the lists leave out what is older than two weeks by default; "" does so
    batch_orders: int = Field(default=PAGE, ge=1, le=PAGE)  # the venue's most is not documented

    @field_validator("since")
    @classmethod
    def _moment(cls, since: str) -> str:
        if since and not _MOMENT.fullmatch(since):
            raise ValueError('must be a moment such as "2014-01-01T00:00:00Z", or empty')
        return since


class Kuna(Adapter[KunaOptions]):
    """One account at KUNA.

    What it is worth is its balances, by currency, what is locked in orders included; it trades spot, and has nothing
    else. A deposit or a withdrawal is in them like a profit or a loss: nothing tells them apart.
    """

    NAME = "kuna"
    # 300 requests a minute (inferred): even a sweep that gets nowhere, with 4 to 7 requests a strike and 3 a read, fits
    LIMIT = 300, 60.0  # of one key (inferred)
    TIMING = SweepTiming(clean_reads=2, read_gap_s=1.2, strike_gap_s=1.0)
    CONNECTIONS = 5  # a strike is a batch of what is known, three lists, and what has to go alone
    SCOPE = ("account_type", "stop_orders", "since")
    PARTS = ("account_type",)
    DRILLS = (Route.HTTP,)  # the WebSocket is push only

    Options = KunaOptions

    @classmethod
    def timing(cls, together: int) -> SweepTiming:
        return shared_timing(cls.TIMING, together)

    @classmethod
    def secrets(cls, options: KunaOptions) -> tuple[str, ...]:
        signed = options.auth == "hmac"
        pair = ("public_key", "api_secret") if signed else ()
        return pair if signed and options.ws_login == "none" else (*pair, "api_key")

    def __init__(self, options: KunaOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
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
        self._login = header_safe("api_key", secrets["api_key"]) if options.ws_login == "api-key" else ""
        query = f"limit={PAGE}&sort=desc" + (f"&start={options.since}" if options.since else "")
        targets = {ACTIVE: f"/v4/order/private/active?{query}"}
        for status, wanted in (("WaitStop", options.stop_orders), ("Pending", options.pending_orders)):
            if wanted:
                targets[status] = f"/v4/order/private/history?status={status}&{query}"
        self._lists = {kind: self._signer.build("GET", target) for kind, target in targets.items()}
        self.book.lists = tuple(self._lists)
        self._strikes = KunaStriker(
            self.calls,
            self.evidence,
            self._signer,
            self._lists,
            options.batch_orders,
            self._hedge_s,
            self.book,
        )
        self._turns = ReadQueue(self._ask_list)
        self._targets = tuple(targets.values())
        self._balance = self._signer.build("GET", "/v4/private/getBalance")
        self._balances = BalanceChecker()
        self._harmless = self._signer.build("POST", MULTI, {"orderIds": [NO_ORDER]})
        self._sessions: dict[int, SocketClusterSession] = {}
        self.read_backs.order_request = self._order_request
        self.pushes_orders = bool(self._login)  # else nobody listens

    def _hedge_s(self) -> float:
        return self.hedge_after_s  # a reload may have changed it

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def strike(self, now: Instant) -> Iterator[Output]:
        self._turns.drop()
        return self._strikes.strike(list(self.book.orders), now)

    def describe_strike(self) -> tuple[str, ...]:
        lists = (f"GET {target} (what it adds is cancelled too)" for target in self._targets)
        return (*self._strikes.plan(self.book.orders), *lists)

    def drill(self, now: Instant) -> Outputs:
        """Cancel a well-formed order that nobody has placed; it is alone, and spoils no batch."""
        return self.drills.start_call(self._harmless, now)

    def request_equity(self, now: Instant) -> Outputs:
        return self.calls.start_call("balance", self._balance, now)

    def read(self, now: Instant) -> Outputs:
        return () if self._turns.join() else self._read(now, urgent=True)

    def refresh(self, now: Instant) -> Outputs:
        return self._read(now, urgent=False)

    def keep_warm(self, now: Instant) -> Outputs:
        calls = (self.calls.start_call("probe", self._lists[kind], now, context=kind) for kind in self.book.lists_due())
        return tuple(output for outputs in calls for output in outputs)

    def _read(self, now: Instant, *, urgent: bool) -> Outputs:
        read = ReadBack(now.mono_ns, set(self._lists), urgent)
        return tuple(output for kind in self._lists for output in self._ask_list(read, kind, now))

    def _ask_list(self, read: ReadBack, kind: str, now: Instant) -> Outputs:
        hedge_after_s = 4 * self.hedge_after_s
        build, context = self._lists[kind], (kind, read)
        return self.calls.start_call(
            "orders", build, now, urgent=read.urgent, hedge_after_s=hedge_after_s, context=context
        )

    def _order_request(self, order_id: str) -> Callable[[Instant], Request]:
        return self._signer.build("GET", f"/v4/order/private/details/{quote(order_id, safe='')}")

    def _take_list(self, read: ReadBack, name: str, orders: Iterable[Order], why: str, now: Instant) -> Outputs:
        told = self.read_backs.take_list(read, name, orders, why, now)
        if read.whole:
            self._strikes.keep(self.book.orders)
        return told

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        body = parse_json(reply.body)
        if not isinstance(body, dict | list):
            return None
        refusal = error_of_reply(reply.status, body, self.evidence)
        if refusal is not None and refusal.status >= 500 and not refusal.mistake:
            return None  # the venue's own failure
        if refusal is not None and self._signer.needs_signature and "nonce" in refusal.words.lower():
            self.clock.note_reply(reply, now, refused=True)
            self._signer.nonce_refused(call.asked_ns, now)
            return None if call.is_retry else self.calls.start_again(call, now)
        match call.kind:
            case kind if kind in KunaStriker.CANCELS:
                return self._strikes.answered(call, body, refusal, now)
            case "find":
                kind = call.part[1]
                orders, why, full = self._listed(kind, body, refusal)
                # a read ends orders, no strike
                found = self.book.apply_listing(kind, orders, call.asked_ns, whole=False)
                return (*self._strikes.found(call, orders, why or full, refusal, now), *found)
            case "orders":
                kind, read = call.part
                if refusal is not None and refusal.status == 429 and not read.orders and not read.troubles:
                    return self._turns.refused(read, kind, call.asked_ns, reply.headers.get("retry-after", ""))
                orders, why, full = self._listed(kind, body, refusal)
                return self._list_came(call, orders, (why or full) if refusal is None else f"{kind}: {why}", now)
            case kind if kind == LOOK_UP:
                return self._order_answered(call, body, refusal)
            case "balance":
                return self._balances_answered(call, body, refusal)
            case kind if kind == DRILL:
                words = "the venue has judged the order" if refusal is None else refusal.words
                return (Drilled(Route.HTTP, carried(body, refusal, NO_ORDER), reply.rtt_us, words),)
            case _:
                orders, why, full = self._listed(call.part, body, refusal)
                seen = self.book.apply_probe(call.part, orders, call.asked_ns, whole=not why and not full)
                if why:
                    return (NotReady(Route.HTTP, 0, why, fatal=refusal is not None and refusal.key), *seen)
                return (Ready(Route.HTTP, 0), *seen, *self.read_backs.look_over(now))

    def _list_came(self, call: PendingCall, orders: Sequence[Order], why: str, now: Instant) -> Outputs:
        """Take a list into its read-back, which waits for lists that were refused only while nothing is left."""
        kind, read = call.part
        in_turn = self._turns.came(read, kind, call.asked_ns)
        outputs = self._take_list(read, kind, orders, why, now)
        if orders or why:
            for name in self._turns.leave(read):
                outputs += self._take_list(read, name, (), f"{name}: HTTP 429", now)
            return outputs
        return (*outputs, *self._turns.go_on(now)) if in_turn else outputs

    def _balances_answered(self, call: PendingCall, body: Body, refusal: KunaError | None) -> Outputs:
        """Tell what the account holds; one that holds nothing is worth a zero of each currency that is listed."""
        amounts = refusal.words if refusal is not None else worth_of(body)
        why = amounts if isinstance(amounts, str) else self._balances.why_incomplete(amounts)
        if isinstance(amounts, str) or why:
            return (UnexplainedMessage(self.evidence(f"the balances: {why}")),)
        self._balances.remember(amounts)
        held = {currency: amount for currency, amount in amounts.items() if amount}
        return (Equity(held or amounts, call.asked_ns),)

    def _listed(self, kind: str, body: Body, refusal: KunaError | None) -> tuple[list[Order], str, str]:
        """Read a list: its orders, why it cannot be read (or not all of it), and why there may be a further page.

        Orders that come beside a refusal count.
        """
        refused = "" if refusal is None else refusal.words
        items = items_of(body)
        if items is None:
            return [], refused or f"the {kind} list cannot be read", ""
        orders, unreadable = orders_of(items)
        lacking = f"the {kind} list cannot be read: {unreadable} of {len(items)} orders" if unreadable else ""
        why = refused or lacking
        full = f"the {kind} list is full: {len(items)} orders, there may be more" if len(items) >= PAGE else ""
        return orders, why, full

    def _order_answered(self, call: PendingCall, body: Body, refusal: KunaError | None) -> Outputs:
        """Take one order by its id."""
        _, order_id = call.part
        if refusal is not None:
            gone = refusal.forgotten and refusal.status != 429 and not refusal.key
            order = Order(order_id, "", OrderState.GONE, "not found") if gone else None
            return self.read_backs.looked_up(call, order, refusal.words)
        order = order_of(body.get("data", body)) if isinstance(body, dict) else None
        if order is None or order.id != order_id:
            return self.read_backs.looked_up(call, None, "the answer cannot be read")
        return self.read_backs.looked_up(call, order)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        match call.kind:
            case kind if kind in KunaStriker.KINDS:
                return self._strikes.unanswered(call, why)
            case "orders":
                return self._list_came(call, (), f"{call.part[0]}: {why}", now)
            case "balance":
                return ()
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            return (*self.keep_warm(now), *self._read(now, urgent=False))
        session = self._sessions[conn] = SocketClusterSession(
            conn, self._login, self.evidence, self.book.apply_push, now
        )
        return session.hello()

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        if route is Route.WS:
            self._sessions.pop(conn, None)
        return (NotReady(route, conn, why),)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        if tag == TURN:
            return self._turns.woke(now)
        session = self._sessions.get(int(tag.partition(" ")[2]))
        return () if session is None else session.woke(now)

    def handle_raw_frame(self, conn: int, text: str | bytes, now: Instant) -> Outputs | None:
        if text not in (b"", ""):
            return None
        session = self._sessions.get(conn)
        return () if session is None else session.pinged(now)

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        session = self._sessions.get(conn)
        if session is None:
            return ()
        outputs = session.received(message, now)
        if not any(isinstance(output, Ready) for output in outputs):
            return outputs
        if not self.pushes_orders:
            return outputs
        return (*outputs, *self.read_backs.begin_pushes(conn, now))  # a subscription begins without a snapshot
