"""Speak to OX.FUN: a WebSocket that logs in by HMAC, and signed REST calls.

`docs/venues/oxfun.md` has the venue's facts; § numbers in this folder are those of that page. An API key is bound to a
single sub-account, so each sub-account needs an account of its own in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route, SweepTiming
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.decode import as_text, parse_json
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.kit.readback import LOOK_UP, READ_SECOND_ROUTE_FACTOR, ReadBack
from kill_switch.venues.messages import (
    CancelAnswered,
    Drilled,
    Equity,
    NotReady,
    Output,
    Outputs,
    Ready,
    Replied,
    UnexplainedMessage,
)
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.oxfun.replies import (
    ALREADY_GONE_CODES,
    KEY_REFUSED,
    NOT_FOUND,
    NOTHING_WORKING,
    RETRYABLE_CODES,
    TOO_FAST,
    WRONG_TIME,
    read_order,
    read_orders,
    read_worth,
)
from kill_switch.venues.oxfun.session import SessionPool
from kill_switch.venues.oxfun.signing import OxFunSigner
from kill_switch.venues.oxfun.strike import MARKET, NO_ORDER, OxFunStriker
from kill_switch.venues.profile import Guess
from kill_switch.venues.request import Request

REST = ("five minutes", 1.0), ("second", 1.0)  # what each REST request takes (§ 3.4)
TOO_FAST_CODE = b'"20007"'  # § 9; it may come with HTTP 200
ERROR_BYTES = 512  # the longest body that is looked at for it


class OxFunOptions(VenueOptions):
    """The configuration keys of an account at OX.FUN."""

    ws_url: str = "wss://api.ox.fun/v2/websocket"
    rest_url: str = "https://api.ox.fun"


class OxFun(Adapter[OxFunOptions]):
    """Speak one sub-account's protocol at OX.FUN.

    A strike is REST `DELETE /v3/orders/cancel-all`, with WebSocket `cancelorders` batches for known orders beside it.
    Both only queue cancels (§ 4.3). An order is gone when two reads of `GET /v3/orders/working`, at least 250 ms apart,
    do not show it.

    The list has the fields of stop orders; whether it has all of them is not documented. Its page size is unknown
    (§ 12), so only an empty list proves something. A push may show an order alive, or the venue may refuse its cancel.
    If the list does not show such an order, it is looked up by `GET /v3/orders/status`. A terminal status is its end,
    and so is "open order not found" (40035, 100005).

    REST requests and the login sign the time. A refusal because of the time (20024) carries the venue's clock. The
    refused request is signed by that clock and sent again, once.

    The equity is the account's `collateral` in OX. It has the balance, which moves with the open profit or loss, and
    other coins at their collateral value. `positionPnl` is already in it. Transfers are not distinguished, because no
    read of their history is of the same moment as a read of the account.
    """

    NAME = "oxfun"
    TIMING = SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.25, strike_gap_s=0.5)
    POOLS: ClassVar[tuple[Pool, ...]] = (  # § 3.4
        Pool("five minutes", 2500, window_s=300.0, shared_by="address"),
        Pool("second", 100, window_s=1.0, shared_by="address"),
        Pool("posts", 20, window_s=1.0, shared_by="address"),
    )
    COSTS: ClassVar[tuple[Cost, ...]] = (Cost("POST", "/v3/orders", (*REST, ("posts", 1.0))), Cost("", "", REST))
    DEMAND: ClassVar[Demand] = Demand(  # a strike is cancel-all, and cancels by id
        read=("GET /v3/orders/working",),
        probe=("GET /v3/orders/working",),
        equity=("GET /v3/account",),
        drill=("DELETE /v3/orders/cancel",),
        strike=("DELETE /v3/orders/cancel-all", "DELETE /v3/orders/cancel"),
    )
    CURRENCIES: ClassVar[tuple[str, ...]] = ("OX",)
    CLOCK_WINDOW_S: ClassVar[float | None] = 30.0  # § 8 documents that there is a window (20024), but not its width

    Options = OxFunOptions
    COMMANDS = (
        "DELETE /v3/orders/cancel-all: the key's sub-account",
        'ws "cancelorders": batches of the known orders beside it',
        "DELETE /v3/orders/cancel: orders that outlive a strike, by id",
    )
    COVERED = ("limit and stop orders of the key's sub-account in all markets, of every program and of the web page",)
    NOT_COVERED = ("other sub-accounts: each has its own key",)
    GUESSES = (
        Guess(
            "cancel-all without a market is for the whole sub-account (§ 4.3)",
            "known orders are cancelled in batches beside it, and by id if they outlive a strike",
        ),
        Guess(
            "cancel-all includes stop orders (§ 12)",
            "known orders are cancelled in batches beside it, and by id if they outlive a strike",
        ),
        Guess(
            "the list of working orders has stop orders, on one page (§ 5, § 12)",
            "only an empty list is proof; an order that a push shows alive is looked up by its id",
        ),
    )

    @classmethod
    def secrets(cls, options: OxFunOptions) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    def __init__(self, options: OxFunOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        self._signer = OxFunSigner(secrets["api_key"], secrets["api_secret"], self.host, self.clock)
        self.book.lists = ("working",)
        self._working = self._signer.build("GET", "/v3/orders/working")
        self._account = self._signer.build("GET", "/v3/account")
        self._drill_count = 0
        self._sessions = SessionPool(self._signer, self.clock, self.evidence, self.read_backs.begin_pushes)
        self._striker = OxFunStriker(
            self.calls, self.book, self._sessions, self._signer, self.clock, lambda: self.second_route_after_s
        )
        self.read_backs.order_request = self._order_request
        self.read_backs.count_cancelled = self._striker.count_cancelled

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def prebuilt_command(self, now: Instant) -> Request:
        return self._striker.first(now)

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        return self._striker.strike(now, number)

    def describe_strike(self) -> tuple[str, ...]:
        return self._striker.plan()

    def read(self, now: Instant) -> Outputs:
        return self.calls.start_call(
            "orders",
            self._working,
            now,
            urgent=True,
            second_route_after_s=READ_SECOND_ROUTE_FACTOR * self.second_route_after_s,
        )

    def read_alongside_strike(self, now: Instant) -> Outputs:
        """Request the list if the shared limit has room: the strikes of many accounts need the requests."""
        if any(call.kind == "beside" for call in self.calls.pending.values()):
            return ()
        if not self.budget.is_rested(now):
            return ()
        return self.calls.start_call(
            "beside", self._working, now, urgent=True, second_route_after_s=self.second_route_after_s
        )

    def keep_warm(self, now: Instant) -> Outputs:
        return self.calls.start_call("probe", self._working, now)

    def _order_request(self, order_id: str) -> Callable[[Instant], Request]:
        return self._signer.build("GET", f"/v3/orders/status?orderId={quote(order_id, safe='')}")

    def drill(self, now: Instant) -> Outputs:
        """Cancel an order that cannot exist, over REST and over the WebSocket."""
        self._drill_count += 1
        tag = f"{DRILL}-{self._drill_count}"
        frame = {"op": "cancelorder", "tag": tag, "data": {"marketCode": MARKET, "orderId": NO_ORDER}}
        return (
            *self.drills.start_call(self._striker.cancel_none, now),
            *self.drills.start_frame(self._sessions.newest, tag, orjson.dumps(frame), now),
        )

    def request_equity(self, now: Instant) -> Outputs:
        return self.calls.start_call("account", self._account, now)

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def is_over_limit(self, reply: Replied) -> bool:
        return reply.status == 429 or (len(reply.body) < ERROR_BYTES and TOO_FAST_CODE in reply.body)

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        body = parse_json(reply.body)
        success = body.get("success") if isinstance(body, dict) else None
        code = as_text(body.get("code", "")) if isinstance(body, dict) else ""
        if reply.status >= 500 or not isinstance(success, bool) or (not success and code in RETRYABLE_CODES):
            return None
        if code == WRONG_TIME and not success and not call.is_retry:
            self.clock.note_reply(reply, now, refused=True)
            return self.calls.start_again(call, now)
        words = f"HTTP {reply.status}" + ("" if success else f" {self.evidence(code, body.get('message', ''))}")
        if call.kind == DRILL:
            return (self._cancel_none_answered(body, words, reply),)
        match call.kind:
            case "cancel-all":
                return (self._cancel_all_answered(body, reply.status, code, words, alone=call.is_only_copy),)
            case "orders":
                orders, why = read_orders(body, "" if success and reply.status == 200 else words)
                return self.read_backs.take_list(ReadBack(call.asked_ns, set()), "working", orders, why, now)
            case kind if kind == LOOK_UP:
                return self._order_answered(call, body, code, words)
            case "cancel-some":
                return ()  # their look-ups show the result
            case "beside":
                orders, _ = read_orders(body, "" if success and reply.status == 200 else words)
                self.book.note_open((order.id for order in orders), call.asked_ns)
                return self.book.apply_listing("working", orders, call.asked_ns, whole=False)
            case "account":
                worth = read_worth(body.get("data")) if success and reply.status == 200 else None
                if worth is None:
                    return (UnexplainedMessage(f"the account cannot be measured: {words}"),)
                return (Equity({"OX": worth}, call.asked_ns),)
            case _:
                orders, why = read_orders(body, "" if success and reply.status == 200 else words)
                if why:
                    seen = self.book.apply_probe("working", orders, call.asked_ns, whole=False)
                    return (NotReady(Route.HTTP, 0, why, fatal=code in KEY_REFUSED), *seen)
                read = ReadBack(call.asked_ns, set(), urgent=False)
                return (Ready(Route.HTTP, 0), *self.read_backs.take_list(read, "working", orders, "", now))

    def _order_answered(self, call: PendingCall, body: dict[str, Any], code: str, words: str) -> Outputs:
        """Process the look-up of an order; "no open order of this id" is its end."""
        _, order_id = call.part
        if body["success"] is not True:
            gone = Order(order_id, "", OrderState.GONE, code)
            return self.read_backs.looked_up(call, gone if code in NOT_FOUND else None, words)
        order = read_order(body.get("data"))
        if order is None or order.id != order_id:
            return self.read_backs.looked_up(call, None, "the answer cannot be read")
        return self.read_backs.looked_up(call, order)

    def _cancel_all_answered(
        self, body: dict[str, Any], status: int, code: str, words: str, *, alone: bool
    ) -> CancelAnswered:
        if status == 200 and body["success"]:
            data = body.get("data")
            notice = data.get("notice") if isinstance(data, dict) else None
            if notice == NOTHING_WORKING:
                self.book.note_cancelled((), all_of_them=alone)
            return CancelAnswered(CancelOutcome.ACCEPTED, self.evidence(notice or "accepted"))
        if status == 429 or code in TOO_FAST:
            return CancelAnswered(CancelOutcome.UNKNOWN, words)
        return CancelAnswered(CancelOutcome.REFUSED, words)

    def _cancel_none_answered(self, body: dict[str, Any], words: str, reply: Replied) -> Drilled:
        """Judge a drill: the order path works if the venue has looked for the order."""
        data = body.get("data") if body["success"] is True and reply.status == 200 else None
        item = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else body
        ok, evidence = self._not_there(item)
        return Drilled(Route.HTTP, ok, reply.rtt_us, evidence or words)

    def _not_there(self, item: dict[str, Any]) -> tuple[bool, str]:
        """Return whether the answer for an order that cannot exist proves the order path, and the venue's words."""
        if item.get("submitted") is True:
            return True, "submitted"
        code = as_text(item.get("code", ""))
        return code in ALREADY_GONE_CODES, self.evidence(code, item.get("message", "")).strip()

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        match call.kind:
            case "cancel-all":
                return (CancelAnswered(CancelOutcome.UNKNOWN if call.sent else CancelOutcome.UNSENT, why),)
            case "orders":
                return self.read_backs.take_list(ReadBack(call.asked_ns, set()), "working", (), why, now)
            case "account" | "cancel-some" | "beside":
                return ()  # the lanes report their own faults
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            return self.keep_warm(now)
        return self._sessions.opened(conn)

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        self._sessions.closed(conn)
        return (NotReady(route, conn, why),)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        return self._sessions.woke(tag, now)

    def handle_raw_frame(self, conn: int, text: str | bytes, now: Instant) -> Outputs | None:
        return self._sessions.ponged(conn, now) if text in (b"pong", "pong") else None

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        if conn not in self._sessions:
            return ()
        if message.get("table") == "order":
            return self._pushed(message.get("data"))
        session_outputs = self._sessions.received(conn, message, now)
        if session_outputs is not None:
            return session_outputs
        match message.get("event"):
            case "cancelorder" | "cancelorders" | "CANCEL":
                return (*self._cancel_reply(message, now), *self._sessions.login_ended(conn, message))
            case "AMEND":
                return ()  # a trading system's amendment of an order came too late
            case _ if message.get("table") in ("position", "balance"):
                return ()
            case _ if message.get("success") is False:
                return (
                    UnexplainedMessage(self.evidence(as_text(message.get("code", "")), message.get("message", ""))),
                )
            case _:
                return (UnexplainedMessage("a message that no document explains"),)

    def _pushed(self, data: object) -> Outputs:
        if not isinstance(data, list):
            return (UnexplainedMessage("an order push without a list"),)
        seen: list[Output] = []
        for item in data:
            order = read_order(item)
            if order is None:
                seen.append(UnexplainedMessage("an order push that cannot be read"))
            elif item.get("notice") == "OrderClosed":
                self._striker.cancelled += order.status.startswith("CANCELED") and order.status != "CANCELED_BY_AMEND"
                seen.extend(self.book.apply_push(order._replace(state=OrderState.GONE)))
            else:
                seen.extend(self.book.apply_push(order, opened=item.get("notice") == "OrderOpened"))
        return tuple(seen)

    def _cancel_reply(self, message: dict[str, Any], now: Instant) -> Outputs:
        tag = as_text(message.get("tag", ""))
        if tag.startswith(DRILL):
            return self.drills.end_frame(tag, *self._not_there(message), now)
        if message.get("submitted") is True:
            return ()  # accepted by the gateway; the order's own push or a read shows its end
        code = as_text(message.get("code", ""))
        data = message.get("data")
        if isinstance(data, dict):
            self.book.note_cancel_refused(as_text(data.get("orderId", "")), as_text(data.get("marketCode")))
            if code in ALREADY_GONE_CODES:
                return ()
        return (UnexplainedMessage(self.evidence("cancel refused:", code, message.get("message", ""))),)
