"""Take heartbeats and figures from outside: datagrams on a Unix socket and, where configured, over UDP.

`datagrams` reads them, `stamps` judges the signed ones, `inlet` owns the sockets. What cannot be used is counted by its
reason. What may have been lost is told to the heartbeats: silence is a reason only while the intake could listen.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio

from kill_switch.core.domain import Instant
from kill_switch.system.offload import OffloadThread
from kill_switch.system.unix_sockets import bind_unix_socket
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.intake.datagrams import MAX_BYTES, Beat, EquityReported, Message, parse_messages, sign, verify
from kill_switch.triggers.intake.socket import DatagramSocket, listen
from kill_switch.triggers.intake.stamp_judge import StampJudge, StampVerdict
from kill_switch.triggers.pnl.trigger import PnlTrigger

__all__ = ["LOCAL", "MAX_BYTES", "UDP", "Intake", "sign"]

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25  # whether the sockets are there
CLOSE_WITHIN_S = 1.0
MAX_HELD = 10_000  # datagrams that come before the triggers stand; at ten a second, a quarter of an hour's
LOSS_SHOWN_NS = 60_000_000_000  # a loss is shown for so long
DRAIN_AGAIN_NS = 10_000_000  # many heartbeats may want a flooded socket read at the same moment
LOCAL, UDP = "the Unix socket", "UDP"  # the ways in

Verdicts = dict[tuple[str, str], StampVerdict]  # of one datagram, by trigger and sender


class IntakeCounters(NamedTuple):
    """What has come to the intake, in numbers; the names are those of the status."""

    beats: int  # heartbeats that were taken
    ignored: int  # datagrams, or lines of one
    wrong_time: int  # signed datagrams whose stamp did not rise
    lost: int  # datagrams that the kernel has dropped, and times that the Unix socket's queue was full


class Intake:
    """Own the intake's sockets, and hand what is well-formed to the trigger that it names."""

    def __init__(
        self,
        path: Path,
        udp: tuple[str, int] | None,
        key: bytes | None,
        *,
        clock: Callable[[], Instant],
        files: OffloadThread | None = None,
    ) -> None:
        """`files` carries out what may wait for the file system of `path`."""
        self.beats = 0
        self.ignored = 0
        self.why_ignored: dict[str, int] = {}  # reason → datagrams, or lines of one
        self.wrong_time = 0  # signed, and perhaps old: not among those ignored
        self.lost = 0  # datagrams that the kernel has dropped, and times that the Unix socket's queue was full
        self.trouble = ""  # why the Unix socket is not there, if so
        self.udp_trouble = ""  # why the UDP socket is not there, if so
        self.heartbeats: Mapping[str, HeartbeatTrigger] = {}
        self.pnls: Mapping[
            str, PnlTrigger
        ] = {}  # those with figures from the accounts too; they ignore what comes here
        self.since = clock()  # nothing was heard before
        self.stamps = StampJudge(self.since, "")
        self._path = path
        self._udp = udp
        self._key = key
        self._clock = clock
        self._inlets: dict[str, DatagramSocket] = {}
        self._reading = False
        self._gid: int | None = None
        self._files = files or OffloadThread(f"the file system of {path.parent}")
        self._held: list[tuple[bytes, int | None, str]] | None = None  # what came before the triggers stood
        self._lost_ns: dict[str, int] = {}  # way in → when something was lost there last
        self._drain_again: dict[str, int] = {}  # way in that could not be read to its end → when to try again

    # ── the sockets ───────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, gid: int | None = None) -> None:
        """Bind the sockets; what cannot be bound is trouble, and tried again. Waits for the file system."""
        self._gid = gid
        try:
            self._install(LOCAL, self._bind_local())
        except OSError as error:
            self.trouble = _words(error, self._path)
        self._try_udp()

    def start_holding(self) -> None:
        """Read from now on, and keep what is well-formed until `release`: the triggers do not stand yet."""
        self._held = []
        self._read_all()

    def release(self) -> None:
        """Hand over what was held, in its order."""
        held, self._held = self._held or (), None
        for payload, ms, way in held:
            self._payload(payload, ms, way)

    def set_group(self, gid: int) -> None:
        """Give the Unix socket to a group that was not known when it was made."""
        self._gid = gid
        self._files.post(os.chown, self._path, -1, gid)

    def rebind(self, udp: tuple[str, int] | None, key: bytes | None) -> None:
        """Listen elsewhere over UDP, or with another key; raises `OSError`, with nothing changed, if that cannot be."""
        if udp != self._udp:
            new = None if udp is None else listen(udp, key)
            if (old := self._inlets.pop(UDP, None)) is not None:
                self._remove(old)
            if new is not None:
                self._install(UDP, new)
            self.udp_trouble = ""
        elif UDP in self._inlets:
            self._inlets[UDP].key = key
        self._udp, self._key = udp, key

    def close(self) -> None:
        """Close the sockets and remove the Unix socket; wait at most `CLOSE_WITHIN_S` for the file system."""
        if not self._inlets:
            return  # it has been closed, and what has its name now is another daemon's
        local = LOCAL in self._inlets
        for inlet in self._inlets.values():
            inlet.close()
        self._inlets.clear()
        if local:
            self._files.post(os.unlink, self._path)  # it may be gone, and its directory with it
        self._files.close(CLOSE_WITHIN_S)

    async def run(self) -> None:
        """Read for ever."""
        self._read_all()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._look_after_missing)
                group.start_soon(self._look_after_local)
        finally:
            self._reading = False
            for inlet in self._inlets.values():
                self._ignore(inlet)

    def counts(self) -> IntakeCounters:
        """Return what has come, in numbers."""
        return IntakeCounters(self.beats, self.ignored, self.wrong_time, self.lost)

    def troubles(self) -> Iterator[str]:
        """Yield a line for each socket that is not there, and for each on which datagrams were lost of late."""
        yield from filter(None, (self.trouble, self.udp_trouble))
        now_ns = self._clock().mono_ns
        for way, lost_ns in self._lost_ns.items():
            if now_ns - lost_ns < LOSS_SHOWN_NS:
                yield f"beats may be lost: more datagrams come by {way} than can be read"

    def _install(self, way: str, inlet: DatagramSocket) -> None:
        """Take a socket in the place of the one that there was."""
        if (old := self._inlets.get(way)) is not None:
            self._remove(old)
        self._inlets[way] = inlet
        if self._reading:
            self._read(way, inlet)

    def _remove(self, inlet: DatagramSocket) -> None:
        self._ignore(inlet)
        inlet.close()

    def _ignore(self, inlet: DatagramSocket) -> None:
        if inlet.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(inlet.sock.fileno())

    def _read(self, way: str, inlet: DatagramSocket) -> None:
        asyncio.get_running_loop().add_reader(inlet.sock.fileno(), self._take, way, inlet)

    def _read_all(self) -> None:
        self._reading = True
        for way, inlet in self._inlets.items():
            self._read(way, inlet)

    def _bind_local(self) -> DatagramSocket:
        return DatagramSocket(bind_unix_socket(self._path, socket.SOCK_DGRAM, self._gid))

    def _try_udp(self) -> None:
        """Bind the UDP socket, where one is configured and missing."""
        if self._udp is None or UDP in self._inlets:
            return
        try:
            self._install(UDP, listen(self._udp, self._key))
        except OSError as error:
            self.udp_trouble = f"udp {self._udp[0]}:{self._udp[1]}: {error.strerror or error}"
            return
        self.udp_trouble = ""

    async def _look_after_missing(self) -> None:
        """Try again to bind what could not be bound; nobody is silent who may have come that way."""
        while True:
            self._try_udp()
            for way, why in ((UDP, self.udp_trouble), (LOCAL, self.trouble)):
                if why:
                    for heartbeat in self.heartbeats.values():
                        heartbeat.on_possible_beat(f"nothing can be heard: {why}", way, absent=True)
            await anyio.sleep(LOOK_EVERY_S)

    async def _look_after_local(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await self._restore_socket()

    async def _restore_socket(self) -> None:
        """Make the Unix socket anew if somebody has cleaned up the directory under us, or it could not be made."""
        try:
            anew = await self._files.run(self._bind_if_gone, drop=_close)
        except OSError as error:  # what comes over UDP is heard all the same
            self.trouble = _words(error, self._path)
            return
        self.trouble = ""
        if anew is None:
            return
        was_there = LOCAL in self._inlets
        self._install(LOCAL, anew)
        self._doubt(f"{self._path} was not there", LOCAL)
        log.warning("%s %s", self._path, "was removed; it is there again" if was_there else "is there now")

    def _bind_if_gone(self) -> DatagramSocket | None:
        return None if LOCAL in self._inlets and self._path.is_socket() else self._bind_local()

    # ── datagrams ─────────────────────────────────────────────────────────────────────────────────────────────────

    def drain(self) -> None:
        """Read what waits in the sockets, now; where that is too much for one turn, nobody's silence is certain."""
        now_ns = self._clock().mono_ns
        for way, inlet in self._inlets.items():
            if now_ns >= self._drain_again.get(way, now_ns):
                if self._take(way, inlet):
                    continue
                self._drain_again[way] = now_ns + DRAIN_AGAIN_NS
            self._doubt(f"more datagrams come by {way} than can be read", way)

    def _take(self, way: str, inlet: DatagramSocket) -> bool:
        """Read for one turn of the event loop; return whether nothing waits any more."""
        take = partial(self.on_datagram, key=inlet.key, way=way)
        is_empty, lost = inlet.read(take, MAX_BYTES + 1, lambda: self._clock().mono_ns)
        self._note_lost(way, lost)
        return is_empty

    def _note_lost(self, way: str, count: int) -> None:
        if count:
            self.lost += count
            self._lost_ns[way] = self._clock().mono_ns
            self._doubt(f"more datagrams come by {way} than can be read", way)

    def _doubt(self, why: str, way: str) -> None:
        for heartbeat in self.heartbeats.values():
            heartbeat.on_possible_beat(why, way)

    def on_datagram(self, datagram: bytes, key: bytes | None, way: str = "") -> bool:
        """Take one datagram; False if it, or a part of it, was not taken."""
        if len(datagram) > MAX_BYTES:
            return self._ignored("too long")
        if key is None:
            return self._payload(datagram, None, way)
        signed = verify(datagram, key)
        if signed is None:
            return self._ignored("not signed with the key")
        return self._payload(signed[1], signed[0], way)

    def _payload(self, payload: bytes, ms: int | None, way: str) -> bool:
        """Take what a datagram says; `ms` is its stamp, if it is signed."""
        if self._held is not None:
            if len(self._held) >= MAX_HELD:
                return self._ignored("too many before the start was over")
            self._held.append((payload, ms, way))
            return True
        verdicts: Verdicts = {}
        return all([self._message(message, ms, way, verdicts) for message in parse_messages(payload)])

    def _message(self, message: Message | None, ms: int | None, way: str, verdicts: Verdicts) -> bool:
        if message is None:
            return self._ignored("not understood")
        heartbeat = self.heartbeats.get(message.trigger) if isinstance(message, Beat) else None
        pnl = self.pnls.get(message.trigger) if isinstance(message, EquityReported) else None
        if heartbeat is None and pnl is None:
            return self._ignored("no such trigger")
        if ms is not None and not self._is_new(message, ms, way, verdicts):
            return False
        match message:
            case EquityReported(_, _, equity, at):
                return (pnl is not None and pnl.on_external_equity(equity, at)) or self._ignored("no figure")
            case Beat(_, _, bye=True):
                return (heartbeat is not None and heartbeat.on_bye()) or self._ignored("goodbye not allowed")
            case _:
                self.beats += 1
                if heartbeat is not None:
                    heartbeat.on_beat(way)
                return True

    def _is_new(self, message: Message, ms: int, way: str, verdicts: Verdicts) -> bool:
        """Tell whether its stamp makes it new; one that may be old is no beat, and no silence either."""
        key = message.trigger, message.sender
        if key not in verdicts:
            verdicts[key] = self.stamps.judge(*key, ms, self._clock())
        match verdicts[key]:
            case StampVerdict.TAKEN:
                return True
            case StampVerdict.DOUBLED:
                return self._ignored("sent twice")
            case StampVerdict.WRONG_TIME:
                self.wrong_time += 1
                if (heartbeat := self.heartbeats.get(message.trigger)) is not None:
                    by = f" from {message.sender}" if message.sender else ""
                    heartbeat.on_possible_beat(f"its signed beats{by} have a wrong time: set the sender's clock", way)
                return False

    def _ignored(self, why: str) -> bool:
        self.ignored += 1
        self.why_ignored[why] = self.why_ignored.get(why, 0) + 1
        return False


def _close(inlet: DatagramSocket | None) -> None:
    if inlet is not None:
        inlet.close()


def _words(error: OSError, path: Path) -> str:
    return f"{error.filename or path}: {error.strerror or error}"
