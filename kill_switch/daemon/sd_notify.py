"""Messages to the service manager: READY, STATUS, WATCHDOG, STOPPING, as in sd_notify(3).

The daemon calls it; without `$NOTIFY_SOCKET` nothing is sent. Nothing here waits, because process 1 may hang with a
full socket. A message that could not be sent is sent again with the next pulse.
"""

from __future__ import annotations

import os
import socket

import sdnotify

START_USEC = 15_000_000  # microseconds that the start may take from each message on


class ServiceNotifier:
    """The connection to the service manager."""

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
        """The longest time between two calls of `alive`, in seconds; None if the unit has no watchdog."""
        usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        if not usec.isdigit() or (pid and pid != str(os.getpid())):
            return None
        return int(usec) / 1e6

    def ready(self) -> None:
        """Report that the start is over; once it has been sent, do nothing."""
        self._ready = self._ready or self._send("READY=1")

    def starting(self) -> None:
        """Ask for more time to start, because a venue may be closed for hours; the daemon can kill meanwhile."""
        self._send(f"EXTEND_TIMEOUT_USEC={START_USEC}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, line: str) -> None:
        """Show a line in `systemctl status`; an unchanged line is not sent again."""
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
            self._socket.send(message.encode("utf-8", "replace"))  # because a path in it may have other bytes
        except OSError:
            return False
        return True
