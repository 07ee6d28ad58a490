"""Make an account's sweep, read-backs and probes keep to its venue's limits; a kill's commands never pass here.

`AccountSession` owns one. The adapter counts; this module decides when a read leaves and which probe is omitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kill_switch.core import sweep
from kill_switch.core.domain import Instant, LaneState, Phase
from kill_switch.core.events import Progress
from kill_switch.dispatch.ports import DispatcherPort
from kill_switch.dispatch.timers import Appointment
from kill_switch.venues.adapter import Adapter

READ_AT_LATEST_S = 30.0  # a kill's read waits no longer for room: its strikes draw from the same limit, again and again


class Pacer:
    """The read-back that waits for room, and the times at which the HTTP lane was used."""

    def __init__(self, account: str, venue: Adapter, dispatcher: DispatcherPort, send_read: Callable[[], None]) -> None:
        """Start with no read that waits; `send_read` requests a read-back at once."""
        self._account = account
        self._venue = venue
        self._dispatcher = dispatcher
        self._send_read = send_read
        self._timer = Appointment(dispatcher.timers, self._on_timer)
        self._waiting_ns = 0  # since when a kill's read waits for room, monotonic; 0: none does
        self._probed_ns = 0  # when the HTTP lane was last probed, monotonic
        self._used_ns = 0  # when it last got any request of ours, monotonic

    # read-backs

    def read_back(self) -> None:
        """Request a read-back, or let it wait until the venue's limits have room, if the sweep allows."""
        now = self._dispatcher.clock()
        tripped = self.keep_pace(now)
        wait_s = 0.0 if tripped is None else self._wait_s(tripped, now)
        if not wait_s:
            self.cancel()
            self._send_read()
        elif not self._timer.is_set:
            # a nanosecond more, because a wait below one would otherwise end at the same moment, again and again
            self._timer.set(now.mono_ns + int(wait_s * 1e9) + 1)

    def cancel(self) -> None:
        """Drop the read-back that waits."""
        self._timer.cancel()
        self._waiting_ns = 0

    def _wait_s(self, tripped: sweep.Sweep, now: Instant) -> float:
        may_wait_s = sweep.read_may_wait_s(tripped, now.mono_ns)
        if may_wait_s:
            wait_s = min(may_wait_s, self._venue.read_wait_s(now))
            return wait_s if tripped.phase is Phase.CLEAR else self._until_latest_s(wait_s, now)
        if tripped.clean_reads_in_a_row or not tripped.orders_left:  # it may complete the proof
            return 0.0
        return self._venue.first_read_wait_s(now)

    def _until_latest_s(self, wait_s: float, now: Instant) -> float:
        """Return the wait of a kill's read, cut to what is left of `READ_AT_LATEST_S`; a pause is kept to its end."""
        if not wait_s:
            return 0.0
        self._waiting_ns = self._waiting_ns or now.mono_ns
        left_s = READ_AT_LATEST_S - (now.mono_ns - self._waiting_ns) / 1e9
        return max(0.0, min(wait_s, left_s), self._venue.budget.pause_s(now))

    def _on_timer(self) -> None:
        """Send the read that has waited; a guard's read waits no second time."""
        running = self._running()
        if running is None:
            return
        if running.phase is Phase.CLEAR:
            self._send_read()
        else:
            self.read_back()

    # the sweep's timing

    def keep_pace(self, now: Instant, *, proven: bool = False) -> sweep.Sweep | None:
        """Set the sweep's timing to what the limits allow now; return the sweep with it, None without a sweep.

        The guard's interval becomes shorter only once a read has `proven` that the venue answers again. Otherwise a
        proof that is as old as the longer interval would count as too old.
        """
        running = self._running()
        if running is None:
            return None
        timing = self._venue.paced(self._dispatcher.state.accounts[self._account].timing, now)
        if timing is running.timing:
            return running
        if not proven and timing.guard_every_s < running.timing.guard_every_s:
            timing = replace(timing, guard_every_s=running.timing.guard_every_s)
        if timing != running.timing:
            self._dispatcher.handle(Progress(self._account, sweep.Paced(now.mono_ns, timing), now))
        return running._replace(timing=timing)

    def _running(self) -> sweep.Sweep | None:
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
        if not self._probed_ns or lane is not LaneState.UP:
            return False
        now, venue = self._dispatcher.clock(), self._venue
        probed_s, used_s = ((now.mono_ns - at_ns) / 1e9 for at_ns in (self._probed_ns, self._used_ns))
        tick_s, (least_s, most_s) = venue.WARM_EVERY_S / venue.CONNECTIONS, venue.probe_bounds_s()
        in_use = used_s < probed_s and used_s + tick_s <= venue.IDLE_S
        if probed_s + tick_s > most_s and not in_use:
            return False
        return probed_s + tick_s / 2 < least_s or not venue.has_room(venue.budget.demand.probe, now)
