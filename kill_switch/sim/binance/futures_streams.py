"""The futures' WebSockets: the user stream of a listenKey, the API that takes requests (§3.3, §5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from kill_switch.sim.binance import futures_payloads as wire
from kill_switch.sim.binance.errors import BY_STATUS, refusal
from kill_switch.sim.binance.futures_calls import CancelCalls, PlaceCalls, ReadCalls
from kill_switch.sim.binance.prices import PriceCalls
from kill_switch.sim.binance.requests import BinanceRequests, Call, params_of
from kill_switch.sim.binance.signing import is_key
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Kind, Understood
from kill_switch.sim.kit.tables import Op, Refused
from kill_switch.sim.kit.ws_protocol import WsProtocol

if TYPE_CHECKING:
    from kill_switch.sim.binance.futures import BinanceFutures


class UserStream(WsProtocol):
    """Events of the account whose listenKey the address names, or a subscription: there, the key is a stream's name."""

    errors: ClassVar[Mapping[int, str]] = BY_STATUS
    unreadable = "Invalid JSON"
    unknown_op = "Invalid request: unknown method"

    def __init__(self, venue: BinanceFutures) -> None:
        super().__init__()
        self._venue = venue
        self.ops |= {
            "SUBSCRIBE": Op("login", self._subscribe, private=False),
            "UNSUBSCRIBE": Op("other", self._unsubscribe, private=False),
            "LIST_SUBSCRIPTIONS": Op("other", self._list, private=False),
        }

    def _subscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        """Send the events of a listenKey from now on; a key that is unknown is a stream that stays silent (§10)."""
        for name in _stream_names(data):
            owner = self._venue.listen_keys.owner(name)
            if owner is None or self._venue.vanished(owner.name):
                continue
            if session.account not in (None, owner):  # a real connection may have streams of several accounts
                raise Refused("Invalid request: too many streams")
            session.id = name
            self._venue.attach(session, owner)
        return None

    def _unsubscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        if session.account is not None and session.id in _stream_names(data):
            self._venue.expire(session)
        return None

    def _list(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        return [] if session.account is None else [session.id]

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
            is_combined = session.path == self._venue.product.combined_path
            shown = {"stream": session.id, "data": event} if is_combined else event
            self._venue.event(session, orjson.dumps(shown), subject)

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


def _stream_names(data: Mapping[str, Any]) -> list[str]:
    """Return the streams that a message names. Raises `Refused`."""
    names = data.get("params")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise Refused("Invalid request: params must be an array of strings")
    return names


class KeyOps:
    """The requests of the listenKey, which need the API key only."""

    def __init__(self, venue: BinanceFutures) -> None:
        self._venue = venue

    def ops(self) -> dict[str, Op]:
        """Return the operations."""
        keys = self._venue.listen_keys
        return {
            "userDataStream.start": self._op("login", lambda account: {"listenKey": keys.create(account)}),
            "userDataStream.ping": self._op("other", lambda account: {"listenKey": keys.keep(account)}),
            "userDataStream.stop": self._op("other", self._stop),
        }

    def _stop(self, account: Account) -> object:
        self._venue.listen_keys.end(account)
        return {}

    def _op(self, kind: Kind, answer: Callable[[Account], object]) -> Op:
        def handler(session: Session, account: Account, data: dict[str, Any]) -> object:
            key = params_of(data).get("apiKey")
            if not is_key(key):
                raise refusal("-2014")
            owner = self._venue.keys.get(str(key))
            if owner is None or self._venue.vanished(owner.name):
                raise refusal("-2015")
            return answer(owner)

        return Op(kind, handler, private=False, weight=5)


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
        self.ops |= KeyOps(venue).ops()
