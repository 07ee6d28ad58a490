"""Create the Unix sockets of the control socket and the intake, for the daemon's user and one group.

The listeners of the daemon use this. No data is read or written here.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from kill_switch.client.places import MAX_PATH as MAX_PATH


def bind_unix_socket(path: Path, kind: socket.SocketKind, gid: int | None) -> socket.socket:
    """Create a socket of mode 0660, replacing a file at its path; raise `OSError`. Blocks on the file system.

    Until the socket belongs to the group `gid`, only its owner may write to it.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(sock.fileno(), 0o600)  # mode of the path from its creation on
        sock.bind(str(path))
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(0o660)
    except BaseException:
        sock.close()
        raise
    return sock
