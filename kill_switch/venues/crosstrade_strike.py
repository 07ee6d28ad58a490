"""Carry a strike at CrossTrade out: a frame for each NT account, its REST twin where that is not answered.

Several accounts are one strike, and have one answer. § numbers are crosstrade.md of the venue notes's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from kill_switch.domain import Answer, Now
from kill_switch.venues.base import Ask, Asks, CancelAnswered, Noise, Output, Outputs, Prepare, Send, WakeAfter
from kill_switch.venues.crosstrade_answers import Said
from kill_switch.venues.crosstrade_choice import READ_KEEPS, SLACK, Choice
from kill_switch.venues.crosstrade_wire import Wire, path_of, rpc_frame

CANCEL = "CancelOrders"  # all of an NT account's
SECONDS_PER_S = 2.0  # second copies beyond the bucket go that often: the rest of the refill is for reads
SILENT_S = 0.5  # not one reply by then: the frames have not arrived, nor cost anything
SETTLE_S = 1.0  # the REST twin did not work: that much longer for the WebSocket's reply


@dataclass(slots=True, eq=False)
class Strike:
    """One strike: the NT accounts in it, those that the tokens did not reach, and what was said so far."""

    accounts: tuple[str, ...]
    waiting: tuple[str, ...]
    heard: bool = False  # a reply came over the WebSocket
    said: dict[str, Said] = field(default_factory=dict)

    def answer(self) -> tuple[CancelAnswered, ...]:
        """Make one answer of all accounts', once they are there: accepted only if every one of them was."""
        if len(self.said) < len(self.accounts):
            return ()
        answers = [self.said[name] for name in self.accounts]
        if len(self.accounts) + len(self.waiting) == 1:
            [only] = answers
            accepted = only.answer is Answer.ACCEPTED
            return (CancelAnswered(only.answer, only.words, only.cancelled if accepted else None),)
        short = [name for name in self.accounts if self.said[name].answer is not Answer.ACCEPTED]
        if not short and not self.waiting:
            total = _sum(one.cancelled for one in answers)
            words = "accepted" if total is None else f"{total} order(s) named as cancelled"
            return (CancelAnswered(Answer.ACCEPTED, f"{len(answers)} NT accounts: {words}", total),)
        told = [f"not accepted for {', '.join(short)}: {self.said[short[0]].words}"] if short else []
        if self.waiting:
            told.append(f"left out, as tokens are short: {', '.join(self.waiting)}")
        return (CancelAnswered(_worst({one.answer for one in answers}), "; ".join(told)),)


@dataclass(slots=True, eq=False)
class Part:
    """One NT account's part of a strike."""

    strike: Strike
    account: str
    id: str
    conn: int | None = None  # the connection that may still answer
    framed: bool = False  # a frame may have left
    asked: bool = False  # the REST twin is on its way, or was
    over: bool = False  # nothing more will be heard of that
    said: Said | None = None  # so far, short of a yes
    settled: bool = False

    def settle(self, said: Said | None) -> tuple[CancelAnswered, ...]:
        """Take the last word on this account; the strike's answer, if it was the last account."""
        self.settled = True
        self.strike.said[self.account] = said or Said(Answer.UNKNOWN, "no answer")
        return self.strike.answer()


def _worst(answers: set[Answer]) -> Answer:
    if Answer.REFUSED in answers:
        return Answer.REFUSED
    return Answer.UNSENT if answers == {Answer.UNSENT} else Answer.UNKNOWN


def _sum(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


class Strikes:
    """Carry strikes out, one after the other; `settled` is told of each account whose cancel has its last word."""

    def __init__(
        self,
        wire: Wire,
        accounts: tuple[str, ...],
        choice: Choice,
        ask: Asks,
        settled: Callable[[str, Now], None],
        hedge_after_s: Callable[[], float],
    ) -> None:
        self.cancels = {name: wire.request("POST", f"{path_of(name)}/orders/cancel") for name in accounts}
        for request in self.cancels.values():
            _ = request.wire  # made now, so that the kill only writes
        self._wire = wire
        self._accounts = accounts
        self._choice = choice
        self._ask = ask
        self._settled = settled
        self._hedge_after_s = hedge_after_s
        self._parts: dict[str, Part] = {}  # of strikes that are not answered yet, by the id of their RPC
        self._latest = Strike((), ())
        self._count = 0
        self._next: Send | None = None  # what the next strike would begin with
        self._first: Send | None = None  # what it has begun with

    def void(self) -> None:
        """Drop the strikes that are under way: no twin of theirs leaves any more, whatever comes, or does not."""
        self._parts.clear()
        self._latest = Strike((), ())

    def first(self) -> Send | None:
        """Return the first frame of a strike that takes every account, and take it for sent."""
        conn = self._wire.newest
        if conn is None:
            return None
        if self._next is None or self._next.conn != conn:
            self.prepare(conn)
        self._first = self._next
        return self._first

    def prepare(self, conn: int) -> Prepare:
        """Make what the next strike would begin with."""
        text = rpc_frame(CANCEL, {"account": self._accounts[0]}, f"k{self._count + 1}-0")
        self._next = Send(conn, text, command=True)
        return Prepare(conn, text)

    def strike(self, chosen: tuple[str, ...], closing: Collection[str], singles: list[str], now: Now) -> Outputs:
        """Strike these accounts, and these orders; of the others, those are told of whose positions are not closing."""
        first, self._first = self._first, None
        if first is not None and chosen != self._accounts:
            first, self._count = None, self._count + 1  # it has an id of its own, and whoever answers it is not heard
        self._count += 1
        self._next = None
        left_out = [name for name in self._accounts if name not in chosen and name not in closing]
        strike = self._latest = Strike(chosen, tuple(left_out))
        parts = [Part(strike, name, f"k{self._count}-{number}") for number, name in enumerate(chosen)]
        conn = self._wire.newest
        outputs: list[Output] = []
        for part in parts if conn is not None else ():
            part.conn, part.framed = conn, True
            self._parts[part.id] = part
            if first is not None and part is parts[0]:
                self._wire.bucket.spend(now)
                outputs.append(first)
                continue
            args = {"account": part.account}
            outputs.append(self._wire.rpc(conn or 0, part.id, CANCEL, args, now))
        if conn is None:
            self._wire.bucket.spend(now, len(parts))  # known before the second copies are timed
        left = self._wire.bucket.left(now) - len(singles)
        wait_s = 0.0
        for number, part in enumerate(parts):  # a second copy only when a token is there for it
            wait_s = self._hedge_after_s() + max(0.0, (number + 1 + READ_KEEPS - left) / SECONDS_PER_S)
            if conn is not None:
                outputs.append(WakeAfter(f"hedge {part.id}", wait_s))
            else:
                outputs.extend(self._twin(part, now, wait_s, paid=True))
        if conn is not None and wait_s > SILENT_S:
            outputs.append(WakeAfter(f"silent {parts[0].id}", SILENT_S))
        for one in singles:
            outputs.extend(self._single(one, conn, now))
        if conn is not None:
            outputs.append(self.prepare(conn))
        if not chosen:
            rest = f"{len(singles)} other order(s) are cancelled by their ids" if singles else "nothing else is left"
            outputs.append(CancelAnswered(Answer.ACCEPTED, f"what closes positions is not disturbed; {rest}"))
        return tuple(outputs)

    def _single(self, one: str, conn: int | None, now: Now) -> Outputs:
        account = self._choice.owner(one)
        if conn is not None:
            args = {"account": account, "orderId": one}
            return (self._wire.rpc(conn, f"one {one}", "Cancel", args, now),)
        request = self._wire.request("POST", single_target(account, one))
        return self._ask("cancel-one", self._wire.paid(request), now, urgent=True, command=True)

    def _twin(self, part: Part, now: Now, again_s: float, *, paid: bool = False) -> Outputs:
        """Send the REST twin of an account's cancel, once."""
        if part.asked:
            return ()
        part.asked = True
        build = self._wire.paid(self.cancels[part.account], paid=paid)
        return self._ask("cancel", build, now, urgent=True, cancel=True, hedge_after_s=again_s, context=part)

    # what comes back

    def replied(self, conn: int, tag: str, said: Said | None, now: Now) -> Outputs | None:
        """Take a reply over the WebSocket; None if it is not a strike's."""
        if tag.startswith("one "):
            return one_said(said)
        part = self._parts.get(tag)
        return None if part is None or part.conn != conn else self._frame_said(part, said, now)

    def _frame_said(self, part: Part, said: Said | None, now: Now) -> Outputs:
        """Take the WebSocket's reply: what is not a yes has the REST twin tried, unless it leads to the same no."""
        part.conn, part.strike.heard = None, True
        if said is not None:
            if said.answer is Answer.ACCEPTED or said.offline:
                return self._settle(part, said, now)
            part.said = said
            if said.limited and not part.asked:
                return ()  # the timer that is set brings the twin when there is a token for it
        if part.over:
            return self._settle(part, part.said, now)
        return self._twin(part, now, self._hedge_after_s())

    def twin_said(self, ask: Ask, said: Said | None, now: Now) -> Outputs | None:
        """Take the REST twin's answer; None if another route should be heard."""
        if said is not None and said.cancelled == 0 and (ask.context.framed or not ask.hedge):
            said = said._replace(cancelled=None)  # another copy may have cancelled what this one did not find
        return None if said is None else self._over(ask.context, said, now)

    def twin_lost(self, ask: Ask, why: str, now: Now) -> Outputs:
        part: Part = ask.context
        answer = Answer.UNKNOWN if ask.sent or part.framed else Answer.UNSENT
        return self._over(part, Said(answer, why), now, lost=True)

    def _over(self, part: Part, said: Said, now: Now, *, lost: bool = False) -> Outputs:
        """End the REST twin; while the WebSocket may still say yes, a no is not the last word."""
        part.over = True
        if part.settled:
            return ()
        if said.answer is not Answer.ACCEPTED and part.conn is not None:
            part.said = said
            return (WakeAfter(f"settle {part.id}", SETTLE_S),)
        return self._settle(part, part.said if lost and part.said is not None else said, now)

    def _settle(self, part: Part, said: Said | None, now: Now) -> Outputs:
        self._parts.pop(part.id, None)
        self._settled(part.account, now)
        return part.settle(said)

    def closed(self, conn: int, now: Now) -> Outputs:
        """Take note that a connection is gone, and what was sent over it unanswered."""
        outputs: list[Output] = []
        allowed = max(1, int(self._wire.bucket.left(now)) + SLACK)
        for part in [part for part in self._parts.values() if part.conn == conn]:
            part.conn = None
            if part.over or self._again(part):
                outputs.extend(self._settle(part, part.said, now))
            elif not part.asked and (allowed > 0 or not part.strike.heard):  # the others' timers are set
                allowed -= 1
                outputs.extend(self._twin(part, now, self._hedge_after_s()))
        return tuple(outputs)

    def woke(self, what: str, tag: str, now: Now) -> Outputs:
        part = self._parts.get(tag)
        if part is None:
            return ()
        if what == "settle":
            return self._settle(part, part.said, now)
        again_s = max(self._hedge_after_s(), 1 / SECONDS_PER_S)
        if what == "silent":
            strike = part.strike
            mute = [one for one in self._parts.values() if one.strike is strike and not strike.heard]
            return tuple(output for one in mute for output in self._twin(one, now, again_s))
        return self._settle(part, part.said, now) if self._again(part) else self._twin(part, now, again_s)

    def _again(self, part: Part) -> bool:
        """Say whether a later strike has the account too: a twin would cost that one a token."""
        return not part.asked and part.strike is not self._latest and part.account in self._latest.accounts


def one_said(said: Said | None) -> Outputs:
    """Take the answer to the cancel of one order: it is an extra, and what rests is read back."""
    if said is None or said.answer is not Answer.REFUSED:
        return ()
    return (Noise(f"cancel of one order refused: {said.words}"),)


def single_target(account: str, order: str) -> str:
    return f"{path_of(account)}/orders/{order}/cancel"
