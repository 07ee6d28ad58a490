"""Start HTTP calls and follow each one until it is answered or lost, on one route or on two.

An `Adapter` owns one `CallStarter` and gives it the events of calls. A call leaves on the warm lane first. When no
answer comes in time, or the lane is down, it leaves once more on a fresh connection, built and signed anew. The first
answer that proves something ends the call. This module neither reads a venue's answers nor opens a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.kit.rate_pool import RatePool
from kill_switch.venues.messages import ANSWER_WITHIN_S, Call, CallLost, Outputs, Replied, WakeAfter
from kill_switch.venues.request import Request

LATE_WITHIN_S = 30.0  # seconds that an answer to an urgent call is awaited: late is worth more than none

Build = Callable[[Instant], Request]  # builds and signs one copy of a request


@dataclass(slots=True)
class PendingCall:
    """A call that has been started and is not answered yet."""

    kind: str  # names what the adapter asks for: "cancel-all", "orders"
    build: Build
    asked_ns: int  # when it was started, monotonic
    urgent: bool
    cancel: bool
    command: bool
    second_route_allowed: bool  # it may still go out once more, on a fresh connection
    second_route_after_s: float | None  # None: it goes out once
    give_up_after_s: float | None = None  # seconds until it counts as lost, instead of a second route
    part: Any = None  # what the adapter needs to read the answer
    on_loss: LossHandler | None = None  # takes the loss of this call, instead of the adapter's `unanswered`
    is_retry: bool = False  # a second attempt, after a refusal whose reason has been put right
    copies_pending: int = 1  # copies that may still be answered
    is_only_copy: bool = False  # it is answered, and no other copy of it can have been carried out
    spares: int = 0  # how often it may still go out on a spare warm connection
    sent: bool = False  # a byte of one of its copies may have left


ReplyHandler = Callable[[PendingCall, Replied, Instant], Outputs | None]
LossHandler = Callable[[PendingCall, str, Instant], Outputs]


class CallStarter:
    """Start an account's calls, and keep those that may still be answered."""

    def __init__(
        self,
        clock: ClockOffset,
        on_reply: ReplyHandler,
        on_loss: LossHandler,
        *,
        connections: int,
        not_processed: frozenset[int],
        pool: RatePool | None,
    ) -> None:
        """Make a starter of which no call is pending.

        `on_reply` returns the facts of a reply, or None if the reply proves nothing: then the other route is heard.
        `on_loss` returns the facts of a call that will not be answered. `connections` is how many warm connections
        carry an urgent call at most. A reply whose status is in `not_processed` counts as none. Each GET takes a read
        out of `pool`.
        """
        self.pending: dict[str, PendingCall] = {}  # by tag
        self.pool = pool
        self._clock = clock
        self._on_reply = on_reply
        self._on_loss = on_loss
        self._connections = connections
        self._not_processed = not_processed
        self._started = 0

    @property
    def has_started(self) -> bool:
        """Tell whether any call was started."""
        return self._started > 0

    def start_call(
        self,
        kind: str,
        build: Build,
        now: Instant,
        *,
        urgent: bool = False,
        cancel: bool = False,
        command: bool = False,
        hedge_after_s: float | None = None,
        give_up_after_s: float | None = None,
        context: Any = None,
        on_loss: LossHandler | None = None,
    ) -> Outputs:
        """Start a call on the warm lane, and return its `Call` and its timer.

        With `hedge_after_s` (seconds) it goes out once more on a fresh connection if no answer came until then; with
        `give_up_after_s` it counts as lost instead. Give one of the two at most. `cancel` marks a strike's own cancel,
        and implies `command`; `Call` defines both. `context` is kept for the reply handler.
        """
        self._started += 1
        tag = f"{kind}#{self._started}"
        twice = hedge_after_s is not None
        spares = self._connections if twice and urgent else 0
        call = self.pending[tag] = PendingCall(
            kind,
            build,
            now.mono_ns,
            urgent,
            cancel,
            command or cancel,
            twice,
            hedge_after_s,
            give_up_after_s,
            context,
            on_loss,
            spares=spares,
        )
        copy = self._copy(tag, call, Route.HTTP, now)
        if hedge_after_s is not None:
            return (copy, WakeAfter(tag, hedge_after_s))
        return (copy,) if give_up_after_s is None else (copy, WakeAfter(tag, give_up_after_s))

    def start_again(self, call: PendingCall, now: Instant) -> Outputs:
        """Start a call once more, built anew: it was refused for a reason that has been put right since."""
        outputs = self.start_call(
            call.kind,
            call.build,
            now,
            urgent=call.urgent,
            cancel=call.cancel,
            command=call.command,
            hedge_after_s=call.second_route_after_s,
            give_up_after_s=call.give_up_after_s,
            context=call.part,
            on_loss=call.on_loss,
        )
        self.pending[f"{call.kind}#{self._started}"].is_retry = True
        return outputs

    def forget_commands(self) -> None:
        """Forget every call that changes the account: it is armed again, and nothing is told of these calls."""
        for tag in [tag for tag, call in self.pending.items() if call.command]:
            del self.pending[tag]

    # what lanes and timers tell

    def on_reply(self, reply: Replied, now: Instant) -> Outputs:
        """Take a reply; one to a call that is not pending says nothing: the other copy was answered first."""
        call = self.pending.get(reply.tag)
        if call is None:
            return ()
        call.copies_pending -= 1
        call.is_only_copy = not call.sent and not call.copies_pending
        call.sent = True
        if reply.status in self._not_processed and call.second_route_after_s is not None:
            if not call.second_route_allowed and not call.copies_pending and call.spares:
                return self._take_spare(reply.tag, call, now)
            return self._take_other_route(reply.tag, call, f"HTTP {reply.status}: not processed", now)
        facts = self._on_reply(call, reply, now)
        if facts is None:  # what proves nothing may come from a proxy, and so may its clock
            return self._take_other_route(reply.tag, call, f"HTTP {reply.status} proves nothing", now)
        self.pending.pop(reply.tag, None)
        times = self._clock.note_reply(reply, now)
        return facts if call.cancel else (*facts, *times)  # of a strike's own only the facts are urgent

    def on_lost(self, lost: CallLost, now: Instant) -> Outputs:
        """Take the loss of one copy of a call; the loss of the last copy is the loss of the call."""
        call = self.pending.get(lost.tag)
        if call is None:
            return ()
        call.copies_pending -= 1
        call.sent = call.sent or lost.sent
        if lost.spare and call.spares:
            return self._take_spare(lost.tag, call, now)
        return self._take_other_route(lost.tag, call, lost.why, now)

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        """Take the timer of a pending call: take the second route, or give the call up."""
        call = self.pending[tag]
        if call.give_up_after_s is not None:
            return self._give_up(tag, call, f"no answer within {call.give_up_after_s:g} s", now)
        return self._take_second_route(tag, call, now) if call.second_route_allowed else ()

    # the routes

    def _take_second_route(self, tag: str, call: PendingCall, now: Instant) -> Outputs:
        call.second_route_allowed = False
        call.copies_pending += 1
        return (self._copy(tag, call, Route.FRESH, now),)

    def _take_spare(self, tag: str, call: PendingCall, now: Instant) -> Outputs:
        """Make the call on another warm connection: it is there, and a fresh one takes three round trips."""
        call.spares -= 1
        call.copies_pending += 1
        return (self._copy(tag, call, Route.HTTP, now),)

    def _take_other_route(self, tag: str, call: PendingCall, why: str, now: Instant) -> Outputs:
        if call.second_route_allowed:
            return self._take_second_route(tag, call, now)
        return () if call.copies_pending > 0 else self._give_up(tag, call, why, now)

    def _give_up(self, tag: str, call: PendingCall, why: str, now: Instant) -> Outputs:
        self.pending.pop(tag, None)
        return (call.on_loss or self._on_loss)(call, why, now)

    def _copy(self, tag: str, call: PendingCall, route: Route, now: Instant) -> Call:
        within_s = LATE_WITHIN_S if call.urgent else ANSWER_WITHIN_S
        request = call.build(now)
        if self.pool is not None and request.method == "GET":
            self.pool.take(now)
        return Call(tag, request, route, call.urgent, call.cancel, call.command, within_s)
