"""Log an account's lane troubles at a bounded rate, and hold housekeeping calls back while the venue refuses them.

`AccountSession` passes it the events of the lanes and the venue. It never holds a cancel back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from kill_switch import printable
from kill_switch.core.domain import Instant, LaneState, Route
from kill_switch.dispatch.ports import HttpPort, WsPort
from kill_switch.dispatch.repeat_filter import RepeatFilter
from kill_switch.transports.lane import STOPPING
from kill_switch.venues import retry_after
from kill_switch.venues.messages import NotReady, Replied

log = logging.getLogger(__name__)

FIRST_REFUSAL_PAUSE_S = 2.0  # without housekeeping calls after a refused login; doubled at each further refusal
MAX_REFUSAL_PAUSE_S = 30.0


class LaneTroubles:
    """The troubles of an account's warm lanes, and the pause that its venue asks for."""

    def __init__(self, account: str, ws: WsPort, http: HttpPort, clock: Callable[[], Instant]) -> None:
        self._account = account
        self._ws = ws
        self._http = http
        self._clock = clock
        self._repeats = {Route.WS: RepeatFilter(), Route.HTTP: RepeatFilter()}
        self._quiet = ("", 0)  # why only urgent calls and commands leave, and until when (monotonic ns)
        self._refusals = 0  # refused logins over HTTP in a row
        self._refused_key = ""  # why the venue refuses the key over HTTP, or what the key may not do

    def quiet(self) -> str:
        """Return why only urgent calls and commands leave now; "" if all calls do."""
        why, until_ns = self._quiet
        return why if self._clock().mono_ns < until_ns else ""

    def key_refused(self) -> str:
        """Return why the venue has refused the key with its last answer over HTTP; "" if it has not."""
        return self._refused_key

    def on_trouble(self, route: Route, why: str) -> None:
        """Log a lane's trouble; `why` is "" once the trouble has ended."""
        if why:
            self._log(route, logging.WARNING, why)
        elif self._repeats[route].resolve():
            log.info("account %s: %s lane: up again", self._account, route, extra=self._fields(route))

    def on_refusal(self, reply: Replied, now: Instant) -> None:
        """Hold housekeeping calls back for as long as a refusal's Retry-After asks; urgent calls and commands leave."""
        asked_s = retry_after.retry_after_s(reply.headers, now.wall_ns)
        if asked_s:
            why = f"HTTP {reply.status}: {retry_after.describe_pause(asked_s)}; cancels leave all the same"
            self._hold(asked_s, why, now)
            self._log(Route.HTTP, logging.WARNING, why)

    def on_http_ready(self) -> None:
        """Reset the back-off: the venue has accepted the login over HTTP."""
        self._refusals, self._refused_key = 0, ""

    def on_not_ready(self, fact: NotReady, now: Instant) -> bool:
        """Stop using a lane that the venue reports as not ready; return whether the lane's state has changed."""
        route, conn, why, fatal = fact
        if route is Route.WS:
            self._ws.drop(conn, why, fatal=fatal)
            if self._ws.state is LaneState.UP:  # another connection serves the lane
                return False
            self._ws.trouble = why
        else:
            self._http.trouble = why
            self._http.authenticated(False)
            self._refused_key = why if fatal else self._refused_key
            if fatal:
                wait_s = min(FIRST_REFUSAL_PAUSE_S * 2 ** min(self._refusals, 10), MAX_REFUSAL_PAUSE_S)
                self._refusals += 1
                self._hold(wait_s, f"the login was refused: {why}", now)
        self._log(route, logging.ERROR if fatal else logging.WARNING, why)
        return True

    def _hold(self, asked_s: float, why: str, now: Instant) -> None:
        """Hold all calls but urgent ones and commands back for `asked_s` seconds, at most `MAX_PAUSE_S`."""
        until_ns = now.mono_ns + int(min(asked_s, retry_after.MAX_PAUSE_S) * 1e9)
        if until_ns > self._quiet[1]:
            self._quiet = why, until_ns
        self._http.hold(asked_s)

    def _log(self, route: Route, level: int, why: str) -> None:
        if line := self._repeats[route].next_line(why, self._clock().mono_ns):
            text, level = "account %s: %s lane: %s", logging.DEBUG if why == STOPPING else level
            log.log(level, text, self._account, route, printable.line(line), extra=self._fields(route))

    def _fields(self, route: Route) -> dict[str, str]:
        return {"account": self._account, "route": route.value}
