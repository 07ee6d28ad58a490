"""Work out what a Roxom account is worth: its balance, and the open profit or loss of its positions, in BTC.

The venue has no call for it. The balance is read; so is the profit, in the older generation of the documents, and in
the newer one it comes with position events alone. A fill moves money from the one to the other, and a figure that has
one of them from before it and the other from behind it would be wrong by all that the fill has realised. So a set of
reads counts only if no event on the stream, from a little before them to a little behind them, tells of a fill, a
funding payment or a transfer.

Units: the WebSocket shows positions in BTC, and names the unit of a balance event; REST is asked for sats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kill_switch.domain import Now
from kill_switch.venues.base import Equity, Transferred, amount, plain

SATS = Decimal(100_000_000)
QUIET_S = 0.25  # before and behind a set of reads: events of one fill come together, and soon
MOVES_KEPT = 64  # balance events that are remembered: while connections overlap, each comes twice
TRANSFERS = ("transfer", "deposit", "withdraw")  # in an `updateType`; of these words only "ordersettle" is documented
Positions = dict[str, "Position"]


@dataclass(frozen=True, slots=True)
class Position:
    symbol: str
    size: Decimal
    pnl: Decimal | None  # in BTC; None: this generation's REST does not say
    at_ns: int  # when it was so, at the earliest


@dataclass(slots=True)
class Reads:
    """One set of reads: the balance, and the positions of some symbols."""

    began_ns: int
    missing: set[str]
    every: bool  # all symbols: what is not in here is not there
    tries: int  # that are left
    cash: Decimal | None = None  # in BTC
    found: dict[str, Positions] = field(default_factory=dict)  # by symbol


class Worth:
    """Follow one account's positions, and know when they and its balance stand still."""

    def __init__(self) -> None:
        self.known = False  # every position that is open is in here
        self._positions: Positions = {}
        self._moved_ns = 0
        self._moves: dict[tuple[str, ...], None] = {}

    def lost(self) -> None:
        """Take note that events may have been missed."""
        self.known = False
        self._positions.clear()

    @property
    def symbols(self) -> set[str]:
        return {position.symbol for position in self._positions.values()}

    # events

    def positions_pushed(self, data: object, now: Now) -> bool:
        """Take a position event; return whether it could be read."""
        items = data if isinstance(data, list) else [data]
        readable = True
        for item in items:
            parsed = read_position(item, now.mono_ns, sats=False)
            if parsed is None or parsed[1].pnl is None:
                readable = False
                self._moved_ns = now.mono_ns  # whatever it was
                continue
            one, position = parsed
            before = self._positions.get(one)
            if before is None or before.size != position.size:
                self._moved_ns = now.mono_ns
            if position.size:
                self._positions[one] = position
            else:
                self._positions.pop(one, None)
        return readable

    def balance_pushed(self, data: object, now: Now) -> Transferred | None:
        """Take a balance event; return a deposit or a withdrawal, once."""
        self._moved_ns = now.mono_ns
        if not isinstance(data, dict):
            return None
        moved = amount(data.get("amount"))
        kind = plain(data.get("updateType", "")).lower()
        if moved is None or not any(word in kind for word in TRANSFERS):
            return None
        key = (kind, plain(data.get("timestamp", "")), plain(data.get("balanceAfter", "")), str(moved))
        if key in self._moves:
            return None
        self._moves[key] = None
        if len(self._moves) > MOVES_KEPT:
            del self._moves[next(iter(self._moves))]
        return Transferred("BTC", moved / SATS if plain(data.get("unit", "")).lower() == "sats" else moved)

    # reads

    def quiet(self, reads: Reads) -> bool:
        """Say whether nothing has moved since a little before the reads began; call it a little behind their end."""
        return self._moved_ns < reads.began_ns - QUIET_S * 1e9

    def settle(self, reads: Reads) -> Equity | None:
        """Take a set of reads that nothing has disturbed; None if a position's profit is still to be heard of."""
        kept = {} if reads.every else {k: v for k, v in self._positions.items() if v.symbol not in reads.found}
        for positions in reads.found.values():
            for one, position in positions.items():
                before = self._positions.get(one)
                kept[one] = position if position.pnl is not None or before is None else before
        self._positions = kept
        self.known = self.known or reads.every
        open_pnl = [position.pnl for position in kept.values() if position.pnl is not None]
        if reads.cash is None or len(open_pnl) < len(kept):
            return None
        since_ns = min((position.at_ns for position in kept.values()), default=reads.began_ns)
        return Equity({"BTC": reads.cash + sum(open_pnl, Decimal(0))}, min(since_ns, reads.began_ns))


def read_position(item: object, at_ns: int, *, sats: bool) -> tuple[str, Position] | None:
    """Read one position and its id, in either generation's names; one that is closed has no size. None: unreadable."""
    if not isinstance(item, dict):
        return None
    one = plain(item.get("id", "")) or plain(item.get("positionId", ""))
    symbol, size, pnl = plain(item.get("symbol", "")), amount(item.get("size")), amount(item.get("unrealizedPnl"))
    if not one or size is None or (pnl is None and item.get("unrealizedPnl") is not None):
        return None
    if item.get("closeDate"):
        size = Decimal(0)
    return one, Position(symbol, size, pnl / SATS if sats and pnl is not None else pnl, at_ns)


def read_positions(data: object, symbol: str, at_ns: int) -> Positions | None:
    """Read a REST list of one symbol's open positions, in either generation's shape; None if any cannot be read."""
    items = data.get("positions") if isinstance(data, dict) else data
    if not isinstance(items, list):
        return None
    positions: Positions = {}
    for item in items:
        parsed = read_position(item, at_ns, sats=True)
        if parsed is None:
            return None
        one, position = parsed
        if position.size:
            positions[one] = Position(position.symbol or symbol, position.size, position.pnl, at_ns)
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


def read_balance(data: object) -> Decimal | None:
    """Read the whole balance in sats, margin of open positions included, in either generation's shape; return BTC."""
    if not isinstance(data, dict):
        return None
    if "balances" not in data:
        sats = amount(data.get("balance"))
    else:
        items = data["balances"] if isinstance(data["balances"], list) else []
        bitcoin = [item for item in items if isinstance(item, dict) and item.get("asset") == "BTC"]
        sats = amount(bitcoin[0].get("current")) if len(bitcoin) == 1 else None
    return None if sats is None else sats / SATS


def read_symbols(data: object) -> tuple[str, ...] | None:
    """Read the symbols of all instruments that positions can be held in; None if there are none to be read."""
    items = data.get("instruments") if isinstance(data, dict) else data
    found = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    symbols = [plain(item.get("symbol", "")) for item in found if _perpetual(item)]
    return tuple(dict.fromkeys(one for one in symbols if one)) or None


def _perpetual(item: Mapping[str, Any]) -> bool:
    return item.get("instType") in (None, "perpetual")
