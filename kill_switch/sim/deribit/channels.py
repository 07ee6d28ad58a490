"""Deribit's subscriptions and the events that they get (docs/venues/deribit.md §5)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kill_switch.sim.deribit import payloads as wire
from kill_switch.sim.deribit.rpc import Call, Method, notice
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.tables import Refused

if TYPE_CHECKING:
    from kill_switch.sim.deribit.venue import Deribit

_SCOPES = {  # of channels `user.NAME…`
    "orders": "trade:read", "changes": "trade:read", "trades": "trade:read", "portfolio": "account:read",
    "lock": "account:read",
}  # fmt: skip
_PLATFORM = ("platform_state", "platform_state.public_methods_state")
_INTERVALS = ("raw", "100ms", "agg2")
_CURRENCIES = (*wire.CURRENCIES, "ANY")
_BATCH_S = 0.1


class Channels:
    """The methods that subscribe, and the events; no event has a number, and no subscription a snapshot."""

    def __init__(self, venue: Deribit) -> None:
        self._venue = venue

    def methods(self) -> dict[str, Method]:
        """Return the methods."""
        subscribe = Method("other", "subscribe", self._subscribe, "channels! label", pool="subscribe")
        unsubscribe = Method("other", "unsubscribe", self._unsubscribe, "channels!")
        return {
            "public/subscribe": subscribe, "private/subscribe": subscribe, "public/unsubscribe": unsubscribe,
            "private/unsubscribe": unsubscribe, "private/unsubscribe_all": unsubscribe._replace(params=""),
        }  # fmt: skip

    def _subscribe(self, call: Call) -> object:
        """Acknowledge the channels that there are; the others are left out without an error."""
        session = call.socket()
        named = call.params["channels"]
        if call.grant is None and any(name.endswith(".raw") for name in named):
            raise Refused("13778", 400)
        accepted = [name for name in dict.fromkeys(named) if self._accepts(call, name)]
        if call.grant is not None and session.account is None and accepted:
            self._venue.attach(session, call.grant.account)
            self._venue.socket.state(session).grant = call.grant
        session.channels |= set(accepted)
        if any(name.startswith("user.orders.") for name in accepted):
            self._venue.later(0.001, self._venue.subscribed, session)
        return accepted

    def _accepts(self, call: Call, name: str) -> bool:
        if name in self._venue.options.dropped.split(","):
            return False
        if name in _PLATFORM:
            return True
        match name.split("."):
            case ["user", "orders" | "changes" | "trades" as topic, market, interval]:
                is_known = market in wire.INSTRUMENTS and interval in _INTERVALS
            case ["user", "orders" | "changes" | "trades" as topic, kind, currency, interval]:
                is_known = kind in wire.MARKET_KINDS and currency.upper() in _CURRENCIES and interval in _INTERVALS
            case ["user", "portfolio" as topic, currency]:
                is_known = currency.upper() in _CURRENCIES
            case ["user", "lock" as topic]:
                is_known = True
            case _:
                return False
        return is_known and call.grant is not None and call.grant.allows(_SCOPES[topic])

    def _unsubscribe(self, call: Call) -> object:
        session = call.socket()
        if "channels" not in call.params:
            session.channels.clear()
            return "ok"
        gone = [name for name in call.params["channels"] if name in session.channels]
        session.channels -= set(gone)
        return gone

    # events

    def push_orders(self, session: Session, orders: Sequence[Order]) -> None:
        """Send the events of orders: raw ones at once, the others as lists a little later; and their portfolios.

        An order changes the margins that a portfolio has.
        """
        for name in sorted(session.channels):
            _, topic, *middle = name.split(".") if name.startswith("user.") else ("", "")
            if topic not in ("orders", "changes", "trades"):
                continue
            interval = middle.pop()
            rows = [row for order in orders if wire.matches(middle, order) for row in _rows(topic, order)]
            if interval == "raw" or topic == "changes":
                parts: list[Any] = [[row] for row in rows] if topic == "trades" else list(rows)
            else:
                size = self._venue.chunk(len(rows) or 1)
                parts = [rows[start : start + size] for start in range(0, len(rows), size)]
            for part in parts:
                self._venue.later(0 if interval == "raw" else _BATCH_S, self._push, session, name, part, "order")
        if session.account is not None:
            self._push_portfolios(session, session.account, {wire.book_of(order)[0] for order in orders})

    def push_equity(self, session: Session, account: Account) -> None:
        """Send the portfolios of the currencies that a session asked for."""
        self._push_portfolios(session, account, wire.CURRENCIES)

    def _push_portfolios(self, session: Session, account: Account, currencies: Collection[str]) -> None:
        names = sorted(name for name in session.channels if name.startswith("user.portfolio."))
        money = wire.summaries(account, cross=self._venue.options.cross_collateral) if names else {}
        for name in names:
            asked = name.rpartition(".")[2].upper()
            for row in (row for key, row in money.items() if asked in (key, "ANY") and key in currencies):
                self._push(session, name, row, "balance")

    def tell(self, channel: str, data: object) -> None:
        """Send an event of the platform, or of all accounts, to the sessions that asked for it."""
        for session in tuple(self._venue.sessions.values()):
            if channel in session.channels:
                session.connection.say(notice("subscription", {"channel": channel, "data": data}))

    def _push(self, session: Session, channel: str, data: object, push: str) -> None:
        self._venue.event(session, notice("subscription", {"channel": channel, "data": data}), push)


def _rows(topic: str, order: Order) -> Iterator[dict[str, Any]]:
    trades = [wire.trade(order)] if order.state == "filled" else []
    match topic:
        case "orders":
            yield wire.order_row(order)
        case "trades":
            yield from trades
        case _:
            shown = [wire.order_row(order)]
            yield {"instrument_name": order.symbol, "orders": shown, "positions": [], "trades": trades}
