"""Speak to KUNA: list and batch cancel over REST, order pushes over SocketCluster (docs.kuna.io, API v4).

There is no cancel-all. A strike sends the orders that are known to `cancel/multi` at once and reads the lists beside
it; whatever they show that no call has named yet is cancelled as it comes. All of it ends in one `CancelAnswered`, and
ACCEPTED means: each of these cancels was accepted, or its order had ended, and the lists were read. An error may stand
for a batch whose other orders were cancelled: the next read decides.

`auth = "api-key"` sends one key, and computes nothing when it counts. `auth = "hmac"` signs `PATH?QUERY NONCE BODY`.
The WebSocket knows the single key only. It is push only and carries no cancel; with `ws_login = "none"` it is up once
the session stands, and orders of others show in reads alone.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import orjson
from pydantic import Field, field_validator

from kill_switch.domain import Answer, Life, Now, Order, Pace, Route
from kill_switch.venues.base import (
    Adapter,
    Ask,
    NotReady,
    OrdersRead,
    Outputs,
    Ready,
    Replied,
    Request,
    VenueOptions,
    header,
    parse,
)
from kill_switch.venues.kuna_answers import (
    Body,
    ReadBack,
    Refusal,
    Strike,
    error_of,
    has_ended,
    id_of,
    items_of,
    order_of,
    refusal_of,
)
from kill_switch.venues.kuna_session import Session

PAGE = 100  # the longest list, and the most orders that an account may have open
BATCHES_BEFORE_SINGLE = 2  # an order that rests after so many batches is cancelled by itself
SINGLES_PER_STRIKE = 4
SPLITS_PER_STRIKE = 7  # a batch that is refused as a whole is halved: a hundred orders get as far as eight batches
SMALLEST_BATCH = 20  # a shorter one is not halved
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", re.ASCII)


class Kuna(Adapter):
    """One account at KUNA."""

    NAME = "kuna"
    # 300 requests a minute (inferred): even a sweep that gets nowhere, with 3 to 7 requests a strike and 2 a read, fits
    PACE = Pace(clean_reads=2, read_gap_s=0.8, strike_gap_s=1.0)

    class Options(VenueOptions):
        ws_url: str = "wss://ws-pro.kuna.io/socketcluster/"
        rest_url: str = "https://api.kuna.io"
        auth: Literal["api-key", "hmac"] = "api-key"
        ws_login: Literal["api-key", "none"] = "api-key"  # "none": for an account that has no single key
        account_type: Literal["", "pro"] = ""
        stop_orders: bool = True  # read WaitStop orders too: whether the active list has them is not documented
        since: str = "2014-01-01T00:00:00Z"  # the lists leave out what is older than two weeks by default; "" does so
        batch_orders: int = Field(default=PAGE, ge=1, le=PAGE)  # the venue's most is not documented

        @field_validator("since")
        @classmethod
        def _moment(cls, since: str) -> str:
            if since and not _MOMENT.fullmatch(since):
                raise ValueError('must be a moment such as "2014-01-01T00:00:00Z", or empty')
            return since

    @classmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        signed = getattr(options, "auth", "api-key") == "hmac"
        pair = ("public_key", "api_secret") if signed else ()
        return pair if signed and getattr(options, "ws_login", "api-key") == "none" else (*pair, "api_key")

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        assert isinstance(options, Kuna.Options)  # noqa: S101 - the registry pairs them
        self._headers = {"Host": self.host, "Accept": "application/json", "Content-Type": "application/json"}
        if options.account_type:
            self._headers["account"] = options.account_type
        self._secret: bytes | None = None
        if options.auth == "hmac":
            self._headers["public-key"] = header("public_key", secrets["public_key"])
            self._secret = header("api_secret", secrets["api_secret"]).encode()
        else:
            self._headers["api-key"] = header("api_key", secrets["api_key"])
        self._login = header("api_key", secrets["api_key"]) if options.ws_login == "api-key" else ""
        self._nonce = 0
        query = f"limit={PAGE}&sort=desc" + (f"&start={options.since}" if options.since else "")
        targets = {"active": f"/v4/order/private/active?{query}"}
        if options.stop_orders:
            targets["WaitStop"] = f"/v4/order/private/history?status=WaitStop&{query}"
        self._lists: dict[str, Callable[[Now], Request]] = {
            kind: self._build("GET", target) for kind, target in targets.items()
        }
        self._most = self._batch = options.batch_orders
        self._halving = True  # until it has been in vain
        self._tries: dict[str, int] = {}  # by order: batches that have named it
        self._probed = 0
        self._http_up = False
        self._sessions: dict[int, Session] = {}

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def kill(self, now: Now) -> Outputs:
        strike = Strike()
        calls = self._cancel(strike, self.book, now)
        for kind in self._lists:
            first = not calls  # nothing is known: then the list is what the strike begins with
            calls += self._part("find", self._lists[kind], strike, kind, now, cancel=first)
        return calls

    def read(self, now: Now) -> Outputs:
        return self._read(now, urgent=True)

    def probe(self, now: Now) -> Outputs:
        kind = list(self._lists)[self._probed % len(self._lists)]  # in turn: one cheap call at a time
        self._probed += 1
        return self.ask("probe", self._lists[kind], now, context=kind)

    def _read(self, now: Now, *, urgent: bool) -> Outputs:
        read = ReadBack(now.mono_ns, set(self._lists))
        calls: Outputs = ()
        for kind, build in self._lists.items():
            hedge_after_s = 4 * self.hedge_after_s
            calls += self.ask("orders", build, now, urgent=urgent, hedge_after_s=hedge_after_s, context=(kind, read))
        return calls

    def _cancel(self, strike: Strike, ids: Iterable[str], now: Now) -> Outputs:
        """Cancel what no call of this strike has named yet."""
        fresh = [one for one in ids if one not in strike.named]
        strike.named.update(fresh)
        odd = [one for one in fresh if not _UUID.fullmatch(one) or self._tries.get(one, 0) >= BATCHES_BEFORE_SINGLE]
        odd.sort(key=lambda one: self._tries.get(one, 0))  # each has its turn
        singles = odd[: SINGLES_PER_STRIKE - strike.singles]
        strike.singles += len(singles)
        rest = [one for one in fresh if one not in singles]
        batch = [one for one in rest if _UUID.fullmatch(one)]  # a malformed id would spoil the whole batch
        if len(batch) < len(rest):
            strike.trouble(Answer.UNKNOWN, f"{len(rest) - len(batch)} malformed id(s) left for the next strike")
        calls = self._batches(strike, batch, now)
        for one in singles:
            self._tries[one] = self._tries.get(one, 0) + 1
            build = self._build("POST", "/v4/order/private/cancel", {"orderId": one})
            calls += self._part("cancel-one", build, strike, [one], now, cancel=True)
        return calls

    def _batches(self, strike: Strike, ids: list[str], now: Now) -> Outputs:
        calls: Outputs = ()
        for start in range(0, len(ids), self._batch):
            batch = ids[start : start + self._batch]
            for one in batch:
                self._tries[one] = self._tries.get(one, 0) + 1
            build = self._build("POST", "/v4/order/private/cancel/multi", {"orderIds": batch})
            calls += self._part("cancel-multi", build, strike, batch, now, cancel=True)
        return calls

    def _part(
        self, kind: str, build: Callable[[Now], Request], strike: Strike, what: object, now: Now, *, cancel: bool
    ) -> Outputs:
        strike.waiting += 1
        context = (strike, what)
        return self.ask(kind, build, now, urgent=True, cancel=cancel, hedge_after_s=self.hedge_after_s, context=context)

    def _build(self, method: str, target: str, body: dict[str, object] | None = None) -> Callable[[Now], Request]:
        """Return what makes this request: once and for all, or signed anew each time."""
        content = b"" if body is None else orjson.dumps(body)
        if self._secret is None:
            request = Request(method, target, self._headers, content)
            _ = request.wire  # made now, so that the kill only writes
            return lambda now: request
        return lambda now: self._signed(method, target, content, now)

    def _signed(self, method: str, target: str, body: bytes, now: Now) -> Request:
        """Sign `path?query`, nonce and body (Authorizing requests); a GET signs `{}` and sends nothing."""
        assert self._secret is not None  # noqa: S101 - `_build` has looked
        self._nonce = max(self._nonce + 1, now.wall_ms)
        text = f"{target}{self._nonce}".encode() + (body or b"{}")
        signature = hmac.digest(self._secret, text, "sha384").hex()
        return Request(method, target, {**self._headers, "nonce": str(self._nonce), "signature": signature}, body)

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, ask: Ask, reply: Replied, now: Now) -> Outputs | None:
        body = parse(reply.body)
        if not isinstance(body, dict | list):
            return None
        refusal = refusal_of(reply.status, body, self.words)
        if refusal is not None and self._worth_another_route(refusal):
            return None
        match ask.kind:
            case "cancel-multi":
                return self._multi_answered(ask, body, refusal, now)
            case "cancel-one":
                return self._one_answered(ask, body, refusal)
            case "find":
                return self._found(ask, body, refusal, now)
            case "orders":
                return self._read_part(ask, *self._listed(ask.context[0], body, refusal))
            case _:
                orders, why = self._listed(ask.context, body, refusal)
                if orders is None:
                    fatal = refusal is not None and refusal.key
                    return (NotReady(Route.HTTP, 0, why, fatal=fatal),)
                return (Ready(Route.HTTP, 0), *self._probe_found(ask.context, orders, whole=not why))

    def _worth_another_route(self, refusal: Refusal) -> bool:
        """Say whether a refusal proves nothing: the venue's own failure, or a nonce that another request overtook."""
        if refusal.status >= 500:
            return not refusal.mistake
        return self._secret is not None and "nonce" in refusal.words.lower()

    def _multi_answered(self, ask: Ask, body: Body, refusal: Refusal | None, now: Now) -> Outputs:
        strike, ids = ask.context
        left = dict.fromkeys(ids, "not named in the answer")
        for item in items_of(body) or ():
            one = id_of(item)
            if one not in left:
                continue
            if item.get("success") is True:
                strike.cancelled += 1
                del left[one]
            elif has_ended(error_of(item)[1]):
                strike.ended += 1
                del left[one]
            else:
                left[one] = self.words(*error_of(item)).strip() or "success false"
        self._halving = self._halving or refusal is None
        if refusal is not None and not refusal.others and refusal.ended >= len(left):
            strike.ended += len(left)  # as many orders had ended as the answer does not name
            left.clear()
        if not left:
            return self._done(ask, strike)
        if refusal is None:
            why = next((why for why in left.values() if why != "not named in the answer"), "")
            answer = Answer.REFUSED if why else Answer.UNKNOWN
            strike.trouble(answer, f"{len(left)} of {len(ids)} cancels failed: {why or 'not named in the answer'}")
            return self._done(ask, strike)
        if refusal.too_long and self._halving and len(left) == len(ids):
            if len(ids) > SMALLEST_BATCH and strike.splits < SPLITS_PER_STRIKE:
                strike.splits += 1
                self._batch = min(self._batch, (len(ids) + 1) // 2)
                return self._done(ask, strike, self._batches(strike, ids, now))
            self._batch, self._halving = self._most, False  # its length was not the reason
        strike.trouble(refusal.answer, f"{len(left)} of {len(ids)} cancels failed: {refusal.words}")
        return self._done(ask, strike)

    def _one_answered(self, ask: Ask, body: Body, refusal: Refusal | None) -> Outputs:
        strike, _ = ask.context
        data = body.get("data", body) if isinstance(body, dict) else None
        if refusal is not None and refusal.ended and not refusal.others:
            strike.ended += 1
        elif refusal is not None:
            strike.trouble(refusal.answer, f"1 of 1 cancels failed: {refusal.words}")
        elif isinstance(data, dict) and data.get("success") is True:
            strike.cancelled += 1
        else:
            strike.trouble(Answer.UNKNOWN, "1 of 1 cancels failed: the answer cannot be read")
        return self._done(ask, strike)

    def _found(self, ask: Ask, body: Body, refusal: Refusal | None, now: Now) -> Outputs:
        """Take a list that a strike has asked for, and cancel at once what it shows and nobody has named."""
        strike, kind = ask.context
        orders, why = self._listed(kind, body, refusal)
        if orders is None:
            strike.unread(Answer.UNKNOWN if refusal is None else refusal.answer, why)
            return self._done(ask, strike)
        self.book.update({order.id: order for order in orders})
        return self._done(ask, strike, self._cancel(strike, (order.id for order in orders), now))

    def _done(self, ask: Ask, strike: Strike, more: Outputs = ()) -> Outputs:
        """Count a call of a strike as answered; the last one tells what became of the strike."""
        strike.waiting -= 1
        strike.sent = strike.sent or (ask.cancel and ask.sent)
        return more if strike.waiting else (strike.told(),)

    def _listed(self, kind: str, body: Body, refusal: Refusal | None) -> tuple[tuple[Order, ...] | None, str]:
        """Read a list: its orders, and why it is not whole; no orders at all if any of it cannot be read."""
        if refusal is not None:
            return None, refusal.words
        items = items_of(body)
        orders = None if items is None else [order_of(item) for item in items]
        if items is None or orders is None or None in orders:
            return None, f"the {kind} list cannot be read"
        full = f"the {kind} list is full: {len(items)} orders, there may be more" if len(items) >= PAGE else ""
        return tuple(order for order in orders if order is not None and order.life is not Life.GONE), full

    def _read_part(self, ask: Ask, orders: tuple[Order, ...] | None, why: str) -> Outputs:
        kind, read = ask.context
        read.missing.discard(kind)
        read.orders.update({order.id: order for order in orders or ()})
        if why:
            read.troubles.append(why)
        if read.missing:
            return ()
        found = tuple(read.orders.values())
        if read.troubles:
            self.book.update(read.orders)
            return (OrdersRead(found, False, read.asked_ns, "; ".join(read.troubles)),)
        self.replace_book(found)
        self._tries = {one: tries for one, tries in self._tries.items() if one in self.book}
        return (OrdersRead(found, True, read.asked_ns),)

    def _probe_found(self, kind: str, orders: tuple[Order, ...], *, whole: bool) -> Outputs:
        """Take a list that keeps the lane warm as the truth on its own part of the book."""
        seen = tuple(output for order in orders for output in self.push_order(order))
        if whole:
            listed = {order.id for order in orders}
            both = len(self._lists) > 1
            mine = [
                one
                for one, order in self.book.items()
                if one not in listed and (not both or (order.status == "WaitStop") == (kind == "WaitStop"))
            ]
            for one in mine:
                del self.book[one]
        return seen

    def unanswered(self, ask: Ask, why: str, now: Now) -> Outputs:
        answer = Answer.UNKNOWN if ask.sent else Answer.UNSENT
        match ask.kind:
            case "cancel-multi" | "cancel-one":
                strike, ids = ask.context
                strike.trouble(answer, f"{len(ids)} cancel(s) without an answer: {why}")
                return self._done(ask, strike)
            case "find":
                strike, _ = ask.context
                strike.unread(answer, why)
                return self._done(ask, strike)
            case "orders":
                return self._read_part(ask, None, why)
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, route: Route, conn: int, now: Now) -> Outputs:
        if route is not Route.WS:
            self._http_up = True
            return (*self.probe(now), *self._read(now, urgent=False))
        session = self._sessions[conn] = Session(conn, self._login, self.words, self.push_order, now)
        return session.hello()

    def closed(self, route: Route, conn: int, why: str, now: Now) -> Outputs:
        if route is Route.WS:
            self._sessions.pop(conn, None)
        else:
            self._http_up = False
        return (NotReady(route, conn, why),)

    def woke(self, tag: str, now: Now) -> Outputs:
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
        if not self._login or not self._http_up or not any(isinstance(output, Ready) for output in told):
            return told  # the HTTP lane reads when it comes up
        return (*told, *self._read(now, urgent=False))  # a subscription begins without a snapshot
