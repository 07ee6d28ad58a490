"""The metrics server's HTTP: a request's head, the answers, and the names of this machine. Everything is pure.

A client gets one answer a connection (RFC 9112, 9.6), because then a connection needs no state behind its answer.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

TEXT = "text/plain; charset=utf-8"
HEAD_END = b"\r\n\r\n"


class Head(NamedTuple):
    """A request's head; a header that is missing is ""."""

    method: str
    path: str  # "" where the target has none
    hosts: tuple[str, ...]  # every `Host`
    accept: str
    authorization: str

    @property
    def has_body(self) -> bool:
        """Return whether the answer has a body."""
        return self.method != "HEAD"


def parse(head: bytes) -> Head:
    """Read a head; whatever it is, it has some method and some path."""
    request, *lines = head.decode("latin-1").split("\r\n")
    method, _, target = request.partition(" ")
    fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    headers = dict(fields)
    hosts = tuple(value for name, value in fields if name == "host")
    path = _path(target.partition(" ")[0])
    return Head(method, path, hosts, headers.get("accept", ""), headers.get("authorization", ""))


def _path(target: str) -> str:
    """Return the path of a request's target; "" if it has none."""
    with contextlib.suppress(ValueError):
        return urlsplit(target).path
    return ""


def is_this_machine(host: str) -> bool:
    """Return whether a `Host` is an IP address, `localhost` or this machine's name, which no web page can have."""
    name, is_address = _host_name(host)
    own = socket.gethostname().lower()
    return is_address or name in ("localhost", own, own.partition(".")[0])


@lru_cache(maxsize=16)
def _host_name(host: str) -> tuple[str, bool]:
    """Return the name in a `Host`, without the port, and whether it is an IP address; "" if it has none."""
    name = ""
    with contextlib.suppress(ValueError):
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        ipaddress.ip_address(name)
        return name, True
    return name, False


def health_response(fault: str, well: str, *, has_body: bool) -> bytes:
    """Return the answer to a probe, with one line of text."""
    if fault:
        return text_response("503 Service Unavailable", " ".join(fault.split()), has_body=has_body)
    return text_response("200 OK", well, has_body=has_body)


def text_response(status: str, line: str, *, has_body: bool = True, extra_headers: str = "") -> bytes:
    """Return an answer of one line of text."""
    return response(status, TEXT, f"{line}\n".encode(), has_body=has_body, extra_headers=extra_headers)


def response(status: str, kind: str, body: bytes, *, has_body: bool = True, extra_headers: str = "") -> bytes:
    """Return an answer, with the length of its body even if that is left out."""
    lines = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    head = f"{lines}Cache-Control: no-store\r\n{extra_headers}Connection: close\r\n\r\n"
    return head.encode("latin-1") + (body if has_body else b"")
