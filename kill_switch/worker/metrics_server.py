"""The metrics server: serves the daemon's figures to Prometheus, and its health to probes, from the worker process.

`worker.main` runs it. A daemon that does not answer is reported as `kill_switch_responding 0`, and by `/healthz`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kill_switch.worker.access_files import NO_FILES, AccessFiles
from kill_switch.worker.metrics_access import MetricsAccess

FRESH_S = 0.25
ANSWER_S = 2.0  # seconds; a slower daemon counts as not responding
HEAD_S = 2.0  # seconds from the connection to the end of the request's head, with TLS's handshake
SEND_S = 5.0  # seconds for a client to read the answer
AGAIN_S = 2.0  # seconds until an address in use, or a file that cannot be read, is tried again
LOOK_S = 1.0  # seconds between two looks whether the token or the certificate has changed
ACCEPT_AGAIN_S = 0.1  # seconds until the next connection after an error, such as too many open files
HEAD_BYTES = 1 << 14
CONNECTIONS = 128
BACKLOG = 128  # connections that the kernel holds until they are accepted
TEXT = "text/plain; charset=utf-8"
_MISDIRECTED = "ask by IP address, as localhost, or by this machine's name"
_UNKNOWN = "there are /metrics, /healthz and /readyz"

Figures = Sequence[Mapping[str, Any]]


class MetricsServer(Collector):
    """A collector of the daemon's figures, and the server for them; `write` sends the daemon a line.

    All clients are served in one event loop. A client has `HEAD_S` for its request and `SEND_S` to read the answer,
    however slowly it reads. At most `CONNECTIONS` are open; a further client closes the oldest. The daemon is asked at
    most once in `FRESH_S`, for all clients together, and its answer is formatted once.

    A web page can give its own host name this machine's address (DNS rebinding); a browser then sends that name as
    `Host`. Therefore only requests for an IP address, `localhost` or this machine's name are answered. No web page has
    the token: with one, every `Host` is.
    """

    def __init__(
        self, host: str, port: int, write: Callable[[dict[str, Any]], None], files: AccessFiles = NO_FILES
    ) -> None:
        self._host, self._port, self._write = host, port, write
        self._access = MetricsAccess(files)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._asked = 0
        self._asked_s = float("-inf")
        self._figures: Figures | None = ()  # None: the daemon does not respond
        self._unable = ""  # why it could carry no kill
        self._texts: dict[str, bytes] = {}  # content type → the figures in it
        self._taken_s = float("-inf")
        self._answered = asyncio.Event()
        self._clients: dict[asyncio.Task[None], None] = {}  # ordered set, the oldest client first
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve for as long as the process lives, with an event loop of its own."""
        asyncio.run(self.serve())

    async def serve(self) -> None:
        """Serve until cancelled. An address in use is tried again, and reported to the daemon."""
        self._loop = asyncio.get_running_loop()
        while True:
            try:
                self._access.read()
                listener = _listen(self._host, self._port)
            except (OSError, ValueError) as error:
                self._write({"trouble": f"{self._host}:{self._port}: {_words(error)}"})
                await asyncio.sleep(AGAIN_S)
                continue
            self._write({"trouble": ""})
            try:
                self._loop.add_reader(listener, self._accept, listener)
                await self._look()
            finally:
                self._loop.remove_reader(listener)
                listener.close()
                clients = list(self._clients)
                for client in clients:
                    client.cancel()
                await asyncio.gather(*clients, return_exceptions=True)
                await asyncio.sleep(0)  # until their sockets are closed

    async def _look(self) -> None:
        """Look for ever whether the token or the certificate has changed, and read them again then."""
        trouble = ""
        while True:
            await asyncio.sleep(LOOK_S)
            before = trouble
            try:
                self._access.read()
                trouble = ""
            except (OSError, ValueError) as error:
                trouble = f"{self._host}:{self._port}: {_words(error)}; what was read before is in force"
            if trouble != before:
                self._write({"trouble": trouble})

    def on_figures(self, number: int, figures: Figures, unable: str = "") -> None:
        """Handle the daemon's answer to a request for figures. Any thread may call it."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take, number, figures, unable)

    def collect(self) -> Iterable[Metric]:
        responds = self._figures is not None
        yield GaugeMetricFamily("kill_switch_responding", "Whether the daemon answered this scrape.", float(responds))
        yield from map(family, self._figures or ())

    def _take(self, number: int, figures: Figures, unable: str) -> None:
        if number == self._asked:
            self._figures, self._unable, self._taken_s = figures, unable, time.monotonic()
            self._texts.clear()
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
        if self._figures is None:
            return  # it has owed an answer for too long: no client waits for that again
        try:
            await asyncio.wait_for(self._answered.wait(), self._asked_s + ANSWER_S - now_s)
        except TimeoutError:
            self._figures = None
            self._texts.clear()

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self, listener: socket.socket) -> None:
        """Begin to serve a client that waits; without a descriptor for it, try again later."""
        loop = asyncio.get_running_loop()
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            loop.remove_reader(listener)
            loop.call_later(ACCEPT_AGAIN_S, self._listen_again, listener)
            return
        client.setblocking(False)
        task = loop.create_task(self._serve(client))
        self._clients[task] = None
        task.add_done_callback(partial(self._forget, client))
        if len(self._clients) > CONNECTIONS:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            oldest.cancel()

    def _listen_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _forget(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        """Close a client's socket; a task that was cancelled before it began has not."""
        self._clients.pop(task, None)
        client.close()

    async def _serve(self, client: socket.socket) -> None:
        """Serve one client; either side may close the connection at any time."""
        reader = asyncio.StreamReader(HEAD_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.BaseTransport | None = None
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(HEAD_S):
                    transport, _ = await loop.connect_accepted_socket(
                        lambda: protocol, client, ssl=self._access.context
                    )
                    head = await reader.readuntil(b"\r\n\r\n")
                answer = await self._answer(head.decode("latin-1"))
                async with asyncio.timeout(SEND_S):
                    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                    writer.write(answer)
                    writer.close()
                    await writer.wait_closed()
        finally:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

    async def _answer(self, head: str) -> bytes:
        request, *lines = head.split("\r\n")
        method, _, target = request.partition(" ")
        if method not in ("GET", "HEAD"):
            return _say("405 Method Not Allowed", "only GET and HEAD", extra_headers="Allow: GET, HEAD\r\n")
        fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        headers = dict(fields)
        has_body = method == "GET"
        hosts = [value for name, value in fields if name == "host"]
        if not self._access.needs_token and not all(map(_is_this_machine, hosts)):
            return _say("421 Misdirected Request", _MISDIRECTED, has_body=has_body)
        if not self._access.allows(headers.get("authorization", "")):
            asks = 'WWW-Authenticate: Bearer realm="kill-switch"\r\n'
            return _say("401 Unauthorized", "the token is missing or wrong", has_body=has_body, extra_headers=asks)
        match _path(target.partition(" ")[0]):
            case "/metrics":
                await self._ask()
                kind, text = self._metrics_text(headers.get("accept", ""))
                return _response("200 OK", kind, text, has_body=has_body)
            case "/healthz":
                await self._ask()
                return _health(self._silent, "the daemon answers", has_body=has_body)
            case "/readyz":
                await self._ask()
                unable = self._unable and f"not able to fire: {self._unable}"
                return _health(self._silent or unable, "able to fire", has_body=has_body)
            case _:
                return _say("404 Not Found", _UNKNOWN, has_body=has_body)

    @property
    def _silent(self) -> str:
        return "" if self._figures is not None else f"the daemon does not answer within {ANSWER_S:g} s"

    def _metrics_text(self, accept: str) -> tuple[str, bytes]:
        """Return a content type that the client accepts, and the figures in it."""
        encoder, kind = choose_encoder(accept)
        if kind not in self._texts:
            self._texts[kind] = encoder(self._registry)
        return kind, self._texts[kind]


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raise `OSError`."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[
        0
    ]
    listener = socket.socket(family, kind)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _path(target: str) -> str:
    """Return the path of a request's target; "" if it has none."""
    with contextlib.suppress(ValueError):
        return urlsplit(target).path
    return ""


def _is_this_machine(host: str) -> bool:
    """Return whether a `Host` is an IP address, `localhost` or this machine's name, which no web page can have."""
    name = ""
    with contextlib.suppress(ValueError):
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        ipaddress.ip_address(name)
        return True
    own = socket.gethostname().lower()
    return name in ("localhost", own, own.partition(".")[0])


def _health(fault: str, well: str, *, has_body: bool) -> bytes:
    """Return the answer to a probe, with one line of text."""
    if fault:
        return _say("503 Service Unavailable", " ".join(fault.split()), has_body=has_body)
    return _say("200 OK", well, has_body=has_body)


def _say(status: str, line: str, *, has_body: bool = True, extra_headers: str = "") -> bytes:
    return _response(status, TEXT, f"{line}\n".encode(), has_body=has_body, extra_headers=extra_headers)


def _response(status: str, kind: str, body: bytes, *, has_body: bool = True, extra_headers: str = "") -> bytes:
    lines = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    head = f"{lines}Cache-Control: no-store\r\n{extra_headers}Connection: close\r\n\r\n"
    return head.encode("latin-1") + (body if has_body else b"")


def _words(error: OSError | ValueError) -> str:
    """Return the reason why an address or a file cannot be used, without the address."""
    if isinstance(error, ssl.SSLError):
        return f"the certificate and the key cannot be used: {error.reason or 'wrong password'}"
    if isinstance(error, OSError):
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__
        return f"{error.filename}: {why}" if error.filename else why
    return str(error)


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
