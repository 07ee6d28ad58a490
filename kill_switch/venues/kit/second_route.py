"""Hold when an account's calls take their second route. Every part of an adapter reads it; a reload changes it."""

from __future__ import annotations

READ_FACTOR = 4  # a read waits this many times as long as a cancel, because it is less urgent


class SecondRoute:
    """The policy of one account: how long a call waits for an answer before its second copy leaves, in seconds.

    A probe and a drill have no second route: they test the warm lane.
    """

    __slots__ = ("cancel_s",)

    def __init__(self, cancel_s: float) -> None:
        self.cancel_s = cancel_s

    @property
    def read_s(self) -> float:
        """How long a read waits."""
        return READ_FACTOR * self.cancel_s

    def change(self, cancel_s: float) -> None:
        """Set how long cancels wait from the next call on, in seconds."""
        self.cancel_s = cancel_s
