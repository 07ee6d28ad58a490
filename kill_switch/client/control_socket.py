"""Send a request over the daemon's control socket and wait for the answer, within a bound.

All commands and `client.control` use this, and `client.aio` its parts. It imports as little as possible, because `fire`
must start fast. No configuration is read here.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kill_switch.errors import OWN_DIRECTORIES, KillSwitchError, NotAllowed, Unreachable, Unresponsive

STARTS_WITHIN_S = 1.0  # seconds from a process's first line to its sockets
ACKNOWLEDGED_WITHIN_S = 1.0  # seconds in which a daemon that does not hang says that it has begun with a kill
ALIVE_WITHIN_S = 2.0  # seconds in which a daemon that does not hang says that it has read any other request
NOT_ALLOWED = f"you may not use {{path}}: ask to be put into its group; or, {OWN_DIRECTORIES}"
AGAIN_S = 0.05  # seconds between two attempts to connect
MAX_ANSWER = 64 << 20  # bytes of an answer; a status takes about 1 KiB an account
_READ_ONLY = ("status", "report")  # requests that change nothing, as do a dry run and a list
UNKNOWN = ": whether it has done, or will do, what was asked is not known; see kill-switch status"


def send_request(
    path: Path,
    request: Mapping[str, object],
    timeout_s: float = 10.0,
    patience_s: float = 0.0,
    on_silence: Callable[[], float] | None = None,
    *,
    silent_after_s: float = ALIVE_WITHIN_S,
    sent: Callable[[], object] = lambda: None,
    acknowledged: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Send the daemon a request and return its answer.

    Raises `Unreachable`, or `NotAllowed` if the socket's mode forbids the caller. First, a daemon that may be starting
    is waited for, up to `patience_s` seconds. `timeout_s` bounds the exchange in seconds. `sent` is called after the
    request was sent.

    The daemon acknowledges a request before it answers; `acknowledged` is called then. Without an acknowledgement
    within `silent_after_s` seconds the daemon hangs, and is given up. With `on_silence`, that is called first, once: it
    returns for how many seconds more an acknowledgement is waited for.
    """
    until_s = time.monotonic() + patience_s
    while patience_s and not is_listening(path) and time.monotonic() < until_s:
        time.sleep(AGAIN_S)
    sock = socket.socket(socket.AF_UNIX)
    began_s = time.monotonic()
    until_s = began_s + timeout_s
    sock.settimeout(timeout_s)
    unknown = ""
    try:
        with sock:
            sock.connect(str(path))
            unknown = consequence(request)
            sock.sendall(encode(request))
            sent()
            lines = _Lines(sock, path, unknown)
            answer = _refusal(lines, min(until_s, time.monotonic() + silent_after_s), on_silence, until_s)
            acknowledged()
            while answer is None or "acknowledged" in answer:
                answer = lines.read(until_s)
            return answer
    except OSError as error:
        raise explained(error, path, time.monotonic() - began_s, unknown) from None


def consequence(request: Mapping[str, object]) -> str:
    """Return the end of the error's text if the request was sent and no answer comes."""
    changes_nothing = request.get("cmd") in _READ_ONLY or any(request.get(key) is True for key in ("dry_run", "list"))
    return "" if changes_nothing else UNKNOWN


def encode(request: Mapping[str, object]) -> bytes:
    """Return the line of a request that the daemon acknowledges with a line before it answers."""
    return json.dumps({**request, "acknowledge": True, "asked_mono_ns": time.monotonic_ns()}).encode() + b"\n"


def decode(line: bytes, path: Path, unknown: str) -> dict[str, Any]:
    """Return the JSON object of an answer's line; raise `Unreachable` if it is none."""
    try:
        loaded = json.loads(line)
    except ValueError:
        loaded = None
    if not isinstance(loaded, dict):
        text = f"the process that answers on {path} is no daemon: its answer is not a JSON object"
        raise Unreachable(f"{text}{unknown}")
    return loaded


def explained(error: OSError, path: Path, waited_s: float, unknown: str) -> KillSwitchError:
    """Return the error for a caller, for an error of the operating system or a time-out after `waited_s` seconds."""
    if isinstance(error, PermissionError):
        return NotAllowed(NOT_ALLOWED.format(path=path))
    if isinstance(error, TimeoutError):
        return Unresponsive(f"the daemon does not answer on {path} (waited {round(waited_s, 1):g} s){unknown}")
    if isinstance(error, BlockingIOError):
        return Unresponsive(f"the daemon does not answer on {path}: its queue of requests is full")
    return Unreachable(f"no daemon answers on {path}: {error.strerror or error}{unknown}")


def endless(path: Path) -> Unreachable:
    """Return the error for an answer that is longer than `MAX_ANSWER`."""
    return Unreachable(f"the process that answers on {path} is no daemon: its answer does not end")


def hung_up(path: Path, unknown: str) -> Unreachable:
    """Return the error for a connection that ended before the answer."""
    return Unreachable(f"the daemon hung up on {path}{unknown}")


class _Lines:
    """The lines of JSON that come over a connection."""

    def __init__(self, sock: socket.socket, path: Path, unknown: str) -> None:
        self._sock = sock
        self._path = path
        self._unknown = unknown
        self._unread = bytearray()

    def read(self, until_s: float) -> dict[str, Any]:
        """Return the next line; raise `TimeoutError` at that monotonic time, or `Unreachable`."""
        while b"\n" not in self._unread:
            if len(self._unread) > MAX_ANSWER:
                raise endless(self._path)
            self._sock.settimeout(max(0.001, until_s - time.monotonic()))
            chunk = self._sock.recv(1 << 16)
            if not chunk:
                raise hung_up(self._path, self._unknown)
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return decode(bytes(line), self._path, self._unknown)


def _refusal(
    lines: _Lines, silent_at_s: float, on_silence: Callable[[], float] | None, until_s: float
) -> dict[str, Any] | None:
    """Wait for the acknowledgement; return the answer if it comes instead, as from a daemon that refuses."""
    try:
        line = lines.read(silent_at_s)
    except TimeoutError:
        if on_silence is None:
            raise
        line = lines.read(min(until_s, time.monotonic() + on_silence()))
    return None if "acknowledged" in line else line


def is_listening(path: Path) -> bool:
    """Return whether a process has the socket open, even if it does not answer; raise `NotAllowed` if refused."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(str(path))
        except PermissionError:
            raise NotAllowed(NOT_ALLOWED.format(path=path)) from None
        except TimeoutError:  # the backlog is full, so a process has the socket open
            return True
        except OSError as error:
            return error.errno == errno.EAGAIN
    return True
