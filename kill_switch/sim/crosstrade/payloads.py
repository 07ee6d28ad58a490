"""The shapes of CrossTrade's messages; § numbers are those of docs/venues/crosstrade.md.

The calls and events of the simulator use them. Nothing here changes the book.
"""

from __future__ import annotations

from datetime import UTC, datetime

from kill_switch.sim.kit.book import ZERO, Account, Order, Position

# by HTTP status; a code that is a sentence stands alone, in the old envelope (§2)
ERRORS = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    408: "addon_disconnected",
    429: "Rate limit exceeded",
    503: "service_unavailable",
    0: "refused",
}
TEXTS = {
    "invalid_request": "Invalid request",
    "unauthorized": "Invalid or missing bearer token",
    "not_found": "No such endpoint",
    "addon_disconnected": "The XT add-on is not connected",
    "service_unavailable": "Service unavailable",
}
TYPES = {"limit": "Limit", "stop": "StopMarket", "market": "Market"}


def order_item(order: Order, shown_id: str) -> dict[str, object]:
    """Return an order (§5, GetOrder)."""
    return {
        "account": order.category,
        "orderId": shown_id,
        "instrument": order.symbol,
        "instrumentType": "Future",
        "orderType": TYPES[order.kind],
        "orderAction": "Buy" if order.side == "buy" else "Sell",
        "orderState": order.state,
        "quantity": int(order.qty),
        "filled": int(order.filled),
        "averageFillPrice": float(order.price) if order.filled else 0.0,
        "limitPrice": float(order.price),
        "limitPriceChanged": float(order.price),
        "stopPrice": float(order.stop_price or 0),
        "gtd": "2099-12-01T00:00:00",
        "fromEntrySignal": "",
        "hasOverfill": False,
        "isBacktestOrder": False,
    }


def position_item(held: Position, account: str, pnl: float) -> dict[str, object]:
    """Return a position (§5)."""
    return {
        "type": "NinjaTrader.Cbi.Position",
        "account": account,
        "instrument": held.symbol,
        "instrumentType": "Future",
        "marketPosition": "Long" if held.qty > 0 else "Short",
        "quantity": int(abs(held.qty)) if held.qty == int(held.qty) else float(abs(held.qty)),
        "averagePrice": float(held.entry),
        "marketPrice": float(held.entry),
        "unrealizedProfitLoss": pnl,
    }


def account_item(account: Account, name: str, status: str, *, first: bool) -> dict[str, object]:
    """Return an NT account (§5, ListAccounts)."""
    equity, unrealised = (account.equity, account.unrealised) if first else (ZERO, ZERO)
    item = {
        "buyingPower": float(equity),
        "cashValue": float(equity - unrealised),
        "grossRealizedProfitLoss": 0.0,
        "realizedProfitLoss": 0.0,
        "unrealizedProfitLoss": float(unrealised),
        "netLiquidation": float(equity),
    }
    return {
        "id": f"{account.venue_id}-{name}",
        "name": name,
        "displayName": name,
        "provider": "Simulator",
        "denomination": "UsDollar",
        "status": "Enabled",
        "connectionStatus": status,
        "isAccountFlat": not positions(account, name),
        "item": item,
    }


def summary(account: Account, name: str, status: str, *, first: bool) -> dict[str, object]:
    """Return an element of the snapshot (§5)."""
    pnl = float(account.unrealised)
    held = positions(account, name)
    items = [
        position_item(position, name, pnl if first and number == 0 else 0.0) for number, position in enumerate(held)
    ]
    return {"account": account_item(account, name, status, first=first), "positions": items}


def positions(account: Account, name: str) -> list[Position]:
    """Return the positions of an NT account."""
    return [position for position in account.positions.values() if position.category == name]


def snapshot(accounts: list[dict[str, object]], now_s: float) -> dict[str, object]:
    """Return the snapshot (§5), which has no `success`."""
    stamp = datetime.fromtimestamp(now_s, UTC).isoformat()
    return {"type": "snapshot", "timestamp": stamp, "epoch": int(now_s * 1000), "accounts": accounts}
