"""Speak to Kraken spot: one account-wide `cancel_all` frame, with `CancelAll` over REST as its twin.

`docs/venues/kraken.md` has the venue's facts; § numbers in this folder are those of that page. There is no login
message: each private frame carries a token, which REST hands out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

from kill_switch.core.domain import Instant, Order, Route, SweepTiming
from kill_switch.venues.decode import as_decimal, header_safe
from kill_switch.venues.described_venue import ManyLookUp
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.order_list import OrderList, one_page
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.kit.replies import FrameReply, Reply
from kill_switch.venues.kit.session_token import Token
from kill_switch.venues.kit.sessions import LoginRefused, Message
from kill_switch.venues.kit.signing import base64_secret
from kill_switch.venues.kit.strike import CancelCommand
from kill_switch.venues.kit.transfer_values import TransferValues
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.kraken.key_rights import KeyRights
from kill_switch.venues.kraken.ledgers import LedgerReader
from kill_switch.venues.kraken.options import KrakenOptions
from kill_switch.venues.kraken.replies import (
    MAINTENANCE_HINT,
    count_cancelled,
    judge_http,
    looked_up_item,
    open_items,
    read_order,
)
from kill_switch.venues.kraken.spot_requests import TOKEN_PATH, SpotRequests
from kill_switch.venues.kraken.transfers import TransferReader, read_last_price, ticker
from kill_switch.venues.kraken.websocket_v2 import WebSocketV2, is_subscribed, read_token
from kill_switch.venues.messages import Outputs, Replied, Send
from kill_switch.venues.profile import Guess
from kill_switch.venues.request import Request

CANCELS_BY_ID = 2  # of a strike at most: each counts in the limit of its pair (§ 7)
NO_ORDER = "OAAAAA-AAAAA-AAAAAA"  # well-formed, and no order has it
COUNTER = "counter"
TIERS = {"starter": (15, 0.33), "intermediate": (20, 0.5), "pro": (20, 1.0)}  # § 7: size, and decay a second
BALANCES = 2  # `req_id` of the subscription


class Kraken(KitAdapter[KrakenOptions]):
    """Speak one account's protocol at Kraken spot.

    `OpenOrders` is one page with every order, conditional ones included. A pushed order that it does not show is
    looked up by `QueryOrders`.
    """

    NAME = "kraken"
    SECRET_FORMS: ClassVar[Mapping[str, str]] = {"api_secret": "base64"}
    TIMING = SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=1.0)
    COSTS: ClassVar[tuple[Cost, ...]] = (  # § 7
        Cost("POST", "/0/private/CancelOrder", ()),
        Cost("POST", "/0/private/Ledgers", ((COUNTER, 2.0),)),
        Cost("POST", "/0/private/", ((COUNTER, 1.0),)),
        Cost("GET", "/0/public/", ()),
    )
    DEMAND: ClassVar[Demand] = Demand(
        read=("POST /0/private/OpenOrders",),
        probe=("POST /0/private/OpenOrders",),
        equity=("POST /0/private/TradeBalance",),
        drill=("POST /0/private/CancelOrder",),
        strike=("POST /0/private/CancelAll",),
        token=("POST /0/private/GetWebSocketsToken",),
    )
    CURRENCIES: ClassVar[tuple[str, ...]] = ("USD",)
    READS_ALONGSIDE: ClassVar[bool] = True

    Options = KrakenOptions
    COMMANDS = (
        'ws "cancel_all": the whole account',
        "POST /0/private/CancelAll: its twin, if no answer comes or the WebSocket is down",
        'ws "cancel_order" and its twin: a few orders that have outlived a strike, behind the next one',
    )
    COVERED = ("orders of every pair, conditional ones before they trigger too, of every program and of the web page",)
    NOT_COVERED = (
        "derivatives: an account of its own, kraken-futures",
        "sub-accounts: each has its own keys",
        "positions on margin, earn and transfer requests",
    )
    GUESSES = (
        Guess(
            "the count in the answer to cancel_all is of all orders, however many (§ 11)",
            "the count proves nothing: the list is read, and what it shows is struck again",
        ),
        Guess(
            "a full counter of orders refuses no cancel_all (§ 11)",
            "a refusal is no success: it is repeated, and the list decides",
        ),
        Guess(
            "the contingent leg of a bracket is no order until its primary fills (§ 4.1)",
            "a later read of the guard finds it, and it is struck",
        ),
        Guess(
            "one answer has all open orders (§ 4.1)",
            "an order that a push shows alive is looked up by its id",
        ),
        Guess(
            "a token lives as long as its answer says (§ 2.2)",
            "there is a spare token; a refused one is replaced, with REST beside it",
        ),
        Guess(
            "a push of balances has the id of its entry in the ledger (§ 9)",
            "nothing: a transfer up to 60 s before a gap would count twice",
        ),
    )

    @classmethod
    def secrets(cls, options: KrakenOptions) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    @classmethod
    def pools(cls, options: KrakenOptions) -> tuple[Pool, ...]:
        size, decay = TIERS[options.tier]
        return (Pool(COUNTER, size, per_s=decay),)

    @classmethod
    def currencies(cls, options: KrakenOptions) -> tuple[str, ...]:
        return (options.equity_currency,)

    def __init__(self, options: KrakenOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        key, secret = header_safe("api_key", secrets["api_key"]), base64_secret("api_secret", secrets["api_secret"])
        self._requests = SpotRequests(self.host, key, secret)
        self.nonce_watch = self._requests.watch
        self._socket = WebSocketV2(self, {}, optional=(BALANCES,))
        self._currency = options.equity_currency
        self._rights = KeyRights(
            self._post("GetApiKeyInfo"),
            self.calls,
            partial(setattr, self, "key_rights"),
            partial(self.warn, "withdraw"),
        )
        self._values = TransferValues(
            self._currency, lambda *pair: self._public(ticker(*pair)), read_last_price, self.calls, self.evidence
        )
        self._transfers = TransferReader(self._values, self.evidence)
        self._ledgers = LedgerReader(
            partial(self._post, "Ledgers"), self._transfers, self.calls, partial(self.warn, "transfers")
        )
        self.account_wide = CancelCommand(
            "cancel-all",
            self._post("CancelAll"),
            count_cancelled,
            frame=lambda number: self._socket.frame("cancel_all", number),
            line="POST /0/private/CancelAll",
            frame_line='{"method":"cancel_all",…}',
        )
        self.lists = (OrderList("open", one_page(self._post("OpenOrders")), open_items),)
        self.look_up = ManyLookUp(lambda ids: self._post("QueryOrders", txid=",".join(ids)), most=50)
        self.token_request = self._requests.post(TOKEN_PATH)
        self.login, self.ping = self._socket.login, self._socket.ping
        self.harmless = self._post("CancelOrder", txid=NO_ORDER)
        self.harmless_frame = lambda number: self._socket.frame("cancel_order", number, order_id=[NO_ORDER])
        self.equity_request = self._post("TradeBalance", asset=f"Z{self._currency}")
        self.assemble()
        # the counter of REST slows no strikes whose frames suffice: they draw nothing from it
        self.limits.strikes_are_free = lambda: self.carrier() is not None and self.striker.frames_suffice

    # ── a kill ────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancels_by_id(self) -> Iterator[CancelCommand]:
        for order_id in self.outlived.choose(self.book.orders, CANCELS_BY_ID):
            frame = partial(self._socket.frame, "cancel_order", order_id=[order_id])
            yield CancelCommand("cancel-order", self._post("CancelOrder", txid=order_id), frame=frame, extra=True)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _post(self, method: str, **values: object) -> Build:
        return self._requests.post(f"/0/private/{method}", **values)

    def _public(self, target: str) -> Build:
        request = Request("GET", target, {"Host": self.host, "User-Agent": "kill-switch"})
        return lambda now: request

    def note_judged(self, call: PendingCall, reply: Reply, now: Instant) -> Reply:
        return self._requests.note_judged(call, reply, now)

    def may_sign_again(self, call: PendingCall) -> bool:
        return self._requests.may_sign_again(call)

    def on_wrong_time(self, reply: Replied, tries: int, now: Instant) -> None:
        self._requests.note_refusal(tries)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        return judge_http(status, body, self.evidence, in_maintenance=self._socket.in_maintenance)

    def frame_reply(self, message: Message) -> FrameReply | None:
        return self._socket.frame_reply(message)

    def read_order(self, item: object) -> Order | None:
        return read_order(item)

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        return read_order(looked_up_item(data, order_id))

    def read_token(self, data: Any) -> Token | None:
        return read_token(data)

    def read_equity(self, data: Any) -> Mapping[str, Decimal] | str:
        """Read `eb` + `n`: all balances and the open result (§ 9).

        `e` has only the currencies that are collateral: the purchase of another coin would look like a loss. `eb` alone
        lacks the result of open margin positions.
        """
        if self._values.are_missing:
            return "a transfer has no value yet"
        figures = data if isinstance(data, dict) else {}
        balance, result = as_decimal(figures.get("eb")), as_decimal(figures.get("n"))
        if balance is None or result is None:
            return "no eb or no n in the answer"
        return {self._currency: balance + result}

    # ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_opened(self, route: Route, conn: int, now: Instant) -> Outputs:
        if route is not Route.WS:
            self._rights.is_settled = False  # the lane's first probe requests them
        return super().on_opened(route, conn, now)

    def keep_warm(self, now: Instant) -> Outputs:
        """Probe; check the key's rights beside it until the key is known to have them."""
        probe = super().keep_warm(now)
        if not probe or not self._rights.is_due:
            return probe
        check = self._rights.check(now)
        return (*check, *probe) if self._rights.why_not else (*probe, *check)

    def why_not_ready(self, route: Route) -> str:
        return self._rights.why_not

    def slow_kill_warning(self, now: Instant) -> str:
        return MAINTENANCE_HINT if self._socket.in_maintenance else ""

    def request_equity(self, now: Instant) -> Outputs:
        if self._values.are_missing and not self.budget.pause_s(now):
            return self._values.request_price(now)
        if self.pause_s(now):
            return ()
        every_s = self.limits.cadence.equity_every_s
        return self._ledgers.measure(now, self.clock.venue_ms(now), every_s, super().request_equity)

    def on_session_ready(self, conn: int, now: Instant) -> Outputs:
        balances = Send(conn, self._socket.frame("subscribe", BALANCES, channel="balances"))
        return (*super().on_session_ready(conn, now), balances)

    def login_refusal(self, message: Message) -> LoginRefused | None:
        return self._socket.login_refusal(message)

    # ── pushes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        if is_subscribed(message, "balances"):
            self._ledgers.on_subscribed(conn)
            return ()
        if message.get("channel") == "balances":
            return self._transfers.on_message(message.get("type"), message.get("data"))
        return self._socket.on_push(conn, message, now)

    def on_session_closed(self, conn: int) -> None:
        self._socket.forget(conn)
        self._ledgers.on_closed(conn)
        super().on_session_closed(conn)
