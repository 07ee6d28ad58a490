"""Parse the HTTP/1.1 requests of one connection.

`kit.server` uses it until the connection is upgraded. It never writes and never answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import httptools

from kill_switch.sim.kit.protocol import Request

_LIMIT = 1 << 20  # bytes of a request's target, and of its body
_NAMES: dict[bytes, str] = {}  # header names as received → in lower case
_MOST_NAMES = 1000


class ReadRequests(NamedTuple):
    """The requests that some bytes completed."""

    requests: list[Request]
    upgrade: Request | None = None  # the last one, if it asks for an upgrade
    behind: bytes = b""  # the bytes after that one
    malformed: bool = False


class HttpReader:
    """Parse bytes to requests with httptools; `on_expect_continue` is called when a client waits to send a body."""

    def __init__(self, on_expect_continue: Callable[[], None]) -> None:
        self._on_expect_continue = on_expect_continue
        self._parser = httptools.HttpRequestParser(self)
        self._complete: list[Request] = []
        self._is_refused = False
        self._t_ns = 0
        self._begin()

    def read(self, data: bytes, t_ns: int) -> ReadRequests:
        """Parse bytes that arrived at `t_ns`; return the requests that are complete now."""
        self._t_ns = t_ns
        behind: bytes | None = None
        malformed = False
        self._is_refused = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            behind = data[upgrade.args[0] :]
        except httptools.HttpParserError:
            malformed = True
        if self._is_refused or len(self._body) > _LIMIT or len(self._target) > _LIMIT:
            malformed = True
        complete, self._complete = self._complete, []
        last = complete.pop() if behind is not None and complete else None
        return ReadRequests(complete, last, behind or b"", malformed)

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body = b""

    # httptools calls these

    def on_url(self, url: bytes) -> None:
        """Collect the request's target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header: its name in lower case, repeated headers joined as in RFC 9110 §5.3."""
        key = _NAMES.get(name)
        if key is None:
            key = name.decode("latin-1").lower()
            if len(_NAMES) < _MOST_NAMES:
                _NAMES[name] = key
        text = value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Report a client that waits for permission to send its body."""
        expected = self._headers.get("expect")
        if expected and expected.lower() == "100-continue":
            self._on_expect_continue()

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Build the request, unless no venue takes it."""
        if self._is_refused or not self._is_well_formed():
            self._is_refused = True
            return
        target = self._target.decode("latin-1")
        path, _, query = target.partition("?")
        method = self._parser.get_method().decode("latin-1")
        keep = self._parser.should_keep_alive()
        self._complete.append(Request(method, target, path, query, self._headers, self._body, self._t_ns, keep))
        self._begin()

    def _is_well_formed(self) -> bool:
        """Return whether a request is HTTP/1 with exactly one Host (RFC 9112 §3.2), and with a body that is not coded.

        No venue's documents permit a compressed body, and its signature would be that of other bytes.
        """
        version, hosts = self._parser.get_http_version(), self._headers.get("host", "")
        has_host = bool(hosts) and "," not in hosts
        return version in ("1.0", "1.1") and (has_host or version == "1.0") and "content-encoding" not in self._headers
