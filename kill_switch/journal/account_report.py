"""Fold the records of one account in one kill into its part of the kill's report. Pure."""

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
    """The effect of one kill on one account, folded from the account's records."""

    state: Phase = Phase.STRIKING
    answer: CancelOutcome | None = None
    attempts: AttemptHistory = field(default_factory=AttemptHistory)
    clear_us: int | None = None
    proven: bool = False  # proven clear, and no order was seen since
    strikes: int = 0  # in this kill
    struck: int = 0  # number of the last strike; counts on from kill to kill until the re-arm
    tally: OrderTally = field(default_factory=OrderTally)
    claimed: int | None = None  # orders that the venue reports as cancelled, summed over the strikes
    left: int | None = None  # orders that the last read showed
    evidence: str = ""  # of the last answer
    unproven: str = ""  # why the last read was incomplete
    rearmed: bool = False  # re-armed since the last strike of this kill; `state` is not changed by that

    @property
    def proven_us(self) -> int | None:
        """When the account was first proven clear, in µs; None while it is not clear."""
        return self.clear_us if self.proven else None

    def to_json(self, *, names: bool = True) -> dict[str, object]:
        """Return every field in JSON's plain values; without `names`, orders are only counted."""
        plain = {name: getattr(self, name) for name in _FIELDS}
        return {**plain, "attempts": self.attempts.to_json(), "tally": self.tally.to_json(names=names)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> AccountReport:
        """Read the result of `to_json`; fields of a later version are left out."""
        known = {name: data[name] for name in _FIELDS if name in data}
        account = AccountReport(**known)
        account.state = Phase(account.state)
        if account.state is Phase.ARMED:  # earlier versions wrote a re-arm as the state ARMED
            account.state, account.rearmed = Phase.CLEAR if account.proven else Phase.RESIDUE, True
        account.answer = None if account.answer is None else CancelOutcome(account.answer)
        if "attempts" in data:
            account.attempts, account.tally = (
                AttemptHistory.from_json(data["attempts"]),
                OrderTally.from_json(data["tally"]),
            )
        else:  # earlier versions summed the venues' claims in `cancelled`
            account.attempts, account.claimed = AttemptHistory.from_old_json(data), data["cancelled"]
        return account

    def as_dict(self) -> dict[str, Any]:
        """Return the account's part of `report --json`."""
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
        """Apply the account's part of a strike; return whether it is the first that was sent in this kill.

        `sent_us` is when the last byte was handed over, in µs since the kill's first reason; None: it was not sent.
        """
        if sent.orders is not None:
            self.tally.apply(sent.orders)
        again = sent.strike <= self.struck or self.rearmed
        attempt = self.attempts.attempt(sent.strike, max(1, self.strikes if again else self.strikes + 1))
        is_first = self.attempts.on_sent(attempt, sent_us, sent.routes) and sent_us is not None
        if again:
            return is_first  # a second copy of a counted strike, or a strike that was sent after the re-arm
        self.strikes, self.struck, self.proven = self.strikes + 1, sent.strike, False
        if self.state is not Phase.RESIDUE:
            self.state = Phase.STRIKING
        return is_first

    def on_answer(self, record: AnswerRecord, at_us: int) -> bool:
        """Apply an answer; return whether it is the first acceptance of the kill. `at_us` is its time in µs."""
        self._count(record.cancelled, record.orders)
        answer, attempts = record.answer, self.attempts
        if self.state is Phase.STRIKING:
            self.state = Phase.CONFIRMING
        if attempts.is_earlier(record.strike):
            return False
        attempt = attempts.attempt(record.strike, max(1, self.strikes))
        is_first = attempts.on_answered(attempt, answer, at_us, record.evidence)
        if answer is CancelOutcome.UNSENT and (attempts.first is not None or self.answer not in (None, answer)):
            answer = CancelOutcome.UNKNOWN  # this strike was not sent, but an earlier strike was
        self.answer = answer
        self.evidence = record.evidence or self.evidence
        return is_first

    def on_read(self, record: ReadRecord) -> None:
        """Apply a read; a read that was requested before the last strike proves nothing."""
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
        """Apply that an order appeared at the account, which was clear."""
        self.state, self.proven, self.left = Phase.STRIKING, False, max(1, self.left or 0)

    def on_clear(self, at_us: int) -> bool:
        """Apply a proof of clear; return whether it is the kill's first. `at_us` is its time in µs."""
        self.state, self.proven, self.left = Phase.CLEAR, True, 0
        is_first = self.clear_us is None
        if is_first:
            self.clear_us = at_us
        return is_first

    def on_residue(self, left: int | None) -> None:
        """Apply that `left` orders are still there after the venue's time; None: their number is unknown."""
        self.state, self.proven, self.left = Phase.RESIDUE, False, left

    def _count(self, claimed: int | None, orders: Mapping[str, Any] | None) -> None:
        if claimed is not None:
            self.claimed = (self.claimed or 0) + claimed
        if orders is not None:
            self.tally.apply(orders)


_FIELDS = tuple(item.name for item in fields(AccountReport) if item.name not in ("attempts", "tally"))
