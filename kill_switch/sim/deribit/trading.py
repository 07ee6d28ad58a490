"""Deribit's methods that place orders (docs/venues/deribit.md §3.2, §6), and close_position, get_margins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.payloads import DeribitOrder
from kill_switch.sim.deribit.rpc import Call, Method, checked, invalid
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.tables import Refused

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

_LINKS = {"one_triggers_other", "one_cancels_other", "one_triggers_one_cancels_other"}
_PLACE = (
    "instrument_name! amount! type price label time_in_force post_only reject_post_only reduce_only trigger "
    "trigger_price trigger_offset valid_until linked_order_type trigger_fill_condition otoco_config"
)

_EDIT = "amount price post_only reject_post_only reduce_only trigger_price trigger_offset valid_until"


class OrderCalls:
    """The methods that place orders, close a position, or look at the orders of a label."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue

    def methods(self) -> dict[str, Method]:
        """Return the methods."""
        buy = Method("other", "place", lambda call: self.place(call, "buy"), _PLACE, "trade:read_write", "trading")
        quote = buy._replace(operation="quote", handler=self.mass_quote, params="quotes! quote_id! mmp_group")
        return {
            "private/buy": buy,
            "private/sell": buy._replace(handler=lambda call: self.place(call, "sell")),
            "private/edit": buy._replace(operation="edit", handler=self.edit, params=f"order_id! {_EDIT}"),
            "private/edit_by_label": buy._replace(
                operation="edit", handler=self.edit, params=f"label! instrument_name! {_EDIT}"
            ),
            "private/close_position": buy._replace(
                operation="close", handler=self.close, params="instrument_name! type! price"
            ),
            "private/mass_quote": quote,
            "private/get_order_state_by_label": Method(
                "read", "order", self.orders_by_label, "currency! label!", "trade:read"
            ),
            "private/get_margins": Method(
                "other", "margins", self.margins, "instrument_name! amount! price!", "trade:read"
            ),
        }

    def mass_quote(self, call: Call) -> object:
        """Answer mass_quote: it needs cancel-on-disconnect and a group of market maker protection (§6)."""
        account, venue = call.account, self._venue
        venue.desk.permit(cancels=False)
        if not venue.socket.state(call.socket()).cancels:
            raise Refused("13042", 400)
        if "mmp_group" not in call.params:
            raise Refused("13040", 400)
        if venue.desk.is_frozen(account):
            raise Refused("13043", 400)
        quotes = [self._quote(call, quote) for quote in call.params["quotes"]]
        for quote in quotes:
            venue.place(account, quote)
        return {"orders": [wire.order_row(quote) for quote in quotes], "trades": [], "errors": []}

    def _quote(self, call: Call, quote: object) -> DeribitOrder:
        part = call.part(checked("instrument_name! side! amount! price! quote_set_id", quote, texts=False))
        order = self._order(part, part.choice("side", "buy", "sell") or "")
        order.kind, order.quote_set = "quote", part.params.get("quote_set_id", "1")
        return order

    def place(self, call: Call, side: str) -> object:
        """Answer buy and sell, with secondaries and other legs (§3.2)."""
        account, params, venue = call.account, call.params, self._venue
        venue.desk.permit(cancels=False)
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
        return {"order": wire.order_row(order), "trades": trades}

    def close(self, call: Call) -> object:
        """Answer close_position: an order of the position's size against it, which only reduces."""
        name = str(wire.market(call))
        call.choice("type", "limit", "market")
        held = call.account.positions.get(name)
        if held is None:
            raise Refused("11030", 400, "other_reject no_position")  # the documents name no code; it is ours
        asked = {**call.params, "amount": float(abs(held.qty)), "reduce_only": True}
        return self.place(call.part(asked), "sell" if held.qty > 0 else "buy")

    def edit(self, call: Call) -> object:
        """Answer edit and edit_by_label: the order keeps its id, and has `replaced` from then on."""
        account, params, venue = call.account, call.params, self._venue
        venue.desk.permit(cancels=False)
        order = self._named(call)
        if order is None:
            raise Refused(self._why_not(account, str(params.get("order_id", ""))), 400)
        changes = {"qty": call.number("amount"), "price": call.number("price"), "trail": call.number("trigger_offset")}
        if order.stop_price is not None:
            changes["stop_price"] = call.number("trigger_price")
        for name, value in changes.items():
            if value is not None:
                setattr(order, name, value)
        order.replaced = True
        venue.push_orders(account, [order], "amended")
        return {"order": wire.order_row(order), "trades": []}

    def orders_by_label(self, call: Call) -> object:
        """Answer get_order_state_by_label: open and ended orders of a label."""
        currency, label = wire.currency(call), call.params["label"]
        known = [*call.account.closed.values(), *call.account.open.values()]
        mine = [order for order in known if order.client_id == label and wire.is_of(order.symbol, None, currency)]
        return [wire.order_row(order) for order in mine if self._venue.desk.is_reached(order)]

    def margins(self, call: Call) -> object:
        """Answer get_margins: nothing is charged here, and each price is possible."""
        wire.market(call)
        price = float(call.number("price") or 0)
        call.number("amount")
        fees = dict.fromkeys(("buy_taker_fee", "buy_maker_fee", "sell_taker_fee", "sell_maker_fee"), 0.0)
        return {"buy": 0.0, "sell": 0.0, **fees, "min_price": price / 2, "max_price": price * 2}

    def _why_not(self, account: Account, order_id: str) -> str:
        if order_id in account.closed:
            return "11044"
        return "10029" if self._venue.is_foreign(account, order_id) else "10004"

    def _named(self, call: Call) -> DeribitOrder | None:
        params, mine = call.params, call.account.open
        if "order_id" in params:
            order = mine.get(params["order_id"])
        else:
            wire.market(call)  # an unknown one is refused
            labelled = (each for each in mine.values() if each.client_id == params["label"])
            order = next((each for each in labelled if each.symbol == params["instrument_name"]), None)
        return order if isinstance(order, DeribitOrder) else None

    def _leg(self, call: Call, first: DeribitOrder, leg: object) -> DeribitOrder:
        usual = {"instrument_name": first.symbol, "amount": float(first.qty)}
        filled = usual | leg if isinstance(leg, dict) else leg
        part = call.part(checked(f"{_PLACE} direction", filled, texts=False))
        opposite = "sell" if first.side == "buy" else "buy"
        return self._order(part, part.choice("direction", "buy", "sell") or opposite)

    def _order(self, call: Call, side: str) -> DeribitOrder:
        params, symbol = call.params, str(wire.market(call))
        kind = call.choice("type", "limit", "market", *wire.TRIGGERS) or "limit"
        price, trigger = call.number("price"), call.number("trigger_price")
        if kind.endswith("limit") and price is None:
            raise invalid("price", "value required")
        if kind in wire.TRIGGERS:
            if call.choice("trigger", "index_price", "mark_price", "last_price") is None:
                raise invalid("trigger", "value required")
            if trigger is None and kind != "trailing_stop":
                raise invalid("trigger_price", "value required")
        order = self._venue.desk.make(symbol, "market" if kind == "market" else "limit", kind, side)
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
