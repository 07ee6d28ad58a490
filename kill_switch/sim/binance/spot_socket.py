"""Spot's WebSocket API: the requests of REST, and user data streams by subscription (docs/venues/binance.md §2, §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import orjson

from kill_switch.sim.binance import spot_payloads as wire
from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.binance.requests import BinanceRequests, Call, params_of
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Op

if TYPE_CHECKING:
    from kill_switch.sim.binance.spot import BinanceSpot

_CHANNEL = "events"


class Subscription(NamedTuple):
    """A user data stream of a connection."""

    id: int
    by_logon: bool  # which `session.logout` ends


class SpotSocket(BinanceRequests):
    """Requests and events on one connection."""

    def __init__(self, venue: BinanceSpot, calls: Mapping[str, Call]) -> None:
        super().__init__(venue, calls)
        self._spot = venue
        self._streams: WeakKeyDictionary[Connection, Subscription] = WeakKeyDictionary()
        self.ops |= {
            "userDataStream.subscribe": Op("login", self._subscribe_logon, private=False, weight=2),
            "userDataStream.subscribe.signature": Op("login", self._subscribe_signed, weight=2),
            "userDataStream.unsubscribe": Op("other", self._unsubscribe, private=False, weight=2),
            "session.subscriptions": Op("other", self._list, private=False, weight=2),
        }

    def _subscribe_logon(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        """Subscribe on a session that is logged on, which takes an Ed25519 key (§2)."""
        logon = self.logons.get(session.connection)
        if logon is None:
            raise refusal("-1002", "You are not authorized to execute this request.")
        return self._subscribe(session, logon.account, by_logon=True)

    def _subscribe_signed(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        """Subscribe by a signature, with any type of key."""
        if params_of(data).get("apiKey") is None:
            raise refusal("-2014")
        return self._subscribe(session, account, by_logon=False)

    def _subscribe(self, session: Session, account: Account, *, by_logon: bool) -> object:
        # a real connection may have streams of several accounts; this one has those of one account
        if session.connection in self._streams or session.account not in (None, account):
            raise refusal("-2035")
        session.sequence["subscriptions"] += 1
        stream = Subscription(session.sequence["subscriptions"] - 1, by_logon)
        self._streams[session.connection] = stream
        session.channels.add(_CHANNEL)
        self._spot.attach(session, account)
        self._spot.later(0.001, self._spot.subscribed, session)
        return {"subscriptionId": stream.id}

    def _unsubscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        stream, named = self._streams.get(session.connection), params_of(data).get("subscriptionId")
        if stream is None or named not in (None, stream.id):
            raise refusal("-2036", "User Data Stream subscription does not exist.")
        self._end(session, is_announced=True)
        return {}

    def _list(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        stream = self._streams.get(session.connection)
        return [] if stream is None else [{"subscriptionId": stream.id}]

    def end_events(self, session: Session) -> None:
        """End the subscription of a session, with the event of it."""
        self._end(session, is_announced=True)

    def end_logon(self, session: Session) -> None:
        """End the subscription that was made by the logon; one by a signature goes on."""
        stream = self._streams.get(session.connection)
        if stream is not None and stream.by_logon:
            self._end(session, is_announced=True)

    def expired(self, session: Session) -> None:
        """End logon and subscription of a session whose key became bad."""
        self.revoke(session)
        self._end(session, is_announced=self._spot.options.tells_end)

    def _end(self, session: Session, *, is_announced: bool) -> None:
        if session.connection not in self._streams:
            return
        if is_announced:
            self._push(session, {"e": "eventStreamTerminated", "E": self.now_ms()}, "order")
        del self._streams[session.connection]
        session.channels.discard(_CHANNEL)
        logon = self.logons.get(session.connection)
        self._spot.detach(session, logon.account if logon else None)

    # events (§5)

    def _push(self, session: Session, event: Mapping[str, object], subject: str) -> None:
        stream = self._streams.get(session.connection)
        if stream is not None:
            text = orjson.dumps({"subscriptionId": stream.id, "event": event})
            self._spot.event(session, text, subject)

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        """Send executionReport for each order, listStatus for each list that has ended, then the balances (§5).

        A new order locks money and a cancel unlocks it, so each changes the balances.
        """
        account, at_ms = session.account, self.now_ms()
        if news == "pending" or account is None:
            return
        for order in orders:
            self._push(session, wire.event(order, news, at_ms), "order")
        if news != "opened":
            for list_id in dict.fromkeys(order.category for order in orders if order.category):
                legs = [order for order in orders if order.category == list_id]
                if not self._spot.legs(account, list_id):
                    self._push(session, wire.list_event(self._spot.order_lists[list_id], legs, at_ms), "order")
        self.push_equity(session, account)

    def push_equity(self, session: Session, account: Account) -> None:
        """Send outboundAccountPosition."""
        self._push(session, wire.balances_event(account, self.now_ms()), "balance")

    def push_transfer(self, session: Session, amount: Any, at_ms: int) -> None:
        """Send balanceUpdate."""
        self._push(session, wire.transfer_event(amount, at_ms), "balance")
