"""The CrossTrade adapter: a cloud relay to an add-on in NinjaTrader 8.

The dispatcher drives it through `Adapter`; the other modules of this folder are its parts. It never proves an account
clear by a reply, because every reply means "submitted": only reads do.
§ numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from kill_switch.core.domain import Instant, Route, SweepTiming
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.crosstrade.account_reach import AccountReach
from kill_switch.venues.crosstrade.cancel_part import CancelPart
from kill_switch.venues.crosstrade.doubted_orders import DoubtedOrders
from kill_switch.venues.crosstrade.equity import CURRENCY, EquityReader
from kill_switch.venues.crosstrade.flatten import Flattener
from kill_switch.venues.crosstrade.options import CrossTradeOptions
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.prober import HelloPart, Prober
from kill_switch.venues.crosstrade.readback import ReadPart, UserReader
from kill_switch.venues.crosstrade.replies import (
    AccountDirectory,
    command_reply,
    describe_unreached,
    is_limited,
    list_reply,
)
from kill_switch.venues.crosstrade.request_queue import TURN, RequestQueue
from kill_switch.venues.crosstrade.strike import CrossTradeStriker
from kill_switch.venues.crosstrade.strike_plan import StrikePlanner
from kill_switch.venues.crosstrade.tokens import (
    BURST,
    TOKENS,
    CrossTradeLimits,
    SocketLease,
    SocketLoad,
    TokenBucket,
    UserWire,
    path_of,
    rpc_frame,
    single_target,
)
from kill_switch.venues.crosstrade.user_read import UserRead
from kill_switch.venues.decode import as_text, header_safe, parse_json, to_text
from kill_switch.venues.kit.budget import PoolCount
from kill_switch.venues.kit.call_parts import DrillPart
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.pools import Demand, Pool
from kill_switch.venues.kit.replies import CallPart, ReplyOutcome
from kill_switch.venues.messages import (
    NOT_PROCESSED,
    CloseConnection,
    Drilled,
    NotReady,
    Output,
    Outputs,
    Replied,
    Send,
    UnexplainedMessage,
)
from kill_switch.venues.profile import Guess
from kill_switch.venues.request import Upgrade

NO_ORDER = "0" * 32  # the empty GUID: no order can have it
CLOSING_ONLY = "orders that close positions are not cancelled"
TAKEN = "the venue has accepted every cancel; a read comes before any is repeated"
ELSEWHERE = "session active elsewhere"  # § 6: in the notice to a session that another session displaces
IGNORED = frozenset(  # frames without content for a kill; their gaps in the sequence count all the same
    "marketData pong status resync executionUpdate positionUpdate executionReportUpdate".split()
)
POLICY = "1008"  # close code of a displaced session, and of one with ten refusals in a row (§ 3, § 6)


class CrossTrade(Adapter[CrossTradeOptions]):
    """A CrossTrade user, with some of the NT accounts in that user's NinjaTrader.

    A strike is one `CancelOrders` for each NT account, all at once over the user's one WebSocket. A REST twin follows
    for each that is not answered in time, and replaces the frame while the WebSocket is down. Orders that survive are
    cancelled by id too. A read of `GET /orders` proves the accounts clear, together with a snapshot that shows each
    NT account connected to its broker.

    Every request costs one of the user's 20 tokens, of which 3 come back each second (§ 3). Polling leaves 15, and
    second copies wait for a token. Where the venue refuses requests, cancels go over REST one by one, and reads after
    them; `slow_kill_warning` reports beforehand how long a kill would take.

    With `flatten = true` a read shows each position as an open order `position:ACCOUNT:INSTRUMENT` until it is closed.
    Only a strike leads to a flatten, one at a time for each account (`flatten`).

    Equity is the sum of the accounts' net liquidation values in one message. It includes deposits and withdrawals,
    which look like profit and loss. Times in messages are those of the user's Windows machine, not of the
    venue, and nothing is signed.
    """

    NAME = "crosstrade"
    TIMING = SweepTiming(
        answer_within_s=1.5, read_after_s=0.025, read_within_s=4.0, read_gap_s=1.0, clean_reads=2, strike_gap_s=1.0
    )
    WARM_EVERY_S = 8.0  # a probe every 4 s: no order is pushed, and the add-on may disconnect at any time
    POOLS: ClassVar[tuple[Pool, ...]] = (TOKENS,)
    COUNT: ClassVar[type[PoolCount]] = TokenBucket
    LIMITS = CrossTradeLimits
    WS_OVERLAP = False  # § 6: a second connection closes the first
    CURRENCIES = (CURRENCY,)
    SCOPE = ("nt_accounts", "flatten")
    PARTS = ("nt_accounts",)
    NOT_PROCESSED = NOT_PROCESSED - {408}  # § 2: the add-on is not connected, whatever the route
    PUSHES_ORDERS = False  # § 6: not documented for NT8 accounts; a push that comes is applied

    Options = CrossTradeOptions
    COMMANDS = (
        'ws "CancelOrders": each NT account',
        "POST /v1/api/accounts/{account}/orders/cancel: its twin, if no answer comes or the WebSocket is down",
        'ws "Cancel", or POST /v1/api/accounts/{account}/orders/{id}/cancel: orders that outlive a strike, by id',
        'ws "Flatten": each NT account of which a read shows a position, with flatten = true',
    )
    COVERED = ("orders of the accounts in nt_accounts, of every program, strategy and person, as NinjaTrader has them",)
    NOT_COVERED = (
        "NT accounts that nt_accounts does not name",
        "strategies in NinjaTrader, which may place orders again",
        "orders at the broker that NinjaTrader does not have",
        "CrossTrade's other destination, Tradovate",
        "positions, unless flatten is true",
    )
    GUESSES = (
        Guess(
            "GET /orders lists the orders of every account (§ 5)",
            "it is proof only with a snapshot that shows each account connected; without it each account is listed",
        ),
        Guess("each state of an order has a name that is known (§ 7)", "an unknown state counts as alive"),
        Guess("no order is pushed (§ 6)", "lists alone are proof, and a probe reads them every 4 s"),
        Guess(
            "an error over the WebSocket has one of three forms (§ 6)",
            "a frame whose answer cannot be read has its twin over REST",
        ),
    )

    limits: CrossTradeLimits

    @classmethod
    def demand(cls, options: CrossTradeOptions) -> Demand:
        """Return the requests: orders and snapshot, positions too with `flatten`; two for each account in a strike."""
        orders, snapshot = "GET /v1/api/orders", "GET /v1/api/accounts/snapshot"
        return Demand(
            read=(orders, snapshot, "GET /v1/api/positions") if options.flatten else (orders, snapshot),
            probe=(orders,),
            equity=(snapshot,),
            drill=("POST /v1/api/accounts",) * 2,
            strike=("POST /v1/api/accounts",) * len(options.nt_accounts),
        )

    @classmethod
    def secrets(cls, options: CrossTradeOptions) -> tuple[str, ...]:
        return ("token",)

    def __init__(self, options: CrossTradeOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        self._bearer = {"Authorization": f"Bearer {header_safe('token', secrets['token'])}"}
        self._accounts = options.nt_accounts
        self._subscribes = options.order_events
        self.closes_positions = options.flatten
        ours = AccountDirectory(self._accounts)
        doubts = DoubtedOrders()
        headers = {"Host": self.host, **self._bearer, "Content-Type": "application/json"}
        self._wire = UserWire(headers, self.limits, self.calls, self.second_route, self.evidence)
        self._lease = SocketLease()
        self._planner = StrikePlanner(self._accounts)
        self._flattens = Flattener(self._wire, options.flatten)
        self._turns = RequestQueue(self.limits)
        self._reach = reach = AccountReach(ours, self.evidence)
        self._knowledge = OrderKnowledge(self.book, ours, self._planner, doubts, self._flattens, reach, self.evidence)
        self._strikes = CrossTradeStriker(
            self._wire,
            self._accounts,
            self._turns,
            self._knowledge.on_cancel_settled,
            partial(setattr, self, "answers_ns"),
        )
        self._reads = UserReader(
            self._wire, ours, doubts, self._turns, self._knowledge, reach, positions=options.flatten
        )
        self._equity = EquityReader(self._wire, ours)
        self._prober = Prober(self._wire, self._turns, self._reads, self._knowledge, reach, self.book)
        self._drilled = 0  # drills so far

    def why_not_ready(self, route: Route) -> str:
        return describe_unreached(self._reach.unseen)

    def is_over_limit(self, reply: Replied) -> bool:
        """Return False: `on_reply` and `_on_rpc_reply` drain the bucket, on both lanes."""
        return False

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def prebuilt_command(self, now: Instant) -> Send | None:
        every = self._planner.is_every_account(self._wire.bucket.left(now))
        return self._strikes.prebuilt_frame(now) if every else None

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        closing, left = self._flattens.accounts_closing(now), self._wire.bucket.left(now)
        chosen, order_ids = self._planner.plan(self.book.orders, left, closing, now, first=number == 1)
        self._flattens.request(chosen, now)
        singles = [(self._planner.owner(order_id), order_id) for order_id in order_ids]
        idle = "" if chosen else CLOSING_ONLY if closing else TAKEN
        yield from self._strikes.strike(
            chosen, singles, now, kill=number == 1, holding=lambda: self._planner.owners(self.book.orders), idle=idle
        )
        self._planner.on_struck(self.book.orders)

    def drop_strike_work(self) -> None:
        super().drop_strike_work()
        self._strikes.drop_strikes()
        self._flattens.drop_requests()

    def is_pending(self, tag: str) -> bool:
        """Return whether a request is still to be sent; a cancel that must wait in the queue is not."""
        call = self.calls.pending.get(tag)
        return call is not None and not (isinstance(call.part, CancelPart) and call.part.must_wait)

    def describe_strike(self) -> tuple[str, ...]:
        chosen, order_ids = self._planner.choose(self.book.orders, BURST, first=True)
        singles = [(self._planner.owner(order_id), order_id) for order_id in order_ids]
        if self._wire.newest is not None:
            lines = [_frame_line("CancelOrders", account=name) for name in chosen]
            lines += [_frame_line("Cancel", account=name, orderId=order_id) for name, order_id in singles]
        else:
            lines = [f"POST {path_of(name)}/orders/cancel {{}}" for name in chosen]
            lines += [f"POST {single_target(name, order_id)} {{}}" for name, order_id in singles]
        if self.closes_positions:
            lines.append(f"then Flatten, once, each of {', '.join(self._accounts)} that a read shows a position of")
        return tuple(lines)

    def read(self, now: Instant) -> Outputs:
        self._prober.note_read(now)
        return self._reads.begin(UserRead(now.mono_ns), now)

    def keep_warm(self, now: Instant) -> Outputs:
        return self._prober.probe(now)

    def drill(self, now: Instant) -> Outputs:
        """Cancel an order that cannot exist, of each NT account in rotation: "not found or already terminal" (§ 4)."""
        if not self._wire.bucket.spare(now, 2):
            why = "the tokens that are left are kept for a kill"
            return tuple(Drilled(route, False, 0, why, tried=False) for route in self.DRILLS)
        account = self._accounts[self._drilled % len(self._accounts)]
        self._drilled += 1
        tag, conn = f"{DRILL} {self._drilled}", self._wire.carrier(now)
        if conn is not None:
            self._wire.note_sent(conn, tag, now)
        frame = rpc_frame("Cancel", {"account": account, "orderId": NO_ORDER}, tag)
        build = self._wire.build("POST", single_target(account, NO_ORDER))
        framed = self.drills.start_frame(conn, tag, frame, now)
        return (*framed, *self.drills.start_call(build, now, context=DrillPart(lambda reply: reply.ok)))

    def request_equity(self, now: Instant) -> Outputs:
        return self._equity.start_read(now)

    def slow_kill_warning(self, now: Instant) -> str:
        return self._wire.bucket.slow_kill_warning(len(self._accounts), now)

    def upgrade(self, now: Instant) -> Upgrade:
        return Upgrade(headers=self._bearer)

    def reason_to_stay_disconnected(self, now: Instant) -> str:
        left_s = self._lease.left_s(now)
        return f"another session has this user's one WebSocket: REST only for {left_s:.0f} s" if left_s > 0 else ""

    # ── REST replies ──────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        judge = command_reply if call.command or call.kind == DRILL else list_reply
        judged = judge(reply.status, parse_json(reply.body), self.evidence)
        if judged.outcome is ReplyOutcome.NO_ANSWER:
            return None
        if is_limited(judged):
            self._wire.bucket.drain(now, reply.headers.get("retry-after", ""))
        else:
            self._wire.bucket.note_accepted()
        part: CallPart = call.part
        return part.on_reply(call, judged, reply, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        part: CallPart = call.part
        return part.on_loss(call, why, now)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            return self._prober.on_http_opened(now)
        self._wire.links[conn] = SocketLoad(now.mono_ns)
        hello = self._prober.start_hello(conn, now)
        ready = self._strikes.prepare(conn)
        if not self._subscribes:
            return (hello, ready)
        self._wire.bucket.spend(now)
        return (hello, ready, Send(conn, b'{"action":"subscribe","id":"events","events":["orders"]}'))

    def on_closed(self, route: Route, conn: int, why: str, now: Instant) -> Outputs:
        if route is not Route.WS:
            return (NotReady(route, conn, why),)
        link = self._wire.links.pop(conn, None)
        displaced = link is not None and ELSEWHERE in why.lower()
        limited = link is not None and not displaced and POLICY in why
        if limited:
            self._wire.bucket.drain(now)
        if link is not None and displaced:
            away_s = self._lease.on_displaced(link.since_ns, now)
            why = self.evidence(f"{why}: another program has this user's one WebSocket; REST only for {away_s:.0f} s")
        self._equity.on_closed(conn)
        lost = self._wire.frames.take_lost(conn)
        cancels = [part for part in lost if isinstance(part, CancelPart)]
        twins = self._strikes.on_lost_frames(cancels, now, limited=limited)
        lists = [output for part in lost if isinstance(part, ReadPart) for output in part.on_lost(now)]
        return (NotReady(route, conn, why, fatal=displaced), *twins, *lists)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        return self._turns.on_timer(now) if tag == TURN else self._wire.timers.on_timer(tag, now)

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        if conn not in self._wire.links:
            return ()
        tag, data = message.get("id"), message.get("data")
        if isinstance(tag, str) and isinstance(data, dict) and data.get("success") is True and "error" not in message:
            return self._on_rpc_reply(conn, tag, message, now)  # a success: the session is not displaced
        words = [as_text(message.get(key)) for key in ("error", "reason", "message", "detail", "type", "status")]
        if any(ELSEWHERE in text.lower() for text in words):
            unready, *outputs = self.on_closed(Route.WS, conn, "Session active elsewhere", now)
            why = unready.why if isinstance(unready, NotReady) else ""
            return (unready, CloseConnection(conn, why), *outputs)
        if isinstance(tag, str) and ("data" in message or "error" in message):
            return self._on_rpc_reply(conn, tag, message, now)
        is_gap = message.get("type") == "resync" or bool(message.get("dropped"))
        read = self._prober.on_lost_frames(now) if is_gap else ()
        return (*self._on_push(conn, message, now), *read)

    def _on_rpc_reply(self, conn: int, tag: str, message: dict[str, Any], now: Instant) -> Outputs:
        """Hand the reply to an RPC to the part that waits for it; a reply that nothing waits for changes nothing."""
        body = {**message, "success": False} if message.get("error") else message.get("data")
        part = self._wire.frames.take(tag, conn)
        judge = list_reply if isinstance(part, ReadPart | HelloPart) else command_reply
        reply = judge(None, body, self.evidence)
        self._wire.on_answered(conn, tag, now, limited=is_limited(reply))
        if part is not None:
            return part.on_frame_reply(reply, now)
        return self.drills.end_frame(tag, reply.ok, reply.evidence, now)

    def _on_push(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        """Process a frame that is no reply to an RPC."""
        match message.get("type"):
            case "orderUpdate":
                return self._knowledge.on_push(message)
            case "pnlUpdate":
                return self._equity.on_push(conn, message, now)
            case str() as kind if kind in IGNORED:
                return ()
            case _ if message.get("status") == "subscribed" or message.get("success") is True:
                return ()
        texts = [message[key] for key in ("error", "message", "detail") if message.get(key)]
        if "rate limit" in " ".join(map(to_text, texts)).lower():
            self._wire.on_answered(conn, "", now, limited=True)
        return (UnexplainedMessage(self.evidence(*texts) if texts else "a message that no document explains"),)


def _frame_line(api: str, **args: str) -> str:
    return f"ws {rpc_frame(api, args).decode()}"
