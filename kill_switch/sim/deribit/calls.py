"""Deribit's methods that trade, cancel and read (docs/venues/deribit.md §3, §4, §9); the session's are in `socket`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.payloads import DeribitOrder
from kill_switch.sim.deribit.rpc import MESSAGES, Call, Method, invalid
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.tables import Refused

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

_CANCEL_TYPES = ("all", "limit", "trigger_all", "stop", "take", "trailing_stop")
_LIST_TYPES = (
    "all", "limit", "trigger_all", "stop_all", "stop_limit", "stop_market", "take_all", "take_limit", "take_market",
    "trailing_all", "trailing_stop",
)  # fmt: skip
_MARKET_KINDS = ("future", "option", "spot", "future_combo", "option_combo", "combo", "any")
_LINKS = {"one_triggers_other", "one_cancels_other", "one_triggers_one_cancels_other"}
_PLACE = (
    "instrument_name! amount! type price label time_in_force post_only reject_post_only reduce_only trigger "
    "trigger_price trigger_offset valid_until linked_order_type trigger_fill_condition otoco_config"
)
_TRADE, _READ, _RFQ = "trade:read_write", "trade:read", "block_rfq:read_write"


def methods(venue: Deribit) -> dict[str, Method]:
    """Return the methods by name."""
    cancels, reads, orders = CancelCalls(venue), ReadCalls(venue), OrderCalls(venue)

    def cancel(name: str, handler: Callable[[Call], object], params: str, pool: str = "trading") -> Method:
        return Method("cancel", name, handler, params, _TRADE, pool)

    more = "detailed freeze_quotes"
    money = Method("read", "summaries", reads.summary, "currency! extended", "account:read")
    listed = Method("read", "orders", reads.open_orders, "kind type", _READ)
    return {
        "private/cancel_all": cancel("cancel-all", cancels.cancel_all, more, "cancel_all"),
        "private/cancel_all_by_kind_or_type": cancel(
            "cancel-kind", cancels.by_kind, f"currency* kind type {more}", "cancel_all?"
        ),
        "private/cancel_by_label": cancel("cancel-label", cancels.by_label, "label! currency", "cancel_all?"),
        "private/cancel_all_by_currency": cancel(
            "cancel-currency", cancels.by_currency, f"currency! kind type {more}"
        ),
        "private/cancel_all_by_currency_pair": cancel(
            "cancel-pair", cancels.by_pair, f"currency_pair! kind type {more}"
        ),
        "private/cancel_all_by_instrument": cancel(
            "cancel-instrument", cancels.by_instrument, f"instrument_name! type include_combos {more}"
        ),
        "private/cancel": cancel("cancel", cancels.one, "order_id!"),
        "private/cancel_quotes": cancel(
            "cancel-quotes", cancels.quotes,
            f"cancel_type! currency currency_pair instrument_name kind quote_set_id {more}",
        ),
        "private/cancel_all_block_rfq_quotes": Method(
            "cancel", "cancel-rfq-quotes", cancels.rfq_quotes, "block_rfq_id detailed", _RFQ
        ),
        "private/buy": Method("other", "place", lambda call: orders.place(call, "buy"), _PLACE, _TRADE, "trading"),
        "private/sell": Method("other", "place", lambda call: orders.place(call, "sell"), _PLACE, _TRADE, "trading"),
        "private/get_open_orders": listed,
        "private/get_open_orders_by_currency": listed._replace(params="currency! kind type"),
        "private/get_open_orders_by_instrument": listed._replace(params="instrument_name! type"),
        "private/get_open_orders_by_label": listed._replace(params="currency! label"),
        "private/get_order_state": Method("read", "order", reads.order_state, "order_id!", _READ),
        "private/get_trigger_order_history": Method(
            "read", "trigger-history", reads.trigger_history, "currency! instrument_name count continuation", _READ
        ),
        "private/get_block_rfq_quotes": Method(
            "read", "rfq-quotes", reads.rfq_quotes, "block_rfq_id", "block_rfq:read"
        ),
        "private/get_positions": Method("read", "positions", reads.positions, "currency kind", _READ),
        "private/get_account_summary": money,
        "private/get_account_summaries": money._replace(handler=reads.summaries, params="extended"),
        "private/get_subaccounts": money._replace(
            operation="subaccounts", handler=reads.subaccounts, params="with_portfolio"
        ),
        "private/get_transaction_log": Method(
            "read", "log", reads.transactions,
            "currency! start_timestamp! end_timestamp! query count continuation", "account:read",
        ),
        "public/get_time": Method("other", "time", lambda call: venue.now_ns() // 1_000_000),
        "public/status": Method("other", "status", lambda call: venue.status()),
        "public/get_currencies": Method("other", "currencies", reads.currencies),
        "public/get_instruments": Method(
            "other", "instruments", reads.instruments, "currency kind expired", pool="instruments"
        ),
        "public/get_index_price": Method("other", "index", reads.index_price, "index_name!"),
        "public/ticker": Method("other", "ticker", reads.ticker, "instrument_name!"),
    }  # fmt: skip


def _named(call: Call) -> str | None:
    name = call.params.get("instrument_name")
    if name is not None and name not in wire.INSTRUMENTS:
        raise invalid("instrument_name", "invalid instrument_name")
    return name


def _currency(call: Call) -> str | None:
    return call.choice("currency", *wire.CURRENCIES, "any")


class CancelCalls:
    """The methods that cancel."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue

    def cancel_all(self, call: Call) -> object:
        """Answer cancel_all: every order that a kill reaches (§3.1)."""
        return self._cancel(call, lambda order: True)

    def by_kind(self, call: Call) -> object:
        """Answer cancel_all_by_kind_or_type; the currency is one, several, or any."""
        asked = call.params.get("currency", "any")
        currencies = asked if isinstance(asked, list) else [asked]
        if not currencies or any(currency not in (*wire.CURRENCIES, "any") for currency in currencies):
            raise invalid("currency", "invalid currency")
        kind = call.choice("kind", *_MARKET_KINDS)
        return self._cancel(call, lambda order: any(wire.is_of(order.symbol, kind, each) for each in currencies))

    def by_currency(self, call: Call) -> object:
        """Answer cancel_all_by_currency."""
        kind, currency = call.choice("kind", *_MARKET_KINDS), _currency(call)
        return self._cancel(call, lambda order: wire.is_of(order.symbol, kind, currency))

    def by_pair(self, call: Call) -> object:
        """Answer cancel_all_by_currency_pair, such as `btc_usdc`."""
        kind, pair = call.choice("kind", *_MARKET_KINDS), str(call.params["currency_pair"]).lower()
        rows = {name for name, row in wire.INSTRUMENTS.items() if f"{row.base}_{row.counter}".lower() == pair}
        if not rows:
            raise invalid("currency_pair", "invalid currency_pair")
        return self._cancel(call, lambda order: order.symbol in rows and wire.is_of(order.symbol, kind, None))

    def by_instrument(self, call: Call) -> object:
        """Answer cancel_all_by_instrument; combos have an instrument in their name."""
        name = _named(call)
        combos = call.params.get("include_combos", False)
        legs = [row.name for row in wire.INSTRUMENTS.values() if row.kind.endswith("_combo")]
        reached = {name} | ({leg for leg in legs if leg[:3] == str(name)[:3]} if combos else set())
        return self._cancel(call, lambda order: order.symbol in reached)

    def by_label(self, call: Call) -> object:
        """Answer cancel_by_label: a count."""
        label, currency = call.params["label"], _currency(call)
        return self._cancel(call, lambda order: order.client_id == label and wire.is_of(order.symbol, None, currency))

    def quotes(self, call: Call) -> object:
        """Answer cancel_quotes: orders of mass quotes only."""
        by = call.choice(
            "cancel_type", "all", "currency", "currency_pair", "instrument", "instrument_kind", "quote_set_id"
        )
        key = {"instrument": "instrument_name", "instrument_kind": "kind"}.get(str(by), str(by))
        if by != "all" and key not in call.params:
            raise invalid(key, "value required")
        name, kind, currency = _named(call), call.choice("kind", *_MARKET_KINDS), _currency(call)
        pair, quote_set = str(call.params.get("currency_pair", "")).lower(), call.params.get("quote_set_id")

        def wanted(order: Order) -> bool:
            row = wire.INSTRUMENTS[order.symbol]
            fits = name in (None, row.name) and wire.is_of(row.name, kind, currency)
            fits = fits and pair in ("", f"{row.base}_{row.counter}".lower())
            return order.kind == "quote" and fits and quote_set in (None, getattr(order, "quote_set", ""))

        return self._cancel(call, wanted)

    def _cancel(self, call: Call, wanted: Callable[[Order], bool]) -> object:
        account, venue = call.account, self._venue
        kind = call.choice("type", *_CANCEL_TYPES)
        venue.permit(cancels=True)
        orders = [order for order in venue.covered(account) if wanted(order) and wire.of_type(order, kind)]
        stuck = [order for order in orders if self._stuck(order)]
        claimed = venue.cancel(account, [order for order in orders if order not in stuck], whole=True)
        if call.params.get("freeze_quotes"):
            venue.freeze_quotes(account)
        if not call.params.get("detailed"):
            return len(claimed)
        return wire.reports([*venue.echoed(account), *claimed]) + self._failed(stuck)

    def _stuck(self, order: Order) -> str:
        if order.kind == "liquidation":
            return "10045"
        currency = wire.INSTRUMENTS[order.symbol].currency
        return "10047" if currency in self._venue.options.queue_full.upper().split(",") else ""

    def _failed(self, stuck: Iterable[Order]) -> list[dict[str, object]]:
        """Return the error reports; only that of one market names it."""
        found = {}
        for order in stuck:
            code, (currency, kind, name) = int(self._stuck(order)), wire.book_of(order)
            shown: dict[str, object] = {"currency": currency, "type": kind}
            shown |= {"instrument_name": name} if code == 10045 else {}
            found[tuple(shown.values())] = shown | {"error": {"message": MESSAGES[code], "code": code}}
        return list(found.values())

    def one(self, call: Call) -> object:
        """Answer cancel: the order, or why it is none to cancel."""
        account, order_id = call.account, call.params["order_id"]
        self._venue.permit(cancels=True)
        order = account.open.get(order_id)
        if order is not None and self._venue.is_classic(order):
            if code := self._stuck(order):
                raise Refused(code, 400)
            self._venue.cancel(account, [order], whole=False, single=True)
            return wire.cancelled(order)
        if ended := account.closed.get(order_id):
            raise Refused({"filled": "11008", "triggered": "11044"}.get(ended.state, "10010"), 400)
        others = (other for other in self._venue.accounts.values() if other is not account)
        raise Refused("10029" if any(order_id in other.open for other in others) else "10004", 400)

    def rfq_quotes(self, call: Call) -> object:
        """Answer cancel_all_block_rfq_quotes (§3.3)."""
        chosen = self._venue.rfq_quotes(call.account, call.params.get("block_rfq_id"))
        claimed = self._venue.cancel(call.account, chosen, whole=True)
        return [wire.rfq_quote(order) for order in claimed] if call.params.get("detailed") else len(claimed)


class OrderCalls:
    """The methods that place orders."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue

    def place(self, call: Call, side: str) -> object:
        """Answer buy and sell, with secondaries and other legs (§3.2)."""
        account, params, venue = call.account, call.params, self._venue
        venue.permit(cancels=False)
        if params.get("valid_until", venue.now_ns()) * 1_000_000 < venue.now_ns():
            raise Refused("13888", 400)
        order = self._order(call, side)
        link, legs = params.get("linked_order_type"), params.get("otoco_config", [])
        if (link is None) != (not legs) or (link is not None and link not in _LINKS):
            raise invalid("linked_order_type", "invalid linked_order_type")
        linked = [self._leg(call, order, leg) for leg in legs]
        if link == "one_cancels_other":
            for each in (order, *linked):
                each.group = f"OCO-{order.id}"
        for each in linked if link != "one_cancels_other" else ():
            each.primary = order.id
            each.dormant, each.state = True, "untriggered"
            each.group = f"OCO-{order.id}" if "cancels" in str(link) else ""
        account.rest(linked)
        venue.push_orders(account, linked, "opened")
        venue.place(account, order)
        trades = [wire.trade(order)] if order.state == "filled" else []
        return {"order": wire.order(order), "trades": trades}

    def _leg(self, call: Call, first: DeribitOrder, leg: object) -> DeribitOrder:
        if not isinstance(leg, dict):
            raise invalid("otoco_config", "wrong format")
        named = {"instrument_name": first.symbol, "amount": float(first.qty), **leg}
        side = str(named.pop("direction", "sell" if first.side == "buy" else "buy"))
        return self._order(Call(call.account, named, call.connection, call.session), side)

    def _order(self, call: Call, side: str) -> DeribitOrder:
        params, symbol = call.params, str(_named(call))
        kind = call.choice("type", "limit", "market", *wire.TRIGGERS) or "limit"
        price, trigger = call.number("price"), call.number("trigger_price")
        if kind.endswith("limit") and price is None:
            raise invalid("price", "value required")
        if kind in wire.TRIGGERS:
            if call.choice("trigger", "index_price", "mark_price", "last_price") is None:
                raise invalid("trigger", "value required")
            if trigger is None and kind != "trailing_stop":
                raise invalid("trigger_price", "value required")
        order = self._venue.new_deribit_order(symbol, "market" if kind == "market" else "limit", kind, side)
        order.kind = {"stop_market": "stop", "take_market": "take", "take_limit": "take"}.get(kind, kind)
        order.qty = call.number("amount") or order.qty
        order.price = price or order.price
        order.stop_price = (trigger or order.stop_price) if kind in wire.TRIGGERS else None
        order.trail = call.number("trigger_offset")
        order.client_id = params.get("label", "")
        order.tif = params.get("time_in_force", "good_til_cancelled")
        order.post_only, order.reduce_only = params.get("post_only", False), params.get("reduce_only", False)
        order.session = call.session.id if call.session else ""
        return order


class ReadCalls:
    """The methods that read."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue

    def open_orders(self, call: Call) -> object:
        """Answer get_open_orders and the three narrower lists: triggers included, one page (§4)."""
        kind, currency, name = call.choice("kind", *_MARKET_KINDS), _currency(call), _named(call)
        wanted, label = call.choice("type", *_LIST_TYPES), call.params.get("label")
        return [
            wire.order(order)
            for order in self._venue.listed(call.account, "orders")
            if self._venue.is_classic(order, listing=True)
            and wire.is_of(order.symbol, kind, currency)
            and name in (None, order.symbol)
            and label in (None, order.client_id)
            and wire.of_type(order, wanted)
        ]

    def order_state(self, call: Call) -> object:
        """Answer get_order_state, of open and of ended orders."""
        account, order_id = call.account, call.params["order_id"]
        order = account.open.get(order_id) or account.closed.get(order_id)
        if order is None or not self._venue.is_classic(order):
            raise Refused("10004", 400)
        return wire.order(order)

    def trigger_history(self, call: Call) -> object:
        """Answer get_trigger_order_history: what became of triggers, the latest first (§4)."""
        account, currency, name = call.account, _currency(call), _named(call)
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
            wire.rfq_quote(order) for order in self._venue.rfq_quotes(call.account, call.params.get("block_rfq_id"))
        ]

    def positions(self, call: Call) -> object:
        """Answer get_positions."""
        kind, currency = call.choice("kind", *_MARKET_KINDS), _currency(call)
        held = call.account.positions.values()
        return [wire.position(each) for each in held if wire.is_of(each.symbol, kind, currency)]

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
        limits = self._venue.limits_shown()
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
        currency, begin, end = _currency(call), call.params["start_timestamp"], call.params["end_timestamp"]
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
        kind, currency = call.choice("kind", *_MARKET_KINDS), _currency(call)
        rows = () if call.params.get("expired") else wire.INSTRUMENTS.values()
        return [wire.instrument(row) for row in rows if wire.is_of(row.name, kind, currency)]

    def index_price(self, call: Call) -> object:
        """Answer get_index_price."""
        price = wire.INDEXES[str(call.choice("index_name", *wire.INDEXES))]
        return {"index_price": price, "estimated_delivery_price": price}

    def ticker(self, call: Call) -> object:
        """Answer ticker; every market has the price of the option `mark_price`."""
        price = self._venue.options.mark_price
        return {"instrument_name": _named(call), "state": "open", "mark_price": price, "last_price": price,
                "index_price": price, "best_bid_price": price, "best_ask_price": price, "best_bid_amount": 1.0,
                "best_ask_amount": 1.0, "timestamp": self._venue.now_ns() // 1_000_000, "stats": {}}  # fmt: skip


def _page(call: Call, key: str, rows: list[dict[str, Any]], most: int) -> dict[str, object]:
    """Return a page of a list, and where the next one begins."""
    start, count = call.params.get("continuation", "0"), call.params.get("count", 20 if key == "entries" else 100)
    if not (start.isascii() and start.isdigit()) or not 1 <= count <= most:
        raise invalid("count" if start.isdigit() else "continuation", "wrong format")
    end = int(start) + count
    page = list(itertools.islice(rows, int(start), end))
    return {key: page, "continuation": str(end) if end < len(rows) else None}
