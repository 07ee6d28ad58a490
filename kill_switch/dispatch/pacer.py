"""Make an account's sweep, read-backs and probes keep to its venue's limits; a kill's commands never pass here.

`AccountSession` owns one. The adapter counts; this module decides when a read leaves and which probe is omitted. If the
account's limits fail with an exception, it decides as if there were none: it never raises, and holds nothing back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from kill_switch.core import sweep, sweep_state
from kill_switch.core.domain import Instant, LaneState, Phase
from kill_switch.core.events import Progress
from kill_switch.dispatch.ports import DispatcherPort
from kill_switch.dispatch.timers import Appointment
from kill_switch.venues.adapter import Adapter

PROBE_AGAIN_S = 2.0  # seconds from a probe to one that is not regular
# seconds between two reads of an account whose cancels cannot be built: the part that is kept for them is of no use
BLIND_GAP_S = 5.0
CONNECTIONS_FOR_READS = 2  # beside those of a strike's calls

ResultT = TypeVar("ResultT")


class Pacer:
    """The read-back that waits for room, and the times at which the HTTP lane was used."""

    def __init__(
        self,
        account: str,
        venue: Adapter,
        dispatcher: DispatcherPort,
        send_read: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """Start with no read that waits.

        `send_read` requests a read-back at once. `on_failure` is called with an exception of the account's limits.
        """
        self._account = account
        self._venue = venue
        self._dispatcher = dispatcher
        self._send_read = send_read
        self._on_failure = on_failure
        self._timer = Appointment(dispatcher.timers, self._on_timer)
        self._waits_since_ns = 0  # since when a read-back waits for room, monotonic; 0: none does
        self._probed_ns = 0  # when the HTTP lane was last probed, monotonic
        self._used_ns = 0  # when it last got any request of ours, monotonic
        self._read_ns = 0  # when the last read-back left, monotonic

    # read-backs

    def read_back(self, *, is_prompt: bool = False) -> float:
        """Request a read-back, or let it wait until the venue's limits have room, if the sweep allows.

        `is_prompt`: a person waits for it, so that it waits only while cancels would lack their part of a limit.
        Return in how many seconds it leaves; 0: it has left.
        """
        now = self._dispatcher.clock()
        wait_s = self._guarded(lambda: self._planned_wait_s(now, is_prompt=is_prompt), 0.0)
        if not wait_s:
            if sweep_state.read_is_late_in_s(now.mono_ns, self._waits_since_ns) <= 0:
                self._venue.limits.take_turn(now)
            self._send()
            return 0.0
        # a nanosecond more, because a wait below one would otherwise end at the same moment, again and again
        at_ns = now.mono_ns + int(wait_s * 1e9) + 1
        if not self._timer.is_set_until(at_ns):
            self._timer.set(at_ns)
        self._waits_since_ns = self._waits_since_ns or now.mono_ns
        self._dispatcher.handle(Progress(self._account, sweep.ReadPostponed(now.mono_ns, self._timer.at_ns), now))
        return wait_s

    @property
    def proof_wait_s(self) -> float:
        """In how many seconds the read-back leaves that an account's proof waits for; 0: none waits."""
        running = self._running()
        if not self._waits_since_ns or running is None or running.phase is Phase.CLEAR:
            return 0.0
        return max(0.0, (self._timer.at_ns - self._dispatcher.clock().mono_ns) / 1e9)

    def replace_probe(self) -> bool:
        """Send a kill's read-back that waits instead of the probe that is due, if it takes no more; return whether."""
        return self._guarded(self._replace_probe, False)

    def _replace_probe(self) -> bool:
        budget, running = self._venue.budget, self._running()
        if not self._waits_since_ns or running is None or running.phase is Phase.CLEAR:
            return False
        if budget.demand.read != budget.demand.probe or budget.pause_s(self._dispatcher.clock()):
            return False
        self._send()
        return True

    def cancel(self) -> None:
        """Drop the read-back that waits."""
        self._timer.cancel()
        self._waits_since_ns = 0

    def _send(self) -> None:
        """Send a read-back; if it has waited, its time-out begins now."""
        waited_since_ns, now = self._waits_since_ns, self._dispatcher.clock()
        self.cancel()
        if waited_since_ns:
            self._dispatcher.handle(Progress(self._account, sweep.ReadPostponed(now.mono_ns, now.mono_ns), now))
        self._venue.budget.proof_ns = 0
        self._read_ns, used_ns = now.mono_ns, self._used_ns
        self._send_read()
        if self._venue.budget.demand.read_probes and self._venue.CONNECTIONS > 1:
            self._used_ns = used_ns  # it has used the connection that was used last; the others are still unused

    def _planned_wait_s(self, now: Instant, *, is_prompt: bool) -> float:
        tripped = self._keep_pace(now)
        if tripped is None:
            return 0.0
        return self._venue.limits.first_read_wait_s(now) if is_prompt else self._wait_s(tripped, now)

    def _wait_s(self, tripped: sweep_state.Sweep, now: Instant) -> float:
        wait_s = self._wait_for_room_s(tripped, now)
        if wait_s and not tripped.clean_reads_in_a_row and tripped.phase is not Phase.CLEAR and self._venue.is_blind:
            spaced_s = (self._read_ns - now.mono_ns) / 1e9 + BLIND_GAP_S
            wait_s = min(wait_s, max(spaced_s, self._venue.limits.finding_read_wait_s(now)))
        late_in_s = sweep_state.read_is_late_in_s(now.mono_ns, self._waits_since_ns)
        if tripped.phase is Phase.CLEAR or wait_s <= late_in_s:
            return wait_s
        return min(wait_s, max(late_in_s, self._venue.limits.turn_wait_s(now)))

    def _wait_for_room_s(self, tripped: sweep_state.Sweep, now: Instant) -> float:
        may_wait_s, venue = sweep_state.read_may_wait_s(tripped, now.mono_ns, self._waits_since_ns), self._venue
        is_clean = tripped.phase is Phase.CLEAR or tripped.clean_reads_in_a_row > 0
        if may_wait_s and sweep_state.looks_out(tripped, now.mono_ns):
            due_ns = self._read_ns + sweep_state.look_out_gap_ns(tripped, now.mono_ns)
            wait_s = max(venue.limits.look_out_wait_s(now), (due_ns - now.mono_ns) / 1e9)
            return min(may_wait_s, wait_s)
        if not is_clean and now.mono_ns - tripped.began_ns > sweep_state.AT_ONCE_NS:
            # without its share, because it has waited for long enough: it need only leave the cancels their part
            is_unread = tripped.orders_left is None
            room_in_s = venue.limits.unread_wait_s(now) if is_unread else venue.limits.first_read_wait_s(now)
            may_wait_s = max(may_wait_s, room_in_s, venue.budget.pause_s(now))
            if venue.budget.proof_ns:
                may_wait_s = min(may_wait_s, venue.limits.proof_wait_s(now))
        # pushes since the last read-back have shown the end of every known order
        is_emptied = venue.book.open_orders == 0 and venue.book.pushed_ns > self._read_ns
        if may_wait_s and tripped.phase is not Phase.CLEAR and is_emptied:
            may_wait_s = min(may_wait_s, venue.limits.first_read_wait_s(now))
        if may_wait_s:
            return min(may_wait_s, venue.limits.read_wait_s(now))
        if is_clean or not tripped.orders_left:  # it may complete the proof
            return venue.limits.proving_read_wait_s(now)
        return venue.limits.first_read_wait_s(now)

    def _on_timer(self) -> None:
        """Send the read that has waited; a guard's read waits no second time."""
        running = self._running()
        if running is None:
            self.cancel()
        elif running.phase is Phase.CLEAR:
            self._send()
        else:
            self.read_back()

    # the sweep's timing

    def keep_pace(self, now: Instant, *, proven: bool = False) -> None:
        """Set the sweep's timing by the limits' present room.

        The guard's interval becomes shorter only once a read has `proven` that the venue answers again. Otherwise a
        proof that is as old as the longer interval would count as too old.
        """
        self._guarded(lambda: self._keep_pace(now, proven=proven), None)

    def on_reply(self, now: Instant, *, is_refusal: bool) -> None:
        """Set the sweep's timing after a reply that is a refusal, or by which the venue asks for a pause."""
        if is_refusal or self._guarded(lambda: self._venue.budget.pause_s(now), 0.0):
            self.keep_pace(now)

    def _keep_pace(self, now: Instant, *, proven: bool = False) -> sweep_state.Sweep | None:
        """Set the timing; return the sweep with it, None without a sweep."""
        running = self._running()
        if running is None:
            return None
        timing = self._venue.limits.paced(self._dispatcher.state.accounts[self._account].timing, now)
        if timing is running.timing:
            return running
        if not proven and timing.guard_every_s < running.timing.guard_every_s:
            timing = replace(timing, guard_every_s=running.timing.guard_every_s)
        if timing != running.timing:
            self._dispatcher.handle(Progress(self._account, sweep.Paced(now.mono_ns, timing), now))
        return running._replace(timing=timing)

    def _running(self) -> sweep_state.Sweep | None:
        account = self._dispatcher.state.accounts.get(self._account)
        return None if account is None else account.sweep

    # probes

    def note_use(self, now: Instant) -> None:
        """Note that the HTTP lane gets a request."""
        self._used_ns = now.mono_ns

    def note_probe(self) -> None:
        """Note that the request of the last `note_use` was a probe."""
        self._probed_ns = self._used_ns

    def omits_probe(self, lane: LaneState) -> bool:
        """Return whether the probe that is due now is omitted, because the venue's limits want that.

        It is not omitted for so long that the venue may close the connections as idle, unless other requests use them.
        """
        return self._guarded(lambda: self._omits_probe(lane), False)

    def _omits_probe(self, lane: LaneState) -> bool:
        if not self._probed_ns or lane is not LaneState.UP:
            return False
        now, venue = self._dispatcher.clock(), self._venue
        probed_s, used_s = ((now.mono_ns - at_ns) / 1e9 for at_ns in (self._probed_ns, self._used_ns))
        tick_s, (least_s, most_s) = venue.WARM_EVERY_S / venue.CONNECTIONS, venue.limits.probe_bounds_s()
        if venue.budget.is_stated and self._running() is not None:
            # a kill's own requests show a silent venue, and need what bots leave of the limit
            least_s = most_s = max(least_s, most_s, max(venue.IDLE_S, venue.WARM_EVERY_S) / venue.CONNECTIONS)
        shown_s = probed_s  # since when nothing has shown what a probe shows
        if venue.budget.demand.read_probes and self._read_ns:
            shown_s = min(probed_s, (now.mono_ns - self._read_ns) / 1e9)
            is_shown = shown_s + tick_s <= venue.most_unused_s() and venue.CONNECTIONS > 1
            most_s = venue.others_idle_s() if is_shown else most_s
        in_use = used_s < probed_s and used_s + tick_s <= venue.most_unused_s()
        if probed_s + tick_s > most_s and not in_use:
            return False
        return shown_s + tick_s / 2 < least_s or not venue.limits.has_room(venue.budget.demand.probe, now)

    def probe_now(self, lane: LaneState, send_probe: Callable[[], None]) -> None:
        """Send a probe besides the regular ones, because a fault that has stopped the WebSocket may have stopped HTTP.

        None leaves if one has left lately, or if the limits have no room.
        """
        now, venue = self._dispatcher.clock(), self._venue
        is_old = now.mono_ns - self._probed_ns >= PROBE_AGAIN_S * 1e9
        has_room = self._guarded(lambda: venue.limits.has_room(venue.budget.demand.probe, now), False)
        if lane is LaneState.UP and is_old and has_room:
            send_probe()
            self.note_probe()

    # limits

    def has_room_for_equity(self, now: Instant) -> bool:
        """Return whether the account's equity may be requested now; during a kill a read-back could still follow."""
        limits, wanted = self._venue.limits, self._venue.budget.demand.equity
        is_idle = self._running() is None
        return self._guarded(lambda: limits.has_room(wanted, now, spares_read=not is_idle), False)

    def has_room_to_keep_open(self) -> bool:
        """Return whether the request may leave that keeps one of many connections open."""
        venue, now = self._venue, self._dispatcher.clock()
        wanted = venue.budget.demand.keep_open
        return self._guarded(lambda: bool(wanted) and venue.limits.has_room(wanted, now), False)

    def wanted_connections(self) -> int:
        """Return how many connections the HTTP lane should have now; 0: it never needs further ones."""
        return self._guarded(self._count_connections, self._venue.CONNECTIONS)

    def _count_connections(self) -> int:
        calls = self._venue.strike_calls()
        return calls and min(calls + CONNECTIONS_FOR_READS, self._venue.connections.most)

    def _guarded(self, decide: Callable[[], ResultT], otherwise: ResultT) -> ResultT:
        """Return what `decide` returns, or `otherwise` if it raises."""
        try:
            return decide()
        except Exception as error:  # because a kill must not depend on the book-keeping of requests
            self._on_failure(error)
            return otherwise
