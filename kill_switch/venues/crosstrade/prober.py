"""Probe CrossTrade's lanes: reads of the orders and the snapshot over HTTP, and one RPC on each new connection.

The adapter calls this when a lane comes up and when it keeps the HTTP lane warm. A probe leaves the tokens of a kill
alone, and never proves an account clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.crosstrade.account_reach import AccountReach
from kill_switch.venues.crosstrade.order_knowledge import OrderKnowledge
from kill_switch.venues.crosstrade.readback import UserReader
from kill_switch.venues.crosstrade.replies import is_limited, is_offline, warning
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.tokens import SNAPSHOT, UserWire
from kill_switch.venues.crosstrade.user_read import UserRead
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import NotReady, Outputs, Ready, Send

SNAPSHOT_EVERY = 4  # probes
PROBE_AGAIN_S = 4.0  # a lane that comes up so soon after a probe is probed only with tokens to spare
PROBE_ANYWAY_S = 8.0  # between two probes while another program uses the tokens up: a refusal costs nothing
HELLO = "hello"  # the id of the RPC that proves a new connection


@dataclass(slots=True, eq=False)
class Prober:
    """Send probes, and prove new WebSocket connections."""

    wire: UserWire
    turns: RequestQueue
    reads: UserReader
    knowledge: OrderKnowledge
    reach: AccountReach
    book: OrderBook
    _probes: int = 0
    _probed_ns: int = 0  # when the latest probe began, monotonic
    _read_ns: int = 0  # and the latest read

    def note_read(self, now: Instant) -> None:
        """Record that a read begins: while reads are frequent, no probe is forced without tokens."""
        self._read_ns = now.mono_ns

    def probe(self, now: Instant) -> Outputs:
        """Read the orders, and the snapshot each fourth time or while it is owed; nothing if tokens are short."""
        if not self.wire.bucket.spare(now, 2) and not self._may_probe_anyway(now):
            return ()
        self._probes += 1
        is_proven = not self.reach.is_owed and self.reads.has_path
        return self._begin(now, with_snapshot=not is_proven or self._probes % SNAPSHOT_EVERY == 0)

    def on_http_opened(self, now: Instant) -> Outputs:
        """Probe the HTTP lane that has come up; a lane that flaps must not spend the tokens of a kill."""
        self.reads.has_path = self.reach.is_owed = True
        if now.mono_ns - self._probed_ns < PROBE_AGAIN_S * 1e9 and not self.wire.bucket.spare(now, 2):
            return ()  # the next probe proves it
        return self._begin(now, with_snapshot=True)

    def on_lost_frames(self, now: Instant) -> Outputs:
        """Read the orders after lost pushes (§ 6), if there is a token to spare."""
        if not self.wire.bucket.spare(now, 1):
            return ()
        return self.reads.begin(UserRead(now.mono_ns, probe=True), now)

    def start_hello(self, conn: int, now: Instant) -> Send:
        """Return the RPC that proves a new connection: a harmless read that goes through to the add-on."""
        self.reads.has_rpc = True
        return self.wire.rpc(conn, HELLO, "GetAllOrders", {}, HelloPart(self, conn), now)

    def on_hello_reply(self, conn: int, reply: Reply, now: Instant) -> Outputs:
        """Apply the reply to the hello: any reply proves the connection; it may show orders, or the add-on offline."""
        ready = Ready(Route.WS, conn)
        since_ns = self.wire.links[conn].since_ns
        self.book.start_pushes(conn, since_ns)
        if is_offline(reply):
            return (ready, NotReady(Route.HTTP, 0, reply.evidence))
        listed = self.reads.rpc_orders(reply)
        if listed is None:
            self.reads.has_rpc = is_limited(reply)
            return (ready,)
        why = warning(reply.data, self.wire.words) or listed.why
        read = UserRead(since_ns, probe=True, conn=conn, orders=listed.orders, ordered=not why)
        read.troubles += [why] if why else []
        return (ready, *self.knowledge.on_read(read, now))

    def _may_probe_anyway(self, now: Instant) -> bool:
        """Return whether to probe without tokens: another program uses them up, and no kill is in progress."""
        idle_ns = now.mono_ns - max(self._probed_ns, self._read_ns)
        return idle_ns >= PROBE_ANYWAY_S * 1e9 and self.wire.bucket.contended(now) and not self.turns.cancels

    def _begin(self, now: Instant, *, with_snapshot: bool) -> Outputs:
        self._probed_ns = now.mono_ns
        orders = self.reads.begin(UserRead(now.mono_ns, probe=True), now)
        return (*orders, *(self.wire.get("snapshot", SNAPSHOT, self.reach, now) if with_snapshot else ()))


class HelloPart(NamedTuple):
    """The RPC that proves a new connection."""

    prober: Prober
    conn: int

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        return self.prober.on_hello_reply(self.conn, reply, now)
