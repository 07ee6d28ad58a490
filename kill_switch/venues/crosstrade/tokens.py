"""Keep what is scarce at CrossTrade, tokens and the user's one WebSocket, and make what costs them.

Every request and every command over the WebSocket costs one of the user's 20 tokens, 3 come back a second; what the
venue sends costs nothing. Other programs of the same user take from the same 20. A request that is refused costs
nothing over REST; over the WebSocket the tenth refusal in a row ends the session (§3; § numbers are those
of docs/venues/crosstrade.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.messages import Send
from kill_switch.venues.request import Request

BURST = 20.0  # tokens of one user, REST and WebSocket together (§3)
PER_S = 3.0
KEPT = 15.0  # polling leaves that many for a kill
DRAINED_S = 5.0  # the longest that a Retry-After is believed for: the kill asks again before that anyway
TURN_S = 0.36  # between two requests while tokens are short; a token takes 1/3 s to come back
SURPRISE = 2.0  # tokens that we count on when a request is refused: others have used them. Fewer: our count may be off
CONTENDED_S = 60.0  # without a refusal: nobody else is using the tokens up any more
HEARD = 20  # answers from which it is judged how many requests the venue takes
MAX_REFUSED = 8  # commands over the WebSocket that may be refused in a row; the tenth ends the session (§3)
ANSWER_S = 5.0  # a command over the WebSocket that is not answered by then has not arrived
PROOF_COSTS = 4  # tokens: two clean reads, of orders and of accounts
AWAY_S = 30.0  # off the WebSocket after another session took it; twice as long each time
MAX_AWAY_S = 3600.0
READS = frozenset({"GetAllOrders"})  # calls that change nothing
STEADY_S = 600.0  # a session that lasted this long was not part of a fight


class TokenBucket:
    """Count the user's tokens as far as we can know: others may use them too, and the venue says so when none is left.

    The venue states no level (§3). That others use the tokens shows in a refusal while our count says that there are
    some. From then on, until no request has been refused for `CONTENDED_S`, one token at most is counted on.

    What was used before our first request is not known: a daemon that was killed a moment ago may have used it all. So
    there are two counts, from all and from none, which become one when there must be all again, or a refusal says none.
    We act on the one, and accuse others on the other.
    """

    __slots__ = ("_at_ns", "_contended_ns", "_heard", "_level", "_sure", "refused", "until_ns")

    def __init__(self) -> None:
        self.until_ns = 0  # the venue wants no request before that
        self.refused = 0  # requests in a row, by the last answers
        self._level = BURST
        self._sure = 0.0  # the level if there was no token when we began
        self._at_ns = 0
        self._contended_ns: int | None = None  # the last refusal that others have caused
        self._heard: deque[bool] = deque(maxlen=HEARD)  # of the last answers: was a token there?

    def left(self, now: Instant) -> float:
        """Return how many requests the venue would take now; less than 0: it wants none for a while."""
        left = self._count(now)
        return min(left, 1.0) if self._contended_ns is not None and self.contended(now) else left

    def spare(self, now: Instant, tokens: int) -> bool:
        """Say whether that many can go without touching what is kept for a kill."""
        return self.left(now) >= KEPT + tokens

    def wait_s(self, tokens: float, now: Instant) -> float:
        """Return in how many seconds so many tokens are left, by our count; 0: now."""
        return max(0.0, (tokens - self._count(now)) / PER_S)

    def spend(self, now: Instant, tokens: int = 1) -> None:
        left, sure = self._count(now), self._count_sure(now)
        self._level = min(left, max(0.0, left - tokens))  # a request that is refused costs nothing
        self._sure = min(sure, max(0.0, sure - tokens))
        self._at_ns = now.mono_ns

    def taken(self) -> None:
        """Take note of an answer that is no refusal: there was a token."""
        self._heard.append(True)
        self.refused = 0

    def drain(self, now: Instant, retry_after: str = "") -> None:
        """Believe the venue that nothing is left, and for how long (`retry_after`, in seconds)."""
        if self._count_sure(now) >= SURPRISE or self.contended(now):
            if not self.contended(now):
                self._heard.clear()  # of the time before
            self._contended_ns = now.mono_ns
        self._heard.append(False)
        self.refused = min(self.refused + 1, HEARD)
        wait_s = min(float(retry_after), DRAINED_S) if retry_after.isascii() and retry_after.isdigit() else 0.0
        self._level = self._sure = min(self._count(now), 0.0, 1 - wait_s * PER_S)
        self._at_ns = now.mono_ns
        if wait_s > 1:  # 1 is the least that whole seconds can say, and a token is back after a third of that
            self.until_ns = max(self.until_ns, now.mono_ns + int(wait_s * 1e9))

    def contended(self, now: Instant) -> bool:
        """Say whether another program of this user has been seen to use the tokens up."""
        return self._contended_ns is not None and now.mono_ns - self._contended_ns < CONTENDED_S * 1e9

    def kill_s(self, accounts: int) -> float:
        """Return about how many seconds a kill of so many NT accounts takes until it is proven, at this contention."""
        share = (sum(self._heard) + 1) / (len(self._heard) + 2)
        return (accounts + PROOF_COSTS) * TURN_S / share

    def _count(self, now: Instant) -> float:
        return min(BURST, self._level + max(0, now.mono_ns - self._at_ns) * PER_S / 1e9)

    def _count_sure(self, now: Instant) -> float:
        return min(self._count(now), self._sure + max(0, now.mono_ns - (self._at_ns or now.mono_ns)) * PER_S / 1e9)


class SocketLease:
    """The user's one WebSocket session (§6): two programs that reconnect at once would fight for it for ever."""

    __slots__ = ("_fights", "_until_ns")

    def __init__(self) -> None:
        self._fights = 0
        self._until_ns = 0

    def lost(self, since_ns: int, now: Instant) -> float:
        """Leave it to whoever took it; return for how many seconds. `since_ns`: when we had got it."""
        if now.mono_ns - since_ns >= STEADY_S * 1e9:
            self._fights = 0
        away_s = min(MAX_AWAY_S, AWAY_S * (1 << self._fights))
        self._fights = min(self._fights + 1, 10)
        self._until_ns = now.mono_ns + int(away_s * 1e9)
        return away_s

    def left_s(self, now: Instant) -> float:
        """Return for how long we still stay away; 0 or less: not any more."""
        return (self._until_ns - now.mono_ns) / 1e9


@dataclass(slots=True)
class SocketLoad:
    """One WebSocket connection: when it came up, and what may end it."""

    since_ns: int
    refused: int = 0  # commands over the limit, in a row
    waiting: dict[str, int] = field(default_factory=dict)  # commands without an answer, by id, and when each left

    def room(self, now: Instant) -> int:
        """Return how many commands may be refused without the venue ending the session."""
        if len(self.waiting) + self.refused >= MAX_REFUSED:
            oldest_ns = now.mono_ns - int(ANSWER_S * 1e9)
            self.waiting = {tag: left_ns for tag, left_ns in self.waiting.items() if left_ns > oldest_ns}
        return max(0, MAX_REFUSED - self.refused - len(self.waiting))


class RequestFactory:
    """Make requests and frames, and count what each costs."""

    def __init__(self, host: str, bearer: Mapping[str, str]) -> None:
        self.bucket = TokenBucket()
        self.links: dict[int, SocketLoad] = {}  # by connection
        self._headers = {"Host": host, **bearer, "Content-Type": "application/json"}

    @property
    def newest(self) -> int | None:
        """Return the connection that carries commands, None if there is none."""
        return max(self.links, default=None)

    def room(self, now: Instant) -> int:
        """Return how many commands the WebSocket may carry now: none while they are likely to be refused."""
        conn = self.newest
        return 0 if conn is None or self.bucket.contended(now) else self.links[conn].room(now)

    def carrier(self, now: Instant) -> int | None:
        """Return the connection that may carry one more command now, None if REST is to."""
        return self.newest if self.room(now) else None

    def left(self, conn: int, tag: str, now: Instant) -> None:
        """Count a command that leaves over the WebSocket."""
        self.bucket.spend(now)
        self.links[conn].waiting[tag] = now.mono_ns

    def heard(self, conn: int, tag: str, now: Instant, *, limited: bool) -> None:
        """Take note of the answer to a command over the WebSocket."""
        link = self.links[conn]
        counted = link.waiting.pop(tag, None) is not None
        if limited:
            link.refused += 1
            self.bucket.drain(now)
        elif counted:
            link.refused = 0
            self.bucket.taken()

    def request(self, method: str, target: str) -> Request:
        return Request(method, target, self._headers, b"{}" if method == "POST" else b"")

    def paid(self, request: Request, *, paid: bool = False) -> Callable[[Instant], Request]:
        """Return what builds each copy of a request, and counts its token; the first may have been counted."""
        owed = not paid

        def build(now: Instant) -> Request:
            nonlocal owed
            self.bucket.spend(now, int(owed))
            owed = True
            return request

        return build

    def rpc(self, conn: int, tag: str, api: str, args: Mapping[str, str], now: Instant) -> Send:
        """Make a command's frame, and count its token; what does not only read is a kill's command."""
        self.left(conn, tag, now)
        return Send(conn, rpc_frame(api, args, tag), command=api not in READS)


def rpc_frame(api: str, args: Mapping[str, str], tag: str = "") -> bytes:
    """Make a command; without a tag, as it is shown to people."""
    return orjson.dumps({"action": "rpc", **({"id": tag} if tag else {}), "api": api, "args": args})


def path_of(account: str) -> str:
    return f"/v1/api/accounts/{quote(account, safe='')}"


def is_id(text: str) -> bool:
    """Say whether an id may go into a path: a GUID of 32 hexadecimal digits, or the number that a broker gave it."""
    return 0 < len(text) <= 64 and text.isascii() and text.isalnum()
