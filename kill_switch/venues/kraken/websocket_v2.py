"""Speak the private WebSocket v2, which spot and the Unified WebSocket share (docs/venues/kraken.md § 3.1, § 5.1).

There is no login message: each private frame carries a token, and the subscription of `executions` proves it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.kit.replies import FrameReply, Reply
from kill_switch.venues.kit.sequences import SequenceTracker
from kill_switch.venues.kit.session_token import Token
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message, Ping
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.kraken.replies import judge_errors, read_execution
from kill_switch.venues.messages import CloseConnection, Outputs, Send, UnexplainedMessage

TOKEN_LIFE_S = 900.0  # § 2.2, if the answer does not say
MAX_TOKEN_LIFE_S = 1000.0  # so that a token is renewed every ten minutes at most
PING_EVERY_S = 15.0
RESUBSCRIBED_WITHIN_S = 5.0
EXECUTIONS = 1  # `req_id` of the subscription; the adapter's other subscriptions have others


class WebSocketV2:
    """The connections of one account, whose adapter owns it and assembles the kit's parts behind it."""

    def __init__(
        self,
        adapter: KitAdapter[Any],
        params: Mapping[str, object],
        *,
        optional: Collection[int] = (),
    ) -> None:
        """Make it without a connection.

        `params` is in each private frame beside the token. `optional` has the `req_id` of subscriptions without which a
        connection still carries a kill.
        """
        self.in_maintenance = False  # nothing can be cancelled (§ 8)
        self.login = (LoginStep(lambda conn, now: self._subscribe(), _is_subscribed),)
        self.ping = Ping(PING_EVERY_S, b'{"method":"ping"}', _is_pong, is_beat=lambda message: "channel" in message)
        self._adapter = adapter
        self._params = params
        self._optional = optional
        self._sequences = SequenceTracker()
        self._resubscribing: set[int] = set()  # connections whose subscription begins again after a gap

    def frame(self, method: str, number: int, **params: object) -> bytes:
        """Return a private frame with the newest token."""
        token = self._adapter.token
        value = "" if token is None else token.value
        return orjson.dumps({"method": method, "params": {**params, **self._params, "token": value}, "req_id": number})

    def _subscribe(self) -> bytes:
        return self.frame("subscribe", EXECUTIONS, channel="executions", snap_orders=True, snap_trades=False)

    def frame_reply(self, message: Message) -> FrameReply | None:
        """Judge the answer to the frame of a command or a drill; return None for any other message."""
        number = message.get("req_id")
        if message.get("method") not in ("cancel_all", "cancel_order") or not isinstance(number, int):
            return None
        return FrameReply(number, self._judge(message))

    def _judge(self, message: Message) -> Reply:
        errors = () if message.get("success") is True else (message.get("error", "no success"),)
        evidence = self._adapter.evidence
        return judge_errors(errors, message.get("result"), evidence, in_maintenance=self.in_maintenance)

    def login_refusal(self, message: Message) -> LoginRefused | None:
        """Return which subscription a message refuses, or that it ends the session; None: neither."""
        method = message.get("method")
        if message.get("success") is not False or method in ("cancel_all", "cancel_order"):
            return None
        reply = self._judge(message)
        if method != "subscribe" and not reply.session_ended:
            return None
        optional = message.get("req_id") in self._optional and not reply.session_ended
        words = f"{as_text(method)} refused: {reply.evidence}"
        return LoginRefused(words, reply.key_refused and not optional, optional, reply.session_ended)

    # pushes

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Process a message of the channels that both WebSockets have, or the answer to a later subscription."""
        match message.get("channel"), message.get("method"):
            case "executions", _:
                return self._on_executions(conn, message, now)
            case "status", _:
                self._note_status(message.get("data"))
                return ()
            case ("heartbeat", _) | (None, "unsubscribe"):
                return ()
            case None, "subscribe":
                return self._on_subscribed(conn, message, now)
            case _:
                return (UnexplainedMessage("a message that no document explains"),)

    def _note_status(self, data: object) -> None:
        found = data if isinstance(data, list) else []
        systems = [as_text(each.get("system")) for each in found if isinstance(each, dict)]
        self.in_maintenance = systems[-1] == "maintenance" if systems else self.in_maintenance

    def _on_executions(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Apply pushed orders; a snapshot is not applied, because the lists are read when pushes begin."""
        is_snapshot = message.get("type") == "snapshot"
        gap = self._sequences.is_gap(conn, message.get("sequence"), restarts=is_snapshot)
        items = message.get("data")
        if is_snapshot:
            return ()
        if not isinstance(items, list):
            return (UnexplainedMessage("an order push without a list"),)
        book = self._adapter.book
        outputs: Outputs = ()
        for item in items:
            order = read_execution(item, book.orders)
            unread = UnexplainedMessage("an order push that cannot be read")
            outputs += (unread,) if order is None else book.apply_push(order)
        return (*self._resubscribe(conn, now), *outputs) if gap else outputs

    def _resubscribe(self, conn: int, now: Instant) -> Outputs:
        """Subscribe again after a gap in the sequence: an order may have been missed (§ 5.1)."""
        adapter = self._adapter
        if conn in self._resubscribing or not adapter.sessions.is_ready(conn):
            return ()
        self._resubscribing.add(conn)
        adapter.book.end_pushes(conn)
        end = self.frame("unsubscribe", EXECUTIONS, channel="executions")
        timer = adapter.timers.start(RESUBSCRIBED_WITHIN_S, lambda at: self._on_resubscribe_due(conn))
        return (Send(conn, end), Send(conn, self._subscribe()), timer)

    def _on_subscribed(self, conn: int, message: Message, now: Instant) -> Outputs:
        if conn not in self._resubscribing or not _is_subscribed(message):
            return ()
        self._resubscribing.discard(conn)
        self._sequences.forget(conn)
        return self._adapter.read_backs.begin_pushes(conn, now)

    def _on_resubscribe_due(self, conn: int) -> Outputs:
        why = "no answer to the subscription after a gap in the pushes"
        return (CloseConnection(conn, why),) if conn in self._resubscribing else ()

    def forget(self, conn: int) -> None:
        """Forget a connection that is gone."""
        self._sequences.forget(conn)
        self._resubscribing.discard(conn)


def read_token(data: Any) -> Token | None:
    """Read the token of `GetWebSocketsToken` (§ 2.2); a lifetime that cannot be right is the documented one."""
    found = data if isinstance(data, dict) else {}
    life = as_decimal(found.get("expires"))
    life_s = TOKEN_LIFE_S if not life or life < 0 else min(float(life), MAX_TOKEN_LIFE_S)
    return Token(as_text(found.get("token")), life_s)


def _is_subscribed(message: Message) -> bool:
    result = message.get("result")
    channel = result.get("channel") if isinstance(result, dict) else None
    return message.get("method") == "subscribe" and message.get("success") is True and channel == "executions"


def _is_pong(message: object) -> bool:
    return isinstance(message, dict) and message.get("method") == "pong"
