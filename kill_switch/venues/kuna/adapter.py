"""The KUNA adapter: lists and batch cancels over REST, order pushes over SocketCluster (API v4).

The dispatcher drives it through `Adapter`; the other modules of this folder are its parts. It sends no cancel over the
WebSocket, because KUNA has none there. § numbers are those of docs/venues/kuna.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from kill_switch.core.domain import Instant, Order, Route, SweepTiming
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.decode import header_safe, parse_json
from kill_switch.venues.kit.balances import BalanceChecker
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.pools import Demand, Pool
from kill_switch.venues.kit.readback import LOOK_UP, ReadBack
from kill_switch.venues.kuna.options import KunaOptions
from kill_switch.venues.kuna.read_queue import ACTIVE, TURN, ReadQueue
from kill_switch.venues.kuna.replies import (
    PAGE,
    Body,
    KunaError,
    balances_of,
    error_of_reply,
    has_drill_passed,
    parse_list,
    parse_look_up,
)
from kill_switch.venues.kuna.signing import KunaSigner
from kill_switch.venues.kuna.socketcluster import SocketClusterSession
from kill_switch.venues.kuna.strike import MULTI, KunaStriker
from kill_switch.venues.messages import Drilled, Equity, NotReady, Output, Outputs, Ready, Replied, UnexplainedMessage
from kill_switch.venues.profile import Guess
from kill_switch.venues.request import Request

NO_ORDER = "00000000-0000-4000-8000-000000000000"  # well-formed but not random: no order can have it


class Kuna(Adapter[KunaOptions]):
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
    CONNECTIONS = 5  # a strike is a batch, three lists, and a cancel of a single order
    SCOPE = ("account_type", "stop_orders", "since")
    PARTS = ("account_type",)
    DRILLS = (Route.HTTP,)  # § 5: the WebSocket is push only

    Options = KunaOptions
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
            lambda: self.second_route_after_s,  # a reload may change it
            self.book,
        )
        self._turns = ReadQueue(self._ask_list)
        self._targets = tuple(targets.values())
        self._balance = self._signer.build("GET", "/v4/private/getBalance")
        self._balances = BalanceChecker()
        self._harmless = self._signer.build("POST", MULTI, {"orderIds": [NO_ORDER]})
        self._sessions: dict[int, SocketClusterSession] = {}
        self.read_backs.order_request = self._order_request
        self.pushes_orders = bool(self._login)  # without a login nothing is subscribed

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        self._turns.drop()
        return self._strikes.strike(list(self.book.orders), now)

    def describe_strike(self) -> tuple[str, ...]:
        lists = (f"GET {target} (orders that it adds are cancelled too)" for target in self._targets)
        return (*self._strikes.describe(self.book.orders), *lists)

    def drill(self, now: Instant) -> Outputs:
        """Cancel an order that nobody has placed, in a batch of its own."""
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
        second_route_after_s = 4 * self.second_route_after_s
        build, context = self._lists[kind], (kind, read)
        return self.calls.start_call(
            "orders", build, now, urgent=read.urgent, second_route_after_s=second_route_after_s, context=context
        )

    def _order_request(self, order_id: str) -> Callable[[Instant], Request]:
        return self._signer.build("GET", f"/v4/order/private/details/{quote(order_id, safe='')}")

    def _apply_list(self, read: ReadBack, name: str, orders: Iterable[Order], why: str, now: Instant) -> Outputs:
        outputs = self.read_backs.take_list(read, name, orders, why, now)
        if read.whole:
            self._strikes.forget_gone(self.book.orders)
        return outputs

    # ── REST replies ──────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        body = parse_json(reply.body)
        if not isinstance(body, dict | list):
            return None
        refusal = error_of_reply(reply.status, body, self.evidence)
        if refusal is not None and refusal.status >= 500 and not refusal.mistake:
            return None  # a failure of the venue: the other route is tried
        if refusal is not None and self._signer.needs_signature and "nonce" in refusal.words.lower():
            self.clock.note_reply(reply, now, refused=True)
            self._signer.nonce_refused(call.asked_ns, now)
            return None if call.is_retry else self.calls.start_again(call, now)
        match call.kind:
            case kind if kind in KunaStriker.CANCELS:
                return self._strikes.on_reply(call, body, refusal, now)
            case "find":
                kind = call.part[1]
                orders, why, full = parse_list(kind, body, refusal)
                # only a read ends the orders that a list lacks
                facts = self.book.apply_listing(kind, orders, call.asked_ns, whole=False)
                return (*self._strikes.on_list(call, orders, why or full, refusal, now), *facts)
            case "orders":
                kind, read = call.part
                if refusal is not None and refusal.status == 429 and not read.orders and not read.troubles:
                    return self._turns.on_refused(read, kind, call.asked_ns, reply.headers.get("retry-after", ""))
                orders, why, full = parse_list(kind, body, refusal)
                return self._on_list(call, orders, (why or full) if refusal is None else f"{kind}: {why}", now)
            case kind if kind == LOOK_UP:
                return self.read_backs.looked_up(call, *parse_look_up(call.part[1], body, refusal))
            case "balance":
                return self._on_balances(call, body, refusal)
            case kind if kind == DRILL:
                words = "the venue has judged the order" if refusal is None else refusal.words
                return (Drilled(Route.HTTP, has_drill_passed(body, refusal, NO_ORDER), reply.rtt_us, words),)
            case _:
                orders, why, full = parse_list(call.part, body, refusal)
                seen = self.book.apply_probe(call.part, orders, call.asked_ns, whole=not why and not full)
                if why:
                    return (NotReady(Route.HTTP, 0, why, fatal=refusal is not None and refusal.key), *seen)
                return (Ready(Route.HTTP, 0), *seen, *self.read_backs.look_over(now))

    def _on_list(self, call: PendingCall, orders: Sequence[Order], why: str, now: Instant) -> Outputs:
        """Apply a list to its read-back, and continue or end the queue.

        A read-back waits for its refused lists only while no order is open and nothing has failed.
        """
        kind, read = call.part
        in_turn = self._turns.on_list(read, kind, call.asked_ns)
        outputs = self._apply_list(read, kind, orders, why, now)
        if orders or why:
            for name in self._turns.end(read):
                outputs += self._apply_list(read, name, (), f"{name}: HTTP 429", now)
            return outputs
        return (*outputs, *self._turns.ask_next(now)) if in_turn else outputs

    def _on_balances(self, call: PendingCall, body: Body, refusal: KunaError | None) -> Outputs:
        """Turn the balances into `Equity`; an account that holds nothing has a zero of each listed currency."""
        amounts = refusal.words if refusal is not None else balances_of(body)
        why = amounts if isinstance(amounts, str) else self._balances.why_incomplete(amounts)
        if isinstance(amounts, str) or why:
            return (UnexplainedMessage(self.evidence(f"the balances: {why}")),)
        self._balances.remember(amounts)
        held = {currency: amount for currency, amount in amounts.items() if amount}
        return (Equity(held or amounts, call.asked_ns),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        match call.kind:
            case kind if kind in KunaStriker.KINDS:
                return self._strikes.on_loss(call, why)
            case "orders":
                return self._on_list(call, (), f"{call.part[0]}: {why}", now)
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
        return session.start()

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        if route is Route.WS:
            self._sessions.pop(conn, None)
        return (NotReady(route, conn, why),)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        if tag == TURN:
            return self._turns.on_timer(now)
        session = self._sessions.get(int(tag.partition(" ")[2]))
        return () if session is None else session.on_timer(now)

    def handle_raw_frame(self, conn: int, text: str | bytes, now: Instant) -> Outputs | None:
        if text not in (b"", ""):
            return None
        session = self._sessions.get(conn)
        return () if session is None else session.on_ping(now)

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        session = self._sessions.get(conn)
        if session is None:
            return ()
        outputs = session.on_message(message, now)
        if not any(isinstance(output, Ready) for output in outputs):
            return outputs
        if not self.pushes_orders:
            return outputs
        return (*outputs, *self.read_backs.begin_pushes(conn, now))  # § 5: a subscription begins without a snapshot
