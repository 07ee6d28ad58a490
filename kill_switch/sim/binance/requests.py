"""The WebSocket API that takes requests: envelope, signatures, session.logon, weights (docs/venues/binance.md §2, §7).

Spot and both futures use it, each with calls of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import orjson

from kill_switch.sim.binance.errors import BY_STATUS, STATUSES, TEXTS, refusal
from kill_switch.sim.binance.known import check_known
from kill_switch.sim.binance.limits import Limit, limit_text
from kill_switch.sim.binance.signing import is_key
from kill_switch.sim.binance.venue import Binance, rate_limits, unavailable
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Kind, SimAnswer, Understood
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Op, Params, Refused
from kill_switch.sim.kit.ws_protocol import WsProtocol

_TAG = re.compile(r"[A-Za-z0-9_-]{1,36}")


class Call(NamedTuple):
    """An operation that REST has too; `whole` is its weight without a symbol."""

    kind: Kind
    operation: str
    handler: Callable[[Account, Params], object]
    weight: float = 1
    whole: float | None = None
    public: bool = False  # needs no key; the handler gets an account without a name


class Logon(NamedTuple):
    """The key of a connection on which `session.logon` succeeded."""

    key: str
    account: Account
    since_ms: int


class BinanceRequests(WsProtocol):
    """Answer requests; each is signed, unless the session is logged on."""

    errors: ClassVar[Mapping[int, str]] = BY_STATUS
    unreadable = "-1100"
    unknown_op = "-1100"
    no_login = "-2015"

    def __init__(self, venue: Binance, calls: Mapping[str, Call]) -> None:
        super().__init__()
        self.venue = venue
        self.logons: WeakKeyDictionary[Connection, Logon] = WeakKeyDictionary()
        self.revoked: WeakSet[Connection] = WeakSet()  # whose key became bad since the last request (§2)
        self._limit: Limit | None = None  # why it is refused, if it is for a pool
        self._whole = {name: call.whole for name, call in calls.items() if call.whole is not None}
        self.ops |= {name: self._op(name, call) for name, call in calls.items()}
        self.ops |= {
            "ping": Op("ping", lambda session, account, data: {}, private=False, weight=1),
            "time": Op("other", lambda s, a, d: {"serverTime": self.now_ms()}, private=False, weight=1),
            "session.logon": Op("login", self._log_on, weight=2),
            "session.status": Op("other", lambda s, a, d: self._state(s), private=False, weight=2),
            "session.logout": Op("other", self._log_out, private=False, weight=2),
        }

    def now_ms(self) -> int:
        """Return the venue's time."""
        return self.venue.now_ns() // 1_000_000

    def _op(self, name: str, call: Call) -> Op:
        def handler(session: Session, account: Account, data: dict[str, Any]) -> object:
            if call.kind == "read" and self.venue.list_fails(account, call.operation):
                raise refusal("-1000")
            params = params_of(data)
            check_known(self.venue.parameter_names, call.operation, params, "apiKey", "returnRateLimits")
            result = call.handler(account, params)
            if not isinstance(result, SimAnswer):
                return result
            body = orjson.loads(result.bodies[0])
            if not result.ok:
                raise Refused(str(body["code"]), result.status, body["msg"])
            return body

        return Op(call.kind, handler, not call.public, call.operation, call.weight)

    # the envelope

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        """Return `method` and `id`."""
        tag = data.get("id")
        return str(data.get("method")), None if tag is None else str(tag)

    def good(self, heard: Understood, result: object) -> object:
        """Return an answer, with the use of the pool."""
        return {"id": heard.data.get("id"), "status": 200, "result": result, **self._usage()}

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        """Return an error; that of a limit says until when."""
        data: dict[str, object] = {}
        if code == "-1016" and heard.answer is None:
            code, text = unavailable(self.venue.options)
        status = STATUSES.get(code, 400)
        if code == "-1003":
            limit = self._limit or Limit(429, 1.0)
            status, text = limit.status, limit_text(limit, self.venue.options.pool, self.venue.now())
            data = {"data": {"serverTime": self.now_ms(), "retryAfter": self.now_ms() + int(limit.wait_s * 1000)}}
        number = int(code) if code.removeprefix("-").isdigit() else -1000
        error = {"code": number, "msg": text or TEXTS.get(code, code), **data}
        return {"id": heard.data.get("id"), "status": status, "error": error, **self._usage()}

    def _usage(self) -> dict[str, object]:
        rows = rate_limits([("REQUEST_WEIGHT", "MINUTE", 1, self.venue.options.pool)])
        return {"rateLimits": [rows[0] | {"count": self.venue.limits.used(self.venue.address)}]}

    def greet(self, session: Session) -> None:
        """Note when the connection began; nothing is sent."""
        session.sequence["connected"] = self.now_ms()

    # who asks

    def account_of(self, session: Session, data: dict[str, Any]) -> Account | None:
        """Return the account of the key in the message, or of the logon."""
        key = params_of(data).get("apiKey")
        if key is not None:
            return self.venue.keys.get(str(key))
        logon = self.logons.get(session.connection)
        return logon.account if logon else None

    def claimed(self, data: dict[str, Any]) -> Account | None:
        """Return the account that a login claims to be."""
        return self.venue.keys.get(str(params_of(data).get("apiKey")))

    def parse(self, session: Session, message: str | bytes) -> Understood:
        """Parse a message, and charge its weight."""
        heard = super().parse(session, message)
        if heard.answer is None and not _is_tag(heard.data.get("id")):
            heard.answer = self.error(heard, "-1135")
        if "symbol" not in params_of(heard.data):
            heard.weight = self._whole.get(heard.op, heard.weight)
        heard.weight = max(heard.weight, 1)
        self._limit = self.venue.charge(session.connection.peer, heard.weight)
        if self._limit is not None:
            heard.answer = self.error(heard, "-1003")
        return heard

    def handle(self, session: Session, heard: Understood, anonymous: Account) -> SimAnswer:
        """Check the signature, then answer; a cancel that succeeds may cost nothing (§3.1)."""
        if session.connection in self.revoked:
            self.revoked.discard(session.connection)
            body = {"id": None, "status": 401, "error": {"code": -2015, "msg": TEXTS["-2015"]}}
            return SimAnswer((orjson.dumps(body),), ok=False)
        if self.ops[heard.op].private:
            try:
                self._check(session, params_of(heard.data))
            except Refused as refused:
                return self.error(heard, refused.code, refused.text)
        return super().handle(session, heard, anonymous)

    def _check(self, session: Session, params: Params) -> None:
        key = params.get("apiKey")
        logon = self.logons.get(session.connection)
        if key is None and logon is not None and "signature" not in params:
            self.venue.auth.check_time(params)
            return
        if not is_key(key):
            raise refusal("-2014")
        account = self.venue.keys.get(str(key))
        if account is None or self.venue.vanished(account.name):
            raise refusal("-2015")
        self.venue.auth.check_message(account, params)

    # the session (§2)

    def _log_on(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        key = str(params_of(data).get("apiKey"))
        if not self.venue.auth.is_ed25519(key):
            raise refusal("-4056", "HMAC_SHA256 API key is not supported.")
        if session.account not in (None, account):
            self.end_events(session)
        self.logons[session.connection] = Logon(key, account, self.now_ms())
        self.venue.attach(session, account)
        return self._state(session)

    def _log_out(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        self.logons.pop(session.connection, None)
        self.end_logon(session)
        return self._state(session)

    def _state(self, session: Session) -> dict[str, object]:
        logon = self.logons.get(session.connection)
        return {
            "apiKey": logon.key if logon else None, "authorizedSince": logon.since_ms if logon else None,
            "connectedSince": session.sequence["connected"],
            "returnRateLimits": True, "serverTime": self.now_ms(), "userDataStream": bool(session.channels),
        }  # fmt: skip

    def revoke(self, session: Session) -> None:
        """End a logon whose key became bad: the next request is answered by a frame without an id (§2)."""
        if self.logons.pop(session.connection, None) is not None:
            self.revoked.add(session.connection)

    # what spot adds

    def end_events(self, session: Session) -> None:
        """End every subscription of a session."""

    def end_logon(self, session: Session) -> None:
        """End the subscription that was made with the logon."""


def _is_tag(value: object) -> bool:
    """Return whether a value may be the id of a request: a whole number, a short text, or null."""
    return value is None or type(value) is int or (isinstance(value, str) and _TAG.fullmatch(value) is not None)


def params_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a message."""
    params = data.get("params")
    return params if isinstance(params, dict) else {}
