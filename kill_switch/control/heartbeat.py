"""Send heartbeats to the daemon's intake, for `kill-switch beat`.

No answer is expected: the intake is a datagram socket.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

from kill_switch.control.client import NOT_ALLOWED
from kill_switch.errors import NotAllowed, Unreachable, Unresponsive

STARTS_WITHIN_S = 1.0  # seconds from a daemon's first line to its sockets
AGAIN_S = 0.05  # seconds between two attempts to send


def send_heartbeat(
    path: Path,
    name: str,
    every_s: float | None,
    *,
    bye: bool = False,
    sender: str = "",
    sent: Callable[[], object] = lambda: None,
) -> None:
    """Send one datagram from `sender` (default: the host's name), or one every `every_s` seconds until interrupted.

    A single beat that no daemon receives within a second raises `Unreachable`, or `Unresponsive` if its queue is full.
    Within that second a starting daemon is waited for. A series continues, because the daemon may come back. `sent` is
    called once, after the first datagram that was received.
    """
    payload = json.dumps({"bye" if bye else "beat": name, "from": sender or socket.gethostname()}).encode()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(1.0)
    due_s = time.monotonic()
    patient_s = due_s + STARTS_WITHIN_S
    with sock:
        while True:
            try:
                sock.sendto(payload, str(path))
            except PermissionError:
                raise NotAllowed(NOT_ALLOWED.format(path=path)) from None
            except OSError as error:
                if every_s is None and time.monotonic() < patient_s:
                    time.sleep(AGAIN_S)
                    continue
                if every_s is None and isinstance(error, TimeoutError):
                    raise Unresponsive(f"the daemon reads no beats on {path}: its queue is full") from None
                if every_s is None:
                    raise Unreachable(f"no daemon receives beats on {path}: {error.strerror or error}") from None
            else:
                sent()
                sent = _nothing
            if every_s is None:
                return
            due_s += every_s
            time.sleep(max(0.0, due_s - time.monotonic()))


def _nothing() -> None:
    """Do nothing: `sent` is called for the first datagram only."""
