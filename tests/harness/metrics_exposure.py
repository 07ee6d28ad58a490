"""Serve metrics on a free port, as the worker process does, and read them as Prometheus does."""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from kill_switch.worker.access_files import NO_FILES, AccessFiles
from kill_switch.worker.client import MetricsSnapshot
from kill_switch.worker.metrics_server import MetricsServer

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def nothing() -> MetricsSnapshot:
    """Return the snapshot of a daemon that is well and has no figures."""
    return MetricsSnapshot(())


@contextmanager
def exposed(
    snapshot: Callable[[], MetricsSnapshot] = nothing,
    *,
    silent: bool | threading.Event = False,
    files: AccessFiles = NO_FILES,
) -> Iterator[int]:
    """Serve a snapshot on a free port, answered at once, or not while `silent` is true or set; return the port."""
    port = free_port()
    told: list[str] = []
    up = threading.Event()

    def write(line: dict[str, Any]) -> None:
        if "trouble" in line:
            told.append(line["trouble"])
            up.set()
        elif not (silent.is_set() if isinstance(silent, threading.Event) else silent):
            metrics_server.on_figures(line["asks"], *snapshot())

    metrics_server = MetricsServer("127.0.0.1", port, write, files)
    loop = asyncio.new_event_loop()
    serving = loop.create_task(metrics_server.serve())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([serving])), daemon=True)
    thread.start()
    assert up.wait(5) and told == [""]
    yield port
    loop.call_soon_threadsafe(serving.cancel)
    thread.join()
    loop.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def read(text: str) -> Values:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}
