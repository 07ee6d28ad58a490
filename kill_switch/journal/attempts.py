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
    def from_json(data: Mapping[str, Any]) -> Attempt:
        """Read back what `asdict` has made of one."""
        answer = None if data["answer"] is None else CancelOutcome(data["answer"])
        figures = data["sent_us"], data["answered_us"]
        return Attempt(data["number"], data["strike"], *figures, answer, list(data["routes"]), data["evidence"])


class AttemptHistory:
    """The strikes on one account in one kill: the first and the last ones, and those that verdicts rest on."""

    def __init__(self) -> None:
        self.first: Attempt | None = None  # that left
        self.accepted: Attempt | None = None  # the first one
        self.refused: Attempt | None = None  # the last one
        self._kept: list[Attempt] = []

    def attempt(self, number: int, strike: int) -> Attempt:
        """Return the attempt of this number; a new one is the report's `strike`."""
        if self._kept and self._kept[-1].number == number:  # the last strike's, mostly
            return self._kept[-1]
        for known in (*reversed(self._kept), self.accepted, self.first):
            if known is not None and known.number == number:
                return known
        added = Attempt(number, strike)
        self._kept.append(added)
        if len(self._kept) > KEPT_FIRST + KEPT_LAST:
            del self._kept[KEPT_FIRST]
        return added

    def is_earlier(self, number: int) -> bool:
        """Tell whether a strike belongs to an earlier kill, which was over before the venue answered it."""
        return self.first is not None and number < self.first.number

    def on_rearmed(self) -> None:
        """Take note of a re-arm: strikes are numbered from one again, and no answer to these comes any more."""
        for attempt in (*self._kept, self.first, self.accepted, self.refused):
            if attempt is not None:
                attempt.number = -attempt.strike

    def on_sent(self, attempt: Attempt, sent_us: int | None, routes: Sequence[str]) -> bool:
        """Take note that a copy of a strike's command has left; return whether it is the kill's first."""
        for route in routes:
            if route not in attempt.routes:
                attempt.routes.append(route)
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
        return [{key: value for key, value in asdict(attempt).items() if key != "number"} for attempt in self._kept]

    def to_json(self) -> dict[str, object]:
        """Return all of it in JSON's own values."""
        bearers = {"first": self.first, "accepted": self.accepted, "refused": self.refused}
        return {
            "kept": [asdict(attempt) for attempt in self._kept],
            **{name: attempt and asdict(attempt) for name, attempt in bearers.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> AttemptHistory:
        """Read back what `told` has returned."""
        attempts = AttemptHistory()
        attempts._kept = [Attempt.from_json(item) for item in data["kept"]]
        for name in ("first", "accepted", "refused"):
            if data[name] is not None:
                setattr(attempts, name, attempts._same(Attempt.from_json(data[name])))
        return attempts

    @staticmethod
    def from_old_json(data: Mapping[str, Any]) -> AttemptHistory:
        """Make one of what earlier versions have kept: one set of figures, of whatever came first."""
        attempts = AttemptHistory()
        if data["sent_us"] is None and data["answered_us"] is None:
            return attempts
        answer = None if data["answered_us"] is None else CancelOutcome.ACCEPTED
        attempt = Attempt(data["struck"], 1, data["sent_us"], data["answered_us"], answer, list(data["routes"]))
        attempts._kept, attempts.first = [attempt], attempt
        attempts.accepted = attempt if answer else None
        return attempts

    def _same(self, attempt: Attempt) -> Attempt:
        return next((kept for kept in self._kept if kept.number == attempt.number), attempt)
