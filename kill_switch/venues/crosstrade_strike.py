"""Keep what is scarce at CrossTrade, tokens and the one WebSocket, and what a strike on several accounts has heard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kill_switch.domain import Answer, Now
from kill_switch.venues.base import CancelAnswered
from kill_switch.venues.crosstrade_answers import Said

BURST = 20.0  # tokens of one user, REST and WebSocket together (crosstrade.md §3)
PER_S = 3.0
DRAINED_S = 5.0  # the longest that a Retry-After is believed for: the kill asks again before that anyway
AWAY_S = 30.0  # off the WebSocket after another session took it; twice as long each time
AWAY_MOST_S = 3600.0
STEADY_S = 600.0  # a session that lasted this long was not part of a fight


class Bucket:
    """The user's tokens, as far as we can know: others may use them too, and the venue says so when they are gone."""

    __slots__ = ("_at_ns", "_level")

    def __init__(self) -> None:
        self._level = BURST
        self._at_ns = 0

    def left(self, now: Now) -> float:
        return min(BURST, self._level + max(0, now.mono_ns - self._at_ns) * PER_S / 1e9)

    def spend(self, now: Now, tokens: int = 1) -> None:
        left = self.left(now)
        self._level = min(left, max(0.0, left - tokens))  # a request that is refused costs nothing
        self._at_ns = now.mono_ns

    def drain(self, now: Now, retry_after: str = "") -> None:
        """Believe the venue that nothing is left, and for how long."""
        wait_s = min(float(retry_after), DRAINED_S) if retry_after.isascii() and retry_after.isdigit() else 0.0
        self._level = min(self.left(now), 0.0, 1 - wait_s * PER_S)
        self._at_ns = now.mono_ns


class Slot:
    """The user's one WebSocket session (§6): two programs that reconnect at once would fight for it for ever."""

    __slots__ = ("_fights", "_until_ns")

    def __init__(self) -> None:
        self._fights = 0
        self._until_ns = 0

    def lost(self, since_ns: int, now: Now) -> float:
        """Leave it to whoever took it; return for how many seconds. `since_ns`: when we had got it."""
        if now.mono_ns - since_ns >= STEADY_S * 1e9:
            self._fights = 0
        away_s = min(AWAY_MOST_S, AWAY_S * (1 << self._fights))
        self._fights = min(self._fights + 1, 10)
        self._until_ns = now.mono_ns + int(away_s * 1e9)
        return away_s

    def left_s(self, now: Now) -> float:
        """Return for how long we still stay away; 0 or less: not any more."""
        return (self._until_ns - now.mono_ns) / 1e9


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
