"""Turn the answers to an account's small requests into facts: drills, equity, the keep-alive of connections.

Every adapter uses these parts of its calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import Drilled, Equity, NotReady, Outputs, Replied, UnexplainedMessage


class DrillPart(NamedTuple):
    """A drill over HTTP."""

    is_passed: Callable[[Reply], bool]
    describe: Callable[[Reply], str] = lambda reply: reply.evidence

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return (Drilled(Route.HTTP, self.is_passed(reply), replied.rtt_us, self.describe(reply)),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return (Drilled(Route.HTTP, False, 0, why),)


class EquityPart(NamedTuple):
    """A request for the account's equity."""

    read: Callable[[Any], Mapping[str, Decimal] | str]

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        amounts = self.read(reply.data) if reply.ok else reply.evidence
        if isinstance(amounts, str):
            return (UnexplainedMessage(f"the account cannot be measured: {amounts}"),)
        return (Equity(amounts, call.asked_ns),)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return ()  # the lanes report their own faults


class KeepOpenPart(NamedTuple):
    """A request whose answer says nothing: it has kept a connection open.

    Without an answer the HTTP lane is not ready, until the answer to the probe that leaves at once.
    """

    probe: Callable[[Instant], Outputs]

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return ()

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return (NotReady(Route.HTTP, 0, why), *self.probe(now))
