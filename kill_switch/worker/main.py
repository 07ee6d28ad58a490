"""The worker process for everything else that may block: messages, calls of the monitor, the metrics server.

`python -m kill_switch.worker.main` reads one JSON line an errand from standard input, and writes one line for its
outcome. Errands may hang or use a whole processor here: the daemon shares no thread and no interpreter lock with them.
Nothing of an errand is logged, because it contains secrets; a failure is reported by its kind.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any

import orjson

from kill_switch.worker import output, subordinate
from kill_switch.worker.access_files import AccessFiles
from kill_switch.worker.subordinate import LAST_S

if TYPE_CHECKING:
    from kill_switch.worker.metrics_server import MetricsServer

AT_ONCE = 64  # errands at the same time; systemd's TasksMax counts their threads
STUCK = 16  # overdue errands after which this process ends and is replaced
STUCK_AFTER_S = 10.0  # seconds beyond an errand's time until it counts as overdue
CALL_S = 10.0  # seconds for the connection, and for each read
AWAKE_S = 1.0  # seconds between two signs that threads run
ASLEEP_S = 30.0  # seconds without such a sign: a library holds the interpreter's lock

Errand = Mapping[str, Any]
Outcome = dict[str, Any]

_services: dict[str, Any] = {}  # URL → apprise's object, which knows when it may send again


# ── what can be done ──────────────────────────────────────────────────────────────────────────────────────────────


def notify(errand: Errand) -> Outcome:
    """Send a message to one of apprise's URLs; without a text, only check that apprise understands the URL."""
    service = _service(errand["url"])
    if service is None:
        return {"ok": False, "why": "apprise does not understand the URL"}
    if "text" not in errand:
        return {"ok": True}
    sent = service.notify(title=errand["subject"], body=errand["text"], notify_type=errand["type"], body_format="text")
    return {"ok": True} if sent else {"ok": False, "why": "the service did not accept the message"}


def is_supported_url(url: str) -> bool:
    """Return whether apprise can use a URL; nothing is logged about it."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        return _service(url) is not None
    finally:
        logging.disable(before)


def _service(url: str) -> Any:
    """Return apprise's object for a URL, None if apprise does not understand it; objects are cached."""
    if url not in _services:
        # imported here, because it takes 0.3 s, and most configurations have no URL
        apprise = importlib.import_module("apprise")
        asset = apprise.AppriseAsset(app_id="kill-switch", secure_logging=True, async_mode=False)
        service = apprise.Apprise(asset=asset)
        if not service.add(url):
            return None
        _services[url] = service
    return _services[url]


def http_get(errand: Errand) -> Outcome:
    """Call a URL; any status but 2xx is a failure."""
    httpx = importlib.import_module("httpx")  # imported here, because most configurations have no outer ping
    with (
        httpx.Client(timeout=CALL_S) as client,
        client.stream("GET", errand["url"], headers={"User-Agent": errand["agent"]}) as response,
    ):
        code: int = response.status_code
    return {"ok": 200 <= code < 300, "why": f"HTTP {code}"}


# ── the desk ──────────────────────────────────────────────────────────────────────────────────────────────────────


class JobServer:
    """The process's main loop: each errand runs in its own thread, and its outcome is written to the daemon."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._under_way: dict[int, float] = {}  # errand → when it should be over
        self._metrics_server: MetricsServer | None = None

    def serve(self, lines: IO[bytes]) -> None:
        """Read errands until the pipe ends; then give those in progress `LAST_S`."""
        for line in lines:
            self.start_job(orjson.loads(line))
            if self._stuck() > STUCK:
                break
        until_s = time.monotonic() + LAST_S
        while self._under_way and time.monotonic() < until_s:
            time.sleep(0.02)

    def start_job(self, errand: Errand) -> None:
        """Begin an errand, or answer a heartbeat.

        Heartbeats take the same way as errands, because that way may hang.
        """
        match errand["do"]:
            case "beat":
                self.write({"beat": errand["id"]})
            case "expose":
                # imported here, because most configurations have no metrics
                from kill_switch.worker.metrics_server import MetricsServer

                files = AccessFiles(*errand["files"])
                self._metrics_server = MetricsServer(errand["host"], errand["port"], self.write, files)
                threading.Thread(target=self._metrics_server.run, daemon=True).start()
            case "figures":
                if self._metrics_server is not None:  # the daemon sends figures after "expose" only
                    self._metrics_server.on_figures(errand["id"], errand["figures"], errand["unable"])
            case _ if time.monotonic() > errand["begin_by_s"]:
                self.write({"id": errand["id"], "ok": False, "why": "not begun: the errand arrived too late"})
            case _ if len(self._under_way) >= AT_ONCE:
                self.write({"id": errand["id"], "ok": False, "why": "not begun: too many errands are in progress"})
            case do:
                self._under_way[errand["id"]] = time.monotonic() + errand["within_s"]
                work = {"tell": notify, "call": http_get}[do]
                try:
                    threading.Thread(target=self._do, args=(work, errand), daemon=True).start()
                except RuntimeError:  # the system has no thread left
                    self._done(errand, {"ok": False, "why": "no thread can be started"})

    def write(self, line: Outcome) -> None:
        """Write a line to the daemon, if its end of the pipe is open."""
        whole = orjson.dumps(line) + b"\n"
        with self._lock, contextlib.suppress(OSError):
            while whole:
                whole = whole[os.write(self._out, whole) :]

    def _do(self, work: Callable[[Errand], Outcome], errand: Errand) -> None:
        try:
            outcome = work(errand)
        except Exception as error:  # the exception's text may show a secret
            known = isinstance(error, OSError) and error.strerror
            outcome = {"ok": False, "why": known or type(error).__name__}
        self._done(errand, outcome)

    def _done(self, errand: Errand, outcome: Outcome) -> None:
        self.write({"id": errand["id"], **outcome})
        del self._under_way[errand["id"]]

    def _stuck(self) -> int:
        long_ago_s = time.monotonic() - STUCK_AFTER_S
        return sum(until_s < long_ago_s for until_s in tuple(self._under_way.values()))


def stay_awake() -> None:
    """End this process if no thread has run for `ASLEEP_S`, because it could not notice that the daemon has ended."""
    with open(os.devnull, "w") as nowhere:
        while True:
            faulthandler.dump_traceback_later(ASLEEP_S, exit=True, file=nowhere)
            time.sleep(AWAKE_S)


def main() -> None:
    """Serve the process that started this one."""
    subordinate.begin()
    subordinate.run_behind_daemon()
    threading.excepthook = lambda args: output.say_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    threading.Thread(target=stay_awake, daemon=True).start()
    JobServer(sys.stdout.fileno()).serve(sys.stdin.buffer)
    sys.stdout.flush()
    os._exit(0)  # even if threads hang


if __name__ == "__main__":
    main()
