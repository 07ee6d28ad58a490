"""Speak to OX.FUN: a WebSocket that logs in by HMAC, and signed REST calls (docs.ox.fun, API v2 WebSocket and v3 REST).

A strike is REST `DELETE /v3/orders/cancel-all` for the whole account and, beside it, WebSocket `cancelorders` batches
for the orders that are known. Both only queue: an order is gone when `GET /v3/orders/working` no longer shows it, on
two reads at least 250 ms apart. An API key is bound to one sub-account; each needs an account of its own here.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from kill_switch.domain import Answer, Life, Now, Order, Pace, Route
from kill_switch.venues.base import (
    Adapter,
    Ask,
    CancelAnswered,
    Drop,
    Noise,
    NotReady,
    OrdersRead,
    Output,
    Outputs,
    Ready,
    Replied,
    Request,
    RoundTrip,
    Send,
    VenueOptions,
    WakeAfter,
    header,
    parse,
    plain,
)

GREETING_WITHIN_S = 0.5  # log in regardless after that: the greeting is inferred, not documented
PING_EVERY_S = 15.0  # the venue wants a "ping" a minute at least
PONG_WITHIN_S = 5.0
BATCH_ORDERS = 20  # "Cancel Batch Orders": about twenty orders a message
BATCH_BYTES = 3800  # below the message length that error 20027 is for
NEW_KILL_AFTER_S = 10.0  # a sweep, and its guard, read back more often than that
ID_DIGITS = 19  # what fits the 64 bits of an INTEGER
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
    }
)
NOTHING_RESTING = frozenset({"100004", "100005", "40035"})  # the order is gone already; a clean read must still say so
KEY_REFUSED = frozenset({"05001", "20000", "20025"})  # fatal for the key
TRY_AGAIN = frozenset({"20032", "000101", "000201", "10001", "50001"})  # says nothing of the command
TOO_FAST = frozenset({"429", "20007"})


class OxFun(Adapter):
    """One sub-account at OX.FUN."""

    NAME = "oxfun"
    PACE = Pace(clean_reads=2, read_after_s=0.025, read_gap_s=0.25, strike_gap_s=0.5)

    class Options(VenueOptions):
        ws_url: str = "wss://api.ox.fun/v2/websocket"
        rest_url: str = "https://api.ox.fun"

    @classmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        self._key = header("api_key", secrets["api_key"])
        port = urlsplit(options.rest_url).port
        self._signed_host = self.host.removesuffix(f":{port}") if port else self.host
        try:
            self._secret = secrets["api_secret"].encode()
        except UnicodeEncodeError:
            raise ValueError("api_secret is not text") from None  # nothing of it is shown
        self._nonce = 0
        self._strike = 0
        self._cancelled = 0  # pushes of cancelled orders since the last read-back of a sweep
        self._read_ns = 0
        self._logins: dict[int, _Login] = {}

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def kill(self, now: Now) -> Outputs:
        self._strike += 1
        if now.mono_ns - self._read_ns > NEW_KILL_AFTER_S * 1e9:
            self._cancelled = 0  # what was cancelled before is not the kill's doing
        everything = self.ask(
            "cancel-all", self._cancel_all, now, urgent=True, cancel=True, hedge_after_s=self.hedge_after_s
        )
        conn = self._conn()
        if conn is None:
            return everything
        orders = [order for order in self.book.values() if order.life is Life.LIVE]
        return (*everything, *(Send(conn, text, urgent=True) for text in self._batches(orders)))

    def read(self, now: Now) -> Outputs:
        self._read_ns = now.mono_ns
        return self.ask("orders", self._working, now, urgent=True, hedge_after_s=4 * self.hedge_after_s)

    def probe(self, now: Now) -> Outputs:
        return self.ask("probe", self._working, now)

    def _cancel_all(self, now: Now) -> Request:
        # "cancel-all" with the body {} and no marketCode: the whole account
        return self._signed("DELETE", "/v3/orders/cancel-all", "", b"{}", now)

    def _working(self, now: Now) -> Request:
        return self._signed("GET", "/v3/orders/working", "", b"", now)

    def _signed(self, method: str, path: str, query: str, body: bytes, now: Now) -> Request:
        """Sign `Timestamp \\n Nonce \\n VERB \\n host \\n path \\n payload` (REST API V3, Authentication)."""
        self._nonce = max(self._nonce + 1, now.wall_ms)  # never the same twice: its uniqueness rule is unknown
        stamp = datetime.fromtimestamp(now.wall_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        payload = query if method == "GET" else body.decode()
        text = f"{stamp}\n{self._nonce}\n{method}\n{self._signed_host}\n{path}\n{payload}"
        headers = {
            "Host": self.host,
            "AccessKey": self._key,
            "Timestamp": stamp,
            "Nonce": str(self._nonce),
            "Signature": self._hmac(text),
            "Content-Type": "application/json",
        }
        return Request(method, f"{path}?{query}" if query else path, headers, body)

    def _batches(self, orders: Iterable[Order]) -> Iterable[bytes]:
        """Pack `cancelorders` messages: at most twenty orders, and short enough for the venue, each."""
        tag = b'{"op":"cancelorders","tag":"k%d","dataArray":[' % self._strike
        batch: list[bytes] = []
        size, made = len(tag), 0
        for order in orders:
            if not (order.id.isascii() and order.id.isdigit() and len(order.id) <= ID_DIGITS):
                continue  # `orderId` is an INTEGER; one bad id must not spoil the batch, let alone the kill
            item = orjson.dumps({"marketCode": order.symbol, "orderId": int(order.id)})
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
        words = f"HTTP {reply.status}" + ("" if success else f" {code} {self.words(body.get('message', ''))}")
        match ask.kind:
            case "cancel-all":
                return (self._cancel_all_answered(body, reply.status, code, words),)
            case "orders":
                if not success or reply.status != 200:
                    return (OrdersRead((), False, ask.asked_ns, words),)
                orders = _orders(body.get("data"))
                if orders is None:
                    return (OrdersRead((), False, ask.asked_ns, "the order list cannot be read"),)
                self.replace_book(orders)
                cancelled, self._cancelled = self._cancelled, 0
                return (OrdersRead(orders, True, ask.asked_ns, cancelled=cancelled or None),)
            case _:
                if not success or reply.status != 200:
                    return (NotReady(Route.HTTP, 0, words, fatal=code in KEY_REFUSED),)
                orders = _orders(body.get("data"))
                if orders is None:
                    return (NotReady(Route.HTTP, 0, "the order list cannot be read"),)
                self.replace_book(orders)
                return (Ready(Route.HTTP, 0), OrdersRead(orders, True, ask.asked_ns))

    def _cancel_all_answered(self, body: dict[str, Any], status: int, code: str, words: str) -> CancelAnswered:
        if status == 200 and body["success"]:
            data = body.get("data")
            notice = data.get("notice") if isinstance(data, dict) else None
            return CancelAnswered(Answer.ACCEPTED, self.words(notice or "accepted"))
        if status == 429 or code in TOO_FAST:
            return CancelAnswered(Answer.UNKNOWN, words)
        return CancelAnswered(Answer.REFUSED, words)

    def unanswered(self, ask: Ask, why: str, now: Now) -> Outputs:
        match ask.kind:
            case "cancel-all":
                return (CancelAnswered(Answer.UNKNOWN if ask.sent else Answer.UNSENT, why),)
            case "orders":
                return (OrdersRead((), False, ask.asked_ns, why),)
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
                return self._logged_in(conn, login, message)
            case "subscribe":
                return self._subscribed(conn, login, message)
            case "cancelorder" | "cancelorders" | "CANCEL":
                return self._cancel_reply(message)
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
        login.step = "login"
        stamp = str(now.wall_ms)
        data = {"apiKey": self._key, "timestamp": stamp, "signature": self._hmac(f"{stamp}GET/auth/self/verify")}
        return (Send(conn, orjson.dumps({"op": "login", "tag": 1, "data": data})),)

    def _logged_in(self, conn: int, login: _Login, message: dict[str, Any]) -> Outputs:
        if login.step != "login":
            return (Noise("a login answer that nobody waits for"),)
        if message.get("success") is not True:
            code = plain(message.get("code", ""))
            if code == "20005":  # already logged in: a login that we know nothing of went through
                return self._subscribe(conn, login)
            words = self.words("login refused:", code, message.get("message", ""))
            return (NotReady(Route.WS, conn, words, fatal=code in KEY_REFUSED), Drop(conn, words))
        return self._subscribe(conn, login)

    def _subscribe(self, conn: int, login: _Login) -> Outputs:
        login.step = "subscribe"
        args = ["order:all", "position:all", "balance:all"]
        return (Send(conn, orjson.dumps({"op": "subscribe", "tag": 101, "args": args})),)

    def _subscribed(self, conn: int, login: _Login, message: dict[str, Any]) -> Outputs:
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
        return (Ready(Route.WS, conn), WakeAfter(f"ping {conn}", PING_EVERY_S))

    def _pushed(self, data: object) -> Outputs:
        if not isinstance(data, list):
            return (Noise("an order push without a list"),)
        seen: list[Output] = []
        for item in data:
            order = _order(item)
            if order is None:
                seen.append(Noise("an order push that cannot be read"))
            elif item.get("notice") == "OrderClosed":
                self.book.pop(order.id, None)
                self._cancelled += order.status.startswith("CANCELED")
            else:
                seen.extend(self.push_order(order))
        return tuple(seen)

    def _cancel_reply(self, message: dict[str, Any]) -> Outputs:
        if message.get("submitted") is True:
            return ()  # accepted by the gateway; the order's own push or a read says when it is gone
        code = plain(message.get("code", ""))
        data = message.get("data")
        if code in NOTHING_RESTING and isinstance(data, dict):
            self.book.pop(plain(data.get("orderId", "")), None)
            return ()
        return (Noise(self.words("cancel refused:", code, message.get("message", ""))),)

    def _conn(self) -> int | None:
        """The newest connection that is logged in and subscribed."""
        return max((conn for conn, login in self._logins.items() if login.step == "ready"), default=None)

    def _hmac(self, text: str) -> str:
        return base64.b64encode(hmac.digest(self._secret, text.encode(), "sha256")).decode()


class _Login:
    """How far one connection has come."""

    __slots__ = ("pinged_ns", "step")

    def __init__(self) -> None:
        self.step: Literal["greeting", "login", "subscribe", "ready"] = "greeting"
        self.pinged_ns = 0


def _orders(data: object) -> tuple[Order, ...] | None:
    """Read a working-order list; None if any of it cannot be read: an order must not be missed."""
    if not isinstance(data, list):
        return None
    orders = [_order(item) for item in data]
    return None if None in orders else tuple(order for order in orders if order is not None and _counts(order))


def _counts(order: Order) -> bool:
    return order.life is not Life.GONE


def _order(item: object) -> Order | None:
    """Read one order of a list or a push: an unknown status counts as alive."""
    order_id = plain(item.get("orderId")) if isinstance(item, dict) else ""
    if not isinstance(item, dict) or not order_id:
        return None
    status = plain(item.get("status", ""))
    return Order(
        id=order_id,
        symbol=plain(item.get("marketCode", "")),
        life=Life.GONE if status in TERMINAL else Life.LIVE,
        status=status,
    )
