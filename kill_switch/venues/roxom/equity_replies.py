"""Read Roxom's answers and events about money: balances, positions, instruments (docs/venues/roxom.md § 4.4, § 5).

REST reads request sats; position events are in BTC; an item's own unit wins. A part that is missing, unreadable or
present twice makes the whole unreadable. It never counts as zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.venues.decode import as_decimal, as_text

SATS = Decimal(100_000_000)
UNITS = {"sats": SATS, "btc": Decimal(1)}  # units a BTC
TRANSFERS = (
    "transfer",
    "deposit",
    "withdraw",
)  # parts of an `updateType`; the documents show only "ordersettle", a fill
Positions = dict[str, "Position"]


@dataclass(frozen=True, slots=True)
class Position:
    symbol: str
    size: Decimal  # zero: the position is closed
    pnl: Decimal | None  # in BTC; None: the venue has not shown it
    at_ns: int  # the earliest moment of these figures, monotonic
    listed: Decimal | None = None  # the size of the last read since the last event, in that read's unit


class BalanceStep(NamedTuple):
    """A balance event, in BTC; None: a value that cannot be read."""

    at_ns: int
    stamp: int  # the venue's time, wall-clock ns; 0: none
    before: Decimal | None
    after: Decimal | None

    @property
    def moved(self) -> Decimal | None:
        """The change of the balance; None: unknown."""
        return None if self.before is None or self.after is None else self.after - self.before


def _unit(named: object, default: str) -> Decimal | None:
    """Return how many of a unit make a BTC; None for an unknown unit."""
    return UNITS.get((default if named is None else as_text(named)).lower())


def btc_of(value: object, unit: object, default: str = "") -> Decimal | None:
    """Read an amount in the unit that its item names; None if either cannot be read."""
    read, scale = as_decimal(value), _unit(unit, default)
    return None if read is None or scale is None else read / scale


def id_of(item: object) -> str:
    """Return a position's id; empty if it has none."""
    return (as_text(item.get("id", "")) or as_text(item.get("positionId", ""))) if isinstance(item, dict) else ""


def read_step(fields: Mapping[str, Any], at_ns: int) -> BalanceStep:
    """Read a balance event (§ 5): `balanceBefore`, `balanceAfter`, `unit`, and `timestamp` in nanoseconds."""
    before, after = (btc_of(fields.get(name), fields.get("unit")) for name in ("balanceBefore", "balanceAfter"))
    stamp = as_text(fields.get("timestamp"))
    return BalanceStep(
        at_ns, int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) < 20 else 0, before, after
    )


def is_transfer(kind: str) -> bool:
    """Return whether an `updateType`, in lower case, names a deposit or a withdrawal."""
    return any(word in kind for word in TRANSFERS)


def read_transfer(kind: str, amount: Decimal | None, moved: Decimal | None) -> Decimal | None:
    """Return the amount of a deposit (positive) or of a withdrawal (negative); None if its direction is unknown.

    Whether `amount` has a sign is not documented, so `moved`, the change of the balance, decides. It does not if
    `kind` and `amount` both contradict it. Without `moved` the word in `kind` decides. "transfer" names no direction:
    then only a minus decides.
    """
    way = -1 if "withdraw" in kind else 1 if "deposit" in kind else 0
    if moved is not None and (amount is None or abs(moved) == abs(amount) or moved * way >= 0):
        return moved
    if amount is None:
        return None
    return abs(amount) * way if way else amount if amount < 0 else None


def read_position(item: object, at_ns: int, *, unit: str) -> tuple[str, Position] | None:
    """Read one position and its id, in either generation's names; None if it cannot be read.

    A closed position has size zero. `unit` is the unit of its profit, unless the item names a unit.
    """
    position_id = id_of(item)
    if not isinstance(item, dict) or not position_id:
        return None
    symbol, size, pnl = as_text(item.get("symbol", "")), as_decimal(item.get("size")), item.get("unrealizedPnl")
    profit = btc_of(pnl, item.get("unit"), unit)
    if item.get("closeDate") or size == 0:
        size = profit = pnl = Decimal(0)
    if size is None or (profit is None and pnl is not None):
        return None
    return position_id, Position(symbol, size, profit, at_ns)


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
        position_id, position = parsed
        if position.size:
            positions[position_id] = Position(
                position.symbol or symbol, position.size, position.pnl, at_ns, position.size
            )
    return positions


def read_attached(data: object) -> list[tuple[str, str]]:
    """Read the ids of the stop-loss and take-profit orders of a REST list's open positions, each with its symbol."""
    items = data.get("positions") if isinstance(data, dict) else None
    attached: list[tuple[str, str]] = []
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and as_decimal(item.get("size")) and not item.get("closeDate"):
            symbol = as_text(item.get("symbol", "")) or as_text(item.get("instrumentId", ""))
            ids = (as_text(item.get(key)) for key in ("stopLossOrderId", "takeProfitOrderId"))
            attached += [(order_id, symbol) for order_id in ids if order_id]
    return attached


def read_balances(data: object) -> dict[str, Decimal] | str:
    """Read the account's balances by asset, in either generation's shape; return the reason if that fails.

    Margin of open positions is included. BTC is always present, in BTC; other assets are in the venue's unit. The older
    generation's answer has a single currency, which must be BTC.
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
        asset = as_text(item.get("asset")).upper() if isinstance(item, dict) else ""
        if not isinstance(item, dict) or not asset or asset in amounts:
            return unreadable
        unit = item.get("unit", data.get("unit"))
        held = btc_of(item.get("current"), unit, "sats") if asset == "BTC" else as_decimal(item.get("current"))
        if held is None:
            return unreadable
        amounts[asset] = held
    return amounts if "BTC" in amounts else unreadable


def read_symbols(data: object) -> tuple[str, ...] | None:
    """Read the symbols of the instruments in which positions can be held; None if no symbol can be read."""
    items = data.get("instruments") if isinstance(data, dict) else data
    entries = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    symbols = [as_text(item.get("symbol", "")) for item in entries if _perpetual(item)]
    return tuple(dict.fromkeys(symbol for symbol in symbols if symbol)) or None


def _perpetual(item: Mapping[str, Any]) -> bool:
    return item.get("instType") in (None, "perpetual")
