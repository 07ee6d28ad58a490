"""Hold the orders and positions that a CrossTrade read has shown so far. The reader fills it; nothing here sends."""

from __future__ import annotations

from dataclasses import dataclass, field

from kill_switch.core.domain import OrderState
from kill_switch.venues.crosstrade.replies import AccountOrder, OpenPosition


@dataclass(slots=True, eq=False)
class UserRead:
    """A read in progress.

    A read that is no probe and ends without `troubles`, orders and positions proves the accounts clear.
    """

    asked_ns: int  # when it was begun, monotonic
    probe: bool = False  # a routine read that proves the lane, and reads no positions
    conn: int | None = None
    orders: list[AccountOrder] = field(default_factory=list)
    ordered: bool = False  # every order is in `orders`
    positions: list[OpenPosition] = field(default_factory=list)
    positioned: bool = False  # the positions have been read
    troubles: list[str] = field(default_factory=list)  # why it is not complete

    def add_trouble(self, why: str) -> None:
        """Note a reason why it is not complete; "" is none."""
        if why:
            self.troubles.append(why)

    @property
    def left(self) -> bool:
        """Whether it has shown an order that has not ended, or a position."""
        return bool(self.positions) or any(
            account_order.order.state is not OrderState.GONE for account_order in self.orders
        )
