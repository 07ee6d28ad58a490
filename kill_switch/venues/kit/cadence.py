"""Plan how often an account is guarded, probed, measured and struck, so that it keeps to its venue's limits.

`VenueProfile.plan` calls it, and `Adapter.paced` follows the share that other programs leave. It counts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from kill_switch.core.domain import SweepTiming
from kill_switch.venues.kit.pools import Cost, Demand, Pool, weights_of

GUARD_FIRST_S = 10.0  # the guard's interval grows to this before probes and equity become rarer
GUARD_NEXT_S = 30.0  # and to this together with the equity's, which then becomes rarer alone
EQUITY_MOST_S = 60.0  # up to this; only then does the guard's interval grow further
STRIKES_PART = 0.7  # of a pool: what a kill's repeated strikes may use at first, while reads make room for them
LATE_PART = 0.5  # of what comes back of them: what strikes use in RESIDUE for long, so that reads go on beside them
GAP_STEP = 1.25  # a gap that does not fit is made longer by this
MAX_GAP_S = 30.0  # between two strikes, for any number of accounts


class Cadence(NamedTuple):
    """How often an account is struck and read (`timing`), probed and measured (seconds)."""

    timing: SweepTiming
    probe_every_s: float
    equity_every_s: float
    sharers: Mapping[str, int] = MappingProxyType({})  # accounts that share each pool, by its name; default: one


def plan(
    bound: Cadence,
    idle_s: float,
    pools: Iterable[Pool],
    costs: Iterable[Cost],
    demand: Demand,
    sharers: Mapping[str, int],
    *,
    others_idle_s: float = math.inf,
) -> Cadence:
    """Return the cadence of an account if `sharers` accounts, itself included, share each pool, by its name.

    `bound` is the closest cadence that is wanted. A probe is never rarer than `idle_s`, because an unused connection is
    closed by then. Where the guard's reads include what a probe requests, they do a probe's work. Then a probe or a
    measurement leaves every `others_idle_s` only, for the connections that the reads do not use.

    First the guard becomes rarer, up to `GUARD_FIRST_S`, then the probes. Then guard and equity do, up to
    `GUARD_NEXT_S`, then equity up to `EQUITY_MOST_S`, and at last the guard alone, as far as it must.
    """
    pools, costs = tuple(pools), tuple(costs)
    kept_warm_s = others_idle_s if demand.read_probes else None
    read, probe, equity = (weights_of(pools, costs, calls) for calls in (demand.read, demand.probe, demand.equity))
    guard_s, probe_s, equity_s = bound.timing.guard_every_s, bound.probe_every_s, bound.equity_every_s
    for pool in pools:
        name, together = pool.name, sharers.get(pool.name, 1)
        each = _paces(
            pool.read_rate / together,
            (read.get(name, 0.0), probe.get(name, 0.0), equity.get(name, 0.0)),
            bound,
            idle_s,
            kept_warm_s,
        )
        guard_s, probe_s, equity_s = max(guard_s, each[0]), max(probe_s, each[1]), max(equity_s, each[2])
    gap_s, cap_s = strike_gaps(bound.timing, pools, weights_of(pools, costs, demand.strike), sharers)
    timing = replace(bound.timing, guard_every_s=guard_s, strike_gap_s=gap_s, gap_cap_s=cap_s)
    return Cadence(bound.timing if timing == bound.timing else timing, probe_s, equity_s, sharers)


def strike_gaps(
    timing: SweepTiming, pools: Iterable[Pool], strike: Mapping[str, float], sharers: Mapping[str, int]
) -> tuple[float, float]:
    """Return the gap between strikes that take these units of each pool, and its cap in RESIDUE, in seconds."""
    gap_s, cap_s = timing.strike_gap_s, timing.gap_cap_s
    for pool in pools:
        if weight := strike.get(pool.name, 0.0):
            early_s, late_s = _gaps(pool, weight * sharers.get(pool.name, 1), timing)
            gap_s = max(gap_s, early_s)
            cap_s = max(cap_s, gap_s, late_s)
    return gap_s, cap_s


def _paces(
    rate: float, weights: tuple[float, float, float], bound: Cadence, idle_s: float, kept_warm_s: float | None
) -> tuple[float, float, float]:
    """Return the intervals of guard reads, probes and measurements that use no more than `rate` units a second."""
    read, probe, equity = weights
    if kept_warm_s is not None and read and probe:
        return _paces_of_reads_that_probe(rate, (read, probe, equity), bound, idle_s, kept_warm_s)
    guard_s, probe_s, equity_s = bound.timing.guard_every_s, bound.probe_every_s, bound.equity_every_s
    if read:
        left = rate - probe / probe_s - equity / equity_s
        wanted_s = read / left if left > 0 else GUARD_FIRST_S
        guard_s = max(guard_s, min(GUARD_FIRST_S, wanted_s))
    if probe:
        left = rate - read / guard_s - equity / equity_s
        wanted_s = probe / left if left > 0 else idle_s
        probe_s = max(probe_s, min(idle_s, wanted_s))
    use = read / guard_s + equity / equity_s
    left = max(rate - probe / probe_s, rate / 2)
    if use > left:
        guard_s, equity_s = _share_rest(left, read, equity, guard_s * use / left, equity_s * use / left)
    return guard_s, probe_s, equity_s


def _paces_of_reads_that_probe(
    rate: float, weights: tuple[float, float, float], bound: Cadence, idle_s: float, kept_warm_s: float
) -> tuple[float, float, float]:
    """Return the same where a guard has no probes beside it, but for connections that neither it nor equity uses."""
    read, probe, equity = weights
    guard_s, equity_s = bound.timing.guard_every_s, bound.equity_every_s
    in_guard = max(0.0, probe / kept_warm_s - probe / equity_s if equity else probe / kept_warm_s)
    left = max(rate - in_guard, rate / 2)
    spare = left - equity / equity_s
    guard_s = max(guard_s, min(GUARD_FIRST_S, read / spare if spare > 0 else GUARD_FIRST_S))
    use = read / guard_s + equity / equity_s
    if use > left:
        guard_s, equity_s = _share_rest(left, read, equity, guard_s * use / left, equity_s * use / left)
    spare = rate - equity / equity_s
    probe_s = max(bound.probe_every_s, min(idle_s, probe / spare if spare > 0 else idle_s))
    return guard_s, probe_s, equity_s


def _share_rest(left: float, read: float, equity: float, guard_s: float, equity_s: float) -> tuple[float, float]:
    """Return the intervals of guard and equity that use `left` units a second, from a longer guard than need be."""
    if not read or not equity or guard_s <= GUARD_NEXT_S or equity_s >= EQUITY_MOST_S:
        return guard_s, equity_s
    for_equity = max(left - read / GUARD_NEXT_S, equity / EQUITY_MOST_S)
    if for_equity >= left:
        return guard_s, equity_s
    return read / (left - for_equity), equity / for_equity


def _gaps(pool: Pool, weight: float, timing: SweepTiming) -> tuple[float, float]:
    """Return the strikes' gap, and its cap in RESIDUE, if all accounts' strikes take `weight` units each time."""
    cap_s = max(timing.gap_cap_s, min(weight / (LATE_PART * pool.kept * pool.rate), MAX_GAP_S))
    gap_s = timing.strike_gap_s
    if 0 < pool.window_s <= timing.residue_after_s:
        return max(gap_s, min(weight * pool.window_s / (pool.kept * pool.size), MAX_GAP_S)), cap_s
    while gap_s < cap_s and not _fits(pool, weight, timing, gap_s, cap_s):
        gap_s = min(gap_s * GAP_STEP, cap_s)
    return gap_s, cap_s


def _fits(pool: Pool, weight: float, timing: SweepTiming, gap_s: float, cap_s: float) -> bool:
    """Return whether strikes with these gaps fit into the pool beside first reads, until the gap is at its cap."""
    at_s, used, ends_s = 0.0, 0.0, pool.window_s or 4 * cap_s
    while at_s <= ends_s:
        used += weight
        back = 0.0 if pool.window_s else pool.kept * pool.rate * at_s
        if used > STRIKES_PART * pool.size + back:
            return False
        at_s += gap_s if at_s < timing.residue_after_s else min(cap_s, max(gap_s, at_s / 4))
    return True
