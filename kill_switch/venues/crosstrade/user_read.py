"""Hold the orders and positions that a CrossTrade read has shown so far. The reader fills it; nothing here sends."""

from __future__ import annotations

from dataclasses import dataclass, field

from kill_switch.core.domain import OrderState
from kill_switch.venues.crosstrade.replies import AccountOrder, OpenPosition
from kill_switch.venues.kit.readback import ReadBack
from kill_switch.venues.kit.replies import Reply


@dataclass(slots=True, eq=False)
class UserRead(ReadBack):
    """A read-back of all the user's accounts; without `urgent` it is a probe, which proves no account clear."""

    shown: list[AccountOrder] = field(default_factory=list)  # ended orders too
    list_whys: list[str] = field(default_factory=list)  # why `shown` may lack orders
    refusal: Reply | None = None  # of the list of all orders
    positions: list[OpenPosition] | None = None  # None: they have not been read
    over_ws: bool = False  # its list came over the WebSocket

    @property
    def left(self) -> bool:
        """Whether it has shown an order that has not ended, or a position."""
        return bool(self.positions) or any(each.order.state is not OrderState.GONE for each in self.shown)
