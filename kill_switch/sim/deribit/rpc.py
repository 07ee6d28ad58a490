"""Deribit's JSON-RPC: the rows of the table of methods, their parameters, the envelope (docs/venues/deribit.md §8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from kill_switch.sim.deribit.grants import Grant
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Kind
from kill_switch.sim.kit.server import Connection
from kill_switch.sim.kit.tables import Refused
from kill_switch.sim.kit.values import positive

MOST_BYTES = 32 << 10  # of a frame, or of the body of a POST
MESSAGES = {
    10000: "authorization_required", 10001: "error", 10004: "order_not_found", 10010: "already_closed",
    10019: "locked_by_admin", 10028: "too_many_requests", 10029: "not_owner_of_order",
    10030: "must_be_websocket_request", 10040: "retry", 10041: "settlement_in_progress",
    10045: "can_not_cancel_liquidation_order", 10047: "matching_engine_queue_full",
    10049: "cancel_on_disconnect_failed", 11008: "already_filled", 11042: "permission_denied",
    11044: "not_open_order", 11050: "bad_request", 11051: "system_maintenance", 11094: "internal_server_error",
    11098: "account_locked", 13004: "invalid_credentials", 13009: "unauthorized", 13021: "forbidden",
    13025: "method_switched_off_by_admin", 13028: "temporarily_unavailable", 13040: "mmp_required",
    13042: "cod_not_enabled", 13043: "quotes_frozen",
    13403: "scope_exceeded", 13778: "raw_subscriptions_not_available_for_unauthorized", 13888: "timed_out",
    -32000: "Missing params", -32600: "request entity too large", -32601: "Method not found",
    -32602: "Invalid params", -32700: "Parse error",
}  # fmt: skip
_TYPES: Mapping[str, tuple[type, ...]] = {  # of parameters; the others are texts
    "detailed": (bool,), "freeze_quotes": (bool,), "include_combos": (bool,), "extended": (bool,),
    "with_portfolio": (bool,), "post_only": (bool,), "reject_post_only": (bool,), "reduce_only": (bool,),
    "invalidate_token": (bool,), "expired": (bool,), "amount": (int, float), "price": (int, float),
    "trigger_price": (int, float), "trigger_offset": (int, float), "count": (int,), "interval": (int,),
    "offset": (int,), "depth": (int,), "include_old": (bool,), "include_unfilled": (bool,), "historical": (bool,),
    "timestamp": (int,), "start_timestamp": (int,), "end_timestamp": (int,), "block_rfq_id": (int,),
    "valid_until": (int,), "channels": (list,), "otoco_config": (list,), "quotes": (list,),
}  # fmt: skip


@dataclass(slots=True)
class Call:
    """A call of a method: its account, its parameters, its connection; HTTP has no session."""

    account: Account
    params: Mapping[str, Any]
    connection: Connection
    session: Session | None = None
    grant: Grant | None = None

    def socket(self) -> Session:
        """Return the WebSocket. Raises `Refused` over HTTP."""
        if self.session is None:
            raise Refused("10030", 400)
        return self.session

    def part(self, params: Mapping[str, Any]) -> Call:
        """Return the call with parameters that were nested in its own."""
        return Call(self.account, params, self.connection, self.session, self.grant)

    def number(self, name: str) -> Decimal | None:
        """Return a parameter that is a number above 0; None if it is absent. Raises `Refused`."""
        value = self.params.get(name)
        if value is None:
            return None
        number = positive(value)
        if number is None:
            raise invalid(name, "must be positive")
        return number

    def choice(self, name: str, *known: str) -> str | None:
        """Return a parameter that is one of these words; None if it is absent. Raises `Refused`."""
        value = self.params.get(name)
        if value is not None and value not in known:
            raise invalid(name, f"invalid {name}")
        return value


class Method(NamedTuple):
    """A method: its purpose, its name in the request log, its handler, its parameters, the scope and pool it needs.

    A parameter with `!` must be there, one with `*` may be a list too.
    """

    kind: Kind
    operation: str
    handler: Callable[[Call], object]
    params: str = ""
    scope: str = ""
    pool: str = "credits"


def method_of(request: Mapping[str, Any] | None) -> str:
    """Return the method that a request names; clients write it with or without a slash before it."""
    return str((request or {}).get("method")).removeprefix("/")


def is_request(request: Mapping[str, Any], *, needs_id: bool) -> bool:
    """Return whether an object is a request of JSON-RPC 2.0, whose id is a whole number or a text."""
    has_id = type(request.get("id")) in (int, str) or ("id" not in request and not needs_id)
    return request.get("jsonrpc") == "2.0" and has_id


def invalid(name: str, reason: str) -> Refused:
    """Return the refusal of a parameter."""
    return Refused("-32602", 400, f"{name}: {reason}")


def checked(spec: str, arguments: object, *, texts: bool) -> dict[str, Any]:
    """Return the parameters of a call; with `texts`, those of a query. Raises `Refused`."""
    known = {word.strip("!*"): word for word in spec.split()}
    needed = [name for name, word in known.items() if word.endswith("!")]
    if arguments is None:
        if needed:
            raise Refused("-32000", 400)
        return {}
    if not isinstance(arguments, dict):
        raise invalid("params", "must be an object")
    params: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "access_token":
            continue
        if name not in known:
            raise invalid(name, "unknown parameter")
        types = _TYPES.get(name, (str, list) if "*" in known[name] else (str,))
        parsed = _parsed(value, types) if texts else value
        if not isinstance(parsed, types) or (isinstance(parsed, bool) and bool not in types):
            raise invalid(name, "wrong format")
        if name == "channels" and isinstance(parsed, list) and not all(isinstance(each, str) for each in parsed):
            raise invalid(name, "wrong format")
        params[name] = parsed
    if missing := next((name for name in needed if name not in params), None):
        raise invalid(missing, "value required")
    return params


def _parsed(value: str, types: tuple[type, ...]) -> object:
    if types == (str,):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def notice(method: str, params: Mapping[str, object]) -> bytes:
    """Return a message that answers no request."""
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})


def error(code: str, text: str = "") -> dict[str, object]:
    """Return an error: its number, its message, its data."""
    number = int(code) if code.lstrip("-").isdigit() else 10001
    shown: dict[str, object] = {"code": number, "message": MESSAGES.get(number, text or "error")}
    if number == 11050:
        return shown | {"data": text or "invalid json"}
    if number == -32602:
        name, _, reason = text.partition(": ")
        return shown | {"data": {"reason": reason, "param": name}}
    return shown | ({"data": {"reason": text}} if text else {})
