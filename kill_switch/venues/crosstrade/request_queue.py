"""Let requests leave one by one at CrossTrade while tokens are short: cancels first, in their order, reads behind them.

A request that the venue has refused comes here, and so does what a strike has no token for. The timer goes on as long
as something waits; a request that is refused again comes back. What waits is never sent twice: the one that is asked
for last takes the place of the one before.

A refusal over REST costs nothing, and tells that somebody else came first. So the gap between two requests, a little
more than a token takes to come back, becomes shorter with each refusal in a row, down to `LEAST_S`. No two gaps are
alike: of two programs with one beat the one that comes a moment behind the other would find no token, ever.
"""

from __future__ import annotations

from collections.abc import Callable

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.tokens import TURN_S, TokenBucket
from kill_switch.venues.messages import Outputs, WakeAfter

TURN = "turn"  # the timer's tag
LEAST_S = 0.15  # the shortest gap between two requests, in the middle: seven a second, of which the venue takes three
SHORTER = 0.8  # of the gap is left after one more refusal in a row
SPREAD = 0.5  # of the gap: how much longer or shorter one is than another
IDLE_S = 2.0  # nothing has left in its turn for so long: the first one has a whole gap before it
GOLDEN = 0.618034  # its multiples, without what is before the point, are spread as evenly as can be

Send = Callable[[Instant], Outputs]


class RequestQueue:
    """Keep what waits for a token, and send it when its turn has come."""

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self._cancels: dict[str, tuple[int, Send]] = {}  # by what is cancelled; the lower number goes first
        self._out: set[str] = set()  # cancels that have left in their turn, and are not answered
        self._reads: list[Send] = []
        self._sent_ns = 0  # when the last one left
        self._due_ns = 0  # when the one timer rings; 0: none is set
        self._count = 0

    @property
    def cancels(self) -> int:
        """Return how many cancels wait, or have left in their turn and are not answered."""
        return len(self._cancels) + len(self._out)

    def cancel(self, target: str, rank: int, send: Send, now: Instant) -> Outputs:
        """Have a cancel sent in its turn; of one rank, who waits longer goes first. `drop` is to follow its answer."""
        self._out.discard(target)
        self._cancels[target] = (rank, send)
        return self._wind(now)

    def drop(self, target: str) -> None:
        """Forget a cancel: it is answered, or not needed any more."""
        self._out.discard(target)
        self._cancels.pop(target, None)

    def drop_cancels(self) -> None:
        """Forget every cancel: the account is armed again."""
        self._out.clear()
        self._cancels.clear()

    def read(self, send: Send, now: Instant) -> Outputs:
        """Have a request of a read sent, when no cancel waits any more."""
        self._reads.append(send)
        return self._wind(now)

    def drop_reads(self) -> None:
        """Forget the requests of reads: another read takes their place."""
        self._reads.clear()

    def woke(self, now: Instant) -> Outputs:
        """Send what is next, unless the venue wants no request yet."""
        if not self._due_ns:
            return ()
        self._due_ns = 0
        if now.mono_ns < self.bucket.until_ns:
            return self._wind(now)
        self._sent_ns = now.mono_ns
        outputs: Outputs = ()
        if self._cancels:
            target = min(self._cancels, key=lambda key: self._cancels[key][0])
            _, send = self._cancels.pop(target)
            self._out.add(target)
            outputs = send(now)
        elif self._reads:
            outputs = self._reads.pop(0)(now)
        return (*outputs, *self._wind(now))

    def _wind(self, now: Instant) -> Outputs:
        """Set the timer for what waits: a gap behind the last one that left, and never in step with the answers."""
        if self._due_ns or not (self._cancels or self._reads):
            return ()
        if self.bucket.until_ns <= now.mono_ns and now.mono_ns - self._sent_ns > int(IDLE_S * 1e9):
            self._sent_ns = now.mono_ns  # what brings us here has left a moment ago
        self._count += 1
        shift = SPREAD * (self._count * GOLDEN % 1)
        gap_s = max(LEAST_S, TURN_S * SHORTER**self.bucket.refused)
        earliest_ns = max(self._sent_ns + int((1 - SPREAD / 2 + shift) * gap_s * 1e9), now.mono_ns)
        self._due_ns = max(earliest_ns, self.bucket.until_ns, now.mono_ns + int(shift * LEAST_S * 1e9))
        return (WakeAfter(TURN, (self._due_ns - now.mono_ns) / 1e9),)
