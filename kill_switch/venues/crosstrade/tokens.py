"""CrossTrade's request tokens: a user has 20, and 3 come back each second (docs/venues/crosstrade.md § 3).

Every request and every WebSocket command costs a token. The other parts of the adapter ask the bucket before they send
what a kill can do without. Nothing here sends.
"""

from __future__ import annotations

from collections import deque

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.account_limits import AccountLimits
from kill_switch.venues.kit.pool_count import PoolCount
from kill_switch.venues.kit.pool_use import DecayingUse
from kill_switch.venues.kit.pools import Calls, Pool
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
PROOF_COSTS = 4  # tokens: two clean reads, each of orders and of accounts


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

    __slots__ = ("_contended_ns", "_counted", "_heard", "_if_empty", "_if_full", "_named_ns", "refused", "until_ns")

    def __init__(self, pool: Pool = TOKENS) -> None:
        super().__init__(pool)
        self.until_ns = 0  # the venue wants no request before this moment, monotonic
        self.refused = 0  # refusals in a row, up to the latest answer
        self._if_full = DecayingUse(pool)  # the use if the bucket was full at our first request
        self._if_empty: DecayingUse | None = None  # the use if it was empty then
        self._named_ns = 0  # when the venue has said that a token is there again, monotonic
        self._counted = 0  # how many of `commands` are counted
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
        """Count the requests that are not counted yet; `settle` applies them to the pace of reads."""
        for tokens, at_ns in self.commands[self._counted :]:
            if self._if_empty is None:
                self._if_empty = DecayingUse(self.pool)
                self._if_empty.add(BURST, at_ns)
            for use in {self._if_full, self._if_empty}:  # one object since a refusal
                use.add(tokens, at_ns)  # never more than all: a request that is refused costs nothing
        self._counted = len(self.commands)

    def note_accepted(self) -> None:
        """Record an answer that is no refusal for want of tokens: a token was there."""
        self._heard.append(True)
        self.refused = 0

    def drain(self, now: Instant, retry_after: str = "") -> None:
        """Record a refusal for want of tokens; `retry_after` is its header."""
        self._count_open()
        used = BURST if self._if_empty is None else self._if_empty.at(now.mono_ns)
        if BURST - used >= SURPRISE or self.contended(now):
            if not self.contended(now):
                self._heard.clear()  # answers from before the contention
            self._contended_ns = now.mono_ns
        self._heard.append(False)
        self.refused = min(self.refused + 1, HEARD)
        self._if_full.add(BURST, now.mono_ns)
        self._if_empty = self._if_full  # the bucket is empty in either case
        wait_s = min(retry_after_s({"retry-after": retry_after}, now.wall_ns), DRAINED_S)
        named_ns = now.mono_ns + int(wait_s * 1e9)
        self._named_ns = max(self._named_ns, named_ns)
        if wait_s > 1:  # 1 is the least that whole seconds can state; a token is back after a third of it
            self.until_ns = max(self.until_ns, named_ns)

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
        left = BURST - self._if_full.at(now.mono_ns)
        named_s = (self._named_ns - now.mono_ns) / 1e9
        return left if named_s <= 0 else min(left, 1 - named_s * PER_S)


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
