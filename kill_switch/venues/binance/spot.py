"""Speak to Binance spot: a frame `openOrders.cancelAll` for each symbol, with its twin over REST.

`docs/venues/binance.md` has the venue's facts; § numbers in this folder are those of that page. There is no
account-wide cancel: a strike's frames leave at once over one socket, for the symbols with the most orders first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field

from kill_switch.core.domain import Instant, Order, Route, SweepTiming
from kill_switch.venues.binance.account import SYMBOLS_WHILE_REFUSED, BinanceAccount
from kill_switch.venues.binance.checks import (
    AccountChecks,
    Check,
    IsolatedMargin,
    read_account,
    read_algos,
    read_margin,
    read_rights,
)
from kill_switch.venues.binance.replies import frame_weights
from kill_switch.venues.binance.signing import TextAt
from kill_switch.venues.binance.spot_replies import OrderReader, list_items, read_price, read_worth
from kill_switch.venues.binance.spot_socket import SpotSocket, event_of
from kill_switch.venues.binance.spot_transfers import SpotTransfers
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.fan_out import FanOut
from kill_switch.venues.kit.order_list import OrderList, one_page
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.kit.replies import FrameReply, Reply, ReplyOutcome
from kill_switch.venues.kit.sessions import LoginRefused, Message
from kill_switch.venues.kit.strike import CancelCommand, CommandPart, Striker, StrikeStep
from kill_switch.venues.kit.transfer_values import TransferValues
from kill_switch.venues.messages import Output, Outputs, ReplaceConnection, UnexplainedMessage
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.profile import Guess

API, WALLET = "/api/v3/", "/sapi/v1/"
NO_ORDER = 2**63 - 1  # well-formed, and no order has it
DRILLED = "BTCUSDT"  # a symbol that the venue has
SYMBOLS = 40  # of a repeated strike, for which the cadence has to leave room
CONNECT_WEIGHT = 2.0  # of a new connection, and of each request of its login (§ 5)
VIA = ("USDT", "BTC")  # an asset without a pair in the account's currency has one in one of them
QUIET = frozenset({"outboundAccountPosition", "externalLockUpdate"})


class BinanceSpotOptions(VenueOptions):
    """The configuration keys of an account at Binance spot."""

    TESTNET: ClassVar[Mapping[str, str]] = {
        "ws_url": "wss://ws-api.testnet.binance.vision/ws-api/v3",
        "rest_url": "https://testnet.binance.vision",
    }
    ws_url: str = "wss://ws-api.binance.com/ws-api/v3"
    rest_url: str = "https://api.binance.com"
    equity_currency: Literal["USDT", "USDC", "BTC", "ETH", "BNB"] = Field(
        default="USDT", description="Binance values the spot wallet in it"
    )


class OneLimitStriker(Striker):
    """The kit's striker where frames and requests draw from one limit, and a refused request leads to a ban (§ 7)."""

    def has_twin(self, part: CommandPart, reply: Reply) -> bool:
        """Return whether a twin decides: none leaves for a frame that is refused because of the limit."""
        return super().has_twin(part, reply) and (part.twin_started or not reply.pause_s)


class BinanceSpot(BinanceAccount[BinanceSpotOptions]):
    """Speak one account's protocol at Binance spot.

    `openOrders` has every order that is on the book, `openOrderList` also names the pending legs of order lists. Both
    may lag by 20 s (§ 10), so that the reads which prove an account clear span that.
    """

    NAME = "binance-spot"
    STRIKER = OneLimitStriker
    WEIGHT = "weight"
    TIMING = SweepTiming(
        clean_reads=2, read_after_s=0.25, read_gap_s=2.5, strike_gap_s=0.9, residue_after_s=30.0, list_lag_s=20.0
    )
    POOLS: ClassVar[tuple[Pool, ...]] = (
        # § 7; of all its hosts: api1 to api4 and api-gcp are the same API
        Pool(WEIGHT, 6000, window_s=60.0, shared_by="address", product="binance spot", is_stated=True),
    )
    COSTS: ClassVar[tuple[Cost, ...]] = (  # § 4, § 7; each call of the wallet has a pool of its own
        Cost("GET", f"{API}openOrders?symbol=", ((WEIGHT, 6.0),)),
        Cost("GET", f"{API}openOrders", ((WEIGHT, 80.0),)),
        Cost("GET", f"{API}openOrderList", ((WEIGHT, 6.0),)),
        Cost("GET", f"{API}account", ((WEIGHT, 20.0),)),
        Cost("GET", f"{API}order", ((WEIGHT, 4.0),)),
        Cost("GET", f"{API}ticker/price", ((WEIGHT, 2.0),)),
        Cost("", WALLET, (), is_apart=True),
        Cost("", "", ((WEIGHT, 1.0),)),
    )
    DEMAND: ClassVar[Demand] = Demand(
        read=(f"GET {API}openOrders", f"GET {API}openOrderList"),
        probe=(f"GET {API}openOrders?symbol=",),
        equity=(f"GET {WALLET}asset/wallet/balance",),
        drill=(f"DELETE {API}order",),
        strike=(f"DELETE {API}openOrders",) * SYMBOLS,
        keep_open=(f"GET {API}ping",),
    )

    fan_out: FanOut
    Options = BinanceSpotOptions
    COMMANDS = (
        'ws "openOrders.cancelAll": the orders of a symbol, for each symbol with open orders',
        "DELETE /api/v3/openOrders: its twin, if no answer comes or the WebSocket is down",
        "GET /api/v3/openOrders, GET /api/v3/openOrderList: symbols that nobody knew, in a first strike",
    )
    COVERED = (
        "orders of every symbol, stops too, of every program and of the web page",
        "order lists (OCO, OTO, OTOCO) with their pending legs",
    )
    NOT_COVERED = (
        "orders on margin, cross and isolated: no venue here cancels them; they are looked for and named",
        "futures: accounts of their own, binance-usdm and binance-coinm; options: no venue here reaches them",
        "server-side TWAP algos, grid bots, copy trading: they place orders again; a running TWAP is named",
        "tokenized stocks, convert limit orders, transfers",
        "sub-accounts: each has its own keys",
    )
    GUESSES = (
        Guess(
            '"Unknown order sent." to the cancel of a symbol means that it has no order (§ 3.1)',
            "it is no proof: the lists decide, and what they show is struck again",
        ),
        Guess(
            "lists lag by 20 s at most (§ 10)",
            "clean reads span that without a push of an order, and the guard reads on",
        ),
        Guess(
            "the pending legs of a list that executes are in openOrderList (§ 4)",
            "a cancel of the symbol's orders cancels them; a leg that is pushed is looked up",
        ),
        Guess(
            "an order that order does not know 20 s after its last message has ended (§ 10)",
            "nothing: it is asked only for orders that no list shows",
        ),
        Guess(
            "a symbol that is not trading refuses its cancel and keeps its orders (§ 3.1)",
            "a refusal is no success: it is repeated, and the lists decide",
        ),
        Guess(
            "a withdrawal leaves with its fee at its applyTime, a deposit comes at its completeTime (§ 9)",
            "nothing: a transfer that counts twice, or never, looks like a profit or a loss",
        ),
        Guess(
            "the balance of the wallet shows a transfer once it is pushed (§ 9)",
            "nothing: a transfer that the balance shows later looks like a profit or a loss until then",
        ),
    )

    @classmethod
    def currencies(cls, options: BinanceSpotOptions) -> tuple[str, ...]:
        return (options.equity_currency,)

    def __init__(self, options: BinanceSpotOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        self._names = OrderReader()
        self._currency = options.equity_currency
        self._socket = SpotSocket(self.requests, self.judgement, lambda: self.now, self.venue_ms, self._note_pause)
        self._values = TransferValues(
            self._currency,
            lambda asset, other: self.requests.public(f"{API}ticker/price", symbol=asset + other),
            read_price,
            self.calls,
            self.evidence,
            VIA,
        )
        self._transfers = SpotTransfers(
            self._values, self.calls, lambda path, **values: self.requests.signed("GET", f"{WALLET}{path}", **values)
        )
        self._checks = AccountChecks(self._questions(), self.calls, self.note_findings)
        self.lists = (
            OrderList(
                "open", one_page(self._signed("GET", "openOrders")), lambda data: data, line=f"GET {API}openOrders"
            ),
            OrderList(
                "order-lists",
                one_page(self._signed("GET", "openOrderList")),
                list_items,
                line=f"GET {API}openOrderList",
            ),
        )
        self.probe_request = self._signed("GET", "openOrders", symbol=DRILLED)
        self.look_up = self._look_up
        self.fan_out = FanOut(
            self.book, self._by_symbol, self.lists, self.read_order, list_lag_s=self.TIMING.list_lag_s
        )
        self.login = self._socket.login
        self.harmless = self._signed("DELETE", "order", symbol=DRILLED, orderId=NO_ORDER)
        self.harmless_frame = lambda number: self._socket.frame(
            number, "order.cancel", symbol=DRILLED, orderId=NO_ORDER
        )
        self.keep_open = self.requests.public(f"{API}ping")
        self.equity_request = self.requests.signed("GET", f"{WALLET}asset/wallet/balance", quoteAsset=self._currency)
        self.assemble()
        # a cancel that succeeds costs nothing, so that a used-up pool slows no strikes whose frames suffice (§ 3.1)
        self.limits.strikes_are_free = lambda: self.carrier() is not None and self.striker.frames_suffice

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _signed(self, method: str, call: str, **values: str | int) -> Build:
        return self.requests.signed(method, API + call, **values)

    def _by_symbol(self, symbol: str) -> tuple[CancelCommand]:
        return (
            CancelCommand(
                f"cancel-all {symbol}",
                self._signed("DELETE", "openOrders", symbol=symbol),
                self._names.judge_cancel_all,
                frame=lambda number: self._socket.frame(number, "openOrders.cancelAll", symbol=symbol),
                line=f"DELETE {API}openOrders?symbol={quote(symbol, safe='')}",
                frame_line=f'{{"method":"openOrders.cancelAll","params":{{"symbol":"{symbol}",…}}}}',
            ),
        )

    def _look_up(self, name: str) -> Build | None:
        order = self.book.orders.get(name)
        if order is None or not order.symbol:
            return None
        return self._signed("GET", "order", symbol=order.symbol, orderId=name.partition("@")[0])

    def texts_to_sign(self) -> Iterable[TextAt]:
        text_at = self.requests.query_at if self.carrier() is None else self._socket.text_at
        return [self.requests.query_at(), *(text_at(symbol=symbol) for symbol in self.fan_out.symbols())]

    def _questions(self) -> Iterator[Check]:
        yield Check("account", self._signed("GET", "account"), read_account)
        if self.environment == "testnet":
            return  # it has no wallet API, and no margin (§ 1)
        rights = partial(read_rights, needed="enableSpotAndMarginTrading", words="Enable Spot & Margin Trading")
        isolated = IsolatedMargin(
            lambda pair: self.requests.signed("GET", f"{WALLET}margin/openOrders", isIsolated="TRUE", symbol=pair)
        )
        for name, path, read in (
            ("rights", f"{WALLET}account/apiRestrictions", rights),
            ("algos", f"{WALLET}algo/spot/openOrders", read_algos),
            ("margin", f"{WALLET}margin/openOrders", read_margin),
            ("isolated", f"{WALLET}margin/isolated/account", isolated.read_pairs),
        ):
            yield Check(name, self.requests.signed("GET", path), read)

    # ── a kill ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancels(self, now: Instant) -> Iterator[StrikeStep]:
        return self.fan_out.strike(now)

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        """Yield a frame for each symbol; the first strike reads the lists beside them, for symbols nobody knew.

        While the venue refuses cancels, a strike that follows tries few symbols.
        """
        self.now = now
        blind, first = not self.book.orders, number == 1
        may_find = self.may_find(now, is_first=first)
        if not first and self.is_refused(now):
            steps = self.fan_out.strike_again(now, SYMBOLS_WHILE_REFUSED, may_find=False)
        else:
            must_find = first and not self.book.is_known
            lists = must_find or (may_find and (blind or first))
            steps = self.fan_out.strike(now, lists=lists, is_first=first)
        yield from self.striker.strike(steps, now, is_later=number > 1, is_wide=True)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def frame_reply(self, message: Message) -> FrameReply | None:
        answer = self._socket.frame_reply(message)
        if answer is not None and answer.reply.outcome is ReplyOutcome.WRONG_TIME:
            self.requests.forget_ahead()
        return answer

    def read_order(self, item: object) -> Order | None:
        return self._names.read_order(item)

    def read_equity(self, data: Any) -> Mapping[str, Decimal] | str:
        """Read the worth of the spot wallet; balances alone would show the purchase of a coin as a loss (§ 9)."""
        if self._values.are_missing:
            return "a transfer has no value yet"
        worth = read_worth(data)
        return "no balance of the spot wallet in the answer" if worth is None else {self._currency: worth}

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is Route.WS:
            self.budget.counts[self.WEIGHT].note_use(CONNECT_WEIGHT * (1 + len(self.login)), now.mono_ns)
        return (*super().on_opened(route, conn, now), *self.start_signing_ahead())

    def keep_warm(self, now: Instant) -> Outputs:
        """Probe; make the checks beside it that are due."""
        if probe := super().keep_warm(now):
            self.note_probe(now)
        return (*probe, *self._checks.run(now)) if probe else probe

    def begin_checks(self) -> None:
        self._checks.begin()

    def why_not_ready(self, route: Route) -> str:
        return self._checks.why_not

    def drill(self, now: Instant) -> Outputs:
        self.now = now
        return super().drill(now)

    def request_equity(self, now: Instant) -> Outputs:
        if self.pause_s(now) or self.calls.is_held("equity", now):
            return ()
        is_pushed, at_ms = self.carrier() is not None, self.clock.venue_ms(now)
        return self._transfers.measure(now, at_ms, self._request_figures, is_pushed=is_pushed)

    def _request_figures(self, now: Instant) -> Outputs:
        return self._values.request_price(now) if self._values.are_missing else super().request_equity(now)

    def on_session_closed(self, conn: int) -> None:
        super().on_session_closed(conn)
        if self.carrier() is None:
            self._transfers.missed.note_closed(self.venue_ms())

    def _note_pause(self, reply: Reply) -> None:
        self.budget.on_refusal(reply.pause_s, self.now, reply.evidence)

    def reason_to_stay_disconnected(self, now: Instant) -> str:
        """Return why no connection is opened: it takes of the limit, and a ban that is ignored becomes longer (§ 7)."""
        left_s = self.budget.named_pause_s(now)
        return f"the venue asks for {left_s:.1f} s without requests; cancels go over REST" if left_s else ""

    def login_refusal(self, message: Message) -> LoginRefused | None:
        return self._socket.login_refusal(message)

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs:
        if "rateLimits" in message:
            if message.get("status") != 200:  # a cancel that succeeds costs nothing (§ 3.1)
                self.budget.counts[self.WEIGHT].note_use(1.0, now.mono_ns)
            self.budget.on_usage([(self.WEIGHT, used) for window_s, used in frame_weights(message)], now)
        return super().on_message(conn, message, now)

    # ── pushes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        event = event_of(message) or {}
        match event.get("e"):
            case "executionReport":
                order = self._names.read_push(event)
                if order is None:
                    return (UnexplainedMessage("an executionReport that cannot be read"),)
                return self.book.apply_push(order, opened=event.get("x") == "NEW")
            case "listStatus":
                return tuple(fact for leg in self._names.read_list(event) for fact in self.book.claim(leg))
            case "balanceUpdate":
                return self._transfers.on_balance_update(event)
            case "serverShutdown":
                return (ReplaceConnection(conn),)
            case str() as name if name in QUIET:
                return ()
            case _:
                return (UnexplainedMessage("a message that no document explains"),)
