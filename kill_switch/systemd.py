"""Tell systemd how it goes: READY, STATUS, WATCHDOG, STOPPING (sd_notify(3)). Silent where systemd is not there."""

from __future__ import annotations

import os

import sdnotify


class Systemd:
    """Speak to the service manager through `$NOTIFY_SOCKET`."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        self._status = ""

    @property
    def watchdog_s(self) -> float | None:
        """Return how often `alive` must be called at least, in seconds; None if nobody asked for it."""
        usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        if not usec.isdigit() or (pid and pid != str(os.getpid())):
            return None
        return int(usec) / 1e6

    def ready(self) -> None:
        self._notifier.notify("READY=1")

    def alive(self) -> None:
        self._notifier.notify("WATCHDOG=1")

    def stopping(self) -> None:
        self._notifier.notify("STOPPING=1")

    def status(self, line: str) -> None:
        """Show one line in `systemctl status`; nothing is sent while it stays the same."""
        if line != self._status:
            self._status = line
            self._notifier.notify(f"STATUS={line}")
