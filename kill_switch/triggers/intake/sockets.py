"""Own the intake's two sockets: bind them, watch them, and bind them again when they are missing.

`intake` is called when a socket is readable or missing, and reads the datagrams.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import anyio

from kill_switch.system.offload import OffloadThread
from kill_switch.system.unix_sockets import bind_unix_socket
from kill_switch.triggers.intake.socket import DatagramSocket, listen

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25  # seconds between two looks whether the sockets are there
CLOSE_WITHIN_S = 1.0  # seconds that a close waits for the file system
LOCAL, UDP = "the Unix socket", "UDP"  # the two ways by which datagrams come


class IntakeSockets:
    """Hold the bound sockets by way, `LOCAL` or `UDP`."""

    def __init__(
        self,
        path: Path,
        udp: tuple[str, int] | None,
        key: bytes | None,
        *,
        files: OffloadThread,
        on_readable: Callable[[str, DatagramSocket], object],
        on_missing: Callable[[str, str], None],
        on_restored: Callable[[str, str], None],
    ) -> None:
        """Bind nothing yet.

        `key` signs the datagrams over UDP. `files` runs what may wait for the file system of `path`. `on_readable` gets
        the way and the socket. `on_missing` and `on_restored` get a text for people and the way.
        """
        self.inlets: dict[str, DatagramSocket] = {}
        self.trouble = ""  # why the Unix socket is missing
        self.udp_trouble = ""  # why the UDP socket is missing
        self._path = path
        self._udp = udp
        self._key = key
        self._files = files
        self._on_readable = on_readable
        self._on_missing = on_missing
        self._on_restored = on_restored
        self._reading = False
        self._gid: int | None = None

    def open(self, gid: int | None = None) -> None:
        """Bind the sockets; `run` retries a socket that cannot be bound now. Waits for the file system.

        `gid` is the group that may send to the Unix socket.
        """
        self._gid = gid
        try:
            self._install(LOCAL, self._bind_local())
        except OSError as error:
            self.trouble = _describe(error, self._path)
        self._try_udp()

    def set_group(self, gid: int) -> None:
        """Change the group of the Unix socket, which was not known when the socket was bound."""
        self._gid = gid
        self._files.post(os.chown, self._path, -1, gid)

    def rebind(self, udp: tuple[str, int] | None, key: bytes | None) -> None:
        """Listen at another UDP address, or with another key.

        Raises `OSError`, with nothing changed, if the address cannot be bound.
        """
        if udp != self._udp:
            new = None if udp is None else listen(udp, key)
            if (old := self.inlets.pop(UDP, None)) is not None:
                self._remove(old)
            if new is not None:
                self._install(UDP, new)
            self.udp_trouble = ""
        elif UDP in self.inlets:
            self.inlets[UDP].key = key
        self._udp, self._key = udp, key

    def close(self) -> None:
        """Close the sockets and remove the Unix socket; wait at most `CLOSE_WITHIN_S` for the file system."""
        if not self.inlets:
            return  # closed before: a socket of that path belongs to another daemon now
        local = LOCAL in self.inlets
        for inlet in self.inlets.values():
            inlet.close()
        self.inlets.clear()
        if local:
            self._files.post(os.unlink, self._path)  # it may be gone, and its directory with it
        self._files.close(CLOSE_WITHIN_S)

    def read_all(self) -> None:
        """Call `on_readable` from now on; datagrams that wait already count as readable."""
        self._reading = True
        for way, inlet in self.inlets.items():
            self._read(way, inlet)

    async def run(self) -> None:
        """Read forever, and restore sockets that are missing."""
        self.read_all()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch_missing)
                group.start_soon(self._watch_local)
        finally:
            self._reading = False
            for inlet in self.inlets.values():
                self._ignore(inlet)

    def _install(self, way: str, inlet: DatagramSocket) -> None:
        """Replace the socket of a way."""
        if (old := self.inlets.get(way)) is not None:
            self._remove(old)
        self.inlets[way] = inlet
        if self._reading:
            self._read(way, inlet)

    def _remove(self, inlet: DatagramSocket) -> None:
        self._ignore(inlet)
        inlet.close()

    def _ignore(self, inlet: DatagramSocket) -> None:
        if inlet.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(inlet.sock.fileno())

    def _read(self, way: str, inlet: DatagramSocket) -> None:
        asyncio.get_running_loop().add_reader(inlet.sock.fileno(), self._on_readable, way, inlet)

    def _bind_local(self) -> DatagramSocket:
        return DatagramSocket(bind_unix_socket(self._path, socket.SOCK_DGRAM, self._gid))

    def _try_udp(self) -> None:
        """Bind the UDP socket if one is configured and missing."""
        if self._udp is None or UDP in self.inlets:
            return
        try:
            self._install(UDP, listen(self._udp, self._key))
        except OSError as error:
            self.udp_trouble = f"udp {self._udp[0]}:{self._udp[1]}: {error.strerror or error}"
            return
        self.udp_trouble = ""

    async def _watch_missing(self) -> None:
        """Try again to bind the UDP socket; report each socket that is missing, because beats may be lost there."""
        while True:
            self._try_udp()
            for way, why in ((UDP, self.udp_trouble), (LOCAL, self.trouble)):
                if why:
                    self._on_missing(f"no beat can be received: {why}", way)
            await anyio.sleep(LOOK_EVERY_S)

    async def _watch_local(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await self._restore_local()

    async def _restore_local(self) -> None:
        """Bind the Unix socket again if its file was removed, or if it could not be bound before."""
        try:
            restored = await self._files.run(self._bind_if_gone, drop=_close)
        except OSError as error:  # the UDP socket works all the same
            self.trouble = _describe(error, self._path)
            return
        self.trouble = ""
        if restored is None:
            return
        was_there = LOCAL in self.inlets
        self._install(LOCAL, restored)
        self._on_restored(f"{self._path} was not there", LOCAL)
        log.warning("%s %s", self._path, "was removed; the intake has bound it again" if was_there else "is bound now")

    def _bind_if_gone(self) -> DatagramSocket | None:
        return None if LOCAL in self.inlets and self._path.is_socket() else self._bind_local()


def _close(inlet: DatagramSocket | None) -> None:
    if inlet is not None:
        inlet.close()


def _describe(error: OSError, path: Path) -> str:
    return f"{error.filename or path}: {error.strerror or error}"
