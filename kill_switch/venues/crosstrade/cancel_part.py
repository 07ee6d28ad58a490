"""The state of one CrossTrade strike: its NT accounts' cancels, their replies, and the answer made of them.

`strike` creates and changes these objects; nothing here sends. The kit's tally does not serve, because the answer names
the NT accounts that have not accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kill_switch.core.domain import CancelOutcome, Instant
from kill_switch.venues.crosstrade.replies import named_orders
from kill_switch.venues.kit.calls import PendingCall
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.kit.strike_tally import outcome_of
from kill_switch.venues.messages import CancelAnswered, Outputs, Replied

if TYPE_CHECKING:
    from kill_switch.venues.crosstrade.strike import CrossTradeStriker


@dataclass(slots=True, eq=False)
class CrossTradeStrike:
    """A strike: the NT accounts that it cancels account-wide, and the final answer of each so far."""

    accounts: tuple[str, ...]
    made_ns: int = 0  # monotonic
    answered_over_ws: bool = False  # a reply has come over the WebSocket
    short: bool = False  # a cancel was refused for want of tokens: cancels that are not sent yet go into the queue
    answers: dict[str, CancelAnswered] = field(default_factory=dict)

    def answer(self) -> tuple[CancelAnswered, ...]:
        """Return the strike's one answer once every account has one; ACCEPTED only if every account's is."""
        if len(self.answers) < len(self.accounts):
            return ()
        answers = [self.answers[name] for name in self.accounts]
        if len(answers) == 1:
            return (answers[0],)
        short = [name for name in self.accounts if self.answers[name].answer is not CancelOutcome.ACCEPTED]
        if not short:
            counts = [answer.cancelled for answer in answers if answer.cancelled is not None]
            total = sum(counts) if len(counts) == len(answers) else None
            words = "accepted" if total is None else f"{total} order(s) named as cancelled"
            return (CancelAnswered(CancelOutcome.ACCEPTED, f"{len(answers)} NT accounts: {words}", total),)
        text = f"not accepted for {', '.join(short)}: {self.answers[short[0]].evidence}"
        return (CancelAnswered(_worst({answer.answer for answer in answers}), text),)


@dataclass(slots=True, eq=False)
class CancelPart:
    """A single cancel of a strike: of all orders of an NT account, or of one order by its id.

    It waits for the reply to its frame, and for the reply to its REST twin.
    """

    striker: CrossTradeStriker
    strike: CrossTradeStrike
    account: str
    id: str  # the id of its RPC
    order: str = ""  # the order that is cancelled; "": all of the account's
    rank: int = 0  # in the queue: the lower goes first
    conn: int | None = None  # the connection whose reply may still come
    framed: bool = False  # its frame may have been sent
    twin_started: bool = False
    from_queue: bool = False  # it was sent from the queue
    twin_ended: bool = False  # the REST twin is answered or lost
    alone: bool = True  # no other copy may have cancelled orders that the replying copy did not find
    last: Reply | None = None  # the latest reply that was not final
    unsent: Reply | None = None  # the loss of its twin, if provably no byte was sent
    settled: bool = False  # its final reply is known

    @property
    def target(self) -> str:
        """The key of the cancel in the queue: its account and its order."""
        return f"{self.account} {self.order}"

    @property
    def must_wait(self) -> bool:
        """Whether its request, if it is not sent yet, must wait in the queue."""
        return self.strike.short and not self.from_queue

    def on_frame_reply(self, reply: Reply, now: Instant) -> Outputs:
        self.alone = not self.twin_started
        return self.striker.on_frame_reply(self, reply, now)

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        self.alone = not self.framed and call.second_route_allowed
        return self.striker.on_twin_reply(self, reply, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return self.striker.on_twin_loss(self, why, now, sent=call.sent)

    def answer(self, reply: Reply) -> CancelAnswered:
        """Return the answer that the final reply makes."""
        if reply is self.unsent:
            return CancelAnswered(CancelOutcome.UNSENT, reply.evidence)
        named = named_orders(reply)
        count = None if named is None or not (named or self.alone) else len(named)
        return CancelAnswered(outcome_of(reply), reply.evidence, count)


def _worst(answers: set[CancelOutcome]) -> CancelOutcome:
    if CancelOutcome.REFUSED in answers:
        return CancelOutcome.REFUSED
    return CancelOutcome.UNSENT if answers == {CancelOutcome.UNSENT} else CancelOutcome.UNKNOWN
