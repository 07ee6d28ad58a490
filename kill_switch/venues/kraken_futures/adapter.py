"""Speak to Kraken derivatives: `cancelallorders` over REST v3, and with a spot key the Unified WebSocket beside it.

`docs/venues/kraken.md` has the venue's facts; § numbers in this folder are those of that page. Without a spot key the
WebSocket v1 shows orders and carries no commands. Kraken ends REST v3 and WebSocket v1 on 2027-03-01.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

import orjson
from pydantic import Field, field_validator

from kill_switch.core.domain import Instant, Order, Route, SweepTiming
from kill_switch.venues.decode import header_safe
from kill_switch.venues.described_venue import ManyLookUp
from kill_switch.venues.kit.balances import BalanceChecker
from kill_switch.venues.kit.batches import BatchLimits, BatchPlanner, StrikeBatches
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.order_list import OrderList
from kill_switch.venues.kit.pools import Cost, Demand, Pool
from kill_switch.venues.kit.readback import LOOK_UP
from kill_switch.venues.kit.replies import FrameReply, Reply
from kill_switch.venues.kit.session_token import Token
from kill_switch.venues.kit.sessions import LoginRefused, Message
from kill_switch.venues.kit.signing import base64_secret
from kill_switch.venues.kit.strike import CancelCommand, StrikeStep
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.kraken.replies import MAINTENANCE_HINT, count_cancelled
from kill_switch.venues.kraken.replies import judge_http as judge_spot
from kill_switch.venues.kraken.spot_requests import TOKEN_PATH, SpotRequests
from kill_switch.venues.kraken.websocket_v2 import WebSocketV2, read_token
from kill_switch.venues.kraken_futures.both_routes import BothRoutesStriker
from kill_switch.venues.kraken_futures.log_reads import AccountLogReads
from kill_switch.venues.kraken_futures.replies import (
    cancel_word,
    is_not_found,
    judge_batch,
    judge_cancel_all,
    judge_http,
    judge_single,
    knows_none,
    open_items,
    read_equity,
    read_looked_up,
    read_order,
)
from kill_switch.venues.kraken_futures.signing import HISTORY, PREFIX, FuturesRequests
from kill_switch.venues.kraken_futures.transfers import AccountLogReader
from kill_switch.venues.kraken_futures.websocket_v1 import WebSocketV1
from kill_switch.venues.messages import Equity, Output, Outputs, Replied
from kill_switch.venues.options import VenueOptions, secure
from kill_switch.venues.profile import Guess

NO_ORDER = "00000000-0000-4000-8000-000000000000"  # well-formed, and no order has it
IS_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
PATH = "/derivatives/api/v3/"
POOL = "ten seconds"
LOOK_UP_ORDERS = 50  # no maximum is documented; the orders of a request that is refused are asked for one by one
BATCH = BatchLimits(lambda order_id: IS_ID(order_id) is not None, batch_orders=10, singles=1)
ENDS_NS = int(datetime(2027, 3, 1, tzinfo=UTC).timestamp()) * 10**9  # wall time
WARNED_FROM_NS = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) * 10**9


class KrakenFuturesOptions(VenueOptions):
    """The configuration keys of an account at Kraken derivatives."""

    ws_url: str = "wss://futures.kraken.com/ws/v1"
    rest_url: str = "https://futures.kraken.com"
    unified_ws_url: str = Field(
        default="wss://uws.kraken.com/v2/private",
        description="the Unified WebSocket's address, used instead of ws_url with unified_key",
    )
    token_url: str = Field(
        default=f"https://api.kraken.com{TOKEN_PATH}",
        description="the address that hands out the Unified WebSocket's tokens to unified_key",
    )

    @field_validator("unified_ws_url")
    @classmethod
    def _unified_wss(cls, url: str) -> str:
        return secure(url, "wss")

    @field_validator("token_url")
    @classmethod
    def _token_https(cls, url: str) -> str:
        origin = secure(url, "https").removesuffix(TOKEN_PATH).rstrip("/")
        if urlsplit(origin).path:
            raise ValueError(f"must be https://HOST[:PORT]{TOKEN_PATH}: the path is the venue's, and is signed")
        return origin + TOKEN_PATH


class KrakenFutures(KitAdapter[KrakenFuturesOptions]):
    """Speak one account's protocol at Kraken derivatives.

    `openorders` is one page with every order, triggers included. A pushed order that it does not show is looked up by
    `orders/status`.
    """

    NAME = "kraken-futures"
    SECRET_FORMS: ClassVar[Mapping[str, str]] = {"api_secret": "base64", "unified_secret": "base64"}
    OTHER_LOGINS: ClassVar[Mapping[str, str]] = {"unified_key": "token_url"}
    TIMING = SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=1.25)
    POOLS: ClassVar[tuple[Pool, ...]] = (Pool(POOL, 500, window_s=10.0),)  # § 7, of an account
    COSTS: ClassVar[tuple[Cost, ...]] = (
        *(
            Cost("", PATH + call, ((POOL, weight),))
            for call, weight in (
                ("cancelallorders", 25.0),
                ("cancelorder", 10.0),
                ("batchorder", 19.0),  # 9, and 1 for each of its ten orders
                ("orders/status", 1.0),
                ("", 2.0),  # openorders, accounts
            )
        ),
        Cost("", HISTORY, (), is_apart=True),
    )
    DEMAND: ClassVar[Demand] = Demand(
        read=(f"GET {PATH}openorders",),
        probe=(f"GET {PATH}openorders",),
        equity=(f"GET {PATH}accounts",),
        drill=(f"POST {PATH}cancelorder",),
        strike=(f"POST {PATH}cancelallorders", f"POST {PATH}batchorder"),
    )
    CURRENCIES: ClassVar[tuple[str, ...]] = ("USD",)
    FRAMES_SHARE_LIMITS: ClassVar[bool] = False  # the Unified WebSocket has limits of its own (§ 7)

    Options = KrakenFuturesOptions
    STRIKER = BothRoutesStriker
    COMMANDS = (
        'ws "cancel_all" with asset_class "derivatives": the whole account, with unified_key',
        "POST /derivatives/api/v3/cancelallorders: the whole account, in each strike",
        "POST /derivatives/api/v3/batchorder, then POST /derivatives/api/v3/cancelorder: what outlives a strike",
    )
    COVERED = ("orders of every contract, stops and take-profits too, of every program and of the web page",)
    NOT_COVERED = (
        "spot orders: an account of its own, kraken",
        "sub-accounts: each has its own keys",
        "positions, earn and transfer requests",
        "anything after 2027-03-01, when Kraken ends REST v3",
    )
    GUESSES = (
        Guess(
            "cancel_all of the Unified WebSocket covers triggers (§ 3.3)",
            "cancelallorders, which does, leaves at once beside it; the list decides",
        ),
        Guess(
            "cancelallorders covers every kind of trigger, as the sample's stop (§ 3.4)",
            "the list shows them; what outlives a strike is cancelled by its id",
        ),
        Guess(
            "one answer of openorders has all orders (§ 4.2)",
            "an order that a push shows alive is looked up by its id",
        ),
        Guess(
            "an order that orders/status leaves out has ended (§ 4.2)",
            "nothing: it is asked only for orders that no list shows",
        ),
        Guess(
            "an order whose cancel finds nothing has ended (§ 3.4)",
            "it is no proof: the list and the look-up decide",
        ),
        Guess(
            "the key may cancel if a cancel of a made-up order finds nothing (§ 9)",
            "nothing: Kraken has no call that names the rights of this key",
        ),
        Guess(
            "the account log shows a transfer as soon as figures contain it (§ 4.3)",
            "nothing: until then the transfer looks like profit or loss to a pnl trigger",
        ),
        Guess(
            "rows of the account log have the same numbers over REST and WebSocket, and `info` may be repeated (§ 4.3)",
            "nothing: a transfer could count twice, or look like profit or loss to a pnl trigger",
        ),
        Guess(
            "unified_key is of the same account as api_key (§ 2.2)",
            "nothing: a key of another account has that account's orders cancelled too",
        ),
    )

    @classmethod
    def secrets(cls, options: KrakenFuturesOptions) -> tuple[str, ...]:
        return ("api_key", "api_secret")

    @classmethod
    def optional_secrets(cls, options: KrakenFuturesOptions) -> tuple[tuple[str, ...], ...]:
        return (("unified_key", "unified_secret"),)

    def __init__(self, options: KrakenFuturesOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        key, secret = header_safe("api_key", secrets["api_key"]), base64_secret("api_secret", secrets["api_secret"])
        self._requests = requests = FuturesRequests(self.host, key, secret)
        self._transfers = AccountLogReader(self.evidence, lambda: self._log.on_pushed())
        self._inverse = BalanceChecker()
        self._batches = BatchPlanner(BATCH)
        self._spot: SpotRequests | None = None
        over_rest = CancelCommand(
            "cancel-all",
            requests.post("cancelallorders"),
            judge_cancel_all,
            line=f"POST {PREFIX}/api/v3/cancelallorders",
        )
        if "unified_key" in secrets:
            self.account_wide = self._use_unified(options, secrets, over_rest)
        else:
            self.account_wide = over_rest
            self._socket: WebSocketV1 | WebSocketV2 = WebSocketV1(self, key, secret, self._transfers)
            self.drill_routes = (Route.HTTP,)
        self.login, self.ping = self._socket.login, self._socket.ping
        self.lists = (OrderList("open", lambda cursor: requests.get("openorders"), open_items),)
        self.look_up = ManyLookUp(lambda ids: requests.post("orders/status", orderIds=ids), LOOK_UP_ORDERS)
        self.harmless = requests.post("cancelorder", order_id=NO_ORDER)
        self.assemble()
        self._log = AccountLogReads(
            requests,
            self._transfers,
            self.calls,
            self._judge_figures,
            partial(self.warn, "transfers"),
        )

    def _use_unified(
        self, options: KrakenFuturesOptions, secrets: Mapping[str, str], over_rest: CancelCommand
    ) -> CancelCommand:
        """Use the Unified WebSocket, with tokens that a spot key fetches from the spot API's host (§ 2.2).

        Return the account-wide command: a frame, and `over_rest` at once beside it.

        It is not documented whether its `cancel_all` covers triggers. So `cancelallorders`, which does, leaves at once
        too (§ 3.3).
        """
        key = header_safe("unified_key", secrets["unified_key"])
        secret = base64_secret("unified_secret", secrets["unified_secret"])
        host = urlsplit(options.token_url).netloc
        self.ws_url = options.unified_ws_url
        self._spot = SpotRequests(host, key, secret, origin=f"https://{host}")
        self.token_request = self._spot.post(TOKEN_PATH)
        self._socket = socket = WebSocketV2(self, {"asset_class": "derivatives"})
        self.harmless_frame = lambda number: socket.frame("cancel_order", number, order_id=[NO_ORDER])
        return over_rest._replace(
            judge=_judge_either,
            frame=lambda number: socket.frame("cancel_all", number),
            frame_line='{"method":"cancel_all","params":{"asset_class":"derivatives",…}}',
        )

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        """Judge an answer of REST v3, or of the spot API, whose errors are a list.

        A rate limit of the spot API is none of this account's: the token waits, and reads go on.
        """
        if self._spot is not None and isinstance(body, dict) and isinstance(body.get("error"), list):
            return judge_spot(status, body, self.evidence, in_maintenance=False)._replace(pause_s=0.0)
        return judge_http(status, body, self.evidence, in_maintenance=self._socket.in_maintenance)

    def note_judged(self, call: PendingCall, reply: Reply, now: Instant) -> Reply:
        """Judge an empty `orders/status` as not found: it is the end of an order that was asked for alone."""
        if self._spot is not None and call.elsewhere:  # REST v3 has no nonces of ours
            return self._spot.note_judged(call, reply, now)
        return reply._replace(not_found=True) if call.kind == LOOK_UP and knows_none(reply) else reply

    def on_wrong_time(self, reply: Replied, tries: int, now: Instant) -> None:
        if self._spot is not None:
            self._spot.note_refusal(tries)

    def frame_reply(self, message: Message) -> FrameReply | None:
        return self._socket.frame_reply(message) if isinstance(self._socket, WebSocketV2) else None

    def is_drill_passed(self, reply: Reply) -> bool:
        return is_not_found(reply)

    def describe_drill(self, reply: Reply) -> str:
        """Name the status inside a success: `notFound` is what proves the order path (§ 3.4)."""
        return self.evidence(cancel_word(reply)) if reply.ok and cancel_word(reply) else reply.evidence

    def read_order(self, item: object) -> Order | None:
        return read_order(item)

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        return read_looked_up(data, order_id)

    def read_token(self, data: Any) -> Token | None:
        return read_token(data)

    # ── a kill ────────────────────────────────────────────────────────────────────────────────────────────────────

    def strike(self, now: Instant, number: int) -> Iterator[Output]:
        """Yield the account-wide command; behind a later one, cancels of the orders that have outlived a strike."""
        yield from self.striker.strike(self._commands(now, number), now, is_later=number > 1)
        yield from self.prepare_frame()

    def _commands(self, now: Instant, number: int) -> Iterator[StrikeStep]:
        yield from self.cancels(now)
        if number > 1 and self.book.orders:
            yield from self._by_id()

    def _by_id(self) -> Iterator[CancelCommand]:
        """Yield the cancels of ten orders, the least tried first; those of more would take what later strikes need."""
        planner, post = self._batches, self._requests.post
        planner.forget_gone(self.book.orders)
        least_tried = sorted(self.book.orders, key=lambda order_id: planner.tries.get(order_id, 0))
        for batch in StrikeBatches(planner).divide(least_tried[: BATCH.batch_orders]):
            if batch.alone:
                build = post("cancelorder", order_id=batch.ids[0])
                yield CancelCommand("cancel-order", build, partial(judge_single, batch.ids[0]), extra=True)
                continue
            items = [{"order": "cancel", "order_id": order_id} for order_id in batch.ids]
            build = post("batchorder", json=orjson.dumps({"batchOrder": items}).decode())
            yield CancelCommand("cancel-batch", build, partial(judge_batch, batch.ids), extra=True)

    def describe_strike(self) -> tuple[str, ...]:
        lines, command = super().describe_strike(), self.account_wide
        if command is None or command.frame is None or self.carrier() is None:
            return lines
        return (*lines, command.line)

    # ── lanes and pushes ──────────────────────────────────────────────────────────────────────────────────────────

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs:
        if isinstance(self._socket, WebSocketV1) and conn in self.sessions:
            self._socket.hear(conn, message)
        return super().on_message(conn, message, now)

    def on_session_ready(self, conn: int, now: Instant) -> Outputs:
        log = self._socket.on_ready(conn) if isinstance(self._socket, WebSocketV1) else ()
        return (*super().on_session_ready(conn, now), *log)

    def login_refusal(self, message: Message) -> LoginRefused | None:
        return self._socket.login_refusal(message)

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        return self._socket.on_push(conn, message, now)

    def on_session_closed(self, conn: int) -> None:
        self._socket.forget(conn)
        super().on_session_closed(conn)

    def slow_kill_warning(self, now: Instant) -> str:
        if self._socket.in_maintenance:
            return f"Kraken is in maintenance: {MAINTENANCE_HINT}"
        if now.wall_ns < WARNED_FROM_NS:
            return ""
        verb = "ends" if now.wall_ns < ENDS_NS else "has ended"
        return f"Kraken {verb} REST v3 and WebSocket v1 on 2027-03-01; this version cannot kill without REST v3"

    # ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────

    def request_equity(self, now: Instant) -> Outputs:
        return () if self.budget.pause_s(now) else self._log.measure(now, self.clock.venue_ms(now))

    def _judge_figures(self, data: Any, asked_ns: int, now_ns: int) -> Outputs | str:
        """Report the equity of `accounts`, and before it the transfers that it values; or return why there is none."""
        figures = read_equity(data)
        if isinstance(figures, str):
            return figures
        usd, inverse = figures
        values = {name: value for name, (_, value) in inverse.items()}
        if why := self._inverse.why_incomplete(values):
            return why
        transfers = self._transfers.value(asked_ns, now_ns)
        if isinstance(transfers, str):
            return transfers
        self._inverse.remember(values)
        amounts: dict[str, Decimal] = {"USD": usd}
        for coin, value in inverse.values():
            if value:
                amounts[coin] = amounts.get(coin, Decimal(0)) + value
        return (*transfers, Equity(amounts, asked_ns))


def _judge_either(reply: Reply) -> CancelResult:
    """Judge the answer to `cancel_all`, which is a count, or that to `cancelallorders`, which has a status."""
    is_rest = isinstance(reply.data, dict) and "result" in reply.data
    return judge_cancel_all(reply) if is_rest or not reply.ok else count_cancelled(reply)
