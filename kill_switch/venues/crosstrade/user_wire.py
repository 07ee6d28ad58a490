"""Build a CrossTrade user's requests and RPCs, and look after the user's one WebSocket session.

Every part of the adapter sends by it, so that each RPC is counted. § numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

import orjson

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.replies import Words
from kill_switch.venues.crosstrade.tokens import CrossTradeLimits, TokenBucket
from kill_switch.venues.kit.calls import Build, CallStarter
from kill_switch.venues.kit.frames import FrameTracker
from kill_switch.venues.kit.replies import CallPart, Reply
from kill_switch.venues.kit.timers import TimerTable
from kill_switch.venues.messages import Outputs, Send
from kill_switch.venues.request import Request

MAX_REFUSED = 8  # commands that may be refused in a row; the tenth refusal ends the session (§ 3)
ANSWER_S = 5.0  # a command without an answer after this has not arrived
AWAY_S = 30.0  # off the WebSocket after another session displaced ours; doubled each time
MAX_AWAY_S = 3600.0
STEADY_S = 600.0  # a session that lasted this long resets the doubling
ALL_ORDERS = "/v1/api/orders"  # of all the user's NT accounts (§ 5); the path is inferred
SNAPSHOT = "/v1/api/accounts/snapshot"  # of all the user's NT accounts (§ 5)
READS = frozenset({"GetAllOrders"})  # RPCs that change nothing


class FramePart(Protocol):
    """The object that waits for the reply to one RPC."""

    @property
    def reads(self) -> bool:
        """Whether the RPC is a read, whose reply need not state a success."""
        ...

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        """Turn the reply into facts; it may prove nothing."""
        ...

    def on_lost(self, now: Instant) -> Outputs:
        """Go on without the reply, because the connection is gone."""
        ...


class SocketLease:
    """The back-off of the user's one WebSocket session (§ 6).

    A second session closes the first. Two programs that both reconnected at once would displace each other without
    end, so ours stays off the WebSocket for a while after each displacement.
    """

    __slots__ = ("_displacements", "_until_ns")

    def __init__(self) -> None:
        self._displacements = 0
        self._until_ns = 0

    def on_displaced(self, since_ns: int, now: Instant) -> float:
        """Start the back-off and return its length in seconds; the lost session had begun at `since_ns`, monotonic."""
        if now.mono_ns - since_ns >= STEADY_S * 1e9:
            self._displacements = 0
        away_s = min(MAX_AWAY_S, AWAY_S * (1 << self._displacements))
        self._displacements = min(self._displacements + 1, 10)
        self._until_ns = now.mono_ns + int(away_s * 1e9)
        return away_s

    def left_s(self, now: Instant) -> float:
        """Return the seconds that are left of the back-off; 0 or less: it is over."""
        return (self._until_ns - now.mono_ns) / 1e9


@dataclass(slots=True)
class SocketLoad:
    """A WebSocket connection: when it opened, and the commands that count towards the venue's limit on refusals."""

    since_ns: int
    refused: int = 0  # commands in a row that were refused for want of tokens
    waiting: dict[str, int] = field(default_factory=dict)  # commands without an answer: id → when sent, monotonic

    def room(self, now: Instant) -> int:
        """Return how many more commands may be refused before the venue ends the session."""
        if len(self.waiting) + self.refused >= MAX_REFUSED:
            oldest_ns = now.mono_ns - int(ANSWER_S * 1e9)
            self.waiting = {tag: left_ns for tag, left_ns in self.waiting.items() if left_ns > oldest_ns}
        return max(0, MAX_REFUSED - self.refused - len(self.waiting))


@dataclass(slots=True, eq=False)
class UserWire:
    """The user's two lanes.

    The upgrade is the login, so commands leave at once; the kit's sessions would wait for the answer to a first frame.
    """

    headers: Mapping[str, str]
    limits: CrossTradeLimits
    calls: CallStarter
    words: Words
    timers: TimerTable = field(default_factory=TimerTable)  # the adapter's
    links: dict[int, SocketLoad] = field(default_factory=dict)  # by connection
    frames: FrameTracker[FramePart] = field(default_factory=FrameTracker)  # RPCs that are no command of a strike

    @property
    def bucket(self) -> TokenBucket:
        """The user's tokens; another account of the user may bring its own count of them."""
        return self.limits.bucket

    @property
    def newest(self) -> int | None:
        """The connection that carries commands, None if there is none."""
        return max(self.links, default=None)

    def room(self, now: Instant) -> int:
        """Return how many commands the WebSocket may carry now; 0 while the venue is likely to refuse them."""
        conn = self.newest
        return 0 if conn is None or self.bucket.contended(now) else self.links[conn].room(now)

    def carrier(self, now: Instant) -> int | None:
        """Return the connection for one more command now, or None: use REST."""
        return self.newest if self.room(now) else None

    def note_sent(self, tags: Sequence[str], now: Instant) -> None:
        """Count commands that are sent now over the newest connection, by their ids."""
        if tags and (conn := self.newest) is not None:
            self.bucket.spend(now, len(tags))
            self.links[conn].waiting.update(dict.fromkeys(tags, now.mono_ns))

    def on_answered(self, conn: int, tag: str, now: Instant, *, limited: bool) -> None:
        """Record the answer to a WebSocket command; `limited`: it was refused for want of tokens."""
        link = self.links[conn]
        counted = link.waiting.pop(tag, None) is not None
        if limited:
            link.refused += 1
            self.bucket.drain(now)
        elif counted:
            link.refused = 0
            self.bucket.note_accepted()

    def build(self, method: str, target: str) -> Build:
        """Return the builder of a request; nothing is signed, so each copy is the same object."""
        request = Request(method, target, self.headers, b"{}" if method == "POST" else b"")
        return lambda now: request

    def get(
        self,
        kind: str,
        target: str,
        part: CallPart,
        now: Instant,
        *,
        urgent: bool = False,
        again_s: float | None = None,
    ) -> Outputs:
        """Start the call of a read; without an answer after `again_s` seconds it takes its second route."""
        build = self.build("GET", target)
        return self.calls.start_call(kind, build, now, urgent=urgent, second_route_after_s=again_s, context=part)

    def rpc(self, conn: int, tag: str, api: str, args: Mapping[str, str], part: FramePart, now: Instant) -> Send:
        """Build the frame of an RPC whose reply `part` waits for, and count its token."""
        self.note_sent((tag,), now)
        self.frames.add(tag, conn, part)
        return Send(conn, rpc_frame(api, args, tag), command=api not in READS)


def rpc_frame(api: str, args: Mapping[str, str], tag: str = "") -> bytes:
    """Build the text of an RPC (§ 6); without a tag, as `fire --dry-run` shows it."""
    return orjson.dumps({"action": "rpc", **({"id": tag} if tag else {}), "api": api, "args": args})


def frame_builder(api: str, args: Mapping[str, str]) -> Callable[[int], bytes]:
    """Return the builder of a command's frame; a strike has many, so that only the id is put in."""
    head, tail = rpc_frame(api, args, "k").split(b'"k"', 1)
    return lambda number: b'%s"k%d"%s' % (head, number, tail)


def path_of(account: str) -> str:
    return f"/v1/api/accounts/{quote(account, safe='')}"


def cancel_target(account: str, order: str = "") -> str:
    """Return the path that cancels one order, or all of an account's (§ 4)."""
    return f"{path_of(account)}/orders/{order}/cancel" if order else f"{path_of(account)}/orders/cancel"


def is_id(text: str) -> bool:
    """Return whether an id may go into a path: a GUID of 32 hexadecimal digits, or a number that the broker gave."""
    return 0 < len(text) <= 64 and text.isascii() and text.isalnum()
