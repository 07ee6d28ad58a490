"""Hold what the reply to a command of a strike says of the account's orders, and note it in the book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.replies import Reply


class CancelResult(NamedTuple):
    """The orders that the reply to a command names."""

    reply: Reply
    cancelled_count: int | None = None  # orders that the command has cancelled; None: the reply does not say
    cancelled: Sequence[str] = ()  # ids that the reply names as cancelled
    ended: Sequence[str] = ()  # ids that had ended before
    refused: Sequence[str] = ()  # ids whose cancel was refused: they are alive
    names_all: bool = False  # `cancelled` has every order that the command has hit

    def note_in(self, book: OrderBook, *, alone: bool) -> None:
        """Pass the orders to the book; `alone`: no other copy of the command can have hit any."""
        if self.cancelled or self.names_all:
            book.note_cancelled(self.cancelled, all_of_them=self.names_all and alone)
        for order_id in self.ended:
            book.remove(order_id)
        for order_id in self.refused:
            book.note_cancel_refused(order_id)


def no_detail(reply: Reply) -> CancelResult:
    """Return the reply as it is: it names no orders."""
    return CancelResult(reply)
