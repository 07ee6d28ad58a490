"""Carry out KUNA strikes: batches of known orders, the lists beside them, and cancels of the orders that those add.

The adapter begins strikes and hands over replies and losses; each strike ends in one `CancelAnswered`.
§ numbers are those of docs/venues/kuna.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from kill_switch.core.domain import CancelOutcome, Instant, Order
from kill_switch.venues.decode import truncate
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.kit.calls import CallStarter, PendingCall
from kill_switch.venues.kuna.replies import Body, KunaError, error_of, has_ended, id_of, items_of
from kill_switch.venues.kuna.signing import KunaSigner
from kill_switch.venues.messages import CancelAnswered, Output, Outputs
from kill_switch.venues.request import Request

SINGLE = "/v4/order/private/cancel"
MULTI = "/v4/order/private/cancel/multi"
BATCHES_BEFORE_SINGLE = 2  # an order that is still open after so many batches is cancelled alone
MAX_SINGLES_PER_STRIKE = 3
MAX_SPLITS_PER_STRIKE = 7  # halvings of refused batches: a hundred orders get as far as eight batches
MIN_BATCH = 3  # a longer batch is halved; as many orders are cancelled alone in one strike
NOT_NAMED = "not named in the answer"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


@dataclass(slots=True)
class KunaStrike:
    """A strike in progress: several calls, one answer."""

    waiting: int = 0  # calls that are not answered yet
    named: set[str] = field(default_factory=set)  # orders that a call has named, or that were left out
    singles: int = 0
    splits: int = 0
    sent: bool = False  # a byte of a cancel may have been sent
    cancelled: int = 0
    ended: int = 0  # orders that had ended before
    answers: set[CancelOutcome] = field(default_factory=set)  # of the cancels that failed
    lists: set[CancelOutcome] = field(default_factory=set)  # of the lists that were not read
    troubles: list[str] = field(default_factory=list)

    def fail_cancel(self, answer: CancelOutcome, words: str) -> None:
        self.answers.add(answer)
        self.troubles.append(words)

    def fail_list(self, answer: CancelOutcome, words: str) -> None:
        self.lists.add(answer)
        self.troubles.append(words)

    def answer(self) -> CancelAnswered:
        """Return the strike's one answer: ACCEPTED if every cancel was accepted or its order had ended, and every list
        was read.
        """
        counts = [f"{self.cancelled} order(s) cancelled"] if self.cancelled else []
        counts += [f"{self.ended} had ended"] if self.ended else []
        evidence = truncate("; ".join([*counts, *self.troubles]) or "the lists show nothing to cancel", 200)
        if not self.troubles:
            return CancelAnswered(CancelOutcome.ACCEPTED, evidence, self.cancelled)
        if not self.sent:
            return CancelAnswered(CancelOutcome.UNSENT, evidence)
        refused = CancelOutcome.REFUSED in self.answers or (CancelOutcome.REFUSED in self.lists and not counts)
        return CancelAnswered(
            CancelOutcome.REFUSED if refused else CancelOutcome.UNKNOWN, evidence, self.cancelled or None
        )


class KunaStriker:
    """Carry out strikes.

    Known orders are sent to `cancel/multi` at once, and the lists are requested beside them. Orders that only a list
    shows are cancelled when it comes. A malformed id would fail its whole batch, so its order is cancelled alone. A
    batch that is refused as a whole may be too long (§ 3.2), and is halved.
    """

    CANCELS = frozenset({"cancel-multi", "cancel-one"})
    KINDS = CANCELS | {"find"}

    def __init__(
        self,
        calls: CallStarter,
        words: Callable[..., str],
        signer: KunaSigner,
        lists: Mapping[str, Callable[[Instant], Request]],
        batch_orders: int,
        second_route_after_s: Callable[[], float],
        book: OrderBook,
    ) -> None:
        """Make a striker with no strike in progress; `lists` builds the request of each list, by its name.

        `words` makes evidence of the venue's texts. `second_route_after_s` returns the seconds after which a call takes
        its second route. `batch_orders` is the most orders of a batch.
        """
        self._calls = calls
        self._words = words
        self._signer = signer
        self._lists = lists
        self._second_route_after_s = second_route_after_s
        self._book = book
        self._most = self._batch = batch_orders
        self._halving = True  # until the shortest batch was refused too: then length was not the reason
        self._tries: dict[str, int] = {}  # order → cancels that have named it

    def strike(self, known: Iterable[str], now: Instant) -> Iterator[Output]:
        """Yield a strike on the `known` orders; a batch may be sent before the next is built."""
        strike = KunaStrike()
        yield from self._cancel(strike, known, now)
        for kind, build in self._lists.items():
            first = not strike.waiting  # no order is known: the list is the strike's first command
            yield from self._start("find", build, strike, kind, now, cancel=first)

    def describe(self, known: Iterable[str]) -> tuple[str, ...]:
        """Return the cancels that a strike would begin with, a line a call."""
        ids = list(known)
        singles, again, _ = self._split_odd(
            [order_id for order_id in ids if self._is_odd(order_id)], MAX_SINGLES_PER_STRIKE
        )
        batch = [order_id for order_id in ids if not self._is_odd(order_id)] + again
        batches = [batch[start : start + self._batch] for start in range(0, len(batch), self._batch)]
        lines = [f"POST {MULTI} {orjson.dumps({'orderIds': ids}).decode()}" for ids in batches]
        return (*lines, *(f"POST {SINGLE} {orjson.dumps({'orderId': order_id}).decode()}" for order_id in singles))

    def forget_gone(self, book: Container[str]) -> None:
        """Forget the tries of orders that are not in the book any more."""
        self._tries = {order_id: tries for order_id, tries in self._tries.items() if order_id in book}

    def _is_odd(self, order_id: str) -> bool:
        """Return whether an order should be cancelled alone: its id is malformed, or it has survived batches."""
        return self._tries.get(order_id, 0) >= BATCHES_BEFORE_SINGLE or _UUID.fullmatch(order_id) is None

    def _split_odd(self, odd: list[str], most: int) -> tuple[list[str], list[str], int]:
        """Return the orders to cancel alone (`most` at most), those to batch again, and the number left out."""
        odd.sort(key=lambda order_id: self._tries.get(order_id, 0))  # the least tried first
        again = [order_id for order_id in odd[most:] if _UUID.fullmatch(order_id)]
        return odd[:most], again, len(odd[most:]) - len(again)

    def _cancel(self, strike: KunaStrike, ids: Iterable[str], now: Instant) -> Iterator[Output]:
        """Yield the cancels of the orders that no call of this strike has named yet."""
        odd: list[str] = []
        batch: list[str] = []
        for order_id in ids:
            if order_id in strike.named:
                continue
            strike.named.add(order_id)
            if self._is_odd(order_id):
                odd.append(order_id)
                continue
            batch.append(order_id)
            if len(batch) == self._batch:
                yield from self._batches(strike, batch, now)
                batch = []
        singles, again, malformed = self._split_odd(odd, MAX_SINGLES_PER_STRIKE - strike.singles)
        strike.singles += len(singles)
        if malformed:
            strike.fail_cancel(CancelOutcome.UNKNOWN, f"{malformed} malformed id(s) left for the next strike")
        yield from self._batches(strike, batch + again, now)
        for order_id in singles:
            self._tries[order_id] = self._tries.get(order_id, 0) + 1
            build = self._signer.build("POST", SINGLE, {"orderId": order_id})
            yield from self._start("cancel-one", build, strike, [order_id], now, cancel=True)

    def _batches(self, strike: KunaStrike, ids: list[str], now: Instant) -> Iterator[Output]:
        for start in range(0, len(ids), self._batch):
            batch = ids[start : start + self._batch]
            for order_id in batch:
                self._tries[order_id] = self._tries.get(order_id, 0) + 1
            build = self._signer.build("POST", MULTI, {"orderIds": batch})
            yield from self._start("cancel-multi", build, strike, batch, now, cancel=True)

    def _start(
        self,
        kind: str,
        build: Callable[[Instant], Request],
        strike: KunaStrike,
        target: object,
        now: Instant,
        *,
        cancel: bool,
    ) -> Outputs:
        """Start a call of a strike; `target` is the ids that it cancels, or the list that it reads."""
        strike.waiting += 1
        again_s, context = self._second_route_after_s(), (strike, target)
        return self._calls.start_call(
            kind, build, now, urgent=True, cancel=cancel, command=True, second_route_after_s=again_s, context=context
        )

    # ── replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def on_reply(self, call: PendingCall, body: Body, refusal: KunaError | None, now: Instant) -> Outputs:
        """Apply the reply to a call of `CANCELS`; `refusal` are its errors."""
        if call.kind == "cancel-one":
            return self._on_single_reply(call, body, refusal)
        return self._on_batch_reply(call, body, refusal, now)

    def _on_batch_reply(self, call: PendingCall, body: Body, refusal: KunaError | None, now: Instant) -> Outputs:
        strike, ids = call.part
        left = self._apply_items(strike, ids, body)
        self._halving = self._halving or refusal is None
        if refusal is not None and not refusal.others and refusal.ended >= len(left):
            strike.ended += len(left)  # the errors state as many ended orders as the reply does not name
            for order_id in left:
                self._book.remove(order_id)
            left.clear()
        if not left:
            return self._done(call, strike)
        if refusal is None:
            why = next((why for why in left.values() if why != NOT_NAMED), "")
            answer = CancelOutcome.REFUSED if why else CancelOutcome.UNKNOWN
            strike.fail_cancel(answer, f"{len(left)} of {len(ids)} cancels failed: {why or NOT_NAMED}")
            return self._done(call, strike)
        if refusal.too_long and self._halving and len(left) == len(ids) and self._halve(strike, len(ids)):
            return self._done(call, strike, tuple(self._batches(strike, ids, now)))
        strike.fail_cancel(refusal.answer, f"{len(left)} of {len(ids)} cancels failed: {refusal.words}")
        if refusal.answer is CancelOutcome.REFUSED:
            for order_id in left:
                self._book.note_cancel_refused(order_id)
        return self._done(call, strike)

    def _apply_items(self, strike: KunaStrike, ids: Iterable[str], body: Body) -> dict[str, str]:
        """Apply the items of a batch's reply; return the orders that are neither cancelled nor ended, with reasons."""
        left = dict.fromkeys(ids, NOT_NAMED)
        for item in items_of(body) or ():
            order_id = id_of(item)
            if order_id not in left:
                continue
            if item.get("success") is True:
                strike.cancelled += 1
                self._book.note_cancelled((order_id,))
                del left[order_id]
            elif has_ended(error_of(item)[1]):
                strike.ended += 1
                del left[order_id]
                self._book.remove(order_id)
            else:
                self._book.note_cancel_refused(order_id)
                left[order_id] = self._words(*error_of(item)).strip() or "success false"
        return left

    def _halve(self, strike: KunaStrike, size: int) -> bool:
        """Shorten the batches after one of `size` orders was refused; return whether to repeat it in this strike."""
        if size <= MIN_BATCH:
            self._batch, self._halving = self._most, False  # its length was not the reason
            return False
        self._batch = min(self._batch, (size + 1) // 2)
        if strike.splits >= MAX_SPLITS_PER_STRIKE:
            return False  # the next strike begins with shorter batches
        strike.splits += 1
        return True

    def _on_single_reply(self, call: PendingCall, body: Body, refusal: KunaError | None) -> Outputs:
        strike, [order_id] = call.part
        data = body.get("data", body) if isinstance(body, dict) else None
        if refusal is not None and refusal.ended and not refusal.others:
            strike.ended += 1
            self._book.remove(order_id)
        elif refusal is not None:
            strike.fail_cancel(refusal.answer, f"1 of 1 cancels failed: {refusal.words}")
            if refusal.answer is CancelOutcome.REFUSED:
                self._book.note_cancel_refused(order_id)
        elif isinstance(data, dict) and data.get("success") is True:
            strike.cancelled += 1
            self._book.note_cancelled((order_id,))
        else:
            strike.fail_cancel(CancelOutcome.UNKNOWN, "1 of 1 cancels failed: the answer cannot be read")
        return self._done(call, strike)

    def on_list(
        self, call: PendingCall, orders: Iterable[Order], why: str, refusal: KunaError | None, now: Instant
    ) -> Outputs:
        """Apply a list that a strike has requested: cancel its orders that no call of the strike has named.

        `why` is the reason why the list, or a part of it, was not read.
        """
        strike, _ = call.part
        if why:
            strike.fail_list(CancelOutcome.UNKNOWN if refusal is None else refusal.answer, why)
        return self._done(call, strike, tuple(self._cancel(strike, (order.id for order in orders), now)))

    def on_loss(self, call: PendingCall, why: str) -> Outputs:
        """Apply the loss of a call of `KINDS`."""
        strike, target = call.part
        answer = CancelOutcome.UNKNOWN if call.sent else CancelOutcome.UNSENT
        if call.kind == "find":
            strike.fail_list(answer, why)
        else:
            strike.fail_cancel(answer, f"{len(target)} cancel(s) without an answer: {why}")
        return self._done(call, strike)

    def _done(self, call: PendingCall, strike: KunaStrike, outputs: Outputs = ()) -> Outputs:
        """Count a call of a strike as answered; after the last call, return the strike's answer."""
        strike.waiting -= 1
        strike.sent = strike.sent or (call.cancel and call.sent)
        return outputs if strike.waiting else (strike.answer(),)
