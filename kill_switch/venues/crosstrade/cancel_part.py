"""The state of one CrossTrade strike: its NT accounts' cancels, their replies, and the answer made of them.

`strike` creates and changes these objects; nothing here sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kill_switch.core.domain import CancelOutcome
from kill_switch.venues.crosstrade.replies import CancelReply
from kill_switch.venues.messages import CancelAnswered


@dataclass(slots=True, eq=False)
class CrossTradeStrike:
    """A strike: the NT accounts that it cancels account-wide, and the final reply of each so far."""

    accounts: tuple[str, ...]
    made_ns: int = 0  # monotonic
    answered_over_ws: bool = False  # a reply has come over the WebSocket
    short: bool = False  # a cancel was refused for want of tokens: cancels that are not sent yet go into the queue
    replies: dict[str, CancelReply] = field(default_factory=dict)

    def answer(self) -> tuple[CancelAnswered, ...]:
        """Return the strike's one answer once every account has a reply; ACCEPTED only if every reply is."""
        if len(self.replies) < len(self.accounts):
            return ()
        answers = [self.replies[name] for name in self.accounts]
        if len(self.accounts) == 1:
            [only] = answers
            accepted = only.answer is CancelOutcome.ACCEPTED
            return (CancelAnswered(only.answer, only.words, only.cancelled if accepted else None),)
        short = [name for name in self.accounts if self.replies[name].answer is not CancelOutcome.ACCEPTED]
        if not short:
            total = _sum(reply.cancelled for reply in answers)
            words = "accepted" if total is None else f"{total} order(s) named as cancelled"
            return (CancelAnswered(CancelOutcome.ACCEPTED, f"{len(answers)} NT accounts: {words}", total),)
        text = f"not accepted for {', '.join(short)}: {self.replies[short[0]].words}"
        return (CancelAnswered(_worst({reply.answer for reply in answers}), text),)


@dataclass(slots=True, eq=False)
class CancelPart:
    """A single cancel of a strike: of all orders of an NT account, or of one order by its id."""

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
    reply: CancelReply | None = None  # the latest reply that was not final
    settled: bool = False  # its final reply is known

    @property
    def target(self) -> str:
        """The key of the cancel in the queue: its account and its order."""
        return f"{self.account} {self.order}"


def _worst(answers: set[CancelOutcome]) -> CancelOutcome:
    if CancelOutcome.REFUSED in answers:
        return CancelOutcome.REFUSED
    return CancelOutcome.UNSENT if answers == {CancelOutcome.UNSENT} else CancelOutcome.UNKNOWN


def _sum(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
