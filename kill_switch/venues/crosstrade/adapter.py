"""The CrossTrade adapter: a cloud relay to an add-on in NinjaTrader 8.

It is made of the kit's parts; the other modules of this folder state what only CrossTrade has. It never proves an
account clear by a reply, because every reply means "submitted": only reads do. § numbers are those of
docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from kill_switch.core.domain import Instant, Order, Route, SweepTiming
from kill_switch.venues.crosstrade.account_reach import AccountReach
from kill_switch.venues.crosstrade.cancel_commands import CancelCommands
from kill_switch.venues.crosstrade.equity import CURRENCY, EquityReader
from kill_switch.venues.crosstrade.flatten import Flattener
from kill_switch.venues.crosstrade.look_ups import OrderLookUps
from kill_switch.venues.crosstrade.options import CrossTradeOptions
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.prober import Prober
from kill_switch.venues.crosstrade.readback import LIST, UserReader
from kill_switch.venues.crosstrade.replies import (
    AccountDirectory,
    command_reply,
    describe_unreached,
    is_limited,
    list_reply,
)
from kill_switch.venues.crosstrade.request_queue import TURN, RequestQueue
from kill_switch.venues.crosstrade.rpc_replies import RpcReplies
from kill_switch.venues.crosstrade.strike import TokenStriker
from kill_switch.venues.crosstrade.strike_plan import StrikePlanner
from kill_switch.venues.crosstrade.tokens import BURST, TOKENS, CrossTradeLimits, TokenBucket
from kill_switch.venues.crosstrade.user_wire import (
    ALL_ORDERS,
    SNAPSHOT,
    SocketLease,
    SocketLoad,
    UserWire,
)
from kill_switch.venues.decode import as_text, header_safe, parse_json, to_text
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.kit.order_list import OrderList, one_page
from kill_switch.venues.kit.pool_count import PoolCount
from kill_switch.venues.kit.pools import Demand, Pool
from kill_switch.venues.kit.readback import LOOK_UP
from kill_switch.venues.kit.replies import CallPart, Reply, ReplyOutcome
from kill_switch.venues.kit.sessions import Message
from kill_switch.venues.kit.strike import CancelCommand
from kill_switch.venues.kit_adapter import KitAdapter
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

CLOSING_ONLY = "orders that close positions are not cancelled"
TAKEN = "the venue has accepted every cancel; a read comes before any is repeated"
ELSEWHERE = "session active elsewhere"  # § 6: in the notice to a session that another session displaces
IGNORED = frozenset(  # frames without content for a kill; their gaps in the sequence count all the same
    "marketData pong status resync executionUpdate positionUpdate executionReportUpdate".split()
)
POLICY = "1008"  # close code of a displaced session, and of one with ten refusals in a row (§ 3, § 6)


class CrossTrade(KitAdapter[CrossTradeOptions]):
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
    OVER_LIMIT = frozenset[int]()  # the parts that judge replies drain the bucket, on both lanes
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
        Guess(
            "CancelOrders covers every order of the account, those that wait for a trigger too (§ 4)",
            "an order that a read shows after a strike is cancelled by its id too",
        ),
        Guess(
            "a snapshot shows an account connected only while NinjaTrader has its orders (§ 5)",
            "an order that a push shows alive, or whose cancel is refused, is looked up by its id",
        ),
        Guess("each state of an order has a name that is known (§ 7)", "an unknown state counts as alive"),
        Guess("no order is pushed (§ 6)", "lists alone are proof, and a probe reads them every 4 s"),
        Guess(
            "an error over the WebSocket has one of three forms (§ 6)",
            "a frame whose answer cannot be read has its twin over REST",
        ),
    )

    STRIKER = TokenStriker
    READER = UserReader
    limits: CrossTradeLimits
    striker: TokenStriker
    reader: UserReader

    @classmethod
    def demand(cls, options: CrossTradeOptions) -> Demand:
        """Return the requests: orders and snapshot, positions too with `flatten`; two for each account in a strike."""
        orders, snapshot = f"GET {ALL_ORDERS}", f"GET {SNAPSHOT}"
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
        bearer = {"Authorization": f"Bearer {header_safe('token', secrets['token'])}"}
        self.upgrade_request = Upgrade(headers=bearer)
        self._accounts = options.nt_accounts
        self._subscribes = options.order_events
        self.closes_positions = options.flatten
        headers = {"Host": self.host, **bearer, "Content-Type": "application/json"}
        self._wire = UserWire(headers, self.limits, self.calls, self.evidence)
        self._ours = ours = AccountDirectory(self._accounts)
        self._lease = SocketLease()
        self._queue = RequestQueue(self.limits, self.calls)
        self._planner = StrikePlanner(self._accounts)
        self._flattens = Flattener(self._wire, options.flatten)
        self._reach = AccountReach(ours, self.evidence)
        self._knowledge = OrderKnowledge(self.book, ours, self._planner, self._flattens, self._reach)
        self._equity = EquityReader(self._wire, ours)
        self._cancels = CancelCommands(self._wire, self._knowledge, self._accounts)
        self.account_wide = self._cancels.first
        self.lists = (OrderList(LIST, one_page(self._wire.build("GET", ALL_ORDERS)), lambda data: data),)
        self._look_ups = OrderLookUps(self._wire, ours, self._planner, self._reach)
        self.look_up = self._look_ups.build
        self.book.on_whole_list = self._knowledge.on_whole_list
        self.assemble()
        self.read_backs.must_yield = self._look_ups.must_yield
        self._wire.timers = self.timers
        self.striker.use(self._wire, self._queue)
        self.reader.use(self._wire, ours, self._queue, self._knowledge, self._reach, self._flattens)
        self._prober = Prober(self._wire, self.reader, self._reach, self._queue, self.drills, self._accounts)
        self._rpc_replies = RpcReplies(self._wire, self.striker, self.drills, self.evidence)

    def why_not_ready(self, route: Route) -> str:
        return describe_unreached(self._reach.unseen)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def carrier(self) -> int | None:
        return self._wire.newest

    def cancels(self, now: Instant) -> Iterable[CancelCommand]:
        return self._cancels.planned(self._planner.choose(self.book.orders, BURST, first=True)).values()

    def prebuilt_command(self, now: Instant) -> Send | None:
        if not self._planner.is_every_account(self._wire.bucket.left(now)) or self.striker.is_waiting:
            return None
        first = None if self._wire.carrier(now) is None else super().prebuilt_command(now)
        return first if isinstance(first, Send) else None

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        closing, left = self._flattens.accounts_closing(now), self._wire.bucket.left(now)
        plan = self._planner.plan(self.book.orders, left, closing, now, first=number == 1)
        chosen = plan[0]
        self._flattens.request(chosen, now)
        if chosen != self._accounts:
            self.striker.abandon_begun(now)
        idle = "" if chosen else CLOSING_ONLY if closing else TAKEN
        holding = () if left >= len(chosen) else self._planner.owners(self.book.orders)
        commands = self._cancels.planned(plan)
        yield from self.striker.strike_targets(commands, now, kill=number == 1, holding=holding, idle=idle)
        yield from self.prepare_frame()
        self._planner.on_struck(self.book.orders)

    def drop_strike_work(self) -> None:
        super().drop_strike_work()
        self._flattens.drop_requests()

    def is_pending(self, tag: str) -> bool:
        """Return whether a request is still to be sent; a cancel that must wait in the queue is not."""
        call = self.calls.pending.get(tag)
        return call is not None and not getattr(call.part, "must_wait", False)

    def describe_strike(self) -> tuple[str, ...]:
        lines = super().describe_strike()
        if not self.closes_positions:
            return lines
        return (*lines, f"then Flatten, once, each of {', '.join(self._accounts)} that a read shows a position of")

    # ── reads and probes ──────────────────────────────────────────────────────────────────────────────────────────

    def keep_warm(self, now: Instant) -> Outputs:
        return self._prober.probe_if_due(now)

    def drill(self, now: Instant) -> Outputs:
        if self._wire.bucket.spare(now, 2):
            return self._prober.drill(now)
        why = "the tokens that are left are kept for a kill"
        return tuple(Drilled(route, False, 0, why, tried=False) for route in self.DRILLS)

    def request_equity(self, now: Instant) -> Outputs:
        return self._equity.start_read(now)

    def slow_kill_warning(self, now: Instant) -> str:
        return self._wire.bucket.slow_kill_warning(len(self._accounts), now)

    def reason_to_stay_disconnected(self, now: Instant) -> str:
        left_s = self._lease.left_s(now)
        return f"another session has this user's one WebSocket: REST only for {left_s:.0f} s" if left_s > 0 else ""

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        return command_reply(status, body, self.evidence)

    def read_order(self, item: object) -> Order | None:
        account_order = self._ours.order(item)
        return None if account_order is None else account_order.order

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        return self._look_ups.read_order(data, order_id)

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        judge = command_reply if call.command or call.kind == DRILL else list_reply
        judged = judge(reply.status, parse_json(reply.body), self.evidence)
        if judged.outcome is ReplyOutcome.NO_ANSWER:
            return None
        if not is_limited(judged):
            self._wire.bucket.note_accepted()
        else:
            self._wire.bucket.drain(now, reply.headers.get("retry-after", ""))
            if call.urgent and not call.command:  # a kill's read: it is repeated
                return self._queue.queue_read(call, now)
        if call.kind == LOOK_UP:
            self._look_ups.note_reply(call.part.ids[0], judged)
        part: CallPart = call.part
        return part.on_reply(call, judged, reply, now)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            return self._prober.on_opened(now)
        self._wire.links[conn] = SocketLoad(now.mono_ns)
        greeting = (self.reader.greet(conn, now), *self.prepare_frame())
        if not self._subscribes:
            return greeting
        self._wire.bucket.spend(now)
        return (*greeting, Send(conn, b'{"action":"subscribe","id":"events","events":["orders"]}'))

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
        twins = self.striker.on_lost_session(conn, now, limited=limited)
        reads = [output for part in self._wire.frames.take_lost(conn) for output in part.on_lost(now)]
        return (NotReady(route, conn, why, fatal=displaced), *twins, *reads, *self.prepare_frame())

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        return self._queue.on_timer(now) if tag == TURN else super().on_timer(tag, now)

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs:
        if conn not in self._wire.links:
            return ()
        tag, data = message.get("id"), message.get("data")
        if isinstance(tag, str) and isinstance(data, dict) and data.get("success") is True and "error" not in message:
            return self._rpc_replies.on_reply(conn, tag, message, now)  # a success: the session is not displaced
        words = [as_text(message.get(key)) for key in ("error", "reason", "message", "detail", "type", "status")]
        if any(ELSEWHERE in text.lower() for text in words):
            unready, *outputs = self.on_closed(Route.WS, conn, "Session active elsewhere", now)
            why = unready.why if isinstance(unready, NotReady) else ""
            return (unready, CloseConnection(conn, why), *outputs)
        if isinstance(tag, str) and ("data" in message or "error" in message):
            return self._rpc_replies.on_reply(conn, tag, message, now)
        is_gap = message.get("type") == "resync" or bool(message.get("dropped"))  # then the orders are read (§ 6)
        read = self.reader.probe(now) if is_gap and self._wire.bucket.spare(now, 1) else ()
        return (*self.on_push(conn, message, now), *read)

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
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
