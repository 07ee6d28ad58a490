"""A SocketCluster session with KUNA: handshake, login, subscriptions, pings (protocol version 2).

The adapter makes one for each WebSocket connection and hands over its frames and timers. The session carries no
cancel: KUNA has none over the WebSocket (docs/venues/kuna.md § 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import orjson

from kill_switch.core.domain import Instant, Order, Route
from kill_switch.venues.kuna.replies import KEY_REFUSED, error_of, order_of
from kill_switch.venues.messages import CloseConnection, NotReady, Outputs, Ready, Send, UnexplainedMessage, WakeAfter

PING_EVERY_S = 8.0  # working clients send an empty frame every 7 to 8 s, whatever the venue sends (§ 5)
PONG_EVERY_S = 0.5  # at most: a peer that echoes every pong must not cause a storm
PING_TIMEOUT_S = 20.0  # until the handshake states another


class SocketClusterSession:
    """The session of one connection.

    Without a key it does not log in: it is ready once the handshake is answered, and gets no pushes.
    """

    def __init__(
        self,
        conn: int,
        login: str,
        words: Callable[..., str],
        push_order: Callable[[Order], Outputs],
        now: Instant,
    ) -> None:
        """Make a session of a connection that has just opened; send `start` first.

        `login` is the single key, "" for none. `words` makes evidence of the venue's texts. `push_order` is called
        with each pushed order, and returns its facts.
        """
        self._conn = conn
        self._login = login
        self._words = words
        self._push_order = push_order
        self._heard_ns = now.mono_ns  # when the latest frame came
        self._ping_ns = 0  # when our latest empty frame was sent
        self._timeout_s = PING_TIMEOUT_S
        self._step: Literal["handshake", "login", "subscribe", "ready"] = "handshake"
        self._asked: dict[int, str] = {}  # cid → the event that was sent with it
        self._cid = 0

    def start(self) -> Outputs:
        """Return the handshake and the first timer."""
        handshake = self._emit("#handshake", "#handshake", {"authToken": None})
        return (handshake, WakeAfter(f"beat {self._conn}", PING_EVERY_S))

    def on_timer(self, now: Instant) -> Outputs:
        """Send a ping; close the connection if it has been silent for `pingTimeout`."""
        silent_s = (now.mono_ns - self._heard_ns) / 1e9
        if silent_s >= self._timeout_s:
            return (CloseConnection(self._conn, f"silent for {self._timeout_s:g} s"),)
        again = WakeAfter(f"beat {self._conn}", min(PING_EVERY_S, self._timeout_s - silent_s))
        if self._step == "handshake":
            return (again,)
        self._ping_ns = now.mono_ns
        return (Send(self._conn, b""), again)

    def on_ping(self, now: Instant) -> Outputs:
        """Answer the protocol's ping, an empty frame, with an empty frame."""
        self._heard_ns = now.mono_ns
        if now.mono_ns - self._ping_ns < PONG_EVERY_S * 1e9:
            return ()
        self._ping_ns = now.mono_ns
        return (Send(self._conn, b""),)

    def on_message(self, message: dict[str, Any], now: Instant) -> Outputs:
        """Apply a frame; an event with a `cid` is acknowledged."""
        self._heard_ns = now.mono_ns
        event, cid = message.get("event"), message.get("cid")
        if event is None and "rid" in message:
            return self._on_reply(message["rid"], message.get("error"), message.get("data"))
        outputs = self._on_event(event, message.get("data"))
        if type(cid) is not int:
            return outputs
        return (Send(self._conn, orjson.dumps({"rid": cid})), *outputs)

    def _on_event(self, event: object, data: object) -> Outputs:
        channel = data.get("channel") if isinstance(data, dict) else None
        match event:
            case "#publish" if isinstance(data, dict):
                return self._on_push(channel, data.get("data"))
            case "#setAuthToken":  # comes before the answer to the login, or after it (§ 5)
                return self._on_login()
            case "#removeAuthToken":
                return self._end("the venue has logged us out")
            case "#kickOut" if channel == "order":
                return self._end("the venue has ended the order subscription")
            case "#kickOut":
                return ()
            case _:
                return (UnexplainedMessage("a message that no document explains"),)

    def _on_push(self, channel: object, data: object) -> Outputs:
        """Apply a push by its channel; the object is three levels deep, and the inner event's name is unknown (§ 5)."""
        if channel in ("accounts", "trade"):
            return ()
        if channel != "order":
            return (UnexplainedMessage("a push on a channel that is not subscribed"),)
        inner = data.get("data") if isinstance(data, dict) else None
        order = order_of(inner if isinstance(inner, dict) else data)
        return (UnexplainedMessage("an order push that cannot be read"),) if order is None else self._push_order(order)

    def _on_reply(self, rid: object, error: object, data: object) -> Outputs:
        event_name = self._asked.pop(rid, "") if isinstance(rid, int) else ""
        if not event_name:
            return (UnexplainedMessage("an answer to no request of ours"),)
        if error:
            code, text = error_of(error)
            words = self._words(event_name, "refused:", code, text)
            if event_name == "accounts":  # a kill does not need balances
                return (UnexplainedMessage(words),)
            return self._end(words, fatal=code in KEY_REFUSED)
        match event_name:
            case "#handshake":
                return self._on_handshake(data)
            case "login":
                return self._on_login()
            case "order":
                return self._ready()
            case _:
                return ()

    def _on_handshake(self, data: object) -> Outputs:
        """Keep the venue's `pingTimeout` if it is between 1 s and 10 minutes, and log in."""
        timeout_ms = data.get("pingTimeout") if isinstance(data, dict) else None
        if isinstance(timeout_ms, int | float) and 1000 <= timeout_ms <= 600_000:
            self._timeout_s = timeout_ms / 1000
        if not self._login:
            return self._ready()
        self._step = "login"
        return (self._emit("login", "login", self._login),)

    def _on_login(self) -> Outputs:
        if self._step != "login":
            return ()
        self._step = "subscribe"
        return tuple(self._emit(name, "#subscribe", {"channel": name}) for name in ("order", "accounts"))

    def _ready(self) -> Outputs:
        self._step = "ready"
        return (Ready(Route.WS, self._conn),)

    def _end(self, why: str, *, fatal: bool = False) -> Outputs:
        return (NotReady(Route.WS, self._conn, why, fatal), CloseConnection(self._conn, why))

    def _emit(self, purpose: str, event: str, data: object) -> Send:
        self._cid += 1
        self._asked[self._cid] = purpose
        return Send(self._conn, orjson.dumps({"event": event, "data": data, "cid": self._cid}))
