"""Serve the daemon's figures to Prometheus: within the process beside, which asks the daemon for them at each scrape.

Whoever scrapes wildly, or connects and says nothing, keeps this process busy and not the daemon: it is asked for its
figures at most every `FRESH_S`. One that does not answer is told as `kill_switch_responding 0`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

FRESH_S = 0.25
ANSWER_S = 2.0  # a daemon that needs longer does not respond
IDLE_S = 2.0  # a client that needs longer for its request is let go: there is one at a time
AGAIN_S = 2.0  # after an address that was taken

Figures = Sequence[Mapping[str, Any]]


class Exposition(Collector):
    """Collect what the daemon says; `write` hands it a line."""

    def __init__(self, host: str, port: int, write: Callable[[dict[str, Any]], None]) -> None:
        self._host, self._port, self._write = host, port, write
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._asked = 0
        self._answered = threading.Event()
        self._figures: Figures = ()
        self._taken_s = float("-inf")
        self._server: _Server | None = None

    def run(self) -> None:
        """Serve until `close`; an address that is taken is tried again, and the daemon hears of it."""
        while True:
            try:
                with self._serving() as server:
                    self._server = server
                    self._write({"trouble": ""})
                    return server.serve_forever()
            except OSError as error:
                self._write({"trouble": f"{self._host}:{self._port}: {error.strerror or type(error).__name__}"})
            time.sleep(AGAIN_S)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()

    def take(self, number: int, figures: Figures) -> None:
        """Take the daemon's answer; one that comes too late is none."""
        if number == self._asked:
            self._figures, self._taken_s = figures, time.monotonic()
            self._answered.set()

    def collect(self) -> Iterable[Metric]:
        responds = self._ask()
        yield GaugeMetricFamily("kill_switch_responding", "Whether the daemon answered this scrape.", float(responds))
        if responds:
            yield from map(family, self._figures)

    def _ask(self) -> bool:
        if time.monotonic() - self._taken_s < FRESH_S:
            return True
        self._answered.clear()
        self._asked += 1
        self._write({"asks": self._asked})
        return self._answered.wait(ANSWER_S)

    def _serving(self) -> _Server:
        kind = _Server6 if ":" in self._host else _Server
        server = kind((self._host, self._port), _Handler)
        server.set_app(make_wsgi_app(self._registry))
        return server


class _Server(WSGIServer):
    """Serve one request after the other."""

    def server_bind(self) -> None:
        """Bind, without asking a name server who we are."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "kill-switch", self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave a client alone that went away."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = IDLE_S

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


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
