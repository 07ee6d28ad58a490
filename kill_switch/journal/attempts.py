"""Keep the strikes on one account in one kill as attempts, and choose the one whose figures stand beside the verdict.

`report` folds records into it. An attempt is answered once the venue has accepted its cancel. One that was refused, or
whose answer was lost, is shown among the attempts, and gives no account a time of an answer.

    verdict                      `sent_us` and `routes` are those of       `answered_us`
    CONFIRMED                    the first strike that was accepted,       when that was accepted
                                 or, if none was, the first that left      null
    UNKNOWN                      the same two                              the same two
    REFUSED                      the strike that was refused last          null
    UNSENT                       none                                      null
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kill_switch.core.domain import CancelOutcome, Verdict

KEPT_FIRST, KEPT_LAST = 4, 8  # attempts that are kept of an account's first ones and of its last ones


@dataclass(slots=True)
class Attempt:
    """One strike; times in microseconds since the kill's first reason was observed."""

    number: int  # as records number strikes: on from kill to kill, until the re-arm; below 0: before that
    strike: int  # as the report counts them: from 1 in each kill
    sent_us: int | None = None
    answered_us: int | None = None  # when the venue said yes or no
    answer: CancelOutcome | None = None
    routes: list[str] = field(default_factory=list)
    evidence: str = ""

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> Attempt:
        """Read back what `asdict` has made of one."""
        answer = None if told["answer"] is None else CancelOutcome(told["answer"])
        figures = told["sent_us"], told["answered_us"]
        return Attempt(told["number"], told["strike"], *figures, answer, list(told["routes"]), told["evidence"])


class AttemptHistory:
    """The strikes on one account in one kill: the first and the last ones, and those that verdicts rest on."""

    def __init__(self) -> None:
        self.first: Attempt | None = None  # that left
        self.accepted: Attempt | None = None  # the first one
        self.refused: Attempt | None = None  # the last one
        self._kept: list[Attempt] = []

    def attempt(self, number: int, strike: int) -> Attempt:
        """Return the attempt of this number; a new one is the report's `strike`."""
        for one in (*reversed(self._kept), self.accepted, self.first):
            if one is not None and one.number == number:
                return one
        made = Attempt(number, strike)
        self._kept.append(made)
        if len(self._kept) > KEPT_FIRST + KEPT_LAST:
            del self._kept[KEPT_FIRST]
        return made

    def is_earlier(self, number: int) -> bool:
        """Tell whether a strike belongs to an earlier kill, which was over before the venue answered it."""
        return self.first is not None and number < self.first.number

    def on_rearmed(self) -> None:
        """Take note of a re-arm: strikes are numbered from one again, and no answer to these comes any more."""
        for one in (*self._kept, self.first, self.accepted, self.refused):
            if one is not None:
                one.number = -one.strike

    def on_sent(self, attempt: Attempt, sent_us: int | None, routes: Sequence[str]) -> bool:
        """Take note that a copy of a strike's command has left; return whether it is the kill's first."""
        attempt.routes.extend(route for route in routes if route not in attempt.routes)
        if attempt.sent_us is None:
            attempt.sent_us = sent_us
        if self.first is not None or attempt.sent_us is None:
            return False
        self.first = attempt
        return True

    def on_answered(self, attempt: Attempt, answer: CancelOutcome, at_us: int, evidence: str) -> bool:
        """Take the answer to a strike; return whether it is the first that is accepted."""
        if attempt.answer is CancelOutcome.ACCEPTED:
            return False  # what another copy of it has come to changes nothing
        attempt.answer, attempt.evidence = answer, evidence
        if answer in (CancelOutcome.ACCEPTED, CancelOutcome.REFUSED):
            attempt.answered_us = at_us
        if answer is CancelOutcome.REFUSED:
            self.refused = attempt
        if answer is not CancelOutcome.ACCEPTED or self.accepted is not None:
            return False
        self.accepted = attempt
        return True

    def verdict_fields(self, verdict: Verdict) -> dict[str, object]:
        """Return what the report says of the attempt that the verdict rests on."""
        match verdict:
            case Verdict.REFUSED:
                bearer = self.refused
            case Verdict.UNSENT:
                bearer = None
            case _:
                bearer = self.accepted or self.first
        if bearer is None:
            return {"sent_us": None, "answered_us": None, "routes": []}
        answered_us = bearer.answered_us if bearer.answer is CancelOutcome.ACCEPTED else None
        return {"sent_us": bearer.sent_us, "answered_us": answered_us, "routes": list(bearer.routes)}

    def report_entries(self) -> list[dict[str, object]]:
        """Return the attempts for a report, in their order."""
        return [{key: value for key, value in asdict(one).items() if key != "number"} for one in self._kept]

    def to_json(self) -> dict[str, object]:
        """Return all of it in JSON's own values."""
        bearers = {"first": self.first, "accepted": self.accepted, "refused": self.refused}
        return {
            "kept": [asdict(one) for one in self._kept],
            **{name: one and asdict(one) for name, one in bearers.items()},
        }

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> AttemptHistory:
        """Read back what `told` has returned."""
        attempts = AttemptHistory()
        attempts._kept = [Attempt.from_json(one) for one in told["kept"]]
        for name in ("first", "accepted", "refused"):
            if told[name] is not None:
                setattr(attempts, name, attempts._same(Attempt.from_json(told[name])))
        return attempts

    @staticmethod
    def from_old_json(told: Mapping[str, Any]) -> AttemptHistory:
        """Make one of what earlier versions have kept: one set of figures, of whatever came first."""
        attempts = AttemptHistory()
        if told["sent_us"] is None and told["answered_us"] is None:
            return attempts
        answer = None if told["answered_us"] is None else CancelOutcome.ACCEPTED
        one = Attempt(told["struck"], 1, told["sent_us"], told["answered_us"], answer, list(told["routes"]))
        attempts._kept, attempts.first = [one], one
        attempts.accepted = one if answer else None
        return attempts

    def _same(self, attempt: Attempt) -> Attempt:
        return next((one for one in self._kept if one.number == attempt.number), attempt)
