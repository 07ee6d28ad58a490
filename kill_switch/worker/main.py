"""Run errands for the daemon, in a process of its own: send messages, call a monitor, serve figures.

`python -m kill_switch.worker.main` reads a JSON line an errand from standard input, and writes one when it is
over.
Whatever an errand does (hangs, eats a processor, blocks in a library) it does here: the daemon has neither its threads
nor its interpreter lock, and can kill this process without a word. An errand names all that it needs, secrets too, and
nothing of it is logged: a failure is told by its kind. The operator's commands have another process: `commands`.

When the daemon is gone, so is its end of the pipe: what is under way then gets `LAST_S`, and no more.
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
from typing import IO, Any

import orjson

from kill_switch.worker import subordinate
from kill_switch.worker.subordinate import LAST_S

AT_ONCE = 64  # errands under way; systemd's TasksMax counts their threads
STUCK = 16  # errands that should have been over long ago, until this process is no good any more
STUCK_AFTER_S = 10.0  # beyond the time that the errand was given
CALL_S = 10.0  # connect, and each read
AWAKE_S = 1.0  # between two signs that threads get their turn
ASLEEP_S = 30.0  # without one of those, whatever the daemon does: a library holds the interpreter's lock

Errand = Mapping[str, Any]
Outcome = dict[str, Any]

_services: dict[str, Any] = {}  # apprise's objects, by their URLs: they know when they may send again


# ── what can be done ──────────────────────────────────────────────────────────────────────────────────────────────


def tell(errand: Errand) -> Outcome:
    """Send a message to one of apprise's URLs; without a text, only see whether apprise understands the URL."""
    service = _service(errand["url"])
    if service is None:
        return {"ok": False, "why": "apprise does not understand the URL"}
    if "text" not in errand:
        return {"ok": True}
    sent = service.notify(title=errand["subject"], body=errand["text"], notify_type=errand["type"], body_format="text")
    return {"ok": True} if sent else {"ok": False, "why": "it was not accepted"}


def understands(url: str) -> bool:
    """Tell whether apprise can use a URL, without a word about it in the log."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        return _service(url) is not None
    finally:
        logging.disable(before)


def _service(url: str) -> Any:
    """Return apprise's object for a URL, None if it does not understand it; one that was made is kept."""
    if url not in _services:
        apprise = importlib.import_module("apprise")  # here: 0.3 s, and most configurations have no URL
        asset = apprise.AppriseAsset(app_id="kill-switch", secure_logging=True, async_mode=False)
        service = apprise.Apprise(asset=asset)
        if not service.add(url):
            return None
        _services[url] = service
    return _services[url]


def call(errand: Errand) -> Outcome:
    """Call a URL; anything but a 2xx is a failure."""
    httpx = importlib.import_module("httpx")  # here: most configurations call nobody
    with (
        httpx.Client(timeout=CALL_S) as client,
        client.stream("GET", errand["url"], headers={"User-Agent": errand["agent"]}) as response,
    ):
        code: int = response.status_code
    return {"ok": 200 <= code < 300, "why": f"HTTP {code}"}


# ── the desk ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Desk:
    """Take errands, each into a thread of its own, and hand out what became of them."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._under_way: dict[int, float] = {}  # errand → when it should be over
        self._exposition: Any = None

    def serve(self, lines: IO[bytes]) -> None:
        """Take errands until there are no more; then give those that are under way a moment."""
        for line in lines:
            self.take(orjson.loads(line))
            if self._stuck() > STUCK:
                break
        until_s = time.monotonic() + LAST_S
        while self._under_way and time.monotonic() < until_s:
            time.sleep(0.02)

    def take(self, errand: Errand) -> None:
        """Begin an errand, or answer a heartbeat: by the same way as errands, which may be what hangs."""
        match errand["do"]:
            case "beat":
                self.write({"beat": errand["id"]})
            case "expose":
                from kill_switch.worker.metrics_server import Exposition  # here: most configurations have no metrics

                self._exposition = Exposition(errand["host"], errand["port"], self.write)
                threading.Thread(target=self._exposition.run, daemon=True).start()
            case "figures":
                self._exposition.take(errand["id"], errand["figures"])
            case _ if time.monotonic() > errand["begin_by_s"]:
                self.write({"id": errand["id"], "ok": False, "why": "it came too late to begin"})
            case _ if len(self._under_way) >= AT_ONCE:
                self.write({"id": errand["id"], "ok": False, "why": "too much is under way"})
            case do:
                self._under_way[errand["id"]] = time.monotonic() + errand["within_s"]
                work = {"tell": tell, "call": call}[do]
                try:
                    threading.Thread(target=self._do, args=(work, errand), daemon=True).start()
                except RuntimeError:  # the system has none left
                    self._done(errand, {"ok": False, "why": "no thread can be started"})

    def write(self, line: Outcome) -> None:
        """Tell the daemon, if it is still there."""
        whole = orjson.dumps(line) + b"\n"
        with self._lock, contextlib.suppress(OSError):
            while whole:
                whole = whole[os.write(self._out, whole) :]

    def _do(self, work: Callable[[Errand], Outcome], errand: Errand) -> None:
        try:
            outcome = work(errand)
        except Exception as error:  # its text may show what is secret
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
    """Let this process end once no thread has had its turn for long: then it would not see that the daemon is gone."""
    with open(os.devnull, "w") as nowhere:
        while True:
            faulthandler.dump_traceback_later(ASLEEP_S, exit=True, file=nowhere)
            time.sleep(AWAKE_S)


def main() -> None:
    """Serve the process that started this one."""
    subordinate.begin()
    threading.excepthook = lambda _: None
    threading.Thread(target=stay_awake, daemon=True).start()
    Desk(sys.stdout.fileno()).serve(sys.stdin.buffer)
    sys.stdout.flush()
    os._exit(0)  # whatever still hangs


if __name__ == "__main__":
    main()
