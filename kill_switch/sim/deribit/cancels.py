"""Deribit's methods that cancel (docs/venues/deribit.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.rpc import MESSAGES, Call, Method, invalid
from kill_switch.sim.kit.book import Order
from kill_switch.sim.kit.tables import Refused

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

_TYPES = ("all", "limit", "trigger_all", "stop", "take", "trailing_stop")
_MORE = "detailed freeze_quotes"


class CancelCalls:
    """The methods that cancel."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue

    def methods(self) -> dict[str, Method]:
        """Return the methods; only those of the whole account have a pool of their own (§7)."""

        def cancel(name: str, handler: Callable[[Call], object], params: str, pool: str = "trading") -> Method:
            return Method("cancel", f"cancel{name}", handler, params, "trade:read_write", pool)

        rfq = Method("cancel", "cancel-rfq-quotes", self.rfq_quotes, "block_rfq_id detailed", "block_rfq:read_write")
        quotes = f"cancel_type! currency currency_pair instrument_name kind quote_set_id {_MORE}"
        return {
            "private/cancel_all": cancel("-all", self.cancel_all, _MORE, "cancel_all"),
            "private/cancel_all_by_kind_or_type": cancel(
                "-kind", self.by_kind, f"currency* kind type {_MORE}", "cancel_all?"
            ),
            "private/cancel_by_label": cancel("-label", self.by_label, "label! currency", "cancel_all?"),
            "private/cancel_all_by_currency": cancel("-currency", self.by_currency, f"currency! kind type {_MORE}"),
            "private/cancel_all_by_currency_pair": cancel("-pair", self.by_pair, f"currency_pair! kind type {_MORE}"),
            "private/cancel_all_by_instrument": cancel(
                "-instrument", self.by_instrument, f"instrument_name! type include_combos {_MORE}"
            ),
            "private/cancel": cancel("", self.cancel, "order_id!"),
            "private/cancel_quotes": cancel("-quotes", self.quotes, quotes),
            "private/cancel_all_block_rfq_quotes": rfq,
        }

    def cancel_all(self, call: Call) -> object:
        """Answer cancel_all: every order that a kill reaches (§3.1)."""
        return self._cancel(call, lambda order: True)

    def by_kind(self, call: Call) -> object:
        """Answer cancel_all_by_kind_or_type; the currency is one, several, or any."""
        asked = call.params.get("currency", "any")
        currencies = asked if isinstance(asked, list) else [asked]
        if not currencies or any(currency not in (*wire.CURRENCIES, "any") for currency in currencies):
            raise invalid("currency", "invalid currency")
        kind = call.choice("kind", *wire.MARKET_KINDS)
        return self._cancel(call, lambda order: any(wire.is_of(order.symbol, kind, each) for each in currencies))

    def by_currency(self, call: Call) -> object:
        """Answer cancel_all_by_currency."""
        kind, currency = call.choice("kind", *wire.MARKET_KINDS), wire.currency(call)
        return self._cancel(call, lambda order: wire.is_of(order.symbol, kind, currency))

    def by_pair(self, call: Call) -> object:
        """Answer cancel_all_by_currency_pair; a pair is written in either case."""
        kind, pair = call.choice("kind", *wire.MARKET_KINDS), str(call.params["currency_pair"]).lower()
        rows = {name for name, row in wire.INSTRUMENTS.items() if f"{row.base}_{row.counter}".lower() == pair}
        if not rows:
            raise invalid("currency_pair", "invalid currency_pair")
        return self._cancel(call, lambda order: order.symbol in rows and wire.is_of(order.symbol, kind, None))

    def by_instrument(self, call: Call) -> object:
        """Answer cancel_all_by_instrument; combos have an instrument in their name."""
        name = wire.market(call)
        combos = call.params.get("include_combos", False)
        legs = [row.name for row in wire.INSTRUMENTS.values() if row.kind.endswith("_combo")]
        reached = {name} | ({leg for leg in legs if leg[:3] == str(name)[:3]} if combos else set())
        return self._cancel(call, lambda order: order.symbol in reached)

    def by_label(self, call: Call) -> object:
        """Answer cancel_by_label: a count."""
        label, currency = call.params["label"], wire.currency(call)
        return self._cancel(call, lambda order: order.client_id == label and wire.is_of(order.symbol, None, currency))

    def quotes(self, call: Call) -> object:
        """Answer cancel_quotes: orders of mass quotes only."""
        by = call.choice(
            "cancel_type", "all", "currency", "currency_pair", "instrument", "instrument_kind", "quote_set_id"
        )
        key = {"instrument": "instrument_name", "instrument_kind": "kind"}.get(str(by), str(by))
        if by != "all" and key not in call.params:
            raise invalid(key, "value required")
        name, kind, currency = wire.market(call), call.choice("kind", *wire.MARKET_KINDS), wire.currency(call)
        pair, quote_set = str(call.params.get("currency_pair", "")).lower(), call.params.get("quote_set_id")

        def wanted(order: Order) -> bool:
            row = wire.INSTRUMENTS[order.symbol]
            fits = name in (None, row.name) and wire.is_of(row.name, kind, currency)
            fits = fits and pair in ("", f"{row.base}_{row.counter}".lower())
            return order.kind == "quote" and fits and quote_set in (None, getattr(order, "quote_set", ""))

        return self._cancel(call, wanted)

    def _cancel(self, call: Call, wanted: Callable[[Order], bool]) -> object:
        account, venue = call.account, self._venue
        kind = call.choice("type", *_TYPES)
        venue.desk.permit(cancels=True)
        reached = filter(venue.desk.is_reached, venue.covered(account))
        orders = [order for order in reached if wanted(order) and wire.of_type(order, kind)]
        stuck = [order for order in orders if self._stuck(order)]
        claimed = venue.cancel(account, [order for order in orders if order not in stuck], whole=True)
        if call.params.get("freeze_quotes"):
            venue.desk.freeze_quotes(account)
        if not call.params.get("detailed"):
            return len(claimed)
        return wire.reports([*venue.desk.echoed(account), *claimed]) + self._failed(stuck)

    def _stuck(self, order: Order) -> str:
        if order.kind == "liquidation":
            return "10045"
        currency = wire.INSTRUMENTS[order.symbol].currency
        return "10047" if currency in self._venue.options.queue_full.upper().split(",") else ""

    def _failed(self, stuck: Iterable[Order]) -> list[dict[str, object]]:
        """Return the error reports; only that of one market names it."""
        failed = {}
        for order in stuck:
            code, (currency, kind, name) = int(self._stuck(order)), wire.book_of(order)
            shown: dict[str, object] = {"currency": currency, "type": kind}
            shown |= {"instrument_name": name} if code == 10045 else {}
            failed[tuple(shown.values())] = shown | {"error": {"message": MESSAGES[code], "code": code}}
        return list(failed.values())

    def cancel(self, call: Call) -> object:
        """Answer cancel: the order, or why it is none to cancel."""
        account, order_id = call.account, call.params["order_id"]
        self._venue.desk.permit(cancels=True)
        order = account.open.get(order_id)
        if order is not None and self._venue.desk.is_reached(order):
            if code := self._stuck(order):
                raise Refused(code, 400)
            self._venue.cancel(account, [order], whole=False, single=True)
            return wire.cancelled(order)
        if ended := account.closed.get(order_id):
            raise Refused({"filled": "11008", "triggered": "11044"}.get(ended.state, "10010"), 400)
        raise Refused("10029" if self._venue.is_foreign(account, order_id) else "10004", 400)

    def rfq_quotes(self, call: Call) -> object:
        """Answer cancel_all_block_rfq_quotes (§3.3)."""
        chosen = self._venue.desk.rfq_quotes(call.account, call.params.get("block_rfq_id"))
        claimed = self._venue.cancel(call.account, chosen, whole=True)
        return [wire.rfq_quote(order) for order in claimed] if call.params.get("detailed") else len(claimed)
