"""The facts of a CrossTrade read that has ended: open orders and positions, readiness of the lanes, doubts.

The reader calls this with each read; the adapter returns the facts to the dispatcher. Nothing here sends, except the
flattens that a read's positions release.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant, Order, Route
from kill_switch.venues.crosstrade.account_reach import MAX_TROUBLE, AccountReach
from kill_switch.venues.crosstrade.flatten import Flattener
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.readback import UserRead
from kill_switch.venues.crosstrade.replies import CancelReply, Words
from kill_switch.venues.crosstrade.strike_plan import StrikePlanner
from kill_switch.venues.messages import NotReady, OrdersRead, Outputs, Ready, UnexplainedMessage


class ReadFactBuilder:
    """Turn each ended read into facts."""

    def __init__(
        self, knowledge: OrderKnowledge, planner: StrikePlanner, flattens: Flattener, reach: AccountReach, words: Words
    ) -> None:
        self._knowledge = knowledge
        self._planner = planner
        self._flattens = flattens
        self._reach = reach
        self._words = words

    def on_read(self, read: UserRead, now: Instant) -> Outputs:
        """Return the facts of a read; a probe without orders yields no `OrdersRead`, because it proves nothing clear.

        A probe reads neither accounts nor positions, so it reports open orders only.
        """
        alive, outputs = self._knowledge.on_read(read)
        unknown = [
            UnexplainedMessage(self._words("order", order.id, "is in state Unknown"))
            for order in alive
            if order.status == "unknown"
        ]
        why = self._words("; ".join(read.troubles), limit=MAX_TROUBLE) if read.troubles else ""
        if read.probe:
            fact = OrdersRead(alive, not why, read.asked_ns, why)
            return (*self._lane_facts(read, why), *((fact,) if alive else ()), *unknown, *outputs)
        positions: tuple[Order, ...] = ()
        flattened: Outputs = ()
        if read.positioned:
            positions, flattened = self._flattens.on_read(read, now)
            self._planner.on_positions((held.account for held in read.positions), whole=not read.troubles)
        lost = self._reach.report_change()
        return (*flattened, OrdersRead((*positions, *alive), not why, read.asked_ns, why), *lost, *unknown, *outputs)

    def on_failed_probe(self, why: str, reply: CancelReply | None) -> Outputs:
        """Return the HTTP lane's readiness after a probe that has shown nothing."""
        if reply is not None and reply.limited:
            return ()  # another program uses the tokens up; the lane itself works
        return (NotReady(Route.HTTP, 0, why, fatal=reply is not None and reply.key),)

    def _lane_facts(self, read: UserRead, why: str) -> Outputs:
        """Return what a probe over HTTP has shown of that lane; `why` is what kept it from being complete."""
        if read.conn is not None:
            return ()
        if why:
            return (NotReady(Route.HTTP, 0, why),)
        return () if self._reach.is_owed or self._reach.unseen else (Ready(Route.HTTP, 0),)
