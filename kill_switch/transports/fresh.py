"""Make a request over a connection that shares nothing with the lanes: the second route of a kill."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from kill_switch.domain import Route
from kill_switch.transports.http import MAX_BODY_BYTES, NOT_WANTED, TOO_LARGE
from kill_switch.transports.lane import Sink, tls_context, why
from kill_switch.venues.base import Call, Lost, Replied

TIMEOUT_S = 5.0

for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they log requests, headers and all, below that


class FreshRoute:
    """Carry calls one by one, each over its own connection; `spawn` runs a coroutine in the daemon's task group."""

    def __init__(
        self,
        url: str,
        sink: Sink,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
        *,
        ca_file: str | None = None,
        wanted: Callable[[Call], bool] = lambda call: True,
    ) -> None:
        """Make it; `wanted` says whether a call is still to be sent when its connection has come about."""
        self._url = url
        self._sink = sink
        self._spawn = spawn
        self._wanted = wanted
        self._tls = tls_context(ca_file)
        self._held_bytes = 0  # of answers that are not whole yet

    def call(self, call: Call) -> None:
        """Start a call; it ends in `Replied` or `Lost`, whatever happens."""
        self._spawn(lambda: self._call(call))

    async def _call(self, call: Call) -> None:
        sent_ns = 0
        request, body = call.request, bytearray()

        async def trace(name: str, info: object) -> None:
            nonlocal sent_ns
            if name == "http11.send_request_headers.started":
                if not self._wanted(call):
                    raise OSError(errno.ECANCELED, NOT_WANTED)
                sent_ns = time.monotonic_ns()
            elif name == "http11.send_request_body.complete":
                sent_ns = time.monotonic_ns()
                self._sink.sent(Route.FRESH, call.tag)

        try:
            async with (
                asyncio.timeout(3 * TIMEOUT_S),  # TCP, TLS, and an answer that dribbles in: httpx has no bound for that
                httpx.AsyncClient(verify=self._tls, timeout=TIMEOUT_S, trust_env=False) as client,
                client.stream(
                    request.method,
                    self._url_of(request.target),
                    headers={"Accept-Encoding": "identity", **request.headers},
                    content=request.body,
                    extensions={"trace": trace},
                ) as response,
            ):
                length = response.headers.get("content-length", "")
                if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
                    self._sink.event(Lost(call.tag, True, TOO_LARGE))
                    return
                async for chunk in response.aiter_raw():
                    body += chunk
                    self._held_bytes += len(chunk)
                    if len(body) > MAX_BODY_BYTES or self._held_bytes > 2 * MAX_BODY_BYTES:  # of all calls together
                        self._sink.event(Lost(call.tag, True, TOO_LARGE))
                        return
                plain = _plain(bytes(body), response.headers.get("content-encoding", ""))
                if plain is None:
                    self._sink.event(Lost(call.tag, True, TOO_LARGE))
                    return
                rtt_us = (time.monotonic_ns() - sent_ns) // 1000
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._sink.event(Replied(call.tag, response.status_code, headers, plain, rtt_us))
        except asyncio.CancelledError:
            self._sink.event(Lost(call.tag, sent_ns != 0, "the daemon is stopping"))
            raise
        except Exception as error:  # whatever the library raises, the kill needs a verdict
            self._sink.event(Lost(call.tag, sent_ns != 0, why(error)))
        finally:
            self._held_bytes -= len(body)

    def _url_of(self, target: str) -> httpx.URL:
        return httpx.URL(self._url).copy_with(raw_path=target.encode("latin-1"))


def _plain(body: bytes, encoding: str) -> bytes | None:
    """Undo a compression that nobody asked for; None if it is too large then. Raises `zlib.error` or `ValueError`."""
    if encoding.lower() in ("", "identity"):
        return body
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip's header, or zlib's
    plain = inflate.decompress(body, MAX_BODY_BYTES + 1)
    if len(plain) > MAX_BODY_BYTES:
        return None
    if not inflate.eof:
        raise ValueError("the compressed answer ends too soon")
    return plain
