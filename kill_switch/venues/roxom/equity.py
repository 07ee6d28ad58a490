"""Compute a Roxom account's equity in BTC: its balances, and the open profit or loss of its positions.

`RoxomEquityReader` passes the reads and the events to an `EquityTracker`. This module sends nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.balances import BalanceChecker
from kill_switch.venues.messages import Equity, Transferred, UnexplainedMessage
from kill_switch.venues.roxom.equity_replies import (
    SATS,
    BalanceStep,
    Position,
    Positions,
    btc_of,
    id_of,
    is_transfer,
    read_balances,
    read_position,
    read_step,
    read_transfer,
)

QUIET_S = 0.25  # after a set of reads: until then the events of its changes arrive
PAIR_S = 0.1  # the longest time between the balance event and the position event of a fill (inferred)
OLD_S = 15.0  # a profit that no event has updated for so long is reported as old
MAX_WAITS = 5  # for the second event of a fill, in a set of reads
STEPS_KEPT = 512  # balance events that are kept to find the moment of a read
MOVES_KEPT = 64  # transfers that are kept: while connections overlap, each event comes twice
QUIET_NS, PAIR_NS = round(QUIET_S * 1e9), round(PAIR_S * 1e9)


@dataclass(slots=True)
class EquityRead:
    """A set of reads: the balances, and the positions of some symbols."""

    began_ns: int
    missing: set[str]
    every: bool  # all symbols are read: a position that is absent does not exist
    tries: int  # reads that may still follow this one
    amounts: Mapping[str, Decimal] = field(default_factory=dict)  # the balances, by asset
    positions: dict[str, Positions] = field(default_factory=dict)  # by symbol
    waits: int = 0

    @property
    def cash(self) -> Decimal:
        """The balance in BTC."""
        return self.amounts["BTC"]


class EquityLevel(NamedTuple):
    """A period in which the balance did not change."""

    began_ns: int
    ended_ns: int
    at_ns: int  # the moment in it that is furthest from the fills around it
    bounded: bool = True  # balance events bound it; False: no balance event has come

    @property
    def short(self) -> bool:
        """Whether a position event may belong to another level, because it came too close to a balance event."""
        return self.bounded and max(self.at_ns - self.began_ns, self.ended_ns - self.at_ns) < PAIR_NS


class EquityTracker:
    """Follow an account's positions and balance by their events, and combine reads with them.

    The venue has no call for the sum. A read returns the balances. Only the older generation of the API returns the
    profit in a read; in the newer one only position events have it. A fill moves money from the profit to the balance.
    So a balance from before a fill and a profit from after it do not add up. An account that trades never stops
    moving. Therefore the tracker finds the balance that was read among the balances of the events, and takes the
    profit of the positions at that time.

    If no event explains the balance, the reader reads it again. After the last try the balance counts, and the
    largest possible error is reported: the sum that the balance events of that time have moved. The error of a level
    that lasted only a short time is reported too.
    """

    def __init__(self) -> None:
        self.known = False  # `_positions` has every open position
        self._positions: Positions = {}
        self._past: deque[tuple[int, Positions]] = deque(maxlen=STEPS_KEPT)  # the positions, and since when
        self._moved_ns = 0
        self._steps: dict[tuple[object, ...], BalanceStep] = {}
        self._transfers: dict[tuple[str, ...], None] = {}
        self._transferred_ns = 0
        self._balances = BalanceChecker()
        self._cash: Decimal | None = None  # the last balance that was read, until an event changes it
        self._reported = ""  # the last fault of the figures that was reported
        self._reported_bound = Decimal(0)  # the largest error that was reported, in BTC

    def on_gap(self) -> None:
        """Drop the positions and the balance events, because events may have been missed."""
        self.known = False
        self._cash = None
        self._positions.clear()
        self._past.clear()
        self._steps.clear()

    @property
    def symbols(self) -> set[str]:
        """The symbols of the open positions."""
        return {position.symbol for position in self._positions.values() if position.size}

    # events

    def on_position_event(self, data: object, now: Instant) -> bool:
        """Apply a position event; return whether it could be read."""
        items = data if isinstance(data, list) else [data]
        readable = True
        for item in items:
            parsed = read_position(item, now.mono_ns, unit="btc")
            if parsed is None or parsed[1].pnl is None:
                readable = False
                self._moved_ns = now.mono_ns  # an unreadable event may be a fill
            if parsed is None:
                self._mark_unknown(item)
                continue
            position_id, position = parsed
            before = self._positions.get(position_id)
            if before is None or before.size != position.size:
                self._moved_ns = now.mono_ns
            self._positions[position_id] = position
        self._past.append((now.mono_ns, dict(self._positions)))
        return readable

    def _mark_unknown(self, item: object) -> None:
        """Mark a position's profit as unknown, because an event of the position cannot be read."""
        position_id = id_of(item)
        if position_id in self._positions:
            self._positions[position_id] = replace(self._positions[position_id], pnl=None)
        else:
            self.known = False

    def on_balance_event(self, data: object, now: Instant) -> tuple[Transferred | UnexplainedMessage, ...]:
        """Apply a balance event; return a deposit or a withdrawal, once."""
        fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
        step = read_step(fields, now.mono_ns)
        key = (*step[1:], as_text(fields.get("updateType")), as_text(fields.get("amount")))
        if step.stamp and key in self._steps:
            return ()  # the other connection has delivered it already
        self._moved_ns = now.mono_ns
        self._cash = None
        self._steps[key if step.stamp else (now.mono_ns, *key)] = step
        if len(self._steps) > STEPS_KEPT:
            del self._steps[next(iter(self._steps))]
        return self._transferred(fields, step, now)

    def _transferred(
        self, fields: Mapping[str, Any], step: BalanceStep, now: Instant
    ) -> tuple[Transferred | UnexplainedMessage, ...]:
        kind = as_text(fields.get("updateType", "")).lower()
        if not is_transfer(kind):
            return ()
        key = (kind, *(as_text(fields.get(name, "")) for name in ("timestamp", "balanceAfter", "amount")))
        if key in self._transfers:
            return ()
        self._transfers[key] = None
        if len(self._transfers) > MOVES_KEPT:
            del self._transfers[next(iter(self._transfers))]
        moved = read_transfer(kind, btc_of(fields.get("amount"), fields.get("unit")), step.moved)
        if moved is None:
            return (UnexplainedMessage(f"a {kind} that cannot be read: it looks like profit or loss"),)
        self._transferred_ns = now.mono_ns
        return (Transferred("BTC", moved),) if moved else ()

    # reads

    def add_balances(self, data: object, reads: EquityRead) -> str:
        """Add the balances to a set of reads; return why they cannot be used, or ""."""
        amounts = read_balances(data)
        if isinstance(amounts, str):
            return amounts
        reads.amounts = amounts
        return self._balances.why_incomplete(_without_btc(amounts))

    def wait_s(self, reads: EquityRead, now: Instant) -> float:
        """Return how many seconds to wait for the second event of a fill, after its first one; 0: do not wait."""
        silent_ns = now.mono_ns - self._moved_ns
        if silent_ns >= PAIR_NS or reads.waits >= MAX_WAITS:
            return 0.0
        reads.waits += 1
        return (PAIR_NS - silent_ns) / 1e9

    def is_level_known(self, reads: EquityRead, now: Instant) -> bool:
        """Return whether it is known which fills the balance includes."""
        return self._find_level(reads, now) is not None

    def settle(self, reads: EquityRead, now: Instant) -> tuple[Equity | UnexplainedMessage, ...]:
        """Combine a set of reads; return the equity, and each doubt about it once."""
        level = self._find_level(reads, now)
        then = self._combine(reads, None if level is None else level.at_ns)
        self._positions = self._combine(reads, None)
        missed = self._cash is not None and self._cash != reads.cash  # the balance has changed without an event
        self.known = reads.every or (self.known and not missed)
        self._cash = reads.cash if level is not None and not level.bounded else None
        self._past.append((now.mono_ns, dict(self._positions)))
        without_pnl = sorted(position.symbol for position in then.values() if position.pnl is None)
        if without_pnl:
            why = f"the venue has not shown the profit of a position in {without_pnl[0]}"
            return self._report_once(f"the account cannot be measured: {why}")
        asked_ns = reads.began_ns
        if level is not None and level.began_ns > asked_ns:
            asked_ns = level.at_ns
        asked_ns = min([asked_ns, *(position.at_ns for position in then.values())])
        if self._splits_transfer(reads, level, asked_ns):
            return ()
        self._balances.remember(_without_btc(reads.amounts))
        open_pnl = sum((position.pnl for position in then.values() if position.pnl is not None), Decimal(0))
        amounts = {asset: held for asset, held in reads.amounts.items() if held} | {"BTC": reads.cash + open_pnl}
        if reads.began_ns - asked_ns > OLD_S * 1e9:
            oldest = min(then.values(), key=lambda position: position.at_ns)
            return (
                *self._report_once(f"no figure is newer than the last event of {oldest.symbol}"),
                Equity(amounts, asked_ns),
            )
        return (*self._report_error(reads, level), Equity(amounts, asked_ns))

    def _find_level(self, reads: EquityRead, now: Instant) -> EquityLevel | None:
        """Find when the balance was equal to the balance that was read, near the time of the read; None: unknown."""
        steps = self._steps_near(reads)
        since_ns = reads.began_ns - 2 * QUIET_NS
        if not steps:
            return EquityLevel(since_ns, now.mono_ns, now.mono_ns, bounded=False)
        if all(step.stamp for step in steps):
            steps.sort(key=lambda step: step.stamp)  # events may arrive in another order
        since_ns = max([since_ns, *(step.at_ns for step in self._steps.values() if step.at_ns < steps[0].at_ns)])
        last = EquityLevel(steps[-1].at_ns, now.mono_ns, now.mono_ns)
        levels = [(_between(since_ns, steps[0].at_ns), steps[0].before), (last, steps[-1].after)]
        for balance_step, other in pairwise(steps):
            levels += [
                (_between(balance_step.at_ns, other.at_ns), value) for value in {balance_step.after, other.before}
            ]
        equity_levels = [level for level, value in levels if value is not None and abs(value - reads.cash) < 1 / SATS]
        return max(equity_levels, key=lambda level: level.ended_ns - level.began_ns, default=None)

    def _steps_near(self, reads: EquityRead) -> list[BalanceStep]:
        """Return the balance events that the balance may or may not include."""
        return [step for step in self._steps.values() if step.at_ns > reads.began_ns - QUIET_NS]

    def _positions_at(self, at_ns: int) -> Positions:
        """Return the positions of a moment by their events."""
        return next((held for since_ns, held in reversed(self._past) if since_ns <= at_ns), {})

    def _combine(self, reads: EquityRead, at_ns: int | None) -> Positions:
        """Return the positions at `at_ns`, or now (None): by the reads, except where an event has come since."""
        then, since_ns = self._positions, reads.began_ns
        if at_ns is not None:
            then, since_ns = self._positions_at(at_ns), min(since_ns, at_ns)
        kept: Positions = {}
        moving = {
            position_id
            for position_id, held in self._positions.items()
            if held.listed is None and held.at_ns >= since_ns
        }
        for position_id, position in self._positions.items():
            before = then.get(position_id)
            if position_id not in moving:
                if not reads.every and position.symbol not in reads.positions:
                    kept[position_id] = position
            elif before is not None:
                kept[position_id] = before
            elif not self.known:  # the position may have been open then
                kept[position_id] = replace(position, pnl=None)
        for listed in reads.positions.values():
            kept |= {
                position_id: _with_last_profit(item, self._positions.get(position_id))
                for position_id, item in listed.items()
                if position_id not in moving
            }
        return {position_id: position for position_id, position in kept.items() if position.size}

    def _splits_transfer(self, reads: EquityRead, level: EquityLevel | None, asked_ns: int) -> bool:
        """Return whether a transfer may be in the newer part of the figure, and not in the older part."""
        if level is None:
            return self._transferred_ns > reads.began_ns - QUIET_NS
        return asked_ns < self._transferred_ns <= level.began_ns

    def _report_error(self, reads: EquityRead, level: EquityLevel | None) -> tuple[UnexplainedMessage, ...]:
        """Report how far a figure may be wrong, once, and again if the error more than doubles."""
        if level is not None and not level.short:
            self._reported, self._reported_bound = "", Decimal(0)
            return ()
        steps = self._steps_near(reads)
        if level is not None:
            steps = [step for step in steps if abs(step.at_ns - level.at_ns) < PAIR_NS]
        moved = [step.moved for step in steps]
        bound = sum((abs(amount) for amount in moved if amount is not None), Decimal(0))
        if not bound and None not in moved:
            return ()
        amount_text = "an unknown amount" if None in moved else f"up to {bound:f} BTC"
        if bound > 2 * self._reported_bound:
            self._reported, self._reported_bound = "", bound
        return self._report_once("the account never stands still: its equity may be wrong by", amount_text)

    def _report_once(self, why: str, suffix: str = "") -> tuple[UnexplainedMessage, ...]:
        """Report a fault, unless it was reported last."""
        previous, self._reported = self._reported, why
        return () if previous == why else (UnexplainedMessage(f"{why} {suffix}".rstrip()),)


def _without_btc(amounts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return the amounts of the other assets; BTC is always listed."""
    return {asset: held for asset, held in amounts.items() if asset != "BTC"}


def _between(began_ns: int, ended_ns: int) -> EquityLevel:
    return EquityLevel(began_ns, ended_ns, (began_ns + ended_ns) // 2)


def _with_last_profit(position: Position, known: Position | None) -> Position:
    """Return a position of a read, with the last event's profit if the read has none (newer generation, § 4.4).

    If its size, in the read's unit, differs from the last read's, an event was missed: then the profit is unknown.
    """
    if position.pnl is not None or known is None:
        return position
    if known.listed not in (None, position.size):
        return position
    return replace(known, listed=position.size)
