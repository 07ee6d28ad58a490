"""CrossTrade's scarce resources: the user's 20 request tokens and the user's one WebSocket session.

Every request and every WebSocket command costs a token; 3 tokens a second come back (docs/venues/crosstrade.md § 3).
The other parts of the adapter build their requests here, so that each token is counted. Nothing here sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.replies import Words
from kill_switch.venues.kit.account_limits import AccountLimits
from kill_switch.venues.kit.budget import PoolCount
from kill_switch.venues.kit.calls import Build, CallStarter
from kill_switch.venues.kit.frames import FrameTracker
from kill_switch.venues.kit.pools import Calls, Pool
from kill_switch.venues.kit.replies import CallPart, Reply
from kill_switch.venues.kit.second_route import SecondRoute
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.messages import Outputs, Send
from kill_switch.venues.request import Request
from kill_switch.venues.retry_after import retry_after_s

TOKENS = Pool("tokens", 20.0, per_s=3.0, shared_by="account")  # of one user, REST and WebSocket together (§ 3)
BURST, PER_S = TOKENS.size, TOKENS.per_s
READ_KEEPS = 2.0  # tokens that optional cancels of a strike leave for the read-back
KEPT = 15.0  # tokens that polling leaves for a kill
DRAINED_S = 5.0  # a longer Retry-After is cut to this: the kill repeats its commands sooner anyway
UNCOUNTED_MOST = 64  # requests that are noted and not yet counted for the reads of a kill
TURN_S = 0.36  # between two requests while tokens are short; a token takes 1/3 s to come back
SURPRISE = 2.0  # a refusal at this count or above shows another program; below it our own count may be wrong
CONTENDED_S = 60.0  # so long without a refusal, and no other program counts as using the tokens any more
HEARD = 20  # latest answers from which the share of accepted requests is estimated
MAX_REFUSED = 8  # WebSocket commands that may be refused in a row; the tenth refusal ends the session (§ 3)
ANSWER_S = 5.0  # a WebSocket command without an answer after this has not arrived
PROOF_COSTS = 4  # tokens: two clean reads, each of orders and of accounts
AWAY_S = 30.0  # off the WebSocket after another session displaced ours; doubled each time
MAX_AWAY_S = 3600.0
SNAPSHOT = "/v1/api/accounts/snapshot"  # of all the user's NT accounts (§ 5)
READS = frozenset({"GetAllOrders"})  # RPCs that change nothing
STEADY_S = 600.0  # a session that lasted this long resets the doubling


class TokenBucket(PoolCount):
    """Count the user's tokens as far as the adapter can know them.

    The kit's count paces reads by a share of the pool. This one also knows how many tokens are left, because strikes
    and probes are cut to that number.

    CrossTrade states no level (§ 3), and other programs of the user may spend tokens too. A refusal while our count
    still has tokens shows such a program. From then on at most one token is counted on, until no request has been
    refused for `CONTENDED_S`.

    The use before our first request is unknown: a daemon that was killed a moment ago may have spent everything. So
    the bucket keeps two counts, from a full and from an empty bucket. Requests follow the first count. Contention is
    concluded from the second. The counts meet when the bucket must be full again, or when a refusal shows it empty.
    """

    __slots__ = ("_contended_ns", "_counted", "_counted_ns", "_heard", "_level", "_sure", "refused", "until_ns")

    def __init__(self, pool: Pool = TOKENS) -> None:
        super().__init__(pool)
        self.until_ns = 0  # the venue wants no request before this moment, monotonic
        self.refused = 0  # refusals in a row, up to the latest answer
        self._level = BURST
        self._sure = 0.0  # the level if the bucket was empty at our first request
        self._counted = 0  # how many of `commands` the level counts
        self._counted_ns = 0
        self._contended_ns: int | None = None  # the latest refusal that another program caused
        self._heard: deque[bool] = deque(maxlen=HEARD)  # of each answer: was a token there?

    def left(self, now: Instant) -> float:
        """Return how many requests the venue would accept now; negative after a Retry-After."""
        left = self._count(now)
        return min(left, 1.0) if self._contended_ns is not None and self.contended(now) else left

    def spare(self, now: Instant, tokens: int) -> bool:
        """Return whether so many tokens can be spent without touching the `KEPT` tokens of a kill."""
        return self.left(now) >= KEPT + tokens

    def tokens_wait_s(self, tokens: float, now: Instant) -> float:
        """Return in how many seconds so many tokens are there, by our count; 0: now."""
        return max(0.0, (tokens - self._count(now)) / PER_S)

    def spend(self, now: Instant, tokens: int = 1) -> None:
        """Count the tokens of frames that are sent now; `Budget` counts those of requests."""
        self.take(tokens, now.mono_ns)

    def take(self, weight: float, now_ns: int) -> None:
        """Count a request; it costs the same whether a kill needs it or not."""
        self.commands.append((weight, now_ns))
        self._count_open()
        if len(self.commands) > UNCOUNTED_MOST:
            self.settle(now_ns)

    def settle(self, now_ns: int) -> None:
        self._count_open()
        super().settle(now_ns)
        self._counted = len(self.commands)

    def _count_open(self) -> None:
        """Apply to the level the requests that it does not count yet; `settle` applies them to the pace of reads."""
        for tokens, at_ns in self.commands[self._counted :]:
            left, sure = self._level_at(at_ns), self._sure_at(at_ns)
            self._level = min(left, max(0.0, left - tokens))  # a request that is refused costs nothing
            self._sure = min(sure, max(0.0, sure - tokens))
            self._counted_ns = at_ns
        self._counted = len(self.commands)

    def note_accepted(self) -> None:
        """Record an answer that is no refusal for want of tokens: a token was there."""
        self._heard.append(True)
        self.refused = 0

    def drain(self, now: Instant, retry_after: str = "") -> None:
        """Record a refusal for want of tokens; `retry_after` is its header."""
        level = self._count(now)
        if self._sure_at(now.mono_ns) >= SURPRISE or self.contended(now):
            if not self.contended(now):
                self._heard.clear()  # answers from before the contention
            self._contended_ns = now.mono_ns
        self._heard.append(False)
        self.refused = min(self.refused + 1, HEARD)
        wait_s = min(retry_after_s({"retry-after": retry_after}, now.wall_ns), DRAINED_S)
        self._level = self._sure = min(level, 0.0, 1 - wait_s * PER_S)
        self._counted_ns = now.mono_ns
        if wait_s > 1:  # 1 is the least that whole seconds can state; a token is back after a third of it
            self.until_ns = max(self.until_ns, now.mono_ns + int(wait_s * 1e9))

    def contended(self, now: Instant) -> bool:
        """Return whether another program of this user uses the tokens up."""
        return self._contended_ns is not None and now.mono_ns - self._contended_ns < CONTENDED_S * 1e9

    def kill_s(self, accounts: int) -> float:
        """Estimate, in seconds, a kill of so many NT accounts up to its proof, at the present contention."""
        share = (sum(self._heard) + 1) / (len(self._heard) + 2)
        return (accounts + PROOF_COSTS) * TURN_S / share

    def slow_kill_warning(self, accounts: int, now: Instant) -> str:
        """Describe how long a kill of so many NT accounts takes while tokens are contended, else return ""."""
        if not self.contended(now):
            return ""
        named = "1 NT account" if accounts == 1 else f"{accounts} NT accounts"
        took_s = self.kill_s(accounts)
        return f"another program uses up this user's requests: a kill of {named} takes about {took_s:.0f} s"

    def _count(self, now: Instant) -> float:
        if len(self.commands) > self._counted:
            self._count_open()
        return self._level_at(now.mono_ns)

    def _level_at(self, now_ns: int) -> float:
        return min(BURST, self._level + max(0, now_ns - self._counted_ns) * PER_S / 1e9)

    def _sure_at(self, now_ns: int) -> float:
        return min(self._level_at(now_ns), self._sure + max(0, now_ns - (self._counted_ns or now_ns)) * PER_S / 1e9)


class CrossTradeLimits(AccountLimits):
    """The limits of a user: each activity asks the bucket itself, because a contended bucket has rules of its own."""

    @property
    def bucket(self) -> TokenBucket:
        """The tokens of the user, which all accounts of the token share."""
        bucket = self.budget.counts[TOKENS.name]
        assert isinstance(bucket, TokenBucket)  # noqa: S101 - `COUNT` makes it
        return bucket

    def read_wait_s(self, now: Instant) -> float:
        bucket = self.bucket
        if bucket.contended(now):
            return 0.0
        return max(bucket.tokens_wait_s(READ_KEEPS + 1, now), super().read_wait_s(now))

    def first_read_wait_s(self, now: Instant) -> float:
        return 0.0

    def has_room(self, calls: Calls, now: Instant, *, spares_read: bool = True) -> bool:
        return True

    def has_room_for_drill(self, now: Instant) -> bool:
        return True


class SocketLease:
    """The back-off of the user's one WebSocket session (§ 6).

    A second session closes the first. Two programs that both reconnected at once would displace each other without
    end, so ours stays off the WebSocket for a while after each displacement.
    """

    __slots__ = ("_displacements", "_until_ns")

    def __init__(self) -> None:
        self._displacements = 0
        self._until_ns = 0

    def on_displaced(self, since_ns: int, now: Instant) -> float:
        """Start the back-off and return its length in seconds; the lost session had begun at `since_ns`, monotonic."""
        if now.mono_ns - since_ns >= STEADY_S * 1e9:
            self._displacements = 0
        away_s = min(MAX_AWAY_S, AWAY_S * (1 << self._displacements))
        self._displacements = min(self._displacements + 1, 10)
        self._until_ns = now.mono_ns + int(away_s * 1e9)
        return away_s

    def left_s(self, now: Instant) -> float:
        """Return the seconds that are left of the back-off; 0 or less: it is over."""
        return (self._until_ns - now.mono_ns) / 1e9


class FramePart(Protocol):
    """The object that waits for the reply to one RPC."""

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        """Turn the reply into facts; it may prove nothing."""
        ...


@dataclass(slots=True)
class SocketLoad:
    """A WebSocket connection: when it opened, and the commands that count towards the venue's limit on refusals.

    The upgrade is the login, so commands leave at once; the kit's sessions would wait for the answer to a first frame.
    """

    since_ns: int
    refused: int = 0  # commands in a row that were refused for want of tokens
    waiting: dict[str, int] = field(default_factory=dict)  # commands without an answer: id → when sent, monotonic

    def room(self, now: Instant) -> int:
        """Return how many more commands may be refused before the venue ends the session."""
        if len(self.waiting) + self.refused >= MAX_REFUSED:
            oldest_ns = now.mono_ns - int(ANSWER_S * 1e9)
            self.waiting = {tag: left_ns for tag, left_ns in self.waiting.items() if left_ns > oldest_ns}
        return max(0, MAX_REFUSED - self.refused - len(self.waiting))


@dataclass(slots=True, eq=False)
class UserWire:
    """The user's two lanes: build requests and RPCs, count the token of each, and start the calls of reads."""

    headers: Mapping[str, str]
    limits: CrossTradeLimits
    calls: CallStarter
    second_route: SecondRoute
    words: Words
    timers: TimerTable = field(default_factory=TimerTable)
    links: dict[int, SocketLoad] = field(default_factory=dict)  # by connection
    frames: FrameTracker[FramePart] = field(default_factory=FrameTracker)

    @property
    def bucket(self) -> TokenBucket:
        """The user's tokens; another account of the user may bring its own count of them."""
        return self.limits.bucket

    @property
    def newest(self) -> int | None:
        """The connection that carries commands, None if there is none."""
        return max(self.links, default=None)

    def room(self, now: Instant) -> int:
        """Return how many commands the WebSocket may carry now; 0 while the venue is likely to refuse them."""
        conn = self.newest
        return 0 if conn is None or self.bucket.contended(now) else self.links[conn].room(now)

    def carrier(self, now: Instant) -> int | None:
        """Return the connection for one more command now, or None: use REST."""
        return self.newest if self.room(now) else None

    def note_sent(self, conn: int, tag: str, now: Instant) -> None:
        """Count a command that is sent over the WebSocket."""
        self.bucket.spend(now)
        self.links[conn].waiting[tag] = now.mono_ns

    def on_answered(self, conn: int, tag: str, now: Instant, *, limited: bool) -> None:
        """Record the answer to a WebSocket command; `limited`: it was refused for want of tokens."""
        link = self.links[conn]
        counted = link.waiting.pop(tag, None) is not None
        if limited:
            link.refused += 1
            self.bucket.drain(now)
        elif counted:
            link.refused = 0
            self.bucket.note_accepted()

    def build(self, method: str, target: str) -> Build:
        """Return the builder of a request; nothing is signed, so each copy is the same object."""
        request = Request(method, target, self.headers, b"{}" if method == "POST" else b"")
        return lambda now: request

    def get(
        self,
        kind: str,
        target: str,
        part: CallPart,
        now: Instant,
        *,
        urgent: bool = False,
        again_s: float | None = None,
    ) -> Outputs:
        """Start the call of a read; without an answer after `again_s` seconds it takes its second route."""
        build = self.build("GET", target)
        return self.calls.start_call(kind, build, now, urgent=urgent, second_route_after_s=again_s, context=part)

    def rpc(self, conn: int, tag: str, api: str, args: Mapping[str, str], part: FramePart, now: Instant) -> Send:
        """Build the frame of an RPC whose reply `part` waits for, and count its token."""
        self.note_sent(conn, tag, now)
        self.frames.add(tag, conn, part)
        return Send(conn, rpc_frame(api, args, tag), command=api not in READS)


def rpc_frame(api: str, args: Mapping[str, str], tag: str = "") -> bytes:
    """Build the text of an RPC (§ 6); without a tag, as `fire --dry-run` shows it."""
    return orjson.dumps({"action": "rpc", **({"id": tag} if tag else {}), "api": api, "args": args})


def path_of(account: str) -> str:
    return f"/v1/api/accounts/{quote(account, safe='')}"


def single_target(account: str, order: str) -> str:
    """Return the path that cancels one order (§ 4)."""
    return f"{path_of(account)}/orders/{order}/cancel"


def is_id(text: str) -> bool:
    """Return whether an id may go into a path: a GUID of 32 hexadecimal digits, or a number that the broker gave."""
    return 0 < len(text) <= 64 and text.isascii() and text.isalnum()
