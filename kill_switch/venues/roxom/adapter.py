"""Speak to Roxom: account-wide `cancel-all` over REST, order and position pushes over a WebSocket.

`docs/venues/roxom.md` has the venue's facts; § numbers in this folder are those of that page. The WebSocket carries no
command, so a drill tries the HTTP lane alone. The upgrade authenticates a connection (§ 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import orjson
from pydantic import Field, field_validator

from kill_switch.core.domain import Instant, Order, OrderState, Route, SweepTiming
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.batches import TryCounter
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.order_list import OrderList, one_page
from kill_switch.venues.kit.pools import Demand, Pool
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message
from kill_switch.venues.kit.strike import CancelCommand
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.messages import Outputs, UnexplainedMessage
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.profile import Guess
from kill_switch.venues.request import Upgrade
from kill_switch.venues.roxom.equity_reader import RoxomEquityReader
from kill_switch.venues.roxom.replies import (
    event_of,
    is_nothing_resting,
    is_subscribed,
    judge_cancel_all,
    judge_http,
    judge_single,
    order_items,
    read_looked_up,
    read_order,
    read_push,
)
from kill_switch.venues.roxom.signing import RoxomSigner

InstType = Literal["perpetual", "spot", "btc", "digital", "stock", "index"]  # § 4.4
ALL_TYPES: tuple[InstType, ...] = ("perpetual", "spot", "btc", "digital", "stock", "index")
CHANNELS = ("orders", "positions", "balance", "account")
SUBSCRIBE = orjson.dumps({"op": "subscribe", "args": [{"channel": name} for name in CHANNELS]})
AUTHENTICATION_FAILED = "600010"  # § 5
SUBSCRIPTION_FAILED = frozenset({"60014", "60016", "60017", "60019"})  # § 5
ACK_WITHIN_S = 3.0  # seconds; the acknowledgement's shape is not documented, so silence without an error counts as one
NO_ORDER = "ffffffff-ffff-7fff-bfff-ffffffffffff"  # a UUIDv7 of the year 10889, which no order can have
MAX_SINGLES_PER_STRIKE = 20  # each costs a signature of 0.3 ms, and the venue's rate limit is not documented


class RoxomOptions(VenueOptions):
    """The configuration keys of an account at Roxom."""

    ws_url: str = "wss://ws.roxom.com/ws"
    rest_url: str = "https://api.roxom.com"
    auth: Literal["rsa", "api-key"] = Field(default="rsa", description="signed requests, or the key alone")
    path_prefix: str = Field(
        default="/api/v1",
        description='of every request, and a part of the signed text; "/v1" in the newest pages',
    )
    inst_types: tuple[InstType, ...] = Field(
        default=ALL_TYPES,
        description="the order lists that are read back; orders of other types are not seen",
    )

    @field_validator("path_prefix")
    @classmethod
    def _prefix(cls, prefix: str) -> str:
        if not prefix.startswith("/") or prefix.endswith("/") or not prefix.isascii() or " " in prefix:
            raise ValueError('must be a path such as "/api/v1", without a slash at its end')
        return prefix

    @field_validator("inst_types")
    @classmethod
    def _types(cls, types: tuple[InstType, ...]) -> tuple[InstType, ...]:
        if not types or len(set(types)) != len(types):
            raise ValueError("must name at least one instrument type, none of them twice")
        return types


class Roxom(KitAdapter[RoxomOptions]):
    """Speak one account's protocol at Roxom.

    The answer to `cancel-all` may name orders that are only pending and still fill (§ 4.2). Only reads of the lists of
    all instrument types prove an account clear. Known orders that the answer does not name are cancelled by id.

    A list covers the orders of one instrument type; a second page is not documented. A push may show an order alive,
    or the venue may refuse its cancel. If no list shows such an order, it is looked up by its id: "Order Not Found" is
    its end. The lists may lack the stop-loss and take-profit orders of positions. Where positions are read for a
    trigger's figures, the orders that they name count as seen alive.
    """

    NAME = "roxom"
    SECRET_FORMS: ClassVar[Mapping[str, str]] = {"private_key": "an unencrypted RSA key in PEM"}
    POOLS: ClassVar[tuple[Pool, ...]] = (Pool("minute", 300, window_s=60.0),)  # of a key; § 7 has none, only a plan
    TIMING = SweepTiming(clean_reads=2, read_after_s=0.025, read_gap_s=0.5, strike_gap_s=0.5)
    CURRENCIES: ClassVar[tuple[str, ...]] = ("BTC",)
    SCOPE: ClassVar[tuple[str, ...]] = ("inst_types",)
    DRILLS: ClassVar[tuple[Route, ...]] = (Route.HTTP,)

    Options = RoxomOptions
    COMMANDS = (
        "POST /orders/cancel-all: the whole account",
        "POST /orders/{id}/cancel: each known order that the answer does not name",
    )
    COVERED = ("limit and stop orders of all instrument types, of every program and of the web page",)
    NOT_COVERED = ("stop-loss and take-profit orders of a position, unless a list, a push or the position names them",)
    GUESSES = (
        Guess(
            "cancel-all includes orders that wait for their trigger (§ 6)",
            "known orders that its answer does not name are cancelled by id, and each type's list is read",
        ),
        Guess(
            "a list has every open order of its type, on one page (§ 4.4)",
            "an order that a push shows alive, or whose cancel is refused, is looked up by its id",
        ),
        Guess(
            'an order whose look-up says "Order Not Found" has ended (§ 4.6)',
            "nothing: it is asked only for orders that no list shows",
        ),
        Guess(
            "the signature of cancel-all has no body part (§ 3.3)",
            "a drill signs another cancel by the same rule; REFUSED is reported, and RESIDUE",
        ),
    )

    @classmethod
    def not_covered(cls, options: RoxomOptions) -> tuple[str, ...]:
        unread = [kind for kind in ALL_TYPES if kind not in options.inst_types]
        left_out = (f"a proof for {', '.join(unread)}: inst_types leaves them out",) if unread else ()
        return (*cls.NOT_COVERED, *left_out)

    @classmethod
    def demand(cls, options: RoxomOptions) -> Demand:
        """Return the requests: a list for each instrument type; figures of the balance and of two positions.

        A strike is planned with two cancels by id. Up to twenty leave; `AccountLimits.paced` follows what has left.
        """
        lists = ("GET /orders",) * len(options.inst_types)
        figures = ("GET /accounts/balance", "GET /positions", "GET /positions")
        strike = ("POST /orders/cancel-all", "POST /orders/{id}/cancel", "POST /orders/{id}/cancel")
        return Demand(read=lists, probe=lists[:1], equity=figures, strike=strike)

    @classmethod
    def secrets(cls, options: RoxomOptions) -> tuple[str, ...]:
        return ("api_key", "private_key") if options.auth == "rsa" else ("api_key",)

    def __init__(self, options: RoxomOptions, secrets: Mapping[str, str], second_route_after_s: float) -> None:
        super().__init__(options, secrets, second_route_after_s)
        private_key = secrets["private_key"] if options.auth == "rsa" else None
        self._signer = RoxomSigner(secrets["api_key"], private_key, self.host)
        self._prefix = options.path_prefix
        path = options.ws_url.split("://", 1)[1].partition("/")[2]
        self.upgrade_request = Upgrade(headers=self._signer.headers(f"GET:/{path}"))
        self._tries = TryCounter()
        self.account_wide = CancelCommand(
            "cancel-all",
            self._once("POST", "/orders/cancel-all"),
            judge_cancel_all,
            self._cancel_unnamed,
            line=f"POST {self._prefix}/orders/cancel-all",
        )
        self.lists = tuple(
            OrderList(kind, one_page(self._once("GET", f"/orders?instType={kind}")), order_items)
            for kind in options.inst_types
        )
        self.look_up = lambda order_id: self._once("GET", f"/orders/{quote(order_id, safe='')}")
        self.login = (LoginStep(lambda conn, now: SUBSCRIBE, is_subscribed, ACK_WITHIN_S, optional=True),)
        self.harmless = self._once("POST", f"/orders/{NO_ORDER}/cancel")
        self.assemble()
        self._equity = RoxomEquityReader(self.calls, self.book, self.timers, self.evidence, self._once)

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _once(self, method: str, target: str) -> Build:
        """Return the builder of a request that is signed once; `target` is below the prefix."""
        return self._signer.once(method, f"{self._prefix}{target}")

    def _cancel_unnamed(self, reply: Reply, now: Instant) -> Iterator[CancelCommand]:
        """Cancel by id the known orders that a cancel-all has not named.

        A reply that concerns the key or the rate limit leads to none, because the venue would refuse these too.
        """
        if reply.data is None:
            return
        unlisted = self.book.unproven  # first, because a cancel-all that names none of these has not covered them
        listed = (order for order_id, order in self.book.orders.items() if order_id not in unlisted)
        orders = chain(unlisted.values(), listed)
        live = (order.id for order in orders if order.state is OrderState.LIVE and order.id not in reply.data)
        for order_id in self._tries.choose(filter(_is_uuid, live), MAX_SINGLES_PER_STRIKE):
            build = self._once("POST", f"/orders/{order_id}/cancel")
            yield CancelCommand("cancel-one", build, partial(judge_single, order_id), extra=True)

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read_reply(self, status: int, body: Any) -> Reply:
        return judge_http(status, body, self.evidence)

    def read_order(self, item: object) -> Order | None:
        return read_order(item)

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        return read_looked_up(data)

    def is_drill_passed(self, reply: Reply) -> bool:
        is_success = reply.ok and isinstance(reply.data, dict) and reply.data.get("success") is True  # § 4.1
        return is_success or is_nothing_resting(reply)

    def login_refusal(self, message: Message) -> LoginRefused | None:
        if message.get("event") != "error":
            return None
        code = as_text(message.get("code"))
        is_fatal, ends_login = code == AUTHENTICATION_FAILED, code in SUBSCRIPTION_FAILED
        words = self.evidence(code, message.get("msg", ""))
        return LoginRefused(words, is_fatal, optional=not is_fatal and not ends_login, before_ready=ends_login)

    # ── pushes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Process a push that proves a subscription twice: as its acknowledgement, then as a push."""
        was_ready = self.sessions.is_ready(conn)
        outputs = super().on_message(conn, message, now)
        if was_ready or not self.sessions.is_ready(conn):
            return outputs
        return (*outputs, *self.on_push(conn, message, now))

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        data = message.get("data")
        match event_of(message):
            case "":
                return (UnexplainedMessage("a message that no document explains"),)
            case "order":
                order = read_push(message)
                unread = UnexplainedMessage("an order push that cannot be read")
                return (unread,) if order is None else self.book.apply_push(order)
            case "balance":
                return self._equity.tracker.on_balance_event(data, now)
            case "position" if not self._equity.tracker.on_position_event(data, now):
                return (UnexplainedMessage("a position push that cannot be read"),)
            case _:
                return ()

    def on_session_closed(self, conn: int) -> None:
        super().on_session_closed(conn)
        if self.sessions.newest is None:
            self._equity.on_gap()

    def request_equity(self, now: Instant) -> Outputs:
        """Request the figures; return nothing without events, which show whether the figures belong together."""
        return () if self.sessions.newest is None else self._equity.start(now)


def _is_uuid(text: str) -> bool:
    """Return whether a text is an id: ids become part of a path, so nothing else may pass."""
    return len(text) == 36 and all(character in "0123456789abcdefABCDEF-" for character in text)
