"""Log WebSocket connections in by a script of steps, keep them alive, and choose the connection for commands.

An adapter states its `LoginStep`s and owns one `SessionPool`, which sees each message first. It never reads an order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.messages import (
    CloseConnection,
    NotReady,
    Outputs,
    Ready,
    RoundTrip,
    Send,
    UnexplainedMessage,
)

Message = dict[str, Any]


class LoginRefused(NamedTuple):
    """The venue has refused a step of the login, or has ended a session."""

    evidence: str
    fatal: bool = False  # a wrong key: another attempt cannot help
    optional: bool = False  # a kill does not need what was refused: the session goes on
    session_ended: bool = False  # because the token is not valid any more
    before_ready: bool = False  # it ends a login that goes on; on a connection that is ready it is only reported


class LoginStep(NamedTuple):
    """A step of a login: send a frame, and go on once a message answers it."""

    frame: Callable[[int, Instant], bytes | None]  # connection and moment → the frame; None: only wait
    is_answer: Callable[[Message], bool]
    within_s: float = 5.0  # without an answer by then the connection is closed
    optional: bool = False  # without an answer the login goes on


class Ping(NamedTuple):
    """How a connection is kept alive and measured."""

    every_s: float
    frame: bytes | Callable[[int], bytes]  # a connection → its frame, where each has a token of its own
    is_pong: Callable[[object], bool]  # of a JSON object, or of a frame that is none
    within_s: float = 5.0
    is_beat: Callable[[Message], bool] | None = None  # of a message that shows that the subscription is alive
    beat_within_s: float = 5.0  # a connection that answers pings without such a message is closed


class SessionState:
    """The state of one connection."""

    __slots__ = ("beat_ns", "begun", "opened_ns", "pinged_ns", "step")

    def __init__(self, opened_ns: int) -> None:
        self.step = 0
        self.begun = False  # its login has begun
        self.opened_ns = self.beat_ns = opened_ns
        self.pinged_ns = 0  # 0: no ping is unanswered


class SessionPool:
    """The sessions of all connections that are up."""

    def __init__(
        self,
        steps: Sequence[LoginStep],
        refusal: Callable[[Message], LoginRefused | None],
        timers: TimerTable,
        on_ready: Callable[[int, Instant], Outputs],
        on_refused: Callable[[LoginRefused, Instant], Outputs],
        on_closed: Callable[[int], None],
        ping: Ping | None = None,
    ) -> None:
        """Make a pool without a session.

        `refusal` returns what a message refuses, None if it is no refusal. `on_ready` is called with a connection that
        has become ready, after its `Ready`. `on_refused` is called with each refusal that closes a connection.
        `on_closed` is called with each connection whose messages are ignored from now on.
        """
        self._steps = tuple(steps)
        self._refusal = refusal
        self._timers = timers
        self._on_ready = on_ready
        self._on_refused = on_refused
        self._on_closed = on_closed
        self._ping = ping
        self._sessions: dict[int, SessionState] = {}
        self._newest: int | None = None
        self._ended: set[int] = set()  # connections that were given up, and are not closed yet

    def __contains__(self, conn: int) -> bool:
        return conn in self._sessions

    @property
    def newest(self) -> int | None:
        """The newest connection whose login is complete: it carries commands; None without one."""
        return self._newest

    def is_ready(self, conn: int) -> bool:
        """Return whether the login of a connection is complete."""
        session = self._sessions.get(conn)
        return session is not None and session.begun and session.step >= len(self._steps)

    def open(self, conn: int, now: Instant) -> None:
        """Add a connection that has come up; `begin` starts its login."""
        self._sessions[conn] = SessionState(now.mono_ns)

    def begin(self, conn: int, now: Instant) -> Outputs:
        """Start the login of a connection; ignore a connection that is gone or has begun."""
        session = self._sessions.get(conn)
        if session is None or session.begun:
            return ()
        session.begun = True
        return self._go_on(conn, session, now)

    def has_ended(self, conn: int) -> bool:
        """Return whether a connection was given up and is not closed yet: orders that it still pushes count."""
        return conn in self._ended

    def close(self, conn: int) -> None:
        """Forget a connection that is gone."""
        if conn in self._ended:
            self._ended.discard(conn)
            self._on_closed(conn)
        if self._sessions.pop(conn, None) is not None:
            self._choose()
            self._on_closed(conn)

    def _choose(self) -> None:
        self._newest = max((conn for conn in self._sessions if self.is_ready(conn)), default=None)

    def _go_on(self, conn: int, session: SessionState, now: Instant) -> Outputs:
        number = session.step
        if number >= len(self._steps):
            session.beat_ns = now.mono_ns
            self._choose()
            ping = self._ping
            timers = () if ping is None else (self._timers.start(ping.every_s, lambda at: self._send_ping(conn, at)),)
            return (Ready(Route.WS, conn), *timers, *self._on_ready(conn, now))
        step = self._steps[number]
        text = step.frame(conn, now)
        timer = self._timers.start(step.within_s, lambda at: self._on_silence(conn, session, number, at))
        return (timer,) if text is None else (Send(conn, text), timer)

    def on_message(self, conn: int, message: Message, now: Instant) -> Outputs | None:
        """Process a message of the login, of the keep-alive or a refusal; return None for any other message."""
        session, ping = self._sessions[conn], self._ping
        if ping is not None:
            if ping.is_pong(message):
                return self._on_pong(conn, session, now)
            if ping.is_beat is not None and ping.is_beat(message):
                session.beat_ns = now.mono_ns
        refused = self._refusal(message)
        if refused is not None:
            if refused.optional or (refused.before_ready and self.is_ready(conn)):
                return (UnexplainedMessage(refused.evidence),)
            return self.refuse(conn, refused, now)
        if not session.begun or session.step >= len(self._steps) or not self._steps[session.step].is_answer(message):
            return None
        session.step += 1
        return self._go_on(conn, session, now)

    def refuse(self, conn: int, refused: LoginRefused, now: Instant) -> Outputs:
        """Close a connection whose session the venue has refused or ended."""
        self.close(conn)
        self._ended.add(conn)
        not_ready = NotReady(Route.WS, conn, refused.evidence, refused.fatal)
        return (not_ready, CloseConnection(conn, refused.evidence), *self._on_refused(refused, now))

    def on_raw_frame(self, conn: int, text: str | bytes, now: Instant) -> Outputs | None:
        """Process a pong that is no JSON object; return None for any other frame."""
        if self._ping is None or not self._ping.is_pong(text):
            return None
        session = self._sessions.get(conn)
        return () if session is None else self._on_pong(conn, session, now)

    # keep-alive

    def _send_ping(self, conn: int, now: Instant) -> Outputs:
        session, ping = self._sessions.get(conn), self._ping
        if session is None or ping is None:
            return ()
        session.pinged_ns = now.mono_ns
        frame = ping.frame if isinstance(ping.frame, bytes) else ping.frame(conn)
        return (Send(conn, frame), self._timers.start(ping.within_s, lambda at: self._on_pong_due(conn, at)))

    def _on_pong(self, conn: int, session: SessionState, now: Instant) -> Outputs:
        pinged_ns, session.pinged_ns = session.pinged_ns, 0
        ping = self._ping
        if not pinged_ns or ping is None:
            return ()  # a pong without a ping
        trip = RoundTrip(Route.WS, (now.mono_ns - pinged_ns) // 1000)
        if ping.is_beat is not None and now.mono_ns - session.beat_ns > ping.beat_within_s * 1e9:
            why = f"no heartbeat for {ping.beat_within_s:g} s, although pings are answered"
            return (trip, *self.refuse(conn, LoginRefused(why), now))
        return (trip,)

    def _on_pong_due(self, conn: int, now: Instant) -> Outputs:
        session, ping = self._sessions.get(conn), self._ping
        if session is None or ping is None:
            return ()
        if session.pinged_ns:
            return (CloseConnection(conn, f"no pong for {ping.within_s:g} s"),)
        wait_s = max(0.0, ping.every_s - ping.within_s)
        return (self._timers.start(wait_s, lambda at: self._send_ping(conn, at)),)

    def _on_silence(self, conn: int, session: SessionState, number: int, now: Instant) -> Outputs:
        """Process the end of a step's time: the step may have been answered, and the connection may be gone."""
        if self._sessions.get(conn) is not session or session.step != number:
            return ()
        step = self._steps[number]
        if not step.optional:
            return (CloseConnection(conn, f"no answer to the login within {step.within_s:g} s"),)
        session.step += 1
        return self._go_on(conn, session, now)
