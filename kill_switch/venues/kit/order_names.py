"""Name orders where a venue's ids are unique in their symbol only. An adapter owns one `OrderNames`."""

from __future__ import annotations

from kill_switch.core.latest import keep_latest

MAX_IDS = 65_536  # ids whose symbol is remembered


class OrderNames:
    """Name orders by their ids.

    An order is named by its id alone, unless an order of another symbol has that name.
    """

    def __init__(self) -> None:
        self._symbols: dict[str, str] = {}  # id → the symbol whose order is named by it

    def name(self, symbol: str, order_id: str) -> str:
        """Return the name of an order."""
        owner = self._symbols.setdefault(order_id, symbol)
        if len(self._symbols) > 2 * MAX_IDS:
            keep_latest(self._symbols, MAX_IDS)
        return order_id if owner == symbol or not symbol else f"{order_id}@{symbol}"
