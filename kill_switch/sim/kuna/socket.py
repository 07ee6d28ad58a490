"""KUNA's WebSocket, which speaks SocketCluster; § numbers are those of docs/venues/kuna.md."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import SimAnswer, Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Frames, Op, Refused
from kill_switch.sim.kit.ws_protocol import WsProtocol
from kill_switch.sim.kuna import payloads as wire
from kill_switch.sim.kuna.signing import SINGLE

if TYPE_CHECKING:
    from kill_switch.sim.kuna.venue import Kuna

_PRIVATE = ("order", "trade", "accounts")
_BEFORE_HANDSHAKE = 4009  # SocketCluster's close code for a message before the handshake
_TEXTS = {"REQUEST_INVALID_KEY": "Wrong api key or user blocked"}


class KunaSocket(WsProtocol):
    """Handshake, login, subscriptions; orders cannot be placed here (§5). A message without `cid` gets no answer."""

    errors: ClassVar[Mapping[int, str]] = {401: "REQUEST_INVALID_KEY", 429: "TOO_MANY_REQUESTS", 0: "BAD_REQUEST"}
    unreadable = "BAD_REQUEST"

    def __init__(self, venue: Kuna) -> None:
        super().__init__()
        self._venue = venue
        self._tokens: dict[str, Account] = {}
        self.shaken: set[Connection] = set()  # connections whose SocketCluster handshake is complete
        self.ops |= {
            "#handshake": Op("other", self._handshake, False, "handshake", 1),
            "login": Op("login", self._login, False, weight=1),
            "#subscribe": Op("other", self._subscribe, False, "subscribe", 1),
            "#unsubscribe": Op("other", self._subscribe, False, "unsubscribe", 1),
            "rid": Op("other", lambda session, account, data: Frames(()), False, "ack", 1),
        }

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return the event, or `rid` for an answer to a push of ours; and `cid`."""
        tag = str(data["cid"]) if type(data.get("cid")) is int else None
        return "rid" if "rid" in data else str(data.get("event")), tag

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a frame (§5); an empty one is a ping or a pong. All but these and answers need the handshake."""
        if not message:
            return Understood("ping", "ping", answer=SimAnswer(()))
        heard = super().parse(session, message)
        is_event = heard.op in self.ops and heard.op != "rid"
        if is_event and (session.connection in self.shaken) == (heard.op == "#handshake"):
            heard.answer = SimAnswer((), ok=False, close=_BEFORE_HANDSHAKE)
        return heard

    def claimed(self, data: dict[str, Any]) -> Account | None:
        """Return the account of the single key, which is sent unsigned (§5)."""
        key = data.get("data")
        return self._venue.keys.get(SINGLE + key) if isinstance(key, str) else None

    def good(self, heard: Understood, result: object) -> object:
        """Return the answer to a numbered message."""
        data = {} if result is None else {"data": result}
        return None if heard.tag is None else {"rid": int(heard.tag)} | data

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return the error to a numbered message (§5)."""
        if heard.tag is None:
            return None
        text = text or ("Unknown event" if code == self.unknown_op else _TEXTS.get(code, "Refused"))
        shown = "BAD_REQUEST" if code == self.unknown_op else code
        return {"rid": int(heard.tag), "error": wire.error(shown, text)}

    def greet(self, session: Session) -> None:
        """Send no greeting, and start to ping (§5)."""
        self._ping(session, first=True)

    def _ping(self, session: Session, *, first: bool = False) -> None:
        every = self._venue.options.ping_s
        if session.connection.closing or every <= 0:
            return
        if not first:
            session.connection.say(b"")
        self._venue.later(every, lambda: self._ping(session))

    def _handshake(self, session: Session, anonymous: Account, data: dict[str, Any]) -> object:
        """Start a session; a token of an earlier login logs it in (§5)."""
        self.shaken.add(session.connection)
        sent = data.get("data")
        account = self._tokens.get(str(sent.get("authToken"))) if isinstance(sent, dict) else None
        if account is not None:
            self._venue.attach(session, account)
        timeout_ms = int(self._venue.options.idle_s * 1000)
        return {"id": secrets.token_urlsafe(15), "pingTimeout": timeout_ms, "isAuthenticated": account is not None}

    def _login(self, session: Session, anonymous: Account, data: dict[str, Any]) -> object:
        account = self.claimed(data)
        if account is None:
            raise Refused("REQUEST_INVALID_KEY")
        token, options = wire.token(), self._venue.options
        self._tokens[token] = account
        self._venue.log_in(session, account, options.token_s)
        token_event: tuple[object, ...] = ({"event": "#setAuthToken", "data": {"token": token}},)
        reply = self.good(Understood("login", "login", tag=self.op_of(data)[1]), None)
        replied = () if reply is None else (reply,)
        return Frames({"before": token_event + replied, "after": replied + token_event, "none": replied}[options.token])

    def revoke(self, account: Account) -> None:
        """End the tokens of an account."""
        self._tokens = {token: owner for token, owner in self._tokens.items() if owner is not account}

    def _subscribe(self, session: Session, anonymous: Account, data: dict[str, Any]) -> object:
        """Subscribe with `{"channel": name}`, unsubscribe with the name alone (§5)."""
        sent, is_new = data.get("data"), data["event"] == "#subscribe"
        channel = (sent.get("channel") if isinstance(sent, dict) else None) if is_new else sent
        if not isinstance(channel, str) or not channel:
            raise Refused("BAD_REQUEST", text="Wrong channel")
        if is_new and channel in _PRIVATE and session.account is None:
            raise Refused("UNAUTHORIZED", text="Log in first")
        if is_new:
            self._venue.subscribe(session, channel)
        else:
            session.channels.discard(channel)
        return None
