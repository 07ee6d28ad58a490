"""Which NT accounts NinjaTrader shows connected to their brokers, by the latest snapshot.

The reader and the prober hand over snapshots. While an account is out of reach the HTTP lane is not ready, because no
kill reaches orders that rest at its broker. Nothing here requests a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.crosstrade.replies import AccountDirectory, Words, describe_unreached, is_limited
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import NotReady, Outputs, Ready, Replied

MAX_TROUBLE = 600  # characters of a line that may name 15 NT accounts


@dataclass(slots=True, eq=False)
class AccountReach:
    """Keep the accounts that the latest snapshot does not show connected.

    It waits for the snapshots of probes: it is the part of their calls.
    """

    ours: AccountDirectory
    words: Words
    unseen: Mapping[str, str] = field(default_factory=dict)  # account not shown connected by the latest snapshot → why
    unknown: dict[str, str] = field(default_factory=dict)  # account that the venue does not know → its words
    is_owed: bool = False  # no snapshot has come since the HTTP lane came up
    _reported: Mapping[str, str] = field(default_factory=dict)  # the accounts out of reach at the latest report

    def on_snapshot(self, snapshot: dict[str, Any]) -> Mapping[str, str]:
        """Apply a snapshot; return the accounts that it does not show connected, each with the reason."""
        self.unseen = self.ours.unseen(snapshot)
        self.is_owed = False
        return self.unseen

    def on_read_snapshot(self, snapshot: dict[str, Any]) -> Mapping[str, str]:
        """Apply the snapshot of a read; return the accounts that it or its predecessor does not show connected.

        The read's list lies between the two snapshots: it may lack an account that came into sight after it.
        """
        before = {name: f"until now, {why}" for name, why in self.unseen.items()}
        return {**before, **self.on_snapshot(snapshot)}

    def why_unknown(self) -> str:
        """Name the accounts that the venue does not know, each with its words; "" without one.

        An account is doubted until its own list, or an accepted cancel, shows that the venue knows it.
        """
        return "; ".join(f"the venue does not know NT account {name} ({why})" for name, why in self.unknown.items())

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        """Turn the snapshot of a probe into the readiness of the HTTP lane."""
        if not reply.ok:
            # limited: another program uses the tokens up, and the lane itself works
            is_fault = not is_limited(reply)
            return (NotReady(Route.HTTP, 0, reply.evidence, fatal=reply.key_refused),) if is_fault else ()
        why = describe_unreached(self.on_snapshot(reply.data))
        self._reported = self.unseen
        return (NotReady(Route.HTTP, 0, self.words(why, limit=MAX_TROUBLE)) if why else Ready(Route.HTTP, 0),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return (NotReady(Route.HTTP, 0, why),)

    def report_change(self) -> Outputs:
        """Return `NotReady` if other accounts are out of reach than at the latest report."""
        before, self._reported = self._reported, self.unseen
        why = describe_unreached(self.unseen) if self.unseen != before else ""
        return (NotReady(Route.HTTP, 0, self.words(why, limit=MAX_TROUBLE)),) if why else ()
