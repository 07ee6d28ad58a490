"""Make the commands of CrossTrade's strikes: cancels of all of an NT account's orders, and of single orders.

The adapter owns one `CancelCommands`. Which cancels a strike has is decided by `strike_plan`, never here.
"""

from __future__ import annotations

from functools import partial

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.strike import Target
from kill_switch.venues.crosstrade.strike_plan import Plan
from kill_switch.venues.crosstrade.user_wire import UserWire, cancel_target, frame_builder, rpc_frame
from kill_switch.venues.kit.strike import CancelCommand


class CancelCommands:
    """The cancels of some NT accounts; those of whole accounts are made, and rendered, before any kill."""

    def __init__(self, wire: UserWire, knowledge: OrderKnowledge, accounts: tuple[str, ...]) -> None:
        self._wire = wire
        self._knowledge = knowledge
        self._accounts = accounts
        self._wide = {target: self._make(target) for target in map(Target, accounts)}
        for command in self._wide.values():
            _ = command.build(Instant(0, 0)).wire  # rendered now, so that a kill only writes
        self.first = next(iter(self._wide.values()))  # of a strike on every account

    def planned(self, plan: Plan) -> dict[Target, CancelCommand]:
        """Return the cancels of a plan, account-wide ones first."""
        chosen, order_ids = plan
        if chosen == self._accounts and not order_ids:
            return self._wide
        singles = [Target(self._knowledge.planner.owner(order_id), order_id) for order_id in order_ids]
        wide = {target: self._wide[target] for target in map(Target, chosen)}
        return wide | {target: self._make(target) for target in singles}

    def _make(self, target: Target) -> CancelCommand:
        account, order = target
        args = {"account": account, **({"orderId": order} if order else {})}
        api, path = "Cancel" if order else "CancelOrders", cancel_target(account, order)
        return CancelCommand(
            "cancel-one" if order else "cancel",
            self._wire.build("POST", path),
            partial(self._knowledge.judge_cancel, account, order),
            frame=frame_builder(api, args),
            extra=bool(order),
            line=f"POST {path} {{}}",
            frame_line=rpc_frame(api, args).decode(),
        )
