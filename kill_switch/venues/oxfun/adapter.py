"""Speak to OX.FUN: a WebSocket that logs in by HMAC, and signed REST calls.

`docs/venues/oxfun.md` has the venue's facts; § numbers in this folder are those of that page. An API key is bound to a
single sub-account, so each sub-account needs an account of its own in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from kill_switch.core.domain import Instant, Order, OrderState, SweepTiming
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.order_list import OrderList, one_page
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.kit.replies import FrameReply, Reply
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message, Ping
from kill_switch.venues.kit.strike import CancelCommand
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.messages import Output, Outputs, Replied, Send, ServerTime, UnexplainedMessage
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.oxfun.replies import (
    ALREADY_GONE_CODES,
    LOGGED_IN_ALREADY,
    OPTIONAL_CHANNELS,
    WRONG_TIME,
    cancel_item,
    judge_cancel_all,
    judge_cancel_frame,
    judge_http,
    login_refusal,
    read_order,
    read_worth,
)
from kill_switch.venues.oxfun.signing import OxFunSigner
from kill_switch.venues.oxfun.strike import KnownOrders
from kill_switch.venues.profile import Guess
from kill_switch.venues.request import Request

REST = ("five minutes", 1.0), ("second", 1.0)  # what each REST request takes (§ 3.4)
TOO_FAST_CODE = b'"20007"'  # § 9; it may come with HTTP 200
ERROR_BYTES = 512  # the longest body that is looked at for it

GREETING_WITHIN_S = 0.5  # seconds; then log in without a greeting, which is inferred and not documented (§ 3.1)
PING_EVERY_S = 15.0  # the venue requires a "ping" a minute (§ 3.3)
MS_DIGITS = 13  # digits of a time in milliseconds, until the year 2286
SUBSCRIBE = orjson.dumps({"op": "subscribe", "tag": 101, "args": ["order:all", *OPTIONAL_CHANNELS]})
NO_ORDER = 2**63 - 1  # the largest id that an order can have
MARKET = "BTC-USD-SWAP-LIN"
CANCEL_EVENTS = ("cancelorder", "cancelorders", "CANCEL")  # answers about one order of a frame (§ 4)


class OxFunOptions(VenueOptions):
    """The configuration keys of an account at OX.FUN."""

    TESTNET: ClassVar[Mapping[str, str]] = {
        "ws_url": "wss://stgapi.ox.fun/v2/websocket",
        "rest_url": "https://stgapi.ox.fun",
    }
    ws_url: str = "wss://api.ox.fun/v2/websocket"
    rest_url: str = "https://api.ox.fun"


class OxFun(KitAdapter[OxFunOptions]):
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
    READS_ALONGSIDE: ClassVar[bool] = True
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
        Guess(
            'an order whose look-up says "Open order not found" has ended (§ 8)',
            "nothing: it is asked only for orders that no list shows",
        ),
    )

    @classmethod
    def secrets(cls, options: OxFunOptions) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    def __init__(self, options: OxFunOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        self._signer = OxFunSigner(secrets["api_key"], secrets["api_secret"], self.host, self.clock)
        self._login_sent_ns: dict[int, int] = {}  # connection → when its login was sent, on our wall clock
        self._known = KnownOrders(self.book)
        self._cancelled = 0  # pushes of cancelled orders since the last read-back of a sweep
        self.read_backs.count_cancelled = self._count_cancelled
        self.account_wide = CancelCommand(
            "cancel-all",
            self._signer.build("DELETE", "/v3/orders/cancel-all", b"{}"),  # {} means the whole account (§ 4.3)
            lambda reply: judge_cancel_all(reply, self.evidence),
            line="DELETE /v3/orders/cancel-all",
        )
        get = partial(self._signer.build, "GET")
        self.lists = (OrderList("working", one_page(get("/v3/orders/working")), lambda data: data),)
        self.look_up = lambda order_id: get(f"/v3/orders/status?orderId={quote(order_id, safe='')}")
        self.login = (
            LoginStep(lambda conn, now: None, _is_greeting, GREETING_WITHIN_S, optional=True),
            LoginStep(self._log_in, _is_logged_in),
            LoginStep(lambda conn, now: SUBSCRIBE, _is_subscribed),
        )
        self.ping = Ping(PING_EVERY_S, b"ping", lambda frame: frame in (b"pong", "pong"))
        self.harmless = lambda now: self._cancel_by_id(({"marketCode": MARKET, "orderId": str(NO_ORDER)},), now)
        self.harmless_frame = _harmless_frame
        self.equity_request = get("/v3/account")
        self.assemble()

    # ── strikes ───────────────────────────────────────────────────────────────────────────────────────────────────

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        """Cancel everything; beside that, cancel known orders by id, whose frames do not answer the strike."""
        if number == 1:
            self._cancelled = 0  # earlier cancels are not this kill's
        yield from super().strike(now, number)
        if number == 1:  # after the widest command, because a list may come while that one leaves
            self._known.forget_outlived()
        conn = self.carrier()
        if conn is not None:
            yield from (Send(conn, text, command=True) for text in self._known.frames(f"k{number}"))
        if orders := self._known.choose_apart(framed=conn is not None):
            items = [{"marketCode": order.symbol, "orderId": order.id} for order in orders]
            some = CancelCommand("cancel-some", lambda at: self._cancel_by_id(items, at), extra=True)
            yield from self.striker.issue_extra(some, now)
        self._known.note_struck()

    def describe_strike(self) -> tuple[str, ...]:
        lines = super().describe_strike()
        if self.carrier() is None:
            return (*lines, "DELETE /v3/orders/cancel") if self._known.apart(framed=False) else lines
        count = sum(1 for _ in self._known.frames("k"))
        frames = f'ws {{"op":"cancelorders",…}}, {count} message(s) for the orders that are known'
        return (*lines, frames) if count else lines

    def _cancel_by_id(self, items: Sequence[Mapping[str, str]], now: Instant) -> Request:
        # a `timestamp` goes with `recvWindow`: without one it is one second, which a busy venue may exceed (100015)
        body = {"timestamp": self.clock.venue_ms(now), "recvWindow": 5000, "responseType": "FULL", "orders": items}
        return self._signer.sign(self._signer.template("DELETE", "/v3/orders/cancel", orjson.dumps(body)), now)

    def _count_cancelled(self) -> int | None:
        """Return how many cancels were pushed, or None for none, and reset the count."""
        cancelled, self._cancelled = self._cancelled, 0
        return cancelled or None

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        return judge_http(status, body, self.evidence)

    def may_sign_again(self, call: PendingCall) -> bool:
        """Return whether no attempt has been signed by the clock of a refusal: a second one has the same clock."""
        return not call.is_retry

    def read_order(self, item: object) -> Order | None:
        return read_order(item)

    def read_equity(self, data: Any) -> Mapping[str, Decimal] | str:
        worth = read_worth(data)
        return "the answer has no collateral of one account" if worth is None else {"OX": worth}

    def is_over_limit(self, reply: Replied) -> bool:
        return reply.status == 429 or (len(reply.body) < ERROR_BYTES and TOO_FAST_CODE in reply.body)

    def is_drill_passed(self, reply: Reply) -> bool:
        item = cancel_item(reply.data)
        return item.get("submitted") is True or as_text(item.get("code")) in ALREADY_GONE_CODES

    def frame_reply(self, message: Message) -> FrameReply | None:
        """Judge the answer to a drill; many answers follow a strike's frame, and `on_push` processes them."""
        prefix, _, number = as_text(message.get("tag")).partition("-")
        if message.get("event") not in CANCEL_EVENTS or prefix != DRILL or not (number.isascii() and number.isdigit()):
            return None
        return FrameReply(int(number[:18]), judge_cancel_frame(message, self.evidence))

    # ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _log_in(self, conn: int, now: Instant) -> bytes:
        self._login_sent_ns[conn] = now.wall_ns
        stamp = str(self.clock.venue_ms(now))
        signature = self._signer.hmac(f"{stamp}GET/auth/self/verify")
        data = {"apiKey": self._signer.key, "timestamp": stamp, "signature": signature}
        return orjson.dumps({"op": "login", "tag": 1, "data": data})

    def login_refusal(self, message: Message) -> LoginRefused | None:
        return login_refusal(message, self.evidence)

    def on_session_closed(self, conn: int) -> None:
        self._login_sent_ns.pop(conn, None)
        super().on_session_closed(conn)

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Process a message; the answer to a login shows the venue's clock too."""
        sent_ns = self._login_sent_ns.pop(conn, None) if message.get("event") == "login" else None
        outputs = super().on_message(conn, message, now)
        return outputs if sent_ns is None else (*outputs, *self._note_time(message, sent_ns, now))

    def _note_time(self, message: Message, sent_ns: int, now: Instant) -> tuple[ServerTime, ...]:
        stamp = as_text(message.get("timestamp"))
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) == MS_DIGITS):
            return ()
        at_ns = int(stamp) * 1_000_000
        late = message.get("success") is not True and as_text(message.get("code")) == WRONG_TIME
        return self.clock.note_message(at_ns, at_ns + 1_000_000, sent_ns, now, refused=late)

    # ── pushes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        match message.get("table"), message.get("event"):
            case "order", _:
                return self._on_orders(message.get("data"))
            case _, event if event in CANCEL_EVENTS:
                return self._on_cancel_reply(conn, message, now)
            case _, "login":
                return (UnexplainedMessage("a login answer without a login"),)
            case (("position" | "balance"), _) | (_, ("AMEND" | "subscribe")):
                return ()  # AMEND: a trading system's amendment of an order came too late
            case _ if _is_greeting(message):
                return ()
            case _ if message.get("success") is False:
                words = self.evidence(as_text(message.get("code")), message.get("message", ""))
                return (UnexplainedMessage(words),)
            case _:
                return (UnexplainedMessage("a message that no document explains"),)

    def _on_orders(self, items: object) -> Outputs:
        if not isinstance(items, list):
            return (UnexplainedMessage("an order push without a list"),)
        outputs: list[Output] = []
        for item in items:
            order = read_order(item)
            if order is None or not order.id:
                outputs.append(UnexplainedMessage("an order push that cannot be read"))
            elif item.get("notice") == "OrderClosed":
                self._cancelled += order.status.startswith("CANCELED") and order.status != "CANCELED_BY_AMEND"
                outputs.extend(self.book.apply_push(order._replace(state=OrderState.GONE)))
            else:
                outputs.extend(self.book.apply_push(order, opened=item.get("notice") == "OrderOpened"))
        return tuple(outputs)

    def _on_cancel_reply(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Process the answer about one order of a frame; an accepted cancel shows in the order's push or in a read."""
        reply, data = judge_cancel_frame(message, self.evidence), message.get("data")
        if reply.ok:
            return ()
        if isinstance(data, dict):
            self.book.note_cancel_refused(as_text(data.get("orderId")), as_text(data.get("marketCode")))
            if reply.not_found:
                return ()
        ended = self.end_session(conn, reply, now) if reply.session_ended else ()
        words = self.evidence("cancel refused:", as_text(message.get("code")), message.get("message", ""))
        return (UnexplainedMessage(words), *ended)


def _harmless_frame(number: int) -> bytes:
    data = {"marketCode": MARKET, "orderId": NO_ORDER}
    return orjson.dumps({"op": "cancelorder", "tag": f"{DRILL}-{number}", "data": data})


def _is_greeting(message: Message) -> bool:
    event = message.get("event")
    return event == "Welcome" or ("nonce" in message and event not in ("login", "subscribe", "AMEND", *CANCEL_EVENTS))


def _is_logged_in(message: Message) -> bool:
    granted = message.get("success") is True or as_text(message.get("code")) == LOGGED_IN_ALREADY
    return message.get("event") == "login" and granted


def _is_subscribed(message: Message) -> bool:
    """Return whether orders are pushed from now on."""
    is_order = message.get("channel") == "order:all"
    return message.get("event") == "subscribe" and message.get("success") is True and is_order
