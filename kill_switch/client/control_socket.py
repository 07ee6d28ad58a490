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
AWAKE_WITHIN_S = 0.5  # seconds in which a daemon that does not hang answers a request that asks for nothing
NOTHING = b"{}\n"  # a request that asks for nothing: the answer is an error, and comes at once
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
    within `silent_after_s` seconds the daemon hangs, and is given up, unless it answers on another connection: one from
    before acknowledgements does. With `on_silence`, that is called instead, once: it returns for how many seconds more
    an acknowledgement is waited for.
    """
    until_s = time.monotonic() + patience_s
    while patience_s and not is_listening(path) and time.monotonic() < until_s:
        time.sleep(AGAIN_S)
    explaining = _Explaining(path)
    until_s = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        with explaining:
            sock.connect(str(path))
            explaining.unknown = consequence(request)
            sock.sendall(encode(request))
        sent()
        lines = _Lines(sock, path, explaining.unknown)
        with explaining:
            answer = _first_line(lines, path, silent_after_s, until_s, asks_others=on_silence is None)
        if answer is None:
            more_s = 0.0 if on_silence is None else on_silence()
            with explaining:
                answer = lines.read(min(until_s, time.monotonic() + more_s))
        acknowledged()
        explaining.is_taken = True
        with explaining:
            while "acknowledged" in answer:
                answer = lines.read(until_s)
        return answer


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


def explained(error: OSError, path: Path, waited_s: float, unknown: str, *, is_awake: bool = False) -> KillSwitchError:
    """Return the error for a caller, for an error of the operating system or a time-out after `waited_s` seconds.

    `is_awake` is whether the daemon answers other requests.
    """
    if isinstance(error, PermissionError):
        return NotAllowed(NOT_ALLOWED.format(path=path))
    if is_awake:
        return _awake(f"the daemon runs, and has not answered on {path} (waited {round(waited_s, 1):g} s){unknown}")
    if isinstance(error, TimeoutError):
        return Unresponsive(f"the daemon does not answer on {path} (waited {round(waited_s, 1):g} s){unknown}")
    if isinstance(error, BlockingIOError):
        return Unresponsive(f"the daemon does not answer on {path}: its queue of requests is full")
    return Unreachable(f"no daemon answers on {path}: {error.strerror or error}{unknown}")


def endless(path: Path) -> Unreachable:
    """Return the error for an answer that is longer than `MAX_ANSWER`."""
    return Unreachable(f"the process that answers on {path} is no daemon: its answer does not end")


def hung_up(path: Path, unknown: str, *, is_awake: bool) -> Unreachable:
    """Return the error for a connection that ended before the answer; `is_awake` as of `explained`."""
    text = f"the daemon hung up on {path}"
    return _awake(f"{text}, and answers others{unknown}") if is_awake else Unreachable(f"{text}{unknown}")


def _awake(text: str) -> Unreachable:
    error = Unreachable(text)
    error.is_awake = True
    return error


class _Explaining:
    """A context in which an error of the operating system becomes one for a caller; used for each step of an exchange.

    An error of the caller's own functions, between the steps, is not one of the daemon.
    """

    def __init__(self, path: Path) -> None:
        self.unknown = ""  # the end of the text, as `consequence` returns it, once the request may have been sent
        self.is_taken = False  # the daemon has acknowledged the request
        self._path = path
        self._began_s = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            is_late = self.is_taken and isinstance(error, TimeoutError) and answers_others(self._path)
            waited_s = time.monotonic() - self._began_s
            raise explained(error, self._path, waited_s, self.unknown, is_awake=is_late) from None


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
                raise hung_up(self._path, self._unknown, is_awake=answers_others(self._path))
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return decode(bytes(line), self._path, self._unknown)


def _first_line(
    lines: _Lines, path: Path, silent_after_s: float, until_s: float, *, asks_others: bool
) -> dict[str, Any] | None:
    """Return the acknowledgement, or the answer if it comes instead, as from a daemon that refuses.

    Without one in time: None. With `asks_others`, a daemon that answers on another connection is waited for instead.
    """
    now_s = time.monotonic()
    silent_at_s = min(until_s, now_s + silent_after_s)
    try:
        return lines.read((now_s + silent_at_s) / 2 if asks_others else silent_at_s)
    except TimeoutError:
        if not asks_others:
            return None
    return lines.read(until_s if answers_others(path, silent_at_s - time.monotonic()) else silent_at_s)


def answers_others(path: Path, within_s: float = AWAKE_WITHIN_S) -> bool:
    """Return whether a daemon answers a request that asks for nothing, within `within_s` seconds."""
    until_s = time.monotonic() + within_s
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(max(0.001, within_s))
            sock.connect(str(path))
            sock.sendall(NOTHING)
            sock.settimeout(max(0.001, until_s - time.monotonic()))
            return b"\n" in sock.recv(4096)
    except OSError:
        return False


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
