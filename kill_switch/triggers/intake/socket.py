"""A datagram socket of the intake, which reports when datagrams may have been lost.

For UDP the kernel counts the datagrams that it drops. On a Unix socket it refuses the sender instead, so a full queue
of unwanted datagrams counts as a loss there. So does a queue that is filled as fast as it is read.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOM_BYTES = (
    4 << 20
)  # of the kernel's queue, about 10,000 datagrams; net.core.rmem_max is the limit without CAP_NET_ADMIN
PASS_DATAGRAMS = 500  # in one turn of the event loop, because a flood must not delay a kill
PASS_NS = 1_000_000  # nanoseconds; of one turn
REFILLS = 4  # queue lengths that were read without finding it empty: it is filled as fast as it is read
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid; unix(7)
CREDENTIALS_SPACE = socket.CMSG_SPACE(CREDENTIALS.size)
_RCVBUFFORCE = 33  # SO_RCVBUFFORCE, asm-generic/socket.h
_MEMINFO, _MEMINFO_FORMAT, _DROPS = 55, "9I", 8  # SO_MEMINFO, Linux 4.12; linux/sock_diag.h
_QLEN = Path("/proc/sys/net/unix/max_dgram_qlen")
_QLEN_USUAL = 10


class Sender(NamedTuple):
    """Where a datagram came from, as the kernel says: an address, or the credentials of a process."""

    address: tuple[Any, ...] | str | None
    ancillary: Sequence[tuple[int, int, bytes]]

    def describe(self) -> str:
        """Return address and port, or process and user; "" if the kernel names neither."""
        for level, kind, data in self.ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) >= CREDENTIALS.size:
                pid, uid, _ = CREDENTIALS.unpack(data[: CREDENTIALS.size])
                return f"process {pid} of user {uid}"
        return f"{self.address[0]}:{self.address[1]}" if isinstance(self.address, tuple) and self.address else ""


class DatagramSocket:
    """A non-blocking datagram socket; `key` signs its datagrams."""

    def __init__(self, sock: socket.socket, key: bytes | None = None) -> None:
        """Own a bound socket."""
        self.sock = sock
        self.key = key
        self.is_local = sock.family == socket.AF_UNIX
        self._count = self._unwanted = 0  # datagrams since the queue was last empty, and the unwanted ones of them
        self._dropped = 0  # the kernel's count at the last look
        self._queue = _queue_length() if self.is_local else 0
        if self.is_local:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        else:
            _make_room(sock)

    def read(
        self, take: Callable[[bytes, Sender], bool], max_bytes: int, mono_ns: Callable[[], int]
    ) -> tuple[bool, int]:
        """Pass waiting datagrams to `take` for one turn of the event loop; `take` returns whether a datagram was
        wanted.

        Return whether the queue is empty now, and how many datagrams may have been lost since the last call.
        """
        until_ns = mono_ns() + PASS_NS
        for count in range(PASS_DATAGRAMS):
            if count % 8 == 7 and mono_ns() > until_ns:
                break
            try:
                datagram, ancillary, _, address = self.sock.recvmsg(max_bytes, CREDENTIALS_SPACE)
            except OSError:  # nothing waits
                lost = self._lost()
                self._count = self._unwanted = 0
                return True, lost
            self._count += 1
            self._unwanted += not take(datagram, Sender(address, ancillary))
        return False, self._lost()

    def _lost(self) -> int:
        if not self.is_local:
            return self._dropped_since()
        was_full, refilled = self._count > self._queue, self._count >= REFILLS * self._queue
        return int(refilled or (was_full and 2 * self._unwanted > self._count))

    def _dropped_since(self) -> int:
        """Return how many datagrams the kernel has dropped since the last call; it drops none unless others wait."""
        try:
            info = self.sock.getsockopt(socket.SOL_SOCKET, _MEMINFO, struct.calcsize(_MEMINFO_FORMAT))
        except OSError:
            return 0
        values = struct.unpack(f"{len(info) // 4}I", info)
        total = values[_DROPS] if len(values) > _DROPS else 0
        since, self._dropped = (total - self._dropped) % (1 << 32), total
        return since

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def listen(address: tuple[str, int], key: bytes | None) -> DatagramSocket:
    """Bind a UDP socket to an address; raises `OSError`."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return DatagramSocket(sock, key)


def _make_room(sock: socket.socket) -> None:
    for option in (socket.SO_RCVBUF, _RCVBUFFORCE):
        with contextlib.suppress(OSError):  # the second option needs CAP_NET_ADMIN
            sock.setsockopt(socket.SOL_SOCKET, option, ROOM_BYTES)


def _queue_length() -> int:
    """Return how many datagrams wait on a Unix socket before the kernel refuses more."""
    try:
        return int(_QLEN.read_text())
    except (OSError, ValueError):
        return _QLEN_USUAL
