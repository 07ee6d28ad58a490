"""Speak the WebSocket v1, which carries data and no commands (docs/venues/kraken.md § 2.4, § 5.2).

A connection asks for a challenge, and signs it in each private subscription. The lane's own pings keep it open.
"""

from __future__ import annotations

from typing import Any

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.kraken_futures.replies import read_push
from kill_switch.venues.kraken_futures.signing import sign_challenge
from kill_switch.venues.kraken_futures.transfers import AccountLogReader
from kill_switch.venues.messages import Outputs, Send, UnexplainedMessage

KEY_WORDS = ("api key", "api_key", "authent", "challenge", "signature", "permission")  # an error about the key
REFUSALS = frozenset({"error", "alert", "subscribed_failed"})


class WebSocketV1:
    """The connections of one account, whose adapter owns it and assembles the kit's parts behind it."""

    def __init__(self, adapter: KitAdapter[Any], key: str, secret: bytes, transfers: AccountLogReader) -> None:
        self.in_maintenance = False  # it is not told here
        self.login = (
            LoginStep(lambda conn, now: self._challenge(), _is_challenge),
            LoginStep(lambda conn, now: self._subscribe(conn, "open_orders"), _is_subscribed),
        )
        self.ping = None
        self._adapter = adapter
        self._key = key
        self._secret = secret
        self._transfers = transfers
        self._challenges: dict[int, str] = {}  # connection → the challenge that serves it
        self._heard = 0  # the connection whose message is being processed

    def _challenge(self) -> bytes:
        return orjson.dumps({"event": "challenge", "api_key": self._key})

    def _subscribe(self, conn: int, feed: str) -> bytes:
        challenge = self._challenges[conn]
        signed = sign_challenge(self._secret, challenge)
        login = {"api_key": self._key, "original_challenge": challenge, "signed_challenge": signed}
        return orjson.dumps({"event": "subscribe", "feed": feed, **login})

    def hear(self, conn: int, message: Message) -> None:
        """Keep a connection's challenge; call it before the message is processed."""
        self._heard = conn
        if _is_challenge(message):
            self._challenges[conn] = message["message"]

    def on_ready(self, conn: int) -> Outputs:
        """Subscribe to the account's log, without which a connection still shows its orders."""
        return (Send(conn, self._subscribe(conn, "account_log")),)

    def login_refusal(self, message: Message) -> LoginRefused | None:
        """Return what an error refuses; on a ready connection it is the log, which is read over REST then."""
        event = as_text(message.get("event"))
        if event not in REFUSALS:
            return None
        text = as_text(message.get("message"))
        words = self._adapter.evidence(f"WebSocket {event}:", text or as_text(message.get("feed")))
        if self._adapter.sessions.is_ready(self._heard):
            return LoginRefused(words, optional=True)
        return LoginRefused(words, fatal=any(word in text.lower() for word in KEY_WORDS))

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Process a message of a feed; a snapshot of orders is not applied, because the lists are read instead."""
        match message.get("feed"), message.get("event"):
            case "open_orders", None:
                order = read_push(message, self._adapter.book.orders)
                if order is None:
                    return (UnexplainedMessage("an order push that cannot be read"),)
                return self._adapter.book.apply_push(order)
            case "account_log", None:
                return self._transfers.on_entry(message.get("new_entry"), now)
            case "account_log_snapshot", None:
                return self._transfers.on_snapshot(conn, message.get("logs"), now)
            case (("open_orders_snapshot" | "heartbeat"), None) | (_, "info" | "subscribed" | "challenge"):
                return ()
            case _:
                return (UnexplainedMessage("a message that no document explains"),)

    def forget(self, conn: int) -> None:
        """Forget a connection that is gone."""
        self._transfers.on_closed(conn)
        self._challenges.pop(conn, None)


def _is_challenge(message: Message) -> bool:
    return message.get("event") == "challenge" and isinstance(message.get("message"), str)


def _is_subscribed(message: Message) -> bool:
    """Return whether a message shows that orders are pushed; the snapshot is documented, its acknowledgement is not."""
    feed, event = message.get("feed"), message.get("event")
    return (event == "subscribed" and feed == "open_orders") or (event is None and feed == "open_orders_snapshot")
