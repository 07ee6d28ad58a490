"""Decide when an account's requests may leave without taking what kills need of its venue's limits.

An `Adapter` owns one `AccountLimits`; `dispatch` asks it. A kill's commands never wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from kill_switch.core.domain import Instant, SweepTiming
from kill_switch.venues.kit.budget import FIND_PART, PROOF_PART, Budget
from kill_switch.venues.kit.cadence import MAX_GAP_S, Cadence, strike_gaps
from kill_switch.venues.kit.pool_count import PoolCount
from kill_switch.venues.kit.pools import Calls

MAX_GUARD_S = 120.0  # between two reads of the guard, however few requests other programs leave: it is no load


class AccountLimits:
    """An account's budget, and the cadence that is planned by it."""

    def __init__(self, budget: Budget, cadence: Cadence, most_probe_s: float) -> None:
        """Make the limits of an account on its own; a lane bears at most `most_probe_s` seconds between two probes."""
        self.budget = budget
        self.cadence = cadence
        self.strikes_are_free: Callable[[], bool] = lambda: False  # they draw from no limit now
        self._most_probe_s = most_probe_s
        self._planned = budget.struck_weights()
        self._slowed: dict[object, SweepTiming] = {}  # what the last strikes have made of a timing

    def share(self, cadence: Cadence, counts: Mapping[str, PoolCount]) -> None:
        """Keep to this cadence, and count in these counts by the names of the pools; other accounts may share them."""
        self.cadence = cadence
        self.budget.use(counts)

    def read_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read-back may leave without taking requests that cancels need; 0: now."""
        return max(self.budget.wait_s(self.budget.demand.read, now), self.budget.statement_wait_s(now))

    def first_read_wait_s(self, now: Instant) -> float:
        """Return in how many seconds one of a kill's first reads may leave; it only yields to the next cancels.

        Where the venue states the use, it leaves room for the smallest strike: both together do not pass the half.
        """
        budget = self.budget
        calls = budget.demand.read + (budget.demand.strike if budget.is_stated else ())
        return max(budget.wait_for_cancels_s(calls, now), budget.statement_wait_s(now))

    def unread_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read may leave that is the first to show the orders that strikes have left.

        It may take a larger part than a first read: without it, strikes go on and take as much.
        """
        budget = self.budget
        if not budget.is_stated:
            return self.first_read_wait_s(now)
        calls = budget.demand.read + budget.demand.strike
        wait_s = budget.wait_within_s(PROOF_PART, calls, now, in_half=True)
        return max(wait_s, budget.statement_wait_s(now))

    def proving_read_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read may leave that may prove the account clear; cancels keep a smaller part."""
        wait_s = self.budget.wait_within_s(PROOF_PART, self.budget.demand.read, now)
        return max(wait_s, self.budget.statement_wait_s(now))

    def finding_read_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read may leave of an account whose cancels cannot be built without it."""
        wait_s = self.budget.wait_within_s(FIND_PART, self.budget.demand.read, now)
        return max(wait_s, self.budget.statement_wait_s(now), self.budget.pause_s(now))

    def turn_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read may leave that has waited too long, whatever it takes of the cancels' part.

        Accounts that share a limit take turns. A pause that the venue asks for is kept. Where the venue states the use,
        it waits until the whole read fits: one whose last list is refused takes as much, and proves nothing.
        """
        budget = self.budget
        room_in_s = budget.wait_within_s(1.0, budget.demand.read, now) if budget.is_stated else 0.0
        return max(budget.pause_s(now), budget.turn_wait_s(now), room_in_s)

    def take_turn(self, now: Instant) -> None:
        """Note that such a read leaves."""
        self.budget.take_turn(self.budget.demand.read, now)

    def may_find(self, now: Instant) -> bool:
        """Return whether a kill's first strike may read the lists, and leave the cancels their part."""
        return not self.budget.wait_within_s(FIND_PART, self.budget.demand.read, now)

    def proof_wait_s(self, now: Instant) -> float:
        """Return in how many seconds the read may leave that follows the first accepted command after refusals."""
        return max((self.budget.proof_ns - now.mono_ns) / 1e9, self.first_read_wait_s(now))

    def look_out_wait_s(self, now: Instant) -> float:
        """Return in how many seconds a read may leave that can find orders and completes no proof.

        An account that is alone with its limits needs no share of the reads for it. It keeps room for two more reads in
        the half that cancels leave. Accounts that share a limit keep to the share.
        """
        if any(count > 1 for count in self.cadence.sharers.values()):
            return self.read_wait_s(now)
        return max(self.budget.pause_s(now), self.budget.wait_for_cancels_s(self.budget.demand.read * 3, now))

    def has_room(self, calls: Calls, now: Instant, *, spares_read: bool = True) -> bool:
        """Return whether requests that can be omitted may leave now; with `spares_read` a read-back could follow."""
        return not self.budget.wait_s(calls, now, leaves=self.budget.demand.read if spares_read else ())

    def has_room_for_drill(self, now: Instant) -> bool:
        """Return whether a drill leaves the cancels their part, and no pause after a refusal is under way."""
        return not self.budget.pause_s(now) and not self.budget.wait_for_cancels_s(self.budget.demand.drill, now)

    def token_wait_s(self, now: Instant) -> float:
        """Return in how many seconds the token of a login may be requested; it only yields to the next cancels."""
        budget = self.budget
        return max(budget.pause_s(now), budget.wait_for_cancels_s(budget.demand.token, now))

    def probe_bounds_s(self) -> tuple[float, float]:
        """Return the seconds between two probes: as many as the limits want, and the most that a lane bears."""
        return min(self.cadence.probe_every_s / self.budget.share, self._most_probe_s), self._most_probe_s

    @property
    def equity_every_s(self) -> float:
        """Seconds between two `request_equity`, while a trigger needs the account's equity."""
        return self.cadence.equity_every_s / self.budget.share

    def paced(self, timing: SweepTiming, now: Instant) -> SweepTiming:
        """Return `timing` as slow as other programs, a refusal and the last strikes make it.

        It is the same object if nothing has made it slower.
        """
        budget, timing = self.budget, self._after_strikes(timing)
        share, pause_s = budget.share, budget.pause_s(now)
        if share == 1 and not pause_s:
            return timing
        named_s = 0.0 if self.strikes_are_free() else min(budget.strike_gap_s(now), MAX_GAP_S)
        gap_s = max(timing.strike_gap_s, named_s, min(budget.strike_wait_s(now), MAX_GAP_S))
        guard_s = max(timing.guard_every_s, min(timing.guard_every_s / share, MAX_GUARD_S))
        cap_s = max(timing.gap_cap_s, min(timing.gap_cap_s / share, MAX_GAP_S))
        return replace(
            timing,
            guard_every_s=max(guard_s, pause_s),
            strike_gap_s=gap_s,
            gap_cap_s=max(cap_s, gap_s),
        )

    def _after_strikes(self, timing: SweepTiming) -> SweepTiming:
        """Return `timing` with gaps for strikes that take as much of the limits as the last ones did."""
        weights = self.budget.struck_weights()
        if weights == self._planned:
            return timing
        key = (timing, tuple(weights.items()))
        if key not in self._slowed:
            pools = [count.pool for count in self.budget.counts.values()]
            gap_s, cap_s = strike_gaps(timing, pools, weights, self.cadence.sharers)
            self._slowed = {key: replace(timing, strike_gap_s=gap_s, gap_cap_s=cap_s)}
        return self._slowed[key]
