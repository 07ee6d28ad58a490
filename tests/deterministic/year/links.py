"""An account's lanes go down, one or both, for seconds to hours: a link trigger fires for what takes too long."""

from __future__ import annotations

from kill_switch.core.domain import LaneState
from kill_switch.dispatch.session import AccountSession
from tests.deterministic.year.model import DAY, HOUR, Due, Model, Since


class Links(Model):
    NAME = "venue-lost"
    ACCOUNTS = ("link",)
    TOML = 'kind = "link"\ntimeout = "1800s"\n'
    TIMEOUT_S = 1800.0

    _down_until_s = 0.0
    _ws_until_s = 0.0  # the WebSocket alone
    _down: Since | None = None  # from the last moment at which a look can have found it reachable
    _reached = False
    _sure = True

    @property
    def _session(self) -> AccountSession:
        return self.session(self.ACCOUNTS[0])

    def play(self) -> None:
        now_s = self.world.now_s
        if now_s >= self._down_until_s and self.happens(8 * HOUR):
            longest = self.random.choice((60.0, 600.0, 1700.0, 2000.0, 2 * HOUR, 8 * HOUR))
            self._down_until_s = now_s + self.random.uniform(0, longest)
        if now_s >= self._ws_until_s and self.happens(DAY):
            self._ws_until_s = now_s + self.random.uniform(0, 6 * HOUR)
        if not self.world.up:
            return
        up = self.world.connected and now_s >= self._down_until_s
        self._session.http.state = LaneState.UP if up else LaneState.DOWN  # type: ignore[misc]
        self._session.ws.state = LaneState.UP if up and now_s >= self._ws_until_s else LaneState.DOWN  # type: ignore[misc]

    def due(self) -> Due:
        if LaneState.UP in (self._session.ws.state, self._session.http.state):
            self._reached, self._sure, self._down = True, True, None
            return Due.NO
        if not self._reached:
            return Due.NO  # it has to be reached first
        self._down = self._down or Since(self.world)
        due = self._down.due(self.TIMEOUT_S)
        return due if self._sure else min(due, Due.MAY)

    def booted(self) -> None:
        self._reached, self._down = False, None

    def rearmed(self) -> None:
        self._sure = False  # it has to be reached again, unless a restart has forgotten what it had fired for

    def mend(self) -> None:
        self._down_until_s = 0.0
