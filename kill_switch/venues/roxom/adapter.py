"""Speak to Roxom: account-wide `cancel-all` over REST, order and position pushes over a WebSocket (docs.roxom.com).

Both generations of its authentication are here. `auth = "api-key"` sends the key alone. `auth = "rsa"` signs
`METHOD:PATH[?QUERY][:SORTED_BODY]` with RSA-2048, PKCS#1 v1.5, SHA-256. There is no time and no nonce in the signed
text, so a request's signature never changes: that of the kill is made at start-up, and costs nothing when it counts.

The reply to `cancel-all` may name orders that are only pending, and still fill: only reads of every instrument type
prove an account clear. What the reply does not name but we know of is cancelled one by one. An order that a push has
shown alive, or whose cancel was refused, and that no list shows is looked up by its id: "Order Not Found" is its end.

A list covers the orders of one instrument type; that it has more than one page is not documented. Whether it has the
stop-loss and take-profit orders of positions is not documented either: where positions are read, for a trigger's
figures, the orders that they name count as seen alive.

The WebSocket carries no command: a drill has only the HTTP lane to try. What an account is worth, and what is a
transfer, `roxom_worth` says.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import field_validator

from kill_switch.core.domain import Answer, Life, Now, Order, Pace, Route
from kill_switch.venues.adapter import DRILL, LOOK_UP, Adapter, Ask
from kill_switch.venues.decode import header, parse, plain
from kill_switch.venues.messages import (
    CancelAnswered,
    Drilled,
    Drop,
    Noise,
    NotReady,
    Outputs,
    Ready,
    Replied,
    Send,
    WakeAfter,
)
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.readback import ReadBack
from kill_switch.venues.request import Request
from kill_switch.venues.roxom.equity import QUIET_S, Reads, Worth
from kill_switch.venues.roxom.replies import read_attached, read_positions, read_symbols

InstType = Literal["perpetual", "spot", "btc", "digital", "stock", "index"]
ALL_TYPES: tuple[InstType, ...] = ("perpetual", "spot", "btc", "digital", "stock", "index")
ACK_WITHIN_S = 3.0  # the shape of the subscription's answer is not documented: silence without an error will do
SINGLES_PER_STRIKE = 20  # each costs a signature of 0.3 ms, and the venue's rate limit is not documented
TERMINAL = frozenset({"filled", "cancelled", "partiallyfilledcancelled", "rejected", "expired"})
INACTIVE = "inactive"  # documented without a meaning: the end of an order only where no list shows that as open
NOT_FOUND = "order not found"
NOTHING_RESTING = (NOT_FOUND, "cannot cancel")  # titles of the documented reasons; a clean read must follow
NO_ORDER = "ffffffff-ffff-7fff-bfff-ffffffffffff"  # a UUIDv7 of the year 10889
MEASURE_TRIES = 3  # to read a balance that the balance events tell of; then it counts as it is
BALANCE = "balance"


class Roxom(Adapter):
    """One account at Roxom."""

    NAME = "roxom"
    LIMIT: ClassVar[tuple[int, float] | None] = (
        300,
        60.0,
    )  # of one key; none is documented: it makes two reads a second
    PACE = Pace(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5)
    CURRENCIES: ClassVar[tuple[str, ...]] = ("BTC",)
    SCOPE: ClassVar[tuple[str, ...]] = ("inst_types",)
    DRILLS: ClassVar[tuple[Route, ...]] = (Route.HTTP,)

    class Options(VenueOptions):
        ws_url: str = "wss://ws.roxom.com/ws"
        rest_url: str = "https://api.roxom.com"
        auth: Literal["rsa", "api-key"] = "rsa"
        path_prefix: str = "/api/v1"  # "/v1" in the newest pages; it is part of what is signed
        inst_types: tuple[InstType, ...] = ALL_TYPES  # read back one by one; fewer is faster, and sees less

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

    @classmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        return ("api_key", "private_key") if getattr(options, "auth", "rsa") == "rsa" else ("api_key",)

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        assert isinstance(options, Roxom.Options)  # noqa: S101 - the registry pairs them
        self._key = header("api_key", secrets["api_key"])
        self._signer = _load_key(secrets["private_key"]) if options.auth == "rsa" else None
        self._prefix = options.path_prefix
        self._ws_path = "/" + options.ws_url.split("://", 1)[1].partition("/")[2]
        self._cancel_all = self._request("POST", f"{self._prefix}/orders/cancel-all")
        self._lists: dict[str, Request] = {
            kind: self._request("GET", f"{self._prefix}/orders?instType={kind}") for kind in options.inst_types
        }
        self._upgrade = self._headers(f"GET:{self._ws_path}")
        for request in (self._cancel_all, *self._lists.values()):
            _ = request.wire  # made now, so that the kill only writes
        self._drill = self._request("POST", f"{self._prefix}/orders/{NO_ORDER}/cancel")
        self._quotes: dict[str, Request] = {}  # requests for figures: they are signed once, too
        self.lists = options.inst_types
        self._sessions: dict[int, bool] = {}  # connection → ready
        self._worth = Worth()
        self._symbols: tuple[str, ...] = ()  # that positions can be held in
        self._measures = 0
        self._measuring: Reads | None = None
        self._tries: dict[str, int] = {}  # how often an order's own cancel was sent, by id

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def first(self, now: Now) -> Request:
        return self._cancel_all

    def kill(self, now: Now) -> Outputs:
        return self.ask(
            "cancel-all", self._build_cancel_all, now, urgent=True, cancel=True, hedge_after_s=self.hedge_after_s
        )

    def read(self, now: Now) -> Outputs:
        return self._read(now, urgent=True)

    def _read(self, now: Now, *, urgent: bool) -> Outputs:
        read = ReadBack(now.mono_ns, set(self._lists), urgent)
        return tuple(output for kind in self._lists for output in self._list(kind, read, now))

    def order_request(self, order_id: str) -> Callable[[Now], Request]:
        target = f"{self._prefix}/orders/{quote(order_id, safe='')}"
        return _same(self._request("GET", target))

    def refresh(self, now: Now) -> Outputs:
        return self._read(now, urgent=False)

    def probe(self, now: Now) -> Outputs:
        calls = (self.ask("probe", _same(self._lists[kind]), now, context=kind) for kind in self.lists_due())
        return tuple(output for outputs in calls for output in outputs)

    def upgrade_headers(self, now: Now) -> Mapping[str, str]:
        return self._upgrade

    def plan(self) -> tuple[str, ...]:
        return (f"POST {self._cancel_all.target}",)

    def drill(self, now: Now) -> Outputs:
        """Cancel an order that cannot exist."""
        return self.drill_call(_same(self._drill), now)

    def measure(self, now: Now) -> Outputs:
        """Read the balance, and the positions there are; at first, and after a gap in the events, of every symbol."""
        if not any(self._sessions.values()):
            return ()  # without the events nobody knows whether the figures belong together
        if not self._symbols:
            return self.ask("symbols", self._figures("/market/instruments"), now)
        return self._measure(now, MEASURE_TRIES)

    def _measure(self, now: Now, tries: int) -> Outputs:
        every = not self._worth.known
        symbols = self._symbols if every else sorted(self._worth.symbols)
        self._measures += 1
        reads = self._measuring = Reads(now.mono_ns, {BALANCE, *symbols}, every, tries - 1)
        calls = self.ask("figure", self._figures("/accounts/balance?unit=sats"), now, context=(BALANCE, reads))
        for symbol in symbols:
            target = f"/positions?instType=perpetual&symbol={quote(symbol, safe='')}&unit=sats"
            calls += self.ask("figure", self._figures(target), now, context=(symbol, reads))
        return calls

    def _figures(self, target: str) -> Callable[[Now], Request]:
        request = self._quotes.get(target)
        if request is None:
            request = self._quotes[target] = self._request("GET", f"{self._prefix}{target}")
        return _same(request)

    def _build_cancel_all(self, now: Now) -> Request:
        return self._cancel_all

    def _list(self, kind: str, read: ReadBack, now: Now) -> Outputs:
        build, hedge_after_s = _same(self._lists[kind]), 4 * self.hedge_after_s
        return self.ask("orders", build, now, urgent=read.urgent, hedge_after_s=hedge_after_s, context=(kind, read))

    def _singles(self, named: set[str], now: Now) -> Outputs:
        """Cancel one by one what we know of and the venue did not name: what was tried least often first."""
        unlisted = self.unproven  # before the others: a cancel-all that names neither has not covered these
        others = (order for one, order in self.book.items() if one not in unlisted)
        orders = chain(unlisted.values(), others)
        live = (order.id for order in orders if order.life is Life.LIVE and order.id not in named)
        ids = list(filter(_is_uuid, live))  # they go into the path: nothing else may
        self._tries = {one: self._tries.get(one, 0) for one in ids}
        calls: Outputs = ()
        for order_id in sorted(ids, key=self._tries.__getitem__)[:SINGLES_PER_STRIKE]:
            self._tries[order_id] += 1
            request = self._request("POST", f"{self._prefix}/orders/{order_id}/cancel")
            build = _same(request)
            calls = (*calls, *self.ask("cancel-one", build, now, urgent=True, command=True, context=order_id))
        return calls

    def _request(self, method: str, target: str) -> Request:
        return Request(method, target, {"Host": self.host, **self._headers(f"{method}:{target}")})

    def _headers(self, payload: str) -> dict[str, str]:
        """Sign `payload`, which is a request without a body (Authentication, payload format)."""
        headers = {"X-API-Key": self._key, "Content-Type": "application/json"}
        if self._signer is not None:
            signature = self._signer.sign(payload.encode(), padding.PKCS1v15(), hashes.SHA256())
            headers["X-API-Signature"] = base64.b64encode(signature).decode()
        return headers

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, ask: Ask, reply: Replied, now: Now) -> Outputs | None:
        body = parse(reply.body)
        if reply.status >= 500 or not isinstance(body, dict):
            return None
        error = self._error(reply.status, body)
        if ask.kind == DRILL:
            return (self._drill_answered(reply, body, error),)
        match ask.kind:
            case "cancel-all":
                return self._cancel_all_answered(reply.status, body, error, now, alone=ask.alone)
            case "cancel-one":
                data = body.get("data")
                if error is None and isinstance(data, dict) and data.get("success") is False:
                    error = "HTTP 200, success false"
                if error is None:
                    return ()  # said to be on its way; a read will tell
                self.cancel_refused(ask.context)
                if any(text in error.lower() for text in NOTHING_RESTING):
                    return ()
                return (Noise(f"cancel of one order refused: {error}"),)
            case "orders":
                kind, read = ask.context
                orders, why = _orders(body, kind, error)
                return self.take_list(read, kind, orders, f"{kind}: {why}" if why else "", now)
            case kind if kind == LOOK_UP:
                return self._order_answered(ask, reply.status, body, error)
            case "symbols":
                self._symbols = (read_symbols(body.get("data")) or ()) if error is None else ()
                if not self._symbols:
                    return (Noise(f"the account cannot be measured: {error or 'no instruments can be read'}"),)
                return self._measure(now, MEASURE_TRIES)
            case "figure":
                part, reads = ask.context
                return self._figure_read(part, reads, body.get("data") if error is None else None, error)
            case _:
                orders, why = _orders(body, ask.context, error)
                seen = self.show_part(ask.context, orders, ask.asked_ns, whole=not why)
                if why:
                    return (NotReady(Route.HTTP, 0, why, fatal=reply.status in (401, 403)), *seen)
                return (Ready(Route.HTTP, 0), *seen, *self.look_over(now))

    def _drill_answered(self, reply: Replied, body: dict[str, Any], error: str | None) -> Drilled:
        """Judge a drill: "not found" is the answer of a venue that has looked."""
        data = body.get("data")
        taken = error is None and isinstance(data, dict) and data.get("success") is True
        found = error is not None and any(text in error.lower() for text in NOTHING_RESTING)
        ok = taken or (found and reply.status not in (401, 403, 429))
        return Drilled(Route.HTTP, ok, reply.rtt_us, error or ("accepted" if taken else "HTTP 200, success false"))

    def _figure_read(self, part: str, reads: Reads, data: object, error: str | None) -> Outputs:
        if reads is not self._measuring:
            return ()
        if part == BALANCE:
            why = error or self._worth.balances_read(data, reads)
        else:
            positions = read_positions(data, part, reads.began_ns)
            reads.found[part] = positions or {}
            why = error or ("the answer cannot be read" if positions is None else "")
        if why:
            self._measuring = None
            if error and part != BALANCE:
                self._symbols = ()  # it may not be traded any more
            return (Noise(self.words(f"the account cannot be measured: {part}: {why}")),)
        reads.missing.discard(part)
        attached = [Order(one, symbol, Life.LIVE, "attached") for one, symbol in read_attached(data)]
        seen = tuple(output for order in attached for output in self.claim_order(order))
        return seen if reads.missing else (*seen, WakeAfter(f"measured {self._measures}", QUIET_S))

    def _measured(self, number: int, now: Now) -> Outputs:
        """Tell what the account is worth; read it all again if it is unknown which fills the balance has in it."""
        reads = self._measuring
        if reads is None or number != self._measures:
            return ()
        if wait_s := self._worth.wait_s(reads, now):
            return (WakeAfter(f"measured {number}", wait_s),)
        self._measuring = None
        if reads.tries and not self._worth.placed(reads, now):
            return self._measure(now, reads.tries)
        return self._worth.settle(reads, now)

    def _cancel_all_answered(
        self, status: int, body: dict[str, Any], error: str | None, now: Now, *, alone: bool
    ) -> Outputs:
        if error is not None and {status, _number(body.get("error"))} & {401, 403, 429}:
            return (CancelAnswered(Answer.UNKNOWN if status == 429 else Answer.REFUSED, error),)
        if error is not None:  # of what it covers; whether that has stop orders is not documented
            return (CancelAnswered(Answer.REFUSED, error), *self._singles(set(), now))
        data = body.get("data")
        named = data.get("cancelledOrderIds") if isinstance(data, dict) else None
        if not isinstance(named, list):
            unknown = CancelAnswered(Answer.UNKNOWN, "accepted, without the list of cancelled orders")
            return (unknown, *self._singles(set(), now))
        ids = {plain(order_id) for order_id in named} - {""}
        self.name_cancelled(ids, all_of_them=alone)
        accepted = CancelAnswered(Answer.ACCEPTED, f"{len(ids)} order(s) named as cancelled", len(ids))
        return (accepted, *self._singles(ids, now))

    def _order_answered(self, ask: Ask, status: int, body: dict[str, Any], error: str | None) -> Outputs:
        """Take one order by its id; only "Order Not Found" says that the venue has none of that id."""
        if error is not None:
            _, order_id = ask.context
            forgotten = NOT_FOUND in error.lower() and status not in (401, 403, 429)
            return self.looked_up(ask, Order(order_id, "", Life.GONE, NOT_FOUND) if forgotten else None, error)
        data = body.get("data")
        order = _order(data.get("order"), "id", "status") if isinstance(data, dict) else None
        if order is None or order.id != ask.context[1]:
            return self.looked_up(ask, None, "the answer cannot be read")
        return self.looked_up(ask, order._replace(life=Life.GONE) if order.status == INACTIVE else order)

    def _error(self, status: int, body: dict[str, Any]) -> str | None:
        """Return the venue's refusal in words; None if it says success: HTTP 200, and `error` absent, false or null."""
        error = body.get("error")
        if status == 200 and (error is None or error is False):
            return None
        if isinstance(error, dict):
            return self.words(f"HTTP {status}:", plain(error.get("code", "")), error.get("message", ""))
        return self.words(f"HTTP {status}:", body.get("message") or error)

    def unanswered(self, ask: Ask, why: str, now: Now) -> Outputs:
        match ask.kind:
            case "cancel-all":
                return (CancelAnswered(Answer.UNKNOWN if ask.sent else Answer.UNSENT, why),)
            case "cancel-one" | "symbols" | "figure":
                return ()  # a read tells; and the lanes say what is wrong with them
            case "orders":
                kind, read = ask.context
                return self.take_list(read, kind, (), f"{kind}: {why}", now)
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, route: Route, conn: int, now: Now) -> Outputs:
        if route is not Route.WS:
            lists = self._read(now, urgent=False)
            return (*self.probe(now), *lists)
        self._sessions[conn] = False
        args = [{"channel": name} for name in ("orders", "positions", "balance", "account")]
        return (Send(conn, orjson.dumps({"op": "subscribe", "args": args})), WakeAfter(f"ack {conn}", ACK_WITHIN_S))

    def closed(self, route: Route, conn: int, why: str, now: Now) -> Outputs:
        if route is Route.WS:
            self._sessions.pop(conn, None)
            if not any(self._sessions.values()):
                self._worth.lost()
                self._measuring = None
        return (NotReady(route, conn, why),)

    def woke(self, tag: str, now: Now) -> Outputs:
        what, _, number = tag.partition(" ")
        return self._measured(int(number), now) if what == "measured" else self._ready(int(number), now)

    def received(self, conn: int, message: dict[str, Any], now: Now) -> Outputs:
        if conn not in self._sessions:
            return ()
        data, kind = message.get("data"), message.get("type")
        if kind is None and isinstance(data, dict):
            kind = data.get("type")  # the documents' own client looks for it there
        match message.get("event"), kind:
            case "error", _:
                return self._refused(conn, message)
            case "subscribe", _:
                return self._ready(conn, now)
            case _, "order":
                order = _order(data, "orderId", "status")
                if order is None:
                    return (Noise("an order push that cannot be read"),)
                return (*self._ready(conn, now), *self.push_order(order))
            case _, "position":
                readable = self._worth.positions_pushed(data, now)
                noise = () if readable else (Noise("a position push that cannot be read"),)
                return (*self._ready(conn, now), *noise)
            case _, "balance":
                return (*self._ready(conn, now), *self._worth.balance_pushed(data, now))
            case _, "account" | "snapshot" | "delta":
                return self._ready(conn, now)
            case _:
                return (Noise("a message that no document explains"),)

    def _refused(self, conn: int, message: dict[str, Any]) -> Outputs:
        code = plain(message.get("code", ""))
        words = self.words(code, message.get("msg", ""))
        if code == "600010":  # authentication failed
            return (NotReady(Route.WS, conn, words, fatal=True), Drop(conn, words))
        if code in ("60014", "60016", "60017", "60019") and not self._sessions[conn]:
            return (NotReady(Route.WS, conn, words), Drop(conn, words))
        return (Noise(words),)

    def _ready(self, conn: int, now: Now) -> Outputs:
        if self._sessions.get(conn, True):
            return ()
        self._sessions[conn] = True
        return (Ready(Route.WS, conn), *self.begin_pushes(conn, now))


def _load_key(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("private_key is not an unencrypted PEM private key") from None  # nothing of it is shown
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("private_key is not an RSA key")
    if key.key_size < 2048:
        raise ValueError("private_key is shorter than 2048 bits")
    return key


def _orders(body: dict[str, Any], kind: str, error: str | None) -> tuple[list[Order], str]:
    """Read an order list: the orders that are not gone, and why there may be more; "": there are none.

    Orders that come beside an `error` count. An entry without an id may be an order, unless it says that it has ended.
    """
    data = body.get("data")
    items = data.get("orders") if isinstance(data, dict) else None
    if not isinstance(items, list):
        return [], error or f"the {kind} list cannot be read"
    orders: list[Order] = []
    unreadable = 0
    for item in items:  # there may be thousands
        order = _order(item, "id", "status")
        if order is None:
            unreadable += not (isinstance(item, dict) and _state(item.get("status"))[1] is Life.GONE)
        elif order.life is not Life.GONE:
            orders.append(order)
    lacking = f"the {kind} list cannot be read: {unreadable} of {len(items)} orders" if unreadable else ""
    return orders, error or lacking


def _order(item: object, id_key: str, status_key: str) -> Order | None:
    """Read one order; an unknown status counts as alive."""
    order_id = plain(item.get(id_key)) if isinstance(item, dict) else ""
    if not isinstance(item, dict) or not order_id:
        return None
    status, life = _state(item.get(status_key))
    return Order(order_id, plain(item.get("symbol", "")), life, status)


def _state(told: object) -> tuple[str, Life]:
    status = plain(told).lower().replace("_", "").replace("canceled", "cancelled")
    return status, Life.GONE if status in TERMINAL else Life.PENDING if status == "pendingcancel" else Life.LIVE


def _number(error: object) -> object:
    """Return an error's number, which is the error itself or its `code`: errors may come with HTTP 200."""
    code = error.get("code") if isinstance(error, dict) else error
    return code if isinstance(code, int) else None


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and all(c in "0123456789abcdefABCDEF-" for c in text)


def _same(request: Request) -> Callable[[Now], Request]:
    return lambda now: request
