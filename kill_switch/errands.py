"""Run errands for the daemon, in a process of its own: send, call, run a command, serve figures.

`python -m kill_switch.errands` reads a JSON line an errand from standard input and writes a line for each that is over.
Whatever an errand does (hangs, forks, eats a processor, blocks in a library) it does here: the daemon has neither its
threads nor its interpreter lock, and can kill this process without a word. An errand names all that it needs, secrets
too, and nothing of it is logged: a failure is told by its kind.

When the daemon is gone, so is its end of the pipe: what is under way then gets `LAST_S`, and no more.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

import orjson

from kill_switch.hardening import forbid_dumps

LAST_S = 2.0  # the daemon that stops waits for us
AT_ONCE = 64  # errands under way; systemd's TasksMax counts their threads
STUCK = 16  # errands that should have been over long ago, until this process is no good any more
STUCK_AFTER_S = 10.0  # beyond the time that the errand was given
OUTPUT_BYTES = 2000  # of a command, the first of them
CALL_S = 10.0  # connect, and each read
HOOK_ENV = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "DBUS_SYSTEM_BUS_ADDRESS")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Errand = Mapping[str, Any]
Outcome = dict[str, Any]

_groups: set[int] = set()  # process groups of commands that run
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


def find(errand: Errand) -> Outcome:
    """See whether a command's program is there."""
    program: str = errand["argv"][0]
    found = shutil.which(program, path=os.environ.get("PATH", PATH))
    return {"ok": found is not None, "why": f"{program} is not a program that this process could run"}


def call(errand: Errand) -> Outcome:
    """Call a URL; anything but a 2xx is a failure."""
    httpx = importlib.import_module("httpx")  # here: most configurations call nobody
    with (
        httpx.Client(timeout=CALL_S) as client,
        client.stream("GET", errand["url"], headers={"User-Agent": errand["agent"]}) as response,
    ):
        code: int = response.status_code
    return {"ok": 200 <= code < 300, "why": f"HTTP {code}"}


def run(errand: Errand) -> Outcome:
    """Run a command, without a shell, in a session of its own; kill all of its process group when its time is over."""
    environ = {name: os.environ[name] for name in HOOK_ENV if name in os.environ}
    text: str = errand.get("text", "")
    within_s: float = errand["within_s"]
    began_s = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - the operator's own command
        errand["argv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": PATH, **environ, **errand["env"]},
        cwd="/",
        start_new_session=True,
    )
    _groups.add(process.pid)
    kept = bytearray()
    reader = threading.Thread(target=_keep, args=(process.stdout, kept), daemon=True)
    reader.start()
    threading.Thread(target=_feed, args=(process.stdin, text.encode()), daemon=True).start()
    why = ""
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        why = f"killed after {within_s:g} s"
        _kill(process.pid)
        process.wait()
    _groups.discard(process.pid)
    reader.join(0.2)  # what it leaves running may hold the pipe for ever
    code = process.returncode
    why = why or ("" if code == 0 else f"exit code {code}" if code > 0 else f"ended by signal {-code}")
    output = bytes(kept[:OUTPUT_BYTES]).decode("utf-8", "replace")
    ms = round((time.monotonic() - began_s) * 1e3)
    return {"ok": not why, "why": why, "code": code, "ms": ms, "output": output}


def _keep(pipe: IO[bytes], kept: bytearray) -> None:
    """Read to the end, so that a command that talks is not blocked; keep the beginning."""
    with pipe, contextlib.suppress(OSError):
        while chunk := pipe.read1(1 << 16):  # type: ignore[attr-defined] # a pipe's reader is buffered
            kept += chunk[: max(0, OUTPUT_BYTES - len(kept))]


def _feed(pipe: IO[bytes], text: bytes) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(text)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


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
        for group in tuple(_groups):
            _kill(group)

    def take(self, errand: Errand) -> None:
        """Begin an errand."""
        match errand["do"]:
            case "expose":
                from kill_switch.exposition import Exposition  # here: most configurations have no metrics

                self._exposition = Exposition(errand["host"], errand["port"], self.write)
                threading.Thread(target=self._exposition.run, daemon=True).start()
            case "figures":
                self._exposition.take(errand["id"], errand["figures"])
            case _ if len(self._under_way) >= AT_ONCE:
                self.write({"id": errand["id"], "ok": False, "why": "too much is under way"})
            case do:
                self._under_way[errand["id"]] = time.monotonic() + errand["within_s"]
                work = {"tell": tell, "call": call, "run": run, "find": find}[do]
                threading.Thread(target=self._do, args=(work, errand), daemon=True).start()

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
        self.write({"id": errand["id"], **outcome})
        del self._under_way[errand["id"]]

    def _stuck(self) -> int:
        long_ago_s = time.monotonic() - STUCK_AFTER_S
        return sum(until_s < long_ago_s for until_s in tuple(self._under_way.values()))


def main() -> None:
    """Serve the process that started this one."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # the daemon may have something to say until its very end; not SIG_IGN, which every command would inherit
        signal.signal(number, lambda *_: None)
    logging.disable()  # libraries log URLs
    threading.excepthook = lambda _: None
    with contextlib.suppress(OSError):  # nothing here is as urgent as a kill, nor worth as much memory
        os.setpriority(os.PRIO_PROCESS, 0, 5)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("200")
    forbid_dumps()
    Desk(sys.stdout.fileno()).serve(sys.stdin.buffer)
    sys.stdout.flush()
    os._exit(0)  # whatever still hangs


if __name__ == "__main__":
    main()
