"""Carry a strike at KUNA out: batches of known orders at once, the lists beside them, and what those add.

All of it ends in one `CancelAnswered`. A malformed id would spoil a whole batch, and so would a batch that is too long:
the one goes alone, the other is halved, as far as the venue's limits allow.
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
BATCHES_BEFORE_SINGLE = 2  # an order that rests after so many batches is cancelled by itself
MAX_SINGLES_PER_STRIKE = 3
MAX_SPLITS_PER_STRIKE = 7  # a batch that is refused as a whole is halved: a hundred orders get as far as eight batches
MIN_BATCH = 3  # a longer one is halved; as many orders go alone in one strike
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


@dataclass(slots=True)
class KunaStrike:
    """One strike under way: several calls, one answer."""

    waiting: int = 0  # calls that are not answered yet
    named: set[str] = field(default_factory=set)  # orders that a call has named, or that were left out
    singles: int = 0
    splits: int = 0
    sent: bool = False  # a byte of a call that cancels may have left
    cancelled: int = 0
    ended: int = 0
    answers: set[CancelOutcome] = field(default_factory=set)  # of the cancels that failed
    lists: set[CancelOutcome] = field(default_factory=set)  # of the lists that were not read
    troubles: list[str] = field(default_factory=list)

    def trouble(self, answer: CancelOutcome, words: str) -> None:
        self.answers.add(answer)
        self.troubles.append(words)

    def unread(self, answer: CancelOutcome, words: str) -> None:
        self.lists.add(answer)
        self.troubles.append(words)

    def told(self) -> CancelAnswered:
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
    """Make strikes, and take what is said to them."""

    CANCELS = frozenset({"cancel-multi", "cancel-one"})
    KINDS = CANCELS | {"find"}

    def __init__(
        self,
        calls: CallStarter,
        words: Callable[..., str],
        signer: KunaSigner,
        lists: Mapping[str, Callable[[Instant], Request]],
        batch_orders: int,
        hedge_after_s: Callable[[], float],
        book: OrderBook,
    ) -> None:
        self._calls = calls
        self._words = words
        self._signer = signer
        self._lists = lists
        self._hedge_after_s = hedge_after_s
        self._book = book
        self._most = self._batch = batch_orders
        self._halving = True  # until it has been in vain
        self._tries: dict[str, int] = {}  # by order: batches that have named it

    def strike(self, known: Iterable[str], now: Instant) -> Iterator[Output]:
        """Make a strike; a batch may leave before the next one is made."""
        strike = KunaStrike()
        yield from self._cancel(strike, known, now)
        for kind, build in self._lists.items():
            first = not strike.waiting  # nothing is known: then the list is what the strike begins with
            yield from self._part("find", build, strike, kind, now, cancel=first)

    def plan(self, known: Iterable[str]) -> tuple[str, ...]:
        """Say what a strike would begin with, a line a call."""
        ids = list(known)
        singles, again, _ = self._apart(
            [order_id for order_id in ids if self._is_odd(order_id)], MAX_SINGLES_PER_STRIKE
        )
        batch = [order_id for order_id in ids if not self._is_odd(order_id)] + again
        batches = [batch[start : start + self._batch] for start in range(0, len(batch), self._batch)]
        lines = [f"POST {MULTI} {orjson.dumps({'orderIds': ids}).decode()}" for ids in batches]
        return (*lines, *(f"POST {SINGLE} {orjson.dumps({'orderId': order_id}).decode()}" for order_id in singles))

    def keep(self, book: Container[str]) -> None:
        """Forget the orders that are gone."""
        self._tries = {order_id: tries for order_id, tries in self._tries.items() if order_id in book}

    def _is_odd(self, order_id: str) -> bool:
        """Say whether an order should go alone: it would spoil a batch, or has outlived some."""
        return self._tries.get(order_id, 0) >= BATCHES_BEFORE_SINGLE or _UUID.fullmatch(order_id) is None

    def _apart(self, odd: list[str], most: int) -> tuple[list[str], list[str], int]:
        """Sort out what goes alone, `most` at most, and what goes in a batch again; how many can go nowhere."""
        odd.sort(key=lambda order_id: self._tries.get(order_id, 0))  # each has its turn
        again = [order_id for order_id in odd[most:] if _UUID.fullmatch(order_id)]
        return odd[:most], again, len(odd[most:]) - len(again)

    def _cancel(self, strike: KunaStrike, ids: Iterable[str], now: Instant) -> Iterator[Output]:
        """Cancel what no call of this strike has named yet."""
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
        singles, again, malformed = self._apart(odd, MAX_SINGLES_PER_STRIKE - strike.singles)
        strike.singles += len(singles)
        if malformed:
            strike.trouble(CancelOutcome.UNKNOWN, f"{malformed} malformed id(s) left for the next strike")
        yield from self._batches(strike, batch + again, now)
        for order_id in singles:
            self._tries[order_id] = self._tries.get(order_id, 0) + 1
            build = self._signer.build("POST", SINGLE, {"orderId": order_id})
            yield from self._part("cancel-one", build, strike, [order_id], now, cancel=True)

    def _batches(self, strike: KunaStrike, ids: list[str], now: Instant) -> Iterator[Output]:
        for start in range(0, len(ids), self._batch):
            batch = ids[start : start + self._batch]
            for order_id in batch:
                self._tries[order_id] = self._tries.get(order_id, 0) + 1
            build = self._signer.build("POST", MULTI, {"orderIds": batch})
            yield from self._part("cancel-multi", build, strike, batch, now, cancel=True)

    def _part(
        self,
        kind: str,
        build: Callable[[Instant], Request],
        strike: KunaStrike,
        target: object,
        now: Instant,
        *,
        cancel: bool,
    ) -> Outputs:
        strike.waiting += 1
        again_s, context = self._hedge_after_s(), (strike, target)
        return self._calls.start_call(
            kind, build, now, urgent=True, cancel=cancel, command=True, hedge_after_s=again_s, context=context
        )

    # what comes back

    def answered(self, call: PendingCall, body: Body, refusal: KunaError | None, now: Instant) -> Outputs:
        """Take the answer to a cancel."""
        if call.kind == "cancel-one":
            return self._one_answered(call, body, refusal)
        return self._multi_answered(call, body, refusal, now)

    def _multi_answered(self, call: PendingCall, body: Body, refusal: KunaError | None, now: Instant) -> Outputs:
        strike, ids = call.part
        left = dict.fromkeys(ids, "not named in the answer")
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
        self._halving = self._halving or refusal is None
        if refusal is not None and not refusal.others and refusal.ended >= len(left):
            strike.ended += len(left)  # as many orders had ended as the answer does not name
            for order_id in left:
                self._book.remove(order_id)
            left.clear()
        if not left:
            return self._done(call, strike)
        if refusal is None:
            why = next((why for why in left.values() if why != "not named in the answer"), "")
            answer = CancelOutcome.REFUSED if why else CancelOutcome.UNKNOWN
            strike.trouble(answer, f"{len(left)} of {len(ids)} cancels failed: {why or 'not named in the answer'}")
            return self._done(call, strike)
        if refusal.too_long and self._halving and len(left) == len(ids):
            if len(ids) <= MIN_BATCH:
                self._batch, self._halving = self._most, False  # its length was not the reason
            else:
                self._batch = min(self._batch, (len(ids) + 1) // 2)
                if strike.splits < MAX_SPLITS_PER_STRIKE:  # else the next strike begins with shorter ones
                    strike.splits += 1
                    return self._done(call, strike, tuple(self._batches(strike, ids, now)))
        strike.trouble(refusal.answer, f"{len(left)} of {len(ids)} cancels failed: {refusal.words}")
        if refusal.answer is CancelOutcome.REFUSED:
            for order_id in left:
                self._book.note_cancel_refused(order_id)
        return self._done(call, strike)

    def _one_answered(self, call: PendingCall, body: Body, refusal: KunaError | None) -> Outputs:
        strike, [order_id] = call.part
        data = body.get("data", body) if isinstance(body, dict) else None
        if refusal is not None and refusal.ended and not refusal.others:
            strike.ended += 1
            self._book.remove(order_id)
        elif refusal is not None:
            strike.trouble(refusal.answer, f"1 of 1 cancels failed: {refusal.words}")
            if refusal.answer is CancelOutcome.REFUSED:
                self._book.note_cancel_refused(order_id)
        elif isinstance(data, dict) and data.get("success") is True:
            strike.cancelled += 1
            self._book.note_cancelled((order_id,))
        else:
            strike.trouble(CancelOutcome.UNKNOWN, "1 of 1 cancels failed: the answer cannot be read")
        return self._done(call, strike)

    def found(
        self, call: PendingCall, orders: Iterable[Order], why: str, refusal: KunaError | None, now: Instant
    ) -> Outputs:
        """Take a list that a strike has asked for, and cancel at once what it shows and nobody has named.

        `why` says why it was not read, or not all of it.
        """
        strike, _ = call.part
        if why:
            strike.unread(CancelOutcome.UNKNOWN if refusal is None else refusal.answer, why)
        return self._done(call, strike, tuple(self._cancel(strike, (order.id for order in orders), now)))

    def unanswered(self, call: PendingCall, why: str) -> Outputs:
        strike, target = call.part
        answer = CancelOutcome.UNKNOWN if call.sent else CancelOutcome.UNSENT
        if call.kind == "find":
            strike.unread(answer, why)
        else:
            strike.trouble(answer, f"{len(target)} cancel(s) without an answer: {why}")
        return self._done(call, strike)

    def _done(self, call: PendingCall, strike: KunaStrike, outputs: Outputs = ()) -> Outputs:
        """Count a call of a strike as answered; the last one tells what became of the strike."""
        strike.waiting -= 1
        strike.sent = strike.sent or (call.cancel and call.sent)
        return outputs if strike.waiting else (strike.told(),)
