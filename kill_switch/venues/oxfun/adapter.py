"""Speak to OX.FUN: a WebSocket that logs in by HMAC, and signed REST calls (docs.ox.fun, API v2 WebSocket and v3 REST).

A strike is REST `DELETE /v3/orders/cancel-all` for the whole account and, beside it, WebSocket `cancelorders` batches
for the orders that are known. Orders that have outlived a strike are cancelled by id over REST: neither that cancel-all
needs no market nor that it takes stop orders is sure. Without a WebSocket so are those that no list shows. All of it
only queues: an order is gone when `GET /v3/orders/working` no longer shows it, on two reads at least 250 ms apart. An
API key is bound to one sub-account; each needs an account of its own here.

That list covers the sub-account's open orders, stop orders too (it has their fields; that it has all of them is not
documented), and may have a longest length, which is not documented: only an empty one proves something. An order that
a push has shown alive, or whose cancel was refused, and that is not in it is looked up by `GET /v3/orders/status`: a
status that is an end, or "open order not found" (40035, 100005), is its end.

REST requests and the login sign the time. A refusal because of it brings the venue's clock along, and what it was
said to is signed by that clock and sent again, once.

The account is worth its `collateral`, in OX: the balance, which the venue moves with the open profit or loss, and other
coins at what the venue lends on them. `positionPnl` is in it already. Deposits and withdrawals are not told apart: the
venue keeps a history of them, but no read of it is of the same moment as one of the account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import orjson

from kill_switch.core.domain import Answer, Life, Now, Order, Pace, Route
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.decode import parse, plain
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.readback import LOOK_UP, ReadBack
from kill_switch.venues.messages import (
    CancelAnswered,
    Drilled,
    Equity,
    Noise,
    NotReady,
    Output,
    Outputs,
    Ready,
    Replied,
    Send,
)
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.oxfun.replies import (
    KEY_REFUSED,
    NOT_FOUND,
    NOTHING_RESTING,
    NOTHING_WORKING,
    TOO_FAST,
    TRY_AGAIN,
    WRONG_TIME,
    read_order,
    read_orders,
    read_worth,
)
from kill_switch.venues.oxfun.session import SessionPool
from kill_switch.venues.oxfun.signing import Signer
from kill_switch.venues.request import Request

ITEMS = 8  # "Cancel order" over REST: at most eight orders a request
BATCH_ORDERS = 20  # "Cancel Batch Orders": about twenty orders a message
BATCH_BYTES = 3800  # below the message length that error 20027 is for
NEW_KILL_AFTER_S = 10.0  # a sweep, and its guard, read back more often than that
ID_DIGITS = 19  # what fits the 64 bits of an INTEGER
REST = 2500, 300.0  # requests within seconds, of one address, for long; 100 within one second
KEPT_FOR_CANCELS = 0.5  # of that
STRIKE = 2  # requests of one on what has outlived another
FIRST_STRIKES = 20  # of a kill that gets nowhere, before it is RESIDUE
GUARD_AT_LEAST_EVERY_S = 10.0  # the warm lane reads more often
GAP_MOST_S = 30.0  # between two strikes, of however many accounts
STRIKE_GAP_EACH_S = 0.06  # of each account: a strike and its reads are up to six requests, of 100 within one second
BATCHES_PER_STRIKE = 20  # of the 50 messages a second that an authenticated connection may send

NO_ORDER = 2**63 - 1  # the largest id that an order could have
MARKET = "BTC-USD-SWAP-LIN"


class OxFunOptions(VenueOptions):
    """The keys of an account at this venue."""

    ws_url: str = "wss://api.ox.fun/v2/websocket"
    rest_url: str = "https://api.ox.fun"


class OxFun(Adapter[OxFunOptions]):
    """One sub-account at OX.FUN."""

    NAME = "oxfun"
    PACE = Pace(clean_reads=2, read_after_s=0.025, read_gap_s=0.25, strike_gap_s=0.5)
    LIMIT: ClassVar[tuple[int, float] | None] = REST
    LIMITED_BY: ClassVar[Literal["address", "key"]] = "address"
    CURRENCIES: ClassVar[tuple[str, ...]] = ("OX",)
    CLOCK_WINDOW_S: ClassVar[float | None] = 30.0  # that there is one is documented (20024), its width is not

    Options = OxFunOptions

    @classmethod
    def pace(cls, together: int) -> Pace:
        """Guard less closely, and chase with longer gaps, where many accounts share what the venue allows one address.

        Half of that is for cancels. Each account's warm lane reads the list every few seconds too, and its equity may
        be asked for: from twelve accounts on, these alone take up the other half.
        """
        count, within_s = REST
        each_per_s = cls.CONNECTIONS / cls.WARM_EVERY_S + 1 / cls.MEASURE_EVERY_S
        left_per_s = (1 - KEPT_FOR_CANCELS) * count / within_s - together * each_per_s
        guard_every_s = min(GUARD_AT_LEAST_EVERY_S, together / left_per_s) if left_per_s > 0 else GUARD_AT_LEAST_EVERY_S
        strikes = KEPT_FOR_CANCELS * count / (together * STRIKE) - FIRST_STRIKES  # of one account, within the time
        gap_cap_s = min(GAP_MOST_S, within_s / strikes) if strikes > 0 else GAP_MOST_S
        pace = cls.PACE
        found = replace(
            pace,
            guard_every_s=max(pace.guard_every_s, guard_every_s),
            gap_cap_s=max(pace.gap_cap_s, gap_cap_s),
            strike_gap_s=max(pace.strike_gap_s, together * STRIKE_GAP_EACH_S),
        )
        return pace if found == pace else found

    @classmethod
    def secrets(cls, options: OxFunOptions) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    def __init__(self, options: OxFunOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        self._signer = Signer(secrets["api_key"], secrets["api_secret"], self.host, self.clock)
        self.book.lists = ("working",)
        self._delete_all = self._signer.template("DELETE", "/v3/orders/cancel-all", b"{}")
        self._working = self._signer.build("GET", "/v3/orders/working")
        self._account = self._signer.build("GET", "/v3/account")
        self._first: Request | None = None  # what the strike that is being made has begun with
        self._strike = 0
        self._struck: frozenset[str] = frozenset()  # orders that were known of at the kill's last strike
        self._outlived: frozenset[str] = frozenset()  # those of them that a list has shown since
        self._tries: dict[str, int] = {}  # how often an order was cancelled by its id over REST
        self._cancelled = 0  # pushes of cancelled orders since the last read-back of a sweep
        self._read_ns = 0
        self._drill_count = 0
        self._sessions = SessionPool(self._signer, self.clock, self.evidence, self.read_backs.begin_pushes)
        self.book.on_whole_list = self._note_outlived
        self.read_backs.order_request = self._order_request
        self.read_backs.count_cancelled = self._count_cancelled

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def first(self, now: Now) -> Request:
        self._first = None
        request = self._first = self._cancel_all(now)
        return request

    def strike(self, now: Now) -> Iterator[Output]:
        self._strike += 1
        new = now.mono_ns - self._read_ns > NEW_KILL_AFTER_S * 1e9
        if new:
            self._cancelled = 0  # what was cancelled before is not the kill's doing
        yield from self.calls.start_call(
            "cancel-all", self._cancel_all, now, urgent=True, cancel=True, hedge_after_s=self.hedge_after_s
        )
        if new:
            self._outlived = frozenset()
        conn = self._sessions.newest
        if conn is not None:
            yield from (Send(conn, text, command=True) for text in self._batches(self._live()))
        if some := self._apart(conn):
            self._tries |= {order.id: self._tries.get(order.id, 0) + 1 for order in some}
            yield from self.calls.start_call("cancel-some", self._cancel_some(some), now, urgent=True, command=True)
        self._struck, self._outlived = frozenset(self.book.orders), frozenset()

    def _note_outlived(self) -> None:
        self._outlived = self._struck & self.book.orders.keys()

    def read(self, now: Now) -> Outputs:
        self._read_ns = now.mono_ns
        return self.calls.start_call("orders", self._working, now, urgent=True, hedge_after_s=4 * self.hedge_after_s)

    def look_beside(self, now: Now) -> Outputs:
        """Of many accounts at one address, do so for the first ones only: strikes of the others need the requests."""
        if any(call.kind == "beside" for call in self.calls.pending.values()):
            return ()
        if self.calls.pool is not None and not self.calls.pool.is_rested(now):
            return ()
        return self.calls.start_call("beside", self._working, now, urgent=True, hedge_after_s=self.hedge_after_s)

    def probe(self, now: Now) -> Outputs:
        return self.calls.start_call("probe", self._working, now)

    def _order_request(self, order_id: str) -> Callable[[Now], Request]:
        return self._signer.build("GET", f"/v3/orders/status?orderId={quote(order_id, safe='')}")

    def _count_cancelled(self) -> int | None:
        cancelled, self._cancelled = self._cancelled, 0
        return cancelled or None

    def plan(self) -> tuple[str, ...]:
        everything = "DELETE /v3/orders/cancel-all"
        if self._sessions.newest is None:
            return (everything, "DELETE /v3/orders/cancel") if self._apart(None) else (everything,)
        frames = list(self._batches(self._live()))
        if not frames:
            return (everything,)
        return (everything, f'ws {{"op":"cancelorders",…}}, {len(frames)} message(s) for the orders that are known')

    def drill(self, now: Now) -> Outputs:
        """Cancel an order that cannot exist, over REST and over the WebSocket."""
        self._drill_count += 1
        tag = f"{DRILL}-{self._drill_count}"
        frame = {"op": "cancelorder", "tag": tag, "data": {"marketCode": MARKET, "orderId": NO_ORDER}}
        return (
            *self.drills.start_call(self._cancel_none, now),
            *self.drills.start_frame(self._sessions.newest, tag, orjson.dumps(frame), now),
        )

    def measure(self, now: Now) -> Outputs:
        return self.calls.start_call("account", self._account, now)

    def _cancel_none(self, now: Now) -> Request:
        return self._cancel_by_id([{"marketCode": MARKET, "orderId": str(NO_ORDER)}], now)

    def _cancel_some(self, orders: Sequence[Order]) -> Callable[[Now], Request]:
        items = [{"marketCode": order.symbol, "orderId": order.id} for order in orders[:ITEMS]]
        return lambda now: self._cancel_by_id(items, now)

    def _cancel_by_id(self, items: Sequence[Mapping[str, str]], now: Now) -> Request:
        # a `timestamp` goes with `recvWindow`: without one it is one second, which a busy venue may exceed (100015)
        body = {"timestamp": self.clock.venue_ms(now), "recvWindow": 5000, "responseType": "FULL", "orders": items}
        return self._signer.sign(self._signer.template("DELETE", "/v3/orders/cancel", orjson.dumps(body)), now)

    def _apart(self, conn: int | None) -> list[Order]:
        """Return what goes by its id over REST, what was tried least often first, as many as one request takes."""
        if not self._outlived and (conn is not None or not self.book.unproven):
            return []  # the usual case: thousands of orders need not be looked at
        wanted = [o for o in self._live() if o.id in self._outlived or (conn is None and o.id in self.book.unproven)]
        self._tries = {order.id: self._tries.get(order.id, 0) for order in wanted}
        return sorted(wanted, key=lambda order: self._tries[order.id])[:ITEMS]

    def _live(self) -> Iterator[Order]:
        """Return the live orders, without those of which no market is known: one spoils the message that it is in."""
        return (order for order in self.book.orders.values() if order.life is Life.LIVE and order.symbol)

    def _cancel_all(self, now: Now) -> Request:
        # "cancel-all" with the body {} and no marketCode: the whole account
        first, self._first = self._first, None
        return first or self._signer.sign(self._delete_all, now)

    def _batches(self, orders: Iterable[Order]) -> Iterable[bytes]:
        """Pack `cancelorders` messages: at most twenty orders, and short enough for the venue, each."""
        tag = b'{"op":"cancelorders","tag":"k%d","dataArray":[' % self._strike
        batch: list[bytes] = []
        codes: dict[str, bytes] = {}
        size, made = len(tag), 0
        for order in orders:
            if not (order.id.isascii() and order.id.isdigit() and len(order.id) <= ID_DIGITS):
                continue  # `orderId` is an INTEGER; one bad id must not spoil the batch, let alone the kill
            if order.symbol not in codes:
                codes[order.symbol] = orjson.dumps(order.symbol)
            item = b'{"marketCode":%b,"orderId":%d}' % (codes[order.symbol], int(order.id))
            if len(tag) + len(item) > BATCH_BYTES:
                continue
            if batch and (len(batch) == BATCH_ORDERS or size + len(item) > BATCH_BYTES):
                yield tag + b",".join(batch) + b"]}"
                made += 1
                if made == BATCHES_PER_STRIKE:
                    return
                batch, size = [], len(tag)
            batch.append(item)
            size += len(item) + 1
        if batch:
            yield tag + b",".join(batch) + b"]}"

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, call: PendingCall, reply: Replied, now: Now) -> Outputs | None:
        body = parse(reply.body)
        success = body.get("success") if isinstance(body, dict) else None
        code = plain(body.get("code", "")) if isinstance(body, dict) else ""
        if reply.status >= 500 or not isinstance(success, bool) or (not success and code in TRY_AGAIN):
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
                return ()  # their look-ups tell
            case "beside":
                orders, _ = read_orders(body, "" if success and reply.status == 200 else words)
                self.book.note_open((order.id for order in orders), call.asked_ns)
                return self.book.apply_listing("working", orders, call.asked_ns, whole=False)
            case "account":
                worth = read_worth(body.get("data")) if success and reply.status == 200 else None
                if worth is None:
                    return (Noise(f"the account cannot be measured: {words}"),)
                return (Equity({"OX": worth}, call.asked_ns),)
            case _:
                orders, why = read_orders(body, "" if success and reply.status == 200 else words)
                if why:
                    seen = self.book.apply_probe("working", orders, call.asked_ns, whole=False)
                    return (NotReady(Route.HTTP, 0, why, fatal=code in KEY_REFUSED), *seen)
                read = ReadBack(call.asked_ns, set(), urgent=False)
                return (Ready(Route.HTTP, 0), *self.read_backs.take_list(read, "working", orders, "", now))

    def _order_answered(self, call: PendingCall, body: dict[str, Any], code: str, words: str) -> Outputs:
        """Take one order by its id; that there is no open order of this id is its end."""
        _, order_id = call.context
        if body["success"] is not True:
            gone = Order(order_id, "", Life.GONE, code)
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
            return CancelAnswered(Answer.ACCEPTED, self.evidence(notice or "accepted"))
        if status == 429 or code in TOO_FAST:
            return CancelAnswered(Answer.UNKNOWN, words)
        return CancelAnswered(Answer.REFUSED, words)

    def _cancel_none_answered(self, body: dict[str, Any], words: str, reply: Replied) -> Drilled:
        """Judge a drill: the venue has looked for the order, or has not come so far."""
        data = body.get("data") if body["success"] is True and reply.status == 200 else None
        item = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else body
        ok, evidence = self._not_there(item)
        return Drilled(Route.HTTP, ok, reply.rtt_us, evidence or words)

    def _not_there(self, item: dict[str, Any]) -> tuple[bool, str]:
        """Say whether what came back for an order that cannot exist proves the order path, and in which words."""
        if item.get("submitted") is True:
            return True, "submitted"
        code = plain(item.get("code", ""))
        return code in NOTHING_RESTING, self.evidence(code, item.get("message", "")).strip()

    def unanswered(self, call: PendingCall, why: str, now: Now) -> Outputs:
        match call.kind:
            case "cancel-all":
                return (CancelAnswered(Answer.UNKNOWN if call.sent else Answer.UNSENT, why),)
            case "orders":
                return self.read_backs.take_list(ReadBack(call.asked_ns, set()), "working", (), why, now)
            case "account" | "cancel-some" | "beside":
                return ()  # the lanes say what is wrong with them
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, route: Route, conn: int, now: Now) -> Outputs:
        if route is not Route.WS:
            return self.probe(now)
        return self._sessions.opened(conn)

    def closed(self, route: Route, conn: int, why: str, now: Now) -> Outputs:
        self._sessions.closed(conn)
        return (NotReady(route, conn, why),)

    def woke(self, tag: str, now: Now) -> Outputs:
        return self._sessions.woke(tag, now)

    def text(self, conn: int, text: str | bytes, now: Now) -> Outputs | None:
        return self._sessions.ponged(conn, now) if text in (b"pong", "pong") else None

    def received(self, conn: int, message: dict[str, Any], now: Now) -> Outputs:
        if conn not in self._sessions:
            return ()
        if message.get("table") == "order":
            return self._pushed(message.get("data"))
        told = self._sessions.received(conn, message, now)
        if told is not None:
            return told
        match message.get("event"):
            case "cancelorder" | "cancelorders" | "CANCEL":
                return (*self._cancel_reply(message, now), *self._sessions.login_ended(conn, message))
            case "AMEND":
                return ()  # somebody's change of an order came too late
            case _ if message.get("table") in ("position", "balance"):
                return ()
            case _ if message.get("success") is False:
                return (Noise(self.evidence(plain(message.get("code", "")), message.get("message", ""))),)
            case _:
                return (Noise("a message that no document explains"),)

    def _pushed(self, data: object) -> Outputs:
        if not isinstance(data, list):
            return (Noise("an order push without a list"),)
        seen: list[Output] = []
        for item in data:
            order = read_order(item)
            if order is None:
                seen.append(Noise("an order push that cannot be read"))
            elif item.get("notice") == "OrderClosed":
                self._cancelled += order.status.startswith("CANCELED") and order.status != "CANCELED_BY_AMEND"
                seen.extend(self.book.apply_push(order._replace(life=Life.GONE)))
            else:
                seen.extend(self.book.apply_push(order, opened=item.get("notice") == "OrderOpened"))
        return tuple(seen)

    def _cancel_reply(self, message: dict[str, Any], now: Now) -> Outputs:
        tag = plain(message.get("tag", ""))
        if tag.startswith(DRILL):
            return self.drills.end_frame(tag, *self._not_there(message), now)
        if message.get("submitted") is True:
            return ()  # accepted by the gateway; the order's own push or a read says when it is gone
        code = plain(message.get("code", ""))
        data = message.get("data")
        if isinstance(data, dict):
            self.book.note_cancel_refused(plain(data.get("orderId", "")), plain(data.get("marketCode")))
            if code in NOTHING_RESTING:
                return ()
        return (Noise(self.evidence("cancel refused:", code, message.get("message", ""))),)
