"""Keep one read-back while its calls are under way: what its lists and look-ups have shown, and what is missing.

`Adapter` in `adapter` fills it and ends it; a venue's adapter begins one and gives it the lists' answers. It decides
nothing and sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kill_switch.core.domain import Life, Order

NAMED = 3  # orders that a line of evidence names, at most


@dataclass(slots=True)
class ReadBack:
    """One read-back that was asked for at `asked_ns`, monotonic."""

    asked_ns: int
    missing: set[str]  # lists that have not been answered yet
    urgent: bool = True  # its look-ups go before everything else
    orders: dict[str, Order] = field(default_factory=dict)  # all that were shown and are not gone, by id
    troubles: list[str] = field(default_factory=list)  # why it is not complete
    whole: bool = False  # every list was answered and could be read: what they cover and do not show is gone
    looking: set[str] = field(default_factory=set)  # ids of the orders whose look-up is under way
    told_early: bool = False  # a list is late, and what the others have shown has been told

    @property
    def left(self) -> bool:
        """Say whether an order is alive, as far as the lists have shown."""
        return any(order.life is Life.LIVE for order in self.orders.values())


def unlisted(orders: Iterable[Order]) -> str:
    """Name orders that were seen alive and that no list shows."""
    ids = [order.id for order in orders]
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"seen alive, not seen to end, and in no list: {', '.join(ids[:NAMED])}{more}"
