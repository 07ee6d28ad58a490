"""The shapes of Kraken derivatives' messages, from the documents' examples (docs/venues/kraken.md §3.4, §4.2, §5.2)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import OMIT, fill

SYMBOLS = ("PF_XBTUSD", "PF_ETHUSD", "PF_SOLUSD", "PI_XBTUSD", "PI_ETHUSD")
FEES = {  # the fee schedule of every contract
    "uid": "eef90775-995b-4596-9257-0917f6134766", "name": "PGTMainFees",
    "tiers": [{"makerFee": 0.02, "takerFee": 0.05, "usdVolume": 0.0}],
}  # fmt: skip
KINDS = ("limit", "post", "stop", "take_profit")
_TYPES = {"limit": "lmt", "market": "mkt"}

_LISTED = {  # openorders; triggers are called `stop` here, and `stp` in events
    "order_id": "{id}", "symbol": "{either_case}", "side": "{side}", "orderType": "{kind}",
    "limitPrice": "{limit_or_none}", "stopPrice": "{stop_or_none}", "unfilledSize": "{left}", "filledSize": "{filled}",
    "triggerSignal": "{signal}", "receivedTime": "{opened}", "lastUpdateTime": "{opened}", "status": "{list_state}",
    "reduceOnly": False, "cliOrdId": "{client_id}",
}  # fmt: skip
_EVENT_ORDER = {
    "orderId": "{id}", "cliOrdId": "{client_or_null}", "type": "{event_kind}", "symbol": "{symbol}", "side": "{side}",
    "quantity": "{qty}", "filled": "{filled}", "limitPrice": "{limit_or_none}", "stopPrice": "{stop_or_none}",
    "reduceOnly": False, "timestamp": "{opened}", "lastUpdateTimestamp": "{updated}",
}  # fmt: skip
_FEED_ORDER = {  # WebSocket v1
    "instrument": "{either_case}", "time": "{opened_ms}", "last_update_time": "{opened_ms}", "qty": "{left}",
    "filled": "{filled}", "limit_price": "{limit}", "stop_price": "{stop}", "type": "{feed_kind}", "order_id": "{id}",
    "cli_ord_id": "{client_id}", "direction": "{direction}", "reduce_only": False, "triggerSignal": "{signal}",
}  # fmt: skip


def iso_ms(at_ns: int) -> str:
    """Format a wall-clock time in milliseconds."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(text: str) -> int:
    """Return the milliseconds of a time that `iso_ms` has formatted."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _values(order: Order) -> Mapping[str, object]:
    is_trigger = order.stop_price is not None
    stop = float(order.stop_price) if order.stop_price is not None else 0.0
    limit = float(order.price)
    is_lower = int(order.id[0], 16) % 2 == 1  # the case differs by endpoint and age (§1)
    kind = _TYPES.get(order.kind, order.kind)
    return {
        "id": order.id, "symbol": order.symbol, "side": order.side, "kind": kind,
        "either_case": order.symbol.lower() if is_lower else order.symbol,
        "event_kind": {"stop": "stp"}.get(kind, kind), "feed_kind": {"lmt": "limit"}.get(kind, kind),
        "limit": limit, "stop": stop, "limit_or_none": OMIT if is_trigger else limit,
        "stop_or_none": stop if is_trigger else OMIT, "signal": "mark" if is_trigger else OMIT,
        "left": float(order.left), "filled": float(order.filled), "qty": float(order.qty),
        "opened": iso_ms(order.created_ns), "updated": iso_ms(order.closed_ns or order.created_ns),
        "opened_ms": order.created_ns // 1_000_000, "direction": int(order.side == "sell"),
        "list_state": "partiallyFilled" if order.filled else "untouched",
        "client_id": order.client_id or OMIT, "client_or_null": order.client_id or None,
    }  # fmt: skip


def listed(order: Order) -> Any:
    """Return an order as openorders lists it."""
    return fill(_LISTED, _values(order))


def event_order(order: Order) -> Any:
    """Return an order as an element of `orderEvents` has it."""
    return fill(_EVENT_ORDER, _values(order))


def order_event(order: Order, kind: str) -> dict[str, object]:
    """Return an element of `orderEvents`; `kind` is PLACE or CANCEL."""
    return {"type": kind, "uid": order.id, "order": event_order(order)}


def order_status(order: Order) -> dict[str, object]:
    """Return an order as orders/status describes it."""
    ended = {"cancelled": "CANCELLED", "filled": "FULLY_EXECUTED"}.get(order.state)
    live = "ENTERED_BOOK" if order.stop_price is None else "TRIGGER_PLACED"
    return {"order": fill(_EVENT_ORDER, _values(order)), "status": ended or live, "updateReason": None, "error": None}


def feed_order(order: Order) -> Any:
    """Return an order as WebSocket v1 has it."""
    return fill(_FEED_ORDER, _values(order))


def feed_news(order: Order, news: str) -> dict[str, object] | None:
    """Return the event of the feed `open_orders`; `is_cancel` means that the order left the book, a fill too."""
    match news:
        case "opened" | "amended":
            reason = "new_placed_order_by_user" if news == "opened" else "edited_by_user"
            shown = {"order": feed_order(order), "is_cancel": False, "reason": reason}
        case "cancelled":
            shown = {"order_id": order.id, "is_cancel": True, "reason": "cancelled_by_user"}
            shown |= {"cli_ord_id": order.client_id} if order.client_id else {}
        case "filled":
            whole = feed_order(order) | {"qty": 0.0}
            shown = {"order": whole, "is_cancel": True, "reason": "full_fill"}
        case _:
            return None
    return {"feed": "open_orders", **shown}


def fill_row(order: Order, number: int) -> dict[str, object]:
    """Return the fill of an order that traded, as the feed `fills` has it; `number` is its `seq`."""
    named = {"cli_ord_id": order.client_id} if order.client_id else {}
    is_market = order.kind == "market"
    return {
        "instrument": order.symbol, "time": order.closed_ns // 1_000_000, "price": float(order.price), "seq": number,
        "buy": order.side == "buy", "qty": float(order.filled), "remaining_order_qty": float(order.left),
        "order_id": order.id, **named, "fill_id": order.id, "fill_type": "taker" if is_market else "maker",
        "fee_paid": 0.0, "fee_currency": "USD", "taker_order_type": "market" if is_market else "limit",
        "order_type": "market" if is_market else "limit",
    }  # fmt: skip


def past_order(account: Account, order: Order, at_ns: int = 0) -> dict[str, object]:
    """Return an order as the history has it; `at_ns` is when it changed, 0 for when it was made (§4.3)."""
    opened_ms, shown = order.created_ns // 1_000_000, {"post": "Post", "market": "Market"}
    return {
        "uid": order.id, "accountUid": account.venue_id, "tradeable": order.symbol, "direction": order.side.title(),
        "quantity": str(order.qty), "filled": str(order.filled), "timestamp": opened_ms,
        "limitPrice": str(order.price), "orderType": shown.get(order.kind, "Limit"), "clientId": order.client_id,
        "reduceOnly": False, "lastUpdateTimestamp": at_ns // 1_000_000 or opened_ms, "spotData": None,
    }  # fmt: skip


def past_trigger(account: Account, order: Order, at_ns: int = 0) -> dict[str, object]:
    """Return a trigger as the history has it (§4.3)."""
    shown = past_order(account, order, at_ns)
    del shown["filled"], shown["spotData"]
    is_above = (order.side == "buy") == (order.kind == "stop")
    options = {
        "triggerPrice": str(order.stop_price), "triggerSignal": "MarkPrice",
        "triggerSide": "Above" if is_above else "Below",
        "trailingStopOptions": {"maxDeviation": "0", "unit": "Percent"},
        "limitPriceOffset": {"priceOffset": "0", "unit": "Percent"},
    }  # fmt: skip
    return shown | {"accountId": int(uuid.UUID(account.venue_id)) % 10**9, "triggerOptions": options}


def past_execution(order: Order, resting: dict[str, object], trade: str, at_ns: int) -> dict[str, object]:
    """Return a trade as the history has it; `resting` is its order as it was before (§4.3)."""
    price, qty = str(order.price), str(order.filled)
    data = {"fee": "0", "positionSize": qty, "feeCalculationInfo": []}
    execution = {
        "uid": trade, "order": resting, "timestamp": at_ns // 1_000_000, "quantity": qty, "price": price,
        "markPrice": price, "executionType": "taker" if order.kind == "market" else "maker", "limitFilled": True,
        "usdValue": str(order.price * order.filled), "orderData": data,
    }  # fmt: skip
    return {"execution": execution, "takerReducedQuantity": ""}


def feed_log(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row of the account log as the feed `account_log` has it: what does not apply is zero or empty."""
    texts = ("collateral", "contract", "execution")
    return {name: ("" if name in texts else 0.0) if value is None else value for name, value in row.items()}


def accounts(account: Account) -> dict[str, object]:
    """Return `accounts` (§9): the flex account holds the money."""
    cash, equity, unrealised = (float(money) for money in (account.cash, account.equity, account.unrealised))
    currency = {"quantity": cash, "value": cash, "collateral": cash, "available": cash}
    flex = {
        "type": "multiCollateralMarginAccount", "currencies": {"USD": currency}, "balanceValue": cash,
        "portfolioValue": equity, "collateralValue": cash, "pnl": unrealised, "unrealizedFunding": 0.0,
        "totalUnrealized": unrealised, "totalUnrealizedAsMargin": unrealised, "initialMargin": 0.0,
        "initialMarginWithOrders": 0.0, "maintenanceMargin": 0.0, "availableMargin": equity, "marginEquity": equity,
    }  # fmt: skip
    return {"cash": {"type": "cashAccount", "balances": {}}, "flex": flex}


def positions(account: Account) -> list[dict[str, object]]:
    """Return the open positions."""
    return [
        {
            "side": "long" if position.qty > 0 else "short", "symbol": position.symbol,
            "price": float(position.entry), "size": float(abs(position.qty)), "unrealizedFunding": 0.0,
        }
        for position in account.positions.values()
    ]  # fmt: skip


def feed_money(account: Account) -> dict[str, object]:
    """Return the flex account, as the feed `balances` has it."""
    cash, equity, unrealised = (float(money) for money in (account.cash, account.equity, account.unrealised))
    currency = dict.fromkeys(("quantity", "value", "collateral_value", "available"), cash)
    zeros = ("initial_margin", "initial_margin_without_orders", "maintenance_margin", "unrealized_funding")
    return {
        "currencies": {"USD": currency | {"haircut": 0.0, "conversion_spread": 0.0}}, "balance_value": cash,
        "portfolio_value": equity, "collateral_value": cash, **dict.fromkeys(zeros, 0.0), "pnl": unrealised,
        "total_unrealized": unrealised, "total_unrealized_as_margin": unrealised, "margin_equity": equity,
        "available_margin": equity,
    }  # fmt: skip


def feed_positions(account: Account) -> list[dict[str, object]]:
    """Return the open positions, as the feed `open_positions` has them; the first has all of the unrealised profit."""
    zeros = (
        "liquidation_threshold", "effective_leverage", "return_on_equity", "unrealized_funding", "initial_margin",
        "initial_margin_with_orders", "maintenance_margin",
    )  # fmt: skip
    return [
        {
            "instrument": held.symbol, "balance": float(held.qty), "pnl": 0.0 if number else float(account.unrealised),
            **dict.fromkeys(("entry_price", "mark_price", "index_price"), float(held.entry)),
            **dict.fromkeys(zeros, 0.0), "pnl_currency": "USD",
        }
        for number, held in enumerate(account.positions.values())
    ]  # fmt: skip


def instruments() -> list[dict[str, object]]:
    """Return the instruments, as far as clients read them."""
    return [
        {
            "symbol": symbol, "type": "flexible_futures" if symbol.startswith("PF_") else "futures_inverse",
            "tradeable": True, "tickSize": 1, "contractSize": 1, "impactMidSize": 1, "maxPositionSize": 1_000_000,
            "contractValueTradePrecision": 4 if symbol.startswith("PF_") else 0, "underlying": f"rr_{symbol[3:]}",
            "openingDate": "2022-01-01T00:00:00.000Z", "base": symbol[3:-3], "quote": "USD", "postOnly": False,
            "marginLevels": [], "category": "", "feeScheduleUid": FEES["uid"],
        }
        for symbol in SYMBOLS
    ]  # fmt: skip
