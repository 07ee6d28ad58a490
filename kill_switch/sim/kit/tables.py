"""The tables in which a venue states its calls, and the templates of its payloads.

`kit.table_venue` answers requests and messages by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.protocol import Kind

Params = Mapping[str, Any]

OMIT: Final = object()  # as a value of `fill`: the template's key is left out


class RouteSpec(NamedTuple):
    """A REST call: its purpose, its name in the request log, its handler, its cost.

    `handler` returns the answer's result, or raises `Refused`. A `public` call needs no credentials; its handler gets
    an account without a name.
    """

    kind: Kind
    operation: str
    handler: Callable[[Account, Params], object]
    weight: float = 1
    public: bool = False


class Op(NamedTuple):
    """An operation of a WebSocket: its purpose, its handler, whether it needs an account.

    `handler` returns the answer's result, or `Frames`, or raises `Refused`. A public operation gets an account without
    a name. `operation` is its name in the request log; empty stands for the name on the wire.
    """

    kind: Kind
    handler: Callable[[Session, Account, dict[str, Any]], object]
    private: bool = True
    operation: str = ""
    weight: float = 0


class Frames(NamedTuple):
    """Complete WebSocket messages as the answer of an operation; none is a silent answer."""

    messages: tuple[object, ...]
    ok: bool = True


class Refused(Exception):
    """Raised by a handler or an authenticator: the venue says no, with its own code and text and an HTTP status."""

    def __init__(self, code: str, status: int = 200, text: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.text = text


def fill(template: Any, values: Mapping[str, object]) -> Any:
    """Return a payload of the venue's documents, with `values[name]` in place of each text `{name}`."""
    if isinstance(template, dict):
        filled = ((key, fill(value, values)) for key, value in template.items())
        return {key: value for key, value in filled if value is not OMIT}
    if isinstance(template, list):
        return [fill(value, values) for value in template]
    if isinstance(template, str) and template.startswith("{") and template.endswith("}"):
        return values[template[1:-1]]
    return template
