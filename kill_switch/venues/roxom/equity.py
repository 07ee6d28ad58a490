"""Work out what a Roxom account is worth: its balances, and the open profit or loss of its positions in BTC.

The venue has no call for the sum. A read gives the balances. A read gives the profit in the older generation of the
documents; in the newer one, position events alone do. A fill moves money from the profit to the balance, so a sum of a
balance from before a fill and a profit from behind it is wrong by what the fill has realised. An account that trades
never stands still. So the balance that was read is found among those that the balance events tell of, and the profit is
that of the positions as they were while the balance was that.

Where the balance is none that an event tells of, it is read again; in the end it counts, and the possible error is
told: what the balance events of that time have moved. The error of a level that stood for a short time is told too.
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
from kill_switch.venues.roxom.replies import (
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

QUIET_S = 0.25  # behind a set of reads: events of what it shows come soon
PAIR_S = 0.1  # the balance event and the position event of one fill are no further apart (inferred)
OLD_S = 15.0  # a profit that no event has told anew for that long is said to be old
MAX_WAITS = 5  # for the second of them, of one set of reads
STEPS_KEPT = 512  # balance events that are remembered to find the moment of a read
MOVES_KEPT = 64  # transfers that are remembered: while connections overlap, each comes twice
QUIET_NS, PAIR_NS = round(QUIET_S * 1e9), round(PAIR_S * 1e9)


@dataclass(slots=True)
class EquityRead:
    """One set of reads: the balances, and the positions of some symbols."""

    began_ns: int
    missing: set[str]
    every: bool  # all symbols: what is not in here is not there
    tries: int  # that are left
    amounts: Mapping[str, Decimal] = field(default_factory=dict)  # the balances, by asset
    found: dict[str, Positions] = field(default_factory=dict)  # by symbol
    waits: int = 0

    @property
    def cash(self) -> Decimal:
        """Return the balance in BTC."""
        return self.amounts["BTC"]


class EquityLevel(NamedTuple):
    """A time in which the balance was the same."""

    began_ns: int
    ended_ns: int
    at_ns: int  # the moment in it that is the furthest from the fills around it
    bounded: bool = True  # balance events bound it; else nothing has moved

    @property
    def short(self) -> bool:
        """Say whether a position event may belong to another level: it came too near to a balance event."""
        return self.bounded and max(self.at_ns - self.began_ns, self.ended_ns - self.at_ns) < PAIR_NS


class EquityTracker:
    """Follow one account's positions and balance by their events, and put reads together with them."""

    def __init__(self) -> None:
        self.known = False  # every position that is open is in here
        self._positions: Positions = {}
        self._past: deque[tuple[int, Positions]] = deque(maxlen=STEPS_KEPT)  # since when the positions were these
        self._moved_ns = 0
        self._steps: dict[tuple[object, ...], BalanceStep] = {}
        self._transfers: dict[tuple[str, ...], None] = {}
        self._transferred_ns = 0
        self._balances = BalanceChecker()
        self._cash: Decimal | None = None  # the last that was read, as long as no event moves it
        self._told = ""  # what was said of the figures
        self._bound = Decimal(0)  # the error that was said

    def lost(self) -> None:
        """Take note that events may have been missed."""
        self.known = False
        self._cash = None
        self._positions.clear()
        self._past.clear()
        self._steps.clear()

    @property
    def symbols(self) -> set[str]:
        return {position.symbol for position in self._positions.values() if position.size}

    # events

    def positions_pushed(self, data: object, now: Instant) -> bool:
        """Take a position event; return whether it could be read."""
        items = data if isinstance(data, list) else [data]
        readable = True
        for item in items:
            parsed = read_position(item, now.mono_ns, unit="btc")
            if parsed is None or parsed[1].pnl is None:
                readable = False
                self._moved_ns = now.mono_ns  # whatever it was
            if parsed is None:
                self._unread(item)
                continue
            position_id, position = parsed
            before = self._positions.get(position_id)
            if before is None or before.size != position.size:
                self._moved_ns = now.mono_ns
            self._positions[position_id] = position
        self._past.append((now.mono_ns, dict(self._positions)))
        return readable

    def _unread(self, item: object) -> None:
        """Take what is known of a position for unknown: an event of it cannot be read."""
        position_id = id_of(item)
        if position_id in self._positions:
            self._positions[position_id] = replace(self._positions[position_id], pnl=None)
        else:
            self.known = False

    def balance_pushed(self, data: object, now: Instant) -> tuple[Transferred | UnexplainedMessage, ...]:
        """Take a balance event; return a deposit or a withdrawal, once."""
        fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
        step = read_step(fields, now.mono_ns)
        key = (*step[1:], as_text(fields.get("updateType")), as_text(fields.get("amount")))
        if step.stamp and key in self._steps:
            return ()  # the other connection's
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

    def balances_read(self, data: object, reads: EquityRead) -> str:
        """Take the balances into a set of reads; return why they are no figure, "" if they are one."""
        amounts = read_balances(data)
        if isinstance(amounts, str):
            return amounts
        reads.amounts = amounts
        return self._balances.why_incomplete(_besides(amounts))

    def wait_s(self, reads: EquityRead, now: Instant) -> float:
        """Return how long to wait for the second event of a fill of which the first has just come; 0: not at all."""
        silent_ns = now.mono_ns - self._moved_ns
        if silent_ns >= PAIR_NS or reads.waits >= MAX_WAITS:
            return 0.0
        reads.waits += 1
        return (PAIR_NS - silent_ns) / 1e9

    def is_placed(self, reads: EquityRead, now: Instant) -> bool:
        """Say whether it is known which fills the balance has in it."""
        return self._level(reads, now) is not None

    def settle(self, reads: EquityRead, now: Instant) -> tuple[Equity | UnexplainedMessage, ...]:
        """Put a set of reads together; return the figure, and what speaks against it, each once."""
        level = self._level(reads, now)
        then = self._together(reads, None if level is None else level.at_ns)
        self._positions = self._together(reads, None)
        missed = self._cash is not None and self._cash != reads.cash  # it has moved, and no event has told of it
        self.known = reads.every or (self.known and not missed)
        self._cash = reads.cash if level is not None and not level.bounded else None
        self._past.append((now.mono_ns, dict(self._positions)))
        untold = sorted(position.symbol for position in then.values() if position.pnl is None)
        if untold:
            return self._say(f"the account cannot be measured: no profit is told of a position in {untold[0]}")
        asked_ns = reads.began_ns
        if level is not None and level.began_ns > asked_ns:
            asked_ns = level.at_ns
        asked_ns = min([asked_ns, *(position.at_ns for position in then.values())])
        if self._splits_transfer(reads, level, asked_ns):
            return ()
        self._balances.remember(_besides(reads.amounts))
        open_pnl = sum((position.pnl for position in then.values() if position.pnl is not None), Decimal(0))
        amounts = {asset: held for asset, held in reads.amounts.items() if held} | {"BTC": reads.cash + open_pnl}
        if reads.began_ns - asked_ns > OLD_S * 1e9:
            oldest = min(then.values(), key=lambda position: position.at_ns)
            return (*self._say(f"no figure is newer than the last event of {oldest.symbol}"), Equity(amounts, asked_ns))
        return (*self._doubt(reads, level), Equity(amounts, asked_ns))

    def _level(self, reads: EquityRead, now: Instant) -> EquityLevel | None:
        """Find when the balance was the one that was read, around the time of the read; None: that is unknown."""
        steps = self._around(reads)
        since_ns = reads.began_ns - 2 * QUIET_NS
        if not steps:
            return EquityLevel(since_ns, now.mono_ns, now.mono_ns, bounded=False)
        if all(step.stamp for step in steps):
            steps.sort(key=lambda step: step.stamp)  # they may have come in another order
        since_ns = max([since_ns, *(step.at_ns for step in self._steps.values() if step.at_ns < steps[0].at_ns)])
        last = EquityLevel(steps[-1].at_ns, now.mono_ns, now.mono_ns)
        levels = [(_between(since_ns, steps[0].at_ns), steps[0].before), (last, steps[-1].after)]
        for balance_step, other in pairwise(steps):
            levels += [
                (_between(balance_step.at_ns, other.at_ns), value) for value in {balance_step.after, other.before}
            ]
        equity_levels = [level for level, value in levels if value is not None and abs(value - reads.cash) < 1 / SATS]
        return max(equity_levels, key=lambda level: level.ended_ns - level.began_ns, default=None)

    def _around(self, reads: EquityRead) -> list[BalanceStep]:
        """Return the balance events that the balance may, or may not, have in it."""
        return [step for step in self._steps.values() if step.at_ns > reads.began_ns - QUIET_NS]

    def _at(self, at_ns: int) -> Positions:
        """Return the positions of a moment, as the events have told them."""
        return next((held for since_ns, held in reversed(self._past) if since_ns <= at_ns), {})

    def _together(self, reads: EquityRead, at_ns: int | None) -> Positions:
        """Return the positions of a moment, None: of now: as they were read, but where an event has come since."""
        then, since_ns = self._positions, reads.began_ns
        if at_ns is not None:
            then, since_ns = self._at(at_ns), min(since_ns, at_ns)
        kept: Positions = {}
        moving = {
            position_id
            for position_id, held in self._positions.items()
            if held.listed is None and held.at_ns >= since_ns
        }
        for position_id, position in self._positions.items():
            before = then.get(position_id)
            if position_id not in moving:
                if not reads.every and position.symbol not in reads.found:
                    kept[position_id] = position
            elif before is not None:
                kept[position_id] = before
            elif not self.known:  # it may have been open then
                kept[position_id] = replace(position, pnl=None)
        for listed in reads.found.values():
            kept |= {
                position_id: _listed(item, self._positions.get(position_id))
                for position_id, item in listed.items()
                if position_id not in moving
            }
        return {position_id: position for position_id, position in kept.items() if position.size}

    def _splits_transfer(self, reads: EquityRead, level: EquityLevel | None, asked_ns: int) -> bool:
        """Say whether a transfer may be in a part of the figure that is younger than another part."""
        if level is None:
            return self._transferred_ns > reads.began_ns - QUIET_NS
        return asked_ns < self._transferred_ns <= level.began_ns

    def _doubt(self, reads: EquityRead, level: EquityLevel | None) -> tuple[UnexplainedMessage, ...]:
        """Tell by how much a figure may be wrong, if it may be; again if that grows to more than twice as much."""
        if level is not None and not level.short:
            self._told, self._bound = "", Decimal(0)
            return ()
        steps = self._around(reads)
        if level is not None:
            steps = [step for step in steps if abs(step.at_ns - level.at_ns) < PAIR_NS]
        moved = [step.moved for step in steps]
        bound = sum((abs(amount) for amount in moved if amount is not None), Decimal(0))
        if not bound and None not in moved:
            return ()
        amount_text = "an unknown amount" if None in moved else f"up to {bound:f} BTC"
        if bound > 2 * self._bound:
            self._told, self._bound = "", bound
        return self._say("the account never stands still: its equity may be wrong by", amount_text)

    def _say(self, why: str, suffix: str = "") -> tuple[UnexplainedMessage, ...]:
        """Say it, unless it was said last."""
        previous, self._told = self._told, why
        return () if previous == why else (UnexplainedMessage(f"{why} {suffix}".rstrip()),)


def _besides(amounts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return what is held besides BTC, which is listed always."""
    return {asset: held for asset, held in amounts.items() if asset != "BTC"}


def _between(began_ns: int, ended_ns: int) -> EquityLevel:
    return EquityLevel(began_ns, ended_ns, (began_ns + ended_ns) // 2)


def _listed(position: Position, known: Position | None) -> Position:
    """Return a position as a read shows it; the newer generation's have no profit, that is the last event's.

    Its size, in the read's own unit, tells whether an event was missed: then its profit is unknown.
    """
    if position.pnl is not None or known is None:
        return position
    if known.listed not in (None, position.size):
        return position
    return replace(known, listed=position.size)
