"""Parameters of Binance's requests, refused with the codes of docs/venues/binance.md §8."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from kill_switch.sim.binance.errors import refusal
from kill_switch.sim.kit import values
from kill_switch.sim.kit.book import Order
from kill_switch.sim.kit.protocol import SimAnswer, json_answer
from kill_switch.sim.kit.tables import Params

_ID = re.compile(r"[0-9]{1,20}", re.ASCII)
_CLIENT = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")


def missing(name: str) -> str:
    """Return the text of -1102."""
    return f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


def known_symbol(symbols: Sequence[str], params: Params, *, needed: bool = True) -> str:
    """Return the symbol of a request; empty if it may be left out and is. Raises `Refused`."""
    symbol = params.get("symbol")
    if symbol is None and not needed:
        return ""
    if symbol in (None, ""):
        raise refusal("-1102", missing("symbol"))
    if symbol not in symbols:
        raise refusal("-1121")
    return str(symbol)


def number(params: Params, name: str) -> Decimal:
    """Return a parameter that is a number above 0. Raises `Refused`."""
    if params.get(name) in (None, ""):
        raise refusal("-1102", missing(name))
    value = values.positive(params[name])
    if value is None:
        raise refusal("-1100", f"Illegal characters found in parameter '{name}'.")
    return value


def order_side(params: Params) -> str:
    """Return `buy` or `sell`. Raises `Refused`."""
    side = params.get("side")
    if side not in ("BUY", "SELL"):
        raise refusal("-1117")
    return str(side).lower()


def named_id(params: Params, name: str) -> str:
    """Return an id of the venue; empty without one. Raises `Refused` for a text that no id is."""
    value = params.get(name)
    if value in (None, ""):
        return ""
    if isinstance(value, bool) or not _ID.fullmatch(str(value)):
        raise refusal("-1100", f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
    return str(value)


def named_order(
    orders: Iterable[Order], params: Params, id_key: str, client_key: str, *, prevails: bool = False
) -> Order | None:
    """Return the order that a request names by id, by client id, or by both. Raises `Refused` if it names none.

    With `prevails`, the client id does not count beside the id.
    """
    order_id, client = named_id(params, id_key), params.get(client_key)
    if not order_id and client in (None, ""):
        raise refusal("-1102", f"Param '{client_key}' or '{id_key}' must be sent, but both were empty/null!")
    if not order_id:
        return next((order for order in orders if order.client_id == client), None)
    order = next((order for order in orders if order.id == order_id), None)
    is_other = client not in (None, "") and order is not None and order.client_id != client
    return None if is_other and not prevails else order


def client_id(params: Params, name: str) -> str | None:
    """Return the client id that a request gives an order; None if it gives none. Raises `Refused`."""
    client = params.get(name)
    if client is None:
        return None
    if not _CLIENT.fullmatch(str(client)):
        raise refusal("-1100", f"Illegal characters found in parameter '{name}'.")
    return str(client)


def with_headers(body: object, headers: Mapping[str, str]) -> SimAnswer:
    """Return an answer with further headers."""
    answer = json_answer(body)
    answer.headers = headers
    return answer
