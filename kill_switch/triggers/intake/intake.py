"""The intake: heartbeats and figures from outside, in datagrams on a Unix socket and, if configured, over UDP.

`sockets` owns the sockets, `datagrams` parses, `stamp_judge` judges signed datagrams. A message that is ignored is
counted by its reason. Heartbeat triggers are informed of datagrams that may be lost, so that silence fires nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from kill_switch.core.domain import Instant
from kill_switch.system.offload import OffloadThread
from kill_switch.triggers.heartbeat import HeartbeatTrigger
from kill_switch.triggers.intake.datagrams import (
    MAX_BYTES,
    MAX_NAME,
    Beat,
    EquityReported,
    Message,
    parse_messages,
    verify,
)
from kill_switch.triggers.intake.socket import DatagramSocket, Sender
from kill_switch.triggers.intake.sockets import IntakeSockets
from kill_switch.triggers.intake.stamp_judge import StampJudge, StampVerdict
from kill_switch.triggers.pnl.trigger import PnlTrigger

MAX_HELD = 10_000  # datagrams that come before the triggers are built: a quarter of an hour's at ten a second
LOSS_SHOWN_NS = 60_000_000_000  # nanoseconds; for so long `troubles` shows a loss
DRAIN_AGAIN_NS = 10_000_000  # nanoseconds; heartbeats that end together drain a flooded socket once

UNKNOWN = Sender(None, ())
MAX_IGNORED = 20  # kinds of ignored messages that are kept for `status`: the last

Verdicts = dict[tuple[str, str], StampVerdict]  # of one datagram, by trigger and sender


class IntakeCounters(NamedTuple):
    """The intake's counters; the names are those of the status."""

    beats: int  # heartbeats that were taken
    ignored: int  # datagrams, or lines of one
    wrong_time: int  # signed datagrams whose stamp did not rise
    lost: int  # datagrams that the kernel has dropped, and times that the Unix socket's queue was full


class IgnoredMessage(NamedTuple):
    """The messages of one name and one sender that were ignored for one reason."""

    name: str  # of the trigger, as the sender wrote it; "" if the message names none
    sender: str  # "NAME", "process 7 of user 1000", "127.0.0.1:4711"; "" if nothing is known
    why: str
    number: int  # of them
    at: Instant  # of the last


class Intake:
    """Pass each well-formed message to the trigger that it names."""

    def __init__(
        self,
        path: Path,
        udp: tuple[str, int] | None,
        key: bytes | None,
        *,
        clock: Callable[[], Instant],
        files: OffloadThread | None = None,
    ) -> None:
        """Bind nothing yet; call `open`, and `configure` before the first message is to be passed.

        `path` is the Unix socket's, `udp` host and port, `key` signs datagrams over UDP. `files` runs what may wait for
        the file system of `path`.
        """
        self.beats = 0
        self.ignored = 0
        self.why_ignored: dict[str, int] = {}  # reason → datagrams, or lines of one
        self._kinds: dict[tuple[str, str, str], IgnoredMessage] = {}  # name, sender, reason → the ignored messages
        self.wrong_time = 0  # signed, and perhaps old: not among those ignored
        self.lost = 0
        self.since = clock()  # nothing was received before
        self.heartbeats: Mapping[str, HeartbeatTrigger] = MappingProxyType({})
        self.pnls: Mapping[str, PnlTrigger] = MappingProxyType({})
        self.stamp_judge = StampJudge(self.since, "")
        self.sockets = IntakeSockets(
            path,
            udp,
            key,
            files=files or OffloadThread(f"the file system of {path.parent}"),
            on_readable=self._take,
            on_missing=partial(self._doubt, absent=True),
            on_restored=self._doubt,
        )
        self._clock = clock
        # payload, stamp, way and sender, before `release`
        self._held: list[tuple[bytes, int | None, str, Sender]] | None = None
        self._lost_ns: dict[str, int] = {}  # way → when a datagram was last lost there
        self._drain_again: dict[str, int] = {}  # way that could not be read to its end → when to try again

    def configure(
        self,
        heartbeats: Mapping[str, HeartbeatTrigger],
        pnls: Mapping[str, PnlTrigger],
        stamp_judge: StampJudge | None = None,
    ) -> None:
        """Pass messages to these triggers, by name, from now on; None keeps the judge of stamps.

        A pnl trigger with figures from the accounts is among `pnls` too, and ignores figures from here.
        """
        self.heartbeats = heartbeats
        self.pnls = pnls
        self.stamp_judge = stamp_judge or self.stamp_judge

    # ── the sockets ───────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, gid: int | None = None) -> None:
        """Bind the sockets; `run` retries a socket that cannot be bound now. Waits for the file system."""
        self.sockets.open(gid)

    def set_group(self, gid: int) -> None:
        """Change the group of the Unix socket, which was not known when the socket was bound."""
        self.sockets.set_group(gid)

    def rebind(self, udp: tuple[str, int] | None, key: bytes | None) -> None:
        """Listen at another UDP address, or with another key; raises `OSError`, with nothing changed."""
        self.sockets.rebind(udp, key)

    def close(self) -> None:
        """Close the sockets and remove the Unix socket."""
        self.sockets.close()

    async def run(self) -> None:
        """Read forever."""
        await self.sockets.run()

    @property
    def trouble(self) -> str:
        """Why the Unix socket is missing ("": it is there)."""
        return self.sockets.trouble

    @property
    def udp_trouble(self) -> str:
        """Why the UDP socket is missing ("": it is there, or none is configured)."""
        return self.sockets.udp_trouble

    def start_holding(self) -> None:
        """Read from now on, and keep what is well-formed until `release`, because the triggers are not built yet."""
        self._held = []
        self.sockets.read_all()

    def release(self) -> None:
        """Pass on what was held, in its order."""
        held, self._held = self._held or (), None
        for payload, stamp_ms, way, sender in held:
            self._on_payload(payload, stamp_ms, way, sender)

    def counts(self) -> IntakeCounters:
        """Return the counters."""
        return IntakeCounters(self.beats, self.ignored, self.wrong_time, self.lost)

    def ignored_messages(self) -> tuple[IgnoredMessage, ...]:
        """Return what was ignored, by name, sender and reason, the last first; at most `MAX_IGNORED`."""
        return tuple(reversed(self._kinds.values()))

    def troubles(self) -> Iterator[str]:
        """Yield a line for each socket that is missing, and for each that lost datagrams within the last minute."""
        yield from filter(None, (self.trouble, self.udp_trouble))
        now_ns = self._clock().mono_ns
        for way, lost_ns in self._lost_ns.items():
            if now_ns - lost_ns < LOSS_SHOWN_NS:
                yield f"beats may be lost: more datagrams come by {way} than can be read"

    def drain(self) -> None:
        """Read what waits in the sockets now; a heartbeat calls this before it fires.

        If more waits than one turn of the event loop may read, all heartbeats of that way are in doubt.
        """
        now_ns = self._clock().mono_ns
        for way, inlet in self.sockets.inlets.items():
            if now_ns >= self._drain_again.get(way, now_ns):
                if self._take(way, inlet):
                    continue
                self._drain_again[way] = now_ns + DRAIN_AGAIN_NS
            self._doubt(f"more datagrams come by {way} than can be read", way)

    def _take(self, way: str, inlet: DatagramSocket) -> bool:
        """Read for one turn of the event loop; return whether nothing waits any more."""

        def take(datagram: bytes, sender: Sender) -> bool:
            return self.on_datagram(datagram, inlet.key, way, sender)

        is_empty, lost = inlet.read(take, MAX_BYTES + 1, lambda: self._clock().mono_ns)
        self._note_lost(way, lost)
        return is_empty

    def _note_lost(self, way: str, count: int) -> None:
        if count:
            self.lost += count
            self._lost_ns[way] = self._clock().mono_ns
            self._doubt(f"more datagrams come by {way} than can be read", way)

    def _doubt(self, why: str, way: str, *, absent: bool = False) -> None:
        """Inform all heartbeats that a beat may be lost on this way; `absent`: its socket is missing."""
        for heartbeat in self.heartbeats.values():
            heartbeat.on_possible_beat(why, way, absent=absent)

    # ── datagrams ─────────────────────────────────────────────────────────────────────────────────────────────────

    def on_datagram(self, datagram: bytes, key: bytes | None, way: str = "", sender: Sender = UNKNOWN) -> bool:
        """Pass on the messages of a datagram; return False if any of them was ignored."""
        if len(datagram) > MAX_BYTES:
            return self._ignore("too long", sender)
        if key is None:
            return self._on_payload(datagram, None, way, sender)
        signed = verify(datagram, key)
        if signed is None:
            return self._ignore("not signed with the key", sender)
        return self._on_payload(signed[1], signed[0], way, sender)

    def _on_payload(self, payload: bytes, stamp_ms: int | None, way: str, sender: Sender) -> bool:
        """Pass on, or hold, the messages of a payload; `stamp_ms` is None if it is not signed."""
        if self._held is not None:
            if len(self._held) >= MAX_HELD:
                return self._ignore("too many before the start was over", sender)
            self._held.append((payload, stamp_ms, way, sender))
            return True
        verdicts: Verdicts = {}
        return all([self._on_message(each, stamp_ms, way, verdicts, sender) for each in parse_messages(payload)])

    def _on_message(
        self, message: Message | None, stamp_ms: int | None, way: str, verdicts: Verdicts, sender: Sender
    ) -> bool:
        if message is None:
            return self._ignore("not understood", sender)
        heartbeat = self.heartbeats.get(message.trigger) if isinstance(message, Beat) else None
        pnl = self.pnls.get(message.trigger) if isinstance(message, EquityReported) else None
        if heartbeat is None and pnl is None:
            return self._ignore("no such trigger", sender, message)
        if stamp_ms is not None and not self._is_new(message, stamp_ms, way, verdicts, sender):
            return False
        match message:
            case EquityReported(_, _, equity, at):
                return (pnl is not None and pnl.on_external_equity(equity, at)) or self._ignore(
                    "no figure", sender, message
                )
            case Beat(_, _, bye=True):
                return (heartbeat is not None and heartbeat.on_bye()) or self._ignore(
                    "goodbye not allowed", sender, message
                )
            case _:
                self.beats += 1
                if heartbeat is not None:
                    heartbeat.on_beat(way)
                return True

    def _is_new(self, message: Message, stamp_ms: int, way: str, verdicts: Verdicts, sender: Sender) -> bool:
        """Return whether a message's stamp makes it new.

        A message that may be old is no beat. Its heartbeat is in doubt, because the sender may be alive.
        """
        key = message.trigger, message.sender
        if key not in verdicts:
            verdicts[key] = self.stamp_judge.judge(*key, stamp_ms, self._clock())
        match verdicts[key]:
            case StampVerdict.TAKEN:
                return True
            case StampVerdict.DOUBLED:
                return self._ignore("sent twice", sender, message)
            case StampVerdict.WRONG_TIME:
                self.wrong_time += 1
                self._keep("wrong time: is the sender's clock set back?", sender, message)
                if (heartbeat := self.heartbeats.get(message.trigger)) is not None:
                    by = f" from {message.sender}" if message.sender else ""
                    heartbeat.on_possible_beat(f"its signed beats{by} have a wrong time: set the sender's clock", way)
                return False

    def _ignore(self, why: str, sender: Sender, message: Message | None = None) -> bool:
        """Count an ignored datagram or line by its reason, its name and its sender; return False."""
        self.ignored += 1
        self.why_ignored[why] = self.why_ignored.get(why, 0) + 1
        self._keep(why, sender, message)
        return False

    def _keep(self, why: str, sender: Sender, message: Message | None) -> None:
        """Keep what was ignored, and why, for `status`."""
        name, sender_name = ("", "") if message is None else (message.trigger[:MAX_NAME], message.sender)
        key = name, sender_name or sender.describe(), why
        before = self._kinds.pop(key, None)
        count = 1 if before is None else before.number + 1
        self._kinds[key] = IgnoredMessage(*key, count, self._clock())
        if len(self._kinds) > MAX_IGNORED:
            del self._kinds[next(iter(self._kinds))]
