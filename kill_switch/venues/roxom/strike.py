"""Judge the answers to Roxom's cancel-all, and cancel by id the orders that it did not name (docs/venues/roxom.md § 8).

The adapter owns one `SingleCanceller` and sends the cancel-all itself. This module never proves an account clear.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import chain
from typing import Any

from kill_switch.core.domain import CancelOutcome, Instant, OrderState
from kill_switch.venues.decode import as_text
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import CallStarter
from kill_switch.venues.messages import CancelAnswered, Outputs, UnexplainedMessage
from kill_switch.venues.request import Request
from kill_switch.venues.roxom.replies import NOT_JUDGED, error_number, is_nothing_resting, is_success
from kill_switch.venues.roxom.signing import constant

MAX_SINGLES_PER_STRIKE = 20  # each costs a signature of 0.3 ms, and the venue's rate limit is not documented


class SingleCanceller:
    """Cancel an account's orders by id after a cancel-all, the least tried orders first."""

    def __init__(self, calls: CallStarter, book: OrderBook, request: Callable[[str, str], Request]) -> None:
        """Make a canceller; `request` builds a signed request from a method and a target below the prefix."""
        self._calls = calls
        self._book = book
        self._request = request
        self._tries: dict[str, int] = {}  # order id → how often its own cancel was sent

    def on_cancel_all_reply(
        self, status: int, body: dict[str, Any], refusal: str | None, now: Instant, *, alone: bool
    ) -> Outputs:
        """Judge the answer to a cancel-all, and start the single cancels of known orders that it does not name.

        `alone`: the venue can have executed no other copy of the command. A refusal of the key, or by the rate limit,
        starts no single cancels: the venue would refuse these too.
        """
        if refusal is not None and {status, error_number(body)} & NOT_JUDGED:
            return (CancelAnswered(CancelOutcome.UNKNOWN if status == 429 else CancelOutcome.REFUSED, refusal),)
        if refusal is not None:  # it concerns the orders that cancel-all covers; whether it covers stops is unknown
            return (CancelAnswered(CancelOutcome.REFUSED, refusal), *self._cancel_unnamed((), now))
        data = body.get("data")
        named = data.get("cancelledOrderIds") if isinstance(data, dict) else None
        if not isinstance(named, list):
            unknown = CancelAnswered(CancelOutcome.UNKNOWN, "accepted, without the list of cancelled orders")
            return (unknown, *self._cancel_unnamed((), now))
        ids = {as_text(order_id) for order_id in named} - {""}
        self._book.note_cancelled(ids, all_of_them=alone)
        accepted = CancelAnswered(CancelOutcome.ACCEPTED, f"{len(ids)} order(s) named as cancelled", len(ids))
        return (accepted, *self._cancel_unnamed(ids, now))

    def on_cancel_one_reply(self, order_id: str, body: dict[str, Any], refusal: str | None) -> Outputs:
        """Judge the answer to a single cancel; a refused one makes the next read-backs look the order up."""
        if refusal is None and is_success(body, expected=False):
            refusal = "HTTP 200, success false"
        if refusal is None:
            return ()  # accepted only: a read-back shows the result
        self._book.note_cancel_refused(order_id)
        if is_nothing_resting(refusal):
            return ()
        return (UnexplainedMessage(f"cancel of one order refused: {refusal}"),)

    def _cancel_unnamed(self, named: Collection[str], now: Instant) -> Outputs:
        unlisted = self._book.unproven  # first, because a cancel-all that names none of these has not covered them
        listed = (order for order_id, order in self._book.orders.items() if order_id not in unlisted)
        orders = chain(unlisted.values(), listed)
        live = (order.id for order in orders if order.state is OrderState.LIVE and order.id not in named)
        ids = list(filter(_is_uuid, live))  # ids become part of a path, so nothing but an id may pass
        self._tries = {order_id: self._tries.get(order_id, 0) for order_id in ids}
        calls: Outputs = ()
        for order_id in sorted(ids, key=self._tries.__getitem__)[:MAX_SINGLES_PER_STRIKE]:
            self._tries[order_id] += 1
            build = constant(self._request("POST", f"/orders/{order_id}/cancel"))
            calls += self._calls.start_call("cancel-one", build, now, urgent=True, command=True, context=order_id)
        return calls


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and all(character in "0123456789abcdefABCDEF-" for character in text)
