"""Hold the content of HTTP requests: a request as its bytes, and the path and headers of a WebSocket upgrade.

Adapters build both; transports never change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class Request:
    """A whole HTTP request; `wire` has the bytes that the warm lane writes, built once and kept."""

    __slots__ = ("_wire", "body", "headers", "method", "origin", "target")

    def __init__(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", *, origin: str = ""
    ) -> None:
        """Make a request; `origin` (https://HOST[:PORT]) is where it goes if not to the account's `rest_url`.

        A request with an origin leaves on a fresh connection, never on the warm lane.
        """
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.origin = origin
        self._wire = b""

    def __repr__(self) -> str:
        target = self.target.partition("&signature=")[0]
        return f"Request({self.method} {target}, {len(self.body)} bytes)"  # headers hold secrets

    @property
    def wire(self) -> bytes:
        """The bytes of RFC 9112; a POST or DELETE always states its length."""
        if not self._wire:
            begin = f"{self.method} {self.target} HTTP/1.1\r\n{_lines(self.headers)}"
            length = f"Content-Length: {len(self.body)}\r\n" if self.body or self.method != "GET" else ""
            self._wire = f"{begin}{length}\r\n".encode("latin-1") + self.body
        return self._wire


class RequestTemplate(Request):
    """A request without the headers that change each time; `with_headers` adds them to bytes that are built once."""

    __slots__ = ()

    def with_headers(self, headers: Mapping[str, str]) -> Request:
        """Return a copy of the request that has these headers too."""
        filled = Request(self.method, self.target, {**self.headers, **headers}, self.body, origin=self.origin)
        end = len(self.wire) - len(self.body) - 2  # the empty line that ends the headers
        filled._wire = b"%b%b%b" % (self.wire[:end], _lines(headers).encode("latin-1"), self.wire[end:])
        return filled


def _lines(headers: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Hold the path and the headers of one WebSocket upgrade; they may be secret, and the repr shows none.

    `target` is the path and the query, on the host of the configured address; "" is the configured address.
    """

    target: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
