"""Speak to CrossTrade: a cloud relay to an add-on in NinjaTrader 8 (docs/venues/crosstrade.md, § numbers below).

A strike is `CancelOrders` for each NT account, all at once over the user's one WebSocket; the REST twin follows for
those that are not answered in time, and goes first where that lane is down. What rests on after a read is cancelled by
its id too. All replies mean "submitted": only reads of `GET /orders` prove an account clear, together with a snapshot
that shows each NT account connected to its broker. Every request costs one of the user's 20 tokens, 3 come back a
second (§3): polling leaves 15, and second copies wait for what is left. Where the venue refuses requests, cancels leave
over REST one by one, and reads behind them; `caution` says beforehand how long a kill would take then.

With `flatten = true` a read-back shows positions as well, each as an order `position:ACCOUNT:INSTRUMENT` that is left
until it is closed; `crosstrade_flatten` says when an account is flattened. Only a strike can have that done, one at a
time, and never by a second route unless the first one provably sent nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, field_validator

from kill_switch.core.domain import CancelOutcome, Instant, Order, OrderState, Route, SweepTiming
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.crosstrade.doubted_orders import DoubtedOrders
from kill_switch.venues.crosstrade.equity import CURRENCY, EquityReader
from kill_switch.venues.crosstrade.flatten import Flattener
from kill_switch.venues.crosstrade.readback import UserRead, UserReader
from kill_switch.venues.crosstrade.replies import AccountDirectory, CancelReply, failure, judge, lacking, warning
from kill_switch.venues.crosstrade.request_queue import TURN, RequestQueue
from kill_switch.venues.crosstrade.strike import CrossTradeStriker, single_target
from kill_switch.venues.crosstrade.strike_plan import READ_KEEPS, StrikePlanner
from kill_switch.venues.crosstrade.tokens import BURST, RequestFactory, SocketLease, SocketLoad, rpc_frame
from kill_switch.venues.decode import as_text, header_safe, parse_json, to_text
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.drill import DRILL
from kill_switch.venues.messages import (
    NOT_PROCESSED,
    CloseConnection,
    Drilled,
    NotReady,
    OrdersRead,
    Output,
    Outputs,
    Ready,
    Replied,
    Send,
    UnexplainedMessage,
)
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.profile import shared_timing

SNAPSHOT_EVERY = 4  # probes
MAX_TROUBLE = 600  # characters of a line that may name 15 NT accounts
PROBE_AGAIN_S = 4.0  # a lane that comes up so soon after a probe is probed again only with tokens to spare
PROBE_ANYWAY_S = 8.0  # between two probes while others use the tokens up: a refusal costs nothing, and says so
NO_ORDER = "0" * 32  # the empty GUID: no order can have it

PUSHED = frozenset(  # frames that a kill does without; a gap in their sequence counts all the same
    "marketData pong status resync executionUpdate positionUpdate executionReportUpdate".split()
)
UNDISTURBED = "what closes positions is not disturbed"
TAKEN = "the venue has taken every cancel, and is read before it gets them again"
ELSEWHERE = "session active elsewhere"
POLICY = "1008"  # the code with which a session ends, for another one or after ten refusals in a row (§3, §6)


class CrossTradeOptions(VenueOptions):
    """The keys of an account at this venue."""

    ws_url: str = "wss://app.crosstrade.io/ws/stream"
    rest_url: str = "https://app.crosstrade.io"
    nt_accounts: tuple[str, ...] = Field(min_length=1, max_length=15)  # a token each, out of one burst
    order_events: bool = True  # try to subscribe to order events; whether NT8 accounts have any is not documented
    flatten: bool = False  # close the accounts' positions too, at the market, after their orders are cancelled

    @field_validator("nt_accounts")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if any(not name or name != name.strip() or not name.isprintable() or len(name) > 64 for name in names):
            raise ValueError('must be names as NinjaTrader shows them, such as "Sim101"')
        if len({name.casefold() for name in names}) != len(names):
            raise ValueError("must not name an account twice; upper and lower case are the same")
        return names


class CrossTrade(Adapter[CrossTradeOptions]):
    """One CrossTrade user, with some of the accounts in that user's NinjaTrader.

    What it is worth is the sum of its accounts' net liquidation, out of one message. A deposit or a withdrawal is in it
    like a profit or a loss: nothing tells them apart. The times in messages are those of the user's Windows machine:
    they say nothing of the venue's clock, and nothing is signed.
    """

    NAME = "crosstrade"
    TIMING = SweepTiming(
        answer_within_s=1.5, read_after_s=0.025, read_within_s=4.0, read_gap_s=1.0, clean_reads=2, strike_gap_s=1.0
    )
    WARM_EVERY_S = 8.0  # a probe every 4 s: nothing pushes orders, and the add-on may be gone at any time
    WS_OVERLAP = False  # §6: a second connection closes the first
    CURRENCIES = (CURRENCY,)
    SCOPE = ("nt_accounts", "flatten")
    PARTS = ("nt_accounts",)
    NOT_PROCESSED = NOT_PROCESSED - {408}  # §2: the add-on is not connected, on whatever route
    PUSHES_ORDERS = False  # §6: for NT8 accounts not documented; where there are any, they are taken

    Options = CrossTradeOptions

    @classmethod
    def timing(cls, together: int) -> SweepTiming:
        return shared_timing(cls.TIMING, together)

    @classmethod
    def secrets(cls, options: CrossTradeOptions) -> tuple[str, ...]:
        return ("token",)

    def __init__(self, options: CrossTradeOptions, secrets: Mapping[str, str], hedge_after_s: float) -> None:
        super().__init__(options, secrets, hedge_after_s)
        self._bearer = {"Authorization": f"Bearer {header_safe('token', secrets['token'])}"}
        self._accounts = options.nt_accounts
        self._events = options.order_events
        self._ours = AccountDirectory(self._accounts)
        self._wire = RequestFactory(self.host, self._bearer)
        self._slot = SocketLease()
        self._choice = StrikePlanner(self._accounts)
        self.closes_positions = options.flatten
        self._flattens = Flattener(self._wire, self.calls, on=options.flatten)
        self._doubts = DoubtedOrders()
        self._turns = RequestQueue(self._wire.bucket)
        self._strikes = CrossTradeStriker(
            self._wire,
            self._accounts,
            self._turns,
            self.calls,
            self._cancel_said,
            self._hedge_s,
            self._answers,
        )
        self._snapshot = self._wire.request("GET", "/v1/api/accounts/snapshot")
        self._reads = UserReader(
            self._wire,
            self._ours,
            self._doubts,
            self._turns,
            self._snapshot,
            self.calls,
            self.evidence,
            self._read_back,
            self._unread,
            self._reached_throughout,
            positions=options.flatten,
            hedge_after_s=self._hedge_s,
        )
        self._figures = EquityReader(self._wire, self._ours, self.calls, self.evidence, self._snapshot)
        self._unseen: Mapping[str, str] = {}  # accounts that the last snapshot does not show connected, and why
        self._unseen_told: Mapping[str, str] = {}  # those that people have been told of
        self._closing: dict[str, Order] = {}  # orders that close positions, as the last reads have shown them
        self._reach_owed = False  # no snapshot has come yet since the HTTP lane came up
        self._probes = self._rehearsed = 0
        self._probed_ns = self._read_ns = 0  # when the last probe began, and the last read

    def share_limit(self, other: Adapter) -> None:
        super().share_limit(other)
        assert isinstance(other, CrossTrade)  # noqa: S101 - one venue's accounts share
        self._wire.bucket = self._turns.bucket = other._wire.bucket

    def read_wait_s(self, now: Instant) -> float:
        return 0.0 if self._wire.bucket.contended(now) else self._wire.bucket.wait_s(READ_KEEPS + 1, now)

    def _hedge_s(self) -> float:
        return self.hedge_after_s  # a reload may have changed it

    def _answers(self, made_ns: int) -> None:
        self.answers_ns = made_ns

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def prebuilt_command(self, now: Instant) -> Send | None:
        closing = self._flattens.accounts_closing(now)
        if closing or len(self._accounts) > 1:  # the only one is struck however few tokens are left
            if not self._choice.is_every_account(self._wire.bucket.left(now), closing, now):
                return None
        return self._strikes.first(now)

    def strike(self, now: Instant) -> Iterator[Output]:
        closing, kill = self._flattens.accounts_closing(now), self._choice.first(now)
        chosen, singles = self._choice.strike(self.book.orders, self._wire.bucket.left(now), closing, now)
        self._flattens.request(chosen, now)
        owned = [(self._choice.owner(one), one) for one in singles]
        idle = "" if chosen else UNDISTURBED if closing else TAKEN
        yield from self._strikes.strike(chosen, owned, now, kill=kill, holding=self._holding, idle=idle)
        self._choice.struck(self.book.orders)

    def drop_strike_work(self) -> None:
        super().drop_strike_work()
        self._strikes.drop_strikes()
        self._flattens.void()

    def _holding(self) -> frozenset[str]:
        """Return the NT accounts that orders are known of."""
        return frozenset(map(self._choice.owner, self.book.orders))

    def _cancel_said(self, account: str, order: str, reply: CancelReply, now: Instant) -> None:
        """Take the last word on the cancel of an order, or of all of an account's."""
        if reply.accepted:
            self.book.note_cancelled(order_id for order_id in map(as_text, reply.ids) if order_id)
        if order:
            self._doubts.on_order_cancelled(account, order, reply)
            return
        self._flattens.on_cancels_answered(account, now)
        if reply.accepted:
            self._choice.taken(account, now)
        theirs = (order_id for order_id in self.book.orders if self._choice.owner(order_id) == account)
        self._doubts.on_account_cancelled(account, reply, theirs)

    def is_pending(self, tag: str) -> bool:
        """Say whether a request is still to leave; a cancel is not while it is to wait for its turn."""
        call = self.calls.pending.get(tag)
        return call is not None and not (call.kind in CrossTradeStriker.KINDS and self._strikes.holds(call))

    def describe_strike(self) -> tuple[str, ...]:
        chosen, singles = self._choice.choose(self.book.orders, BURST, first=True)
        owned = [(self._choice.owner(order_id), order_id) for order_id in singles]
        if self._wire.newest is not None:
            lines = [_ws("CancelOrders", account=name) for name in chosen]
            lines += [_ws("Cancel", account=name, orderId=order_id) for name, order_id in owned]
        else:
            lines = [f"POST {self._strikes.cancels[name].target} {{}}" for name in chosen]
            lines += [f"POST {single_target(name, order_id)} {{}}" for name, order_id in owned]
        if self.closes_positions:
            lines.append(f"then Flatten, once, each of {', '.join(self._accounts)} that a read shows a position of")
        return tuple(lines)

    def read(self, now: Instant) -> Outputs:
        self._read_ns = now.mono_ns
        return self._reads.begin(UserRead(now.mono_ns), now)

    def keep_warm(self, now: Instant) -> Outputs:
        if not self._wire.bucket.spare(now, 2) and not self._anyway(now):
            return ()
        self._probes += 1
        self._probed_ns = now.mono_ns
        orders = self._reads.begin(UserRead(now.mono_ns, probe=True), now)
        good = not self._reach_owed and self._reads.has_path
        return orders if good and self._probes % SNAPSHOT_EVERY else (*orders, *self._look(now))

    def _may_prove(self, now: Instant) -> bool:
        """Say whether to probe a lane that has come up; one that comes and goes would use up what a kill needs."""
        return now.mono_ns - self._probed_ns >= PROBE_AGAIN_S * 1e9 or self._wire.bucket.spare(now, 2)

    def _anyway(self, now: Instant) -> bool:
        """Say whether to probe without tokens to spare: others use them up, and nobody is being killed."""
        rested = now.mono_ns - max(self._probed_ns, self._read_ns) >= PROBE_ANYWAY_S * 1e9
        return rested and self._wire.bucket.contended(now) and not self._turns.cancels

    def drill(self, now: Instant) -> Outputs:
        """Cancel an order that cannot exist (§4), of each account in its turn; the answer to that is documented."""
        if not self._wire.bucket.spare(now, 2):
            why = "the tokens that are left are kept for a kill"
            return tuple(Drilled(route, False, 0, why, tried=False) for route in self.DRILLS)
        account = self._accounts[self._rehearsed % len(self._accounts)]
        self._rehearsed += 1
        tag, conn = f"{DRILL} {self._rehearsed}", self._wire.carrier(now)
        if conn is not None:
            self._wire.left(conn, tag, now)
        frame = rpc_frame("Cancel", {"account": account, "orderId": NO_ORDER}, tag)
        request = self._wire.request("POST", single_target(account, NO_ORDER))
        return (*self.drills.start_frame(conn, tag, frame, now), *self.drills.start_call(self._wire.paid(request), now))

    def request_equity(self, now: Instant) -> Outputs:
        return self._figures.measure(now)

    def slow_kill_warning(self, now: Instant) -> str:
        """Say how long a kill takes while another program of this user uses its requests up; "": none does."""
        if not self._wire.bucket.contended(now):
            return ""
        count = len(self._accounts)
        named = "1 NT account" if count == 1 else f"{count} NT accounts"
        took_s = self._wire.bucket.kill_s(count)
        return f"another program uses up this user's requests: a kill of {named} takes about {took_s:.0f} s"

    def upgrade_headers(self, now: Instant) -> Mapping[str, str]:
        return self._bearer

    def reason_to_stay_disconnected(self, now: Instant) -> str:
        left_s = self._slot.left_s(now)
        return f"another session has this user's one WebSocket: REST only for {left_s:.0f} s" if left_s > 0 else ""

    def _look(self, now: Instant) -> Outputs:
        return self.calls.start_call("snapshot", self._wire.paid(self._snapshot), now)

    # ── REST answers ──────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, reply: Replied, now: Instant) -> Outputs | None:
        body = parse_json(reply.body)
        cancel_reply = judge(reply.status, body, self.evidence)
        if cancel_reply is not None and cancel_reply.limited:
            self._wire.bucket.drain(now, reply.headers.get("retry-after", ""))
        elif cancel_reply is not None:
            self._wire.bucket.taken()
        match call.kind:
            case kind if kind in CrossTradeStriker.KINDS:
                return self._strikes.on_twin_reply(call, cancel_reply, now)
            case kind if kind in Flattener.KINDS and cancel_reply is not None:
                self._flattens.on_reply(call.part, cancel_reply, now)
                return ()
            case kind if kind in Flattener.KINDS:
                return None
            case kind if kind in UserReader.KINDS:
                return self._reads.answered(call, body, reply.status, now)
            case kind if kind in EquityReader.KINDS:
                return self._figures.answered(call, body, reply.status, now)
            case kind if kind == DRILL:
                return (
                    None
                    if cancel_reply is None
                    else (Drilled(Route.HTTP, _carried(cancel_reply), reply.rtt_us, cancel_reply.words),)
                )
            case _:
                return self._looked(body, reply.status)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        match call.kind:
            case kind if kind in CrossTradeStriker.KINDS:
                return self._strikes.on_twin_loss(call, why, now)
            case kind if kind in Flattener.KINDS:
                return self._flattens.on_loss(call, why, now)
            case kind if kind in UserReader.KINDS:
                return self._reads.unanswered(call, why, now)
            case "snapshot":
                return (NotReady(Route.HTTP, 0, why),)
            case _:  # the reads show what became of it; figures are asked for again
                return ()

    # ── reads, and what follows from them ─────────────────────────────────────────────────────────────────────────

    def _read_back(self, read: UserRead, now: Instant) -> Outputs:
        """Take a read that has ended; a probe says nothing of accounts and positions: it never proves all clear."""
        alive, outputs = self._known(read)
        strange = [
            UnexplainedMessage(self.evidence("order", o.id, "is in state Unknown"))
            for o in alive
            if o.status == "unknown"
        ]
        why = self.evidence("; ".join(read.troubles), limit=MAX_TROUBLE) if read.troubles else ""
        if read.probe:
            fact = OrdersRead(alive, not why, read.asked_ns, why)
            return (*self._proven(read, why), *((fact,) if alive else ()), *strange, *outputs)
        held, flattened = self._flattens.on_read(read, now) if read.positioned else ((), ())
        if read.positioned:
            self._choice.held((open_position.account for open_position in read.positions), whole=not read.troubles)
        lost = self._lost_reach()
        return (*flattened, OrdersRead((*held, *alive), not why, read.asked_ns, why), *lost, *strange, *outputs)

    def _lost_reach(self) -> Outputs:
        """Say that accounts are out of reach, if a read's snapshot has shown that others are than before."""
        before, self._unseen_told = self._unseen_told, self._unseen
        why = lacking(self._unseen) if self._unseen != before else ""
        return (NotReady(Route.HTTP, 0, self.evidence(why, limit=MAX_TROUBLE)),) if why else ()

    def _proven(self, read: UserRead, why: str) -> Outputs:
        """Say what a probe over HTTP has shown of that lane."""
        if read.conn is not None:
            return ()
        if why:
            return (NotReady(Route.HTTP, 0, why),)
        return () if self._reach_owed or self._unseen else (Ready(Route.HTTP, 0),)

    def _known(self, read: UserRead) -> tuple[tuple[Order, ...], Outputs]:
        """Take the orders that a read has shown into the book, a whole list as the truth; return what is left.

        What a list leaves out stays if its account need not be listed, or if its end is in doubt. An order that closes
        a position is not to be cancelled.
        """
        self._flattens.on_market_orders(read)
        alive = {}
        for account_order in read.orders:
            if account_order.order.state is OrderState.GONE:
                self.book.note_end(account_order.order, cancels=False)  # a list does not say when
            if account_order.order.state is OrderState.LIVE and self._flattens.is_own_order(
                account_order, read.asked_ns
            ):
                alive[account_order.order.id] = self._closing[account_order.order.id] = account_order.order._replace(
                    state=OrderState.PENDING
                )
            elif account_order.order.state is not OrderState.GONE:
                alive[account_order.order.id] = account_order.order
        if not read.ordered:
            for account_order in read.orders:
                self._choice.shown(account_order)
            return tuple(alive.values()), self.book.apply_listing("orders", alive.values(), read.asked_ns, whole=False)
        shown = {account_order.order.id for account_order in read.orders} if self.book.orders else set()
        for order_id in [account_order for account_order in self._closing if account_order not in alive]:
            self.book.note_end(self._closing.pop(order_id)._replace(status="filled"))  # nobody has cancelled it
        kept = [
            order
            for account_order, order in self.book.orders.items()
            if account_order not in shown and self._stays(account_order)
        ]
        self._choice.listed(read.orders, (order.id for order in kept))
        stay = {order.id for order in kept}
        found = self.book.apply_listing("orders", alive.values(), read.asked_ns, whole=True, kept=stay)
        self.book.doubted.update(
            dict.fromkeys(account_order for account_order in stay if self._doubts.holds(account_order))
        )
        return (*alive.values(), *kept), found

    def _stays(self, order: str) -> bool:
        return self._doubts.holds(order) or self._choice.owner(order) in self._unseen

    def _unread(self, why: str, reply: CancelReply | None) -> Outputs:
        if reply is not None and reply.limited:
            return ()  # somebody else is using the tokens up; the lane is as good as before
        return (NotReady(Route.HTTP, 0, why, fatal=reply is not None and reply.key),)

    def _reached_throughout(self, snapshot: Any) -> Mapping[str, str]:
        """Return the accounts that this snapshot or the one before does not show connected, and why.

        A list lies between two snapshots: an account that came into sight behind it was not covered by it.
        """
        before = {name: f"until now, {why}" for name, why in self._unseen.items()}
        return {**before, **self._reached(snapshot)}

    def _reached(self, snapshot: Any) -> Mapping[str, str]:
        """Take a snapshot; return the accounts that NinjaTrader need not show, and why."""
        self._unseen = self._ours.unseen(snapshot)
        self._reach_owed = False
        return self._unseen

    def _looked(self, body: Any, status: int) -> Outputs:
        """Take a probe's snapshot: are the add-on, our NT accounts and their brokers there?"""
        wrong = failure(status, body, self.evidence)
        if wrong is not None:
            return () if wrong.limited else (NotReady(Route.HTTP, 0, wrong.words, fatal=wrong.key),)
        why = lacking(self._reached(body))
        self._unseen_told = self._unseen
        return (NotReady(Route.HTTP, 0, self.evidence(why, limit=MAX_TROUBLE)) if why else Ready(Route.HTTP, 0),)

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            self._reads.has_path = self._reach_owed = True
            if not self._may_prove(now):
                return ()  # the next probe does it
            self._probed_ns = now.mono_ns
            return (*self._reads.begin(UserRead(now.mono_ns, probe=True), now), *self._look(now))
        self._wire.links[conn] = SocketLoad(now.mono_ns)
        self._reads.has_rpc = True
        hello = self._wire.rpc(conn, "hello", "GetAllOrders", {}, now)  # harmless, and through to the add-on
        ready = self._strikes.prepare(conn)
        if not self._events:
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
            away_s = self._slot.lost(link.since_ns, now)
            why = self.evidence(f"{why}: another program has this user's one WebSocket; REST only for {away_s:.0f} s")
        self._figures.closed(conn)
        unready = NotReady(route, conn, why, fatal=displaced)
        return (unready, *self._strikes.closed(conn, now, limited=limited), *self._reads.closed(conn, now))

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        if tag == TURN:
            return self._turns.woke(now)
        kind, _, argument = tag.partition(" ")
        return self._reads.late(argument, now) if kind == "list" else self._strikes.woke(kind, argument, now)

    def on_message(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        if conn not in self._wire.links:
            return ()
        tag, data = message.get("id"), message.get("data")
        if isinstance(tag, str) and isinstance(data, dict) and data.get("success") is True and "error" not in message:
            return self._replied(conn, tag, message, now)  # it has been carried out: nobody has taken the session
        words = [as_text(message.get(key)) for key in ("error", "reason", "message", "detail", "type", "status")]
        if any(ELSEWHERE in text.lower() for text in words):
            unready, *outputs = self.on_closed(Route.WS, conn, "Session active elsewhere", now)
            why = unready.why if isinstance(unready, NotReady) else ""
            return (unready, CloseConnection(conn, why), *outputs)
        if isinstance(tag, str) and ("data" in message or "error" in message):
            return self._replied(conn, tag, message, now)
        again = self._reads.begin(UserRead(now.mono_ns, probe=True), now) if self._gap(message, now) else ()
        return (*self._event(conn, message, now), *again)

    def _event(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs:
        match message.get("type"):
            case "orderUpdate":
                return self._pushed(message)
            case "pnlUpdate":
                return self._figures.pushed(conn, message, now)
            case str() as kind if kind in PUSHED:
                return ()
            case _ if message.get("status") == "subscribed" or message.get("success") is True:
                return ()
            case _:
                messages = [message[key] for key in ("error", "message", "detail") if message.get(key)]
                if "rate limit" in " ".join(map(to_text, messages)).lower():
                    self._wire.heard(conn, "", now, limited=True)
                return (
                    UnexplainedMessage(self.evidence(*messages) if messages else "a message that no document explains"),
                )

    def _gap(self, message: dict[str, Any], now: Instant) -> bool:
        """Say whether frames were lost, and there is a token to read the orders anew (§6)."""
        lost = message.get("type") == "resync" or bool(message.get("dropped"))
        return lost and self._wire.bucket.spare(now, 1)

    def _pushed(self, message: dict[str, Any]) -> Outputs:
        account_order = self._ours.order(message.get("order", message))
        if account_order is None:
            return (UnexplainedMessage("an order push that cannot be read"),)
        if not account_order.account:
            return ()
        self._choice.shown(account_order)
        self._doubts.on_push(account_order)
        return self.book.apply_push(account_order.order)

    def _replied(self, conn: int, tag: str, message: dict[str, Any], now: Instant) -> Outputs:
        """Take the reply to an RPC; an id that nobody waits for any more is nothing strange."""
        error = message.get("error")
        body = {**message, "success": False} if error else message.get("data")
        reply = judge(None, body, self.evidence)
        self._wire.heard(conn, tag, now, limited=reply is not None and reply.limited)
        if tag == "hello":
            return self._hello(conn, body, reply, now)
        if tag.startswith(DRILL):
            words = "a reply that says nothing" if reply is None else reply.words
            return self.drills.end_frame(tag, reply is not None and _carried(reply), words, now)
        struck = self._strikes.replied(conn, tag, reply, now)
        if struck is not None:
            return struck
        self._flattens.on_reply(tag, reply, now)
        return self._reads.replied(conn, tag, body, reply, now)

    def _hello(self, conn: int, body: object, reply: CancelReply | None, now: Instant) -> Outputs:
        """Take any reply as the proof that this connection carries commands; what it says of the add-on too."""
        ready = Ready(Route.WS, conn)
        self.book.start_pushes(conn, self._wire.links[conn].since_ns)
        if reply is not None and reply.offline:
            return (ready, NotReady(Route.HTTP, 0, reply.words))
        listed = self._reads.rpc_orders(body)
        if listed is None:
            self._reads.has_rpc = reply is not None and reply.limited
            return (ready,)
        why = warning(body, self.evidence) or listed.why
        read = UserRead(self._wire.links[conn].since_ns, probe=True, conn=conn, orders=listed.orders, ordered=not why)
        read.troubles += [why] if why else []
        return (ready, *self._read_back(read, now))


def _carried(reply: CancelReply) -> bool:
    """Say whether a drill's cancel came through: "not found or already terminal" is the answer to it."""
    return reply.answer is CancelOutcome.ACCEPTED


def _ws(api: str, **args: str) -> str:
    return f"ws {rpc_frame(api, args).decode()}"
