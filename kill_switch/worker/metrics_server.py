"""The metrics server: serves the daemon's figures to Prometheus, and its health to probes, from the worker process.

`worker.main` runs it. A daemon that does not answer is reported as `kill_switch_responding 0`, and by `/healthz`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kill_switch.worker.access_files import NO_FILES, AccessFiles
from kill_switch.worker.metrics_access import MetricsAccess
from kill_switch.worker.metrics_connection import Connection
from kill_switch.worker.metrics_http import Head, health_response, is_this_machine, parse, response, text_response
from kill_switch.worker.output import say_uncaught

FRESH_S = 0.25
ANSWER_S = 2.0  # seconds; a slower daemon counts as not responding
AGAIN_S = 2.0  # seconds until an address in use, or a file that cannot be read, is tried again
LOOK_S = 1.0  # seconds between two looks whether the token or the certificate has changed
ACCEPT_AGAIN_S = 0.1  # seconds until the next connection after an error, such as too many open files
CONNECTIONS = 128
BACKLOG = 128  # connections that the kernel holds until they are accepted
_MISDIRECTED = "ask by IP address, as localhost, or by this machine's name"
_UNAUTHORIZED = "the token is missing or wrong"
_UNKNOWN = "there are /metrics, /healthz and /readyz"

Figures = Sequence[Mapping[str, Any]]


class MetricsServer(Collector):
    """A collector of the daemon's figures, and the server for them; `write` sends the daemon a line.

    All clients are served in one event loop, and none delays another, however slowly it reads. At most `CONNECTIONS`
    are open; a further client closes the oldest. The daemon is asked at most once in `FRESH_S`, for all clients
    together, and its answer is formatted once.

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
        self._is_owed = False  # the daemon has been asked, and has not answered
        self._giving_up: asyncio.TimerHandle | None = None
        self._waiting: dict[Connection, Head] = {}  # who is answered once it has answered, or has not
        self._clients: dict[Connection, None] = {}  # ordered set, the oldest client first
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
                for client in list(self._clients):
                    client.close()

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
            self._answer_waiting()

    def _give_up(self) -> None:
        self._figures = None
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        """Answer the clients that wait, from the figures there are now; the next client asks again."""
        self._is_owed = False
        if self._giving_up is not None:
            self._giving_up.cancel()
        self._texts.clear()
        waiting, self._waiting = self._waiting, {}
        for connection, asked in waiting.items():
            self._respond(connection, asked)

    def _refresh(self) -> bool:
        """Ask the daemon if its figures are old; return whether clients are answered now, and not once it answers."""
        now_s = time.monotonic()
        if now_s - self._taken_s < FRESH_S:
            return True
        if self._is_owed and now_s - self._asked_s > ANSWER_S:  # this loop is late, and so is its timer
            self._give_up()
        if not self._is_owed:
            self._asked += 1
            self._asked_s, self._is_owed = now_s, True
            self._giving_up = asyncio.get_running_loop().call_later(ANSWER_S, self._give_up)
            self._write({"asks": self._asked})
        return self._figures is None  # it has owed an answer for too long: no client waits for that again

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
        if self._access.context is not None:
            try:
                client = self._access.context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
            except (OSError, ValueError):  # it has gone already
                client.close()
                return
        connection = Connection(client, self._answer, self._forget)
        self._clients[connection] = None
        if len(self._clients) > CONNECTIONS:
            next(iter(self._clients)).close()
        connection.begin()

    def _listen_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _forget(self, connection: Connection) -> None:
        self._clients.pop(connection, None)
        self._waiting.pop(connection, None)

    def _answer(self, connection: Connection, head: bytes) -> None:
        """Answer a request: refuse it at once, or answer once the figures are fresh."""
        asked = parse(head)
        if refusal := self._refusal(asked):
            connection.send(refusal)
        elif self._refresh():
            self._respond(connection, asked)
        else:
            self._waiting[connection] = asked

    def _respond(self, connection: Connection, asked: Head) -> None:
        try:
            answer = self._response(asked)
        except Exception as error:  # figures that cannot be formatted; the other clients are answered
            say_uncaught(type(error), error, error.__traceback__)
            connection.close()
        else:
            connection.send(answer)

    def _refusal(self, asked: Head) -> bytes:
        """Return the answer to a request that may not have the figures; b"" if it may."""
        has_body = asked.has_body
        if asked.method not in ("GET", "HEAD"):
            return text_response("405 Method Not Allowed", "only GET and HEAD", extra_headers="Allow: GET, HEAD\r\n")
        if not self._access.needs_token and not all(map(is_this_machine, asked.hosts)):
            return text_response("421 Misdirected Request", _MISDIRECTED, has_body=has_body)
        if not self._access.allows(asked.authorization):
            asks = 'WWW-Authenticate: Bearer realm="kill-switch"\r\n'
            return text_response(
                "401 Unauthorized", "the token is missing or wrong", has_body=has_body, extra_headers=asks
            )
        if asked.path not in ("/metrics", "/healthz", "/readyz"):
            return text_response("404 Not Found", _UNKNOWN, has_body=has_body)
        return b""

    def _response(self, asked: Head) -> bytes:
        """Return the answer to a request for what the daemon says."""
        match asked.path:
            case "/metrics":
                kind, text = self._metrics_text(asked.accept)
                return response("200 OK", kind, text, has_body=asked.has_body)
            case "/healthz":
                return health_response(self._silent, "the daemon answers", has_body=asked.has_body)
            case _:
                unable = self._unable and f"not able to fire: {self._unable}"
                return health_response(self._silent or unable, "able to fire", has_body=asked.has_body)

    @property
    def _silent(self) -> str:
        return "" if self._figures is not None else f"the daemon does not answer within {ANSWER_S:g} s"

    def _metrics_text(self, accept: str) -> tuple[str, bytes]:
        """Return a content type that the client accepts, and the figures in it."""
        try:
            encoder, kind = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encoder, kind = choose_encoder("")
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
