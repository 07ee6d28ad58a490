"""Keep one SocketCluster session with KUNA: handshake, login, subscriptions, beats (protocol version 2).

A session that has no key does not log in: it is ready once the handshake is answered, and hears no push.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import orjson

from kill_switch.core.domain import Instant, Order, Route
from kill_switch.venues.kuna.replies import KEY_REFUSED, error_of, order_of
from kill_switch.venues.messages import CloseConnection, NotReady, Outputs, Ready, Send, UnexplainedMessage, WakeAfter

BEAT_EVERY_S = 8.0  # clients known to work send an empty frame that often, whatever the venue sends
ANSWER_BEATS_EVERY_S = 0.5  # an echo that answers every answer must not become a storm
PING_TIMEOUT_S = 20.0  # until the handshake says otherwise


class SocketClusterSession:
    """One connection: how far it has come, what it has asked, and when it was last heard."""

    def __init__(
        self,
        conn: int,
        login: str,
        words: Callable[..., str],
        push_order: Callable[[Order], Outputs],
        now: Instant,
    ) -> None:
        self._conn = conn
        self._login = login
        self._words = words
        self._push_order = push_order
        self._heard_ns = now.mono_ns
        self._beat_ns = 0  # when our last empty frame went out
        self._timeout_s = PING_TIMEOUT_S
        self._step: Literal["handshake", "login", "subscribe", "ready"] = "handshake"
        self._asked: dict[int, str] = {}  # by cid
        self._cid = 0

    def hello(self) -> Outputs:
        hello = self._emit("#handshake", "#handshake", {"authToken": None})
        return (hello, WakeAfter(f"beat {self._conn}", BEAT_EVERY_S))

    def woke(self, now: Instant) -> Outputs:
        """Send a beat; give the connection up if it has been silent for `pingTimeout`."""
        silent_s = (now.mono_ns - self._heard_ns) / 1e9
        if silent_s >= self._timeout_s:
            return (CloseConnection(self._conn, f"silent for {self._timeout_s:g} s"),)
        again = WakeAfter(f"beat {self._conn}", min(BEAT_EVERY_S, self._timeout_s - silent_s))
        if self._step == "handshake":
            return (again,)
        self._beat_ns = now.mono_ns
        return (Send(self._conn, b""), again)

    def pinged(self, now: Instant) -> Outputs:
        """Answer the protocol's ping, an empty frame, with its pong, which is one too."""
        self._heard_ns = now.mono_ns
        if now.mono_ns - self._beat_ns < ANSWER_BEATS_EVERY_S * 1e9:
            return ()
        self._beat_ns = now.mono_ns
        return (Send(self._conn, b""),)

    def received(self, message: dict[str, Any], now: Instant) -> Outputs:
        self._heard_ns = now.mono_ns
        event, cid = message.get("event"), message.get("cid")
        if event is None and "rid" in message:
            return self._replied(message["rid"], message.get("error"), message.get("data"))
        outputs = self._event(event, message.get("data"))
        if type(cid) is not int:
            return outputs
        return (Send(self._conn, orjson.dumps({"rid": cid})), *outputs)  # an event with a number wants an answer

    def _event(self, event: object, data: object) -> Outputs:
        channel = data.get("channel") if isinstance(data, dict) else None
        match event:
            case "#publish" if isinstance(data, dict):
                return self._published(channel, data.get("data"))
            case "#setAuthToken":  # comes before the answer to the login, or after it
                return self._logged_in()
            case "#removeAuthToken":
                return self._give_up_early_send("the venue has logged us out")
            case "#kickOut" if channel == "order":
                return self._give_up_early_send("the venue has ended the order subscription")
            case "#kickOut":
                return ()
            case _:
                return (UnexplainedMessage("a message that no document explains"),)

    def _published(self, channel: object, data: object) -> Outputs:
        """Route a push by its channel; the object is three levels deep, under an event whose name nobody knows."""
        if channel in ("accounts", "trade"):
            return ()
        if channel != "order":
            return (UnexplainedMessage("a push on a channel that nobody asked for"),)
        inner = data.get("data") if isinstance(data, dict) else None
        order = order_of(inner if isinstance(inner, dict) else data)
        return (UnexplainedMessage("an order push that cannot be read"),) if order is None else self._push_order(order)

    def _replied(self, rid: object, error: object, data: object) -> Outputs:
        event_name = self._asked.pop(rid, "") if isinstance(rid, int) else ""
        if not event_name:
            return (UnexplainedMessage("an answer that nobody waits for"),)
        if error:
            code, text = error_of(error)
            words = self._words(event_name, "refused:", code, text)
            if event_name == "accounts":  # the kill does without
                return (UnexplainedMessage(words),)
            return self._give_up_early_send(words, fatal=code in KEY_REFUSED)
        match event_name:
            case "#handshake":
                return self._shaken(data)
            case "login":
                return self._logged_in()
            case "order":
                return self._ready()
            case _:
                return ()

    def _shaken(self, data: object) -> Outputs:
        """Take the venue's `pingTimeout`, in milliseconds, if it says one that can be kept, and go on."""
        timeout_ms = data.get("pingTimeout") if isinstance(data, dict) else None
        if isinstance(timeout_ms, int | float) and 1000 <= timeout_ms <= 600_000:
            self._timeout_s = timeout_ms / 1000
        if not self._login:
            return self._ready()
        self._step = "login"
        return (self._emit("login", "login", self._login),)

    def _logged_in(self) -> Outputs:
        if self._step != "login":
            return ()
        self._step = "subscribe"
        return tuple(self._emit(name, "#subscribe", {"channel": name}) for name in ("order", "accounts"))

    def _ready(self) -> Outputs:
        self._step = "ready"
        return (Ready(Route.WS, self._conn),)

    def _give_up_early_send(self, why: str, *, fatal: bool = False) -> Outputs:
        return (NotReady(Route.WS, self._conn, why, fatal), CloseConnection(self._conn, why))

    def _emit(self, purpose: str, event: str, data: object) -> Send:
        self._cid += 1
        self._asked[self._cid] = purpose
        return Send(self._conn, orjson.dumps({"event": event, "data": data, "cid": self._cid}))
