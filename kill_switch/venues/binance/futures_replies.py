"""Read the orders, pushes and figures of Binance's futures (docs/venues/binance.md § 3, § 4, § 5, § 9).

Conditional orders have ids of their own: in the book they begin with `algo:`. The adapters use these functions; they
send nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kill_switch.core.domain import Order, OrderState
from kill_switch.venues.decode import as_decimal, as_text
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.replies import Reply, ReplyOutcome

ALGO = "algo:"  # before the id of a conditional order
GONE = frozenset({"FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"})  # § 4; other words are alive
# TRIGGERING and TRIGGERED are alive: TRIGGERED becomes FINISHED when the order that it has become ends
ALGO_GONE = frozenset({"FINISHED", "CANCELED", "REJECTED", "EXPIRED"})
# ends that are no cancels, in the words that the count of a kill knows
ENDS = {"EXPIRED_IN_MATCH": "EXPIRED", "FINISHED": "CLOSED"}
# texts of 503 answers by which nothing was executed (§ 8); "Unknown error, …" may have been
NOT_EXECUTED = frozenset({"Service Unavailable.", "Internal error; unable to process your request. Please try again."})
MAX_SYMBOL = 60  # characters; some are not ASCII
PORTFOLIO_MARGIN = "portfolio margin"  # words of a refusal, in lower case and with spaces
IS_PORTFOLIO_MARGIN = "a portfolio-margin account: its futures orders cannot be reached over fapi and dapi"


# ── cancels ───────────────────────────────────────────────────────────────────────────────────────────────────────


def judge_cancel(symbol: str, reply: Reply) -> CancelResult:
    """Judge `allOpenOrders` and `algoOpenOrders`: only code 200 says that the symbol was searched (§ 3.3, § 3.4).

    That there is no such order is an answer too, and proves as little.
    """
    if not reply.ok:
        return CancelResult(reply._replace(evidence=f"{symbol}: {reply.evidence}"))
    if isinstance(reply.data, dict) and as_text(reply.data.get("code")) == "200":
        return CancelResult(reply)
    words = f"{symbol}: accepted, without code 200"
    return CancelResult(reply._replace(outcome=ReplyOutcome.UNKNOWN, evidence=words))


def refused_as_portfolio_margin(reply: Reply) -> Reply:
    """Return a refusal in words that say what to do, if it is about portfolio margin: only an operator can help."""
    words = reply.evidence.lower().replace("-", " ")
    if reply.outcome is not ReplyOutcome.REFUSED or PORTFOLIO_MARGIN not in words:
        return reply
    return reply._replace(evidence=f"{IS_PORTFOLIO_MARGIN}: {reply.evidence}", key_refused=True, not_found=False)


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_order(item: object) -> Order | None:
    """Read an order of a list or of a look-up; an unknown status is alive."""
    if not isinstance(item, dict):
        return None
    symbol = _symbol(item.get("symbol"))
    if "algoId" in item or "algoStatus" in item:
        return _order(ALGO, item.get("algoId"), symbol, as_text(item.get("algoStatus")), ALGO_GONE)
    return _order("", item.get("orderId"), symbol, as_text(item.get("status")), GONE)


def read_trade_update(message: Mapping[str, Any]) -> tuple[Order | None, bool]:
    """Read the order of ORDER_TRADE_UPDATE, and whether the message states that it was placed."""
    item = _object(message.get("o"))
    order = _order("", item.get("i"), _symbol(item.get("s")), as_text(item.get("X")), GONE)
    return order, item.get("x") == "NEW"


def read_algo_update(message: Mapping[str, Any]) -> tuple[Order | None, Order | None]:
    """Read the conditional order of ALGO_UPDATE, and the order that it has become, which lives on (§ 3.4)."""
    item = _object(message.get("o"))
    symbol, status = _symbol(item.get("s")), as_text(item.get("X"))
    order = _order(ALGO, item.get("aid"), symbol, status, ALGO_GONE)
    return _follow(order, item.get("ai"), symbol, status)


def read_triggered(item: object, order: Order | None) -> tuple[Order | None, Order | None]:
    """Read, of a look-up whose order is `order`, the order that a triggered conditional order has become."""
    fields = _object(item)
    return _follow(order, fields.get("actualOrderId"), _symbol(fields.get("symbol")), as_text(fields.get("algoStatus")))


def _follow(order: Order | None, actual: object, symbol: str, status: str) -> tuple[Order | None, Order | None]:
    """Return a conditional order, and the order that has replaced it; a replaced order is gone without a cancel."""
    actual_id = _id(actual)
    if order is None or status != "TRIGGERED" or not actual_id:
        return order, None
    return order._replace(state=OrderState.GONE, status="CLOSED"), Order(actual_id, symbol, OrderState.LIVE, status)


def _order(prefix: str, order_id: object, symbol: str, status: str, gone: frozenset[str]) -> Order | None:
    text, is_gone = _id(order_id), status in gone
    if not text and not is_gone:
        return None
    state = OrderState.GONE if is_gone else OrderState.LIVE
    return Order(prefix + text if text else "", symbol, state, ENDS.get(status, status))


def _symbol(value: object) -> str:
    """Return a symbol; "" for a text that no request could name."""
    text = as_text(value)
    return text if len(text) <= MAX_SYMBOL and text.isprintable() else ""


def _id(value: object) -> str:
    """Return an id as its digits; "" for any other value, a float too: it may have lost digits (§ 4)."""
    text = "" if isinstance(value, float) else as_text(value)
    return text if text.isascii() and text.isdigit() and int(text[:40]) else ""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# ── figures ───────────────────────────────────────────────────────────────────────────────────────────────────────


def read_wallets(data: Any) -> Mapping[str, Decimal] | None:
    """Read the balance of each asset's wallet, which open results do not change; None if one cannot be read (§ 9)."""
    wallets: dict[str, Decimal] = {}
    for item in data["assets"]:
        asset, amount = as_text(item.get("asset")), as_decimal(item.get("walletBalance"))
        if amount is None:
            return None
        wallets[asset] = amount
    return {asset: amount for asset, amount in wallets.items() if amount}


def read_equity(data: Any) -> Mapping[str, Decimal] | str:
    """Read the margin balance of each asset, in its own units: its balance and the open result (§ 9)."""
    assets = data.get("assets") if isinstance(data, dict) else None
    if not isinstance(assets, list):
        return "no assets in the answer"
    amounts: dict[str, Decimal] = {}
    for item in assets:
        fields = _object(item)
        asset, amount = as_text(fields.get("asset")), as_decimal(fields.get("marginBalance"))
        if not asset or amount is None:
            return "an asset without a marginBalance"
        amounts[asset] = amount
    return amounts
