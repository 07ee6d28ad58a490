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

import base64
import hmac
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote, urlsplit

import orjson

from kill_switch.core.domain import Answer, Life, Now, Order, Pace, Route
from kill_switch.venues.adapter import DRILL, LOOK_UP, Adapter, Ask
from kill_switch.venues.decode import amount, header, parse, plain
from kill_switch.venues.messages import (
    CancelAnswered,
    Drilled,
    Drop,
    Equity,
    Noise,
    NotReady,
    OrdersFound,
    Output,
    Outputs,
    Ready,
    Replied,
    RoundTrip,
    Send,
    WakeAfter,
)
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.readback import ReadBack
from kill_switch.venues.request import Form, Request

GREETING_WITHIN_S = 0.5  # log in regardless after that: the greeting is inferred, not documented
PING_EVERY_S = 15.0  # the venue wants a "ping" a minute at least
PONG_WITHIN_S = 5.0
ITEMS = 8  # "Cancel order" over REST: at most eight orders a request
BATCH_ORDERS = 20  # "Cancel Batch Orders": about twenty orders a message
BATCH_BYTES = 3800  # below the message length that error 20027 is for
NEW_KILL_AFTER_S = 10.0  # a sweep, and its guard, read back more often than that
MS_DIGITS = 13  # of a time in milliseconds, until the year 2286
ID_DIGITS = 19  # what fits the 64 bits of an INTEGER
REST = 2500, 300.0  # requests within seconds, of one address, for long; 100 within one second
KEPT_FOR_CANCELS = 0.5  # of that
STRIKE = 2  # requests of one on what has outlived another
FIRST_STRIKES = 20  # of a kill that gets nowhere, before it is RESIDUE
GUARD_AT_LEAST_EVERY_S = 10.0  # the warm lane reads more often
GAP_MOST_S = 30.0  # between two strikes, of however many accounts
STRIKE_GAP_EACH_S = 0.06  # of each account: a strike and its reads are up to six requests, of 100 within one second
BATCHES_PER_STRIKE = 20  # of the 50 messages a second that an authenticated connection may send

TERMINAL = frozenset(
    {
        "FILLED",
        "CANCELED",
        "CANCELED_BY_USER",
        "CANCELED_BY_MAKER_ONLY",
        "CANCELED_BY_FOK",
        "CANCELED_ALL_BY_IOC",
        "CANCELED_PARTIAL_BY_IOC",
        "CANCELED_BY_SELF_TRADE_PROTECTION",
        "CANCELED_BY_AMEND",
    }
)
NOT_FOUND = frozenset({"100005", "40035"})  # no open order of this id
NOTHING_RESTING = NOT_FOUND | {"100004"}  # the order is gone already; a clean read must still say so
NOTHING_WORKING = "No working orders found"  # what a cancel-all of nothing is answered with
KEY_REFUSED = frozenset({"05001", "20000", "20025"})  # fatal for the key
LOGIN_ENDED = frozenset({"05001", "20026"})  # said of a command on the WebSocket; how long a login lasts is unknown
TRY_AGAIN = frozenset({"20032", "000101", "000201", "10001", "50001"})  # says nothing of the command
TOO_FAST = frozenset({"429", "20007"})
WRONG_TIME = "20024"
NO_ORDER = 2**63 - 1  # the largest id that an order could have
MARKET = "BTC-USD-SWAP-LIN"


class OxFun(Adapter):
    """One sub-account at OX.FUN."""

    NAME = "oxfun"
    PACE = Pace(clean_reads=2, read_after_s=0.025, read_gap_s=0.25, strike_gap_s=0.5)
    LIMIT: ClassVar[tuple[int, float] | None] = REST
    LIMITED_BY: ClassVar[Literal["address", "key"]] = "address"
    CURRENCIES: ClassVar[tuple[str, ...]] = ("OX",)
    CLOCK_WINDOW_S: ClassVar[float | None] = 30.0  # that there is one is documented (20024), its width is not

    class Options(VenueOptions):
        ws_url: str = "wss://api.ox.fun/v2/websocket"
        rest_url: str = "https://api.ox.fun"

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
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        self._key = header("api_key", secrets["api_key"])
        port = urlsplit(options.rest_url).port
        self._signed_host = self.host.removesuffix(f":{port}") if port else self.host
        try:
            self._signer = hmac.new(secrets["api_secret"].encode(), digestmod="sha256")  # copied for each signature
        except UnicodeEncodeError:
            raise ValueError("api_secret is not text") from None  # nothing of it is shown
        self.lists = ("working",)
        self._nonce = 0
        self._delete_all = self._form("DELETE", "/v3/orders/cancel-all", b"{}")
        self._read_working = self._form("GET", "/v3/orders/working")
        self._read_account = self._form("GET", "/v3/account")
        self._first: Request | None = None  # what the strike that is being made has begun with
        self._strike = 0
        self._struck: frozenset[str] = frozenset()  # orders that were known of at the kill's last strike
        self._outlived: frozenset[str] = frozenset()  # those of them that a list has shown since
        self._tries: dict[str, int] = {}  # how often an order was cancelled by its id over REST
        self._cancelled = 0  # pushes of cancelled orders since the last read-back of a sweep
        self._read_ns = 0
        self._drill_count = 0
        self._logins: dict[int, _Login] = {}

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def first(self, now: Now) -> Request:
        self._first = None
        request = self._first = self._cancel_all(now)
        return request

    def kill(self, now: Now) -> Outputs:
        return tuple(self.strike(now))

    def strike(self, now: Now) -> Iterator[Output]:
        self._strike += 1
        new = now.mono_ns - self._read_ns > NEW_KILL_AFTER_S * 1e9
        if new:
            self._cancelled = 0  # what was cancelled before is not the kill's doing
        yield from self.ask(
            "cancel-all", self._cancel_all, now, urgent=True, cancel=True, hedge_after_s=self.hedge_after_s
        )
        if new:
            self._outlived = frozenset()
        conn = self._conn()
        if conn is not None:
            yield from (Send(conn, text, command=True) for text in self._batches(self._live()))
        if some := self._apart(conn):
            self._tries |= {order.id: self._tries.get(order.id, 0) + 1 for order in some}
            yield from self.ask("cancel-some", self._cancel_some(some), now, urgent=True, command=True)
        self._struck, self._outlived = frozenset(self.book), frozenset()

    def show_list(
        self, name: str, orders: Iterable[Order], asked_ns: int, *, whole: bool, kept: Collection[str] | None = None
    ) -> tuple[OrdersFound, ...]:
        found = super().show_list(name, orders, asked_ns, whole=whole, kept=kept)
        if whole:
            self._outlived = self._struck & self.book.keys()
        return found

    def read(self, now: Now) -> Outputs:
        self._read_ns = now.mono_ns
        return self.ask("orders", self._working, now, urgent=True, hedge_after_s=4 * self.hedge_after_s)

    def look_beside(self, now: Now) -> Outputs:
        """Of many accounts at one address, do so for the first ones only: strikes of the others need the requests."""
        if any(ask.kind == "beside" for ask in self._asks.values()):
            return ()
        if self.pool is not None and not self.pool.is_rested(now):
            return ()
        return self.ask("beside", self._working, now, urgent=True, hedge_after_s=self.hedge_after_s)

    def probe(self, now: Now) -> Outputs:
        return self.ask("probe", self._working, now)

    def order_request(self, order_id: str) -> Callable[[Now], Request]:
        form = self._form("GET", f"/v3/orders/status?orderId={quote(order_id, safe='')}")
        return lambda now: self._signed(form, now)

    def count_cancelled(self) -> int | None:
        cancelled, self._cancelled = self._cancelled, 0
        return cancelled or None

    def plan(self) -> tuple[str, ...]:
        everything = "DELETE /v3/orders/cancel-all"
        if self._conn() is None:
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
            *self.drill_call(self._cancel_none, now),
            *self.drill_send(self._conn(), tag, orjson.dumps(frame), now),
        )

    def measure(self, now: Now) -> Outputs:
        return self.ask("account", self._account, now)

    def _cancel_none(self, now: Now) -> Request:
        return self._cancel_by_id([{"marketCode": MARKET, "orderId": str(NO_ORDER)}], now)

    def _cancel_some(self, orders: Sequence[Order]) -> Callable[[Now], Request]:
        items = [{"marketCode": order.symbol, "orderId": order.id} for order in orders[:ITEMS]]
        return lambda now: self._cancel_by_id(items, now)

    def _cancel_by_id(self, items: Sequence[Mapping[str, str]], now: Now) -> Request:
        # a `timestamp` goes with `recvWindow`: without one it is one second, which a busy venue may exceed (100015)
        body = {"timestamp": self.venue_ms(now), "recvWindow": 5000, "responseType": "FULL", "orders": items}
        return self._signed(self._form("DELETE", "/v3/orders/cancel", orjson.dumps(body)), now)

    def _apart(self, conn: int | None) -> list[Order]:
        """Return what goes by its id over REST, what was tried least often first, as many as one request takes."""
        if not self._outlived and (conn is not None or not self.unproven):
            return []  # the usual case: thousands of orders need not be looked at
        wanted = [o for o in self._live() if o.id in self._outlived or (conn is None and o.id in self.unproven)]
        self._tries = {order.id: self._tries.get(order.id, 0) for order in wanted}
        return sorted(wanted, key=lambda order: self._tries[order.id])[:ITEMS]

    def _account(self, now: Now) -> Request:
        return self._signed(self._read_account, now)

    def _live(self) -> Iterator[Order]:
        """Return the live orders, without those of which no market is known: one spoils the message that it is in."""
        return (order for order in self.book.values() if order.life is Life.LIVE and order.symbol)

    def _cancel_all(self, now: Now) -> Request:
        # "cancel-all" with the body {} and no marketCode: the whole account
        first, self._first = self._first, None
        return first or self._signed(self._delete_all, now)

    def _working(self, now: Now) -> Request:
        return self._signed(self._read_working, now)

    def _form(self, method: str, target: str, body: bytes = b"") -> _Signable:
        """Prepare a request to be signed: what of it stays, and what of the signed text does."""
        path, _, query = target.partition("?")
        payload = query if method == "GET" else body.decode()
        headers = {"Host": self.host, "AccessKey": self._key, "Content-Type": "application/json"}
        return _Signable(Form(method, target, headers, body), f"{method}\n{self._signed_host}\n{path}\n{payload}")

    def _signed(self, what: _Signable, now: Now) -> Request:
        """Sign `Timestamp \\n Nonce \\n VERB \\n host \\n path \\n payload` (REST API V3, Authentication)."""
        venue_ms = self.venue_ms(now)
        self._nonce = max(self._nonce + 1, now.wall_ms)  # never the same twice: its uniqueness rule is unknown
        stamp, nonce = _stamp(venue_ms // 1000), str(self._nonce)
        signature = self._hmac(f"{stamp}\n{nonce}\n{what.text}")
        return what.form.fill({"Timestamp": stamp, "Nonce": nonce, "Signature": signature})

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

    def answered(self, ask: Ask, reply: Replied, now: Now) -> Outputs | None:
        body = parse(reply.body)
        success = body.get("success") if isinstance(body, dict) else None
        code = plain(body.get("code", "")) if isinstance(body, dict) else ""
        if reply.status >= 500 or not isinstance(success, bool) or (not success and code in TRY_AGAIN):
            return None
        if code == WRONG_TIME and not success and not ask.again:
            self.time_refused(reply, now)
            return self.ask_again(ask, now)
        words = f"HTTP {reply.status}" + ("" if success else f" {self.words(code, body.get('message', ''))}")
        if ask.kind == DRILL:
            return (self._cancel_none_answered(body, words, reply),)
        match ask.kind:
            case "cancel-all":
                return (self._cancel_all_answered(body, reply.status, code, words, alone=ask.alone),)
            case "orders":
                orders, why = _orders(body, "" if success and reply.status == 200 else words)
                return self.take_list(ReadBack(ask.asked_ns, set()), "working", orders, why, now)
            case kind if kind == LOOK_UP:
                return self._order_answered(ask, body, code, words)
            case "cancel-some":
                return ()  # their look-ups tell
            case "beside":
                orders, _ = _orders(body, "" if success and reply.status == 200 else words)
                self.note_open((order.id for order in orders), ask.asked_ns)
                return self.show_list("working", orders, ask.asked_ns, whole=False)
            case "account":
                worth = _worth(body.get("data")) if success and reply.status == 200 else None
                if worth is None:
                    return (Noise(f"the account cannot be measured: {words}"),)
                return (Equity({"OX": worth}, ask.asked_ns),)
            case _:
                orders, why = _orders(body, "" if success and reply.status == 200 else words)
                if why:
                    seen = self.show_part("working", orders, ask.asked_ns, whole=False)
                    return (NotReady(Route.HTTP, 0, why, fatal=code in KEY_REFUSED), *seen)
                read = ReadBack(ask.asked_ns, set(), urgent=False)
                return (Ready(Route.HTTP, 0), *self.take_list(read, "working", orders, "", now))

    def _order_answered(self, ask: Ask, body: dict[str, Any], code: str, words: str) -> Outputs:
        """Take one order by its id; that there is no open order of this id is its end."""
        _, order_id = ask.context
        if body["success"] is not True:
            gone = Order(order_id, "", Life.GONE, code)
            return self.looked_up(ask, gone if code in NOT_FOUND else None, words)
        order = _order(body.get("data"))
        if order is None or order.id != order_id:
            return self.looked_up(ask, None, "the answer cannot be read")
        return self.looked_up(ask, order)

    def _cancel_all_answered(
        self, body: dict[str, Any], status: int, code: str, words: str, *, alone: bool
    ) -> CancelAnswered:
        if status == 200 and body["success"]:
            data = body.get("data")
            notice = data.get("notice") if isinstance(data, dict) else None
            if notice == NOTHING_WORKING:
                self.name_cancelled((), all_of_them=alone)
            return CancelAnswered(Answer.ACCEPTED, self.words(notice or "accepted"))
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
        return code in NOTHING_RESTING, self.words(code, item.get("message", "")).strip()

    def unanswered(self, ask: Ask, why: str, now: Now) -> Outputs:
        match ask.kind:
            case "cancel-all":
                return (CancelAnswered(Answer.UNKNOWN if ask.sent else Answer.UNSENT, why),)
            case "orders":
                return self.take_list(ReadBack(ask.asked_ns, set()), "working", (), why, now)
            case "account" | "cancel-some" | "beside":
                return ()  # the lanes say what is wrong with them
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, route: Route, conn: int, now: Now) -> Outputs:
        if route is not Route.WS:
            return self.probe(now)
        self._logins[conn] = _Login()
        return (WakeAfter(f"greeting {conn}", GREETING_WITHIN_S),)

    def closed(self, route: Route, conn: int, why: str, now: Now) -> Outputs:
        self._logins.pop(conn, None)
        return (NotReady(route, conn, why),)

    def woke(self, tag: str, now: Now) -> Outputs:
        what, _, number = tag.partition(" ")
        conn = int(number)
        login = self._logins.get(conn)
        if login is None:
            return ()
        match what:
            case "greeting":
                return self._log_in(conn, login, now)
            case "ping":
                login.pinged_ns = now.mono_ns
                return (Send(conn, b"ping"), WakeAfter(f"pong {conn}", PONG_WITHIN_S))
            case _:
                if login.pinged_ns:
                    return (Drop(conn, f"no pong for {PONG_WITHIN_S:g} s"),)
                return (WakeAfter(f"ping {conn}", PING_EVERY_S - PONG_WITHIN_S),)

    def text(self, conn: int, text: str | bytes, now: Now) -> Outputs | None:
        if text not in (b"pong", "pong"):
            return None
        login = self._logins.get(conn)
        if login is None or not login.pinged_ns:
            return ()
        rtt_us = (now.mono_ns - login.pinged_ns) // 1000
        login.pinged_ns = 0
        return (RoundTrip(Route.WS, rtt_us),)

    def received(self, conn: int, message: dict[str, Any], now: Now) -> Outputs:
        login = self._logins.get(conn)
        if login is None:
            return ()
        if message.get("table") == "order":
            return self._pushed(message.get("data"))
        match message.get("event"):
            case "login":
                return self._logged_in(conn, login, message, now)
            case "subscribe":
                return self._subscribed(conn, login, message, now)
            case "cancelorder" | "cancelorders" | "CANCEL":
                return (*self._cancel_reply(message, now), *self._login_ended(conn, message))
            case "AMEND":
                return ()  # somebody's change of an order came too late
            case _ if "nonce" in message or message.get("event") == "Welcome":
                return self._log_in(conn, login, now)
            case _ if message.get("table") in ("position", "balance"):
                return ()
            case _ if message.get("success") is False:
                return (Noise(self.words(plain(message.get("code", "")), message.get("message", ""))),)
            case _:
                return (Noise("a message that no document explains"),)

    def _log_in(self, conn: int, login: _Login, now: Now) -> Outputs:
        if login.step != "greeting":
            return ()
        login.step, login.sent_ns = "login", now.wall_ns
        stamp = str(self.venue_ms(now))
        data = {"apiKey": self._key, "timestamp": stamp, "signature": self._hmac(f"{stamp}GET/auth/self/verify")}
        return (Send(conn, orjson.dumps({"op": "login", "tag": 1, "data": data})),)

    def _logged_in(self, conn: int, login: _Login, message: dict[str, Any], now: Now) -> Outputs:
        if login.step != "login":
            return (Noise("a login answer that nobody waits for"),)
        stamp = plain(message.get("timestamp", ""))
        at_ns = int(stamp) * 1_000_000 if stamp.isascii() and stamp.isdigit() and len(stamp) == MS_DIGITS else 0
        granted, code = message.get("success") is True, plain(message.get("code", ""))
        late = not granted and code == WRONG_TIME
        told = self.server_time(at_ns, at_ns + 1_000_000, login.sent_ns, now, refused=late) if at_ns else ()
        if not granted:
            if code == "20005":  # already logged in: a login that we know nothing of went through
                return (*self._subscribe(conn, login), *told)
            words = self.words("login refused:", code, message.get("message", ""))
            return (NotReady(Route.WS, conn, words, fatal=code in KEY_REFUSED), Drop(conn, words), *told)
        return (*self._subscribe(conn, login), *told)

    def _subscribe(self, conn: int, login: _Login) -> Outputs:
        login.step = "subscribe"
        args = ["order:all", "position:all", "balance:all"]
        return (Send(conn, orjson.dumps({"op": "subscribe", "tag": 101, "args": args})),)

    def _subscribed(self, conn: int, login: _Login, message: dict[str, Any], now: Now) -> Outputs:
        granted, channel = message.get("success") is True, plain(message.get("channel", ""))
        words = (plain(message.get("code", "")), message.get("message", ""))
        if channel in ("position:all", "balance:all"):  # the kill does without them
            return () if granted else (Noise(self.words(f"subscription to {channel} refused:", *words)),)
        if not granted:
            why = self.words("subscription refused:", *words)
            return (NotReady(Route.WS, conn, why), Drop(conn, why))
        if login.step != "subscribe" or channel != "order:all":
            return ()
        login.step = "ready"
        return (Ready(Route.WS, conn), WakeAfter(f"ping {conn}", PING_EVERY_S), *self.begin_pushes(conn, now))

    def _pushed(self, data: object) -> Outputs:
        if not isinstance(data, list):
            return (Noise("an order push without a list"),)
        seen: list[Output] = []
        for item in data:
            order = _order(item)
            if order is None:
                seen.append(Noise("an order push that cannot be read"))
            elif item.get("notice") == "OrderClosed":
                self._cancelled += order.status.startswith("CANCELED") and order.status != "CANCELED_BY_AMEND"
                seen.extend(self.push_order(order._replace(life=Life.GONE)))
            else:
                seen.extend(self.push_order(order, opened=item.get("notice") == "OrderOpened"))
        return tuple(seen)

    def _cancel_reply(self, message: dict[str, Any], now: Now) -> Outputs:
        tag = plain(message.get("tag", ""))
        if tag.startswith(DRILL):
            return self.drilled(tag, *self._not_there(message), now)
        if message.get("submitted") is True:
            return ()  # accepted by the gateway; the order's own push or a read says when it is gone
        code = plain(message.get("code", ""))
        data = message.get("data")
        if isinstance(data, dict):
            self.cancel_refused(plain(data.get("orderId", "")), plain(data.get("marketCode")))
            if code in NOTHING_RESTING:
                return ()
        return (Noise(self.words("cancel refused:", code, message.get("message", ""))),)

    def _login_ended(self, conn: int, message: dict[str, Any]) -> Outputs:
        """Give a connection up whose login the venue no longer knows: it would hear no push, and never say so."""
        code = plain(message.get("code", ""))
        if code not in LOGIN_ENDED:
            return ()
        why = self.words("the login has ended:", code, message.get("message", ""))
        return (NotReady(Route.WS, conn, why), Drop(conn, why))

    def _conn(self) -> int | None:
        """The newest connection that is logged in and subscribed."""
        return max((conn for conn, login in self._logins.items() if login.step == "ready"), default=None)

    def _hmac(self, text: str) -> str:
        signer = self._signer.copy()
        signer.update(text.encode())
        return base64.b64encode(signer.digest()).decode()


class _Signable(NamedTuple):
    form: Form
    text: str  # what is signed of it, behind the time and the nonce


@lru_cache(maxsize=4)
def _stamp(venue_s: int) -> str:
    """Write a venue's time as its signatures have it; that of all accounts is the same one for a second."""
    return datetime.fromtimestamp(venue_s, UTC).isoformat()[:19]


class _Login:
    """How far one connection has come."""

    __slots__ = ("pinged_ns", "sent_ns", "step")

    def __init__(self) -> None:
        self.step: Literal["greeting", "login", "subscribe", "ready"] = "greeting"
        self.pinged_ns = 0
        self.sent_ns = 0  # when the login went out, on our wall clock


def _worth(data: object) -> Decimal | None:
    """Read what the account is worth in OX; one account only, since the key is bound to one.

    A collateral of zero beside a balance in OX is none: it was not filled in.
    """
    item = data[0] if isinstance(data, list) and len(data) == 1 else None
    worth = amount(item.get("collateral")) if isinstance(item, dict) else None
    if worth or not isinstance(item, dict):
        return worth
    balances = item.get("balances")
    held = [one for one in balances if isinstance(one, dict)] if isinstance(balances, list) else []
    return None if any(one.get("asset") == "OX" and amount(one.get("total")) for one in held) else worth


def _orders(body: dict[str, Any], error: str) -> tuple[list[Order], str]:
    """Read a working-order list: the orders that are not gone, and why there may be more; "": there are none.

    Orders that come beside an `error` count. An entry without an id may be an order, unless it says that it has ended.
    """
    items = body.get("data")
    if not isinstance(items, list):
        return [], error or "the order list cannot be read"
    orders: list[Order] = []
    unreadable = 0
    for item in items:  # there may be thousands
        order = _order(item)
        if order is None:
            unreadable += not (isinstance(item, dict) and plain(item.get("status")) in TERMINAL)
        elif order.life is not Life.GONE:
            orders.append(order)
    lacking = f"the order list cannot be read: {unreadable} of {len(items)} orders" if unreadable else ""
    return orders, error or lacking


def _order(item: object) -> Order | None:
    """Read one order of a list or a push: an unknown status counts as alive."""
    if not isinstance(item, dict):
        return None
    order_id = plain(item.get("orderId"))
    if not order_id:
        return None
    status = plain(item.get("status", ""))
    life = Life.GONE if status in TERMINAL else Life.LIVE
    return Order(order_id, plain(item.get("marketCode", "")), life, status)
