"""The orders, positions and money of one account.

The kit's exchange and the venues change them, and the admin API reads them. Verdicts of tests compare with this book,
so no fault ever changes what it shows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

_HISTORY = 20_000
ZERO = Decimal(0)


@dataclass(slots=True)
class Order:
    """An order; `state` is the venue's own word."""

    id: str
    symbol: str
    kind: str  # `limit`, `stop` or `market`
    side: str  # `buy` or `sell`
    qty: Decimal
    price: Decimal
    state: str
    created_ns: int
    stop_price: Decimal | None = None
    filled: Decimal = ZERO
    client_id: str = ""
    tif: str = "gtc"
    category: str = ""  # what a venue needs to find the order, such as Roxom's instType
    closed_ns: int = 0
    rested_as: str = ""  # its state when it came to rest
    # when it came to rest and ended, monotonic: the venue's own times jump with the `skew` fault
    rested_s: float = 0.0
    ended_s: float = 0.0

    @property
    def left(self) -> Decimal:
        """Return the quantity that is not filled."""
        return self.qty - self.filled

    def listing(self, account: str) -> dict[str, object]:
        """Return the order in the admin API's form."""
        return {
            "id": self.id,
            "account": account,
            "symbol": self.symbol,
            "kind": self.kind,
            "side": self.side,
            "state": self.state,
            "price": str(self.price),
            "qty": str(self.qty),
            "filled": str(self.filled),
        }


@dataclass(slots=True)
class Position:
    """A position; `qty` is negative when short."""

    symbol: str
    qty: Decimal
    entry: Decimal
    category: str = ""  # the category of the orders that made it

    def listing(self, account: str) -> dict[str, object]:
        """Return the position in the admin API's form."""
        shown: dict[str, object] = {"account": account, "symbol": self.symbol, "inst_type": self.category}
        return shown | {"qty": str(self.qty), "entry": str(self.entry)}


@dataclass
class Account:
    """A login at a venue: its book and its money."""

    name: str
    venue_id: str  # the venue's own account number
    credentials: dict[str, str]
    equity: Decimal = Decimal(100_000)
    unrealised: Decimal = ZERO
    cash_before: Decimal = ZERO  # the cash before its last change
    positions: dict[str, Position] = field(default_factory=dict)
    open: dict[str, Order] = field(default_factory=dict)
    closed: dict[str, Order] = field(default_factory=dict)  # the latest orders that have ended
    # the number of orders that ended in each state, since the start
    ended: Counter[str] = field(default_factory=Counter)

    @property
    def cash(self) -> Decimal:
        """Return the money without the unrealised profit."""
        return self.equity - self.unrealised

    def rest(self, orders: Iterable[Order]) -> None:
        """Add orders to the book."""
        for order in orders:
            order.rested_as, order.rested_s = order.state, time.monotonic()
            self.open[order.id] = order

    def end(self, order: Order, state: str, at_ns: int) -> bool:
        """Remove an order from the book and record its last state; return False if it was not in the book."""
        if self.open.pop(order.id, None) is None:
            return False
        order.state = state
        order.closed_ns, order.ended_s = at_ns, time.monotonic()
        self.closed[order.id] = order
        self.ended[state] += 1
        if len(self.closed) > _HISTORY:
            del self.closed[next(iter(self.closed))]
        return True

    def trade(self, order: Order, at_ns: int, state: str, price: Decimal | None = None) -> bool:
        """Fill the rest of an order in the book, and change the position; return False if it was not in the book."""
        if not self.end(order, state, at_ns):
            return False
        qty = order.left if order.side == "buy" else -order.left
        self.move(order.symbol, qty, price or order.price, order.category)
        order.filled = order.qty
        return True

    def move(self, symbol: str, qty: Decimal, price: Decimal, category: str = "") -> None:
        """Add a signed quantity to a position."""
        key = f"{category} {symbol}".strip()
        held = self.positions.get(key)
        if held is None:
            self.positions[key] = Position(symbol, qty, price, category)
        elif held.qty + qty == 0:
            del self.positions[key]
        else:
            if (held.qty > 0) == (qty > 0):
                held.entry = (held.entry * held.qty + price * qty) / (held.qty + qty)
            elif abs(qty) > abs(held.qty):
                held.entry = price
            held.qty += qty
