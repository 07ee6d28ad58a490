"""Start HTTP calls, and follow each call until it is answered or lost, on one route or on two.

An `Adapter` owns one `CallStarter`. This module neither reads a venue's answers nor opens a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.clock_offset import ClockOffset
from kill_switch.venues.kit.budget import Budget, Charge
from kill_switch.venues.messages import (
    ANSWER_WITHIN_S,
    Call,
    CallLost,
    Outputs,
    Replied,
    UnexplainedMessage,
    WakeAfter,
)
from kill_switch.venues.request import Request
from kill_switch.venues.retry_after import MAX_PAUSE_S

LATE_WITHIN_S = 30.0  # seconds to wait for the answer to an urgent call, because a late answer still proves something

Build = Callable[[Instant], Request]  # builds and signs one copy of a request


@dataclass(slots=True)
class PendingCall:
    """A call that has been started and is not answered yet."""

    kind: str  # names the request: "cancel-all", "orders"
    build: Build
    asked_ns: int  # when it was started, monotonic
    urgent: bool
    cancel: bool
    command: bool
    second_route_allowed: bool  # a second copy may still leave, on a fresh connection
    second_route_after_s: float | None  # None: no second copy
    give_up_after_s: float | None = None  # seconds until it counts as lost, instead of a second route
    part: Any = None  # the adapter's context for the answer
    on_loss: LossHandler | None = None  # handles the loss of this call, instead of the adapter's `on_loss`
    retries: int = 0  # refusals in a row whose reason has been corrected before this attempt
    copies_pending: int = 1  # copies that may still be answered
    is_only_copy: bool = False  # it is answered, and the venue cannot have executed another copy
    spares: int = 0  # copies that may still leave on a spare warm connection
    sent: bool = False  # a byte of one of its copies may have left
    elsewhere: bool = False  # it goes to another host than the account's, each copy on a fresh connection
    is_apart: bool = False  # no limit of the account counts it: it goes elsewhere, or has a limit of its own

    @property
    def is_retry(self) -> bool:
        """Whether it is another attempt, after a refusal whose reason has been corrected."""
        return self.retries > 0


ReplyHandler = Callable[[PendingCall, Replied, Instant], Outputs | None]
LossHandler = Callable[[PendingCall, str, Instant], Outputs]


class CallStarter:
    """Start an account's calls, and keep the calls that may still be answered.

    A call leaves on the warm lane. If no answer comes in time, or the lane is down, a second copy leaves on a fresh
    connection, built and signed again. The first answer that proves something ends the call. A copy that cannot be
    built counts as lost, so that each call ends. A request with an `origin` leaves on a fresh connection from the
    start. It takes no read from the pool, and its answer says nothing of the venue's clock.
    """

    def __init__(
        self,
        clock: ClockOffset,
        on_reply: ReplyHandler,
        on_loss: LossHandler,
        *,
        connections: int,
        not_processed: frozenset[int],
        bans: frozenset[int],
        budget: Budget,
    ) -> None:
        """Make a starter without pending calls.

        `on_reply` returns the facts of a reply, or None if the reply proves nothing: then the call takes its second
        route. `on_loss` returns the facts of a lost call. `connections` is the largest number of warm connections
        that carry copies of an urgent call. A reply whose status is in `not_processed` counts as no reply. A status in
        `bans` refuses every request of the address. Each copy of a call is charged to `budget`, unless it is lost
        before a byte of it has left.
        """
        self.pending: dict[str, PendingCall] = {}  # by tag
        self.budget = budget
        self._charges: dict[str, list[Charge]] = {}  # by tag: of each copy that has not ended, the latest last
        self._clock = clock
        self._on_reply = on_reply
        self._on_loss = on_loss
        self._connections = connections
        self._not_processed = not_processed
        self._bans = bans
        self._held: dict[str, int] = {}  # kind of calls that are apart → no further call of it before, monotonic ns
        self._started = 0

    @property
    def has_started(self) -> bool:
        """Return whether any call was started."""
        return self._started > 0

    def is_apart(self, reply: Replied) -> bool:
        """Return whether a reply shows nothing of the account's limits and lanes, whatever it refuses.

        So is the reply of another host, and that to a call with a limit of its own unless it bans the address.
        """
        call = self.pending.get(reply.tag)
        return call is not None and call.is_apart and (call.elsewhere or reply.status not in self._bans)

    def hold(self, tag: str, pause_s: float, now: Instant) -> None:
        """Note that the venue wants no call of a pending call's kind for so many seconds."""
        kind, until_ns = self.pending[tag].kind, now.mono_ns + int(min(pause_s, MAX_PAUSE_S) * 1e9)
        self._held[kind] = max(self._held.get(kind, 0), until_ns)

    def is_held(self, kind: str, now: Instant) -> bool:
        """Return whether the venue wants no call of this kind now, although the account's limits have room."""
        return now.mono_ns < self._held.get(kind, 0)

    def start_call(
        self,
        kind: str,
        build: Build,
        now: Instant,
        *,
        urgent: bool = False,
        cancel: bool = False,
        command: bool = False,
        second_route_after_s: float | None = None,
        give_up_after_s: float | None = None,
        context: Any = None,
        on_loss: LossHandler | None = None,
    ) -> Outputs:
        """Start a call on the warm lane, and return its `Call` and its timer.

        Without an answer after `second_route_after_s` (seconds), a second copy leaves on a fresh connection; after
        `give_up_after_s` the call counts as lost instead. Set at most one of them. `cancel` marks a strike's own
        cancel, and implies `command`; `Call` defines both. `context` becomes the call's `part`. `on_loss` replaces
        the starter's handler for this call.
        """
        twice = second_route_after_s is not None
        call = PendingCall(
            kind,
            build,
            now.mono_ns,
            urgent,
            cancel,
            command or cancel,
            twice,
            second_route_after_s,
            give_up_after_s,
            context,
            on_loss,
            spares=self._connections if twice and urgent else 0,
        )
        return self._start(call, now)

    def start_again(self, call: PendingCall, now: Instant) -> Outputs:
        """Start a refused call again, built and signed again, because the reason of the refusal has been corrected."""
        twice = call.second_route_after_s is not None
        again = replace(
            call,
            asked_ns=now.mono_ns,
            second_route_allowed=twice,
            retries=call.retries + 1,
            copies_pending=1,
            is_only_copy=False,
            spares=self._connections if twice and call.urgent else 0,
            sent=call.copies_pending > 0,  # the venue may still execute another copy of the refused call
        )
        return self._start(again, now)

    def _start(self, call: PendingCall, now: Instant) -> Outputs:
        self._started += 1
        tag = f"{call.kind}#{self._started}"
        self.pending[tag] = call
        copy = self._send_copy(tag, call, Route.HTTP, now)
        wait_s = call.give_up_after_s if call.second_route_after_s is None else call.second_route_after_s
        return copy if wait_s is None or tag not in self.pending else (*copy, WakeAfter(tag, wait_s))

    def forget_commands(self) -> None:
        """Forget every call that changes the account, because the account is armed again; return no facts of them."""
        for tag in [tag for tag, call in self.pending.items() if call.command]:
            del self.pending[tag]

    def end_copies(self, part: object) -> None:
        """Stop further copies of this context's calls, because another answer has made them unnecessary."""
        for call in self.pending.values():
            if call.part is part:
                call.second_route_allowed, call.spares = False, 0

    # events of lanes and timers

    def on_reply(self, reply: Replied, now: Instant) -> Outputs:
        """Process a reply; ignore it if the call is not pending: the other copy was answered first."""
        self._end_copy(reply.tag)
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
        if facts is None:  # such a reply may come from a proxy, and so may its clock
            return self._take_other_route(reply.tag, call, f"HTTP {reply.status} proves nothing", now)
        self.pending.pop(reply.tag, None)
        times = () if call.elsewhere else self._clock.note_reply(reply, now)
        return facts if call.cancel else (*facts, *times)  # after a strike's own call only the facts are urgent

    def on_lost(self, lost: CallLost, now: Instant) -> Outputs:
        """Process the loss of one copy of a call; the loss of the last copy is the loss of the call."""
        charge = self._end_copy(lost.tag)
        if charge is not None and not lost.sent:
            charge.take_back(now)
        call = self.pending.get(lost.tag)
        if call is None:
            return ()
        call.copies_pending -= 1
        call.sent = call.sent or lost.sent
        if lost.spare and call.spares:
            return self._take_spare(lost.tag, call, now)
        return self._take_other_route(lost.tag, call, lost.why, now)

    def _end_copy(self, tag: str) -> Charge | None:
        """Note that a copy has ended, the latest by assumption, and return what it was charged; None: nothing."""
        charges = self._charges.get(tag)
        if charges is None:
            return None
        charge = charges.pop()
        if not charges:
            del self._charges[tag]
        return charge

    def on_timer(self, tag: str, now: Instant) -> Outputs:
        """Process the timer of a pending call: send its second copy, or end the call as lost."""
        call = self.pending[tag]
        if call.give_up_after_s is not None:
            return self._give_up(tag, call, f"no answer within {call.give_up_after_s:g} s", now)
        return self._take_second_route(tag, call, now) if call.second_route_allowed else ()

    # the routes

    def _take_second_route(self, tag: str, call: PendingCall, now: Instant) -> Outputs:
        call.second_route_allowed = False
        call.copies_pending += 1
        return self._send_copy(tag, call, Route.FRESH, now)

    def _take_spare(self, tag: str, call: PendingCall, now: Instant) -> Outputs:
        """Send a copy on another warm connection, because a fresh connection takes three round trips."""
        call.spares -= 1
        call.copies_pending += 1
        return self._send_copy(tag, call, Route.HTTP, now)

    def _take_other_route(self, tag: str, call: PendingCall, why: str, now: Instant) -> Outputs:
        if call.second_route_allowed:
            return self._take_second_route(tag, call, now)
        return () if call.copies_pending > 0 else self._give_up(tag, call, why, now)

    def _give_up(self, tag: str, call: PendingCall, why: str, now: Instant) -> Outputs:
        self.pending.pop(tag, None)
        return (call.on_loss or self._on_loss)(call, why, now)

    def _send_copy(self, tag: str, call: PendingCall, route: Route, now: Instant) -> Outputs:
        try:
            request = call.build(now)
        except Exception as error:  # because whatever waits for the call has to go on
            call.copies_pending -= 1
            why = f"{call.kind}: internal error: {type(error).__name__}"
            return (UnexplainedMessage(why), *self._take_other_route(tag, call, why, now))
        within_s = LATE_WITHIN_S if call.urgent else ANSWER_WITHIN_S
        if request.origin:
            call.elsewhere = call.is_apart = True
            route = Route.FRESH
        else:
            charge = self.budget.charge(request, now, command=call.command)
            call.is_apart = charge.is_apart
            self._charges.setdefault(tag, []).append(charge)
        return (Call(tag, request, route, call.urgent, call.cancel, call.command, within_s),)


def begin_with(first: Request, build: Build) -> Build:
    """Return a builder whose first copy is `first`, which may have left already."""
    copies = [first]
    return lambda now: copies.pop() if copies else build(now)
