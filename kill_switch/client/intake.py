"""Send heartbeats and figures to the daemon's intake, from the loop that trades.

No call waits, and none raises for the daemon's sake: a datagram that the kernel does not accept is dropped and counted.
A daemon that restarts needs no reconnection, because each datagram finds the socket by its path.
"""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import time

from kill_switch.client.places import INTAKE_SOCKET, socket_path

MAX_BYTES = 4096  # of a datagram, as the intake accepts it
MAX_NAME = 64  # characters of a trigger's name
MAX_SENDER = 128  # characters of a sender's name
_NO_SOCKET = (errno.EBADF, errno.ENOTSOCK)  # another part of the program has closed the descriptor
_WHY = {
    errno.ENOENT: "the daemon has not started, or its directory is gone",
    errno.ECONNREFUSED: "the daemon is dead, or restarting",
    errno.EAGAIN: "the daemon reads no datagrams: its queue is full",
    errno.EACCES: "this user may not send there: it must be in the socket's group",
    errno.EPROTOTYPE: "the file there is the socket of another program",
}

Directory = str | os.PathLike[str] | None


class DatagramSender:
    """Send datagrams to one intake; threads and forked processes may share it.

    Each process has a socket of its own, which its first datagram opens.
    """

    def __init__(self, path: str) -> None:
        """Open nothing yet; `path` is the intake's socket."""
        self.path = path
        self.errno = 0  # of the last datagram; 0 if the kernel has put it into the daemon's queue
        self._socks: dict[int, socket.socket] = {}  # process id → its socket

    def send(self, datagram: bytes) -> bool:
        """Send a datagram; return whether the kernel has put it into the daemon's queue. Never waits, never raises."""
        for _ in range(2):
            try:
                self._sock().sendto(datagram, self.path)
            except OSError as error:
                self.errno = error.errno or errno.EIO
                if self.errno in _NO_SOCKET:
                    self._forget(os.getpid())
                    continue
                return False
            self.errno = 0
            return True
        return False

    def _sock(self) -> socket.socket:
        """Return this process's socket; raise `OSError` if none can be opened."""
        pid = os.getpid()
        sock = self._socks.get(pid)
        if sock is None:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            opened.setblocking(False)
            sock = self._socks.setdefault(pid, opened)
            if sock is not opened:  # another thread was first
                opened.close()
        return sock

    def _forget(self, pid: int) -> None:
        """Drop a socket without closing its descriptor, whose number may belong to another file by now."""
        sock = self._socks.pop(pid, None)
        if sock is not None:
            sock.detach()

    def __del__(self) -> None:
        for pid, sock in tuple(self._socks.items()):
            if pid == os.getpid():
                sock.close()
            else:
                self._forget(pid)

    def __reduce__(self) -> tuple[type[DatagramSender], tuple[str]]:
        return DatagramSender, (self.path,)


class Heartbeat:
    """The heartbeat of a strategy, for the trigger of that name.

    Call `beat` in the loop that trades, at least three times within the trigger's `timeout`. A thread beside that loop
    would go on beating for a loop that hangs.
    """

    def __init__(self, name: str, *, runtime_dir: Directory = None, sender: str = "") -> None:
        """Prepare the datagrams; no daemon needs to run yet.

        `runtime_dir` is the daemon's; None is `$KILL_SWITCH_RUNTIME_DIR`, else `/run/kill-switch`. `sender` is shown in
        `kill-switch status`; without it the kernel names the process and its user. Raises `ValueError` or `TypeError`
        for arguments that no daemon accepts.
        """
        self.name = _name(name)
        self.lost = 0  # beats and goodbyes that the kernel did not accept
        self._beat, self._bye = (_datagram(kind, self.name, sender) for kind in ("beat", "bye"))
        self._to = DatagramSender(socket_path(runtime_dir, INTAKE_SOCKET))

    def beat(self) -> bool:
        """Send a beat; return whether the kernel has put it into the daemon's queue.

        Never waits and never raises, whatever happens to the daemon. False: the beat is dropped and counted in `lost`,
        and `trouble` is the reason. The next call tries again.
        """
        return self._send(self._beat)

    def bye(self) -> bool:
        """Send an orderly goodbye, which ends the watch if the trigger has `allow_bye = true`; else as `beat`."""
        return self._send(self._bye)

    @property
    def path(self) -> str:
        """The daemon's socket."""
        return self._to.path

    @property
    def is_forbidden(self) -> bool:
        """Whether the socket's mode did not allow this user to send the last datagram."""
        return self._to.errno in (errno.EACCES, errno.EPERM)

    @property
    def is_queue_full(self) -> bool:
        """Whether the daemon has read so little that its queue had no room for the last datagram."""
        return self._to.errno == errno.EAGAIN

    @property
    def trouble(self) -> str:
        """Why the kernel did not accept the last datagram, in a line for people; "" if it did."""
        number = self._to.errno
        return f"{self._to.path}: {_WHY.get(number, os.strerror(number))}" if number else ""

    def _send(self, datagram: bytes) -> bool:
        if self._to.send(datagram):
            return True
        self.lost += 1
        return False


_senders: dict[str, DatagramSender] = {}  # path → sender, for the figures


def equity(
    trigger: str, amount: object, at: float | None = None, *, runtime_dir: Directory = None, sender: str = ""
) -> bool:
    """Send an equity to the pnl trigger of that name, which has `source = "intake"`; return as `Heartbeat.beat`.

    `amount` is a finite number in the trigger's currency: `Decimal`, `int`, `float`, or text. `at` is its time in
    seconds since 1970; None is now. Never waits and never raises. An `amount` that is no figure (a NaN, a None) and an
    empty name are not sent, and return False. The trigger is then blind after `stale_after`: its `on_blind` decides.
    """
    try:
        text = str(amount).strip()
        at_s = time.time() if at is None else float(at)
        if isinstance(amount, bool) or "_" in text or not text.isascii():
            return False
        if not math.isfinite(float(text)) or not math.isfinite(at_s):
            return False
        datagram = _datagram("pnl", _name(trigger), sender, equity=text, at=at_s)
        path = socket_path(runtime_dir, INTAKE_SOCKET)
    except Exception:  # because a figure of any type must not end a loop that trades
        return False
    return (_senders.get(path) or _senders.setdefault(path, DatagramSender(path))).send(datagram)


def _name(name: object) -> str:
    """Return a trigger's name; raise `TypeError` or `ValueError` if no trigger can have it."""
    if not isinstance(name, str):
        raise TypeError(f"a trigger's name is a str, and no {type(name).__name__}")
    if not name or len(name) > MAX_NAME or not name.isprintable() or " " in name:
        raise ValueError(f"{name[:80]!r} is no trigger's name: 1 to {MAX_NAME} characters, without blanks")
    return name


def _datagram(kind: str, name: str, sender: str, **figures: object) -> bytes:
    """Return a message of the intake; raise `ValueError` if the intake would not understand it."""
    if len(sender) > MAX_SENDER or not sender.isprintable():
        raise ValueError(f"a sender's name has at most {MAX_SENDER} characters, all printable")
    fields = {kind: name, **figures, **({"from": sender} if sender else {})}
    datagram = json.dumps(fields).encode()
    if len(datagram) > MAX_BYTES:
        raise ValueError(f"the datagram has {len(datagram)} bytes, at most {MAX_BYTES}")
    return datagram
