"""Look single orders of a CrossTrade user up, as far as tokens are left for it.

The adapter owns one `OrderLookUps`, and hands its functions to the kit's read-backs. Nothing here sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kill_switch.core.domain import Instant, Order
from kill_switch.venues.crosstrade.account_reach import AccountReach
from kill_switch.venues.crosstrade.replies import AccountDirectory, is_account_unknown
from kill_switch.venues.crosstrade.strike_plan import StrikePlanner
from kill_switch.venues.crosstrade.tokens import READ_KEEPS
from kill_switch.venues.crosstrade.user_wire import UserWire, is_id, path_of
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.replies import Reply


@dataclass(slots=True, eq=False)
class OrderLookUps:
    """Build the requests for single orders, and read their replies."""

    wire: UserWire
    ours: AccountDirectory
    planner: StrikePlanner
    reach: AccountReach

    def build(self, order_id: str) -> Build | None:
        """Return the builder of the request for an order; None if its account is not ours, or its id malformed."""
        account = self.planner.owner(order_id)
        known = account in self.ours.names and is_id(order_id)
        return self.wire.build("GET", f"{path_of(account)}/orders/{order_id}") if known else None

    def must_yield(self, now: Instant, urgent: bool) -> bool:
        """Return whether another look-up would take a token that is kept for a kill, or for its next read."""
        return self.wire.bucket.left(now) < READ_KEEPS if urgent else not self.wire.bucket.spare(now, 1)

    def note_reply(self, order_id: str, reply: Reply) -> None:
        """Note that the venue does not know the order's account, if its reply says so."""
        if is_account_unknown(reply):
            self.reach.unknown[self.planner.owner(order_id)] = reply.evidence

    def read_order(self, data: Any, order_id: str) -> Order | None:
        """Read the order of a reply; None if it cannot be read. The broker may have renumbered it (§ 2)."""
        account_order = self.ours.order(data, self.planner.owner(order_id))
        if account_order is None or not account_order.account or not account_order.order.status:
            return None
        return account_order.order._replace(id=order_id)
