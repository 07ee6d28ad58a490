"""Where a daemon's sockets are. No configuration is read here: a strategy may not be allowed to read it.

`$RUNTIME_DIRECTORY` is ignored, because for a strategy under systemd it names the strategy's own directory.
"""

from __future__ import annotations

import os

RUNTIME_DIR = "/run/kill-switch"  # the default of [daemon] runtime_dir
VARIABLE = "KILL_SWITCH_RUNTIME_DIR"  # names another directory where the caller names none
CONTROL_SOCKET = "control.sock"  # for commands
INTAKE_SOCKET = "intake.sock"  # for heartbeats and figures
MAX_PATH = 107  # bytes of a Unix socket's path; unix(7)


def socket_path(runtime_dir: str | os.PathLike[str] | None, name: str) -> str:
    """Return the absolute path of a socket; None is `$KILL_SWITCH_RUNTIME_DIR`, else `RUNTIME_DIR`.

    Raises `ValueError` if no socket can have that path, and `TypeError` if the directory is no path.
    """
    directory = os.environ.get(VARIABLE) or RUNTIME_DIR if runtime_dir is None else os.fspath(runtime_dir)
    path = os.path.join(os.path.abspath(directory), name)
    encoded = os.fsencode(path)
    if len(encoded) > MAX_PATH:
        raise ValueError(f"{path}: {len(encoded)} bytes, and a Unix socket's path has at most {MAX_PATH}")
    if b"\0" in encoded:
        raise ValueError("the runtime directory's path has a NUL in it")
    return path
