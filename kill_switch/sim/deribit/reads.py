"""Deribit's methods that read (docs/venues/deribit.md §4, §9)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.grants import is_short_number
from kill_switch.sim.deribit.payloads import DeribitOrder
from kill_switch.sim.deribit.rpc import Call, Method, invalid
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.tables import Refused

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

_TYPES = (
    "all", "limit", "trigger_all", "stop_all", "stop_limit", "stop_market", "take_all", "take_limit", "take_market",
    "trailing_all", "trailing_stop",
)  # fmt: skip


class ReadCalls:
    """The methods that read."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue

    def methods(self) -> dict[str, Method]:
        """Return the methods; all but the list of markets draw on the same credits (§7)."""
        money = Method("read", "summaries", self.summary, "currency! extended", "account:read")
        listed = Method("read", "orders", self.open_orders, "kind type", "trade:read")
        fact = Method("other", "fact", lambda call: self._venue.now_ns() // 1_000_000)
        history = "currency! instrument_name count continuation"
        log = "currency! start_timestamp! end_timestamp! query count continuation"
        return {
            "private/get_open_orders": listed,
            "private/get_open_orders_by_currency": listed._replace(params="currency! kind type"),
            "private/get_open_orders_by_instrument": listed._replace(params="instrument_name! type"),
            "private/get_open_orders_by_label": listed._replace(params="currency! label"),
            "private/get_order_state": Method("read", "order", self.order_state, "order_id!", "trade:read"),
            "private/get_trigger_order_history": Method(
                "read", "trigger-history", self.trigger_history, history, "trade:read"
            ),
            "private/get_block_rfq_quotes": Method(
                "read", "rfq-quotes", self.rfq_quotes, "block_rfq_id", "block_rfq:read"
            ),
            "private/get_positions": Method("read", "positions", self.positions, "currency kind", "trade:read"),
            "private/get_position": Method("other", "position", self.position, "instrument_name!", "trade:read"),
            **{
                f"private/get_order_history_by_{key}": Method(
                    "other",
                    "past-orders",
                    self.past_orders,
                    f"{name} kind count offset include_old include_unfilled",
                    "trade:read",
                )
                for key, name in (("currency", "currency!"), ("instrument", "instrument_name!"))
            },
            **{
                f"private/get_user_trades_by_{key}": Method(
                    "other",
                    "trades",
                    self.trades,
                    f"{name} kind count start_id end_id start_timestamp end_timestamp sorting historical include_old",
                    "trade:read",
                )
                for key, name in (("currency", "currency!"), ("instrument", "instrument_name!"))
            },
            "private/get_user_trades_by_order": Method(
                "other", "trades", self.trades_of_order, "order_id! sorting historical", "trade:read"
            ),
            "private/get_account_summary": money,
            "private/get_account_summaries": money._replace(handler=self.summaries, params="extended"),
            "private/get_subaccounts": money._replace(
                operation="subaccounts", handler=self.subaccounts, params="with_portfolio"
            ),
            "private/get_transaction_log": Method("read", "log", self.transactions, log, "account:read"),
            "public/get_time": fact._replace(operation="time"),
            "public/status": fact._replace(operation="status", handler=self.status),
            "public/get_currencies": fact._replace(operation="currencies", handler=self.currencies),
            "public/get_instruments": Method(
                "other", "instruments", self.instruments, "currency kind expired", pool="instruments"
            ),
            "public/get_index_price": fact._replace(operation="index", handler=self.index_price, params="index_name!"),
            "public/get_instrument": fact._replace(
                operation="instrument", handler=self.instrument, params="instrument_name!"
            ),
            "public/get_order_book": fact._replace(
                operation="book", handler=self.order_book, params="instrument_name! depth"
            ),
            "public/ticker": fact._replace(operation="ticker", handler=self.ticker, params="instrument_name!"),
        }

    def open_orders(self, call: Call) -> object:
        """Answer get_open_orders and the three narrower lists: triggers included, one page (§4)."""
        kind, currency, name = call.choice("kind", *wire.MARKET_KINDS), wire.currency(call), wire.market(call)
        wanted, label = call.choice("type", *_TYPES), call.params.get("label")
        return [
            wire.order_row(order)
            for order in self._venue.listed(call.account, "orders")
            if self._venue.desk.is_listed(order)
            and wire.is_of(order.symbol, kind, currency)
            and name in (None, order.symbol)
            and label in (None, order.client_id)
            and wire.of_type(order, wanted)
        ]

    def order_state(self, call: Call) -> object:
        """Answer get_order_state, of open and of ended orders."""
        account, order_id = call.account, call.params["order_id"]
        order = account.open.get(order_id) or account.closed.get(order_id)
        if order is None or not self._venue.desk.is_reached(order):
            raise Refused("10004", 400)
        return wire.order_row(order)

    def trigger_history(self, call: Call) -> object:
        """Answer get_trigger_order_history: what became of triggers, the latest first (§4)."""
        account, currency, name = call.account, wire.currency(call, "any"), wire.market(call)
        entries = [
            {
                "trigger_order_id": order.id, "order_id": order.child or order.id, "order_type": order.type,
                "order_state": self._state(account, order), "request": "trigger:order" if order.child else "cancel",
                "instrument_name": order.symbol, "direction": order.side, "amount": float(order.qty),
                "timestamp": order.closed_ns // 1_000_000, "label": order.client_id, "trigger": "mark_price",
            }
            for order in reversed(account.closed.values())
            if isinstance(order, DeribitOrder) and order.is_trigger and name in (None, order.symbol)
            and wire.is_of(order.symbol, None, currency)
        ]  # fmt: skip
        return _page(call, "entries", entries, most=1000)

    def _state(self, account: Account, order: DeribitOrder) -> str:
        child = account.open.get(order.child) or account.closed.get(order.child)
        return order.state if child is None else {"open": "new"}.get(child.state, child.state)

    def rfq_quotes(self, call: Call) -> object:
        """Answer get_block_rfq_quotes: the open ones."""
        return [
            wire.rfq_quote(order)
            for order in self._venue.desk.rfq_quotes(call.account, call.params.get("block_rfq_id"))
        ]

    def positions(self, call: Call) -> object:
        """Answer get_positions."""
        kind, currency = call.choice("kind", *wire.MARKET_KINDS), wire.currency(call, "any")
        held = call.account.positions.values()
        return [wire.position(each) for each in held if wire.is_of(each.symbol, kind, currency)]

    def position(self, call: Call) -> object:
        """Answer get_position; a market without a position has a size of 0."""
        name = str(wire.market(call))
        held = call.account.positions.get(name)
        empty = {"instrument_name": name, "kind": "future", "direction": "zero", "size": 0.0, "average_price": 0.0}
        return empty if held is None else wire.position(held)

    def past_orders(self, call: Call) -> object:
        """Answer get_order_history: ended orders, the latest first; those that traded, unless all are asked for."""
        kind, currency, name = call.choice("kind", *wire.MARKET_KINDS), wire.currency(call, "any"), wire.market(call)
        count, offset = call.params.get("count", 20), call.params.get("offset", 0)
        unfilled = call.params.get("include_unfilled", False)
        ended = [
            order
            for order in reversed(call.account.closed.values())
            if wire.is_of(order.symbol, kind, currency) and name in (None, order.symbol) and (unfilled or order.filled)
        ]
        return [wire.order_row(order) for order in ended[offset : offset + count]]

    def trades(self, call: Call) -> object:
        """Answer get_user_trades_by_currency and the narrower one: a row for each order that traded."""
        rows = self._trades(call)
        return {"trades": rows[: call.params.get("count", 10)], "has_more": False}

    def trades_of_order(self, call: Call) -> object:
        """Answer get_user_trades_by_order, which is a bare list."""
        return [row for row in self._trades(call) if row["order_id"] == call.params["order_id"]]

    def _trades(self, call: Call) -> list[dict[str, Any]]:
        kind, currency, name = call.choice("kind", *wire.MARKET_KINDS), wire.currency(call, "any"), wire.market(call)
        known = [*call.account.closed.values(), *call.account.open.values()]
        return [
            wire.trade(order)
            for order in known
            if order.filled and wire.is_of(order.symbol, kind, currency) and name in (None, order.symbol)
        ]

    def summary(self, call: Call) -> object:
        """Answer get_account_summary, of one currency."""
        return self._summaries(call)[str(call.choice("currency", *wire.CURRENCIES))]

    def summaries(self, call: Call) -> object:
        """Answer get_account_summaries."""
        name = call.account.name
        return {"id": int(call.account.venue_id), "username": name, "type": "main",
                "summaries": list(self._summaries(call).values())}  # fmt: skip

    def _summaries(self, call: Call) -> dict[str, dict[str, Any]]:
        shown = wire.summaries(call.account, cross=self._venue.options.cross_collateral)
        limits = self._venue.pooled.row()
        return {name: row | ({"limits": limits} if call.params.get("extended") else {}) for name, row in shown.items()}

    def subaccounts(self, call: Call) -> object:
        """Answer get_subaccounts: the account itself."""
        account = call.account
        shown: dict[str, object] = {"id": int(account.venue_id), "username": account.name, "type": "main"}
        if call.params.get("with_portfolio"):
            money = wire.summaries(account, cross=self._venue.options.cross_collateral)
            shown["portfolio"] = {name.lower(): row for name, row in money.items()}
        return [shown]

    def transactions(self, call: Call) -> object:
        """Answer get_transaction_log, the latest first (§9)."""
        currency, begin, end = wire.currency(call, "any"), call.params["start_timestamp"], call.params["end_timestamp"]
        rows = [
            row
            for row in reversed(self._venue.ledger[call.account.name])
            if currency in ("any", row["currency"]) and begin <= row["timestamp"] <= end
        ]
        return _page(call, "logs", rows, most=250)

    def currencies(self, call: Call) -> object:
        """Answer get_currencies."""
        return [
            {"currency": name, "currency_long": says, "coin_type": name, "fee_precision": 8, "min_confirmations": 1,
             "min_withdrawal_fee": 0.0001, "withdrawal_fee": 0.0001, "withdrawal_priorities": []}
            for name, says in wire.CURRENCIES.items()
        ]  # fmt: skip

    def instruments(self, call: Call) -> object:
        """Answer get_instruments; none has expired."""
        kind, currency = call.choice("kind", *wire.MARKET_KINDS), wire.currency(call, "any")
        rows = () if call.params.get("expired") else wire.INSTRUMENTS.values()
        return [wire.instrument(row) for row in rows if wire.is_of(row.name, kind, currency)]

    def index_price(self, call: Call) -> object:
        """Answer get_index_price."""
        price = wire.INDEXES[str(call.choice("index_name", *wire.INDEXES))]
        return {"index_price": price, "estimated_delivery_price": price}

    def status(self, call: Call) -> object:
        """Return whether the venue is locked (§8)."""
        return {"locked": "true" if self._venue.options.locked else "false", "locked_indices": []}

    def instrument(self, call: Call) -> object:
        """Answer get_instrument."""
        return wire.instrument(wire.INSTRUMENTS[str(wire.market(call))])

    def order_book(self, call: Call) -> object:
        """Answer get_order_book: a price on each side."""
        price = self._venue.options.mark_price
        return {"instrument_name": wire.market(call), "state": "open", "mark_price": price, "last_price": price,
                "bids": [[price, 1.0]], "asks": [[price, 1.0]], "change_id": 1,
                "timestamp": self._venue.now_ns() // 1_000_000, "stats": {}}  # fmt: skip

    def ticker(self, call: Call) -> object:
        """Answer ticker; every market has the price of the option `mark_price`."""
        price = self._venue.options.mark_price
        return {"instrument_name": wire.market(call), "state": "open", "mark_price": price, "last_price": price,
                "index_price": price, "best_bid_price": price, "best_ask_price": price, "best_bid_amount": 1.0,
                "best_ask_amount": 1.0, "timestamp": self._venue.now_ns() // 1_000_000, "stats": {}}  # fmt: skip


def _page(call: Call, key: str, rows: list[dict[str, Any]], most: int) -> dict[str, object]:
    """Return a page of a list, and where the next one begins."""
    start, count = call.params.get("continuation", "0"), call.params.get("count", 20 if key == "entries" else 100)
    if not is_short_number(start):
        raise invalid("continuation", "wrong format")
    if not 1 <= count <= most:
        raise invalid("count", f"must be from 1 to {most}")
    end = int(start) + count
    page = list(itertools.islice(rows, int(start), end))
    return {key: page, "continuation": str(end) if end < len(rows) else None}
