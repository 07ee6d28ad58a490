"""Deribit's JSON-RPC over HTTP: GET of a method, POST of a request, the headers that prove (docs/venues/deribit.md §2).

The venue is made of it; it knows the table of methods, and no single one.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from kill_switch.sim.deribit.grants import Credentials, Grant, Grants, unauthorized
from kill_switch.sim.deribit.options import DeribitOptions
from kill_switch.sim.deribit.rpc import MOST_BYTES, Call, Method, checked, error, is_request, method_of
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.protocol import Request, SimAnswer
from kill_switch.sim.kit.server import Connection, PendingReply
from kill_switch.sim.kit.table_venue import TableVenue
from kill_switch.sim.kit.tables import Params, Refused, RouteSpec
from kill_switch.sim.kit.values import json_object

API = "/api/v2"
_HTTP_S = 900.0  # after which a connection of HTTP is closed (§1)


class RpcVenue(TableVenue):
    """Answer requests of JSON-RPC by the table of methods."""

    auth: Credentials  # type: ignore[assignment]
    grants: Grants
    options: DeribitOptions
    methods: Mapping[str, Method]

    def __init__(self, options: DeribitOptions, accounts: int) -> None:
        self.options = options
        self.arrived_ns = 0  # when the latest request or message came, monotonic
        self._exchange: PendingReply | None = None  # the HTTP request that is being answered
        self._rpc: dict[str, Any] | None = {}  # its body; None if that is no JSON object
        self._grant: Grant | None = None  # what it may do
        self._surplus: set[Connection] = set()  # connections above the limit
        super().__init__(options, accounts)

    @abstractmethod
    def charge(self, client: str, name: str, params: object) -> bool:
        """Charge a call to its pool of an account, or of an address; return whether it fits (§7)."""

    @abstractmethod
    def cost(self, name: str, params: object) -> float:
        """Return what a call costs in its pool."""

    @abstractmethod
    def claimed(self, params: object) -> Account | None:
        """Return the account that the parameters of a login claim, unchecked."""

    # the envelope

    def envelope(self, key: str, value: object, request: Mapping[str, Any] | None) -> dict[str, object]:
        """Return a reply: it repeats the request's id, and has its times in microseconds (§2)."""
        out = self.now_ns() // 1000
        took = max(0, (time.monotonic_ns() - self.arrived_ns) // 1000)
        named = {"id": request["id"]} if request and "id" in request else {}
        stamps = {"usIn": out - took, "usOut": out, "usDiff": took, "testnet": self.options.testnet}
        return {"jsonrpc": "2.0", **named, key: value, **stamps}

    def refusal(self, code: str, text: str, request: Mapping[str, Any] | None) -> dict[str, object]:
        """Return a reply with an error."""
        return self.envelope("error", error(code, text), request)

    def good(self, result: object) -> object:
        """Return the body of a success over HTTP."""
        return self.envelope("result", result, self._rpc)

    def bad(self, code: str, text: str = "") -> object:
        """Return the body of an error over HTTP."""
        return self.refusal(code, text, self._rpc)

    def error_status(self, status: int) -> int:
        """Return the HTTP status of an error: 401 and 429 are the only ones besides 400 (§8)."""
        if status == 429 or self._exchange is None:  # an upgrade is refused with the status itself
            return status
        return self.options.error_status or (status if status == 401 else 400)

    def http_error(self, status: int, code: str | None, text: str | None) -> SimAnswer:
        """Return an error; a status of the proxy comes as HTML, and a limit ends the connection."""
        if status == 429 and self._exchange is not None:
            self._exchange.close, self._exchange.request.keep_alive = True, False
        if status > 500 and status != 503 and code is None:
            return SimAnswer((b"<html><body>cloudflare</body></html>",), status, ok=False)
        return super().http_error(status, code, text if code else None)

    # a method, over either transport

    def run(self, name: str, call: Call, params: object, *, texts: bool) -> object:
        """Check a call's scope and parameters, and carry it out. Raises `Refused`."""
        method = self.methods[name]
        if call.grant is not None and not call.grant.allows(method.scope):
            raise Refused("13021", 400, f"scope {method.scope}")
        call.params = checked(method.params, params, texts=texts)
        if call.session and method.kind == "read" and self.list_fails(call.account, method.operation):
            raise Refused("11094", 400)
        return method.handler(call)

    def answer(self, name: str, account: Account, params: Params) -> object:
        """Carry out the method of the HTTP request that is being answered."""
        exchange = self._exchange
        if exchange is None:
            raise RuntimeError("no request is being answered")
        call = Call(account, {}, exchange.connection, None, self._grant)
        is_post = exchange.request.method == "POST"
        return self.run(name, call, self._arguments(exchange.request), texts=not is_post)

    # requests

    def requested(self, exchange: PendingReply) -> None:
        """Note the request, then answer it at once."""
        request = exchange.request
        self._exchange, self.arrived_ns, self._grant = exchange, request.t_ns, None
        self._rpc = json_object(request.body) if request.method == "POST" else {}
        super().requested(exchange)
        self._exchange, self._rpc = None, {}

    def _method_of(self, request: Request) -> str:
        return request.path.removeprefix(f"{API}/") if request.method == "GET" else method_of(self._rpc)

    def _arguments(self, request: Request) -> object:
        if request.method == "POST":
            return (self._rpc or {}).get("params")
        pairs = parse_qsl(request.query, keep_blank_values=True)
        return (dict(pairs) if len(dict(pairs)) == len(pairs) else pairs) or None  # a name that comes twice is refused

    def spec_of(self, request: Request) -> RouteSpec | None:
        """Return the row of a method; the row of a malformed request refuses it without a look at its sender."""
        name, rpc = self._method_of(request), self._rpc
        spec = self.routes.get(("GET", f"{API}/{name}"))
        if request.method == "POST":
            if len(request.body) > MOST_BYTES:
                return _refused("-32600")
            if rpc is None or not request.is_json:
                return _refused("11050")
            if not is_request(rpc, needs_id=self.options.needs_id):
                return _refused("11050", "not a request of JSON-RPC 2.0")
        is_known = request.path == f"{API}/{name}" or (request.method, request.path) == ("POST", API)
        if spec is None or not is_known or request.method not in ("GET", "POST"):
            return _refused("-32601")
        return spec._replace(weight=self.cost(name, self._arguments(request)))

    def parameters(self, request: Request) -> Params:
        """Return nothing: a call parses its own."""
        return {}

    def throttle(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Refuse a connection too many, and charge a request (§7)."""
        fits = connection not in self._surplus
        if fits and "upgrade" not in request.headers:
            client = self.account_of(request) or connection.peer
            fits = self.charge(client, self._method_of(request), self._arguments(request))
        if fits:
            return None
        return self.http_error(429, None, None)

    def account_of(self, request: Request) -> str | None:
        """Return the account that a header names, or a login."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            grant = self.grants.by_access(token)
            return grant.account.name if grant else None
        is_login = self._method_of(request) == "public/auth"
        account = self.claimed(self._arguments(request) if is_login else None)
        account = account or self.keys.get(self.auth.key_of(request))
        return account.name if account else None

    def authenticate(self, request: Request) -> Account | SimAnswer:
        """Check what a private request proves itself with; a login is checked by its method."""
        if self._method_of(request) == "public/auth":
            return self.anonymous
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                self._grant = self.auth.by_header(request)
            elif self._exchange is None or (grant := self.granted(token, self._exchange.connection)) is None:
                raise unauthorized()
            else:
                self._grant = grant
        except Refused as refused:
            return self.http_error(refused.status, refused.code, refused.text or None)
        return self._grant.account

    def granted(self, token: object, connection: Connection) -> Grant | None:
        """Return what a token allows on a connection; None if it is not in force there."""
        grant = self.grants.by_access(token)
        if grant is None or grant.connection not in (None, connection) or grant.ip not in ("", connection.peer):
            return None
        return grant

    # connections

    def connected(self, connection: Connection) -> None:
        """Register a connection: it may be one too many, and HTTP lasts for 15 minutes (§1, §5)."""
        most = self.options.connections
        if most and sum(other.peer == connection.peer for other in self.connections) >= most:
            self._surplus.add(connection)
        super().connected(connection)
        self.later(_HTTP_S, self._end_http, connection)

    def _end_http(self, connection: Connection) -> None:
        if not connection.is_websocket and not connection.closing and not connection.frozen:
            connection.finish()

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection."""
        self._surplus.discard(connection)
        super().disconnected(connection)


def _refused(code: str, text: str = "") -> RouteSpec:
    def handler(account: Account, params: Params) -> object:
        raise Refused(code, 400, text)

    return RouteSpec("other", "refused", handler, public=True)
