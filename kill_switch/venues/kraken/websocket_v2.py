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
from kill_switch.venues.kit.session_token import Token
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message, Ping
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.kraken.executions import ExecutionStream
from kill_switch.venues.kraken.replies import judge_errors
from kill_switch.venues.messages import Outputs, UnexplainedMessage

TOKEN_LIFE_S = 900.0  # § 2.2, if the answer does not say
MAX_TOKEN_LIFE_S = 1000.0  # so that a token is renewed every ten minutes at most
PING_EVERY_S = 15.0
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
        self.login = (LoginStep(lambda conn, now: self._subscribe(), is_subscribed),)
        self.ping = Ping(PING_EVERY_S, b'{"method":"ping"}', _is_pong, is_beat=lambda message: "channel" in message)
        self._adapter = adapter
        self._params = params
        self._optional = optional
        self._executions = ExecutionStream(
            adapter.book, adapter.read_backs, lambda: adapter.timers, self._resubscription
        )

    def frame(self, method: str, number: int, **params: object) -> bytes:
        """Return a private frame with the newest token."""
        token = self._adapter.token
        value = "" if token is None else token.value
        return orjson.dumps({"method": method, "params": {**params, **self._params, "token": value}, "req_id": number})

    def _subscribe(self) -> bytes:
        return self.frame("subscribe", EXECUTIONS, channel="executions", snap_orders=True, snap_trades=False)

    def _resubscription(self) -> tuple[bytes, bytes]:
        return (self.frame("unsubscribe", EXECUTIONS, channel="executions"), self._subscribe())

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
        words = f"{self._adapter.evidence(as_text(method))} refused: {reply.evidence}"
        return LoginRefused(words, reply.key_refused and not optional, optional, reply.session_ended)

    # pushes

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Process a message of the channels that both WebSockets have, or the answer to a later subscription."""
        match message.get("channel"), message.get("method"):
            case "executions", _:
                return self._executions.on_message(conn, message)
            case "status", _:
                self._note_status(message.get("data"))
                return ()
            case ("heartbeat", _) | (None, "unsubscribe"):
                return ()
            case None, "subscribe":
                return self._executions.on_subscribed(conn, now) if is_subscribed(message) else ()
            case _:
                return (UnexplainedMessage("a message that no document explains"),)

    def _note_status(self, data: object) -> None:
        for item in data if isinstance(data, list) else ():
            if isinstance(item, dict) and (system := as_text(item.get("system"))):
                self.in_maintenance = system == "maintenance"

    def forget(self, conn: int) -> None:
        """Forget a connection that is gone."""
        self._executions.forget(conn)


def read_token(data: Any) -> Token | None:
    """Read the token of `GetWebSocketsToken` (§ 2.2); a lifetime that cannot be right is the documented one."""
    fields = data if isinstance(data, dict) else {}
    life = as_decimal(fields.get("expires"))
    life_s = TOKEN_LIFE_S if not life or life < 0 else min(float(life), MAX_TOKEN_LIFE_S)
    return Token(as_text(fields.get("token")), life_s)


def is_subscribed(message: Message, channel: str = "executions") -> bool:
    """Return whether a message grants the subscription to a channel."""
    result = message.get("result")
    granted = result.get("channel") if isinstance(result, dict) else None
    return message.get("method") == "subscribe" and message.get("success") is True and granted == channel


def _is_pong(message: object) -> bool:
    return isinstance(message, dict) and message.get("method") == "pong"
