"""Check that every account connects: `check --connect`.

If a daemon is running, its connections are used, because some venues allow one WebSocket a key. Otherwise this process
opens its own lanes. A running daemon never loses a connection to this check.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from kill_switch.client import control_socket
from kill_switch.control import paths
from kill_switch.direct import connect_check

if TYPE_CHECKING:
    from kill_switch.config.accounts import AccountConfig
    from kill_switch.config.loader import Config
    from kill_switch.direct.connect_check import Progress

ASK_EVERY_S = 0.2
ANSWER_WITHIN_S = 10.0


def check(config: Config, within_s: float) -> dict[str, Any]:
    """Wait until every account is ready or `within_s` seconds have passed, then drill them; return the result as JSON.

    Raises `Unreachable` if a daemon is running and does not answer, `NotAllowed` if it refuses the caller.
    """
    path = config.daemon.runtime_dir / paths.CONTROL_SOCKET
    running = control_socket.is_listening(path)
    with _progress(within_s) as progress:
        if running:
            result = _by_daemon(config, within_s, progress)
        else:
            result = anyio.run(connect_check.check, config, within_s, progress)
    drill = result["drill"]
    ready = all(account["ready"] for account in result["accounts"].values())
    return {"ok": ready and drill is not None and drill["ok"], "via": "daemon" if running else "lanes", **result}


def _by_daemon(config: Config, within_s: float, progress: Progress) -> dict[str, Any]:
    """Poll the running daemon until its accounts are ready, then have it drill them."""
    path = config.daemon.runtime_dir / paths.CONTROL_SOCKET
    began_s = settled_s = time.monotonic()
    while True:
        status = control_socket.send_request(path, {"cmd": "status"}, ANSWER_WITHIN_S)
        known = status["accounts"]
        accounts = {name: known.get(name) or _missing(account) for name, account in config.accounts.items()}
        waited_s = time.monotonic() - began_s
        if not all(_is_settled(accounts[name]) for name in known.keys() & accounts.keys()):
            settled_s = time.monotonic()
        ready = all(accounts[name]["ready"] for name in accounts if name in known)
        if ready or waited_s >= within_s or time.monotonic() - settled_s >= connect_check.REFUSED_FOR_S:
            break
        progress(accounts, waited_s)
        time.sleep(ASK_EVERY_S)
    shared = [name for name in accounts if name in known and not accounts[name].get("refused")]
    drill: dict[str, Any] = {"error": "the running daemon has none of these accounts; to add them: kill-switch reload"}
    if known.keys() & accounts.keys():
        drill = {"error": connect_check.NOTHING_TO_DRILL}
    if shared:
        drill = control_socket.send_request(path, {"cmd": "drill", "scope": shared}, timeout_s=20.0)
    result = {"waited_s": round(waited_s, 3), "accounts": accounts, "warnings": status.get("trouble", [])}
    return {**result, "drill": None, "error": drill["error"]} if "error" in drill else {**result, "drill": drill}


def _is_settled(account: Mapping[str, Any]) -> bool:
    """Return whether an account is ready, or its login refused, so that waiting for it is of no use."""
    return bool(account["ready"] or account.get("refused"))


def _missing(account: AccountConfig) -> dict[str, Any]:
    trouble = {"daemon": "the running daemon does not have this account; to add it: kill-switch reload"}
    environment = account.options.environment
    about = {"venue": account.venue, "environment": environment, "ready": False, "lanes": {}, "rtt_us": None}
    return {**about, "trouble": trouble}


@contextmanager
def _progress(within_s: float) -> Iterator[Progress]:
    """Yield a function that shows on a terminal which accounts are not ready yet; elsewhere it does nothing."""
    if not sys.stderr.isatty():
        yield lambda accounts, waited_s: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True, highlight=False).status("connecting") as shown:

        def show(accounts: Mapping[str, Mapping[str, Any]], waited_s: float) -> None:
            waiting = [name for name, account in accounts.items() if not account["ready"]]
            names = ", ".join(waiting[:3]) + (", …" if len(waiting) > 3 else "")
            ready = len(accounts) - len(waiting)
            shown.update(
                Text(f"{ready}/{len(accounts)} ready after {waited_s:.0f} of {within_s:g} s; waiting for {names}")
            )

        yield show
