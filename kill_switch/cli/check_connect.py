"""Check that every account connects: through the daemon that is running, else over lanes of our own.

A daemon that runs has the lanes that it takes, and some venues allow one WebSocket only: it is never taken from it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from kill_switch.control import client, paths
from kill_switch.direct import connect_check

if TYPE_CHECKING:
    from kill_switch.config.loader import Config
    from kill_switch.direct.connect_check import Progress

ASK_EVERY_S = 0.2
ANSWER_WITHIN_S = 10.0


def check(config: Config, within_s: float) -> dict[str, Any]:
    """Wait until every account is ready or `within_s` has passed, and drill them; return what came of it.

    Raises `Unreachable` if a daemon is there and does not answer, `NotAllowed` if it may not be asked.
    """
    path = config.daemon.runtime_dir / paths.CONTROL_SOCKET
    running = client.listening(path)
    with _progress(within_s) as progress:
        if running:
            found = _by_daemon(config, within_s, progress)
        else:
            found = anyio.run(connect_check.check, config, within_s, progress)
    drill = found["drill"]
    ready = all(account["ready"] for account in found["accounts"].values())
    return {"ok": ready and drill is not None and drill["ok"], "via": "daemon" if running else "lanes", **found}


def _by_daemon(config: Config, within_s: float, progress: Progress) -> dict[str, Any]:
    path = config.daemon.runtime_dir / paths.CONTROL_SOCKET
    began_s = time.monotonic()
    while True:
        status = client.ask(path, {"cmd": "status"}, ANSWER_WITHIN_S)
        known = status["accounts"]
        accounts = {name: known.get(name) or _missing(account.venue) for name, account in config.accounts.items()}
        waited_s = time.monotonic() - began_s
        if waited_s >= within_s or all(accounts[name]["ready"] for name in accounts if name in known):
            break
        progress(accounts, waited_s)
        time.sleep(ASK_EVERY_S)
    both = [name for name in accounts if name in known]
    drill: dict[str, Any] = {"error": "the running daemon has none of these accounts"}
    if both:
        drill = client.ask(path, {"cmd": "drill", "scope": both}, timeout_s=20.0)
    found = {"waited_s": round(waited_s, 3), "accounts": accounts, "warnings": status.get("trouble", [])}
    return {**found, "drill": None, "error": drill["error"]} if "error" in drill else {**found, "drill": drill}


def _missing(venue: str) -> dict[str, Any]:
    trouble = {"daemon": "it runs without this account: kill-switch reload"}
    return {"venue": venue, "ready": False, "lanes": {}, "rtt_us": None, "trouble": trouble}


@contextmanager
def _progress(within_s: float) -> Iterator[Progress]:
    """Say on a terminal who is waited for."""
    if not sys.stderr.isatty():
        yield lambda accounts, waited_s: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True, highlight=False).status("connecting") as shown:

        def say(accounts: Mapping[str, Mapping[str, Any]], waited_s: float) -> None:
            waiting = [name for name, account in accounts.items() if not account["ready"]]
            names = ", ".join(waiting[:3]) + (", …" if len(waiting) > 3 else "")
            ready = len(accounts) - len(waiting)
            shown.update(
                Text(f"{ready}/{len(accounts)} ready after {waited_s:.0f} of {within_s:g} s; waiting for {names}")
            )

        yield say
