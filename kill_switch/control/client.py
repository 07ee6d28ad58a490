"""Send requests to the daemon over its control socket.

All commands use this. It imports as little as possible, because `fire` must start fast. No configuration is read here.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kill_switch.errors import OWN_DIRECTORIES, NotAllowed, Unreachable

STARTS_WITHIN_S = 1.0  # seconds from a process's first line to its sockets
NOT_ALLOWED = f"you may not use {{path}}: ask to be put into its group; or, {OWN_DIRECTORIES}"
_AGAIN_S = 0.05  # seconds between two attempts to connect
MAX_ANSWER = 64 << 20  # bytes of an answer; a status takes about 1 KiB an account
_READ_ONLY = ("status", "report")  # requests that change nothing
_UNKNOWN = ": whether it has done, or will do, what was asked is not known; see kill-switch status"


def send_request(
    path: Path,
    request: Mapping[str, object],
    timeout_s: float = 10.0,
    patience_s: float = 0.0,
    *,
    sent: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Send the daemon a request and return its answer.

    Raises `Unreachable`, or `NotAllowed` if the socket's mode forbids the caller. First, a daemon that may be starting
    is waited for, up to `patience_s` seconds. `timeout_s` bounds the exchange in seconds. `sent` is called after the
    request was sent.
    """
    until_s = time.monotonic() + patience_s
    while patience_s and not is_listening(path) and time.monotonic() < until_s:
        time.sleep(_AGAIN_S)
    sock = socket.socket(socket.AF_UNIX)
    until_s = time.monotonic() + timeout_s
    sock.settimeout(timeout_s)
    unknown = ""  # the consequence if no answer comes
    try:
        with sock:
            sock.connect(str(path))
            unknown = "" if request.get("cmd") in _READ_ONLY else _UNKNOWN
            sock.sendall(json.dumps(request).encode() + b"\n")
            sent()
            answer = bytearray()
            while not answer.endswith(b"\n"):
                if len(answer) > MAX_ANSWER:
                    raise Unreachable(f"the process that answers on {path} is no daemon: its answer does not end")
                sock.settimeout(max(0.001, until_s - time.monotonic()))
                chunk = sock.recv(1 << 16)
                if not chunk:
                    raise Unreachable(f"the daemon hung up on {path}{unknown}")
                answer += chunk
    except PermissionError:
        raise NotAllowed(NOT_ALLOWED.format(path=path)) from None
    except TimeoutError:
        raise Unreachable(f"the daemon does not answer on {path} (waited {timeout_s:g} s){unknown}") from None
    except OSError as error:
        raise Unreachable(f"no daemon answers on {path}: {error.strerror or error}{unknown}") from None
    try:
        loaded = json.loads(answer)
    except ValueError:
        loaded = None
    if not isinstance(loaded, dict):
        raise Unreachable(f"the process that answers on {path} is no daemon: its answer is not a JSON object{unknown}")
    return loaded


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
