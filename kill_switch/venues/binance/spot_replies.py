"""Read the orders of Binance spot: lists, order lists, cancels, looked-up orders, pushes (§ 3.1, § 4, § 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.order_names import OrderNames
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.kit.sessions import Message

GONE = frozenset({"FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"})  # § 4; any other status is alive
LISTS_GONE = frozenset({"ALL_DONE", "REJECT"})  # of an order list


class OrderReader(OrderNames):
    """Read orders, whose ids are unique in their symbol only (§ 4)."""

    def read_order(self, item: object) -> Order | None:
        """Read an order of a list, a cancel or a look-up; an unknown status is alive."""
        if not isinstance(item, dict):
            return None
        return self._order(item.get("symbol"), item.get("orderId"), item.get("status"))

    def read_push(self, event: Message) -> Order | None:
        """Read an executionReport: `i` is the order, because `c` is the id of a cancel (§ 5)."""
        return self._order(event.get("s"), event.get("i"), event.get("X"))

    def read_list(self, item: object) -> Iterator[Order]:
        """Yield the orders of an order list that is alive; it names them without their statuses (§ 4)."""
        if not isinstance(item, dict):
            return
        status = as_text(item.get("listOrderStatus", item.get("L")))
        legs = item.get("orders", item.get("O"))
        for leg in legs if isinstance(legs, list) and status not in LISTS_GONE else ():
            if isinstance(leg, dict):
                order = self._order(leg.get("symbol", leg.get("s")), leg.get("orderId", leg.get("i")), status)
                if order is not None:
                    yield order

    def _order(self, symbol: object, order_id: object, status: object) -> Order | None:
        number, market, word = as_text(order_id), as_text(symbol), as_text(status)
        if word in GONE and not number:
            return Order("", market, OrderState.GONE, word)
        if not number or not market:
            return None
        state = OrderState.GONE if word in GONE else OrderState.LIVE
        return Order(self.name(market, number), market, state, word)

    def judge_cancel_all(self, reply: Reply) -> CancelResult:
        """Read the orders that a cancel of a symbol has hit: an array of orders and of order lists (§ 3.1).

        "Unknown order sent." says that there was none, which only the lists prove.
        """
        if reply.not_found:
            return CancelResult(reply._replace(evidence="no open order"), 0)
        if not reply.ok:
            return CancelResult(reply)
        if not isinstance(reply.data, list):
            return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence="accepted, without its orders"))
        orders = [order for item in reply.data for order in self._hit(item)]
        ids = tuple(dict.fromkeys(order.id for order in orders if order.status == "CANCELED"))
        return CancelResult(reply._replace(evidence=f"{len(ids)} order(s) cancelled"), len(ids), ids)

    def _hit(self, item: object) -> Iterator[Order]:
        reports = item.get("orderReports") if isinstance(item, dict) else None
        for each in reports if isinstance(reports, list) else [item]:
            order = self.read_order(each)
            if order is not None:
                yield order


def list_items(data: Any) -> object:
    """Return the legs of all order lists as orders; a list whose legs cannot be read cannot be read (§ 4)."""
    if not isinstance(data, list):
        return None
    return [leg for item in data for leg in _legs(item)]


def _legs(item: object) -> list[object]:
    status = as_text(item.get("listOrderStatus")) if isinstance(item, dict) else ""
    if status in LISTS_GONE:
        return []
    legs = item.get("orders") if isinstance(item, dict) else None
    if not isinstance(legs, list) or not legs:
        return [None]
    return [{**leg, "status": status} if isinstance(leg, dict) else None for leg in legs]


def read_worth(data: Any) -> Decimal | None:
    """Read the worth of the spot wallet from `asset/wallet/balance` (§ 9); None if it is not there."""
    wallets = data if isinstance(data, list) else []
    spot = [each for each in wallets if isinstance(each, dict) and each.get("walletName") == "Spot"]
    return as_decimal(spot[0].get("balance")) if len(spot) == 1 else None


def read_price(data: Mapping[str, Any] | Any) -> Decimal | None:
    """Read the price of a `ticker/price` answer."""
    return as_decimal(data.get("price")) if isinstance(data, dict) else None
