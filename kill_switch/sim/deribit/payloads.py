"""The shapes of Deribit's messages, and its markets; § numbers are those of docs/venues/deribit.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

from kill_switch.sim.deribit.rpc import Call
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import OMIT, fill

_ID = re.compile(r"(?:(?:ETH|USDC|USDT)-)?(?:(?:SL|TP|TS)[A-Z]{2}-)?[1-9]\d{0,17}", re.ASCII)
_FAR_MS = 32_503_708_800_000
_EXPIRY_MS = 1_830_240_000_000  # 31 December 2027, 08:00 UTC
CURRENCIES = {"BTC": "Bitcoin", "ETH": "Ethereum", "USDC": "USD Coin", "USDT": "Tether USD"}
INDEXES = {"btc_usd": 60_000.0, "eth_usd": 3_000.0, "usdc_usd": 1.0, "usdt_usd": 1.0, "sol_usdc": 150.0}
TRIGGERS = {  # a trigger's type → the letters in its id, and the type of the order that it becomes
    "stop_market": ("SLMB", "market"), "stop_limit": ("SLIS", "limit"), "take_market": ("TPMB", "market"),
    "take_limit": ("TPIS", "limit"), "trailing_stop": ("TSMB", "market"),
}  # fmt: skip
KINDS = {  # kinds of the admin API → types
    "limit": "limit", "stop": "stop_market", "stop_limit": "stop_limit", "take": "take_limit",
    "trailing_stop": "trailing_stop", "quote": "limit",
}  # fmt: skip
MARKET_KINDS = ("any", "future", "option", "spot", "future_combo", "option_combo", "combo")
UNCOVERED = ("rfq", "starbase", "liquidation")  # kinds that a cancel_all does not reach (§3.1, §3.3)


class Instrument(NamedTuple):
    """A market; cancels and order ids have its `currency`."""

    name: str
    kind: str
    currency: str
    base: str
    counter: str


INSTRUMENTS = {
    row[0]: Instrument(*row)
    for row in (
        ("BTC-PERPETUAL", "future", "BTC", "BTC", "USD"),
        ("ETH-PERPETUAL", "future", "ETH", "ETH", "USD"),
        ("BTC_USDC-PERPETUAL", "future", "USDC", "BTC", "USDC"),
        ("SOL_USDC-PERPETUAL", "future", "USDC", "SOL", "USDC"),
        ("BTC-31DEC27", "future", "BTC", "BTC", "USD"),
        ("BTC-31DEC27-90000-P", "option", "BTC", "BTC", "USD"),
        ("ETH-31DEC27-4000-C", "option", "ETH", "ETH", "USD"),
        ("SOL_USDC-31DEC27-200-C", "option", "USDC", "SOL", "USDC"),
        ("BTC_USDC", "spot", "USDC", "BTC", "USDC"),
        ("ETH_USDT", "spot", "USDT", "ETH", "USDT"),
        ("BTC-FS-31DEC27_PERP", "future_combo", "BTC", "BTC", "USD"),
        ("ETH-CS-31DEC27-4000_5000", "option_combo", "ETH", "ETH", "USD"),
    )
}


@dataclass(slots=True)
class DeribitOrder(Order):
    """An order as Deribit knows it; `type` is the type that its messages have."""

    type: str = "limit"
    reason: str = ""  # why it was cancelled
    session: str = ""  # id of the WebSocket that placed it, for cancel-on-disconnect (§6)
    parent: str = ""  # id of the trigger that became this order
    child: str = ""  # id of the order that this trigger became
    primary: str = ""  # id of the primary of which it is a secondary (§3.2)
    group: str = ""  # id that one-cancels-other legs share
    dormant: bool = False  # whether it is a secondary whose primary is not filled yet
    reduce_only: bool = False
    post_only: bool = False
    quote_set: str = ""
    trail: Decimal | None = None
    replaced: bool = False  # whether it was edited

    @property
    def is_trigger(self) -> bool:
        """Return whether it waits for a price."""
        return self.type in TRIGGERS

    def is_reached(self, price: Decimal) -> bool:
        """Return whether the price has reached a trigger that is awake."""
        if not self.is_trigger or self.dormant or self.stop_price is None:
            return False
        return price <= self.stop_price if falls(self.side, self.type) else price >= self.stop_price

    @property
    def waits(self) -> bool:
        """Return whether it is in no book of the matching engine: a trigger, or a secondary."""
        return self.is_trigger or self.dormant


_ORDER = {
    "order_id": "{id}", "order_state": "{state}", "order_type": "{type}", "instrument_name": "{symbol}",
    "direction": "{side}", "price": "{price}", "amount": "{amount}", "filled_amount": "{filled}",
    "average_price": "{average}", "label": "{label}", "time_in_force": "{tif}", "post_only": "{post}",
    "reduce_only": "{reduce}", "is_liquidation": "{liquidation}", "is_rebalance": False, "api": True, "web": False,
    "replaced": "{replaced}", "max_show": "{amount}", "cancel_reason": "{reason}", "creation_timestamp": "{opened}",
    "last_update_timestamp": "{updated}", "trigger": "{trigger}", "trigger_price": "{trigger_price}",
    "trigger_offset": "{trail}", "triggered": "{triggered}", "trigger_order_id": "{parent}", "quote": "{quote}",
    "quote_set_id": "{quote_set}", "mmp_group": "{mmp}", "oco_ref": "{group}", "is_secondary_oto": "{secondary}",
}  # fmt: skip


def is_order_id(text: str) -> bool:
    """Return whether a text is an order id (§1)."""
    return _ID.fullmatch(text) is not None


def order_id(instrument: str, number: int, kind: str) -> str:
    """Return the id of an order, or of a trigger; an id of the currency BTC has no name in front (§1)."""
    currency = INSTRUMENTS[instrument].currency
    letters = TRIGGERS[kind][0] if kind in TRIGGERS else ""
    return "-".join(part for part in ("" if currency == "BTC" else currency, letters, str(number)) if part)


def order_row(order: Order, state: str = "") -> dict[str, Any]:
    """Return an order as lists, answers and events have it; a trigger has no amount filled and no average (§4)."""
    assert isinstance(order, DeribitOrder)  # noqa: S101 - for the type checker
    shown, waits, is_quote = state or order.state, order.is_trigger, order.kind == "quote"
    is_market = order.type in ("market", "stop_market", "take_market", "trailing_stop")
    filled = fill(_ORDER, {
        "id": order.id, "state": shown, "type": order.type, "symbol": order.symbol, "side": order.side,
        "price": "market_price" if is_market else float(order.price), "amount": float(order.qty),
        "filled": OMIT if waits else float(order.filled),
        "average": OMIT if waits else float(order.price if order.filled else 0), "label": order.client_id,
        "replaced": order.replaced,
        "tif": "good_til_cancelled" if order.tif == "gtc" else order.tif, "post": order.post_only,
        "reduce": order.reduce_only, "liquidation": order.kind == "liquidation",
        "reason": (order.reason or "user_request") if shown == "cancelled" else OMIT,
        "opened": order.created_ns // 1_000_000, "updated": (order.closed_ns or order.created_ns) // 1_000_000,
        "trigger": "mark_price" if waits else OMIT,
        "trigger_price": float(order.stop_price) if waits and order.stop_price is not None else OMIT,
        "trail": OMIT if order.trail is None else float(order.trail),
        "triggered": shown == "triggered" if waits else OMIT, "parent": order.parent or OMIT,
        "quote": True if is_quote else OMIT, "quote_set": order.quote_set if is_quote else OMIT,
        "mmp": "default" if is_quote else OMIT, "group": order.group or OMIT,
        "secondary": True if order.primary else OMIT,
    })  # fmt: skip
    return dict(filled)


def cancelled(order: Order) -> dict[str, Any]:
    """Return an order as the answers of cancels have it: a trigger is called `untriggered` (§3.1)."""
    return order_row(order, "untriggered" if isinstance(order, DeribitOrder) and order.waits else "cancelled")


def book_of(order: Order) -> tuple[str, str, str]:
    """Return the currency, the type and the market by which a detailed answer is divided."""
    is_waiting = isinstance(order, DeribitOrder) and order.waits
    return INSTRUMENTS[order.symbol].currency, "trigger" if is_waiting else "limit", order.symbol


def reports(orders: Iterable[Order]) -> list[dict[str, Any]]:
    """Return the positive reports of a detailed cancel: one for each currency, type and book (§3.1)."""
    return [
        {"currency": currency, "type": kind, "instrument_name": name, "result": [cancelled(order) for order in group]}
        for (currency, kind, name), group in groupby(sorted(orders, key=book_of), book_of)
    ]


def settlement(name: str) -> str:
    """Return the currency in which a market settles: that of linear markets is behind the underscore."""
    first = name.partition("-")[0]
    return first.rpartition("_")[2]


def trade(order: Order) -> dict[str, Any]:
    """Return the fill of an order."""
    is_maker = getattr(order, "type", "limit") != "market"
    return {
        "trade_seq": order.closed_ns // 1_000, "matching_id": None, "tick_direction": 0, "api": True, "mmp": False,
        "index_price": float(order.price), "mark_price": float(order.price), "risk_reducing": False,
        "fee_currency": settlement(order.symbol), "liquidity": "M" if is_maker else "T", "profit_loss": 0.0,
        "post_only": getattr(order, "post_only", False), "reduce_only": getattr(order, "reduce_only", False),
        "trade_id": f"T-{order.id}", "order_id": order.id, "instrument_name": order.symbol, "direction": order.side,
        "amount": float(order.filled), "price": float(order.price), "state": order.state,
        "timestamp": (order.closed_ns or order.created_ns) // 1_000_000, "label": order.client_id, "fee": 0.0,
        "order_type": getattr(order, "type", "limit"),
    }  # fmt: skip


def rfq_quote(order: Order) -> dict[str, Any]:
    """Return a quote of a Block RFQ; the number in its id is the RFQ's (§3.3)."""
    return {
        "block_rfq_quote_id": rfq_number(order), "block_rfq_id": rfq_number(order), "quote_state": order.state,
        "direction": order.side, "amount": float(order.qty), "price": float(order.price), "label": order.client_id,
        "legs": [{"instrument_name": order.symbol, "direction": order.side, "ratio": 1, "price": float(order.price)}],
        "creation_timestamp": order.created_ns // 1_000_000,
    }  # fmt: skip


def rfq_number(order: Order) -> int:
    """Return the number in an order's id."""
    return int(order.id.rpartition("-")[2])


def position(held: Any) -> dict[str, Any]:
    """Return a position."""
    return {
        "instrument_name": held.symbol, "kind": INSTRUMENTS[held.symbol].kind, "size": float(held.qty),
        "direction": "buy" if held.qty > 0 else "sell", "average_price": float(held.entry),
        "floating_profit_loss": 0.0, "total_profit_loss": 0.0, "initial_margin": 0.0, "maintenance_margin": 0.0,
    }  # fmt: skip


def summaries(account: Account, *, cross: bool) -> dict[str, dict[str, Any]]:
    """Return the money by currency (§9): 30 % of it in BTC, 70 % in USDC."""
    share = {"BTC": Decimal("0.000005"), "USDC": Decimal("0.7")}  # of the equity; one BTC is worth 60,000
    shown = {}
    for currency in CURRENCIES:
        equity = account.equity * share.get(currency, 0)
        upl = account.unrealised if currency == "USDC" else Decimal(0)
        shown[currency] = {
            "currency": currency, "equity": float(equity), "balance": float(equity - upl), "session_upl": float(upl),
            "session_rpl": 0.0, "total_pl": float(upl), "futures_pl": float(upl), "options_pl": 0.0,
            "margin_balance": float(equity), "available_funds": float(equity),
            "available_withdrawal_funds": float(equity), "initial_margin": 0.0,
            "maintenance_margin": 0.0, "cross_collateral_enabled": cross,
            "margin_model": "cross_sm" if cross else "segregated_sm",
        }  # fmt: skip
        if cross:
            shown[currency] |= {"total_equity_usd": float(account.equity)}
            shown[currency] |= {"total_margin_balance_usd": float(account.equity)}
    return shown


def instrument(row: Instrument) -> dict[str, Any]:
    """Return a market, as far as clients read it."""
    is_perpetual, is_option = row.name.endswith("PERPETUAL"), row.kind == "option"
    shown: dict[str, Any] = {
        "instrument_name": row.name, "kind": row.kind, "base_currency": row.base, "quote_currency": row.counter,
        "counter_currency": row.counter, "settlement_currency": row.currency, "tick_size": 0.5, "is_active": True,
        "min_trade_amount": 0.1 if is_option else 0.0001 if row.counter != "USD" else 10.0, "contract_size": 1.0,
        "expiration_timestamp": _FAR_MS if is_perpetual or row.kind == "spot" else _EXPIRY_MS,
        "creation_timestamp": 1_534_242_287_000, "maker_commission": 0.0, "taker_commission": 0.0005,
        "settlement_period": "perpetual" if is_perpetual else "month",
    }  # fmt: skip
    if is_option:
        *_, strike, letter = row.name.split("-")
        shown |= {"strike": float(strike), "option_type": "call" if letter == "C" else "put"}
    return shown


def market(call: Call) -> str | None:
    """Return the market that a call names; None if it names none. Raises `Refused`."""
    return call.choice("instrument_name", *INSTRUMENTS)


def currency(call: Call, *words: str) -> str | None:
    """Return the currency that a call names, or one of `words`; None if it names none. Raises `Refused`."""
    return call.choice("currency", *CURRENCIES, *words)


def is_of(name: str, kind: str | None, currency: str | None) -> bool:
    """Return whether a market is of a kind and a currency; `any` and None are all, `combo` is both combos."""
    row = INSTRUMENTS[name]
    fits = kind in (None, "any", row.kind) or (kind == "combo" and row.kind.endswith("_combo"))
    return fits and (currency in (None, "any") or row.currency == str(currency).upper())


def falls(side: str, order_type: str) -> bool:
    """Return whether a trigger waits for a price that falls."""
    return (side == "sell") is not order_type.startswith("take")


def of_type(order: Order, wanted: str | None) -> bool:
    """Return whether an order is of a type, in the words of cancels and of lists (§3.2, §4)."""
    kind = order.type if isinstance(order, DeribitOrder) else ""
    waits = isinstance(order, DeribitOrder) and order.waits
    match wanted:
        case None | "all":
            return True
        case "limit":
            return not waits
        case "trigger_all":
            return waits
        case "trailing_stop" | "trailing_all":
            return kind == "trailing_stop"
        case "stop" | "stop_all" | "take" | "take_all":
            return kind.startswith(wanted.removesuffix("_all") + "_")
    return kind == wanted


def matches(channel: Sequence[str], order: Order) -> bool:
    """Return whether an order belongs to the middle of a channel's name: a market, or a kind and a currency (§5)."""
    if len(channel) == 1:
        return channel[0] == order.symbol
    return is_of(order.symbol, channel[0], channel[1])
