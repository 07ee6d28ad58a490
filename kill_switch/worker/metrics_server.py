"""The metrics server: serves the daemon's figures to Prometheus from the worker process.

`worker.main` runs it. A daemon that does not answer is reported as `kill_switch_responding 0`.
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
ANSWER_S = 2.0  # seconds; a slower daemon counts as not responding
HEAD_S = 2.0  # seconds from the connection to the end of the request's head
SEND_S = 5.0  # seconds for a client to read the answer
AGAIN_S = 2.0  # seconds until an address in use is tried again
HEAD_BYTES = 1 << 14
CONNECTIONS = 128
_MISDIRECTED = b"ask by IP address, as localhost, or by this machine's name\n"

Figures = Sequence[Mapping[str, Any]]


class MetricsServer(Collector):
    """A collector of the daemon's figures, and the server for them; `write` sends the daemon a line.

    All clients are served in one event loop. A client has `HEAD_S` for its request and `SEND_S` to read the answer,
    however slowly it reads. At most `CONNECTIONS` are open; a further client closes the oldest. The daemon is asked at
    most once in `FRESH_S`, for all clients together.

    A web page can give its own host name this machine's address (DNS rebinding); a browser then sends that name as
    `Host`. Therefore only requests for an IP address, `localhost` or this machine's name are answered.
    """

    def __init__(self, host: str, port: int, write: Callable[[dict[str, Any]], None]) -> None:
        self._host, self._port, self._write = host, port, write
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._asked = 0
        self._asked_s = float("-inf")
        self._figures: Figures | None = ()  # None: the daemon does not respond
        self._taken_s = float("-inf")
        self._answered = asyncio.Event()
        self._clients: dict[asyncio.WriteTransport, None] = {}  # ordered set, the oldest client first
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve for as long as the process lives, with an event loop of its own."""
        asyncio.run(self.serve())

    async def serve(self) -> None:
        """Serve until cancelled. An address in use is tried again, and reported to the daemon."""
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

    def on_figures(self, number: int, figures: Figures) -> None:
        """Handle the daemon's answer to a request for figures. Any thread may call it."""
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
        """Get figures that are fresh, or none; a request that is unanswered is not repeated."""
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
        """Serve one client; either side may close the connection at any time."""
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
    """Return whether a `Host` is an IP address, `localhost` or this machine's name, which no web page can have."""
    name = ""
    with contextlib.suppress(ValueError):
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        ipaddress.ip_address(name)
        return True
    own = socket.gethostname().lower()
    return name in ("localhost", own, own.partition(".")[0])


def _response(status: str, kind: str, body: bytes, extra_headers: str = "") -> bytes:
    lines = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    head = f"{lines}{extra_headers}Connection: close\r\n\r\n"
    return head.encode("latin-1") + body


def _words(error: OSError) -> str:
    """Return the reason why an address cannot be used; asyncio's own text would repeat the address."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__


def family(figure: Mapping[str, Any]) -> Metric:
    """Build one of `prometheus_client`'s metric families from a figure of `outbound.metrics`."""
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
                for possible_state in figure["states"]:
                    gauge.add_metric([*values, possible_state], float(possible_state == state))
            return gauge
        case _:
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for values, value in samples:
                gauge.add_metric(values, value)
            return gauge
