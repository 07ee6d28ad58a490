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

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route, SweepTiming
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.decode import as_text, header_safe, parse_json
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.readback import LOOK_UP, ReadBack
from kill_switch.venues.messages import (
    CancelAnswered,
    CloseConnection,
    Drilled,
    NotReady,
    Outputs,
    Ready,
    Replied,
    Send,
    UnexplainedMessage,
    WakeAfter,
)
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.request import Request
from kill_switch.venues.roxom.equity import QUIET_S, EquityRead, EquityTracker
from kill_switch.venues.roxom.replies import read_attached, read_positions, read_symbols

InstType = Literal["perpetual", "spot", "btc", "digital", "stock", "index"]
ALL_TYPES: tuple[InstType, ...] = ("perpetual", "spot", "btc", "digital", "stock", "index")
ACK_WITHIN_S = 3.0  # the shape of the subscription's answer is not documented: silence without an error will do
MAX_SINGLES_PER_STRIKE = 20  # each costs a signature of 0.3 ms, and the venue's rate limit is not documented
TERMINAL = frozenset({"filled", "cancelled", "partiallyfilledcancelled", "rejected", "expired"})
INACTIVE = "inactive"  # documented without a meaning: the end of an order only where no list shows that as open
NOT_FOUND = "order not found"
NOTHING_RESTING = (NOT_FOUND, "cannot cancel")  # titles of the documented reasons; a clean read must follow
NO_ORDER = "ffffffff-ffff-7fff-bfff-ffffffffffff"  # a UUIDv7 of the year 10889
MEASURE_TRIES = 3  # to read a balance that the balance events tell of; then it counts as it is
BALANCE = "balance"


class RoxomOptions(VenueOptions):
    """The keys of an account at this venue."""

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


class Roxom(Adapter[RoxomOptions]):
    """One account at Roxom."""

    NAME = "roxom"
    LIMIT: ClassVar[tuple[int, float] | None] = (
        300,
        60.0,
    )  # of one key; none is documented: it makes two reads a second
    TIMING = SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5)
    CURRENCIES: ClassVar[tuple[str, ...]] = ("BTC",)
    SCOPE: ClassVar[tuple[str, ...]] = ("inst_types",)
    DRILLS: ClassVar[tuple[Route, ...]] = (Route.HTTP,)

    Options = RoxomOptions

    @classmethod
    def secrets(cls, options: RoxomOptions) -> tuple[str, ...]:
        return ("api_key", "private_key") if options.auth == "rsa" else ("api_key",)

    def __init__(self, options: RoxomOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        self._key = header_safe("api_key", secrets["api_key"])
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
        self.book.lists = options.inst_types
        self._sessions: dict[int, bool] = {}  # connection → ready
        self._worth = EquityTracker()
        self._symbols: tuple[str, ...] = ()  # that positions can be held in
        self._measures = 0
        self._measuring: EquityRead | None = None
        self.read_backs.order_request = self._order_request
        self._tries: dict[str, int] = {}  # how often an order's own cancel was sent, by id

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def prebuilt_command(self, now: Instant) -> Request:
        return self._cancel_all

    def strike(self, now: Instant) -> Outputs:
        return self.calls.start_call(
            "cancel-all", self._build_cancel_all, now, urgent=True, cancel=True, hedge_after_s=self.hedge_after_s
        )

    def read(self, now: Instant) -> Outputs:
        return self._read(now, urgent=True)

    def _read(self, now: Instant, *, urgent: bool) -> Outputs:
        read = ReadBack(now.mono_ns, set(self._lists), urgent)
        return tuple(output for kind in self._lists for output in self._list(kind, read, now))

    def _order_request(self, order_id: str) -> Callable[[Instant], Request]:
        target = f"{self._prefix}/orders/{quote(order_id, safe='')}"
        return _same(self._request("GET", target))

    def refresh(self, now: Instant) -> Outputs:
        return self._read(now, urgent=False)

    def keep_warm(self, now: Instant) -> Outputs:
        calls = (
            self.calls.start_call("probe", _same(self._lists[kind]), now, context=kind)
            for kind in self.book.lists_due()
        )
        return tuple(output for outputs in calls for output in outputs)

    def upgrade_headers(self, now: Instant) -> Mapping[str, str]:
        return self._upgrade

    def describe_strike(self) -> tuple[str, ...]:
        return (f"POST {self._cancel_all.target}",)

    def drill(self, now: Instant) -> Outputs:
        """Cancel an order that cannot exist."""
        return self.drills.start_call(_same(self._drill), now)

    def request_equity(self, now: Instant) -> Outputs:
        """Read the balance, and the positions there are; at first, and after a gap in the events, of every symbol."""
        if not any(self._sessions.values()):
            return ()  # without the events nobody knows whether the figures belong together
        if not self._symbols:
            return self.calls.start_call("symbols", self._figures("/market/instruments"), now)
        return self._measure(now, MEASURE_TRIES)

    def _measure(self, now: Instant, tries: int) -> Outputs:
        every = not self._worth.known
        symbols = self._symbols if every else sorted(self._worth.symbols)
        self._measures += 1
        reads = self._measuring = EquityRead(now.mono_ns, {BALANCE, *symbols}, every, tries - 1)
        calls = self.calls.start_call(
            "figure", self._figures("/accounts/balance?unit=sats"), now, context=(BALANCE, reads)
        )
        for symbol in symbols:
            target = f"/positions?instType=perpetual&symbol={quote(symbol, safe='')}&unit=sats"
            calls += self.calls.start_call("figure", self._figures(target), now, context=(symbol, reads))
        return calls

    def _figures(self, target: str) -> Callable[[Instant], Request]:
        request = self._quotes.get(target)
        if request is None:
            request = self._quotes[target] = self._request("GET", f"{self._prefix}{target}")
        return _same(request)

    def _build_cancel_all(self, now: Instant) -> Request:
        return self._cancel_all

    def _list(self, kind: str, read: ReadBack, now: Instant) -> Outputs:
        build, hedge_after_s = _same(self._lists[kind]), 4 * self.hedge_after_s
        return self.calls.start_call(
            "orders", build, now, urgent=read.urgent, hedge_after_s=hedge_after_s, context=(kind, read)
        )

    def _singles(self, named: set[str], now: Instant) -> Outputs:
        """Cancel one by one what we know of and the venue did not name: what was tried least often first."""
        unlisted = self.book.unproven  # before the others: a cancel-all that names neither has not covered these
        others = (order for known_id, order in self.book.orders.items() if known_id not in unlisted)
        orders = chain(unlisted.values(), others)
        live = (order.id for order in orders if order.state is OrderState.LIVE and order.id not in named)
        ids = list(filter(_is_uuid, live))  # they go into the path: nothing else may
        self._tries = {known_id: self._tries.get(known_id, 0) for known_id in ids}
        calls: Outputs = ()
        for order_id in sorted(ids, key=self._tries.__getitem__)[:MAX_SINGLES_PER_STRIKE]:
            self._tries[order_id] += 1
            request = self._request("POST", f"{self._prefix}/orders/{order_id}/cancel")
            build = _same(request)
            calls = (
                *calls,
                *self.calls.start_call("cancel-one", build, now, urgent=True, command=True, context=order_id),
            )
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

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        body = parse_json(reply.body)
        if reply.status >= 500 or not isinstance(body, dict):
            return None
        error = self._error(reply.status, body)
        if call.kind == DRILL:
            return (self._drill_answered(reply, body, error),)
        match call.kind:
            case "cancel-all":
                return self._cancel_all_answered(reply.status, body, error, now, alone=call.is_only_copy)
            case "cancel-one":
                data = body.get("data")
                if error is None and isinstance(data, dict) and data.get("success") is False:
                    error = "HTTP 200, success false"
                if error is None:
                    return ()  # said to be on its way; a read will tell
                self.book.note_cancel_refused(call.part)
                if any(text in error.lower() for text in NOTHING_RESTING):
                    return ()
                return (UnexplainedMessage(f"cancel of one order refused: {error}"),)
            case "orders":
                kind, read = call.part
                orders, why = _orders(body, kind, error)
                return self.read_backs.take_list(read, kind, orders, f"{kind}: {why}" if why else "", now)
            case kind if kind == LOOK_UP:
                return self._order_answered(call, reply.status, body, error)
            case "symbols":
                self._symbols = (read_symbols(body.get("data")) or ()) if error is None else ()
                if not self._symbols:
                    return (
                        UnexplainedMessage(f"the account cannot be measured: {error or 'no instruments can be read'}"),
                    )
                return self._measure(now, MEASURE_TRIES)
            case "figure":
                part, reads = call.part
                return self._figure_read(part, reads, body.get("data") if error is None else None, error)
            case _:
                orders, why = _orders(body, call.part, error)
                seen = self.book.apply_probe(call.part, orders, call.asked_ns, whole=not why)
                if why:
                    return (NotReady(Route.HTTP, 0, why, fatal=reply.status in (401, 403)), *seen)
                return (Ready(Route.HTTP, 0), *seen, *self.read_backs.look_over(now))

    def _drill_answered(self, reply: Replied, body: dict[str, Any], error: str | None) -> Drilled:
        """Judge a drill: "not found" is the answer of a venue that has looked."""
        data = body.get("data")
        taken = error is None and isinstance(data, dict) and data.get("success") is True
        was_expected = error is not None and any(text in error.lower() for text in NOTHING_RESTING)
        ok = taken or (was_expected and reply.status not in (401, 403, 429))
        return Drilled(Route.HTTP, ok, reply.rtt_us, error or ("accepted" if taken else "HTTP 200, success false"))

    def _figure_read(self, part: str, reads: EquityRead, data: object, error: str | None) -> Outputs:
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
            return (UnexplainedMessage(self.evidence(f"the account cannot be measured: {part}: {why}")),)
        reads.missing.discard(part)
        attached = [Order(order_id, symbol, OrderState.LIVE, "attached") for order_id, symbol in read_attached(data)]
        seen = tuple(output for order in attached for output in self.book.claim(order))
        return seen if reads.missing else (*seen, WakeAfter(f"measured {self._measures}", QUIET_S))

    def _measured(self, number: int, now: Instant) -> Outputs:
        """Tell what the account is worth; read it all again if it is unknown which fills the balance has in it."""
        reads = self._measuring
        if reads is None or number != self._measures:
            return ()
        if wait_s := self._worth.wait_s(reads, now):
            return (WakeAfter(f"measured {number}", wait_s),)
        self._measuring = None
        if reads.tries and not self._worth.is_placed(reads, now):
            return self._measure(now, reads.tries)
        return self._worth.settle(reads, now)

    def _cancel_all_answered(
        self, status: int, body: dict[str, Any], error: str | None, now: Instant, *, alone: bool
    ) -> Outputs:
        if error is not None and {status, _number(body.get("error"))} & {401, 403, 429}:
            return (CancelAnswered(CancelOutcome.UNKNOWN if status == 429 else CancelOutcome.REFUSED, error),)
        if error is not None:  # of what it covers; whether that has stop orders is not documented
            return (CancelAnswered(CancelOutcome.REFUSED, error), *self._singles(set(), now))
        data = body.get("data")
        named = data.get("cancelledOrderIds") if isinstance(data, dict) else None
        if not isinstance(named, list):
            unknown = CancelAnswered(CancelOutcome.UNKNOWN, "accepted, without the list of cancelled orders")
            return (unknown, *self._singles(set(), now))
        ids = {as_text(order_id) for order_id in named} - {""}
        self.book.note_cancelled(ids, all_of_them=alone)
        accepted = CancelAnswered(CancelOutcome.ACCEPTED, f"{len(ids)} order(s) named as cancelled", len(ids))
        return (accepted, *self._singles(ids, now))

    def _order_answered(self, call: PendingCall, status: int, body: dict[str, Any], error: str | None) -> Outputs:
        """Take one order by its id; only "Order Not Found" says that the venue has none of that id."""
        if error is not None:
            _, order_id = call.part
            forgotten = NOT_FOUND in error.lower() and status not in (401, 403, 429)
            return self.read_backs.looked_up(
                call, Order(order_id, "", OrderState.GONE, NOT_FOUND) if forgotten else None, error
            )
        data = body.get("data")
        order = _order(data.get("order"), "id", "status") if isinstance(data, dict) else None
        if order is None or order.id != call.part[1]:
            return self.read_backs.looked_up(call, None, "the answer cannot be read")
        return self.read_backs.looked_up(
            call, order._replace(state=OrderState.GONE) if order.status == INACTIVE else order
        )

    def _error(self, status: int, body: dict[str, Any]) -> str | None:
        """Return the venue's refusal in words; None if it says success: HTTP 200, and `error` absent, false or null."""
        error = body.get("error")
        if status == 200 and (error is None or error is False):
            return None
        if isinstance(error, dict):
            return self.evidence(f"HTTP {status}:", as_text(error.get("code", "")), error.get("message", ""))
        return self.evidence(f"HTTP {status}:", body.get("message") or error)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        match call.kind:
            case "cancel-all":
                return (CancelAnswered(CancelOutcome.UNKNOWN if call.sent else CancelOutcome.UNSENT, why),)
            case "cancel-one" | "symbols" | "figure":
                return ()  # a read tells; and the lanes say what is wrong with them
            case "orders":
                kind, read = call.part
                return self.read_backs.take_list(read, kind, (), f"{kind}: {why}", now)
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            lists = self._read(now, urgent=False)
            return (*self.keep_warm(now), *lists)
        self._sessions[conn] = False
        args = [{"channel": name} for name in ("orders", "positions", "balance", "account")]
        return (Send(conn, orjson.dumps({"op": "subscribe", "args": args})), WakeAfter(f"ack {conn}", ACK_WITHIN_S))

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        if route is Route.WS:
            self._sessions.pop(conn, None)
            if not any(self._sessions.values()):
                self._worth.lost()
                self._measuring = None
        return (NotReady(route, conn, why),)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        kind, _, number = tag.partition(" ")
        return self._measured(int(number), now) if kind == "measured" else self._ready(int(number), now)

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
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
                    return (UnexplainedMessage("an order push that cannot be read"),)
                return (*self._ready(conn, now), *self.book.apply_push(order))
            case _, "position":
                readable = self._worth.positions_pushed(data, now)
                noise = () if readable else (UnexplainedMessage("a position push that cannot be read"),)
                return (*self._ready(conn, now), *noise)
            case _, "balance":
                return (*self._ready(conn, now), *self._worth.balance_pushed(data, now))
            case _, "account" | "snapshot" | "delta":
                return self._ready(conn, now)
            case _:
                return (UnexplainedMessage("a message that no document explains"),)

    def _refused(self, conn: int, message: dict[str, Any]) -> Outputs:
        code = as_text(message.get("code", ""))
        words = self.evidence(code, message.get("msg", ""))
        if code == "600010":  # authentication failed
            return (NotReady(Route.WS, conn, words, fatal=True), CloseConnection(conn, words))
        if code in ("60014", "60016", "60017", "60019") and not self._sessions[conn]:
            return (NotReady(Route.WS, conn, words), CloseConnection(conn, words))
        return (UnexplainedMessage(words),)

    def _ready(self, conn: int, now: Instant) -> Outputs:
        if self._sessions.get(conn, True):
            return ()
        self._sessions[conn] = True
        return (Ready(Route.WS, conn), *self.read_backs.begin_pushes(conn, now))


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
            unreadable += not (isinstance(item, dict) and _state(item.get("status"))[1] is OrderState.GONE)
        elif order.state is not OrderState.GONE:
            orders.append(order)
    lacking = f"the {kind} list cannot be read: {unreadable} of {len(items)} orders" if unreadable else ""
    return orders, error or lacking


def _order(item: object, id_key: str, status_key: str) -> Order | None:
    """Read one order; an unknown status counts as alive."""
    order_id = as_text(item.get(id_key)) if isinstance(item, dict) else ""
    if not isinstance(item, dict) or not order_id:
        return None
    status, life = _state(item.get(status_key))
    return Order(order_id, as_text(item.get("symbol", "")), life, status)


def _state(reported: object) -> tuple[str, OrderState]:
    status = as_text(reported).lower().replace("_", "").replace("canceled", "cancelled")
    return (
        status,
        OrderState.GONE if status in TERMINAL else OrderState.PENDING if status == "pendingcancel" else OrderState.LIVE,
    )


def _number(error: object) -> object:
    """Return an error's number, which is the error itself or its `code`: errors may come with HTTP 200."""
    code = error.get("code") if isinstance(error, dict) else error
    return code if isinstance(code, int) else None


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and all(c in "0123456789abcdefABCDEF-" for c in text)


def _same(request: Request) -> Callable[[Instant], Request]:
    return lambda now: request
