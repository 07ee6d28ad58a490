"""Speak to CrossTrade: a cloud relay to an add-on in NinjaTrader 8 (crosstrade.md of the venue notes, § numbers below).

A strike is `CancelOrders` for each NT account, all at once over the user's one WebSocket; the REST twin follows for
those that are not answered in time, and goes first where that lane is down. What rests on after a read is cancelled by
its id too. All replies mean "submitted": only reads of `GET /orders` prove an account clear. Every request costs one
of the user's 20 tokens, 3 come back a second (§3): polling leaves 15, and second copies wait for what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from pydantic import Field, field_validator

from kill_switch.domain import Answer, Life, Now, Order, Pace, Route
from kill_switch.venues.base import (
    Adapter,
    Ask,
    Drop,
    Noise,
    NotReady,
    OrdersRead,
    Output,
    Outputs,
    Ready,
    Replied,
    Request,
    Send,
    VenueOptions,
    WakeAfter,
    header,
    parse,
    plain,
    shown,
)
from kill_switch.venues.crosstrade_answers import Accounts, Said, failure, judge
from kill_switch.venues.crosstrade_strike import Bucket, Part, Slot, Strike

KEPT = 15.0  # of 20 tokens: polling leaves that many for a kill
READ_KEEPS = 2.0  # second copies leave that many for the read-back
SECONDS_PER_S = 2.0  # second copies beyond the bucket go that often: the rest of the refill is for reads
SLACK = 5  # the first strike may exceed our count of the tokens by that many; ten violations in a row end the session
NEW_KILL_AFTER_S = 10.0  # a sweep strikes more often than that
SILENT_S = 0.5  # not one reply by then: the frames have not arrived, nor cost anything
SINGLES_PER_STRIKE = 10
READ_AGAIN_S = 1.0  # a read that is slow goes out once more: the relay to the add-on may take most of a second
LIST_WITHIN_S = 1.5  # GetAllOrders over the WebSocket, where REST has no GET /orders
SETTLE_S = 1.0  # the REST twin did not work: that much longer for the WebSocket's reply
SNAPSHOT_EVERY = 4  # probes

PUSHED = frozenset(  # frames that a kill does without; a gap in their sequence counts all the same
    "pnlUpdate marketData pong status resync executionUpdate positionUpdate executionReportUpdate".split()
)
ELSEWHERE = "session active elsewhere"


class CrossTrade(Adapter):
    """One CrossTrade user, with some of the accounts in that user's NinjaTrader."""

    NAME = "crosstrade"
    PACE = Pace(answer_within_s=1.5, read_within_s=4.0, read_gap_s=1.0, clean_reads=2, strike_gap_s=1.0)
    WARM_EVERY_S = 8.0  # a probe every 4 s: nothing pushes orders, and the add-on may be gone at any time
    WS_OVERLAP = False  # §6: a second connection closes the first

    class Options(VenueOptions):
        ws_url: str = "wss://app.crosstrade.io/ws/stream"
        rest_url: str = "https://app.crosstrade.io"
        nt_accounts: tuple[str, ...] = Field(min_length=1, max_length=15)  # a token each, out of one burst
        order_events: bool = True  # try to subscribe to order events; whether NT8 accounts have any is not documented

        @field_validator("nt_accounts")
        @classmethod
        def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            if any(not name or name != name.strip() or not name.isprintable() or len(name) > 64 for name in names):
                raise ValueError('must be names as NinjaTrader shows them, such as "Sim101"')
            if len({name.casefold() for name in names}) != len(names):
                raise ValueError("must not name an account twice; upper and lower case are the same")
            return names

    @classmethod
    def secrets(cls, options: VenueOptions) -> tuple[str, ...]:
        return ("token",)

    def __init__(self, options: VenueOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        assert isinstance(options, CrossTrade.Options)  # noqa: S101 - the registry pairs them
        self._bearer = {"Authorization": f"Bearer {header('token', secrets['token'])}"}
        self._accounts = options.nt_accounts
        self._ours = Accounts(self._accounts)
        self._events = options.order_events
        self._cancels = {name: self._request("POST", f"{_path(name)}/orders/cancel") for name in self._accounts}
        self._orders = self._request("GET", "/v1/api/orders")
        self._snapshot = self._request("GET", "/v1/api/accounts/snapshot")
        for request in (*self._cancels.values(), self._orders, self._snapshot):
            _ = request.wire  # made now, so that the kill only writes
        self._bucket = Bucket()
        self._conns: dict[int, int] = {}  # connection → when it came up
        self._parts: dict[str, Part] = {}  # of strikes that are not answered yet, by the id of their RPC
        self._lists: dict[str, _Read] = {}  # reads over the WebSocket
        self._has_orders = True  # REST has GET /orders (inferred)
        self._has_rpc = True  # the WebSocket has GetAllOrders
        self._owners: dict[str, str] = {}  # order → NT account
        self._latest = Strike((), ())
        self._struck_ns = -int(NEW_KILL_AFTER_S * 2e9)
        self._before: frozenset[str] = frozenset()  # live orders that it knew of
        self._read_since = False  # a complete read since then
        self._cut_off = ""  # what the last snapshot had against us
        self._strikes = self._reads = self._probes = self._turn = 0
        self._slot = Slot()

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def kill(self, now: Now) -> Outputs:
        known = self._known()
        chosen, singles = self._allot(known, now)
        self._strikes += 1
        self._struck_ns = now.mono_ns
        self._before, self._read_since = known.live, False
        strike = self._latest = Strike(chosen, tuple(name for name in self._accounts if name not in chosen))
        parts = [Part(strike, name, f"k{self._strikes}-{number}") for number, name in enumerate(chosen)]
        conn = max(self._conns, default=None)
        frames: list[Output] = []
        for part in parts if conn is not None else ():
            part.conn, part.framed = conn, True
            self._parts[part.id] = part
            frames.append(self._rpc(conn or 0, part.id, "CancelOrders", {"account": part.account}, now, urgent=True))
        if conn is None:
            self._bucket.spend(now, len(parts))  # known before the second copies are timed
        left = self._bucket.left(now) - len(singles)
        wait_s = 0.0
        for number, part in enumerate(parts):  # a second copy only when a token is there for it
            wait_s = self.hedge_after_s + max(0.0, (number + 1 + READ_KEEPS - left) / SECONDS_PER_S)
            if conn is not None:
                frames.append(WakeAfter(f"hedge {part.id}", wait_s))
            else:
                frames.extend(self._twin(part, now, wait_s, paid=True))
        if conn is not None and wait_s > SILENT_S:
            frames.append(WakeAfter(f"silent {parts[0].id}", SILENT_S))
        return (*frames, *self._one_by_one(singles, conn, now))

    def read(self, now: Now) -> Outputs:
        return self._list(_Read(now.mono_ns), now)

    def probe(self, now: Now) -> Outputs:
        if self._bucket.left(now) < KEPT + 2:
            return ()
        self._probes += 1
        orders = self._list(_Read(now.mono_ns, probe=True), now)
        if self._has_orders and self._probes % SNAPSHOT_EVERY:
            return orders
        return (*orders, *self._look(now))

    def upgrade_headers(self, now: Now) -> Mapping[str, str]:
        return self._bearer

    def keep_away(self, now: Now) -> str:
        left_s = self._slot.left_s(now)
        return f"another session has this user's one WebSocket: REST only for {left_s:.0f} s" if left_s > 0 else ""

    def _known(self) -> _Known:
        """Sort what the book has: what is alive, and what of it an earlier strike and a read after it have shown."""
        live = frozenset(order.id for order in self.book.values() if order.life is Life.LIVE)
        left = live & self._before if self._read_since else frozenset()
        new = frozenset(self._owners.get(one, "") for one in live - left)
        return _Known(live, left, new)

    def _allot(self, known: _Known, now: Now) -> tuple[tuple[str, ...], list[str]]:
        """Choose whom to strike, and which orders to cancel by their ids too.

        Everybody, if the tokens allow. If not: first the accounts with orders that no strike has met; then, unless a
        read has shown the others empty, those in turn. Half of what is left of the tokens goes to accounts whose orders
        have outlived a strike, and the other half to those orders by their ids: one of the two may work.
        """
        left = self._bucket.left(now)
        first = now.mono_ns - self._struck_ns > NEW_KILL_AFTER_S * 1e9
        most = max(1, int(left) + SLACK if first else int(left - 1))
        stubborn = {one: self._owners[one] for one in self.book if one in known.left}
        singles = [one for one, account in stubborn.items() if account in self._accounts and _is_id(one)]
        if most >= len(self._accounts):
            spare = int(left - READ_KEEPS) - len(self._accounts)
            return self._accounts, singles[: max(0, min(spare, SINGLES_PER_STRIKE))]
        turned = self._accounts[self._turn :] + self._accounts[: self._turn]
        chosen = [name for name in turned if name in known.new]
        again = [name for name in turned if name in stubborn.values() and name not in chosen]
        chosen = chosen[:most] + again[: max(0, (most - len(chosen) + 1) // 2)]
        if first or not chosen or not self._read_since or "?" in known.new:
            chosen += [name for name in turned if name not in chosen][: most - len(chosen)]
        self._turn = (self._accounts.index(chosen[-1]) + 1) % len(self._accounts)
        return tuple(chosen), singles[: max(0, min(most - len(chosen), SINGLES_PER_STRIKE))]

    def _one_by_one(self, ids: list[str], conn: int | None, now: Now) -> Outputs:
        outputs: list[Output] = []
        for one in ids:
            account = self._owners[one]
            if conn is not None:
                args = {"account": account, "orderId": one}
                outputs.append(self._rpc(conn, f"one {one}", "Cancel", args, now, urgent=True))
            else:
                request = self._request("POST", f"{_path(account)}/orders/{one}/cancel")
                outputs.extend(self.ask("cancel-one", self._paid(request), now, urgent=True))
        return tuple(outputs)

    def _list(self, read: _Read, now: Now) -> Outputs:
        """Read every order of the user with one token; without such a call, account by account."""
        again_s = None if read.probe else max(READ_AGAIN_S, 4 * self.hedge_after_s)
        if self._has_orders:
            return self.ask(
                "orders", self._paid(self._orders), now, urgent=not read.probe, hedge_after_s=again_s, context=read
            )
        conn = max(self._conns, default=None)
        if self._has_rpc and conn is not None and not read.tried:
            read.tried, read.conn = True, conn
            self._reads += 1
            tag = f"r{self._reads}"
            self._lists[tag] = read
            return (self._rpc(conn, tag, "GetAllOrders", {}, now), WakeAfter(f"list {tag}", LIST_WITHIN_S))
        read.missing = set(self._accounts)
        calls: list[Output] = []
        for name in self._accounts:
            request = self._request("GET", f"{_path(name)}/orders")
            calls.extend(
                self.ask(
                    "list", self._paid(request), now, urgent=not read.probe, hedge_after_s=again_s, context=(name, read)
                )
            )
        return tuple(calls)

    def _look(self, now: Now) -> Outputs:
        return self.ask("snapshot", self._paid(self._snapshot), now)

    def _twin(self, part: Part, now: Now, again_s: float, *, paid: bool = False) -> Outputs:
        """Send the REST twin of an account's cancel, once."""
        if part.asked:
            return ()
        part.asked = True
        build = self._paid(self._cancels[part.account], paid=paid)
        return self.ask("cancel", build, now, urgent=True, cancel=True, hedge_after_s=again_s, context=part)

    def _rpc(self, conn: int, tag: str, api: str, args: Mapping[str, str], now: Now, *, urgent: bool = False) -> Send:
        self._bucket.spend(now)
        return Send(conn, orjson.dumps({"action": "rpc", "id": tag, "api": api, "args": args}), urgent)

    def _paid(self, request: Request, *, paid: bool = False) -> Any:
        """Return what builds each copy of a request, and counts its token; the first may have been counted."""
        owed = not paid

        def build(now: Now) -> Request:
            nonlocal owed
            self._bucket.spend(now, int(owed))
            owed = True
            return request

        return build

    def _request(self, method: str, target: str) -> Request:
        headers = {"Host": self.host, **self._bearer, "Content-Type": "application/json"}
        return Request(method, target, headers, b"{}" if method == "POST" else b"")

    # ── what is said to a strike ──────────────────────────────────────────────────────────────────────────────────

    def _frame_said(self, part: Part, said: Said | None, now: Now) -> Outputs:
        """Take the WebSocket's reply: what is not a yes has the REST twin tried, unless it leads to the same no."""
        part.conn, part.strike.heard = None, True
        if said is not None:
            if said.answer is Answer.ACCEPTED or said.offline:
                return self._settle(part, said)
            part.said = said
            if said.limited and not part.asked:
                return ()  # the timer that is set brings the twin when there is a token for it
        if part.over:
            return self._settle(part, part.said)
        return self._twin(part, now, self.hedge_after_s)

    def _twin_said(self, part: Part, said: Said, *, lost: bool = False) -> Outputs:
        """Take the REST twin's answer; while the WebSocket may still say yes, a no is not the last word."""
        part.over = True
        if part.settled:
            return ()
        if said.answer is not Answer.ACCEPTED and part.conn is not None:
            part.said = said
            return (WakeAfter(f"settle {part.id}", SETTLE_S),)
        return self._settle(part, part.said if lost and part.said is not None else said)

    def _settle(self, part: Part, said: Said | None) -> Outputs:
        self._parts.pop(part.id, None)
        return part.settle(said)

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, ask: Ask, reply: Replied, now: Now) -> Outputs | None:
        body = parse(reply.body)
        said = judge(reply.status, body, self.words)
        if said is not None and said.limited:
            self._bucket.drain(now, reply.headers.get("retry-after", ""))
        match ask.kind:
            case "cancel":
                if said is not None and said.cancelled == 0 and (ask.context.framed or not ask.hedge):
                    said = said._replace(cancelled=None)  # another copy may have cancelled what this one did not find
                return None if said is None else self._twin_said(ask.context, said)
            case "cancel-one":
                return self._one_said(said)
            case "orders" if reply.status == 404:
                self._has_orders = False
                return self._list(ask.context, now)
            case "orders":
                return self._listed(ask.context, body, reply.status)
            case "list":
                name, read = ask.context
                return self._listed_one(name, read, body, reply.status)
            case _:
                return self._looked(body, reply.status)

    def unanswered(self, ask: Ask, why: str, now: Now) -> Outputs:
        match ask.kind:
            case "cancel":
                part: Part = ask.context
                answer = Answer.UNKNOWN if ask.sent or part.framed else Answer.UNSENT
                return self._twin_said(part, Said(answer, why), lost=True)
            case "cancel-one":
                return ()
            case "orders":
                return self._unread(ask.context, why)
            case "list":
                name, read = ask.context
                return self._gather(name, read, None, why)
            case _:
                return (NotReady(Route.HTTP, 0, why),)

    def _one_said(self, said: Said | None) -> Outputs:
        if said is None or said.answer is not Answer.REFUSED:
            return ()
        return (Noise(f"cancel of one order refused: {said.words}"),)

    def _listed(self, read: _Read, body: object, status: int | None) -> Outputs | None:
        """Take the list of all accounts' orders; None if another route should be heard."""
        wrong = failure(status, body, self.words)
        if wrong is not None:
            return None if wrong.nothing else self._unread(read, wrong.words, wrong, fatal=status in (401, 403))
        orders = self._ours.orders(body)
        return self._unread(read, "the order list cannot be read") if orders is None else self._read_back(read, orders)

    def _listed_one(self, name: str, read: _Read, body: object, status: int) -> Outputs | None:
        wrong = failure(status, body, self.words)
        if wrong is None:
            return self._gather(name, read, self._ours.orders(body, name), "the order list cannot be read")
        return None if wrong.nothing else self._gather(name, read, None, wrong.words)

    def _gather(self, name: str, read: _Read, orders: list[tuple[Order, str]] | None, why: str) -> Outputs:
        read.missing.discard(name)
        if orders is None:
            read.troubles.append(f"{name}: {why}")
        else:
            read.orders.extend(orders)
        if read.missing:
            return ()
        if read.troubles:
            return self._unread(read, self.words("; ".join(read.troubles)))
        return self._read_back(read, read.orders)

    def _read_back(self, read: _Read, orders: list[tuple[Order, str]]) -> Outputs:
        self._owners = {order.id: owner for order, owner in orders}
        alive = tuple(order for order, _ in orders if order.life is not Life.GONE)
        self.replace_book(alive)
        self._read_since = True
        strange = [Noise(self.words("order", o.id, "is in state Unknown")) for o in alive if o.status == "unknown"]
        ready = (Ready(Route.HTTP, 0),) if read.probe and read.conn is None and not self._cut_off else ()
        return (*ready, OrdersRead(alive, True, read.asked_ns), *strange)

    def _unread(self, read: _Read, why: str, said: Said | None = None, *, fatal: bool = False) -> Outputs:
        if not read.probe:
            return (OrdersRead((), False, read.asked_ns, why),)
        if said is not None and said.limited:
            return ()  # somebody else is using the tokens up; the lane is as good as before
        return (NotReady(Route.HTTP, 0, why, fatal=fatal),)

    def _looked(self, body: Any, status: int) -> Outputs:
        """Take the snapshot: are the add-on, our NT accounts and their brokers there?"""
        wrong = failure(status, body, self.words)
        if wrong is not None:
            return () if wrong.limited else (NotReady(Route.HTTP, 0, wrong.words, fatal=status in (401, 403)),)
        self._cut_off = self._ours.cut_off(body)
        return (NotReady(Route.HTTP, 0, self.words(self._cut_off)) if self._cut_off else Ready(Route.HTTP, 0),)

    def _pushed(self, message: dict[str, Any]) -> Outputs:
        found = self._ours.order(message.get("order", message))
        if found is None:
            return (Noise("an order push that cannot be read"),)
        order, owner = found
        if not owner:
            return ()
        self._owners[order.id] = owner
        return self.push_order(order)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, route: Route, conn: int, now: Now) -> Outputs:
        if route is not Route.WS:
            self._has_orders = True
            return (*self._list(_Read(now.mono_ns, probe=True), now), *self._look(now))
        self._conns[conn] = now.mono_ns
        self._has_rpc = True
        hello = self._rpc(conn, "hello", "GetAllOrders", {}, now)  # harmless, and through to the add-on
        if not self._events:
            return (hello,)
        self._bucket.spend(now)
        return (hello, Send(conn, b'{"action":"subscribe","id":"events","events":["orders"]}'))

    def closed(self, route: Route, conn: int, why: str, now: Now) -> Outputs:
        if route is not Route.WS:
            return (NotReady(route, conn, why),)
        since_ns = self._conns.pop(conn, None)
        displaced = since_ns is not None and ELSEWHERE in why.lower()
        if since_ns is not None and displaced:
            away_s = self._slot.lost(since_ns, now)
            why = self.words(f"{why}: another program has this user's one WebSocket; REST only for {away_s:.0f} s")
        outputs: list[Output] = [NotReady(route, conn, why, fatal=displaced)]
        allowed = max(1, int(self._bucket.left(now)) + SLACK)
        for part in [part for part in self._parts.values() if part.conn == conn]:
            part.conn = None
            if part.over or self._again(part):
                outputs.extend(self._settle(part, part.said))
            elif not part.asked and (allowed > 0 or not part.strike.heard):  # the others' timers are set
                allowed -= 1
                outputs.extend(self._twin(part, now, self.hedge_after_s))
        for tag in [tag for tag, read in self._lists.items() if read.conn == conn]:
            outputs.extend(self._list(self._lists.pop(tag), now))
        return tuple(outputs)

    def woke(self, tag: str, now: Now) -> Outputs:
        what, _, one = tag.partition(" ")
        if what == "list":
            read = self._lists.pop(one, None)
            return () if read is None else self._list(read, now)
        part = self._parts.get(one)
        if part is None:
            return ()
        if what == "settle":
            return self._settle(part, part.said)
        again_s = max(self.hedge_after_s, 1 / SECONDS_PER_S)
        if what == "silent":
            strike = part.strike
            mute = [one for one in self._parts.values() if one.strike is strike and not strike.heard]
            return tuple(output for one in mute for output in self._twin(one, now, again_s))
        return self._settle(part, part.said) if self._again(part) else self._twin(part, now, again_s)

    def _again(self, part: Part) -> bool:
        """Say whether a later strike has the account too: a twin would cost that one a token."""
        return not part.asked and part.strike is not self._latest and part.account in self._latest.accounts

    def received(self, conn: int, message: dict[str, Any], now: Now) -> Outputs:
        if conn not in self._conns:
            return ()
        words = [plain(message.get(key)) for key in ("error", "reason", "message", "detail", "type", "status")]
        if any(ELSEWHERE in text.lower() for text in words):
            unready, *rest = self.closed(Route.WS, conn, "Session active elsewhere", now)
            why = unready.why if isinstance(unready, NotReady) else ""
            return (unready, Drop(conn, why), *rest)
        tag = message.get("id")
        if isinstance(tag, str) and ("data" in message or "error" in message):
            return self._replied(conn, tag, message, now)
        again = self._list(_Read(now.mono_ns, probe=True), now) if self._gap(message, now) else ()
        return (*self._event(message, now), *again)

    def _event(self, message: dict[str, Any], now: Now) -> Outputs:
        match message.get("type"):
            case "orderUpdate":
                return self._pushed(message)
            case str() as kind if kind in PUSHED:
                return ()
            case _ if message.get("status") == "subscribed" or message.get("success") is True:
                return ()
            case _:
                told = [message[key] for key in ("error", "message", "detail") if message.get(key)]
                if "rate limit" in " ".join(map(shown, told)).lower():
                    self._bucket.drain(now)
                return (Noise(self.words(*told) if told else "a message that no document explains"),)

    def _gap(self, message: dict[str, Any], now: Now) -> bool:
        """Say whether frames were lost, and there is a token to read the orders anew (§6)."""
        lost = message.get("type") == "resync" or bool(message.get("dropped"))
        return lost and self._bucket.left(now) >= KEPT + 1

    def _replied(self, conn: int, tag: str, message: dict[str, Any], now: Now) -> Outputs:
        """Take the reply to an RPC; an id that nobody waits for any more is nothing strange."""
        error = message.get("error")
        body = {**message, "success": False} if error else message.get("data")
        said = judge(None, body, self.words)
        if said is not None and said.limited:
            self._bucket.drain(now)
        if tag == "hello":
            return self._hello(conn, body, said, now)
        if tag.startswith("one "):
            return self._one_said(said)
        part = self._parts.get(tag)
        if part is not None and part.conn == conn:
            return self._frame_said(part, said, now)
        read = self._lists.get(tag)
        if read is None or read.conn != conn:
            return ()
        del self._lists[tag]
        orders = self._rpc_orders(body)
        if orders is None:
            self._has_rpc = said is not None and (said.limited or said.offline)
            return self._list(read, now)
        return self._read_back(read, orders)

    def _rpc_orders(self, body: object) -> list[tuple[Order, str]] | None:
        return None if failure(None, body, self.words) is not None else self._ours.orders(body)

    def _hello(self, conn: int, body: object, said: Said | None, now: Now) -> Outputs:
        """Take any reply as the proof that this connection carries commands; what it says of the add-on too."""
        ready = Ready(Route.WS, conn)
        if said is not None and said.offline:
            return (ready, NotReady(Route.HTTP, 0, said.words))
        orders = self._rpc_orders(body)
        if orders is None:
            self._has_rpc = said is not None and said.limited
            return (ready,)
        return (ready, *self._read_back(_Read(self._conns[conn]), orders))


class _Known(NamedTuple):
    """What the book says before a strike."""

    live: frozenset[str]
    left: frozenset[str]  # alive although an earlier strike knew of them, and a read since
    new: frozenset[str]  # accounts with other orders


@dataclass(slots=True, eq=False)
class _Read:
    """One read of the orders under way; a `probe` is housekeeping, and speaks for the lane."""

    asked_ns: int
    probe: bool = False
    tried: bool = False  # over the WebSocket
    conn: int | None = None
    missing: set[str] = field(default_factory=set)
    orders: list[tuple[Order, str]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def _path(account: str) -> str:
    return f"/v1/api/accounts/{quote(account, safe='')}"


def _is_id(text: str) -> bool:
    """Say whether an id may go into a path: a GUID of 32 hexadecimal digits, or the number that a broker gave it."""
    return len(text) <= 64 and text.isascii() and text.isalnum()
