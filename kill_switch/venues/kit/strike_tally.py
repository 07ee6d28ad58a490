"""Make one `CancelAnswered` of the outcomes of a strike's commands; the worst counts. It sends nothing."""

from __future__ import annotations

from kill_switch.core.domain import CancelOutcome
from kill_switch.venues.decode import truncate
from kill_switch.venues.kit.replies import Reply, ReplyOutcome
from kill_switch.venues.messages import CancelAnswered, Outputs

MAX_EVIDENCE = 200  # characters of a strike's evidence


class StrikeTally:
    """A strike in progress: how many commands are not answered, and the outcomes of the others."""

    __slots__ = (
        "_answers",
        "_count",
        "_ended",
        "_left_out",
        "_names_count",
        "_sent",
        "begun",
        "copies_wait",
        "made_ns",
        "waiting",
    )

    def __init__(self, made_ns: int, *, copies_wait: bool = False) -> None:
        self.made_ns = made_ns  # monotonic
        self.copies_wait = copies_wait  # second copies leave only once an answer can have come
        self.begun = 0  # commands that were issued
        self.waiting = 1  # the strike itself, until all its first commands are issued
        self._answers: list[tuple[CancelOutcome, str, bool]] = []  # outcome, evidence, and whether it is a list's
        self._left_out: list[str] = []
        self._count = self._ended = 0  # orders that were cancelled, and that had ended before, as far as replies say
        self._names_count = True
        self._sent = False  # a byte of a cancel, or of the strike's first command, may have left

    def leave_out(self, evidence: str) -> None:
        """Note that known orders have to wait for the next strike."""
        self._left_out.append(evidence)

    def settle(
        self, outcome: CancelOutcome, evidence: str, count: int | None, ended: int, *, is_cancel: bool, is_list: bool
    ) -> Outputs:
        """Apply the final outcome of a command; the last command's returns the strike's answer.

        `count` is how many orders the command has cancelled, None if unknown; `ended` is how many had ended before.
        `is_cancel`: without a byte of such a command the strike is unsent. `is_list`: the command reads a list.
        """
        self._sent = self._sent or (is_cancel and outcome is not CancelOutcome.UNSENT)
        self._answers.append((outcome, evidence, is_list))
        self._ended += ended
        if count is not None:
            self._count += count
        elif not is_list:
            self._names_count = False
        return self.end_one()

    def replace(self) -> Outputs:
        """Apply the refusal of a command that others repeat in parts."""
        self._sent = True
        return self.end_one()

    def end_one(self) -> Outputs:
        """Count one of those that the strike waits for, and return the answer if it was the last."""
        self.waiting -= 1
        return () if self.waiting else (self._answer(),)

    def _answer(self) -> CancelAnswered:
        if not self._answers:
            why = "; ".join(self._left_out) or "no command is known that would cancel an order"
            return CancelAnswered(CancelOutcome.UNSENT, truncate(why, MAX_EVIDENCE))
        outcome = self._outcome()
        if outcome is CancelOutcome.ACCEPTED:
            return CancelAnswered(outcome, self._describe_success(), self._count if self._names_count else None)
        return CancelAnswered(outcome, truncate(self._describe_failure(), MAX_EVIDENCE), self._count or None)

    def _outcome(self) -> CancelOutcome:
        """Return the worst outcome; a refused list alone does not refuse cancels that were accepted."""
        outcomes = {outcome for outcome, _, _ in self._answers}
        of_cancels = {outcome for outcome, _, is_list in self._answers if not is_list}
        if outcomes == {CancelOutcome.ACCEPTED} and not self._left_out:
            return CancelOutcome.ACCEPTED
        if not self._sent:
            return CancelOutcome.UNSENT
        accepted = CancelOutcome.ACCEPTED in of_cancels or self._count or self._ended
        refused = CancelOutcome.REFUSED in (of_cancels if accepted else outcomes)
        return CancelOutcome.REFUSED if refused else CancelOutcome.UNKNOWN

    def _describe_success(self) -> str:
        evidences = [evidence for _, evidence, is_list in self._answers if not is_list]
        if len(evidences) < 2:
            return evidences[0] if evidences else "the lists show nothing to cancel"
        counts = self._describe_counts() if self._names_count else []
        words = "; ".join(counts) or ("0 order(s) cancelled" if self._names_count else "accepted")
        return f"{len(evidences)} commands: {words}"

    def _describe_failure(self) -> str:
        cancels = sum(not is_list for _, _, is_list in self._answers)
        failed = [each for each in self._answers if each[0] is not CancelOutcome.ACCEPTED]
        of_cancels = [evidence for _, evidence, is_list in failed if not is_list]
        of_lists = [evidence for _, evidence, is_list in failed if is_list]
        words = list(dict.fromkeys([*of_cancels, *of_lists]))
        if of_cancels and cancels > 1:
            words[0] = f"{len(of_cancels)} of {cancels} commands: {words[0]}"
        return "; ".join([*self._describe_counts(), *self._left_out, *words])

    def _describe_counts(self) -> list[str]:
        counts = [f"{self._count} order(s) cancelled"] if self._count else []
        return [*counts, f"{self._ended} had ended"] if self._ended else counts


def is_final(reply: Reply) -> bool:
    return reply.ok or reply.not_found


def outcome_of(reply: Reply) -> CancelOutcome:
    if is_final(reply):
        return CancelOutcome.ACCEPTED
    refused = reply.outcome in (ReplyOutcome.REFUSED, ReplyOutcome.WRONG_TIME)
    return CancelOutcome.REFUSED if refused else CancelOutcome.UNKNOWN
