"""The futures' WebSockets: the user stream of a listenKey, the API that takes requests (§3.3, §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from kill_switch.sim.binance import futures_payloads as wire
from kill_switch.sim.binance.errors import BY_STATUS
from kill_switch.sim.binance.futures_calls import CancelCalls, PlaceCalls, ReadCalls
from kill_switch.sim.binance.prices import PriceCalls
from kill_switch.sim.binance.requests import BinanceRequests, Call
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Understood
from kill_switch.sim.kit.ws_protocol import WsProtocol

if TYPE_CHECKING:
    from kill_switch.sim.binance.futures import BinanceFutures


class UserStream(WsProtocol):
    """Events only; the address is the login."""

    errors: ClassVar[Mapping[int, str]] = BY_STATUS
    unreadable = "Invalid JSON"
    unknown_op = "Invalid request: unknown method"

    def __init__(self, venue: BinanceFutures) -> None:
        super().__init__()
        self._venue = venue

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return `method`."""
        return str(data.get("method")), None

    def good(self, heard: Understood, result: object) -> object:
        """Return an answer."""
        return {"result": result, "id": heard.data.get("id")}

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return an error."""
        return {"error": {"code": 2, "msg": text or code}, "id": heard.data.get("id")}

    def push(self, session: Session, event: Mapping[str, object], subject: str = "order") -> None:
        """Send an event, if the stream's address names it or none."""
        if session.channels & {"*", str(event["e"])}:
            self._venue.event(session, orjson.dumps(event), subject)

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        """Send ORDER_TRADE_UPDATE or ALGO_UPDATE for each order."""
        at_ms = self._venue.now_ns() // 1_000_000
        for order in orders:
            self.push(session, wire.event(order, news, at_ms, self._venue.became.get(order.id, "")))
        if news == "filled" and session.account is not None:
            self.push_equity(session, session.account)

    def push_equity(self, session: Session, account: Account) -> None:
        """Send ACCOUNT_UPDATE of a trade, unless a transfer has an event of its own."""
        if self._venue.options.equity_moves == "trade":
            self.push_account(session, account, "ORDER", Decimal(0), self._venue.now_ns() // 1_000_000)

    def push_account(self, session: Session, account: Account, reason: str, change: Decimal, at_ms: int) -> None:
        """Send ACCOUNT_UPDATE."""
        event = wire.account_event(account, self._venue.product.asset, reason, change, at_ms)
        self.push(session, event, "balance")


class RequestSocket(BinanceRequests):
    """Orders, single cancels and look-ups; there is no cancel-all here (§3.3)."""

    def __init__(self, venue: BinanceFutures) -> None:
        cancels, places, reads, market = CancelCalls(venue), PlaceCalls(venue), ReadCalls(venue), PriceCalls(venue)
        versions = ("", "v2/") if venue.product.is_linear else ("",)
        super().__init__(
            venue,
            {
                "order.cancel": Call("cancel", "cancel", cancels.cancel_order),
                "algoOrder.cancel": Call("cancel", "cancel-algo", cancels.cancel_algo),
                "order.place": Call("other", "place", places.order, 0),
                "order.modify": Call("other", "amend", places.modify),
                "algoOrder.place": Call("other", "place-algo", places.algo, 0),
                "order.status": Call("read", "order", reads.order),
                "ticker.price": Call("other", "price", market.price, 2, public=True),
                "ticker.book": Call("other", "book-ticker", market.best, 2, public=True),
                "depth": Call("other", "depth", market.depth, 5, public=True),
                **{f"{v}account.status": Call("read", "account", reads.account, 5) for v in versions},
                **{f"{v}account.balance": Call("read", "balance", reads.balance, 5) for v in versions},
                **{f"{v}account.position": Call("read", "positions", reads.positions, 5) for v in versions},
            },
        )
