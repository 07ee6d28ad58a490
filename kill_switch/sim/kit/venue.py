"""The common part of every simulated venue: requests, messages, the request log, and the faults that affect them.

Each venue is a subclass in a folder of its own, which classifies a request, checks it as its documents state, and
answers. Faults are applied here, never in a subclass, so that every venue has every fault.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import ExchangeSim, Session
from kill_switch.sim.kit.faults import Fault, Lane
from kill_switch.sim.kit.options import Options, unknown
from kill_switch.sim.kit.protocol import DeferredAnswer, Kind, Request, SimAnswer, Understood, encode
from kill_switch.sim.kit.request_log import RequestLogEntry
from kill_switch.sim.kit.server import Connection, PendingReply

_LOG = 200_000
GARBLED = b'}{"garbled":'


@dataclass(slots=True)
class Route:
    """The purpose of an HTTP request, and the function that answers it; `call` gets the authenticated account."""

    kind: Kind
    operation: str
    call: Callable[[Account, Request], SimAnswer | DeferredAnswer]
    weight: float = 1  # what the request costs in the venue's pool
    public: bool = False  # needs no credentials; `call` gets an account without a name


class Venue(ExchangeSim):
    """Serve one venue to any number of accounts. It is a `Handler` of the server."""

    options_type: ClassVar[type[Options]]
    pings_count: ClassVar[bool] = False  # whether a ping frame keeps a WebSocket alive, as a message does
    upgrade_weight: ClassVar[float] = 1  # what a WebSocket upgrade costs in the venue's pool

    def __init__(self, options: Options, accounts: int) -> None:
        super().__init__(options, accounts)
        self.log: deque[RequestLogEntry] = deque(maxlen=_LOG)
        self.connections: set[Connection] = set()
        self.anonymous = Account("", "", {})  # who makes public requests

    # implemented by each venue

    @abstractmethod
    def urls(self, authority: str) -> dict[str, str]:
        """Return `ws_url` and `rest_url` for a `host:port`, and further addresses by their configuration keys."""

    @abstractmethod
    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Count a request against the rate limits; return a refusal, or None."""

    @abstractmethod
    def route(self, request: Request) -> Route | None:
        """Return the route of a request; None if its path is unknown."""

    @abstractmethod
    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check a request's credentials; return its account, or a refusal."""

    @abstractmethod
    def account_of(self, request: Request) -> str | None:
        """Return the account that a request claims to be, unchecked."""

    @abstractmethod
    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Decide a WebSocket upgrade: return a refusal, the account that it logs in, or None for an anonymous one."""

    @abstractmethod
    def parse_message(self, session: Session, message: str | bytes) -> Understood:
        """Parse a WebSocket message, and count it against the limits."""

    @abstractmethod
    def handle_message(self, session: Session, heard: Understood) -> SimAnswer:
        """Carry out a parsed WebSocket message."""

    @abstractmethod
    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an HTTP error; None stands for the venue's usual code or text for this status."""

    @abstractmethod
    def ws_error(self, heard: Understood, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return the WebSocket error that corresponds to this HTTP status."""

    # what a venue overrides if it differs

    def joined(self, venues: Iterable[Venue]) -> None:
        """Share with the other simulators of this process what the venues share, such as a rate pool."""

    def usage_headers(self, connection: Connection) -> Mapping[str, str]:
        """Return the headers of every answer that say how much of its limits a client has used."""
        return {}

    def account_options(self) -> Mapping[str, object]:
        """Return the further configuration keys that an account at this simulator needs."""
        return {}

    def send_greeting(self, session: Session) -> None:
        """Send the first frames of a new WebSocket, where the venue has them."""

    def reconfigured(self) -> None:
        """Apply options that were changed."""

    def charge_foreign(self, account: Account) -> None:
        """Charge a request of another program to the rate pool of an account, where programs share one."""

    def login_failed(self, connection: Connection) -> None:
        """Count a request whose credentials were refused, where the venue locks such clients out."""

    def no_account(self) -> SimAnswer:
        """Return the refusal of unknown credentials."""
        return self.http_error(401, None, None)

    # connections

    def connected(self, connection: Connection) -> None:
        """Register a connection; a half-open venue does not read it."""
        self.connections.add(connection)
        fault = self.faults.peek("half_open")
        if fault and fault.account is None and fault.lane is None:
            connection.freeze()

    def disconnected(self, connection: Connection) -> None:
        """Remove a closed connection and its session."""
        self.connections.discard(connection)
        session = self.sessions.pop(connection, None)
        if session and session.account:
            self.listeners[session.account.name].pop(connection, None)

    def put_fault(self, name: object, parameters: Mapping[str, object]) -> None:
        """Switch a fault on, and apply it to the present connections. Raises `ValueError` with one line for people."""
        target, which = parameters.get("account"), parameters.get("list")
        if target is not None:
            self.check_target(str(name), target)
        if which is not None and which not in (*self.lists, *self.reads):
            raise ValueError(unknown(f"list of {self.name}", which, (*self.lists, *self.reads)))
        fault = self.faults.put(name, parameters)
        match fault.name:
            case "half_open":
                for connection in self._of(fault):
                    connection.freeze()
            case "disconnect" if fault.instant:
                for connection in self._of(fault):
                    connection.abort()
            case "expire_token":
                self.expire_logins(fault.account)
            case "foreign_use":
                self._send_foreign(fault)

    def _send_foreign(self, fault: Fault) -> None:
        """Send one request of another program for each account that the fault affects, and repeat while it is on."""
        if self.faults.peek("foreign_use") is not fault:
            return
        for account in self.accounts.values():
            if fault.account in (None, account.name):
                self.charge_foreign(account)
        self.later(1 / fault.per_s, self._send_foreign, fault)

    def expire_logins(self, account_name: str | None) -> None:
        """End the logins of an account, or of all."""
        for session in tuple(self.sessions.values()):
            if session.account is not None and account_name in (None, session.account.name):
                self.expire(session)

    def clear_faults(self, name: str | None = None) -> None:
        """Switch one fault off, or all. Raises `ValueError` for an unknown name."""
        if name is not None and name not in self.supported:
            raise ValueError(unknown("fault", name, self.supported))
        self.faults.clear(name)
        if self.faults.peek("half_open") is None:
            for connection in tuple(self.connections):
                connection.thaw()

    def _of(self, fault: Fault) -> list[Connection]:
        theirs = [c for c in self.connections if fault.account in (None, c.account)]
        return [c for c in theirs if fault.lane is None or c.is_websocket is (fault.lane == "ws")]

    def _freezes(self, connection: Connection, lane: Lane) -> bool:
        """Freeze a connection if its lane is half-open; return whether it is."""
        fault = self.faults.on("half_open", connection.account)
        if fault is None or fault.lane != lane:
            return False
        connection.freeze()
        return True

    # HTTP

    def requested(self, exchange: PendingReply) -> None:
        """Answer a request: limits, faults, authentication, then the route."""
        request, connection = exchange.request, exchange.connection
        if self.faults.active and self._freezes(connection, "http"):
            return
        route = self.route(request)
        kind: Kind = route.kind if route else "other"
        operation = route.operation if route else f"{request.method} {request.path}"
        seen = RequestLogEntry(request.t_ns, "http", operation, False, None, route.weight if route else 1)
        self.log.append(seen)
        answer: SimAnswer | DeferredAnswer | None = self.throttle(connection, request)
        if answer is None and self.faults.active:
            account_name = self.account_of(request)
            if self._dropped(connection, kind, account_name, after=False):
                return
            if kind == "login" and self.faults.hit("hang_login", "login", account_name):
                return
            if route is None or not route.public:
                answer = self._fault(kind, account_name, "http")
        if answer is None and route is not None and route.public:
            answer = route.call(self.anonymous, request)
        elif answer is None:
            account = self.authenticate(request)
            if isinstance(account, SimAnswer):
                self.login_failed(connection)
                answer = account
            else:
                connection.account = seen.account = account.name
                if route is None:
                    answer = self.http_error(404, None, None)
                elif kind == "read" and self.list_fails(account, route.operation):
                    answer = self.http_error(500, None, None)
                else:
                    answer = route.call(account, request)
        if isinstance(answer, DeferredAnswer):
            make = answer.make
            self.later(answer.seconds, lambda: self._reply(exchange, kind, seen, make()))
        else:
            self._reply(exchange, kind, seen, answer)

    def _reply(self, exchange: PendingReply, kind: Kind, seen: RequestLogEntry, answer: SimAnswer) -> None:
        seen.ok = answer.ok
        body = answer.bodies[0]
        headers = {"Date": self.date(), **self.usage_headers(exchange.connection), **answer.headers}
        if not self.faults.active:
            exchange.reply(answer.status, body, headers)
            return
        connection = exchange.connection
        account_name = connection.account
        if self._dropped(connection, kind, account_name, after=True) or self.faults.hit(
            "drop_reply", kind, account_name, "http"
        ):
            return
        if self.faults.hit("garble", kind, account_name, "http"):
            body = GARBLED + body
        delay = self.faults.hit("delay", kind, account_name, "http")
        wait = delay.ms / 1000 if delay else 0.0
        if self.faults.hit("truncate", kind, account_name, "http"):
            data = encode(answer.status, body, keep_alive=True, headers=headers)
            cut = data[: len(data) - max(1, len(body) // 2)]
            self.later(wait, lambda: exchange.send(cut, close=True))
        else:
            self.later(wait, exchange.reply, answer.status, body, headers)

    # WebSocket

    def upgrading(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Decide a WebSocket upgrade; it counts as a login where the venue logs in by the upgrade."""
        seen = RequestLogEntry(request.t_ns, "ws", "connect", False, None, self.upgrade_weight)
        self.log.append(seen)
        answer: SimAnswer | Account | None = self.throttle(connection, request)
        if answer is None and self.faults.active:
            account_name = self.account_of(request)
            answer = self._fault("login", account_name, "ws", upgrade=True)
            if self._freezes(connection, "ws") or (
                account_name is not None and self.faults.hit("hang_login", "login", account_name)
            ):
                connection.freeze()
        if answer is None:
            answer = self.authorize_upgrade(connection, request)
        if isinstance(answer, SimAnswer):
            return answer
        seen.ok = True
        session = self.sessions[connection] = Session(connection, heard_at=time.monotonic(), path=request.path)
        if answer is not None:
            self.attach(session, answer)
            seen.account = answer.name
        return None

    def opened(self, connection: Connection, request: Request) -> None:
        """Greet the client, and start the idle time-out."""
        session = self.sessions[connection]
        self.send_greeting(session)
        self._watch(session)
        if self.base_options.life_s > 0:
            self.later(self.base_options.life_s, connection.close_websocket, 1001, "too old")

    def _watch(self, session: Session) -> None:
        connection, idle = session.connection, self.base_options.idle_s
        if connection.closing or idle <= 0:
            return
        alive_at = max(session.heard_at, connection.pinged_at) if self.pings_count else session.heard_at
        left = alive_at + idle - time.monotonic()
        if left <= 0 and not connection.frozen:
            connection.close_websocket(self.base_options.idle_close_code, "idle")
        else:
            self.later(max(left, 0.05), self._watch, session)

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Answer a message: faults first, then the venue."""
        session = self.sessions[connection]
        session.heard_at = time.monotonic()
        heard = self.parse_message(session, message)
        seen = RequestLogEntry(connection.t_ns, "ws", heard.operation, False, connection.account, heard.weight)
        self.log.append(seen)
        answer = heard.answer
        if self.faults.active:
            if self._dropped(connection, heard.kind, connection.account, after=False):
                return
            if heard.kind == "login" and self.faults.hit("hang_login", "login", heard.who):
                return
            if answer is None:
                answer = self._fault(heard.kind, connection.account or heard.who, "ws", heard)
        if answer is None:
            answer = self.handle_message(session, heard)
        seen.ok, seen.account = answer.ok, connection.account
        if not self.faults.active:
            for body in answer.bodies:
                connection.say(body)
        elif not self._dropped(connection, heard.kind, connection.account, after=True):
            self._say(connection, heard.kind, answer)
        if answer.close is not None:
            connection.close_websocket(answer.close)

    def _say(self, connection: Connection, kind: Kind, answer: SimAnswer) -> None:
        account_name, faults = connection.account, self.faults
        if faults.hit("drop_reply", kind, account_name, "ws"):
            return
        bodies = answer.bodies
        if faults.hit("garble", kind, account_name, "ws"):
            bodies = tuple(GARBLED + body for body in bodies)
        delay = faults.hit("delay", kind, account_name, "ws")
        wait = delay.ms / 1000 if delay else 0.0
        if bodies and faults.hit("truncate", kind, account_name, "ws"):
            self.later(wait, self._cut, connection, bodies[0])
            return
        for body in bodies:
            self.later(wait, connection.say, body)

    def _cut(self, connection: Connection, body: bytes) -> None:
        frame = connection.frame(body)
        connection.write(frame[: len(frame) - max(1, len(body) // 2)])
        connection.finish()

    # faults

    def _dropped(self, connection: Connection, kind: Kind, account_name: str | None, *, after: bool) -> bool:
        fault = self.faults.peek("disconnect")
        if fault is None or fault.after is not after or not self.faults.hit("disconnect", kind, account_name):
            return False
        connection.abort()
        return True

    def _fault(
        self,
        kind: Kind,
        account_name: str | None,
        lane: Lane,
        heard: Understood | None = None,
        *,
        upgrade: bool = False,
    ) -> SimAnswer | None:
        if kind == "ping":
            return None
        faults = self.faults

        def fail(status: int, code: str | None, text: str | None) -> SimAnswer:
            answer = self._failure(heard, status, code, text)
            if upgrade and answer.status < 300:  # a venue whose every answer is 200 cannot refuse an upgrade so
                answer.status = status
            return answer

        if faults.hit("ip_refused", None, account_name) and heard is None:  # connections that are open stay open
            return fail(403, None, "This IP address is not allowed")
        if faults.hit("rate_limit", kind, account_name, lane):
            return fail(429, None, None)
        if faults.hit("maintenance", kind, account_name, lane):
            return fail(503, None, None)
        if fault := faults.hit("refuse", kind, account_name, lane):
            return fail(fault.status or 400, fault.code, fault.message)
        if self.vanished(account_name) and not upgrade:
            return fail(401, None, None) if heard else self.no_account()
        if faults.hit("read_only_key", kind, account_name):
            return fail(403, None, "This key may read only")
        # a venue that logs in by the upgrade checks this fault itself
        if not upgrade and faults.hit("reject_login", kind, account_name, lane):
            return fail(401, None, None)
        return None

    def _failure(self, heard: Understood | None, status: int, code: str | None, text: str | None) -> SimAnswer:
        answer = self.http_error(status, code, text) if heard is None else self.ws_error(heard, status, code, text)
        answer.ok = False
        return answer
