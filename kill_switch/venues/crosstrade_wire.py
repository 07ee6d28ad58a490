"""Keep what is scarce at CrossTrade, tokens and the user's one WebSocket, and make what costs them.

Every request and every command over the WebSocket costs one of the user's 20 tokens, 3 come back a second; what the
venue sends costs nothing (§3; § numbers are crosstrade.md of the venue notes's).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import orjson

from kill_switch.domain import Now
from kill_switch.venues.base import Request, Send

BURST = 20.0  # tokens of one user, REST and WebSocket together (§3)
PER_S = 3.0
KEPT = 15.0  # polling leaves that many for a kill
DRAINED_S = 5.0  # the longest that a Retry-After is believed for: the kill asks again before that anyway
AWAY_S = 30.0  # off the WebSocket after another session took it; twice as long each time
AWAY_MOST_S = 3600.0
READS = frozenset({"GetAllOrders"})  # calls that change nothing
STEADY_S = 600.0  # a session that lasted this long was not part of a fight


class Bucket:
    """The user's tokens, as far as we can know: others may use them too, and the venue says so when they are gone."""

    __slots__ = ("_at_ns", "_level")

    def __init__(self) -> None:
        self._level = BURST
        self._at_ns = 0

    def left(self, now: Now) -> float:
        return min(BURST, self._level + max(0, now.mono_ns - self._at_ns) * PER_S / 1e9)

    def spare(self, now: Now, tokens: int) -> bool:
        """Say whether that many can go without touching what is kept for a kill."""
        return self.left(now) >= KEPT + tokens

    def spend(self, now: Now, tokens: int = 1) -> None:
        left = self.left(now)
        self._level = min(left, max(0.0, left - tokens))  # a request that is refused costs nothing
        self._at_ns = now.mono_ns

    def drain(self, now: Now, retry_after: str = "") -> None:
        """Believe the venue that nothing is left, and for how long."""
        wait_s = min(float(retry_after), DRAINED_S) if retry_after.isascii() and retry_after.isdigit() else 0.0
        self._level = min(self.left(now), 0.0, 1 - wait_s * PER_S)
        self._at_ns = now.mono_ns


class Slot:
    """The user's one WebSocket session (§6): two programs that reconnect at once would fight for it for ever."""

    __slots__ = ("_fights", "_until_ns")

    def __init__(self) -> None:
        self._fights = 0
        self._until_ns = 0

    def lost(self, since_ns: int, now: Now) -> float:
        """Leave it to whoever took it; return for how many seconds. `since_ns`: when we had got it."""
        if now.mono_ns - since_ns >= STEADY_S * 1e9:
            self._fights = 0
        away_s = min(AWAY_MOST_S, AWAY_S * (1 << self._fights))
        self._fights = min(self._fights + 1, 10)
        self._until_ns = now.mono_ns + int(away_s * 1e9)
        return away_s

    def left_s(self, now: Now) -> float:
        """Return for how long we still stay away; 0 or less: not any more."""
        return (self._until_ns - now.mono_ns) / 1e9


class Wire:
    """Make requests and frames, and count what each costs."""

    def __init__(self, host: str, bearer: Mapping[str, str]) -> None:
        self.bucket = Bucket()
        self.conns: dict[int, int] = {}  # connection → when it came up
        self._headers = {"Host": host, **bearer, "Content-Type": "application/json"}

    @property
    def newest(self) -> int | None:
        """Return the connection that carries commands, None if there is none."""
        return max(self.conns, default=None)

    def request(self, method: str, target: str) -> Request:
        return Request(method, target, self._headers, b"{}" if method == "POST" else b"")

    def paid(self, request: Request, *, paid: bool = False) -> Callable[[Now], Request]:
        """Return what builds each copy of a request, and counts its token; the first may have been counted."""
        owed = not paid

        def build(now: Now) -> Request:
            nonlocal owed
            self.bucket.spend(now, int(owed))
            owed = True
            return request

        return build

    def rpc(self, conn: int, tag: str, api: str, args: Mapping[str, str], now: Now) -> Send:
        """Make a command's frame, and count its token; what does not only read is a kill's command."""
        self.bucket.spend(now)
        return Send(conn, rpc_frame(api, args, tag), command=api not in READS)


def rpc_frame(api: str, args: Mapping[str, str], tag: str = "") -> bytes:
    """Make a command; without a tag, as it is shown to people."""
    return orjson.dumps({"action": "rpc", **({"id": tag} if tag else {}), "api": api, "args": args})


def path_of(account: str) -> str:
    return f"/v1/api/accounts/{quote(account, safe='')}"
