"""The queue of CrossTrade requests that wait for a token: cancels first, in their order, then reads.

The striker puts in cancels that the venue has refused or that no token is left for, the adapter the refused requests
of reads. The adapter gives it the timer `TURN`. Each target of a cancel waits at most once: a later one replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.tokens import TURN_S, CrossTradeLimits
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.messages import Outputs, WakeAfter

TURN = "turn"  # the timer's tag
LEAST_S = 0.15  # the shortest mean gap between two requests: seven a second, of which the venue accepts three
SHORTER = 0.8  # the gap is multiplied by this for each refusal in a row
SPREAD = 0.5  # share of the gap by which gaps differ from each other
IDLE_S = 2.0  # after so long without a request the first one waits a whole gap
GOLDEN = 0.618034  # the fractional parts of its multiples are spread as evenly as possible

SendRequest = Callable[[Instant], Outputs]


class RequestQueue:
    """Hold the requests that wait for a token, and send one at each turn.

    The gap between two requests is a little longer than a token takes to come back. A refusal over REST costs nothing,
    and shows that another program took the token. So the gap shrinks with each refusal in a row, down to `LEAST_S`.
    No two gaps are alike: of two programs in step, the later one would never find a token.
    """

    def __init__(self, limits: CrossTradeLimits, calls: CallStarter) -> None:
        self._limits = limits
        self._calls = calls
        self._cancels: dict[Hashable, tuple[int, SendRequest]] = {}  # by target, with the rank: the lower goes first
        self._out: set[Hashable] = set()  # targets whose cancel was sent from here and is not answered
        self._reads: list[PendingCall] = []
        self._sent_ns = 0  # when the latest request was sent, monotonic
        self._due_ns = 0  # when the timer fires; 0: none is set
        self._count = 0

    @property
    def cancels(self) -> int:
        """How many cancels wait, or were sent from the queue and are not answered."""
        return len(self._cancels) + len(self._out)

    def queue_cancel(self, target: Hashable, rank: int, send: SendRequest, now: Instant) -> Outputs:
        """Queue a cancel; within a rank the longest wait goes first. Call `drop` when it is answered."""
        self._out.discard(target)
        self._cancels[target] = (rank, send)
        return self._set_timer(now)

    def drop(self, target: Hashable) -> None:
        """Remove a cancel that is answered or not needed any more."""
        self._out.discard(target)
        self._cancels.pop(target, None)

    def drop_cancels(self) -> None:
        """Remove every cancel: the account is armed again."""
        self._out.clear()
        self._cancels.clear()

    def queue_read(self, call: PendingCall, now: Instant) -> Outputs:
        """Queue a refused request of a read; it is sent again when no cancel waits."""
        self._reads.append(call)
        return self._set_timer(now)

    def take_reads(self) -> list[PendingCall]:
        """Remove the requests of reads and return them: a newer read replaces theirs."""
        reads, self._reads = self._reads, []
        return reads

    def on_timer(self, now: Instant) -> Outputs:
        """Send the next request, unless a Retry-After is still running."""
        if not self._due_ns:
            return ()
        self._due_ns = 0
        if now.mono_ns < self._limits.bucket.until_ns:
            return self._set_timer(now)
        self._sent_ns = now.mono_ns
        outputs: Outputs = ()
        if self._cancels:
            target = min(self._cancels, key=lambda key: self._cancels[key][0])
            _, send = self._cancels.pop(target)
            self._out.add(target)
            outputs = send(now)
        elif self._reads:
            call = self._reads.pop(0)
            outputs = self._calls.start_call(
                call.kind, call.build, now, urgent=True, context=call.part, on_loss=call.on_loss
            )
        return (*outputs, *self._set_timer(now))

    def _set_timer(self, now: Instant) -> Outputs:
        """Set the timer one gap after the latest request, unless it is set or nothing waits."""
        if self._due_ns or not (self._cancels or self._reads):
            return ()
        if self._limits.bucket.until_ns <= now.mono_ns and now.mono_ns - self._sent_ns > int(IDLE_S * 1e9):
            self._sent_ns = now.mono_ns  # the refused request that is queued now was sent a moment ago
        self._count += 1
        shift = SPREAD * (self._count * GOLDEN % 1)
        gap_s = max(LEAST_S, TURN_S * SHORTER**self._limits.bucket.refused)
        earliest_ns = max(self._sent_ns + int((1 - SPREAD / 2 + shift) * gap_s * 1e9), now.mono_ns)
        self._due_ns = max(earliest_ns, self._limits.bucket.until_ns, now.mono_ns + int(shift * LEAST_S * 1e9))
        return (WakeAfter(TURN, (self._due_ns - now.mono_ns) / 1e9),)
