"""Fold what the records say of one account in one kill: its part of the kill's report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kill_switch.core.domain import CancelOutcome, Phase, Verdict
from kill_switch.core.order_tracker import MAX_NAMED, OrderTally
from kill_switch.core.records import AnswerRecord, ReadRecord, Sent
from kill_switch.journal.attempts import AttemptHistory


@dataclass(slots=True)
class AccountReport:
    """What one kill did at one account, folded from the records about it."""

    state: Phase = Phase.STRIKING
    answer: CancelOutcome | None = None
    attempts: AttemptHistory = field(default_factory=AttemptHistory)
    clear_us: int | None = None
    proven: bool = False  # clear, and nothing has been seen since
    strikes: int = 0
    struck: int = 0  # the number of the last strike: it counts on from kill to kill, until the re-arm
    tally: OrderTally = field(default_factory=OrderTally)
    claimed: int | None = None  # orders that the venue has said it has cancelled, strike by strike
    left: int | None = None
    evidence: str = ""  # of the last answer
    unproven: str = ""  # why the last read did not show everything
    rearmed: bool = False  # since its last strike in this kill; the state stays what it was

    @property
    def proven_us(self) -> int | None:
        """When it was first proven clear; None while it is not, or not any more."""
        return self.clear_us if self.proven else None

    def to_json(self, *, names: bool = True) -> dict[str, object]:
        """Return every field, for the journal; without `names`, orders are only counted."""
        plain = {name: getattr(self, name) for name in _FIELDS}
        return {**plain, "attempts": self.attempts.to_json(), "tally": self.tally.to_json(names=names)}

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> AccountReport:
        """Read back what `told` has returned; fields of a later version are left out."""
        known = {name: told[name] for name in _FIELDS if name in told}
        account = AccountReport(**known)
        account.state = Phase(account.state)
        if account.state is Phase.ARMED:  # an older version shows a re-arm as the account's state
            account.state, account.rearmed = Phase.CLEAR if account.proven else Phase.RESIDUE, True
        account.answer = None if account.answer is None else CancelOutcome(account.answer)
        if "attempts" in told:
            account.attempts, account.tally = (
                AttemptHistory.from_json(told["attempts"]),
                OrderTally.from_json(told["tally"]),
            )
        else:  # an earlier version has written it: it added up what venues said
            account.attempts, account.claimed = AttemptHistory.from_old_json(told), told["cancelled"]
        return account

    def as_dict(self) -> dict[str, Any]:
        verdict = Verdict.of(Phase.CLEAR if self.proven else self.state, self.answer)
        figures = self.attempts.verdict_fields(verdict)
        return {
            "verdict": verdict,
            "state": self.state,
            "sent_us": figures["sent_us"],
            "answered_us": figures["answered_us"],
            "clear_us": self.proven_us,
            "strikes": self.strikes,
            "routes": figures["routes"],
            "attempts": self.attempts.report_entries(),
            "cancelled": self.tally.cancelled,
            "cancelled_ids": list(self.tally.gone)[:MAX_NAMED] if self.tally.read else [],
            "claimed": self.claimed,
            "left": self.left,
            "evidence": self.evidence if self.proven else self.unproven or self.evidence,
        }

    def on_sent(self, sent: Sent, sent_us: int | None) -> bool:
        """Take one account's part of a strike; return whether it is the first that left in this kill.

        `sent_us` is when its last byte was handed over, since the kill's first reason; None: it was not.
        """
        if sent.orders is not None:
            self.tally.apply(sent.orders)
        again = sent.strike <= self.struck or self.rearmed
        attempt = self.attempts.attempt(sent.strike, max(1, self.strikes if again else self.strikes + 1))
        is_first = self.attempts.on_sent(attempt, sent_us, sent.routes) and sent_us is not None
        if again:
            return is_first  # a second copy of a strike that has been counted, or one that went out too late to matter
        self.strikes, self.struck, self.proven = self.strikes + 1, sent.strike, False
        if self.state is not Phase.RESIDUE:
            self.state = Phase.STRIKING
        return is_first

    def on_answer(self, record: AnswerRecord, at_us: int) -> bool:
        """Take an answer; return whether it is the kill's first that accepts a strike."""
        self._count(record.cancelled, record.orders)
        answer, attempts = record.answer, self.attempts
        if self.state is Phase.STRIKING:
            self.state = Phase.CONFIRMING
        if attempts.is_earlier(record.strike):
            return False
        attempt = attempts.attempt(record.strike, max(1, self.strikes))
        is_first = attempts.on_answered(attempt, answer, at_us, record.evidence)
        if answer is CancelOutcome.UNSENT and (attempts.first is not None or self.answer not in (None, answer)):
            answer = CancelOutcome.UNKNOWN  # this strike never left; an earlier one did
        self.answer = answer
        self.evidence = record.evidence or self.evidence
        return is_first

    def on_read(self, record: ReadRecord) -> None:
        self._count(record.cancelled, record.orders)
        if record.stale:
            return
        seen: int | None = record.live + record.pending
        self.unproven = "" if record.complete else record.evidence
        if record.complete:
            self.tally.on_read(record.live + record.pending)
        else:
            seen = max(record.live + record.pending, self.left or 0) if record.live else self.left
        self.left = seen
        if seen and self.state is Phase.CLEAR:
            self.state, self.proven = Phase.CONFIRMING, False

    def on_seen(self) -> None:
        self.state, self.proven, self.left = Phase.STRIKING, False, max(1, self.left or 0)

    def on_clear(self, at_us: int) -> bool:
        """Take the proof; return whether it is the kill's first."""
        self.state, self.proven, self.left = Phase.CLEAR, True, 0
        is_first = self.clear_us is None
        if is_first:
            self.clear_us = at_us
        return is_first

    def on_residue(self, left: int | None) -> None:
        self.state, self.proven, self.left = Phase.RESIDUE, False, left

    def _count(self, claimed: int | None, orders: Mapping[str, Any] | None) -> None:
        if claimed is not None:
            self.claimed = (self.claimed or 0) + claimed
        if orders is not None:
            self.tally.apply(orders)


_FIELDS = tuple(one.name for one in fields(AccountReport) if one.name not in ("attempts", "tally"))
