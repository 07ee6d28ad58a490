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

from kill_switch.core.domain import Life, Now, Order, Pace, Route
from kill_switch.venues.adapter import DRILL, LOOK_UP, Adapter, Ask, shared_pace
from kill_switch.venues.balances import Balances
from kill_switch.venues.decode import header, parse
from kill_switch.venues.kuna.read_queue import ACTIVE, TURN, Turns
from kill_switch.venues.kuna.replies import (
    Body,
    Refusal,
    carried,
    items_of,
    order_of,
    orders_of,
    refusal_of,
    worth_of,
)
from kill_switch.venues.kuna.signing import Signer
from kill_switch.venues.kuna.socketcluster import Session
from kill_switch.venues.kuna.strike import MULTI, Strikes
from kill_switch.venues.messages import Drilled, Equity, Noise, NotReady, Output, Outputs, Ready, Replied
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.readback import ReadBack
from kill_switch.venues.request import Request

PAGE = 100  # the longest list, and the most orders that an account may have open
NO_ORDER = "00000000-0000-4000-8000-000000000000"  # well-formed, and of no randomness: no order can have it
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", re.ASCII)


class Kuna(Adapter):
    """One account at KUNA.

    What it is worth is its balances, by currency, what is locked in orders included; it trades spot, and has nothing
    else. A deposit or a withdrawal is in them like a profit or a loss: nothing tells them apart.
    """

    NAME = "kuna"
    # 300 requests a minute (inferred): even a sweep that gets nowhere, with 4 to 7 requests a strike and 3 a read, fits
    LIMIT = 300, 60.0  # of one key (inferred)
    PACE = Pace(clean_reads=2, read_gap_s=1.2, strike_gap_s=1.0)
    CONNECTIONS = 5  # a strike is a batch of what is known, three lists, and what has to go alone
    SCOPE = ("account_type", "stop_orders", "since")
    PARTS = ("account_type",)
    DRILLS = (Route.HTTP,)  # the WebSocket is push only

    class Options(VenueOptions):
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

    @classmethod
    def pace(cls, together: int) -> Pace:
        return shared_pace(cls.PACE, together)

    @classmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        signed = getattr(options, "auth", "api-key") == "hmac"
        pair = ("public_key", "api_secret") if signed else ()
        return pair if signed and getattr(options, "ws_login", "api-key") == "none" else (*pair, "api_key")

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        assert isinstance(options, Kuna.Options)  # noqa: S101 - the registry pairs them
        headers = {"Host": self.host, "Accept": "application/json", "Content-Type": "application/json"}
        if options.account_type:
            headers["account"] = options.account_type
        secret: str | None = None
        if options.auth == "hmac":
            headers["public-key"] = header("public_key", secrets["public_key"])
            secret = header("api_secret", secrets["api_secret"])
        else:
            headers["api-key"] = header("api_key", secrets["api_key"])
        self._signer = Signer(headers, secret, self.venue_ms)
        self._login = header("api_key", secrets["api_key"]) if options.ws_login == "api-key" else ""
        query = f"limit={PAGE}&sort=desc" + (f"&start={options.since}" if options.since else "")
        targets = {ACTIVE: f"/v4/order/private/active?{query}"}
        for status, wanted in (("WaitStop", options.stop_orders), ("Pending", options.pending_orders)):
            if wanted:
                targets[status] = f"/v4/order/private/history?status={status}&{query}"
        self._lists = {kind: self._signer.build("GET", target) for kind, target in targets.items()}
        self.lists = tuple(self._lists)
        self._strikes = Strikes(
            self.ask,
            self.words,
            self._signer,
            self._lists,
            options.batch_orders,
            self._hedge_s,
            self.drop_order,
            self.cancel_refused,
            self.name_cancelled,
        )
        self._turns = Turns(self._ask_list)
        self._targets = tuple(targets.values())
        self._balance = self._signer.build("GET", "/v4/private/getBalance")
        self._balances = Balances()
        self._harmless = self._signer.build("POST", MULTI, {"orderIds": [NO_ORDER]})
        self._sessions: dict[int, Session] = {}

    def _hedge_s(self) -> float:
        return self.hedge_after_s  # a reload may have changed it

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def kill(self, now: Now) -> Outputs:
        return tuple(self.strike(now))

    def strike(self, now: Now) -> Iterator[Output]:
        self._turns.drop()
        return self._strikes.strike(list(self.book), now)

    def plan(self) -> tuple[str, ...]:
        lists = (f"GET {target} (what it adds is cancelled too)" for target in self._targets)
        return (*self._strikes.plan(self.book), *lists)

    def drill(self, now: Now) -> Outputs:
        """Cancel a well-formed order that nobody has placed; it is alone, and spoils no batch."""
        return self.drill_call(self._harmless, now)

    @property
    def pushes_orders(self) -> bool:
        return bool(self._login)  # else nobody listens

    def measure(self, now: Now) -> Outputs:
        return self.ask("balance", self._balance, now)

    def read(self, now: Now) -> Outputs:
        return () if self._turns.join() else self._read(now, urgent=True)

    def refresh(self, now: Now) -> Outputs:
        return self._read(now, urgent=False)

    def probe(self, now: Now) -> Outputs:
        calls = (self.ask("probe", self._lists[kind], now, context=kind) for kind in self.lists_due())
        return tuple(output for outputs in calls for output in outputs)

    def _read(self, now: Now, *, urgent: bool) -> Outputs:
        read = ReadBack(now.mono_ns, set(self._lists), urgent)
        return tuple(output for kind in self._lists for output in self._ask_list(read, kind, now))

    def _ask_list(self, read: ReadBack, kind: str, now: Now) -> Outputs:
        hedge_after_s = 4 * self.hedge_after_s
        build, context = self._lists[kind], (kind, read)
        return self.ask("orders", build, now, urgent=read.urgent, hedge_after_s=hedge_after_s, context=context)

    def order_request(self, order_id: str) -> Callable[[Now], Request]:
        return self._signer.build("GET", f"/v4/order/private/details/{quote(order_id, safe='')}")

    def take_list(self, read: ReadBack, name: str, orders: Iterable[Order], why: str, now: Now) -> Outputs:
        told = super().take_list(read, name, orders, why, now)
        if read.whole:
            self._strikes.keep(self.book)
        return told

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, ask: Ask, reply: Replied, now: Now) -> Outputs | None:
        body = parse(reply.body)
        if not isinstance(body, dict | list):
            return None
        refusal = refusal_of(reply.status, body, self.words)
        if refusal is not None and refusal.status >= 500 and not refusal.mistake:
            return None  # the venue's own failure
        if refusal is not None and self._signer.signs and "nonce" in refusal.words.lower():
            self.time_refused(reply, now)
            self._signer.refused(ask.asked_ns, now)
            return None if ask.again else self.ask_again(ask, now)
        match ask.kind:
            case kind if kind in Strikes.CANCELS:
                return self._strikes.answered(ask, body, refusal, now)
            case "find":
                kind = ask.context[1]
                orders, why, full = self._listed(kind, body, refusal)
                found = self.show_list(kind, orders, ask.asked_ns, whole=False)  # a read ends orders, no strike
                return (*self._strikes.found(ask, orders, why or full, refusal, now), *found)
            case "orders":
                kind, read = ask.context
                if refusal is not None and refusal.status == 429 and not read.orders and not read.troubles:
                    return self._turns.refused(read, kind, ask.asked_ns, reply.headers.get("retry-after", ""))
                orders, why, full = self._listed(kind, body, refusal)
                return self._list_came(ask, orders, (why or full) if refusal is None else f"{kind}: {why}", now)
            case kind if kind == LOOK_UP:
                return self._order_answered(ask, body, refusal)
            case "balance":
                return self._balances_answered(ask, body, refusal)
            case kind if kind == DRILL:
                words = "the venue has judged the order" if refusal is None else refusal.words
                return (Drilled(Route.HTTP, carried(body, refusal, NO_ORDER), reply.rtt_us, words),)
            case _:
                orders, why, full = self._listed(ask.context, body, refusal)
                seen = self.show_part(ask.context, orders, ask.asked_ns, whole=not why and not full)
                if why:
                    return (NotReady(Route.HTTP, 0, why, fatal=refusal is not None and refusal.key), *seen)
                return (Ready(Route.HTTP, 0), *seen, *self.look_over(now))

    def _list_came(self, ask: Ask, orders: Sequence[Order], why: str, now: Now) -> Outputs:
        """Take a list into its read-back, which waits for lists that were refused only while nothing is left."""
        kind, read = ask.context
        in_turn = self._turns.came(read, kind, ask.asked_ns)
        outputs = self.take_list(read, kind, orders, why, now)
        if orders or why:
            for rest in self._turns.leave(read):
                outputs += self.take_list(read, rest, (), f"{rest}: HTTP 429", now)
            return outputs
        return (*outputs, *self._turns.go_on(now)) if in_turn else outputs

    def _balances_answered(self, ask: Ask, body: Body, refusal: Refusal | None) -> Outputs:
        """Tell what the account holds; one that holds nothing is worth a zero of each currency that is listed."""
        amounts = refusal.words if refusal is not None else worth_of(body)
        why = amounts if isinstance(amounts, str) else self._balances.lacking(amounts)
        if isinstance(amounts, str) or why:
            return (Noise(self.words(f"the balances: {why}")),)
        self._balances.keep(amounts)
        held = {currency: amount for currency, amount in amounts.items() if amount}
        return (Equity(held or amounts, ask.asked_ns),)

    def _listed(self, kind: str, body: Body, refusal: Refusal | None) -> tuple[list[Order], str, str]:
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

    def _order_answered(self, ask: Ask, body: Body, refusal: Refusal | None) -> Outputs:
        """Take one order by its id."""
        _, order_id = ask.context
        if refusal is not None:
            gone = refusal.forgotten and refusal.status != 429 and not refusal.key
            order = Order(order_id, "", Life.GONE, "not found") if gone else None
            return self.looked_up(ask, order, refusal.words)
        order = order_of(body.get("data", body)) if isinstance(body, dict) else None
        if order is None or order.id != order_id:
            return self.looked_up(ask, None, "the answer cannot be read")
        return self.looked_up(ask, order)

    def unanswered(self, ask: Ask, why: str, now: Now) -> Outputs:
        match ask.kind:
            case kind if kind in Strikes.KINDS:
                return self._strikes.unanswered(ask, why)
            case "orders":
                return self._list_came(ask, (), f"{ask.context[0]}: {why}", now)
            case "balance":
                return ()
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, route: Route, conn: int, now: Now) -> Outputs:
        if route is not Route.WS:
            return (*self.probe(now), *self._read(now, urgent=False))
        session = self._sessions[conn] = Session(conn, self._login, self.words, self.push_order, now)
        return session.hello()

    def closed(self, route: Route, conn: int, why: str, now: Now) -> Outputs:
        if route is Route.WS:
            self._sessions.pop(conn, None)
        return (NotReady(route, conn, why),)

    def woke(self, tag: str, now: Now) -> Outputs:
        if tag == TURN:
            return self._turns.woke(now)
        session = self._sessions.get(int(tag.partition(" ")[2]))
        return () if session is None else session.woke(now)

    def text(self, conn: int, text: str | bytes, now: Now) -> Outputs | None:
        if text not in (b"", ""):
            return None
        session = self._sessions.get(conn)
        return () if session is None else session.pinged(now)

    def received(self, conn: int, message: dict[str, Any], now: Now) -> Outputs:
        session = self._sessions.get(conn)
        if session is None:
            return ()
        told = session.received(message, now)
        if not any(isinstance(output, Ready) for output in told):
            return told
        return (*told, *self.begin_pushes(conn, now))  # a subscription begins without a snapshot
