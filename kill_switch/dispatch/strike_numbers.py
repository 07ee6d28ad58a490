"""Find the strike that a venue's answer belongs to. `AccountSession` uses it; it does no I/O."""

from __future__ import annotations

MAX_STRIKES_REMEMBERED = 32  # of each account; an answer to an older strike counts for the last one


class StrikeNumbers:
    """The numbers of an account's strikes, and the strike that each command belongs to."""

    def __init__(self) -> None:
        self.last = 0
        self.answered = 0  # the number of the strike whose command the current event answers; 0: it answers none
        self._by_tag: dict[str, int] = {}  # command that may still be answered → number of its strike
        self._by_time: dict[int, int] = {}  # when a strike was made, monotonic ns → its number

    def begin(self, number: int, made_ns: int) -> None:
        """Start the strike `number`, made at `made_ns` (monotonic)."""
        self.last = self._by_time[made_ns] = number

    def forget_old(self) -> None:
        """Delete the times of all but the last `MAX_STRIKES_REMEMBERED` strikes."""
        while len(self._by_time) > MAX_STRIKES_REMEMBERED:
            del self._by_time[next(iter(self._by_time))]

    def note_command(self, tag: str) -> None:
        """Assign a command to the strike whose answer has caused it, else to the last one; copies change nothing."""
        self._by_tag.setdefault(tag, self.answered or self.last)

    def of_command(self, tag: str) -> int:
        """Return the number of the strike that a command belongs to; 0: none."""
        return self._by_tag.get(tag, 0)

    def end_command(self, tag: str) -> None:
        """Forget a command for which no answer is expected."""
        self._by_tag.pop(tag, None)

    def of_answer(self, made_ns: int, *, in_pass: bool) -> int:
        """Return the number of the answered strike, by its command or by the time it was made; 0: unknown.

        `in_pass`: the last strike is being sent, and an answer is the adapter's own.
        """
        return self.last if in_pass else self.answered or self._by_time.get(made_ns, 0)

    def shift(self, before: int) -> None:
        """Renumber after `before` strikes of an earlier process; answers to this process's strikes may still come."""
        self.last += before
        self._by_tag = {tag: number + before for tag, number in self._by_tag.items()}
        self._by_time = {made_ns: number + before for made_ns, number in self._by_time.items()}

    def clear(self) -> None:
        """Forget every strike, so that no later answer counts."""
        self._by_tag.clear()
        self._by_time.clear()
