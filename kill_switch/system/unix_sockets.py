"""Make the Unix sockets that the control socket and the intake are, for the daemon's user and one group."""

from __future__ import annotations

import os
import socket
from pathlib import Path

MOST_PATH = 107  # bytes of a Unix socket's name; unix(7)


def bind(path: Path, kind: socket.SocketKind, gid: int | None) -> socket.socket:
    """Make a socket of mode 0660, in the place of what is there; raises `OSError`. Waits for the file system.

    Until it belongs to the group `gid`, nobody but its owner may write to it.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(sock.fileno(), 0o600)  # the mode that the name begins with
        sock.bind(str(path))
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(0o660)
    except BaseException:
        sock.close()
        raise
    return sock
