"""Roxom's WebSocket; § numbers are those of docs/venues/roxom.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import SimAnswer, Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Op, Refused
from kill_switch.sim.kit.ws_protocol import WsProtocol

if TYPE_CHECKING:
    from kill_switch.sim.roxom.venue import Roxom

_PRIVATE = {"orders": "order", "positions": "position", "balance": "balance", "account": "account"}
_MARKET = {"level1", "trade", "depth", "ticker"}
_TEXTS: Mapping[str, str] = {  # error codes and texts (§5)
    "600010": "Authentication failed",
    "60014": "Invalid channel",
    "60015": "Invalid symbol",
    "60016": "Subscription limit reached",
    "60017": "Message could not be parsed",
    "60018": "Binary frames are not supported",
    "60019": "Internal error",
}


class RoxomSocket(WsProtocol):
    """Subscriptions only: the upgrade is the login, and orders cannot be placed over the WebSocket (§5)."""

    errors: ClassVar[Mapping[int, str]] = {401: "600010", 429: "60016", 0: "60019"}
    unreadable = unknown_op = "60017"
    binary = "60018"

    def __init__(self, venue: Roxom) -> None:
        super().__init__()
        self._venue = venue
        self.strangers: set[Connection] = set()  # whose upgrade failed to authenticate; they get the error in a frame
        self.ops |= {  # §5 mentions a heartbeat without its form [U]
            "ping": Op("ping", lambda session, account, data: None, private=False, weight=1),
            "subscribe": Op("other", self._subscribe, private=False, weight=1),
            "unsubscribe": Op("other", self._subscribe, private=False, weight=1),
        }

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return `op`; answers repeat no tag."""
        return str(data.get("op")), None

    def good(self, heard: Understood, result: object) -> object:
        """Return the pong, or the acknowledgement that an option states."""
        if heard.op == "ping":
            return {"event": "pong", "connId": heard.session_id}
        if self._venue.options.ack == "none":
            return None
        details = {"args": heard.data["args"], "connId": heard.session_id}
        return {"event": heard.op} | (details if self._venue.options.ack == "full" else {})

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return an error frame (§5)."""
        shown = text or _TEXTS.get(code, "Refused")
        return {"event": "error", "code": code, "msg": shown, "connId": heard.session_id}

    def error(self, heard: Understood, code: str, text: str = "") -> SimAnswer:
        """Return an error frame, after which an option closes the WebSocket."""
        answer = super().error(heard, code, text)
        answer.close = 1008 if self._venue.options.errors_close else None
        return answer

    def greet(self, session: Session) -> None:
        """Send nothing to an authenticated client; send error 600010 to any other (§5)."""
        if session.connection in self.strangers:
            self.strangers.discard(session.connection)
            heard = Understood("other", "unreadable", session_id=session.id)
            session.connection.say(self.error(heard, "600010").bodies[0])
            if self._venue.options.ws_auth_failure == "frame+close":
                session.connection.close_websocket(1008, "Authentication failed")

    def _subscribe(self, session: Session, anonymous: Account, data: dict[str, Any]) -> object:
        if not isinstance(data.get("args"), list):
            raise Refused("60017")
        is_new = data["op"] == "subscribe"
        for channel in [self._channel(session, item, is_new) for item in data["args"]]:
            if is_new:
                self._venue.subscribe(session, channel)
            else:
                session.channels.discard(channel)
        return None

    def _channel(self, session: Session, item: object, is_new: bool) -> str:
        """Return the channel of an argument. Raises `Refused`."""
        named = item if isinstance(item, dict) else {}
        name, most = str(named.get("channel")), self._venue.options.subscriptions
        if name not in _PRIVATE and name not in _MARKET:
            raise Refused("60014")
        if name in _PRIVATE and session.account is None:
            raise Refused("600010")
        if name in _MARKET and not named.get("symbol"):
            raise Refused("60015")
        if is_new and 0 < most <= len(session.channels):
            raise Refused("60016")
        return _PRIVATE.get(name) or f"{name}.{named['symbol']}"
