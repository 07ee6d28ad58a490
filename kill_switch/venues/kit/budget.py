"""Count what an account's requests take of its venue's limits; at least half of each limit is kept for cancels.

`pools` has the venue's limits as data. `venues.sharing` makes accounts that a venue counts together share
one `PoolCount`. A kill's commands and first reads are counted and never wait; everything else asks `Budget.wait_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.pool_use import DecayingUse, WindowUse
from kill_switch.venues.kit.pools import Calls, Cost, Demand, Pool, weights_of
from kill_switch.venues.request import Request

RESTED = 7.5  # units: if more have left at once, a kill omits the reads that it can do without
OVERDRAWN_MOST = 5.0  # times a request's weight: the largest debt that a read which never waits leaves to the others
OVERDRAWN_BY_COMMANDS = 2.0  # the same, by a kill's commands: reads go on beside strikes that are repeated
FULLEST = 0.9  # part of the other half, of all that we use: above it only a kill's commands go on
PROOF_PART = 0.7  # of what other programs leave: what a read that may prove an account clear may lift our use to
FIND_PART = 0.8  # the same of the lists that a kill's first strike reads, for symbols that nobody knows
SYMBOLS_PART = 0.75  # the same of strikes that choose among many symbols, and `SYMBOLS_OF_HALF` of half of the pool
SYMBOLS_OF_HALF = 0.97
STRIKE_PART = 0.95  # the same of a strike that follows another: a refusal would lead to a ban
START_PART = 0.65  # of the pool: what the first lists after a start may lift the use of all programs to
UNSTATED_S = 2.0  # reads wait so long at most for the venue's first statement, after a start
LOOK_EVERY_S = 0.05  # how often they look whether it has come
OUTAGE_S = 1.0  # refusals for so long, with no cancel accepted, are no chance hits beside other programs
ANOTHER_S = 60.0  # a refusal that comes so long after another one has nothing to do with it
LEAST_SHARE = 1 / 16  # of the pool that other programs are taken to leave
SHARES = 8  # the share follows the venue's usage headers in steps of 1/8
RECOVERS_AFTER_S = 600.0  # without a refusal the share doubles; the time doubles with each refusal
RECOVERS_AT_LATEST_S = 3600.0
UNNAMED_PAUSE_S = 2.0  # after a refusal that names no pause; doubled with each refusal
MAX_UNNAMED_PAUSE_S = 30.0
MAX_NAMED_PAUSE_S = 120.0  # a longer pause is cut to this, as `retry_after.MAX_PAUSE_S`
UNSTATED = Pool("unstated", 1e9, per_s=1e9)  # counts the refusals of a venue that states no limits


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
        "_foreign_ns",
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
        self._foreign = 0.0  # units in use by other programs, as the venue's last statement showed
        self._foreign_ns = 0  # until when a smaller use does not replace it, monotonic
        self._backoff = 1.0
        self._refusals = 0
        self._recovers_ns = 0
        self._has_read = True  # since the last refusal that halved the share, something else than commands has left
        self._next_ns = 0  # a refusal before this is of requests that were under way, monotonic
        self._refused_ns = 0  # when the last refusal came, monotonic
        self._until_ns = 0  # end of the pause after a refusal, monotonic
        self.why = ""  # the venue's words at the last refusal

    def take(self, weight: float, now_ns: int) -> None:
        """Count any other request."""
        self.settle(now_ns)
        self._used.add(weight, now_ns)
        self._draw(weight, -OVERDRAWN_MOST * weight)
        self._has_read = True

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

    def wait_within_s(self, part: float, weight: float, now_ns: int) -> float:
        """Return in how many seconds a request keeps our use within a part of the pool left by others; 0: now."""
        self.settle(now_ns)
        return self._used.falls_to_s(max(0.0, part * self._free() - weight), now_ns)

    def wait_at_start_s(self, weight: float, now_ns: int) -> float:
        """Return in how many seconds the first lists after a start may leave; 0: now.

        While all programs have used little, they need not wait for the requests that come back.
        """
        self.settle(now_ns)
        if self._used.at(now_ns) + self._foreign + weight <= START_PART * self.pool.size:
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
        return (self._used.at(now_ns) + self._foreign) / self.pool.size

    def room(self, now_ns: int) -> float:
        """Return the units that a strike which chooses among many symbols may take."""
        self.settle(now_ns)
        most = min(SYMBOLS_PART * self._free(), SYMBOLS_OF_HALF * (1 - self.pool.kept) * self.pool.size)
        return max(0.0, most - self._used.at(now_ns))

    def on_answer(self) -> None:
        """Note that the venue has answered: what it states of the use is known."""
        self._is_heard = True

    def on_usage(self, used: float, now_ns: int) -> None:
        """Correct the count by the venue's own: other programs use the units that we have not counted.

        The largest use counts for as long as the pool takes to refill: a venue's own window may just have begun.
        """
        self.settle(now_ns)
        self._is_heard = True
        foreign = max(0.0, used - self._used.at(now_ns))
        if foreign >= self._foreign or now_ns >= self._foreign_ns:
            self._foreign = foreign
            self._foreign_ns = now_ns + int(self.pool.size / self.pool.rate * 1e9)
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
        return max(self.pool.size - self._foreign, self.pool.size * LEAST_SHARE)

    def _draw(self, weight: float, least: float) -> None:
        self._reads = min(self._reads, max(self._reads - weight, least))

    def _burst(self) -> float:
        return self.pool.read_burst * self.share

    def _set_share(self) -> None:
        free = int(SHARES * max(0.0, 1 - self._foreign / self.pool.size)) / SHARES
        self.share = max(LEAST_SHARE, min(free, self._backoff))


class Budget:
    """An account's pools, and the units that its requests take of them."""

    __slots__ = (
        "_activities",
        "_costs",
        "_default",
        "_last_refused_ns",
        "_refusing",
        "_strike_is_first",
        "_struck",
        "_struck_before",
        "_table",
        "_unstated",
        "counts",
        "demand",
        "proof_ns",
        "refused_ns",
    )

    def __init__(
        self,
        pools: Sequence[Pool],
        costs: Sequence[Cost],
        demand: Demand,
        make: Callable[[Pool], PoolCount] = PoolCount,
    ) -> None:
        """Count in pools of its own, made by `make`, until `use` assigns others."""
        self._costs = tuple(costs)
        self._unstated = PoolCount(UNSTATED)
        self.refused_ns = 0  # since when it has refused requests and accepted no cancel, monotonic; 0: it has not
        self._last_refused_ns = 0
        self.proof_ns = 0  # from then on a read of a kill may leave, because refusals have ended; 0: none may for that
        self.demand = demand
        self._strike_is_first = True
        self._struck: list[list[tuple[PoolCount, float]]] = []  # the weights of the last strike's commands
        self._struck_before: list[list[tuple[PoolCount, float]]] = []  # the same of the strike before
        self.use({pool.name: make(pool) for pool in pools})

    def use(self, counts: Mapping[str, PoolCount]) -> None:
        """Count in these counts from now on, by the names of the pools."""
        self.counts = dict(counts)
        self._refusing = tuple(counts.values()) or (self._unstated,)  # the counts that refusals are noted in
        self._table = [
            (method, prefix, [(self.counts[name], weight) for name, weight in weights])
            for method, prefix, weights in self._costs
        ]
        self._default = [(count, 1.0) for count in self.counts.values()]
        self._activities: dict[Calls, list[tuple[PoolCount, float]]] = {}

    def charge(self, request: Request, now: Instant, *, command: bool) -> None:
        """Count one copy of a request; `command`: it is a kill's."""
        now_ns, weights = now.mono_ns, self._default
        for method, prefix, matched in self._table:
            if (not method or method == request.method) and request.target.startswith(prefix):
                weights = matched
                break
        if command:  # a kill waits for this, so the rest of the work comes later
            self._struck.append(weights)
            for count, weight in weights:
                count.commands.append((weight, now_ns))
        else:
            for count, weight in weights:
                count.take(weight, now_ns)

    def begin_strike(self, *, is_first: bool) -> None:
        """Note that the commands that follow are another strike's; `is_first`: it is a kill's first."""
        self._struck_before = [] if self._strike_is_first else self._struck
        self._struck, self._strike_is_first = [], is_first

    def struck_weights(self) -> dict[str, float]:
        """Return the units that a strike takes of each pool: those planned, or more if one of the last two took more.

        Copies count. How many leave depends on the orders that outlive strikes, and on how soon the venue answers. A
        kill's first strike does not count: its copies leave early, and no later strike repeats them.
        """
        weights = {count.pool.name: weight for count, weight in self._weights(self.demand.strike)}
        for strike in (self._struck_before, [] if self._strike_is_first else self._struck):
            took: dict[str, float] = {}
            for commands in strike:
                for count, weight in commands:
                    took[count.pool.name] = took.get(count.pool.name, 0.0) + weight
            weights |= {name: max(weight, weights.get(name, 0.0)) for name, weight in took.items()}
        return weights

    def wait_s(self, calls: Calls, now: Instant, *, leaves: Calls = ()) -> float:
        """Return in how many seconds these requests may leave, so that `leaves` could follow at once; 0: now."""
        now_ns, spares = now.mono_ns, dict(self._weights(leaves))
        return max([c.wait_s(w, now_ns, spares.get(c, 0.0)) for c, w in self._weights(calls)], default=0.0)

    def wait_for_cancels_s(self, calls: Calls, now: Instant) -> float:
        """Return in how many seconds these requests leave the part that is kept for cancels; 0: now."""
        return max([count.wait_for_cancels_s(w, now.mono_ns) for count, w in self._weights(calls)], default=0.0)

    def wait_within_s(self, part: float, calls: Calls, now: Instant) -> float:
        """Return in how many seconds these requests keep our use within a part of the pool left by others; 0: now."""
        return max([count.wait_within_s(part, w, now.mono_ns) for count, w in self._weights(calls)], default=0.0)

    def wait_at_start_s(self, calls: Calls, now: Instant) -> float:
        """Return in how many seconds the first lists after a start may leave; 0: now."""
        waits = [count.wait_at_start_s(weight, now.mono_ns) for count, weight in self._weights(calls)]
        return max([self.statement_wait_s(now), *waits])

    def statement_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read should look again whether the venue has stated its use; 0: go on."""
        return max([count.statement_wait_s(now.mono_ns) for count in self.counts.values()], default=0.0)

    def is_rested(self, now: Instant) -> bool:
        """Return whether an optional read of a kill delays no other read."""
        return all(count.is_rested(now.mono_ns) for count in self.counts.values())

    @property
    def share(self) -> float:
        """The smallest share of a pool that other programs leave; 1: all of it."""
        return min([count.share for count in self._refusing])

    def pause_s(self, now: Instant) -> float:
        """Return how long no request but a kill's commands should leave, in seconds; 0: there is no pause."""
        return max([count.pause_s(now.mono_ns) for count in self._refusing])

    def named_pause_s(self, now: Instant) -> float:
        """Return how long a pause lasts that the venue has named: a kill's reads keep to it too; 0: there is none."""
        return max([count.named_pause_s(now.mono_ns) for count in self._refusing])

    def pause_reason(self, now: Instant) -> str:
        """Return why nothing but a kill's commands leaves now, for evidence."""
        count = max(self._refusing, key=lambda count: count.pause_s(now.mono_ns))
        left_s, words = count.pause_s(now.mono_ns), count.why or "it refuses requests"
        return f"no read for {left_s:.1f} s, because the venue asks for a pause: {words}"

    def on_answer(self) -> None:
        """Note that the venue has answered a request."""
        for count in self._refusing:
            count.on_answer()

    def on_usage(self, usage: Iterable[tuple[str, float]], now: Instant) -> None:
        """Correct the counts by the units that the venue states to be in use, by pool."""
        for name, used in usage:
            if name in self.counts:
                self.counts[name].on_usage(used, now.mono_ns)

    def on_refusal(self, asked_s: float, now: Instant, why: str = "") -> None:
        """Note that the venue refuses requests; `asked_s` is the pause that it names, 0: it names none.

        `why` has the venue's words, without secrets. The venue does not say which pool is empty: by assumption the
        pool that is fullest by our count.
        """
        now_ns = now.mono_ns
        if not self.refused_ns or now_ns - self._last_refused_ns > ANOTHER_S * 1e9:
            self.refused_ns = now_ns
        self._last_refused_ns = now_ns
        max(self._refusing, key=lambda count: count.fullness(now_ns)).on_refusal(asked_s, now_ns, why)

    def on_accepted(self, asked_ns: int, now: Instant) -> None:
        """Note that the venue has accepted a cancel made at `asked_ns`, monotonic, after it had refused requests.

        If it had accepted none for `OUTAGE_S`, a read of a kill may leave once the venue has room for it. The account
        may be clear, and a read that waits for its share would show it late.
        """
        if asked_ns <= self._last_refused_ns:
            return  # it was under way
        read, wait_s = dict(self._weights(self.demand.read)), 0.0
        for count in self._refusing:
            weight = read.get(count, 1.0)
            count.on_accepted(weight, asked_ns, now.mono_ns)
            wait_s = max(wait_s, weight / count.pool.rate)
        if asked_ns - self.refused_ns >= OUTAGE_S * 1e9:
            self.proof_ns = now.mono_ns + int(wait_s * 1e9)
        self.refused_ns = 0

    def strike_gap_s(self, now: Instant) -> float:
        """Return the gap between strikes that a refusal has named, while its pause lasts; 0: none.

        If the venue names none, it is the time in which a strike's requests come back.
        """
        now_ns, gap_s = now.mono_ns, 0.0
        for count, weight in self._weights(self.demand.strike):
            if count.pause_s(now_ns):
                gap_s = max(gap_s, count.named_s, weight / count.pool.rate)
        return gap_s

    def strike_wait_s(self, now: Instant) -> float:
        """Return in how many seconds the pools have room for a strike like the last ones; 0: now."""
        waits = (
            count.wait_within_s(STRIKE_PART, weight, now.mono_ns)
            for name, weight in self.struck_weights().items()
            for count in (self.counts[name],)
        )
        return max(waits, default=0.0)

    def _weights(self, calls: Calls) -> list[tuple[PoolCount, float]]:
        known = self._activities.get(calls)
        if known is None:
            pools = [count.pool for count in self.counts.values()]
            weights = weights_of(pools, self._costs, calls)
            known = self._activities[calls] = [(self.counts[name], weight) for name, weight in weights.items()]
        return known
