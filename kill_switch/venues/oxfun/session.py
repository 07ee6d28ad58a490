"""Log in to OX.FUN's WebSocket, subscribe, keep connections alive, and choose the connection for commands (§ 3).

The adapter owns one `SessionPool` and passes it the messages of connections. It never reads an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import orjson

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.decode import Evidence, as_text
from kill_switch.venues.messages import (
    CloseConnection,
    NotReady,
    Outputs,
    Ready,
    RoundTrip,
    Send,
    UnexplainedMessage,
    WakeAfter,
)
from kill_switch.venues.oxfun.replies import KEY_REFUSED, LOGIN_ENDED, WRONG_TIME
from kill_switch.venues.oxfun.signing import OxFunSigner

GREETING_WITHIN_S = 0.5  # seconds; then log in without a greeting, which is inferred and not documented (§ 3.1)
PING_EVERY_S = 15.0  # the venue requires a "ping" a minute (§ 3.3)
PONG_WITHIN_S = 5.0
MS_DIGITS = 13  # digits of a time in milliseconds, until the year 2286


class WsSession:
    """The step of one connection's login."""

    __slots__ = ("pinged_ns", "sent_ns", "step")

    def __init__(self) -> None:
        self.step: Literal["greeting", "login", "subscribe", "ready"] = "greeting"
        self.pinged_ns = 0
        self.sent_ns = 0  # when the login was sent, on our wall clock


class SessionPool:
    """Hold the sessions of all connections that are up."""

    def __init__(
        self,
        signer: OxFunSigner,
        clock: ClockOffset,
        evidence: Evidence,
        begin_pushes: Callable[[int, Instant], Outputs],
    ) -> None:
        """Make a pool without a session; `begin_pushes` is called with a connection that has become ready."""
        self._signer = signer
        self._clock = clock
        self._evidence = evidence
        self._begin_pushes = begin_pushes
        self._sessions: dict[int, WsSession] = {}

    def __contains__(self, conn: int) -> bool:
        return conn in self._sessions

    @property
    def newest(self) -> int | None:
        """The newest connection that is logged in and subscribed, or None."""
        return max((conn for conn, session in self._sessions.items() if session.step == "ready"), default=None)

    def opened(self, conn: int) -> Outputs:
        """Start a session: wait for the venue's greeting."""
        self._sessions[conn] = WsSession()
        return (WakeAfter(f"greeting {conn}", GREETING_WITHIN_S),)

    def closed(self, conn: int) -> None:
        """Forget the session of a closed connection."""
        self._sessions.pop(conn, None)

    def woke(self, tag: str, now: Instant) -> Outputs:
        """Process a timer of a session, which may be gone."""
        timer, _, number = tag.partition(" ")
        conn = int(number)
        session = self._sessions.get(conn)
        if session is None:
            return ()
        match timer:
            case "greeting":
                return self._log_in(conn, session, now)
            case "ping":
                session.pinged_ns = now.mono_ns
                return (Send(conn, b"ping"), WakeAfter(f"pong {conn}", PONG_WITHIN_S))
            case _:
                if session.pinged_ns:
                    return (CloseConnection(conn, f"no pong for {PONG_WITHIN_S:g} s"),)
                return (WakeAfter(f"ping {conn}", PING_EVERY_S - PONG_WITHIN_S),)

    def ponged(self, conn: int, now: Instant) -> Outputs:
        """Process a pong, and return the round trip; ignore a pong without a ping."""
        session = self._sessions.get(conn)
        if session is None or not session.pinged_ns:
            return ()
        rtt_us = (now.mono_ns - session.pinged_ns) // 1000
        session.pinged_ns = 0
        return (RoundTrip(Route.WS, rtt_us),)

    def received(self, conn: int, message: dict[str, Any], now: Instant) -> Outputs | None:
        """Process a message of the login, the subscription or the greeting; return None for any other message."""
        session = self._sessions[conn]
        match message.get("event"):
            case "login":
                return self._logged_in(conn, session, message, now)
            case "subscribe":
                return self._subscribed(conn, session, message, now)
            case "cancelorder" | "cancelorders" | "CANCEL" | "AMEND":
                return None
            case event if "nonce" in message or event == "Welcome":
                return self._log_in(conn, session, now)
            case _:
                return None

    def login_ended(self, conn: int, message: dict[str, Any]) -> Outputs:
        """Close a connection whose login has ended by `message`: it would deliver no push, and report no fault."""
        code = as_text(message.get("code", ""))
        if code not in LOGIN_ENDED:
            return ()
        why = self._evidence("the login has ended:", code, message.get("message", ""))
        return (NotReady(Route.WS, conn, why), CloseConnection(conn, why))

    def _log_in(self, conn: int, session: WsSession, now: Instant) -> Outputs:
        if session.step != "greeting":
            return ()
        session.step, session.sent_ns = "login", now.wall_ns
        stamp = str(self._clock.venue_ms(now))
        signature = self._signer.hmac(f"{stamp}GET/auth/self/verify")
        data = {"apiKey": self._signer.key, "timestamp": stamp, "signature": signature}
        return (Send(conn, orjson.dumps({"op": "login", "tag": 1, "data": data})),)

    def _logged_in(self, conn: int, session: WsSession, message: dict[str, Any], now: Instant) -> Outputs:
        if session.step != "login":
            return (UnexplainedMessage("a login answer without a login"),)
        stamp = as_text(message.get("timestamp", ""))
        at_ns = int(stamp) * 1_000_000 if stamp.isascii() and stamp.isdigit() and len(stamp) == MS_DIGITS else 0
        granted, code = message.get("success") is True, as_text(message.get("code", ""))
        late = not granted and code == WRONG_TIME
        times: Outputs = ()
        if at_ns:
            times = self._clock.note_message(at_ns, at_ns + 1_000_000, session.sent_ns, now, refused=late)
        if not granted and code != "20005":  # already logged in: an earlier login has succeeded without an answer
            words = self._evidence("login refused:", code, message.get("message", ""))
            return (NotReady(Route.WS, conn, words, fatal=code in KEY_REFUSED), CloseConnection(conn, words), *times)
        return (*self._subscribe(conn, session), *times)

    def _subscribe(self, conn: int, session: WsSession) -> Outputs:
        session.step = "subscribe"
        args = ["order:all", "position:all", "balance:all"]
        return (Send(conn, orjson.dumps({"op": "subscribe", "tag": 101, "args": args})),)

    def _subscribed(self, conn: int, session: WsSession, message: dict[str, Any], now: Instant) -> Outputs:
        granted, channel = message.get("success") is True, as_text(message.get("channel", ""))
        words = (as_text(message.get("code", "")), message.get("message", ""))
        if channel in ("position:all", "balance:all"):  # a kill does not need them
            return (
                () if granted else (UnexplainedMessage(self._evidence(f"subscription to {channel} refused:", *words)),)
            )
        if not granted:
            why = self._evidence("subscription refused:", *words)
            return (NotReady(Route.WS, conn, why), CloseConnection(conn, why))
        if session.step != "subscribe" or channel != "order:all":
            return ()
        session.step = "ready"
        return (Ready(Route.WS, conn), WakeAfter(f"ping {conn}", PING_EVERY_S), *self._begin_pushes(conn, now))
