"""Speak to Binance's futures, USD-M and COIN-M: cancels by symbol over REST, conditional orders apart.

`docs/venues/binance.md` has the venue's facts. There is no account-wide cancel. A strike sends `DELETE allOpenOrders`
and `DELETE algoOpenOrders` for each symbol, always together, and reads both lists beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from kill_switch.core.domain import Instant, Order, Route, SweepTiming
from kill_switch.venues.binance.account import BinanceAccount
from kill_switch.venues.binance.checks import AccountChecks
from kill_switch.venues.binance.futures_checks import CancelCheck, wallet_checks
from kill_switch.venues.binance.futures_equity import FuturesEquity
from kill_switch.venues.binance.futures_profile import (
    CANCELS,
    COINM,
    COVERED,
    GUESSES,
    LISTS,
    NOT_COVERED,
    POOL,
    USDM,
    WEIGHT,
    BinanceCoinmOptions,
    BinanceFuturesOptions,
    BinanceUsdmOptions,
    Product,
    commands,
    costs,
    demand,
    symbols_again,
)
from kill_switch.venues.binance.futures_replies import (
    ALGO,
    NOT_EXECUTED,
    judge_cancel,
    read_equity,
    read_order,
    read_triggered,
    refused_as_portfolio_margin,
)
from kill_switch.venues.binance.futures_stream import UserStream
from kill_switch.venues.binance.futures_transfers import MOST_ROWS, TRANSFER
from kill_switch.venues.binance.signing import SignedRequests, TextAt
from kill_switch.venues.kit.balances import BalanceChecker
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.fan_out import FanOut
from kill_switch.venues.kit.order_list import OrderList, one_page
from kill_switch.venues.kit.pools import Pool
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.kit.session_token import Token
from kill_switch.venues.kit.sessions import LoginRefused, Message
from kill_switch.venues.kit.strike import CancelCommand, StrikeStep
from kill_switch.venues.messages import ConnectNow, Output, Outputs
from kill_switch.venues.request import Upgrade

NO_ORDER = 2**63 - 1  # well-formed, and no order has it
KEY_LIFE_S = 3000.0  # of a listen key, which ends after 3600 s (§ 5)
KEPT_EVERY_S = (
    30.0  # it is requested again: only that shows that another program has deleted it, and the stream is deaf
)


class BinanceFutures(BinanceAccount[BinanceFuturesOptions]):
    """Speak one account's protocol at one of Binance's futures products.

    `openOrders` and `openAlgoOrders` of all symbols are one page each. A pushed order that neither shows is looked up.
    """

    PRODUCT: ClassVar[Product]
    # lists may lag by 20 s (§ 10): clean reads span that, and three of them cost a tenth of the pool; a read before the
    # pushes of the strike begins no span
    TIMING = SweepTiming(
        clean_reads=2, read_after_s=0.25, read_gap_s=10.0, strike_gap_s=0.9, residue_after_s=45.0, list_lag_s=20.0
    )
    WARM_EVERY_S: ClassVar[float] = 15.0  # a probe every 7.5 s: HTTP alone carries a kill, and its silence must show
    WS_MAX_AGE_S: ClassVar[float] = 20 * 3600.0  # the venue ends a connection after 24 h (§ 5)
    WEIGHT: ClassVar[str] = WEIGHT
    NOT_EXECUTED: ClassVar[Collection[str]] = NOT_EXECUTED
    POOLS: ClassVar[tuple[Pool, ...]] = (POOL,)
    DRILLS: ClassVar[tuple[Route, ...]] = (Route.HTTP,)
    COVERED, NOT_COVERED, GUESSES = COVERED, NOT_COVERED, GUESSES

    fan_out: FanOut

    def __init__(self, options: BinanceFuturesOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        product, requests, origin = self.PRODUCT, self.requests, options.wallet_origin
        self._stream = UserStream(product, self.book)
        self._balances = BalanceChecker()
        self._has_struck = False  # since the account was armed
        wallet = SignedRequests(urlsplit(origin).netloc or self.host, requests.key, requests.signer, self.clock, origin)
        checks = () if self.environment == "testnet" else wallet_checks(lambda path: wallet.signed("GET", path))
        self._checks = AccountChecks(checks, self.calls, self.note_findings)
        self.lists = tuple(
            OrderList(name, one_page(self._signed("GET", path)), lambda data: data, line=f"GET {product.prefix}/{path}")
            for name, path in LISTS.items()
        )
        self.probe_request = self._signed("GET", LISTS["open"], symbol=product.symbol)
        self.look_up = partial(_look_up, self._signed, self.book)
        self.fan_out = FanOut(
            self.book,
            partial(_symbol_cancels, requests, product),
            self.lists,
            read_order,
            commands_each=len(CANCELS),
            list_lag_s=self.TIMING.list_lag_s,
        )
        self.token_request = requests.keyed("POST", f"{product.prefix}/listenKey")
        self.keep_open = requests.public(f"{product.prefix}/ping")
        self.harmless = self._signed("DELETE", "order", symbol=product.symbol, orderId=NO_ORDER)
        self._cancel_check = CancelCheck(self.harmless, self.calls)
        history = f"GET {product.prefix}/income"
        self._equity = FuturesEquity(
            self._stream,
            self.calls,
            requests.signed("GET", product.account),
            self.read_equity,
            lambda venue_ms: self._signed("GET", "income", incomeType=TRANSFER, startTime=venue_ms, limit=MOST_ROWS),
            lambda now: not self.pause_s(now) and not self.budget.wait_s((history,), now),
        )
        self.assemble()

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _signed(self, method: str, path: str, **values: str | int) -> Build:
        return self.requests.signed(method, f"{self.PRODUCT.prefix}/{path}", **values)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        return refused_as_portfolio_margin(super().read_reply(status, body))

    def read_order(self, item: object) -> Order | None:
        return read_order(item)

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        """Read the order; the order that a triggered conditional order has become is looked up in its turn."""
        order, becomes = read_triggered(data, read_order(data))
        if becomes is not None:
            self.book.claim(becomes)
        return order

    def read_equity(self, data: Any) -> Mapping[str, Decimal] | str:
        amounts = read_equity(data)
        why = amounts if isinstance(amounts, str) else self._balances.why_incomplete(amounts)
        if isinstance(amounts, str) or why:
            return self.evidence(why)
        self._balances.remember(amounts)
        return {asset: amount for asset, amount in amounts.items() if amount} or amounts

    def request_equity(self, now: Instant) -> Outputs:
        if self.pause_s(now) or self.calls.is_held("equity", now):
            return ()
        return self._equity.request(now, self.clock.venue_ms(now))

    # ── a kill ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancels(self, now: Instant) -> Iterator[StrikeStep]:
        return self.fan_out.strike(now)

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        """Yield the cancels of every symbol; a strike that follows takes a few symbols, the least tried first."""
        goes_on, self._has_struck = self._has_struck and number > 1, True
        may_find = self.may_find(now, is_first=number == 1)
        if not goes_on:
            must_find = number == 1 and not self.book.is_known
            steps = self.fan_out.strike(now, lists=may_find or must_find, is_first=number == 1)
        else:
            most = symbols_again(self.budget.counts[WEIGHT].room(now.mono_ns), is_refused=self.is_refused(now))
            steps = self.fan_out.strike_again(now, most, may_find=may_find)
        yield from self.striker.strike(steps, now, is_later=number > 1, is_wide=True)

    def texts_to_sign(self) -> Iterator[TextAt]:
        for symbol in self.fan_out.symbols():
            yield self.requests.query_at(symbol=symbol)
        yield self.requests.query_at()

    def drop_strike_work(self) -> None:
        super().drop_strike_work()
        self._has_struck = False

    # ── the account ───────────────────────────────────────────────────────────────────────────────────────────────

    def keep_warm(self, now: Instant) -> Outputs:
        """Probe; make the checks that are due beside it. A finding that bars the lane comes before its readiness."""
        if probe := super().keep_warm(now):
            self.note_probe(now)
        checks = (*self._cancel_check.run(now), *self._checks.run(now)) if probe else ()
        outputs = (*checks, *probe) if self.why_not_ready(Route.HTTP) else (*probe, *checks)
        return (*outputs, *self._test_stream(now))

    def begin_checks(self) -> None:
        self._checks.begin()
        self._cancel_check.begin()

    def why_not_ready(self, route: Route) -> str:
        return self._checks.why_not or self._cancel_check.why_not

    # ── the user stream ───────────────────────────────────────────────────────────────────────────────────────────

    def read_token(self, data: Any) -> Token | None:
        key = data.get("listenKey") if isinstance(data, dict) else None
        return Token(key, KEY_LIFE_S, KEPT_EVERY_S) if isinstance(key, str) else None

    def _test_stream(self, now: Instant) -> Outputs:
        """Get another listen key if the stream does not open, or if it has not pushed what the lists show (§ 10)."""
        if self.token is not None and self._stream.does_not_open():
            return self.token.on_refused(now)
        conn = self.sessions.newest
        if conn is None or not self._stream.is_silent(now):
            return ()
        return self.sessions.refuse(
            conn, LoginRefused("no push of an order that the lists show", session_ended=True), now
        )

    def reason_to_stay_disconnected(self, now: Instant) -> str:
        if self.token is None or self.token.is_valid(now):
            return ""
        return f"there is no listen key yet{self.token.trouble and ': '}{self.token.trouble}"

    @property
    def waits_for_token(self) -> bool:
        return self.token is not None and not self.token.trouble

    def upgrade(self, now: Instant) -> Upgrade:
        key = "" if self.token is None else self.token.value
        return Upgrade(urlsplit(self.ws_url).path.rstrip("/") + self._stream.dial(key))

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if self.token is None:
            return super().on_opened(route, conn, now)
        if route is Route.WS:
            self._stream.open(conn)
            opened = super().on_opened(route, conn, now)
            # the key may have been replaced since the dial; or another program has closed it, which nobody is told
            return (*opened, *self._close_outdated(now), *self.token.confirm(now))
        key = () if self.token.is_valid(now) else self.token.fetch(now)
        return (*super().on_opened(route, conn, now), *key, *self.start_signing_ahead())

    def on_new_token(self, now: Instant) -> Outputs:
        """Connect with the listen key, unless a connection is open that was opened with it."""
        self._stream.note_key("" if self.token is None else self.token.value, self.clock.venue_ms(now))
        outputs = (*super().on_new_token(now), *self._close_outdated(now))
        return outputs if self._stream.is_open else (*outputs, ConnectNow())

    def _close_outdated(self, now: Instant) -> Outputs:
        """Close the connections that were opened with another listen key: they hear nothing any more."""
        key = "" if self.token is None else self.token.value
        refused = LoginRefused("the venue has handed out another listen key")
        outdated = [conn for conn in self._stream.opened_with_other(key) if conn in self.sessions]
        return tuple(output for conn in outdated for output in self.sessions.refuse(conn, refused, now))

    def login_refusal(self, message: Message) -> LoginRefused | None:
        if message.get("e") != "listenKeyExpired":
            return None
        return LoginRefused("the listen key has expired", session_ended=True)

    def on_session_closed(self, conn: int) -> None:
        self._stream.close(conn, self.venue_ms())
        super().on_session_closed(conn)

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        return self._stream.on_push(message)


def _look_up(signed: Callable[..., Build], book: OrderBook, order_id: str) -> Build | None:
    """Return the request for one order, whose symbol the book knows; None if it does not."""
    if order_id.startswith(ALGO):
        return signed("GET", "algoOrder", algoId=order_id.removeprefix(ALGO))
    order = book.orders.get(order_id)
    if order is None or not order.symbol:
        return None
    return signed("GET", "order", symbol=order.symbol, orderId=order_id)


def _symbol_cancels(requests: SignedRequests, product: Product, symbol: str) -> tuple[CancelCommand, ...]:
    """Return the commands that cancel the orders and the conditional orders of a symbol."""
    return tuple(
        CancelCommand(
            name,
            requests.signed("DELETE", f"{product.prefix}/{path}", symbol=symbol),
            partial(judge_cancel, symbol),
            line=f"DELETE {product.prefix}/{path}?symbol={quote(symbol, safe='')}",
        )
        for name, path in CANCELS.items()
    )


class BinanceUsdm(BinanceFutures):
    """USD-M futures."""

    NAME = "binance-usdm"
    PRODUCT = USDM
    COSTS = costs(USDM)
    DEMAND = demand(USDM)

    Options = BinanceUsdmOptions
    COMMANDS = commands(USDM)


class BinanceCoinm(BinanceFutures):
    """COIN-M futures."""

    NAME = "binance-coinm"
    PRODUCT = COINM
    COSTS = costs(COINM)
    DEMAND = demand(COINM)

    Options = BinanceCoinmOptions
    COMMANDS = commands(COINM)
