"""State what an account needs of its HTTP lane beyond the few connections that it always has.

`Adapter` inherits it, and `dispatch` asks. A venue whose strikes cancel by symbol sets the two attributes.
"""

from __future__ import annotations

from abc import abstractmethod

from kill_switch.core.domain import Instant
from kill_switch.venues.kit.budget import Budget
from kill_switch.venues.kit.call_parts import KeepOpenPart
from kill_switch.venues.kit.calls import Build, CallStarter
from kill_switch.venues.kit.fan_out import FanOut
from kill_switch.venues.messages import Outputs


class FurtherConnections:
    """An account whose strikes may have more calls than its venue's `CONNECTIONS`."""

    fan_out: FanOut | None = None  # its strikes cancel by symbol: a connection is kept open for each command
    keep_open: Build | None = None  # a request that costs next to nothing, and keeps such a connection open
    budget: Budget
    calls: CallStarter

    @abstractmethod
    def keep_warm(self, now: Instant) -> Outputs:
        """Probe the HTTP lane."""

    def strike_calls(self) -> int:
        """Return how many HTTP calls the next strike would have now; 0: they always fit into `CONNECTIONS`.

        The HTTP lane opens a connection for each. It asks about once a second, and never while a strike is made.
        """
        return 0 if self.fan_out is None else self.fan_out.count_calls()

    @property
    def is_blind(self) -> bool:
        """Whether a kill has nothing to send, because no list has shown a symbol to cancel by."""
        return self.fan_out is not None and not self.fan_out.symbols()

    def keep_connection(self, now: Instant) -> Outputs:
        """Request next to nothing, so that a connection stays open and a dead venue is noticed; () if it cannot.

        Without it, the venue closes connections that only a strike of many calls needs, and the lane opens others.
        """
        if self.keep_open is None or self.budget.pause_s(now):
            return ()
        part = KeepOpenPart(self.keep_warm)
        return self.calls.start_call("keep-open", self.keep_open, now, context=part, on_loss=part.on_loss)
