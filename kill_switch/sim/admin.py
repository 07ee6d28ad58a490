"""The admin API of the simulators: plain HTTP and JSON, for this machine only.

Tests and the testbed use it. Its requests:

    `POST /orders {"venue","count"?,"account"?,"symbol"?,"kind"?,"inst_type"?,"ids"?}`: places resting orders; returns
    `{"ids":[…]}`.

    `GET /orders?venue=[&account=][&all=1]`: returns `{"open","by_state","orders"}` of all accounts, or of the one that
    is named. With `all`, `orders` includes the latest orders that have ended. `by_state` always counts them.

    `POST /equity {"venue","equity","unrealised"?,"account"?}`: sets the account's money, and pushes it where the venue
    does.

    `POST /positions {"venue","qty","account"?,"symbol"?,"price"?,"inst_type"?}`: adds a signed quantity to a position.

    `GET /positions?venue=[&account=]`: returns `{"positions":[…]}`.

    `POST /faults {"venue","fault",…}`, `DELETE /faults?venue=[&fault=]`, `GET /faults?venue=`: see `kit.faults`.

    `GET /deadman?venue=[&account=]`: returns `{"armed","fires_in_s","fired"}`, the countdown of the account at the
    venue, which cancels its orders when it ends. HTTP 400 for a venue that has none.

    `GET /requests[?venue=]`: returns the request log, a list of
    `{"t_ns","route","what","ok","account","weight","venue"}`, the oldest first. `weight` is what the request cost in
    the venue's pool.

    `DELETE /requests[?venue=]`: clears the request log.

    `POST /options {"venue", name: value, …}`, `GET /options?venue=`: switch facts that the documents leave open, see
    `kit.options`.

    Invalid input gets HTTP 400 and `{"error": one line}`.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from kill_switch.sim.kit.book import ZERO, Account
from kill_switch.sim.kit.options import unknown
from kill_switch.sim.kit.protocol import Request, SimAnswer
from kill_switch.sim.kit.server import Connection, PendingReply
from kill_switch.sim.kit.venue import Venue

_MOST = 200_000
_HOSTS = {"localhost", "127.0.0.1", "[::1]"}

Input = Mapping[str, Any]


class Admin:
    """Serve the admin API of some venues. It is a `Handler` of the server."""

    def __init__(self, venues: Mapping[str, Venue]) -> None:
        self.connections: set[Connection] = set()
        self._venues = venues
        self._calls: dict[tuple[str, str], Callable[[Input], object]] = {
            ("POST", "/orders"): self._rest,
            ("GET", "/orders"): self._book,
            ("POST", "/equity"): self._equity,
            ("POST", "/positions"): self._move,
            ("GET", "/positions"): self._positions,
            ("POST", "/faults"): self._fault,
            ("GET", "/faults"): self._faults,
            ("DELETE", "/faults"): self._clear,
            ("GET", "/deadman"): self._dead_man,
            ("GET", "/requests"): self._requests,
            ("DELETE", "/requests"): self._forget,
            ("POST", "/options"): self._set,
            ("GET", "/options"): self._options,
        }

    # the server's side

    def connected(self, connection: Connection) -> None:
        """Register a connection from this machine; drop any other."""
        self.connections.add(connection)
        try:
            local = ipaddress.ip_address(connection.peer).is_loopback
        except ValueError:
            local = False
        if not local:
            connection.abort()

    def disconnected(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self.connections.discard(connection)

    def upgrading(self, connection: Connection, request: Request) -> SimAnswer | None:
        """Refuse every WebSocket."""
        return SimAnswer((b'{"error":"the admin API is plain HTTP"}',), 400)

    def opened(self, connection: Connection, request: Request) -> None:
        """Do nothing: the admin API has no WebSockets."""

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Do nothing: the admin API has no WebSockets."""

    def requested(self, exchange: PendingReply) -> None:
        """Answer a call."""
        status, body = self._answer(exchange.request)
        exchange.reply(status, orjson.dumps(body))

    def _answer(self, request: Request) -> tuple[int, object]:
        if request.headers.get("host", "localhost").rsplit(":", 1)[0] not in _HOSTS:
            # protects against DNS rebinding by a web page
            return 403, {"error": "the admin API is for this machine only"}
        call = self._calls.get((request.method, request.path))
        if call is None:
            known = (f"{method} {path}" for method, path in self._calls)
            return 404, {"error": unknown("call", f"{request.method} {request.path}", known)}
        try:
            parameters = orjson.loads(request.body) if request.method == "POST" else request.parameters()
            if not isinstance(parameters, dict):
                return 400, {"error": "the body must be a JSON object"}
            return 200, call(parameters)
        except orjson.JSONDecodeError as error:
            return 400, {"error": f"the body is not JSON: {error}"}
        except ValueError as error:
            return 400, {"error": str(error)}

    # the calls

    def _venue(self, fields: Input) -> Venue:
        name = fields.get("venue")
        if name is None:
            raise ValueError(f"'venue' is missing. Known: {', '.join(sorted(self._venues))}.")
        venue = self._venues.get(name) if isinstance(name, str) else None
        if venue is None:
            raise ValueError(unknown("venue", name, self._venues))
        return venue

    def _rest(self, fields: Input) -> object:
        _only(fields, "venue", "count", "account", "symbol", "kind", "inst_type", "ids")
        venue = self._venue(fields)
        ids = fields.get("ids", [])
        if not isinstance(ids, list) or len(set(map(str, ids))) != len(ids):
            raise ValueError("'ids' is a list of different ids")
        count = fields.get("count", len(ids) or 1)
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST:
            raise ValueError(f"'count' is a whole number from 0 to {_MOST}")
        if ids and len(ids) != count:
            raise ValueError("'ids' has as many ids as 'count' says")
        if bad := next((order_id for order_id in ids if not venue.valid_id(str(order_id))), None):
            raise ValueError(f"{bad!r} is no order id of {venue.name}, or is in the book already")
        kind = fields.get("kind", "limit")
        if kind not in venue.kinds:
            raise ValueError(unknown("kind", kind, venue.kinds))
        symbol, category = _product(venue, fields)
        orders = venue.rest(
            venue.account(fields.get("account")), count, symbol, kind, category, [str(order_id) for order_id in ids]
        )
        return {"ids": [order.id for order in orders]}

    def _book(self, fields: Input) -> object:
        _only(fields, "venue", "account", "all")
        accounts = self._accounts(fields)
        states: Counter[str] = Counter()
        orders: list[dict[str, object]] = []
        for account in accounts:
            states.update(account.ended)
            states.update(order.state for order in account.open.values())
            orders += (order.listing(account.name) for order in account.open.values())
        count = len(orders)
        if fields.get("all") in ("1", "true"):
            orders += (order.listing(account.name) for account in accounts for order in account.closed.values())
        return {"open": count, "by_state": dict(states), "orders": orders}

    def _accounts(self, fields: Input) -> list[Account]:
        venue = self._venue(fields)
        return [venue.account(fields["account"])] if "account" in fields else [*venue.accounts.values()]

    def _move(self, fields: Input) -> object:
        _only(fields, "venue", "account", "symbol", "inst_type", "qty", "price")
        venue = self._venue(fields)
        symbol, category = _product(venue, fields)
        price = _decimal(fields, "price") if "price" in fields else Decimal(30_000)
        account = venue.account(fields.get("account"))
        account.move(symbol, _decimal(fields, "qty"), price, category)
        venue.tell_equity(account)
        return {"positions": [held.listing(account.name) for held in account.positions.values()]}

    def _positions(self, fields: Input) -> object:
        _only(fields, "venue", "account")
        accounts = self._accounts(fields)
        return {
            "positions": [held.listing(account.name) for account in accounts for held in account.positions.values()]
        }

    def _equity(self, fields: Input) -> object:
        _only(fields, "venue", "account", "equity", "unrealised")
        venue = self._venue(fields)
        equity = _decimal(fields, "equity")
        unrealised = _decimal(fields, "unrealised") if "unrealised" in fields else None
        account = venue.account(fields.get("account"))
        venue.set_equity(account, equity, unrealised)
        return {"account": account.name, "equity": str(account.equity), "unrealised": str(account.unrealised)}

    def _fault(self, fields: Input) -> object:
        venue = self._venue(fields)
        venue.put_fault(fields.get("fault"), {key: fields[key] for key in fields if key not in ("venue", "fault")})
        return {"faults": venue.faults.listing()}

    def _faults(self, fields: Input) -> object:
        _only(fields, "venue")
        return {"faults": self._venue(fields).faults.listing()}

    def _clear(self, fields: Input) -> object:
        _only(fields, "venue", "fault")
        venue = self._venue(fields)
        venue.clear_faults(fields.get("fault"))
        return {"faults": venue.faults.listing()}

    def _dead_man(self, fields: Input) -> object:
        _only(fields, "venue", "account")
        venue = self._venue(fields)
        countdown = venue.dead_man(venue.account(fields.get("account")))
        if countdown is None:
            raise ValueError(f"{venue.name} has no dead-man countdown: it never cancels because a client is silent")
        return {"armed": countdown.fires_in_s is not None, **countdown._asdict()}

    def _some(self, fields: Input) -> list[Venue]:
        _only(fields, "venue")
        return [self._venue(fields)] if "venue" in fields else [*self._venues.values()]

    def _requests(self, fields: Input) -> object:
        lines = [seen.listing() | {"venue": venue.name} for venue in self._some(fields) for seen in venue.log]
        return sorted(lines, key=_moment)

    def _forget(self, fields: Input) -> object:
        count = 0
        for venue in self._some(fields):
            count += len(venue.log)
            venue.log.clear()
        return {"removed": count}

    def _set(self, fields: Input) -> object:
        venue = self._venue(fields)
        venue.base_options.set_all({name: fields[name] for name in fields if name != "venue"})
        venue.reconfigured()
        return {"options": venue.base_options.listing()}

    def _options(self, fields: Input) -> object:
        _only(fields, "venue")
        return {"options": self._venue(fields).base_options.listing()}


def _only(fields: Input, *names: str) -> None:
    for key in fields:
        if key not in names:
            raise ValueError(unknown("key", key, names))


def _product(venue: Venue, fields: Input) -> tuple[str, str]:
    """Return the symbol, and the kind of product where the venue distinguishes them. Raises `ValueError`."""
    symbol = fields.get("symbol", venue.symbol)
    if symbol not in venue.symbols:
        raise ValueError(unknown("symbol", symbol, venue.symbols))
    category = fields.get("inst_type", venue.categories[0] if venue.categories else "")
    if category != "" and category not in venue.categories:
        raise ValueError(unknown(f"inst_type of {venue.name}", category, venue.categories))
    return symbol, str(category)


def _decimal(fields: Input, name: str) -> Decimal:
    try:
        value = Decimal(str(fields[name]))
    except (KeyError, InvalidOperation):
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValueError(f"{name!r} is a number, as text or as a JSON number")
    return value + ZERO


def _moment(line: Mapping[str, object]) -> int:
    moment = line["t_ns"]
    return moment if isinstance(moment, int) else 0
