"""Kraken derivatives' WebSocket v1: challenge, signed subscriptions, feeds (docs/venues/kraken.md §2.4, §5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Understood
from kill_switch.sim.kit.tables import Frames, Op, Refused
from kill_switch.sim.kit.ws_protocol import WsProtocol
from kill_switch.sim.kraken_futures import payloads as wire
from kill_switch.sim.kraken_futures.signing import answers_challenge

if TYPE_CHECKING:
    from kill_switch.sim.kraken_futures.venue import KrakenFutures

_FEEDS = (
    "open_orders", "open_orders_verbose", "balances", "open_positions", "fills", "account_log", "notifications_auth",
)  # fmt: skip


class V1Socket(WsProtocol):
    """Data only: it takes no orders. A connection's challenge is its id."""

    errors: ClassVar[Mapping[int, str]] = {
        401: "Invalid challenge or signature",
        403: "Permission denied",
        429: "Too many requests",
        503: "Unavailable",
    }
    unreadable = "Json Error"
    unknown_op = "Invalid event"

    def __init__(self, venue: KrakenFutures) -> None:
        super().__init__()
        self._venue = venue
        self.ops |= {
            "challenge": Op("login", self._challenge, private=False),
            "subscribe": Op("login", self._subscribe, private=False),
            "unsubscribe": Op("other", self._unsubscribe, private=False),
        }

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return `event`; answers repeat no number."""
        return str(data.get("event")), None

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message, and note whose key it names."""
        heard = super().parse(session, message)
        account = self._venue.keys.get("v3 " + str(heard.data.get("api_key")))
        heard.who = account.name if account else None
        return heard

    def good(self, heard: Understood, result: object) -> object:
        """Return the answer, which is an event."""
        return result

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return an error event."""
        return {"event": "error", "message": code}

    def greet(self, session: Session) -> None:
        """Send the version."""
        session.connection.say(b'{"event":"info","version":1}')

    def _challenge(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        if not isinstance(data.get("api_key"), str):
            raise Refused("Invalid API key")
        session.sequence["challenge"] = 1
        return {"event": "challenge", "message": session.id}

    def _signed(self, session: Session, data: dict[str, Any]) -> Account:
        account = self._venue.keys.get("v3 " + str(data.get("api_key")))
        asked = session.sequence["challenge"] and data.get("original_challenge") == session.id
        if account is None or not asked or not answers_challenge(account, session.id, data.get("signed_challenge")):
            raise Refused(self.errors[401])
        if session.account not in (None, account):
            raise Refused(self.errors[401])
        return account

    def _subscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        feed = data.get("feed")
        if feed == "heartbeat":
            session.channels.add("heartbeat")
            return {"event": "subscribed", "feed": feed}
        if feed not in _FEEDS:
            raise Refused("Invalid feed")
        account = self._signed(session, data)
        if feed in session.channels:
            raise Refused("Already subscribed to feed, re-requesting")
        self._venue.attach(session, account)
        session.channels.add(feed)
        snapshot = self._snapshot(account, feed)
        ack = {"event": "subscribed", "feed": feed}
        return Frames((ack, snapshot) if snapshot else (ack,))

    def _unsubscribe(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        self._signed(session, data)
        session.channels.discard(str(data.get("feed")))
        return {"event": "unsubscribed", "feed": data.get("feed")}

    def _snapshot(self, account: Account, feed: str) -> dict[str, object] | None:
        match feed:
            case "open_orders" | "open_orders_verbose":
                orders = [wire.feed_order(order) for order in self._venue.listed(account, "orders")]
                return {"feed": f"{feed}_snapshot", "account": account.venue_id, "orders": orders}
            case "balances":
                return {"feed": "balances_snapshot", "account": account.venue_id, **self._money(account)}
            case "open_positions":
                return {"feed": feed, "account": account.venue_id, "positions": wire.positions(account)}
            case "fills":
                return {"feed": "fills_snapshot", "account": account.venue_id, "fills": []}
        return None

    def _money(self, account: Account) -> dict[str, object]:
        flex = {"balance_value": float(account.cash), "portfolio_value": float(account.equity)}
        flex |= {"pnl": float(account.unrealised), "margin_equity": float(account.equity)}
        return {"holding": {}, "futures": {}, "flex_futures": flex, "timestamp": self._venue.now_ns() // 1_000_000}

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        """Send the events of the feeds of orders."""
        for feed in ("open_orders", "open_orders_verbose"):
            for order in orders if feed in session.channels else ():
                if event := wire.feed_news(order, news):
                    self._venue.event(session, orjson.dumps(event | {"feed": feed}), "order")

    def push_equity(self, session: Session, account: Account) -> None:
        """Send the changed money."""
        if "balances" in session.channels:
            event = {"feed": "balances", "account": account.venue_id, **self._money(account)}
            self._venue.event(session, orjson.dumps(event), "balance")
