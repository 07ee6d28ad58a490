"""Keep the token that a venue's REST API hands out for its WebSocket, and that ends.

An adapter whose connections need one owns a `SessionToken`. It requests the token with calls that are not urgent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.decode import Evidence
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.kit.second_route import SecondRoute
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.messages import NotReady, Outputs, Replied

RENEWED_AT = 0.6  # part of its life after which a token is replaced
MIN_FETCH_GAP_S = 5.0  # between two requests: tokens draw from the limit that cancels need
NO_CONNECTION = 0  # stands for the lane; connections are counted from 1
MAX_FETCH_GAP_S = 60.0  # the gap doubles with each failure, up to this


class Token(NamedTuple):
    """A token, for how many seconds it is good, and after how many it is requested again; 0: `RENEWED_AT` of them."""

    value: str
    life_s: float
    renew_after_s: float = 0.0


class SessionToken:
    """The newest token of an account; connections that come up later log in with it at once.

    It is fetched when a connection first needs it, and again when the venue refuses it. It is replaced before its end:
    a connection that comes up later finds a valid token, and does not wait for a request.
    """

    def __init__(
        self,
        build: Build,
        read: Callable[[Any], Token | None],
        begin: Callable[[int, Instant], Outputs],
        on_renewed: Callable[[Instant], Outputs],
        pause_s: Callable[[Instant], float],
        calls: CallStarter,
        timers: TimerTable,
        second_route: SecondRoute,
        evidence: Evidence,
    ) -> None:
        """Make a holder without a token.

        `build` builds the request, `read` reads the token from a reply's data. `begin` starts the login of a
        connection, `on_renewed` is called with the moment of a new token. `pause_s` returns for how long no request
        may leave.
        """
        self.value = ""
        self.trouble = ""  # why the last request has brought no token; "": it has, or none was made
        self._build = build
        self._read = read
        self._begin = begin
        self._on_renewed = on_renewed
        self._pause_s = pause_s
        self._calls = calls
        self._timers = timers
        self._second_route = second_route
        self._evidence = evidence
        self._ends_ns = 0  # when the token ends, monotonic
        self._waiting: dict[int, None] = {}  # connections that need a token
        self._asking = False  # a request is under way, or a timer runs after which one leaves
        self._next_ns = 0  # no request before that, monotonic
        self._gap_s = MIN_FETCH_GAP_S

    def is_valid(self, now: Instant) -> bool:
        """Return whether there is a token that has not ended."""
        return bool(self.value) and now.mono_ns < self._ends_ns

    def begin_login(self, conn: int, now: Instant) -> Outputs:
        """Start the login of a connection, now or once there is a token."""
        if self.is_valid(now):
            return self._begin(conn, now)
        self._waiting[conn] = None
        return self.fetch(now)

    def on_closed(self, conn: int) -> None:
        """Forget a connection that is gone."""
        self._waiting.pop(conn, None)

    def on_refused(self, now: Instant) -> Outputs:
        """Drop a token that the venue has refused, and fetch another."""
        self._ends_ns = 0
        return self.fetch(now)

    def confirm(self, now: Instant) -> Outputs:
        """Request the token again, unless that was done just now: another program may have ended it."""
        return () if now.mono_ns < self._next_ns else self.fetch(now)

    def fetch(self, now: Instant) -> Outputs:
        """Request a token, unless one is under way; not sooner than the gap and the venue's pause allow."""
        if self._asking:
            return ()
        self._asking = True
        wait_s = max((self._next_ns - now.mono_ns) / 1e9, self._pause_s(now))
        return (self._timers.start(wait_s, self._send),) if wait_s > 0 else self._send(now)

    def _send(self, now: Instant) -> Outputs:
        self._next_ns = now.mono_ns + int(self._gap_s * 1e9)
        return self._calls.start_call(
            "token",
            self._build,
            now,
            second_route_after_s=self._second_route.read_s,
            context=self,
            on_loss=self.on_loss,
        )

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Use the new token from now on, and start the logins that wait for it."""
        token = self._read(reply.data) if reply.ok else None
        if token is None or not token.value:
            why = "the answer cannot be read" if reply.ok else reply.evidence
            return self._fail(why, now, fatal=reply.key_refused)
        self._asking, self._gap_s, self.trouble = False, MIN_FETCH_GAP_S, ""
        self.value, self._ends_ns = token.value, call.asked_ns + int(token.life_s * 1e9)
        self._evidence.hide(token.value)
        ends_ns = self._ends_ns
        renewal = self._timers.start(
            token.renew_after_s or RENEWED_AT * token.life_s,
            lambda at: self.fetch(at) if self._ends_ns == ends_ns else (),
        )
        waiting, self._waiting = self._waiting, {}
        logins = tuple(output for conn in waiting for output in self._begin(conn, now))
        return (renewal, *self._on_renewed(now), *logins)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        """Try again later."""
        return self._fail(why, now, fatal=False)

    def _fail(self, why: str, now: Instant, *, fatal: bool) -> Outputs:
        self._asking, self.trouble = False, why
        self._gap_s = min(MAX_FETCH_GAP_S, 2 * self._gap_s)
        # a lane whose address needs the token has no connection that waits, and never gets one with a refused key
        lacking = self._waiting or ((NO_CONNECTION,) if fatal and not self.is_valid(now) else ())
        text = f"no token for the WebSocket: {why}"
        return (*(NotReady(Route.WS, conn, text, fatal) for conn in lacking), *self.fetch(now))
