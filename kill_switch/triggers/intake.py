"""Take heartbeats from outside: datagrams on a Unix socket and, where configured, over UDP.

A datagram is a bare trigger name, or JSON: `{"beat": NAME}`, `{"bye": NAME}`. Anything else is counted and ignored.
With a key, a UDP datagram is `MILLISECONDS SIGNATURE PAYLOAD`: the signature is lower-case hex of HMAC-SHA256 over
`MILLISECONDS PAYLOAD`, the time must be within 10 s of ours, and no datagram is taken twice.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import orjson

from kill_switch.domain import Now
from kill_switch.triggers.heartbeat import Heartbeat

MAX_BYTES = 4096
SKEW_MS = 10_000
PASS_DATAGRAMS = 500  # in one turn of the event loop: a flood must not keep a kill waiting


def sign(payload: bytes, key: bytes, wall_ms: int) -> bytes:
    """Make the datagram that an intake with a key takes."""
    stamp = str(wall_ms).encode()
    return b"%b %b %b" % (stamp, hmac.digest(key, stamp + b" " + payload, "sha256").hex().encode(), payload)


class Intake:
    """Own the intake's sockets, and hand what is well-formed to the trigger that it names."""

    def __init__(
        self,
        path: Path,
        udp: tuple[str, int] | None,
        key: bytes | None,
        *,
        clock: Callable[[], Now],
    ) -> None:
        self.beats = 0
        self.ignored = 0
        self.heartbeats: Mapping[str, Heartbeat] = {}
        self._path = path
        self._udp = udp
        self._key = key
        self._clock = clock
        self._seen: dict[bytes, int] = {}
        self._sockets: list[tuple[socket.socket, bytes | None]] = []

    def open(self, gid: int | None = None) -> None:
        """Bind the sockets; raises `OSError` naming what could not be bound."""
        self._path.unlink(missing_ok=True)
        local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sockets.append((local, None))
        old = os.umask(0o117)
        try:
            local.bind(str(self._path))
        finally:
            os.umask(old)
        if gid is not None:
            os.chown(self._path, -1, gid)
        if self._udp is not None:
            family = socket.AF_INET6 if ":" in self._udp[0] else socket.AF_INET
            remote = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sockets.append((remote, self._key))
            remote.bind(self._udp)

    def close(self) -> None:
        for sock, _ in self._sockets:
            sock.close()
        self._sockets.clear()
        self._path.unlink(missing_ok=True)

    async def run(self) -> None:
        """Read for ever."""
        loop = asyncio.get_running_loop()
        try:
            for sock, key in self._sockets:
                loop.add_reader(sock.fileno(), self._take, sock, key)
            await anyio.sleep_forever()
        finally:
            for sock, _ in self._sockets:
                if sock.fileno() >= 0:
                    loop.remove_reader(sock.fileno())

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
        if len(self._seen) > 10_000:
            self._seen = {s: ms for s, ms in self._seen.items() if now_ms - ms <= SKEW_MS}
        return payload
