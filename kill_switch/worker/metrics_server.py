"""Serve the daemon's figures to Prometheus: within the process beside, which asks the daemon for them at each scrape.

All clients are served at once, in one event loop. Each has `HEAD_S` for its request and `SEND_S` to take the answer,
however slowly it does either. At most `CONNECTIONS` are open: one more ends the oldest. The daemon is asked at most
every `FRESH_S`, once for all who scrape. One that does not answer is told as `kill_switch_responding 0`.

A web page can give its own name this machine's address (DNS rebinding), and its browser then sends that name as `Host`.
So only requests for an IP address, for `localhost` or for this machine's name are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

FRESH_S = 0.25
ANSWER_S = 2.0  # a daemon that needs longer does not respond
HEAD_S = 2.0  # from the connection to the end of the request's head, in all
SEND_S = 5.0  # until a client has taken the whole answer
AGAIN_S = 2.0  # after an address that was taken
HEAD_BYTES = 1 << 14
CONNECTIONS = 128
_MISDIRECTED = b"ask by IP address, as localhost, or by this machine's name\n"

Figures = Sequence[Mapping[str, Any]]


class Exposition(Collector):
    """Collect what the daemon says; `write` hands it a line."""

    def __init__(self, host: str, port: int, write: Callable[[dict[str, Any]], None]) -> None:
        self._host, self._port, self._write = host, port, write
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._asked = 0
        self._asked_s = float("-inf")
        self._figures: Figures | None = ()  # None: the daemon does not respond
        self._taken_s = float("-inf")
        self._answered = asyncio.Event()
        self._clients: dict[asyncio.WriteTransport, None] = {}  # the oldest first
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve for as long as the process lives, with an event loop of its own."""
        asyncio.run(self.serve())

    async def serve(self) -> None:
        """Serve until cancelled. An address that is taken is tried again, and the daemon is told of it."""
        self._loop = asyncio.get_running_loop()
        while True:
            try:
                server = await asyncio.start_server(self._serve, self._host, self._port, limit=HEAD_BYTES)
            except OSError as error:
                self._write({"trouble": f"{self._host}:{self._port}: {_words(error)}"})
                await asyncio.sleep(AGAIN_S)
                continue
            self._write({"trouble": ""})
            try:
                await self._loop.create_future()
            finally:
                server.close()

    def take(self, number: int, figures: Figures) -> None:
        """Take the daemon's answer to the last question. May be called by any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take, number, figures)

    def collect(self) -> Iterable[Metric]:
        responds = self._figures is not None
        yield GaugeMetricFamily("kill_switch_responding", "Whether the daemon answered this scrape.", float(responds))
        yield from map(family, self._figures or ())

    def _take(self, number: int, figures: Figures) -> None:
        if number == self._asked:
            self._figures, self._taken_s = figures, time.monotonic()
            self._answered.set()

    async def _ask(self) -> None:
        """Have figures that are fresh, or none; a question that is not answered yet is not asked again."""
        now_s = time.monotonic()
        if now_s - self._taken_s < FRESH_S:
            return
        if self._answered.is_set() or now_s - self._asked_s > ANSWER_S:
            self._answered.clear()
            self._asked += 1
            self._asked_s = now_s
            self._write({"asks": self._asked})
        try:
            await asyncio.wait_for(self._answered.wait(), self._asked_s + ANSWER_S - now_s)
        except TimeoutError:
            self._figures = None

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client, who may end it at any time; so may we."""
        self._clients[writer.transport] = None
        if len(self._clients) > CONNECTIONS:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            oldest.abort()
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(HEAD_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                answer = await self._answer(head.decode("latin-1"))
                async with asyncio.timeout(SEND_S):
                    writer.write(answer)
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._clients.pop(writer.transport, None)
            writer.transport.abort()

    async def _answer(self, head: str) -> bytes:
        request, *lines = head.split("\r\n")
        method = request.partition(" ")[0]
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", "text/plain", b"only GET and HEAD\n", "Allow: GET, HEAD\r\n")
        fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        headers = dict(fields)
        if not all(_is_this_machine(value) for name, value in fields if name == "host"):
            return _response("421 Misdirected Request", "text/plain", _MISDIRECTED)
        await self._ask()
        encoder, kind = choose_encoder(headers.get("accept", ""))
        text = encoder(self._registry)
        whole = _response("200 OK", kind, text)
        return whole[: -len(text)] if method == "HEAD" else whole


def _is_this_machine(host: str) -> bool:
    """Tell whether a `Host` is an IP address, `localhost` or this machine's name: no page has one of them."""
    name = ""
    with contextlib.suppress(ValueError):
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        ipaddress.ip_address(name)
        return True
    own = socket.gethostname().lower()
    return name in ("localhost", own, own.partition(".")[0])


def _response(status: str, kind: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body


def _words(error: OSError) -> str:
    """Say what is wrong with an address; asyncio's own text repeats it."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__


def family(figure: Mapping[str, Any]) -> Metric:
    """Make one of the library's families from the form that `metrics` gives it."""
    name, text, labels, samples = figure["name"], figure["help"], figure["labels"], figure["samples"]
    match figure["type"]:
        case "counter":
            counter = CounterMetricFamily(name, text, labels=labels)
            for values, value in samples:
                counter.add_metric(values, value)
            return counter
        case "histogram":
            histogram = HistogramMetricFamily(name, text, labels=labels)
            for values, (buckets, total) in samples:
                histogram.add_metric(values, buckets, total)
            return histogram
        case "state":
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for values, state in samples:
                for one in figure["states"]:
                    gauge.add_metric([*values, one], float(one == state))
            return gauge
        case _:
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for values, value in samples:
                gauge.add_metric(values, value)
            return gauge
