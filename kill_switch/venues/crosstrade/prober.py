"""Probe a CrossTrade user's HTTP lane, and carry out drills, with the tokens that a kill does not need.

The adapter owns one `Prober`. Nothing here proves an account clear: only a kill's reads do.
§ numbers are those of docs/venues/crosstrade.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.account_reach import AccountReach
from kill_switch.venues.crosstrade.readback import UserReader
from kill_switch.venues.crosstrade.request_queue import RequestQueue
from kill_switch.venues.crosstrade.user_wire import SNAPSHOT, UserWire, cancel_target, rpc_frame
from kill_switch.venues.kit.call_parts import DrillPart
from kill_switch.venues.kit.drill import DRILL, DrillTracker
from kill_switch.venues.messages import Outputs

SNAPSHOT_EVERY = 4  # probes
PROBE_AGAIN_S = 4.0  # a lane that comes up so soon after a probe is probed only with tokens to spare
PROBE_ANYWAY_S = 8.0  # between two probes while another program uses the tokens up: a refusal costs nothing
NO_ORDER = "0" * 32  # the empty GUID: no order can have it


class Prober:
    """The probes and drills of one user."""

    def __init__(
        self,
        wire: UserWire,
        reader: UserReader,
        reach: AccountReach,
        queue: RequestQueue,
        drills: DrillTracker,
        accounts: Sequence[str],
    ) -> None:
        self._wire = wire
        self._reader = reader
        self._reach = reach
        self._queue = queue
        self._drills = drills
        self._accounts = accounts
        self._drilled = self._probes = 0
        self._probed_ns = 0  # when the latest probe began, monotonic

    def probe_if_due(self, now: Instant) -> Outputs:
        """Read the orders, and the snapshot each fourth time or while it is owed; nothing if tokens are short."""
        idle_ns = now.mono_ns - max(self._probed_ns, self._reader.read_ns)
        may_anyway = self._wire.bucket.contended(now) and not self._queue.cancels and idle_ns >= PROBE_ANYWAY_S * 1e9
        if not self._wire.bucket.spare(now, 2) and not may_anyway:
            return ()
        self._probes += 1
        is_proven = self._reader.has_path and not self._reach.is_owed
        return self._probe(now, with_snapshot=not is_proven or self._probes % SNAPSHOT_EVERY == 0)

    def on_opened(self, now: Instant) -> Outputs:
        """Prove the HTTP lane that came up; a lane that flaps must not spend the tokens of a kill."""
        self._reader.has_path = self._reach.is_owed = True
        if now.mono_ns - self._probed_ns < PROBE_AGAIN_S * 1e9 and not self._wire.bucket.spare(now, 2):
            return ()  # the next probe proves it
        return self._probe(now, with_snapshot=True)

    def _probe(self, now: Instant, *, with_snapshot: bool) -> Outputs:
        self._probed_ns = now.mono_ns
        orders = self._reader.probe(now)
        return (*orders, *(self._wire.get("snapshot", SNAPSHOT, self._reach, now) if with_snapshot else ()))

    def drill(self, now: Instant) -> Outputs:
        """Cancel an order that cannot exist, of each NT account in rotation: "not found or already terminal" (§ 4)."""
        account = self._accounts[self._drilled % len(self._accounts)]
        self._drilled += 1
        tag, conn = f"{DRILL} {self._drilled}", self._wire.carrier(now)
        if conn is not None:
            self._wire.note_sent((tag,), now)
        frame = rpc_frame("Cancel", {"account": account, "orderId": NO_ORDER}, tag)
        build = self._wire.build("POST", cancel_target(account, NO_ORDER))
        framed = self._drills.start_frame(conn, tag, frame, now)
        return (*framed, *self._drills.start_call(build, now, context=DrillPart(lambda reply: reply.ok)))
