"""Take heartbeats and figures from outside: datagrams on a Unix socket and, where configured, over UDP.

A datagram is a bare trigger name, or JSON: `{"beat": NAME}`, `{"bye": NAME}`, `{"pnl": NAME, "equity": "101234.5",
"at": SECONDS SINCE 1970}`. Anything else is counted and ignored.
With a key, a UDP datagram is `MILLISECONDS SIGNATURE PAYLOAD`: the signature is lower-case hex of HMAC-SHA256 over
`MILLISECONDS PAYLOAD`, the time must be within 10 s of ours, and no datagram is taken twice.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import orjson

from kill_switch.domain import Now
from kill_switch.offload import Offload
from kill_switch.sockets import bind
from kill_switch.triggers.heartbeat import Heartbeat
from kill_switch.triggers.pnl import Pnl

log = logging.getLogger(__name__)

MAX_BYTES = 4096
SKEW_MS = 10_000
MOST_SEEN = 10_000  # signatures, before those are forgotten whose time is over, or far ahead since the clock was set
LOOK_EVERY_S = 0.25  # whether the Unix socket is still there: who sends meanwhile is not heard
CLOSE_WITHIN_S = 1.0
MOST_HELD = 10_000  # datagrams that come before the triggers stand; at ten a second, a quarter of an hour's
PASS_DATAGRAMS = 500  # in one turn of the event loop: a flood must not keep a kill waiting


def sign(payload: bytes, key: bytes, wall_ms: int) -> bytes:
    """Make the datagram that an intake with a key takes."""
    stamp = str(wall_ms).encode()
    return b"%b %b %b" % (stamp, hmac.digest(key, stamp + b" " + payload, "sha256").hex().encode(), payload)


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()


class Intake:
    """Own the intake's sockets, and hand what is well-formed to the trigger that it names."""

    def __init__(
        self,
        path: Path,
        udp: tuple[str, int] | None,
        key: bytes | None,
        *,
        clock: Callable[[], Now],
        files: Offload | None = None,
    ) -> None:
        """`files` carries out what may wait for the file system of `path`."""
        self.beats = 0
        self.ignored = 0
        self.trouble = ""  # why the Unix socket is not there, if so
        self.heartbeats: Mapping[str, Heartbeat] = {}
        self.pnls: Mapping[str, Pnl] = {}  # those with figures from the accounts too; they ignore what comes here
        self._path = path
        self._udp = udp
        self._key = key
        self._clock = clock
        self._seen: dict[bytes, int] = {}
        self._most_seen = MOST_SEEN
        self._sockets: list[tuple[socket.socket, bytes | None]] = []  # the local one first, and each one's key
        self._changed = anyio.Event()
        self._gid: int | None = None
        self._files = files or Offload(f"the file system of {path.parent}")
        self._held: list[bytes] | None = None  # what has come for triggers that do not stand yet

    def hold(self) -> None:
        """Read from now on, and keep what is well-formed until `release`: the triggers do not stand yet."""
        self._held = []
        for sock, key in self._sockets:
            asyncio.get_running_loop().add_reader(sock.fileno(), self._take, sock, key)

    def release(self) -> None:
        """Hand over what was held, in its order."""
        held, self._held = self._held or (), None
        self.ignored += sum(not self._payload(payload) for payload in held)

    def open(self, gid: int | None = None) -> None:
        """Bind the sockets; raises `OSError` naming what could not be bound. Waits for the file system."""
        self._gid = gid
        self._take_local(bind(self._path, socket.SOCK_DGRAM, gid))
        self._listen()

    def belong(self, gid: int) -> None:
        """Give the Unix socket to a group that was not known when it was made."""
        self._gid = gid
        self._files.post(os.chown, self._path, -1, gid)

    def rebind(self, udp: tuple[str, int] | None, key: bytes | None) -> None:
        """Listen elsewhere over UDP, or with another key; raises `OSError`, with nothing changed, if that cannot be."""
        before, old = (self._udp, self._key), self._sockets[1:]
        del self._sockets[1:]
        self._udp, self._key = udp, key
        if udp == before[0]:
            self._sockets += [(sock, key) for sock, _ in old]
        else:
            try:
                self._listen()
            except OSError:
                self._udp, self._key = before
                self._sockets[1:] = old
                raise
            for sock, _ in old:
                self._ignore(sock)
                sock.close()
        self._changed.set()

    def _take_local(self, local: socket.socket) -> None:
        """Take a Unix socket in the place of the one that there was."""
        for sock, _ in self._sockets[:1]:
            self._ignore(sock)
            sock.close()
        self._sockets[:1] = [(local, None)]
        self._changed.set()

    def _listen(self) -> None:
        """Bind the UDP socket, where one is configured."""
        if self._udp is None:
            return
        family = socket.AF_INET6 if ":" in self._udp[0] else socket.AF_INET
        remote = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            remote.bind(self._udp)
        except OSError:
            remote.close()
            raise
        self._sockets.append((remote, self._key))

    def close(self) -> None:
        """Close the sockets and remove the Unix socket; wait at most `CLOSE_WITHIN_S` for the file system."""
        if not self._sockets:
            return  # it has been closed, and what has its name now is another daemon's
        for sock, _ in self._sockets:
            sock.close()
        self._sockets.clear()
        self._files.post(os.unlink, self._path)  # it may be gone, and its directory with it
        self._files.close(CLOSE_WITHIN_S)

    async def run(self) -> None:
        """Read for ever."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._read)
            group.start_soon(self._look_after_local)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._changed = anyio.Event()
                for sock, key in self._sockets:
                    loop.add_reader(sock.fileno(), self._take, sock, key)  # replaces the one that there is
                await self._changed.wait()
        finally:
            for sock, _ in self._sockets:
                self._ignore(sock)

    async def _look_after_local(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await self._mend()

    async def _mend(self) -> None:
        """Make the Unix socket anew if somebody has cleaned up the directory under us."""
        try:
            anew = await self._files.run(self._bind_if_gone, drop=_close)
        except OSError as error:  # what comes over UDP is heard all the same
            self.trouble = f"{error.filename or self._path}: {error.strerror}"
            return
        self.trouble = ""
        if anew is None:
            return
        self._take_local(anew)
        log.warning("%s was removed; it is there again", self._path)

    def _bind_if_gone(self) -> socket.socket | None:
        return None if self._path.is_socket() else bind(self._path, socket.SOCK_DGRAM, self._gid)

    def _ignore(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(sock.fileno())

    def drain(self) -> None:
        """Read what waits in the sockets, now."""
        for sock, key in self._sockets:
            self._take(sock, key)

    def _take(self, sock: socket.socket, key: bytes | None) -> None:
        for _ in range(PASS_DATAGRAMS):
            try:
                datagram = sock.recv(MAX_BYTES + 1)
            except OSError:  # nothing more, for now
                return
            if not self.datagram(datagram, key):
                self.ignored += 1

    def datagram(self, datagram: bytes, key: bytes | None) -> bool:
        """Take one datagram; False if it was ignored."""
        if len(datagram) > MAX_BYTES:
            return False
        if key is not None:
            payload = self._verified(datagram, key)
            if payload is None:
                return False
            datagram = payload
        return self._payload(datagram)

    def _payload(self, payload: bytes) -> bool:
        if self._held is not None:
            if len(self._held) < MOST_HELD:
                self._held.append(payload)
            return len(self._held) < MOST_HELD
        payload = payload.strip()
        if not payload.startswith(b"{"):
            return self._beat(payload.decode("utf-8", "replace"))
        try:
            message = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return False
        match message:
            case {"beat": str(name)} if len(message) == 1:
                return self._beat(name)
            case {"bye": str(name)} if len(message) == 1:
                trigger = self.heartbeats.get(name)
                return trigger is not None and trigger.bye()
            case {"pnl": str(name), "equity": equity, "at": at} if len(message) == 3:
                watch = self.pnls.get(name)
                return watch is not None and watch.reported(equity, at)
            case _:
                return False

    def _beat(self, name: str) -> bool:
        trigger = self.heartbeats.get(name)
        if trigger is None:
            return False
        self.beats += 1
        trigger.beat()
        return True

    def _verified(self, datagram: bytes, key: bytes) -> bytes | None:
        stamp, _, rest = datagram.partition(b" ")
        signature, _, payload = rest.partition(b" ")
        if not stamp.isdigit() or len(stamp) > 15:
            return None
        wanted = hmac.digest(key, stamp + b" " + payload, "sha256").hex().encode()
        if not hmac.compare_digest(wanted, signature):
            return None
        now_ms = self._clock().wall_ms
        if abs(now_ms - int(stamp)) > SKEW_MS or signature in self._seen:
            return None
        self._seen[signature] = int(stamp)
        if len(self._seen) > self._most_seen:
            self._seen = {s: ms for s, ms in self._seen.items() if abs(now_ms - ms) <= SKEW_MS}
            self._most_seen = max(
                MOST_SEEN, 2 * len(self._seen)
            )  # a flood within the skew is not gone through each time
        return payload
