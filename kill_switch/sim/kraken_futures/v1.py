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
_MOST_FILLS = 100  # of a snapshot
_MOST_ROWS = 500  # of a snapshot of the log, the newest first


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
                return self._money(account) | {"feed": "balances_snapshot", "holding": {}, "futures": {}, "seq": 0}
            case "open_positions":
                return self._positions(account)
            case "fills":
                traded = [order for order in account.closed.values() if order.filled][-_MOST_FILLS:]
                rows = [wire.fill_row(order, number) for number, order in enumerate(traded)]
                return {"feed": "fills_snapshot", "account": account.venue_id, "fills": rows}
            case "account_log":
                logged = [wire.feed_log(row) for row in self._venue.past(account).log]
                return {"feed": "account_log_snapshot", "logs": logged[: -_MOST_ROWS - 1 : -1]}
        return None

    def _positions(self, account: Account) -> dict[str, object]:
        stamp = self._venue.now_ns() // 1_000_000
        rows = wire.feed_positions(account)
        return {"feed": "open_positions", "account": account.venue_id, "positions": rows, "seq": 0, "timestamp": stamp}

    def _money(self, account: Account) -> dict[str, object]:
        stamp = self._venue.now_ns() // 1_000_000
        flex = wire.feed_money(account)
        return {"feed": "balances", "account": account.venue_id, "flex_futures": flex, "timestamp": stamp}

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        """Send the events of the feeds of orders; a fill changes those of fills, positions and money too."""
        for feed in ("open_orders", "open_orders_verbose"):
            for order in orders if feed in session.channels else ():
                if event := wire.feed_news(order, news):
                    self._venue.event(session, orjson.dumps(event | {"feed": feed}), "order")
        if news == "filled" and session.account is not None:
            self._push_fills(session, session.account, orders)
            self.push_equity(session, session.account)

    def _push_fills(self, session: Session, account: Account, orders: Sequence[Order]) -> None:
        if "fills" in session.channels:
            rows = [wire.fill_row(order, session.sequence["fills"] + number) for number, order in enumerate(orders, 1)]
            session.sequence["fills"] += len(rows)
            event: dict[str, object] = {"feed": "fills", "username": account.venue_id, "fills": rows}
            self._venue.event(session, orjson.dumps(event), "order")
        if "open_positions" in session.channels:
            self._venue.event(session, orjson.dumps(self._positions(account)), "position")

    def push_equity(self, session: Session, account: Account) -> None:
        """Send the changed money: an update has the account that changed, and the snapshot has each."""
        if "balances" in session.channels:
            session.sequence["balances"] += 1
            event = self._money(account) | {"seq": session.sequence["balances"]}
            self._venue.event(session, orjson.dumps(event), "balance")
