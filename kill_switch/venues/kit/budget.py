"""Count what an account's requests take of its venue's limits; at least half of each limit is kept for cancels.

`pools` has the venue's limits as data, `pool_count` counts the use of one. `venues.sharing` makes accounts that a venue
counts together share one `PoolCount`. A kill's commands and first reads never wait; everything else asks
`Budget.wait_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.pool_count import PoolCount
from kill_switch.venues.kit.pools import Calls, Cost, Demand, Pool, weights_of
from kill_switch.venues.request import Request

PROOF_PART = 0.7  # of what other programs leave: what a read that may prove an account clear may lift our use to
FIND_PART = 0.8  # the same of the lists that a kill's first strike reads, for symbols that nobody knows
STRIKE_PART = 0.95  # the same of a strike that follows another: a refusal would lead to a ban
OUTAGE_S = 1.0  # refusals for so long, with no cancel accepted, are no chance hits beside other programs
ANOTHER_S = 60.0  # a refusal that comes so long after another one has nothing to do with it
UNSTATED = Pool("unstated", 1e9, per_s=1e9)  # counts the refusals of a venue that states no limits


class Charge(NamedTuple):
    """The units that one copy of a request was charged, at `at_ns`, monotonic."""

    at_ns: int
    weights: Sequence[tuple[PoolCount, float]]
    is_apart: bool = False  # `Cost.is_apart`

    def take_back(self, now: Instant) -> None:
        """Undo it, because provably no byte of the copy has left."""
        for count, weight in self.weights:
            count.take_back(weight, self.at_ns, now.mono_ns)


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
            (method, prefix, [(self.counts[name], weight) for name, weight in weights], is_apart)
            for method, prefix, weights, is_apart in self._costs
        ]
        self._default = [(count, 1.0) for count in self.counts.values()]
        self._activities: dict[Calls, list[tuple[PoolCount, float]]] = {}

    def charge(self, request: Request, now: Instant, *, command: bool) -> Charge:
        """Count one copy of a request; `command`: it is a kill's. Return what undoes it."""
        now_ns, weights, is_apart = now.mono_ns, self._default, False
        for method, prefix, matched, apart in self._table:
            if (not method or method == request.method) and request.target.startswith(prefix):
                weights, is_apart = matched, apart
                break
        if command:  # a kill waits for this, so the rest of the work comes later
            self._struck.append(weights)
            for count, weight in weights:
                count.commands.append((weight, now_ns))
        else:
            for count, weight in weights:
                count.take(weight, now_ns)
        return Charge(now_ns, weights, is_apart)

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

    def wait_within_s(self, part: float, calls: Calls, now: Instant, *, in_half: bool = False) -> float:
        """Return in how many seconds these requests keep our use within a part of the pool left by others; 0: now.

        With `in_half` our use also keeps out of the part that is kept for cancels, of the whole pool.
        """
        weights = self._weights(calls)
        return max([count.wait_within_s(part, w, now.mono_ns, in_half=in_half) for count, w in weights], default=0.0)

    def wait_at_start_s(self, calls: Calls, now: Instant) -> float:
        """Return in how many seconds the first lists after a start may leave; 0: now."""
        waits = [count.wait_at_start_s(weight, now.mono_ns) for count, weight in self._weights(calls)]
        return max([self.statement_wait_s(now), *waits])

    def statement_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read should look again whether the venue has stated its use; 0: go on."""
        return max([count.statement_wait_s(now.mono_ns) for count in self.counts.values()], default=0.0)

    def turn_wait_s(self, now: Instant) -> float:
        """Return in how many seconds no earlier `take_turn` of an account that shares a pool is in the way; 0: now."""
        return max([(count.turn_ns - now.mono_ns) / 1e9 for count in self.counts.values()], default=0.0)

    def take_turn(self, calls: Calls, now: Instant) -> None:
        """Start a turn; the next may start once these requests have come back, as far as other programs leave units."""
        for count, weight in self._weights(calls):
            count.take_turn(weight, now.mono_ns)

    def is_rested(self, now: Instant) -> bool:
        """Return whether an optional read of a kill delays no other read."""
        return all(count.is_rested(now.mono_ns) for count in self.counts.values())

    @property
    def is_stated(self) -> bool:
        """Whether the venue's answers state how much of a pool is in use."""
        return any(count.pool.is_stated for count in self.counts.values())

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
