"""The strikes on one account in one kill, as attempts, and the attempt whose figures the report shows. Pure.

An attempt is answered once the venue has accepted its cancel. An attempt that was refused, or whose answer was lost,
is shown among the attempts, and sets no time of an answer.

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

KEPT_FIRST, KEPT_LAST = 4, 8  # how many of an account's first and last attempts are kept


@dataclass(slots=True)
class Attempt:
    """A strike; times are in microseconds since the kill's first reason was observed."""

    number: int  # of the strike in records: counts on from kill to kill until the re-arm; negative after it
    strike: int  # of the strike in the report: from 1 in each kill
    sent_us: int | None = None  # when the last byte was handed over
    answered_us: int | None = None  # when the venue accepted or refused
    answer: CancelOutcome | None = None
    routes: list[str] = field(default_factory=list)
    evidence: str = ""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Attempt:
        """Read the result of `asdict`."""
        answer = None if data["answer"] is None else CancelOutcome(data["answer"])
        figures = data["sent_us"], data["answered_us"]
        return Attempt(data["number"], data["strike"], *figures, answer, list(data["routes"]), data["evidence"])


class AttemptHistory:
    """The strikes on one account in one kill: the first, the last, and those that verdicts depend on."""

    def __init__(self) -> None:
        """Begin without attempts."""
        self.first: Attempt | None = None  # the first attempt that was sent
        self.accepted: Attempt | None = None  # the first attempt that was accepted
        self.refused: Attempt | None = None  # the last attempt that was refused
        self._kept: list[Attempt] = []

    def attempt(self, number: int, strike: int) -> Attempt:
        """Return the attempt with this record number; a new attempt has the report's number `strike`."""
        if self._kept and self._kept[-1].number == number:  # mostly the last strike's
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
        """Return whether the strike of this number belongs to an earlier kill and was answered late."""
        return self.first is not None and number < self.first.number

    def on_rearmed(self) -> None:
        """Make the attempts' numbers negative, because strikes are numbered from 1 again after a re-arm.

        Each number stays unique. Two attempts have the same number in the report if an earlier kill's strike left late.
        """
        attempts: list[Attempt] = []
        for attempt in (*self._kept, self.first, self.accepted, self.refused):
            if attempt is not None and all(attempt is not known for known in attempts):
                attempts.append(attempt)
        for position, attempt in enumerate(attempts, 1):
            attempt.number = -position

    def on_sent(self, attempt: Attempt, sent_us: int | None, routes: Sequence[str]) -> bool:
        """Add a copy of a strike's command that was sent; return whether it is the kill's first."""
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
        """Set the answer to a strike; return whether it is the first acceptance of the kill."""
        if attempt.answer is CancelOutcome.ACCEPTED:
            return False  # the answer to another copy of the command changes nothing
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
        """Return `sent_us`, `answered_us` and `routes` for a verdict, by the table in the module's docstring."""
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
        """Return the kept attempts for a report, in their order."""
        return [{key: value for key, value in asdict(attempt).items() if key != "number"} for attempt in self._kept]

    def to_json(self) -> dict[str, object]:
        """Return every attempt in JSON's plain values, for a checkpoint."""
        bearers = {"first": self.first, "accepted": self.accepted, "refused": self.refused}
        return {
            "kept": [asdict(attempt) for attempt in self._kept],
            **{name: attempt and asdict(attempt) for name, attempt in bearers.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> AttemptHistory:
        """Read the result of `to_json`."""
        attempts = AttemptHistory()
        attempts._kept = [Attempt.from_json(item) for item in data["kept"]]
        for name in ("first", "accepted", "refused"):
            if data[name] is not None:
                setattr(attempts, name, attempts._same(Attempt.from_json(data[name])))
        return attempts

    @staticmethod
    def from_old_json(data: Mapping[str, Any]) -> AttemptHistory:
        """Read the account's state of an earlier version, which kept one set of figures."""
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
