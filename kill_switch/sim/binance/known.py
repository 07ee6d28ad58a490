"""The parameters that Binance's cancels and lists of orders have: any other one is refused with -1104.

`BinanceRequests` and the REST of each venue use it (docs/venues/binance.md §3, §8). Other calls take any parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kill_switch.sim.binance.errors import refusal

_ALWAYS = frozenset({"recvWindow", "timestamp", "signature"})
_MARGIN = "symbol isIsolated"
SPOT: Mapping[str, str] = {  # by operation
    "cancel-all": "symbol",
    "cancel": "symbol orderId origClientOrderId newClientOrderId cancelRestrictions",
    "cancel-list": "symbol orderListId listClientOrderId newClientOrderId",
    "orders": "symbol",
    "lists": "",
    "order": "symbol orderId origClientOrderId",
    "margin-orders": _MARGIN,
    "cancel-margin-all": _MARGIN,
    "cancel-margin": f"{_MARGIN} orderId origClientOrderId newClientOrderId",
}
FUTURES: Mapping[str, str] = {
    "cancel-all": "symbol",
    "cancel-algo-all": "symbol",
    "cancel": "symbol orderId origClientOrderId",
    "cancel-algo": "symbol algoId clientAlgoId",  # ccxt sends the symbol too
    # ccxt writes the first in lower case
    "cancel-batch": "symbol orderIdList orderidlist origClientOrderIdList origclientorderidlist",
    "dead-man": "symbol countdownTime",
    "orders": "symbol pair",
    "algo-orders": "symbol algoType algoId",
    "order": "symbol orderId origClientOrderId",
    "algo-order": "symbol algoId clientAlgoId",
}


def check_known(table: Mapping[str, str], operation: str, sent: Collection[str], *extras: str) -> None:
    """Refuse parameters that an operation does not have; `extras` are those of its transport. Raises `Refused`."""
    known = table.get(operation)
    if known is None:
        return
    read = set(sent) & (_ALWAYS | {*known.split(), *extras})
    if len(read) < len(set(sent)):
        text = f"Not all sent parameters were read; read '{len(read)}' parameter(s) but was sent '{len(set(sent))}'."
        raise refusal("-1104", text)
