"""The values that go in and out of a simulator: requests, answers, routes.

The server creates requests, the venues create answers. Nothing here knows a venue or a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl

import orjson

Kind = Literal["cancel", "read", "login", "other", "ping"]  # the purpose of a command; a fault's `on` selects by it

_HEADS = {
    code.value: f"HTTP/1.1 {code.value} {code.phrase}\r\nContent-Type: application/json\r\nContent-Length: ".encode()
    for code in HTTPStatus
}


@dataclass(slots=True)
class Request:
    """A complete HTTP request; `t_ns` is CLOCK_MONOTONIC at the arrival of its last byte."""

    method: str
    target: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    t_ns: int
    keep_alive: bool

    @property
    def media_type(self) -> str:
        """Return the Content-Type without its parameters, in lower case; empty without one."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Return whether the Content-Type says JSON."""
        return self.media_type == "application/json"

    @property
    def is_form(self) -> bool:
        """Return whether the Content-Type says a form."""
        return self.media_type == "application/x-www-form-urlencoded"

    def parameters(self) -> dict[str, str]:
        """Return the query's parameters; the last value of a repeated name wins."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(slots=True)
class SimAnswer:
    """A venue's answer to one command.

    `bodies` has one element for HTTP and any number of frames for WebSocket. `ok` is for the request log.
    """

    bodies: tuple[bytes, ...]
    status: int = 200
    ok: bool = True
    close: int | None = None  # closes the WebSocket with this code after the frames
    headers: Mapping[str, str] = field(default_factory=dict)  # additional headers of an HTTP answer


@dataclass(slots=True)
class DeferredAnswer:
    """A deferred answer: `make` is called after `seconds`, when the venue's engine has finished the work."""

    seconds: float
    make: Callable[[], SimAnswer]


@dataclass(slots=True)
class Understood:
    """A parsed WebSocket message; `answer` is set if parsing refused it."""

    kind: Kind
    operation: str
    op: str = ""
    tag: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    who: str | None = None  # the account that a login claims to be, unchecked
    answer: SimAnswer | None = None
    weight: float = 1  # what the message costs in the venue's pool
    path: str = ""  # of its WebSocket, for a venue that has several
    session_id: str = ""  # of its session, for a venue whose answers have it


def json_answer(value: object, status: int = 200, *, ok: bool | None = None) -> SimAnswer:
    """Return an HTTP answer with a JSON body. By default, it is logged as ok if its status is below 400."""
    return SimAnswer((orjson.dumps(value),), status, status < 400 if ok is None else ok)


def encode(
    status: int, body: bytes, *, keep_alive: bool, head_only: bool = False, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of an HTTP/1.1 response."""
    head = _HEADS.get(status) or f"HTTP/1.1 {status} Simulated\r\nContent-Length: ".encode()
    end = b"\r\n\r\n" if keep_alive else b"\r\nConnection: close\r\n\r\n"
    if headers:
        end = "".join(f"\r\n{name}: {value}" for name, value in headers.items()).encode("latin-1") + end
    return b"%b%d%b%b" % (head, len(body), end, b"" if head_only else body)
