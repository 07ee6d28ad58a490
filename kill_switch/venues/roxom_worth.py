"""Work out what a Roxom account is worth: its balances, and the open profit or loss of its positions in BTC.

The venue has no call for the sum. A read gives the balances. A read gives the profit in the older generation of the
documents; in the newer one, position events alone do. A fill moves money from the profit to the balance, so a sum of a
balance from before a fill and a profit from behind it is wrong by what the fill has realised. An account that trades
never stands still. So the balance that was read is found among those that the balance events tell of, and the profit is
that of the positions as they were while the balance was that.

Where the balance is none that an event tells of, it is read again; in the end it counts, and the possible error is
told: what the balance events of that time have moved. The error of a level that stood for a short time is told too.

Units: REST is asked for sats and the WebSocket shows positions in BTC, unless an item names its unit. A balance event
names its own. Other assets than BTC are in the unit in which the venue lists them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from kill_switch.domain import Now
from kill_switch.venues.balances import Balances
from kill_switch.venues.base import Equity, Noise, Transferred, amount, plain

SATS = Decimal(100_000_000)
SAT = 1 / SATS
UNITS = {"sats": SATS, "btc": Decimal(1)}  # how many of them are one BTC
QUIET_S = 0.25  # behind a set of reads: events of what it shows come soon
PAIR_S = 0.1  # the balance event and the position event of one fill are no further apart (inferred)
OLD_S = 15.0  # a profit that no event has told anew for that long is said to be old
WAITS = 5  # for the second of them, of one set of reads
STEPS_KEPT = 512  # balance events that are remembered to find the moment of a read
MOVES_KEPT = 64  # transfers that are remembered: while connections overlap, each comes twice
TRANSFERS = ("transfer", "deposit", "withdraw")  # in an `updateType`; of these words only "ordersettle" is documented
QUIET_NS, PAIR_NS = round(QUIET_S * 1e9), round(PAIR_S * 1e9)
Positions = dict[str, "Position"]


@dataclass(frozen=True, slots=True)
class Position:
    symbol: str
    size: Decimal  # zero: it has been closed
    pnl: Decimal | None  # in BTC; None: the venue has not said
    at_ns: int  # when it was so, at the earliest
    listed: Decimal | None = None  # the size in the last read since its last event, in that read's unit


@dataclass(slots=True)
class Reads:
    """One set of reads: the balances, and the positions of some symbols."""

    began_ns: int
    missing: set[str]
    every: bool  # all symbols: what is not in here is not there
    tries: int  # that are left
    amounts: Mapping[str, Decimal] = field(default_factory=dict)  # the balances, by asset
    cash_ns: int = 0  # when they were answered
    found: dict[str, Positions] = field(default_factory=dict)  # by symbol
    waits: int = 0

    @property
    def cash(self) -> Decimal:
        """Return the balance in BTC."""
        return self.amounts["BTC"]


class Step(NamedTuple):
    """What a balance event says, in BTC; None: that cannot be read."""

    at_ns: int
    stamp: int  # the venue's time of it; 0: not told
    before: Decimal | None
    after: Decimal | None

    @property
    def moved(self) -> Decimal | None:
        """Return by how much the balance has risen."""
        return None if self.before is None or self.after is None else self.after - self.before


class Level(NamedTuple):
    """A time in which the balance was the same."""

    began_ns: int
    ended_ns: int
    at_ns: int  # the moment in it that is the furthest from the fills around it
    bounded: bool = True  # balance events bound it; else nothing has moved

    @property
    def short(self) -> bool:
        """Say whether a position event may belong to another level: it came too near to a balance event."""
        return self.bounded and max(self.at_ns - self.began_ns, self.ended_ns - self.at_ns) < PAIR_NS


class Worth:
    """Follow one account's positions and balance by their events, and put reads together with them."""

    def __init__(self) -> None:
        self.known = False  # every position that is open is in here
        self._positions: Positions = {}
        self._past: deque[tuple[int, Positions]] = deque(maxlen=STEPS_KEPT)  # since when the positions were these
        self._moved_ns = 0
        self._steps: dict[tuple[object, ...], Step] = {}
        self._transfers: dict[tuple[str, ...], None] = {}
        self._transferred_ns = 0
        self._balances = Balances()
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

    def positions_pushed(self, data: object, now: Now) -> bool:
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
            one, position = parsed
            before = self._positions.get(one)
            if before is None or before.size != position.size:
                self._moved_ns = now.mono_ns
            self._positions[one] = position
        self._past.append((now.mono_ns, dict(self._positions)))
        return readable

    def _unread(self, item: object) -> None:
        """Take what is known of a position for unknown: an event of it cannot be read."""
        one = _id(item)
        if one in self._positions:
            self._positions[one] = replace(self._positions[one], pnl=None)
        else:
            self.known = False

    def balance_pushed(self, data: object, now: Now) -> tuple[Transferred | Noise, ...]:
        """Take a balance event; return a deposit or a withdrawal, once."""
        fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
        step = read_step(fields, now.mono_ns)
        key = (*step[1:], plain(fields.get("updateType")), plain(fields.get("amount")))
        if step.stamp and key in self._steps:
            return ()  # the other connection's
        self._moved_ns = now.mono_ns
        self._cash = None
        self._steps[key if step.stamp else (now.mono_ns, *key)] = step
        if len(self._steps) > STEPS_KEPT:
            del self._steps[next(iter(self._steps))]
        return self._transferred(fields, step, now)

    def _transferred(self, fields: Mapping[str, Any], step: Step, now: Now) -> tuple[Transferred | Noise, ...]:
        kind = plain(fields.get("updateType", "")).lower()
        if not any(word in kind for word in TRANSFERS):
            return ()
        key = (kind, *(plain(fields.get(name, "")) for name in ("timestamp", "balanceAfter", "amount")))
        if key in self._transfers:
            return ()
        self._transfers[key] = None
        if len(self._transfers) > MOVES_KEPT:
            del self._transfers[next(iter(self._transfers))]
        moved = read_transfer(kind, _btc(fields.get("amount"), fields.get("unit")), step.moved)
        if moved is None:
            return (Noise(f"a {kind} that cannot be read: it looks like profit or loss"),)
        self._transferred_ns = now.mono_ns
        return (Transferred("BTC", moved),) if moved else ()

    # reads

    def balances_read(self, data: object, reads: Reads, now: Now) -> str:
        """Take the balances into a set of reads; return why they are no figure, "" if they are one."""
        amounts = read_balances(data)
        if isinstance(amounts, str):
            return amounts
        why = self._balances.lacking(_besides(amounts))
        if not why:
            reads.amounts, reads.cash_ns = amounts, now.mono_ns
        return why

    def wait_s(self, reads: Reads, now: Now) -> float:
        """Return how long to wait for the second event of a fill of which the first has just come; 0: not at all."""
        silent_ns = now.mono_ns - self._moved_ns
        if silent_ns >= PAIR_NS or reads.waits >= WAITS:
            return 0.0
        reads.waits += 1
        return (PAIR_NS - silent_ns) / 1e9

    def placed(self, reads: Reads, now: Now) -> bool:
        """Say whether it is known which fills the balance has in it."""
        return self._level(reads, now) is not None

    def settle(self, reads: Reads, now: Now) -> tuple[Equity | Noise, ...]:
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
        self._balances.keep(_besides(reads.amounts))
        open_pnl = sum((position.pnl for position in then.values() if position.pnl is not None), Decimal(0))
        amounts = {asset: held for asset, held in reads.amounts.items() if held} | {"BTC": reads.cash + open_pnl}
        if reads.began_ns - asked_ns > OLD_S * 1e9:
            oldest = min(then.values(), key=lambda position: position.at_ns)
            return (*self._say(f"no figure is newer than the last event of {oldest.symbol}"), Equity(amounts, asked_ns))
        return (*self._doubt(reads, level), Equity(amounts, asked_ns))

    def _level(self, reads: Reads, now: Now) -> Level | None:
        """Find when the balance was the one that was read, around the time of the read; None: that is unknown."""
        steps = self._around(reads)
        since_ns = reads.began_ns - 2 * QUIET_NS
        if not steps:
            return Level(since_ns, now.mono_ns, now.mono_ns, bounded=False)
        if all(step.stamp for step in steps):
            steps.sort(key=lambda step: step.stamp)  # they may have come in another order
        since_ns = max([since_ns, *(step.at_ns for step in self._steps.values() if step.at_ns < steps[0].at_ns)])
        last = Level(steps[-1].at_ns, now.mono_ns, now.mono_ns)
        levels = [(_between(since_ns, steps[0].at_ns), steps[0].before), (last, steps[-1].after)]
        for one, other in pairwise(steps):
            levels += [(_between(one.at_ns, other.at_ns), value) for value in {one.after, other.before}]
        found = [
            level
            for level, value in levels
            if value is not None and abs(value - reads.cash) < SAT and level.began_ns <= reads.cash_ns + QUIET_NS
        ]
        return max(found, key=lambda level: level.ended_ns - level.began_ns, default=None)

    def _around(self, reads: Reads) -> list[Step]:
        """Return the balance events that the balance may, or may not, have in it."""
        return [step for step in self._steps.values() if step.at_ns > reads.began_ns - QUIET_NS]

    def _at(self, at_ns: int) -> Positions:
        """Return the positions of a moment, as the events have told them."""
        held = next((held for since_ns, held in reversed(self._past) if since_ns <= at_ns), {})
        return held if self.known else self._positions | held  # what no event has told of yet may have been open then

    def _together(self, reads: Reads, at_ns: int | None) -> Positions:
        """Return the positions of a moment, None: of now: as they were read, but where an event has come since."""
        then, since_ns = self._positions, reads.began_ns
        if at_ns is not None:
            then, since_ns = self._at(at_ns), min(since_ns, at_ns)
        kept: Positions = {}
        moving = {one for one, held in self._positions.items() if held.listed is None and held.at_ns >= since_ns}
        for one, position in self._positions.items():
            before = then.get(one)
            if one not in moving:
                if not reads.every and position.symbol not in reads.found:
                    kept[one] = position
            elif before is not None:
                kept[one] = position if position.size == before.size else before
        for listed in reads.found.values():
            kept |= {one: _listed(item, self._positions.get(one)) for one, item in listed.items() if one not in moving}
        return {one: position for one, position in kept.items() if position.size}

    def _splits_transfer(self, reads: Reads, level: Level | None, asked_ns: int) -> bool:
        """Say whether a transfer may be in a part of the figure that is younger than another part."""
        if level is None:
            return self._transferred_ns > reads.began_ns - QUIET_NS
        return asked_ns < self._transferred_ns <= level.began_ns

    def _doubt(self, reads: Reads, level: Level | None) -> tuple[Noise, ...]:
        """Tell by how much a figure may be wrong, if it may be; again if that grows to more than twice as much."""
        if level is not None and not level.short:
            self._told, self._bound = "", Decimal(0)
            return ()
        steps = self._around(reads)
        if level is not None:
            steps = [step for step in steps if abs(step.at_ns - level.at_ns) < PAIR_NS]
        moved = [step.moved for step in steps]
        bound = sum((abs(one) for one in moved if one is not None), Decimal(0))
        if not bound and None not in moved:
            return ()
        what = "an unknown amount" if None in moved else f"up to {bound:f} BTC"
        if bound > 2 * self._bound:
            self._told, self._bound = "", bound
        return self._say("the account never stands still: its equity may be wrong by", what)

    def _say(self, why: str, more: str = "") -> tuple[Noise, ...]:
        """Say it, unless it was said last."""
        said, self._told = self._told, why
        return () if said == why else (Noise(f"{why} {more}".rstrip()),)


def _besides(amounts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return what is held besides BTC, which is listed always."""
    return {asset: held for asset, held in amounts.items() if asset != "BTC"}


def _between(began_ns: int, ended_ns: int) -> Level:
    return Level(began_ns, ended_ns, (began_ns + ended_ns) // 2)


def _listed(position: Position, known: Position | None) -> Position:
    """Return a position as a read shows it; the newer generation's have no profit, that is the last event's.

    Its size, in the read's own unit, tells whether an event was missed: then its profit is unknown.
    """
    if position.pnl is not None or known is None:
        return position
    if known.listed not in (None, position.size):
        return position
    return replace(known, listed=position.size)


def _unit(named: object, default: str) -> Decimal | None:
    """Return how many of a unit are one BTC; None for one that is not known."""
    return UNITS.get((default if named is None else plain(named)).lower())


def _btc(value: object, unit: object, default: str = "") -> Decimal | None:
    """Read an amount in the unit that is named beside it; None if either cannot be read."""
    read, scale = amount(value), _unit(unit, default)
    return None if read is None or scale is None else read / scale


def _id(item: object) -> str:
    return (plain(item.get("id", "")) or plain(item.get("positionId", ""))) if isinstance(item, dict) else ""


def read_step(fields: Mapping[str, Any], at_ns: int) -> Step:
    """Read a balance event (§5: `balanceBefore`, `balanceAfter`, `unit`, `timestamp` in nanoseconds)."""
    before, after = (_btc(fields.get(name), fields.get("unit")) for name in ("balanceBefore", "balanceAfter"))
    stamp = plain(fields.get("timestamp"))
    return Step(at_ns, int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) < 20 else 0, before, after)


def read_transfer(kind: str, told: Decimal | None, moved: Decimal | None) -> Decimal | None:
    """Return what a transfer has brought in (more than nothing) or taken away (less); None if that cannot be told.

    Whether `amount` has a sign is not documented: the balances before and behind say which way it went. They count
    unless both the word and the amount contradict them. Without them the word decides; "transfer" says neither way,
    and only a minus does.
    """
    way = -1 if "withdraw" in kind else 1 if "deposit" in kind else 0
    if moved is not None and (told is None or abs(moved) == abs(told) or moved * way >= 0):
        return moved
    if told is None:
        return None
    return abs(told) * way if way else told if told < 0 else None


def read_position(item: object, at_ns: int, *, unit: str) -> tuple[str, Position] | None:
    """Read one position and its id, in either generation's names; one that is closed has no size. None: unreadable.

    `unit` is that of its profit, unless it names one.
    """
    one = _id(item)
    if not isinstance(item, dict) or not one:
        return None
    symbol, size, pnl = plain(item.get("symbol", "")), amount(item.get("size")), item.get("unrealizedPnl")
    profit = _btc(pnl, item.get("unit"), unit)
    if item.get("closeDate") or size == 0:
        size = profit = pnl = Decimal(0)
    if size is None or (profit is None and pnl is not None):
        return None
    return one, Position(symbol, size, profit, at_ns)


def read_positions(data: object, symbol: str, at_ns: int) -> Positions | None:
    """Read a REST list of one symbol's open positions, in either generation's shape; None if any cannot be read."""
    items = data.get("positions") if isinstance(data, dict) else data
    if not isinstance(items, list):
        return None
    positions: Positions = {}
    for item in items:
        parsed = read_position(item, at_ns, unit="sats")
        if parsed is None or parsed[0] in positions:
            return None
        one, position = parsed
        if position.size:
            positions[one] = Position(position.symbol or symbol, position.size, position.pnl, at_ns, position.size)
    return positions


def read_attached(data: object) -> list[tuple[str, str]]:
    """Read the ids of the stop-loss and take-profit orders of a REST list's open positions, each with its symbol."""
    items = data.get("positions") if isinstance(data, dict) else None
    found: list[tuple[str, str]] = []
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and amount(item.get("size")) and not item.get("closeDate"):
            symbol = plain(item.get("symbol", "")) or plain(item.get("instrumentId", ""))
            ids = (plain(item.get(key)) for key in ("stopLossOrderId", "takeProfitOrderId"))
            found += [(one, symbol) for one in ids if one]
    return found


def read_balances(data: object) -> dict[str, Decimal] | str:
    """Read all that the account holds, margin of open positions included, in either generation's shape, or say why not.

    By asset: BTC is there always, in BTC; another one in the unit in which the venue lists it. The older generation's
    answer has one currency alone, which must be BTC.
    """
    unreadable = "the answer cannot be read"
    if not isinstance(data, dict):
        return unreadable
    if "balances" not in data:
        items: Iterable[object] = [data | {"asset": data.get("currency", "BTC"), "current": data.get("balance")}]
    else:
        items = data["balances"] if isinstance(data["balances"], list) else ()
    amounts: dict[str, Decimal] = {}
    for item in items:
        asset = plain(item.get("asset")).upper() if isinstance(item, dict) else ""
        if not isinstance(item, dict) or not asset or asset in amounts:
            return unreadable
        unit = item.get("unit", data.get("unit"))
        held = _btc(item.get("current"), unit, "sats") if asset == "BTC" else amount(item.get("current"))
        if held is None:
            return unreadable
        amounts[asset] = held
    return amounts if "BTC" in amounts else unreadable


def read_symbols(data: object) -> tuple[str, ...] | None:
    """Read the symbols of all instruments that positions can be held in; None if there are none to be read."""
    items = data.get("instruments") if isinstance(data, dict) else data
    found = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    symbols = [plain(item.get("symbol", "")) for item in found if _perpetual(item)]
    return tuple(dict.fromkeys(one for one in symbols if one)) or None


def _perpetual(item: Mapping[str, Any]) -> bool:
    return item.get("instType") in (None, "perpetual")
