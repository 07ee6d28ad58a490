"""Speak to Roxom: account-wide `cancel-all` over REST, order and position pushes over a WebSocket.

`docs/venues/roxom.md` has the venue's facts; § numbers in this folder are those of that page. The WebSocket carries no
command, so a drill tries the HTTP lane alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, field_validator

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route, SweepTiming
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.decode import parse_json
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.pools import Demand, Pool
from kill_switch.venues.kit.readback import LOOK_UP, READ_SECOND_ROUTE_FACTOR, ReadBack
from kill_switch.venues.messages import (
    CancelAnswered,
    Drilled,
    NotReady,
    Outputs,
    Ready,
    Replied,
    UnexplainedMessage,
)
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.profile import Guess
from kill_switch.venues.request import Request, Upgrade
from kill_switch.venues.roxom.equity_reader import RoxomEquityReader
from kill_switch.venues.roxom.replies import (
    INACTIVE,
    KEY_REFUSED,
    NOT_FOUND,
    NOT_JUDGED,
    is_nothing_resting,
    is_success,
    read_order,
    read_orders,
    refusal_of,
)
from kill_switch.venues.roxom.session import RoxomSessionPool
from kill_switch.venues.roxom.signing import RoxomSigner, constant
from kill_switch.venues.roxom.strike import SingleCanceller

InstType = Literal["perpetual", "spot", "btc", "digital", "stock", "index"]  # § 4.4
ALL_TYPES: tuple[InstType, ...] = ("perpetual", "spot", "btc", "digital", "stock", "index")
EVENTS = ("order", "position", "balance", "account", "snapshot", "delta")  # § 5; each shows that pushes arrive
NO_ORDER = "ffffffff-ffff-7fff-bfff-ffffffffffff"  # a UUIDv7 of the year 10889, which no order can have


class RoxomOptions(VenueOptions):
    """The configuration keys of an account at Roxom."""

    ws_url: str = "wss://ws.roxom.com/ws"
    rest_url: str = "https://api.roxom.com"
    auth: Literal["rsa", "api-key"] = Field(default="rsa", description="signed requests, or the key alone")
    path_prefix: str = Field(
        default="/api/v1",
        description='of every request, and a part of the signed text; "/v1" in the newest pages',
    )
    inst_types: tuple[InstType, ...] = Field(
        default=ALL_TYPES,
        description="the order lists that are read back; orders of other types are not seen",
    )

    @field_validator("path_prefix")
    @classmethod
    def _prefix(cls, prefix: str) -> str:
        if not prefix.startswith("/") or prefix.endswith("/") or not prefix.isascii() or " " in prefix:
            raise ValueError('must be a path such as "/api/v1", without a slash at its end')
        return prefix

    @field_validator("inst_types")
    @classmethod
    def _types(cls, types: tuple[InstType, ...]) -> tuple[InstType, ...]:
        if not types or len(set(types)) != len(types):
            raise ValueError("must name at least one instrument type, none of them twice")
        return types


class Roxom(Adapter[RoxomOptions]):
    """Speak one account's protocol at Roxom.

    The answer to `cancel-all` may name orders that are only pending and still fill (§ 4.2). Only reads of the lists of
    all instrument types prove an account clear. Known orders that the answer does not name are cancelled by id.

    A list covers the orders of one instrument type; a second page is not documented. A push may show an order alive,
    or the venue may refuse its cancel. If no list shows such an order, it is looked up by its id: "Order Not Found" is
    its end. The lists may lack the stop-loss and take-profit orders of positions. Where positions are read for a
    trigger's figures, the orders that they name count as seen alive.
    """

    NAME = "roxom"
    POOLS: ClassVar[tuple[Pool, ...]] = (Pool("minute", 300, window_s=60.0),)  # of a key; § 7 has none, only a plan
    TIMING = SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5)
    CURRENCIES: ClassVar[tuple[str, ...]] = ("BTC",)
    SCOPE: ClassVar[tuple[str, ...]] = ("inst_types",)
    DRILLS: ClassVar[tuple[Route, ...]] = (Route.HTTP,)

    Options = RoxomOptions
    COMMANDS = (
        "POST /orders/cancel-all: the whole account",
        "POST /orders/{id}/cancel: each known order that the answer does not name",
    )
    COVERED = ("limit and stop orders of all instrument types, of every program and of the web page",)
    NOT_COVERED = ("stop-loss and take-profit orders of a position, unless a list, a push or the position names them",)
    GUESSES = (
        Guess(
            "cancel-all includes orders that wait for their trigger (§ 6)",
            "known orders that its answer does not name are cancelled by id, and each type's list is read",
        ),
        Guess(
            "a list has every open order of its type, on one page (§ 4.4)",
            "an order that a push shows alive, or whose cancel is refused, is looked up by its id",
        ),
        Guess(
            "the signature of cancel-all has no body part (§ 3.3)",
            "a drill signs another cancel by the same rule; REFUSED is reported, and RESIDUE",
        ),
    )

    @classmethod
    def not_covered(cls, options: RoxomOptions) -> tuple[str, ...]:
        unread = [kind for kind in ALL_TYPES if kind not in options.inst_types]
        left_out = (f"a proof for {', '.join(unread)}: inst_types leaves them out",) if unread else ()
        return (*cls.NOT_COVERED, *left_out)

    @classmethod
    def demand(cls, options: RoxomOptions) -> Demand:
        """Return the requests: a list for each instrument type; figures of the balance and of two positions."""
        lists = ("GET /orders",) * len(options.inst_types)
        figures = ("GET /accounts/balance", "GET /positions", "GET /positions")
        return Demand(read=lists, probe=lists[:1], equity=figures, strike=("POST /orders/cancel-all",) * 3)

    @classmethod
    def secrets(cls, options: RoxomOptions) -> tuple[str, ...]:
        return ("api_key", "private_key") if options.auth == "rsa" else ("api_key",)

    def __init__(self, options: RoxomOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        private_key = secrets["private_key"] if options.auth == "rsa" else None
        self._signer = RoxomSigner(secrets["api_key"], private_key, self.host)
        self._prefix = options.path_prefix
        path = options.ws_url.split("://", 1)[1].partition("/")[2]
        self._upgrade = Upgrade(headers=self._signer.headers(f"GET:/{path}"))
        self._cancel_all = self._request("POST", "/orders/cancel-all")
        self._lists: dict[str, Request] = {
            kind: self._request("GET", f"/orders?instType={kind}") for kind in options.inst_types
        }
        for request in (self._cancel_all, *self._lists.values()):
            _ = request.wire  # built now, so that a kill only writes it
        self._build_cancel_all = constant(self._cancel_all)
        self._build_drill = constant(self._request("POST", f"/orders/{NO_ORDER}/cancel"))
        self.book.lists = options.inst_types
        self.read_backs.order_request = self._order_request
        self._sessions = RoxomSessionPool(self.evidence, self.read_backs.begin_pushes)
        self._singles = SingleCanceller(self.calls, self.book, self._request)
        self._equity = RoxomEquityReader(self.calls, self.book, self.evidence, self._request)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def prebuilt_command(self, now: Instant) -> Request:
        return self._cancel_all

    def strike(self, now: Instant, number: int) -> Outputs:
        return self.calls.start_call(
            "cancel-all",
            self._build_cancel_all,
            now,
            urgent=True,
            cancel=True,
            second_route_after_s=self.second_route_after_s,
        )

    def describe_strike(self) -> tuple[str, ...]:
        return (f"POST {self._cancel_all.target}",)

    def read(self, now: Instant) -> Outputs:
        return self._read(now, urgent=True)

    def refresh(self, now: Instant) -> Outputs:
        return self._read(now, urgent=False)

    def keep_warm(self, now: Instant) -> Outputs:
        calls: Outputs = ()
        for kind in self.book.lists_due():
            calls += self.calls.start_call("probe", constant(self._lists[kind]), now, context=kind)
        return calls

    def upgrade(self, now: Instant) -> Upgrade:
        return self._upgrade

    def drill(self, now: Instant) -> Outputs:
        """Cancel an order that cannot exist."""
        return self.drills.start_call(self._build_drill, now)

    def request_equity(self, now: Instant) -> Outputs:
        """Request the figures; return nothing without events, which show whether the figures belong together."""
        return self._equity.start(now) if self._sessions.is_any_ready else ()

    def _read(self, now: Instant, *, urgent: bool) -> Outputs:
        read = ReadBack(now.mono_ns, set(self._lists), urgent)
        calls: Outputs = ()
        for kind, request in self._lists.items():
            calls += self.calls.start_call(
                "orders",
                constant(request),
                now,
                urgent=urgent,
                second_route_after_s=READ_SECOND_ROUTE_FACTOR * self.second_route_after_s,
                context=(kind, read),
            )
        return calls

    def _order_request(self, order_id: str) -> Build:
        return constant(self._request("GET", f"/orders/{quote(order_id, safe='')}"))

    def _request(self, method: str, target: str) -> Request:
        return self._signer.request(method, f"{self._prefix}{target}")

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        body = parse_json(reply.body)
        if reply.status >= 500 or not isinstance(body, dict):
            return None
        refusal = refusal_of(reply.status, body, self.evidence)
        data = body.get("data") if refusal is None else None
        match call.kind:
            case "cancel-all":
                return self._singles.on_cancel_all_reply(reply.status, body, refusal, now, alone=call.is_only_copy)
            case "cancel-one":
                return self._singles.on_cancel_one_reply(call.part, body, refusal)
            case "orders":
                kind, read = call.part
                orders, why = read_orders(body, kind, refusal)
                return self.read_backs.take_list(read, kind, orders, f"{kind}: {why}" if why else "", now)
            case "symbols":
                return self._equity.on_symbols(data, refusal, now)
            case "figure":
                return self._equity.on_figure(call, data, refusal)
            case kind if kind == LOOK_UP:
                return self._on_order_reply(call, reply.status, body, refusal)
            case kind if kind == DRILL:
                return (self._judge_drill(reply, body, refusal),)
            case _:
                return self._on_probe_reply(call, reply.status, body, refusal, now)

    def _on_probe_reply(
        self, call: PendingCall, status: int, body: dict[str, Any], refusal: str | None, now: Instant
    ) -> Outputs:
        orders, why = read_orders(body, call.part, refusal)
        seen = self.book.apply_probe(call.part, orders, call.asked_ns, whole=not why)
        if why:
            return (NotReady(Route.HTTP, 0, why, fatal=status in KEY_REFUSED), *seen)
        return (Ready(Route.HTTP, 0), *seen, *self.read_backs.look_over(now))

    def _on_order_reply(self, call: PendingCall, status: int, body: dict[str, Any], refusal: str | None) -> Outputs:
        """Process the look-up of an order; only "Order Not Found" proves that the venue has no order of that id."""
        _, order_id = call.part
        if refusal is not None:
            is_gone = NOT_FOUND in refusal.lower() and status not in NOT_JUDGED
            gone = Order(order_id, "", OrderState.GONE, NOT_FOUND) if is_gone else None
            return self.read_backs.looked_up(call, gone, refusal)
        data = body.get("data")
        order = read_order(data.get("order"), "id") if isinstance(data, dict) else None
        if order is None or order.id != order_id:
            return self.read_backs.looked_up(call, None, "the answer cannot be read")
        if order.status == INACTIVE:
            order = order._replace(state=OrderState.GONE)
        return self.read_backs.looked_up(call, order)

    def _judge_drill(self, reply: Replied, body: dict[str, Any], refusal: str | None) -> Drilled:
        """Judge a drill: "not found" proves that the venue has looked for the order."""
        if refusal is None:
            ok = is_success(body, expected=True)
            return Drilled(Route.HTTP, ok, reply.rtt_us, "accepted" if ok else "HTTP 200, success false")
        ok = is_nothing_resting(refusal) and reply.status not in NOT_JUDGED
        return Drilled(Route.HTTP, ok, reply.rtt_us, refusal)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        match call.kind:
            case "cancel-all":
                return (CancelAnswered(CancelOutcome.UNKNOWN if call.sent else CancelOutcome.UNSENT, why),)
            case "cancel-one" | "symbols" | "figure":
                return ()  # a read-back shows the orders, and the lanes report their own faults
            case "orders":
                kind, read = call.part
                return self.read_backs.take_list(read, kind, (), f"{kind}: {why}", now)
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is Route.WS:
            return self._sessions.on_opened(conn)
        lists = self.refresh(now)
        return (*self.keep_warm(now), *lists)

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        if route is Route.WS:
            self._sessions.on_closed(conn)
            if not self._sessions.is_any_ready:
                self._equity.on_gap()
        return (NotReady(route, conn, why),)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        timer, _, number = tag.partition(" ")
        if timer == "measured":
            return self._equity.on_timer(int(number), now)
        return self._sessions.mark_ready(int(number), now)  # no error came within `ACK_WITHIN_S`

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        if conn not in self._sessions:
            return ()
        if message.get("event") == "error":
            return self._sessions.on_error(conn, message)
        if message.get("event") == "subscribe":
            return self._sessions.mark_ready(conn, now)
        data, kind = message.get("data"), message.get("type")
        if kind is None and isinstance(data, dict):
            kind = data.get("type")  # the documents' own client reads the type there
        order = read_order(data, "orderId") if kind == "order" else None
        if kind not in EVENTS:
            return (UnexplainedMessage("a message that no document explains"),)
        if kind == "order" and order is None:
            return (UnexplainedMessage("an order push that cannot be read"),)
        ready = self._sessions.mark_ready(conn, now)  # first, because the book must know that this connection pushes
        if order is not None:
            return (*ready, *self.book.apply_push(order))
        return (*ready, *self._on_figure_event(kind, data, now))

    def _on_figure_event(self, kind: object, data: object, now: Instant) -> Outputs:
        if kind == "balance":
            return self._equity.tracker.on_balance_event(data, now)
        if kind == "position" and not self._equity.tracker.on_position_event(data, now):
            return (UnexplainedMessage("a position push that cannot be read"),)
        return ()
