"""KUNA's SocketCluster protocol: the frames of a login and their answers, and the pings of a connection (version 2).

The adapter logs connections in with `login_steps`, and keeps a `ConnectionPings` for each. No cancel goes over the
WebSocket: KUNA has none there (docs/venues/kuna.md § 5).
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.kuna.replies import KEY_REFUSED, error_of
from kill_switch.venues.messages import CloseConnection, Outputs, Send

PING_EVERY_S = 8.0  # working clients send an empty frame every 7 to 8 s, whatever the venue sends (§ 5)
PONG_EVERY_S = 0.5  # at most: a peer that echoes every pong must not cause a storm
PING_TIMEOUT_S = 20.0  # until the handshake states another
HANDSHAKE, LOGIN, ORDER, ACCOUNTS = range(1, 5)  # `cid` of our frames; the answer has it as its `rid`
_NAMES = {HANDSHAKE: "#handshake", LOGIN: "login", ORDER: "order", ACCOUNTS: "accounts"}


def _frame(cid: int, event: str, data: object) -> bytes:
    return orjson.dumps({"event": event, "data": data, "cid": cid})


def subscription(cid: int) -> bytes:
    """Return the frame that subscribes to the channel `ORDER` or `ACCOUNTS`."""
    return _frame(cid, "#subscribe", {"channel": _NAMES[cid]})


def login_steps(key: str) -> tuple[LoginStep, ...]:
    """Return the steps of a login with the single key; without one a connection gets no pushes."""
    handshake = _frame(HANDSHAKE, "#handshake", {"authToken": None})
    login, subscribe = _frame(LOGIN, "login", key), subscription(ORDER)
    steps = (
        LoginStep(lambda conn, now: handshake, lambda message: rid_of(message) == HANDSHAKE),
        LoginStep(lambda conn, now: login, _is_logged_in),
        LoginStep(lambda conn, now: subscribe, lambda message: rid_of(message) == ORDER),
    )
    return steps if key else steps[:1]


def rid_of(message: Message) -> int:
    """Return which of our frames a message answers; 0 if none."""
    rid = message.get("rid")
    return rid if type(rid) is int and rid in _NAMES and message.get("event") is None else 0


def _is_logged_in(message: Message) -> bool:
    """Return whether the login is accepted: the token comes before the answer to the login, or after it (§ 5)."""
    return message.get("event") == "#setAuthToken" or rid_of(message) == LOGIN


def refusal_of(message: Message, words: Callable[..., str]) -> LoginRefused | None:
    """Return which of our frames a message refuses, or why it ends the session; None: neither."""
    rid, error, event = rid_of(message), message.get("error"), message.get("event")
    if rid and error:
        code, text = error_of(error)
        evidence = words(_NAMES[rid], "refused:", code, text)
        return LoginRefused(evidence, code in KEY_REFUSED, optional=rid == ACCOUNTS)
    if event == "#removeAuthToken":
        return LoginRefused("the venue has logged us out")
    data = message.get("data")
    if event == "#kickOut" and isinstance(data, dict) and data.get("channel") == "order":
        return LoginRefused("the venue has ended the order subscription")
    return None


class ConnectionPings:
    """The pings of one connection, empty frames in both directions, and the watch over its silence (§ 5)."""

    def __init__(self, conn: int, timers: TimerTable, now: Instant) -> None:
        self._conn = conn
        self._timers = timers
        self._heard_ns = now.mono_ns  # when the latest frame came
        self._ping_ns = 0  # when our latest empty frame was sent
        self._timeout_s = PING_TIMEOUT_S
        self._greeted = False  # the handshake is answered: no ping leaves before
        self.is_closed = False

    def start(self) -> Outputs:
        """Return the first timer."""
        return (self._timers.start(PING_EVERY_S, self._on_due),)

    def on_message(self, message: Message, now: Instant) -> None:
        """Note a sign of life; an answer to the handshake may state a timeout between 1 s and 10 minutes."""
        self._heard_ns = now.mono_ns
        if rid_of(message) != HANDSHAKE or message.get("error"):
            return
        self._greeted = True
        data = message.get("data")
        timeout_ms = data.get("pingTimeout") if isinstance(data, dict) else None
        if isinstance(timeout_ms, int | float) and 1000 <= timeout_ms <= 600_000:
            self._timeout_s = timeout_ms / 1000

    def on_ping(self, now: Instant) -> Outputs:
        """Answer the protocol's ping, an empty frame, with an empty frame."""
        self._heard_ns = now.mono_ns
        if now.mono_ns - self._ping_ns < PONG_EVERY_S * 1e9:
            return ()
        self._ping_ns = now.mono_ns
        return (Send(self._conn, b""),)

    def _on_due(self, now: Instant) -> Outputs:
        """Send a ping; close the connection if it has been silent for the venue's timeout."""
        if self.is_closed:
            return ()
        silent_s = (now.mono_ns - self._heard_ns) / 1e9
        if silent_s >= self._timeout_s:
            return (CloseConnection(self._conn, f"silent for {self._timeout_s:g} s"),)
        again = self._timers.start(min(PING_EVERY_S, self._timeout_s - silent_s), self._on_due)
        if not self._greeted:
            return (again,)
        self._ping_ns = now.mono_ns
        return (Send(self._conn, b""), again)
