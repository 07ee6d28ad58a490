"""A venue that states tables: routes, WebSockets, rate pools, error codes; the rest has defaults.

It owns its parts (an `Authenticator`, a `WsProtocol` for each path, the pools) and passes requests on to them. A venue
states `routes`, `sockets`, `auth`, `make_account`, `make_order`, `id_format`, `good` and `bad`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote

from kill_switch.sim.kit.auth import Authenticator
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.faults import SPECS
from kill_switch.sim.kit.limits import PoolSpec, RatePools
from kill_switch.sim.kit.options import Options
from kill_switch.sim.kit.protocol import DeferredAnswer, Request, SimAnswer, Understood, json_answer
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kit.trade import TradeHandlers
from kill_switch.sim.kit.values import json_object
from kill_switch.sim.kit.venue import Route
from kill_switch.sim.kit.ws_protocol import WsProtocol


class TableVenue(TradeHandlers):
    """Answer REST calls and WebSocket messages by tables."""

    # the venue's codes, by the HTTP status that the kit's faults speak in; 0 stands for any other
    errors: ClassVar[Mapping[int, str]] = {}
    malformed: ClassVar[tuple[str, int, str]] = ("", 400, "")  # how a body that is no JSON object is refused
    repeatable: ClassVar[frozenset[str]] = frozenset()  # parameters of a form or query that may come more than once
    cancelled_word = "canceled"
    supported = frozenset(SPECS)

    auth: Authenticator

    def __init__(self, options: Options, accounts: int) -> None:
        self.keys: dict[str, Account] = {}  # the accounts, by API key
        self.routes: dict[tuple[str, str], RouteSpec] = {}  # by method and path, which may have segments `{name}`
        self.sockets: dict[str, WsProtocol] = {}  # by path; the first is the private WebSocket of `ws_url`
        super().__init__(options, accounts)
        self.reconfigured()

    @abstractmethod
    def good(self, result: object) -> object:
        """Return the body of an answer that succeeded."""

    @abstractmethod
    def bad(self, code: str, text: str = "") -> object:
        """Return the body of a refusal; an empty text stands for the code's usual one."""

    # what a venue overrides if it differs

    def pool_specs(self) -> Iterable[PoolSpec]:
        """Return the rate pools; each request is charged its route's weight."""
        return ()

    def spec_of(self, request: Request) -> RouteSpec | None:
        """Return the row of `routes` that a request has; None if its path is unknown."""
        path = self._pattern(request)
        return None if path is None else self.routes[request.method, path]

    def error_status(self, status: int) -> int:
        """Return the HTTP status of an error; the option `error_status`, where there is one, states one for all."""
        forced: int = getattr(self.base_options, "error_status", 0)
        return forced if forced and status not in (429, 503) else status

    def parameters(self, request: Request) -> Params:
        """Parse a request's parameters: a JSON object, or a form and the query; and the path's.

        Raises `Refused` for a body that is no JSON object, and for a parameter that comes twice.
        """
        named = self.path_parameters(request)
        if request.method != "GET" and request.is_json:
            data = json_object(request.body or b"{}")
            if data is None:
                raise Refused(*self.malformed)
            return data | named
        form = parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
        query = parse_qsl(request.query, keep_blank_values=True)
        for pairs in (form, query):
            names = [name for name, _ in pairs if name not in self.repeatable]
            if len(set(names)) < len(names):
                raise Refused(*self.malformed)
        return dict(form) | dict(query) | named

    def path_parameters(self, request: Request) -> dict[str, str]:
        """Return the values of the segments `{name}` in the path of a request's row."""
        return path_values(self._pattern(request) or "", request.path) or {}

    def _pattern(self, request: Request) -> str | None:
        if (request.method, request.path) in self.routes:
            return request.path
        patterns = (path for method, path in self.routes if method == request.method and "{" in path)
        return next((path for path in patterns if path_values(path, request.path) is not None), None)

    # the hooks of the kit

    def urls(self, authority: str) -> dict[str, str]:
        """Return the addresses of the private WebSocket and of REST."""
        return {"ws_url": f"wss://{authority}{next(iter(self.sockets))}", "rest_url": f"https://{authority}"}

    def reconfigured(self) -> None:
        """Empty the rate pools."""
        self.pools = RatePools(self.pool_specs())

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Charge a private request's weight to the rate pools; an unknown path costs 1, an upgrade nothing."""
        spec = self.spec_of(request)
        if (spec is not None and spec.public) or "upgrade" in request.headers:
            return None
        account = self.account_of(request) or connection.peer
        weight = 1 if spec is None else spec.weight
        fits = self.pools.charge(weight, time.monotonic(), account=account, address=connection.peer)
        return None if fits else self.http_error(429, None, None)

    def charge_foreign(self, account: Account) -> None:
        """Charge a request of another program to the account's pools."""
        self.pools.charge(1, time.monotonic(), account=account.name, address="")

    def account_of(self, request: Request) -> str | None:
        """Return the account of the key."""
        account = self.keys.get(self.auth.key_of(request))
        return account.name if account else None

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check a request's key and signature."""
        account = self.keys.get(self.auth.key_of(request))
        if account is None:
            return self.no_account()
        try:
            code = self.auth.check(request, account)
        except Refused as refused:
            return self.http_error(refused.status, refused.code or None, refused.text or None)
        return account if code is None else self.http_error(401, code, None)

    def route(self, request: Request) -> Route | None:
        """Look the request up in `routes`."""
        spec = self.spec_of(request)
        if spec is None:
            return None

        def call(account: Account, asked: Request) -> SimAnswer | DeferredAnswer:
            try:
                result = spec.handler(account, self.parameters(asked))
            except Refused as refused:
                return self.http_error(refused.status, refused.code or None, refused.text or None)
            return result if isinstance(result, SimAnswer | DeferredAnswer) else json_answer(self.good(result))

        return Route(spec.kind, spec.operation, call, spec.weight, spec.public)

    def refused(self, request: Request) -> Route:
        """Return the route of an unknown path that is refused without a look at credentials."""
        return Route(
            "other", f"{request.method} {request.path}", lambda *_: self.http_error(404, None, None), public=True
        )

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an error with the venue's code for this status."""
        shown = code or self.errors.get(status) or self.errors.get(0) or text or f"HTTP {status}"
        return json_answer(self.bad(shown, text or ""), self.error_status(status), ok=False)

    def ws_error(self, heard: Understood, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return the error that the message's WebSocket has for this status, in the venue's words if it has any."""
        socket = self.sockets[heard.path]
        usual = socket.errors.get(status) or socket.errors.get(0)
        shown = text if code or not usual else None
        return socket.error(heard, code or usual or text or f"HTTP {status}", shown or "")

    def authorize_upgrade(self, connection: Connection, request: Request) -> SimAnswer | Account | None:
        """Accept the upgrade at a path of `sockets`; the login comes later."""
        return None if request.path in self.sockets else self.http_error(404, None, "no such path")

    def send_greeting(self, session: Session) -> None:
        """Send the greeting of the WebSocket's protocol."""
        self.sockets[session.path].greet(session)

    def parse_message(self, session: Session, message: str | bytes) -> Understood:
        """Parse by the WebSocket's protocol."""
        heard = self.sockets[session.path].parse(session, message)
        heard.path = session.path
        return heard

    def handle_message(self, session: Session, heard: Understood) -> SimAnswer:
        """Answer by the WebSocket's protocol."""
        return self.sockets[session.path].handle(session, heard, self.anonymous)

    def push_orders(self, account: Account, orders: Sequence[Order], news: str) -> None:
        """Send the order events: those that each session gets, then those of each session's protocol."""
        super().push_orders(account, orders, news)
        for session in tuple(self.listeners[account.name].values()):
            self.sockets[session.path].push_orders(session, orders, news)

    def tell_equity(self, account: Account) -> None:
        """Send the change of money, by the protocol of each session."""
        for session in tuple(self.listeners[account.name].values()):
            self.sockets[session.path].push_equity(session, account)


def path_values(pattern: str, path: str) -> dict[str, str] | None:
    """Return what a path has in place of each segment `{name}` of a pattern; None if it does not match."""
    pairs = list(zip(pattern.split("/"), path.split("/"), strict=False))
    if pattern.count("/") != path.count("/") or any(word != there for word, there in pairs if not word.startswith("{")):
        return None
    return {word[1:-1]: unquote(there) for word, there in pairs if word.startswith("{")}


def text_ids(value: object) -> list[Any]:
    """Return the ids of a list, or of a text with commas; empty if there are none."""
    if isinstance(value, str):
        return [part for part in value.split(",") if part]
    return value if isinstance(value, list) else []
