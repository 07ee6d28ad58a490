"""Count the use of one pool: how much of it is in use, how much other programs leave, and how long a refusal pauses it.

`budget.Budget` owns the counts of an account's pools, or shares them with other accounts. A count never sends and
never waits: it returns the seconds after which a request may leave.
"""

from __future__ import annotations

from kill_switch.venues.kit.foreign_use import ForeignUse
from kill_switch.venues.kit.pool_use import DecayingUse, WindowUse
from kill_switch.venues.kit.pools import Pool

RESTED = 7.5  # units: if more have left at once, a kill omits the reads that it can do without
OVERDRAWN_MOST = 5.0  # times a request's weight: the largest debt that a read which never waits leaves to the others
OVERDRAWN_BY_COMMANDS = 2.0  # the same, by a kill's commands: reads go on beside strikes that are repeated
FULLEST = 0.9  # part of the other half, of all that we use: above it only a kill's commands go on
SYMBOLS_PART = 0.9  # of what other programs leave: what strikes that choose among many symbols may lift our use to
SYMBOLS_OF_HALF = 0.95  # and at most so much of the other half
START_PART = 0.65  # of the pool: what the first lists after a start may lift the use of all programs to
UNSTATED_S = 2.0  # reads wait so long at most for the venue's first statement, after a start
LOOK_EVERY_S = 0.05  # how often they look whether it has come
LEAST_SHARE = 1 / 16  # of the pool that other programs are taken to leave
SHARES = 8  # the share follows the venue's usage headers in steps of 1/8
RECOVERS_AFTER_S = 600.0  # without a refusal the share doubles; the time doubles with each refusal
RECOVERS_AT_LATEST_S = 3600.0
UNNAMED_PAUSE_S = 2.0  # after a refusal that names no pause; doubled with each refusal
MAX_UNNAMED_PAUSE_S = 30.0
MAX_NAMED_PAUSE_S = 120.0  # a longer pause is cut to this, as `retry_after.MAX_PAUSE_S`


class PoolCount:
    """The use of one pool, by the requests of all accounts that share it and by the venue's own statements.

    `share` is the part of the pool that other programs leave. The venue's usage headers show it; without them each
    refusal halves it. All but a kill's commands use at most `1 - kept` of that part.
    """

    __slots__ = (
        "_at_ns",
        "_awaited_ns",
        "_backoff",
        "_foreign",
        "_has_read",
        "_is_heard",
        "_next_ns",
        "_reads",
        "_recovers_ns",
        "_refusals",
        "_refused_ns",
        "_until_ns",
        "_used",
        "commands",
        "named_s",
        "pool",
        "share",
        "turn_ns",
        "why",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.share = 1.0
        self.named_s = 0.0  # seconds between requests that the venue named at the last refusal; 0: none
        self._used = WindowUse(pool) if pool.window_s else DecayingUse(pool)
        self.commands: list[tuple[float, int]] = []  # (weight, when) of a kill's commands that are not counted yet
        # a process that has just started may follow another one, whose use only the venue knows
        self._reads = 0.0 if pool.is_stated else pool.read_burst
        self._at_ns = 0
        self._is_heard = not pool.is_stated  # an answer of the venue has come, or was awaited for long enough
        self._awaited_ns = 0  # since when a read waits for the venue's first statement, monotonic; 0: none has
        self._foreign = ForeignUse(pool)
        self._backoff = 1.0
        self._refusals = 0
        self._recovers_ns = 0
        self._has_read = True  # since the last refusal that halved the share, something else than commands has left
        self._next_ns = 0  # a refusal before this is of requests that were under way, monotonic
        self._refused_ns = 0  # when the last refusal came, monotonic
        self._until_ns = 0  # end of the pause after a refusal, monotonic
        self.turn_ns = 0  # when the next read may leave that takes its turn, monotonic
        self.why = ""  # the venue's words at the last refusal

    def take(self, weight: float, now_ns: int) -> None:
        """Count any other request."""
        self.settle(now_ns)
        self._used.add(weight, now_ns)
        self._draw(weight, -OVERDRAWN_MOST * weight)
        self._has_read = True

    def note_use(self, weight: float, now_ns: int) -> None:
        """Count units for which the reads that may leave at once do not become fewer."""
        self.settle(now_ns)
        self._used.add(weight, now_ns)

    def take_back(self, weight: float, at_ns: int, now_ns: int) -> None:
        """Subtract the units of a request that was counted at `at_ns` and has never left."""
        self.settle(now_ns)
        self._used.remove(weight, at_ns, now_ns)
        self._reads = min(self._burst(), self._reads + weight)

    def wait_s(self, weight: float, now_ns: int, spare: float = 0.0) -> float:
        """Return in how many seconds a request of this weight may leave and leave `spare` units; 0: now."""
        self.settle(now_ns)
        wanted = min(weight + spare, self._burst())
        wait_s = max(0.0, (wanted - self._reads) / (self.pool.read_rate * self.share))
        allowed = FULLEST * (1 - self.pool.kept) * self._free()
        if self._used.at(now_ns) + weight > allowed:
            wait_s = max(wait_s, self._used.falls_to_s(max(0.0, allowed - weight), now_ns))
        return max(wait_s, self.pause_s(now_ns))

    def wait_for_cancels_s(self, weight: float, now_ns: int) -> float:
        """Return in how many seconds a request of this weight leaves the part that is kept for cancels; 0: now."""
        return self.wait_within_s(1 - self.pool.kept, weight, now_ns)

    def wait_within_s(self, part: float, weight: float, now_ns: int, *, in_half: bool = False) -> float:
        """Return in how many seconds a request keeps our use within a part of the pool left by others; 0: now.

        With `in_half` our use also keeps out of the part that is kept for cancels, of the whole pool.
        """
        self.settle(now_ns)
        room = part * self._left(now_ns)
        room = min(room, (1 - self.pool.kept) * self.pool.size) if in_half else room
        return self._used.falls_to_s(max(0.0, room - weight), now_ns)

    def take_turn(self, weight: float, now_ns: int) -> None:
        """Start a turn; the next may start once this weight has come back, as far as other programs leave units."""
        left_part = self._left(now_ns) / self.pool.size
        self.turn_ns = now_ns + int(weight / (self.pool.rate * left_part) * 1e9)

    def wait_at_start_s(self, weight: float, now_ns: int) -> float:
        """Return in how many seconds the first lists after a start may leave; 0: now.

        While all programs have used little, they need not wait for the requests that come back.
        """
        self.settle(now_ns)
        if self._used.at(now_ns) + self._foreign.units + weight <= START_PART * self.pool.size:
            return self.pause_s(now_ns)
        return self.wait_s(weight, now_ns)

    def statement_wait_s(self, now_ns: int) -> float:
        """Return in how many seconds a read should look again whether the venue has stated its use; 0: go on.

        A process that has just started does not know what its predecessor has used. Without an answer of the venue
        reads go on after `UNSTATED_S`.
        """
        if self._is_heard:
            return 0.0
        self._awaited_ns = self._awaited_ns or now_ns
        self._is_heard = now_ns - self._awaited_ns >= UNSTATED_S * 1e9
        return 0.0 if self._is_heard else LOOK_EVERY_S

    def pause_s(self, now_ns: int) -> float:
        """Return how long the pause after a refusal still lasts, in seconds; 0: there is none."""
        return max(0.0, (self._until_ns - now_ns) / 1e9)

    def named_pause_s(self, now_ns: int) -> float:
        """Return how long a pause that the venue has named still lasts, in seconds; 0: there is none."""
        return self.pause_s(now_ns) if self.named_s else 0.0

    def is_rested(self, now_ns: int) -> bool:
        """Return whether the requests at once are nearly all there: an optional read then delays no other."""
        self.settle(now_ns)
        return self._reads >= self._burst() - RESTED and now_ns >= self._until_ns

    def fullness(self, now_ns: int) -> float:
        """Return the part of the pool that is in use by our count."""
        self.settle(now_ns)
        return (self._used.at(now_ns) + self._foreign.units) / self.pool.size

    def room(self, now_ns: int) -> float:
        """Return the units that a strike which chooses among many symbols may take."""
        self.settle(now_ns)
        most = min(SYMBOLS_PART * self._left(now_ns), SYMBOLS_OF_HALF * (1 - self.pool.kept) * self.pool.size)
        return max(0.0, most - self._used.at(now_ns))

    def on_answer(self) -> None:
        """Note that the venue has answered: what it states of the use is known."""
        self._is_heard = True

    def on_usage(self, used: float, now_ns: int) -> None:
        """Correct the count by the venue's own: other programs use the units that we have not counted."""
        self.settle(now_ns)
        self._is_heard = True
        self._foreign.state(used, self._used.at(now_ns), self._used.ever, now_ns)
        self._set_share()

    def on_refusal(self, asked_s: float, now_ns: int, why: str = "") -> None:
        """Pause after a refusal, and halve the share; `asked_s` is the pause that the venue names, 0: it names none.

        The share stays as it is if only commands have left since the last refusal.
        A pause that the venue does not name grows from refusal to refusal, up to the pool's decay to half.
        """
        self.settle(now_ns)
        pool = self.pool
        if now_ns >= self._next_ns:  # others that were under way are refused too
            if self._has_read:  # else commands are refused whatever the reads take
                self._backoff = max(LEAST_SHARE, self._backoff / 2)
            self._has_read = False
            self._refusals += 1
        if now_ns >= self._until_ns:
            self.named_s = 0.0
        decay_s = min(
            pool.kept * pool.size / pool.rate, MAX_UNNAMED_PAUSE_S, UNNAMED_PAUSE_S * 2.0 ** (self._refusals - 1)
        )
        pause_s = min(asked_s, MAX_NAMED_PAUSE_S) or decay_s
        self.named_s, self.why = max(self.named_s, asked_s), why
        self._refused_ns = now_ns
        recovers_s = min(RECOVERS_AFTER_S * 2.0 ** (self._refusals - 1), RECOVERS_AT_LATEST_S)
        self._recovers_ns = now_ns + int(recovers_s * 1e9)
        self._until_ns = self._next_ns = max(self._until_ns, now_ns + int(pause_s * 1e9))
        self._set_share()

    def on_accepted(self, weight: float, asked_ns: int, now_ns: int) -> None:
        """Shorten a pause that the venue did not name, because it has accepted a request made after the refusal.

        The pause then ends once `weight` units have come back.
        """
        if asked_ns > self._refused_ns and not self.named_s:
            self._until_ns = min(self._until_ns, now_ns + int(weight / self.pool.rate * 1e9))

    def settle(self, now_ns: int) -> None:
        """Count the commands, and the units that have come back since the last call."""
        if self.commands:
            for weight, at_ns in self.commands:
                self._used.add(weight, at_ns)
                self._draw(weight, -OVERDRAWN_BY_COMMANDS * weight)
            self.commands.clear()
        if self._recovers_ns and now_ns >= self._recovers_ns:
            self._backoff = min(1.0, 2 * self._backoff)
            if self._backoff == 1:
                self._recovers_ns = self._refusals = 0
            else:
                self._recovers_ns = now_ns + int(RECOVERS_AFTER_S * 1e9)
            self._set_share()
        elapsed_s = max(0, now_ns - self._at_ns) / 1e9 if self._at_ns or not self.pool.is_stated else 0.0
        self._reads = min(self._burst(), self._reads + elapsed_s * self.pool.read_rate * self.share)
        self._at_ns = max(self._at_ns, now_ns)

    def _free(self) -> float:
        return max(self.pool.size - self._foreign.units, self.pool.size * LEAST_SHARE)

    def _left(self, now_ns: int) -> float:
        """Return the units that other programs leave while the pool refills once, if they go on as they began."""
        return max(self.pool.size - self._foreign.expected(now_ns), self.pool.size * LEAST_SHARE)

    def _draw(self, weight: float, least: float) -> None:
        self._reads = min(self._reads, max(self._reads - weight, least))

    def _burst(self) -> float:
        return self.pool.read_burst * self.share

    def _set_share(self) -> None:
        free = int(SHARES * max(0.0, 1 - self._foreign.units / self.pool.size)) / SHARES
        self.share = max(LEAST_SHARE, min(free, self._backoff))
