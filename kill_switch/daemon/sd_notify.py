"""Tell systemd how it goes: READY, STATUS, WATCHDOG, STOPPING (sd_notify(3)). Silent where systemd is not there.

Nothing here waits: process 1 may be stuck, its socket full, and a kill must not be kept waiting for either. What could
not be sent is sent again with the next pulse.
"""

from __future__ import annotations

import os
import socket

import sdnotify

START_USEC = 15_000_000  # how long the start may take from each sign of life on


class ServiceNotifier:
    """Speak to the service manager through `$NOTIFY_SOCKET`."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        if os.environ.get("NOTIFY_SOCKET"):
            self._socket = sdnotify.SystemdNotifier().socket
        if self._socket is not None:
            self._socket.setblocking(False)
        self._status = ""
        self._ready = False

    @property
    def watchdog_s(self) -> float | None:
        """Return how often `alive` must be called at least, in seconds; None if nobody asked for it."""
        usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        if not usec.isdigit() or (pid and pid != str(os.getpid())):
            return None
        return int(usec) / 1e6

    def ready(self) -> None:
        """Say that the start is over, until it has been heard."""
        self._ready = self._ready or self._send("READY=1")

    def starting(self) -> None:
        """Ask for more time: a venue may be closed for hours, and the daemon watches and kills meanwhile."""
        self._send(f"EXTEND_TIMEOUT_USEC={START_USEC}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, line: str) -> None:
        """Show one line in `systemctl status`; nothing is sent while it stays the same."""
        if line != self._status and self._send(f"STATUS={line}"):
            self._status = line

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return True
        try:
            self._socket.send(message.encode())
        except OSError:
            return False
        return True
