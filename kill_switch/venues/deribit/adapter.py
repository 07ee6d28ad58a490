"""Speak to Deribit: one `private/cancel_all` frame over a warm WebSocket, with a signed GET as its twin.

`docs/venues/deribit.md` has the venue's facts; § numbers in this folder are those of that page. Two connections are
kept warm: a refusal for too many requests ends a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from kill_switch.core.domain import Instant, Order, OrderState, Route, SweepTiming
from kill_switch.venues.decode import header_safe, parse_json
from kill_switch.venues.deribit.equity import AccountMeter
from kill_switch.venues.deribit.json_rpc import RFQ, JsonRpcSocket
from kill_switch.venues.deribit.options import DeribitOptions
from kill_switch.venues.deribit.replies import (
    INVALID_CREDENTIALS,
    METHOD_OFF,
    NO_SCOPE,
    QUOTE,
    TRIGGERED,
    count_quotes,
    failed_currencies,
    is_liquidation,
    judge_http,
    judge_reports,
    read_order,
    read_single,
    refused_code,
    trigger_of,
    venue_ms,
)
from kill_switch.venues.deribit.signing import PREFIX, DeribitRequests
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.order_list import OrderList, one_page
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.kit.replies import FrameReply, Reply, ReplyOutcome
from kill_switch.venues.kit.sessions import LoginRefused, Message
from kill_switch.venues.kit.signing import form
from kill_switch.venues.kit.strike import CancelCommand, StrikeStep
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.messages import Outputs, Replied, UnexplainedMessage
from kill_switch.venues.profile import Guess

NO_ORDER = "ETH-0"  # well-formed, and no order has it
PRIVATE = f"{PREFIX}private/"
CANCELS_BY_ID = 2  # of a strike at most: they draw from the bucket of the bots, which has five a second at least (§ 7)
OF_CANCEL_ALL, TRADING, OTHERS = "cancel-all", "trading", "non-matching"  # § 7: buckets, in requests
BY_CURRENCY, BY_KIND, RFQ_QUOTES = "cancel_all_by_currency", "cancel_all_by_kind_or_type", "cancel_all_block_rfq_quotes"


class Deribit(KitAdapter[DeribitOptions]):
    """Speak one subaccount's protocol at Deribit.

    `get_open_orders` shows the orders of every currency, and its triggers in a list of their own too. A pushed order
    that neither shows is looked up by `get_order_state`.
    """

    NAME = "deribit"
    TIMING = SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5)
    WS_CONNECTIONS = 2
    ADDRESS_CONNECTIONS = 32  # § 5: WebSockets too; the next one is refused
    CLOCK_WINDOW_S = 60.0
    POOLS: ClassVar[tuple[Pool, ...]] = (
        Pool(OF_CANCEL_ALL, 250, per_s=200, shared_by="account"),
        Pool(TRADING, 20, per_s=5, shared_by="account"),  # the smallest tier; the account's bots draw from it too
        Pool(OTHERS, 100, per_s=20, shared_by="account"),
    )
    COSTS: ClassVar[tuple[Cost, ...]] = (
        Cost("GET", f"{PRIVATE}{RFQ_QUOTES}", ((OTHERS, 1.0),)),
        Cost("GET", f"{PRIVATE}{BY_CURRENCY}", ((TRADING, 1.0),)),
        Cost("GET", f"{PRIVATE}cancel_all", ((OF_CANCEL_ALL, 1.0),)),
        Cost("GET", f"{PRIVATE}cancel", ((TRADING, 1.0),)),
        Cost("GET", PREFIX, ((OTHERS, 1.0),)),
    )
    DEMAND: ClassVar[Demand] = Demand(
        read=(f"GET {PRIVATE}get_open_orders",) * 2,
        probe=(f"GET {PRIVATE}get_open_orders",),
        equity=(f"GET {PRIVATE}get_account_summaries", f"GET {PRIVATE}get_transaction_log"),
        drill=(f"GET {PRIVATE}cancel",) * 2,  # over HTTP, and as a frame
        strike=(f"GET {PRIVATE}cancel_all",),
    )

    Options = DeribitOptions
    COMMANDS = (
        'ws "private/cancel_all": the whole subaccount, in every currency',
        "GET /api/v2/private/cancel_all: its twin, if no answer comes, a part fails or the WebSocket is down",
        "GET /api/v2/private/cancel_all_by_currency: for each currency whose part has failed in the twin too",
        "GET /api/v2/private/cancel_all_by_kind_or_type: if Deribit has switched cancel_all off",
        "GET /api/v2/private/cancel: a few orders that have outlived a strike, beside the next one",
        'ws "private/cancel_all_block_rfq_quotes" and its twin, if the key has the scope block_rfq:read_write',
    )
    COVERED = (
        "orders of every currency, kind and combo, triggers and mass quotes too, of every program and of the web page",
        "quotes for block RFQs, if the key has the scope block_rfq:read_write",
    )
    NOT_COVERED = (
        "orders entered through Starbase: they have their own gateway and key",
        "quotes for block RFQs, if the key lacks the scope block_rfq:read_write; own RFQs and their triggers",
        "block trades that wait for a signature; liquidation orders of Deribit's own",
        "isolated books at drb.coinbase.com; other subaccounts: each has its own keys",
        "positions, withdrawals and transfers",
    )
    GUESSES = (
        Guess(
            "cancel_all has its bucket in every tier (§ 7)",
            "a refusal is no success: the other socket and REST go on, and the lists decide",
        ),
        Guess(
            "a frame's access_token serves until its refresh (§ 2)",
            "a refused frame has its twin at once, which needs no token",
        ),
        Guess(
            "one answer of get_open_orders has all orders, triggers included (§ 4)",
            "triggers are listed once more alone; a pushed order in no list is looked up by its id",
        ),
        Guess(
            "a look-up that says triggered is of a used-up trigger (§ 4)",
            "the order that it has placed has its own id, and is in the list of the second clean read",
        ),
        Guess(
            "an order with a cancel_reason has ended, whatever its state says (§ 3.1)",
            "only pushes and look-ups are read so: an order that a list shows is alive",
        ),
        Guess(f"no order has the id {NO_ORDER} (§ 3.2)", "nothing: a drill cancels this id"),
        Guess(
            "the transaction log has a deposit when the balance has it (§ 9)",
            "the log is read once more with the next figures; until then a deposit looks like a profit",
        ),
    )

    @classmethod
    def secrets(cls, options: DeribitOptions) -> tuple[str, ...]:
        return ("client_id", "client_secret")

    def __init__(self, options: DeribitOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        key = header_safe("client_id", secrets["client_id"])
        secret = header_safe("client_secret", secrets["client_secret"]).encode()
        self._requests = DeribitRequests(self.host, key, secret, self.clock)
        self._get = self._requests.get
        self._socket = JsonRpcSocket(self, self._requests)
        self._meter = AccountMeter(self._get, self.calls, self.evidence)
        self.account_wide = self._command("cancel_all", detailed="true", freeze_quotes="true")._replace(
            then=self._after_cancel_all
        )
        self._rfq_quotes = self._command(RFQ_QUOTES)._replace(judge=count_quotes)
        self._read_quotes = self._get("private/get_block_rfq_quotes")
        self._may_quote: bool | None = None  # the key's scope for block RFQs; None: no answer has told it yet
        self.lists = (
            OrderList("open", one_page(self._get("private/get_open_orders", type="all")), self._open_items),
            OrderList("trigger", one_page(self._get("private/get_open_orders", type="trigger_all")), lambda data: data),
            OrderList("rfq", one_page(self._read_quotes), lambda data: data),
        )
        self.look_up = lambda order_id: self._get("private/get_order_state", order_id=order_id)
        self.login, self.ping = self._socket.login, self._socket.ping
        self.harmless = self._get("private/cancel", order_id=NO_ORDER)
        self.harmless_frame = lambda number: self._socket.command(number, "private/cancel", order_id=NO_ORDER)
        self.assemble()

    def _command(self, name: str, **params: str) -> CancelCommand:
        """Return a mass cancel as a frame, with a GET as its twin."""
        method = f"private/{name}"
        typed = {key: True if value == "true" else value for key, value in params.items()}
        query = f"?{form(**params)}" if params else ""
        return CancelCommand(
            name.replace("_", "-"),
            self._get(method, **params),
            judge_reports,
            frame=lambda number: self._socket.command(number, method, **typed),
            line=f"GET {PREFIX}{method}{query}",
            frame_line=f'{{"method":"{method}",…}}',
        )

    # ── a kill ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancels(self, now: Instant) -> Iterable[StrikeStep]:
        yield from super().cancels(now)
        if self._may_quote:
            yield self._rfq_quotes

    def cancels_by_id(self) -> Iterator[CancelCommand]:
        """Yield the cancels of orders that the strike before this one has hit too, the least tried first."""
        known = (order_id for order_id in self.book.orders if not order_id.startswith(QUOTE))
        for order_id in self.outlived.choose(known, CANCELS_BY_ID):
            yield CancelCommand("cancel-order", self._get("private/cancel", order_id=order_id), extra=True)

    def _after_cancel_all(self, reply: Reply, now: Instant) -> Iterable[StrikeStep]:
        """Yield the cancels of the currencies whose part has failed: they draw from the bucket of the bots (§ 7)."""
        if refused_code(reply) == METHOD_OFF:
            yield self._command(BY_KIND, currency="any", type="all", detailed="true", freeze_quotes="true")
        for currency in failed_currencies(reply):
            yield self._command(BY_CURRENCY, currency=currency, type="all", detailed="true", freeze_quotes="true")

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        return judge_http(status, body, self.evidence, self._requests.signed_ms)

    def note_judged(self, call: PendingCall, reply: Reply, now: Instant) -> Reply:
        """Judge a refusal of an outdated time, or of a list that the key has no scope for."""
        code = refused_code(reply)
        if code == INVALID_CREDENTIALS and self._requests.is_outdated(call.asked_ns):
            return reply._replace(outcome=ReplyOutcome.WRONG_TIME, key_refused=False)
        if call.build is self._read_quotes:
            if reply.ok:
                self._note_scope(may_quote=True)
            elif code in NO_SCOPE and not self._may_quote:
                self._note_scope(may_quote=False)
                return Reply(ReplyOutcome.ACCEPTED, f"the key lacks the scope {RFQ}", [])
        return reply

    def _note_scope(self, *, may_quote: bool) -> None:
        """Exclude the quotes for block RFQs from strikes and reads if the key has never had their scope (§ 3.3)."""
        if self._may_quote or self._may_quote is may_quote:
            return  # a scope that was lost hides no quote that rests
        self._may_quote, lists = may_quote, self.reader.by_name
        if may_quote:
            lists["rfq"] = self.lists[-1]
        else:
            del lists["rfq"]
        self.book.lists = tuple(lists)

    def on_wrong_time(self, reply: Replied, tries: int, now: Instant) -> None:
        shown_ns = venue_ms(parse_json(reply.body)) * 1_000_000
        sent_ns = now.wall_ns - reply.rtt_us * 1000
        self._requests.note_correction(now)
        self.clock.note_message(shown_ns - 1_000_000, shown_ns, sent_ns, now, refused=True)

    def frame_reply(self, message: Message) -> FrameReply | None:
        return self._socket.frame_reply(message)

    def read_order(self, item: object) -> Order | None:
        return read_order(item)

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        order = read_single(data)
        return order._replace(state=OrderState.GONE) if order is not None and order.status == TRIGGERED else order

    def _open_items(self, data: Any) -> object:
        """Return the orders of a list that are not the venue's own liquidation, and state how many of these rest."""
        if not isinstance(data, list):
            return data
        ours = [item for item in data if not is_liquidation(item)]
        count = len(data) - len(ours)
        self.out_of_reach = (f"{count} liquidation order(s) of Deribit's own",) if count else ()
        return ours

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def why_not_ready(self, route: Route) -> str:
        return self._socket.why_not

    def slow_kill_warning(self, now: Instant) -> str:
        return self._socket.warning()

    def login_refusal(self, message: Message) -> LoginRefused | None:
        return self._socket.login_refusal(message)

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs:
        beside = self._socket.hear(conn, message, now) if conn in self.sessions else ()
        return (*super().on_message(conn, message, now), *beside)

    def on_session_ready(self, conn: int, now: Instant) -> Outputs:
        """Use a connection whose login states whether the key may quote for block RFQs."""
        self._note_scope(may_quote=RFQ in self._socket.scopes)
        self.key_rights = self._socket.key_rights
        pushes = self.read_backs.begin_pushes(conn, now) if self._socket.pushes_orders(conn) else ()
        return (*self.prepare_frame(), *pushes, *self._socket.on_ready(conn))

    def on_session_closed(self, conn: int) -> None:
        self._socket.forget(conn)
        super().on_session_closed(conn)

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        return self._socket.on_push(conn, message, self._on_orders)

    def _on_orders(self, data: object) -> Outputs:
        outputs: Outputs = ()
        for item in data if isinstance(data, list) else (data,):
            if is_liquidation(item):
                continue
            order = read_single(item)
            if order is None:
                outputs += (UnexplainedMessage("an order push that cannot be read"),)
                continue
            if (used_up := trigger_of(item)) in self.book.orders:
                outputs += self.book.apply_push(Order(used_up, order.symbol, OrderState.GONE, TRIGGERED))
            outputs += self.book.apply_push(order)
        return outputs

    def request_equity(self, now: Instant) -> Outputs:
        return self._meter.measure(now) if self._socket.may_read_account and not self.budget.pause_s(now) else ()
