"""Make a request over a connection that shares nothing with the lanes: the second route of a kill."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from kill_switch.domain import Route
from kill_switch.transports.http import MAX_BODY_BYTES
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
    ) -> None:
        self._url = url
        self._sink = sink
        self._spawn = spawn
        self._tls = tls_context(ca_file)

    def call(self, call: Call) -> None:
        """Start a call; it ends in `Replied` or `Lost`, whatever happens."""
        self._spawn(lambda: self._call(call))

    async def _call(self, call: Call) -> None:
        sent_ns = 0
        request = call.request

        async def trace(name: str, info: object) -> None:
            nonlocal sent_ns
            if name == "http11.send_request_headers.started":
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
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        self._sink.event(Lost(call.tag, True, "the answer is too large"))
                        return
                rtt_us = (time.monotonic_ns() - sent_ns) // 1000
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._sink.event(Replied(call.tag, response.status_code, headers, bytes(body), rtt_us))
        except asyncio.CancelledError:
            self._sink.event(Lost(call.tag, sent_ns != 0, "the daemon is stopping"))
            raise
        except Exception as error:  # whatever the library raises, the kill needs a verdict
            self._sink.event(Lost(call.tag, sent_ns != 0, why(error)))

    def _url_of(self, target: str) -> httpx.URL:
        return httpx.URL(self._url).copy_with(raw_path=target.encode("latin-1"))
