"""Hold when an account's calls take their second route. Every part of an adapter reads it; a reload changes it."""

from __future__ import annotations

from kill_switch.core.domain import Route

READ_FACTOR = 4  # a read waits this many times as long as a cancel, because it is less urgent
PATIENCE = 1.5  # times the longest round trip of late: a copy before that would leave although nothing is lost
LONGEST_S = 5.0  # seconds that a read or a later strike waits at most, unless the configuration says longer
FADING = 0.75  # of the longest round trip is left after each shorter one


class SecondRoute:
    """The policy of one account: how long a call waits for an answer before its second copy leaves, in seconds.

    A probe and a drill have no second route: they test the warm lane. The first strike of a kill waits `cancel_s`,
    whatever the round trip. Later strikes, and strikes with a command for each symbol, wait as long as the answers
    of their lane take. Their copies draw from the venue's limits.
    """

    __slots__ = ("_trips_s", "cancel_s")

    def __init__(self, cancel_s: float) -> None:
        self.cancel_s = cancel_s
        self._trips_s: dict[Route, float] = {}  # the longest round trip of late, by lane

    def note_round_trip(self, route: Route, rtt_us: float) -> None:
        """Note how long an answer took on a lane."""
        self._trips_s[route] = max(rtt_us / 1e6, FADING * self._trips_s.get(route, 0.0))

    def strike_s(self, route: Route, *, copies_wait: bool) -> float:
        """Return how long a command of a strike waits on a lane; `copies_wait`: until an answer can have come."""
        if not copies_wait:
            return self.cancel_s
        return max(self.cancel_s, self._answer_s(route))

    def _answer_s(self, route: Route) -> float:
        """Return within how long an answer is likely, by the round trips of late."""
        return min(PATIENCE * self._trips_s.get(route, 0.0), LONGEST_S)

    @property
    def read_s(self) -> float:
        """How long a read waits: longer if the HTTP lane's answers take longer."""
        return max(READ_FACTOR * self.cancel_s, self._answer_s(Route.HTTP))

    def change(self, cancel_s: float) -> None:
        """Set how long cancels wait from the next call on, in seconds."""
        self.cancel_s = cancel_s
