"""Speak JSON-RPC over Deribit's WebSocket: login, scope, token, heartbeat, channels (docs/venues/deribit.md § 2, § 5).

The adapter owns one `JsonRpcSocket`, and assembles the kit's parts behind it. It reads no orders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import orjson

from kill_switch.core.domain import Instant
from kill_switch.core.latest import keep_latest
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.deribit.replies import INVALID_CREDENTIALS, NO_SCOPE, code_of, is_wrong_time, judge, venue_ms
from kill_switch.venues.deribit.signing import DeribitRequests
from kill_switch.venues.kit.replies import FrameReply
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message, Ping
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.messages import Outputs, Send, UnexplainedMessage

FIRST = 100  # the `id` of a command's or a drill's frame is its number and this
ORDERS = "user.orders.any.any.raw"
CHANNELS = (ORDERS, "user.lock", "platform_state")
TRADE, RFQ, WITHDRAW = "trade:read_write", "block_rfq:read_write", "wallet:read_write"
# an answer names what the key allows of it: what is asked for and not allowed is left out (§ 2)
SCOPE = f"connection account:read {TRADE} {RFQ} {WITHDRAW}"
LABEL = "kill-switch"  # of no order
HEARTBEAT_S = 10  # the least that the venue allows (§ 5)
PING_EVERY_S = 15.0
REFRESHED_AT = 0.8  # part of a token's life after which it is replaced
REFRESHED_WITHIN_S = 5.0
MAX_LIFE_S = 86_400.0  # a connection is replaced before its token could be so old
MAX_LOCKED = 100  # names of what is locked: no venue has so many indices
ACCOUNT = "the account"  # the words for what a lock of all currencies locks; those for one currency begin so
READ_ACCOUNT = frozenset({"account:read", "account:read_write"})
NO_ACCOUNT_READ = "the key lacks the scope account:read: no figures, and no word of cancel-on-disconnect"
CANNOT_CANCEL = f"the key cannot cancel: give it the scope {TRADE}, or use another key"


class Id(IntEnum):
    """The `id` of each request of the session itself."""

    AUTH = 1
    HEARTBEAT = 2
    SUBSCRIBE = 3
    REFRESH = 4
    PING = 5
    TEST = 6


class JsonRpcSocket:
    """The connections of one account."""

    def __init__(self, adapter: KitAdapter[Any], requests: DeribitRequests) -> None:
        self.scopes: frozenset[str] = frozenset()  # of the key, as the last login has named them
        self.why_not = ""  # why the key cannot cancel; "": it can, or nothing is known
        self._is_account_refused = False  # the key has been refused what `account:read` allows, since the last login
        self.leaves_orders = False  # the account's new connections leave their orders behind when they end
        self.locked: dict[str, bool] = {}  # what is locked, or in maintenance
        self.login = (
            LoginStep(self._auth, _answers(Id.AUTH)),
            LoginStep(
                lambda conn, now: _frame(Id.HEARTBEAT, "public/set_heartbeat", interval=HEARTBEAT_S),
                _answers(Id.HEARTBEAT),
            ),
            LoginStep(
                lambda conn, now: self.private(conn, Id.SUBSCRIBE, "private/subscribe", channels=CHANNELS),
                _answers(Id.SUBSCRIBE),
            ),
        )
        self.ping = Ping(PING_EVERY_S, self._ping, self._is_pong)
        self._adapter = adapter
        self._requests = requests
        self._tokens: dict[int, str] = {}  # connection → its access token
        self._channels: dict[int, frozenset[str]] = {}  # connection → the channels that the venue has accepted
        self._asked: dict[int, Instant] = {}  # connection → when its login was sent
        self._is_time_refused = False  # by the last answer to a login

    # frames

    def private(self, conn: int | None, number: int, method: str, **params: object) -> bytes:
        """Return a frame with the connection's token."""
        token = "" if conn is None else self._tokens.get(conn, "")
        return _frame(number, method, **params, access_token=token)

    def command(self, number: int, method: str, **params: object) -> bytes:
        """Return the frame of a command or a drill, for the connection that carries commands."""
        return self.private(self._adapter.carrier(), FIRST + number, method, **params)

    def _auth(self, conn: int, now: Instant) -> bytes:
        self._asked[conn] = now
        return _frame(Id.AUTH, "public/auth", **self._requests.login(now), scope=SCOPE)

    @property
    def may_read_account(self) -> bool:
        """Whether the key has the scope `account:read`, as far as is known."""
        return not self._is_account_refused and (not self.scopes or bool(self.scopes & READ_ACCOUNT))

    def _ping(self, conn: int) -> bytes:
        """Return a private read, which finds a login that has ended; it asks what ends with a connection (§ 6).

        A key without the scope for that reads the orders of a label that nobody uses: errors in a row lead to a ban.
        """
        if not self.may_read_account:
            return self.private(conn, Id.PING, "private/get_open_orders_by_label", currency="BTC", label=LABEL)
        return self.private(conn, Id.PING, "private/get_cancel_on_disconnect", scope="account")

    def _is_pong(self, message: object) -> bool:
        return _answers(Id.PING)(message) and not judge(message, self._adapter.evidence).session_ended  # type: ignore[arg-type]

    def on_ready(self, conn: int) -> Outputs:
        """Send a first ping, and report the channels that the venue has dropped."""
        ask = Send(conn, self._ping(conn))
        missing = [channel for channel in CHANNELS if channel not in self._channels.get(conn, ())]
        if not missing:
            return (ask,)
        return (ask, UnexplainedMessage(f"the venue does not push {', '.join(missing)}: the lists are read instead"))

    def pushes_orders(self, conn: int) -> bool:
        """Return whether the venue has accepted the connection's subscription to orders."""
        return ORDERS in self._channels.get(conn, ())

    # messages

    def hear(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Keep what an answer to the session's own requests says; call it before the message is processed."""
        result = message.get("result")
        match message.get("id"):
            case Id.AUTH | Id.REFRESH:
                return self._on_login(conn, message, now)
            case Id.SUBSCRIBE:
                accepted = result if isinstance(result, list) else []
                self._channels[conn] = frozenset(map(as_text, accepted))
            case Id.PING if code_of(message) in NO_SCOPE:
                self._is_account_refused = True
            case Id.PING if "result" in message:
                self.leaves_orders = isinstance(result, dict) and result.get("enabled") is False
        return ()

    def _on_login(self, conn: int, message: Message, now: Instant) -> Outputs:
        asked, shown_ms = self._asked.get(conn, now), venue_ms(message)
        refused = is_wrong_time(message, self._requests.signed_ms)
        if refused:
            self._requests.note_correction(now)
        self._is_time_refused = refused or (
            code_of(message) == INVALID_CREDENTIALS and self._requests.is_outdated(asked.mono_ns)
        )
        dated: Outputs = ()
        if shown_ms and (refused or message["id"] == Id.AUTH):
            shown_ns = shown_ms * 1_000_000
            dated = self._adapter.clock.note_message(
                shown_ns - 1_000_000, shown_ns, asked.wall_ns, now, refused=refused
            )
        result = message.get("result")
        if not isinstance(result, dict) or not (token := as_text(result.get("access_token"))):
            return dated
        refresh = as_text(result.get("refresh_token"))
        self._adapter.evidence.hide(token)
        self._adapter.evidence.hide(refresh)
        self._tokens[conn] = token
        self.locked.pop("maintenance", None)  # no login passes in it
        self.scopes = frozenset(as_text(result.get("scope")).split())
        self._is_account_refused = False
        self.why_not = "" if TRADE in self.scopes else CANNOT_CANCEL
        life = as_decimal(result.get("expires_in"))
        if not refresh or life is None or life <= 0:
            return dated
        wait_s = REFRESHED_AT * min(float(life), MAX_LIFE_S)
        timer = self._adapter.timers.start(wait_s, lambda at: self._refresh(conn, token, refresh))
        return (*dated, timer, *(self._adapter.prepare_frame() if message["id"] == Id.REFRESH else ()))

    def _refresh(self, conn: int, token: str, refresh: str) -> Outputs:
        """Replace the token of a connection that still has it; without an answer a new login follows."""
        if self._tokens.get(conn) != token:
            return ()
        frame = _frame(Id.REFRESH, "public/auth", grant_type="refresh_token", refresh_token=refresh)
        due = self._adapter.timers.start(REFRESHED_WITHIN_S, lambda at: self._on_refresh_due(conn, token, at))
        return (Send(conn, frame), due)

    def _on_refresh_due(self, conn: int, token: str, now: Instant) -> Outputs:
        if self._tokens.get(conn) != token:
            return ()
        return self._adapter.sessions.refuse(conn, LoginRefused("no answer to the refresh of the token"), now)

    def frame_reply(self, message: Message) -> FrameReply | None:
        """Judge the answer to the frame of a command or a drill; return None for any other message."""
        number = message.get("id")
        if not isinstance(number, int) or number < FIRST or "method" in message:
            return None
        return FrameReply(number - FIRST, judge(message, self._adapter.evidence))

    def login_refusal(self, message: Message) -> LoginRefused | None:
        """Return that a login is refused, or gives too little, or that the venue ends the session; None: neither."""
        number = message.get("id")
        if (isinstance(number, int) and number >= FIRST) or "method" in message:
            return None
        if "error" not in message:
            return LoginRefused(CANNOT_CANCEL, fatal=True) if number in (Id.AUTH, Id.REFRESH) and self.why_not else None
        reply = judge(message, self._adapter.evidence)
        if number in (Id.AUTH, Id.REFRESH):
            if self._is_time_refused:
                return LoginRefused(f"the time of the login is refused: {reply.evidence}")
            return LoginRefused(f"login refused: {reply.evidence}", reply.key_refused)
        return LoginRefused(f"the session has ended: {reply.evidence}") if reply.session_ended else None

    def on_push(self, conn: int, message: Message, on_orders: Callable[[object], Outputs]) -> Outputs:
        """Process a message of the venue's own; `on_orders` processes the data of the orders' channel."""
        params = message.get("params")
        fields = params if isinstance(params, dict) else {}
        match message.get("method"), message.get("id"):
            case "heartbeat", _:
                is_test = fields.get("type") == "test_request"
                return (Send(conn, _frame(Id.TEST, "public/test")),) if is_test else ()
            case "subscription", _:
                data, channel = fields.get("data"), as_text(fields.get("channel"))
                if channel == ORDERS:
                    return on_orders(data)
                if channel in CHANNELS and isinstance(data, dict):
                    self._note_state(channel, data)
                    return ()
            case None, int(number) if Id.AUTH <= number <= Id.TEST:
                return ()
        return (UnexplainedMessage("a message that no document explains"),)

    def _note_state(self, channel: str, data: dict[str, Any]) -> None:
        if isinstance(data.get("maintenance"), bool):
            self.locked["maintenance"] = data["maintenance"]
        if isinstance(data.get("locked"), bool):
            if channel == "user.lock":
                name = _locked_part(as_text(data.get("currency")))
            else:
                name = f"trading of {as_text(data.get('price_index'))}"
            if name == ACCOUNT and not data["locked"]:
                self.locked = {each: locked for each, locked in self.locked.items() if not each.startswith(ACCOUNT)}
                return
            self.locked[self._adapter.evidence(name)] = data["locked"]
            keep_latest(self.locked, MAX_LOCKED)

    @property
    def key_rights(self) -> Mapping[str, bool | str]:
        """Rights of the key, by the scopes of the last login (§ 2)."""
        may = {"cancel": TRADE, "trade": TRADE, "withdraw": WITHDRAW}
        reads = any(scope.startswith("account:read") for scope in self.scopes)
        return {**{right: scope in self.scopes for right, scope in may.items()}, "read": reads}

    def warning(self) -> str:
        """Return what an operator should know, as one line; "" if there is nothing."""
        locked = [name for name, is_locked in self.locked.items() if is_locked and name != "maintenance"]
        lines = []
        if self.locked.get("maintenance"):
            lines.append("Deribit is in maintenance: nothing can be cancelled; it is tried until the maintenance ends")
        if locked:
            lines.append(f"Deribit has locked {', '.join(locked)}: whether cancels pass is not documented")
        if WITHDRAW in self.scopes:
            lines.append(f"the key may withdraw ({WITHDRAW}): use a key without it")
        if not self.may_read_account:
            lines.append(NO_ACCOUNT_READ)
        elif self.leaves_orders:
            lines.append(
                "cancel-on-disconnect is off for the account: a bot that loses its connection leaves its orders"
            )
        return "; ".join(lines)

    def forget(self, conn: int) -> None:
        """Forget a connection that is gone."""
        for kept in (self._tokens, self._channels, self._asked):
            kept.pop(conn, None)
        if not self._tokens:
            self.locked.clear()  # nobody tells when it ends


def _locked_part(currency: str) -> str:
    """Return the words for what `user.lock` locks: the account, or its part of one currency."""
    return ACCOUNT if currency in ("", "ALL") else f"{ACCOUNT}'s {currency}"


def _frame(number: int, method: str, **params: object) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def _answers(number: int) -> Callable[[object], bool]:
    """Return whether a message answers the request of this `id`, with a result or an error."""
    return lambda message: isinstance(message, dict) and message.get("id") == number and "method" not in message
