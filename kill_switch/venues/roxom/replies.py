"""Read what Roxom says of an account's money: balances, positions, instruments and balance events.

Units: REST is asked for sats and the WebSocket shows positions in BTC, unless an item names its unit. A balance event
names its own. Other assets than BTC are in the unit in which the venue lists them. A part that is missing, that cannot
be read or that is there twice makes the whole unreadable: it is never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.venues.decode import as_decimal, as_text

SATS = Decimal(100_000_000)
UNITS = {"sats": SATS, "btc": Decimal(1)}  # how many of them are one BTC
TRANSFERS = ("transfer", "deposit", "withdraw")  # in an `updateType`; of these words only "ordersettle" is documented
Positions = dict[str, "Position"]


@dataclass(frozen=True, slots=True)
class Position:
    symbol: str
    size: Decimal  # zero: it has been closed
    pnl: Decimal | None  # in BTC; None: the venue has not said
    at_ns: int  # when it was so, at the earliest
    listed: Decimal | None = None  # the size in the last read since its last event, in that read's unit


class BalanceStep(NamedTuple):
    """What a balance event says, in BTC; None: that cannot be read."""

    at_ns: int
    stamp: int  # the venue's time of it; 0: not told
    before: Decimal | None
    after: Decimal | None

    @property
    def moved(self) -> Decimal | None:
        """Return by how much the balance has risen."""
        return None if self.before is None or self.after is None else self.after - self.before


def _unit(named: object, default: str) -> Decimal | None:
    """Return how many of a unit are one BTC; None for one that is not known."""
    return UNITS.get((default if named is None else as_text(named)).lower())


def btc_of(value: object, unit: object, default: str = "") -> Decimal | None:
    """Read an amount in the unit that is named beside it; None if either cannot be read."""
    read, scale = as_decimal(value), _unit(unit, default)
    return None if read is None or scale is None else read / scale


def id_of(item: object) -> str:
    """Return a position's id; empty if it has none."""
    return (as_text(item.get("id", "")) or as_text(item.get("positionId", ""))) if isinstance(item, dict) else ""


def read_step(fields: Mapping[str, Any], at_ns: int) -> BalanceStep:
    """Read a balance event (§5: `balanceBefore`, `balanceAfter`, `unit`, `timestamp` in nanoseconds)."""
    before, after = (btc_of(fields.get(name), fields.get("unit")) for name in ("balanceBefore", "balanceAfter"))
    stamp = as_text(fields.get("timestamp"))
    return BalanceStep(
        at_ns, int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) < 20 else 0, before, after
    )


def is_transfer(kind: str) -> bool:
    """Say whether an `updateType`, in lower case, is that of a deposit or a withdrawal."""
    return any(word in kind for word in TRANSFERS)


def read_transfer(kind: str, amount: Decimal | None, moved: Decimal | None) -> Decimal | None:
    """Return what a transfer has brought in (more than nothing) or taken away (less); None if that cannot be told.

    Whether `amount` has a sign is not documented: the balances before and behind say which way it went. They count
    unless both the word and the amount contradict them. Without them the word decides; "transfer" says neither way,
    and only a minus does.
    """
    way = -1 if "withdraw" in kind else 1 if "deposit" in kind else 0
    if moved is not None and (amount is None or abs(moved) == abs(amount) or moved * way >= 0):
        return moved
    if amount is None:
        return None
    return abs(amount) * way if way else amount if amount < 0 else None


def read_position(item: object, at_ns: int, *, unit: str) -> tuple[str, Position] | None:
    """Read one position and its id, in either generation's names; one that is closed has no size. None: unreadable.

    `unit` is that of its profit, unless it names one.
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
    """Read the symbols of all instruments that positions can be held in; None if there are none to be read."""
    items = data.get("instruments") if isinstance(data, dict) else data
    entries = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    symbols = [as_text(item.get("symbol", "")) for item in entries if _perpetual(item)]
    return tuple(dict.fromkeys(symbol for symbol in symbols if symbol)) or None


def _perpetual(item: Mapping[str, Any]) -> bool:
    return item.get("instType") in (None, "perpetual")
