"""Play random histories of an account's orders to an order-rate trigger, and judge what it does by what was true.

A history has placements in bursts and trickles, ends, changes, pushes that are late, doubled, out of order or lost,
lists that are late or lost, gaps of the WebSocket and stalls of the process. The judge knows the true times only. It
shares no code with what it judges, and holds it to the bounds of `docs/guides/triggers/order-rate.md`:

- a trip for new orders means more than `max_new` placements within the window and the largest delay of a push;
- more than that within the window less this delay, of an account that is seen, trips;
- so do more than that between two rounds of lists that are less than the window apart, if they are open then;
- a trip for open orders means that the account had too many for as long as the window, but for shorter times than it
  takes to see an end;
- too many for as long as that and the window, without a gap longer than the window, trip.

A larger run: `python -m tests.harness.order_histories 20000`.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from kill_switch.core.domain import Instant, Order, OrderState
from kill_switch.triggers.order_rate import OrderRateTrigger, OrderVisibility
from kill_switch.triggers.stall_clock import StallClock
from kill_switch.venues.kit.book import OrderBook
from kill_switch.venues.messages import OrderPlaced, OrdersFound

MAX_NEW, MAX_OPEN, WINDOW_S = 5, 8, 10.0
LENGTH_S = 240.0
LISTS = ("even", "odd")
TICK_S = 0.1
SLACK_S = 0.35  # of ticks and of the measure of a stall
HELD_S = 1.3  # behind a gap or a stall, pushes may count earlier than they came


@dataclass
class Placement:
    """An order as it is in the history: the truth that the trigger does not see."""

    number: int
    placed_s: float
    ended_s: float = float("inf")
    pushed_s: float = float("inf")  # when its first live push came, if one has

    @property
    def id(self) -> str:
        return str(self.number)

    def open_at(self, at_s: float) -> bool:
        return self.placed_s <= at_s < self.ended_s


@dataclass
class Trip:
    """A trip of the trigger: its time in seconds, and whether new orders or open ones caused it."""

    at_s: float
    new: bool


@dataclass
class Story:
    """A history, played once by `play`; afterwards it has the true orders, the orders seen, and the trips."""

    seed: int
    lossy: bool  # pushes are lost while the lane is up, and lists always come; else it is the other way round
    orders: list[Placement] = field(default_factory=list)
    trips: list[Trip] = field(default_factory=list)
    rounds: list[tuple[float, float, float]] = field(default_factory=list)  # asked before, asked now, answered
    unseen: list[tuple[float, float]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # noqa: S311 - a history that can be played again
        self.late_s = self.dice.choice((0.0, 0.5, 3.0))
        self.probe_s = self.dice.choice((1.0, 2.0, 4.0))
        self.loss = self.dice.choice((0.2, 0.9)) if self.lossy else 0.0
        self.lives_s = self.dice.choice(((0.2, 2.0, 12.0, 45.0), (30.0, 90.0)))
        self.gaps = self.dice.choice((0.001, 0.02))
        self.stops = self.dice.choice((0.0005, 0.005))
        self._now_s = 0.0
        self._events: list[tuple[float, int, bool, Callable[[], None]]] = []
        self._count = 0
        self._book = OrderBook()
        self._book.lists = LISTS
        self._turns = itertools.cycle(LISTS)
        self._up = 0  # the number of the connection, 0: none
        self._unseen_s: float | None = 0.0
        self._whole: dict[str, float] = {}  # list → when its last whole answer was asked for
        self._up_s = 0.0
        self._stalled_s = 0.0  # until when
        self._attention = StallClock(self._clock)
        self._trigger = OrderRateTrigger(
            "x",
            ("a",),
            MAX_NEW,
            MAX_OPEN,
            WINDOW_S,
            clock=self._clock,
            attention=self._attention,
            look=lambda _: OrderVisibility(self._book.is_current, self._book.open_orders),
        )

    def _clock(self) -> Instant:
        at_ns = 10**12 + round(self._now_s * 1e9)
        return Instant(at_ns, at_ns)

    def _at(self, at_s: float, do: Callable[[], None], *, outside: bool = False) -> None:
        """Let something happen; what is not `outside` of our process waits while that stands still."""
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, outside, do))

    # what happens

    def play(self) -> Story:
        dice = self.dice
        self._at(0.0, self._tick)
        self._at(dice.uniform(0, 2), self._connect)
        self._at(dice.uniform(0, self.probe_s), self._probe)
        at_s = 0.0
        while at_s < LENGTH_S:
            count, over_s = dice.choice(((1, 0.0), (1, 0.0), (4, 6.0), (6, 1.0), (6, 9.5), (6, 14.0), (12, 2.0)))
            for _ in range(count):
                self._at(at_s + dice.uniform(0, over_s), self._place, outside=True)
            at_s += dice.choice((0.5, 3.0, 8.0, 20.0))
        while self._events and self._now_s < LENGTH_S:
            at_s, _, outside, do = heapq.heappop(self._events)
            if at_s < self._stalled_s and not outside:
                self._at(self._stalled_s, do)  # it waits in a socket, or for a timer, until the process goes on
                continue
            self._now_s = max(self._now_s, at_s)
            self._book.now_ns = self._clock().mono_ns
            do()
        if self._unseen_s is not None:
            self.unseen.append((self._unseen_s, LENGTH_S))
        return self

    def _tick(self) -> None:
        self._attention.tick(self._clock().mono_ns)
        self._trigger._look()
        self._notice()
        if self.dice.random() < self.stops:
            self._stalled_s = self._now_s + self.dice.choice((1.0, 5.0, 30.0))
            self.stalls.append((self._now_s, self._stalled_s))
        if self.dice.random() < self.gaps and self._up:
            self._at(self._now_s + 0.01, self._disconnect)
        self._at(self._now_s + TICK_S, self._tick)

    def _notice(self) -> None:
        reason = self._trigger._found
        if reason is not None:  # a person looks at once and re-arms
            self.trips.append(Trip(self._now_s, "new" in reason.evidence))
            self._trigger._found, self._trigger._fired = None, reason.text
            self._trigger.on_rearmed()

    def _place(self) -> None:
        placement = Placement(len(self.orders), self._now_s)
        self.orders.append(placement)
        self._push(placement, OrderState.LIVE)
        if self.dice.random() < 0.5:
            self._at(self._now_s + 70.0 + self.dice.uniform(0, 60), lambda: self._change(placement), outside=True)
        self._at(self._now_s + self.dice.choice(self.lives_s), lambda: self._end(placement), outside=True)

    def _change(self, placement: Placement) -> None:
        if placement.open_at(self._now_s):
            self._push(placement, OrderState.LIVE)

    def _end(self, placement: Placement) -> None:
        placement.ended_s = self._now_s
        self._push(placement, OrderState.GONE)

    def _push(self, placement: Placement, life: OrderState) -> None:
        if self.dice.random() < self.loss:
            return
        for _ in range(self.dice.choice((1, 1, 1, 2))):
            self._at(self._now_s + self.dice.uniform(0, self.late_s), partial(self._pushed, placement, life, self._up))

    def _pushed(self, placement: Placement, life: OrderState, conn: int) -> None:
        if not conn or conn != self._up:
            return  # what was on its way when the connection went is lost
        if life is OrderState.LIVE:
            placement.pushed_s = min(placement.pushed_s, self._now_s)
        self._take(self._book.apply_push(Order(placement.id, "BTC", life, str(life))))

    def _take(self, facts: tuple[object, ...]) -> None:
        for fact in facts:
            if isinstance(fact, OrderPlaced):
                self._trigger.on_order_placed("a", fact.order.id)
            elif isinstance(fact, OrdersFound):
                self._trigger.on_orders_found("a", fact.ids, fact.since_ns)
        self._notice()

    def _connect(self) -> None:
        self._up, self._up_s = self._count, self._now_s
        self._book.start_pushes(self._up, self._clock().mono_ns)
        for name in LISTS:
            self._ask(name)

    def _disconnect(self) -> None:
        self._book.end_pushes(self._up)
        self._up = 0
        self._unseen_s = self._now_s if self._unseen_s is None else self._unseen_s
        self._at(self._now_s + self.dice.choice((0.3, 3.0, 8.0, 30.0)), self._connect)

    def _probe(self) -> None:
        for name in dict.fromkeys((next(self._turns), *self._book.stale)):
            self._ask(name)
        self._at(self._now_s + self.probe_s, self._probe)

    def _ask(self, name: str) -> None:
        asked_s, asked_ns = self._now_s, self._clock().mono_ns
        answer_s = asked_s + self.dice.uniform(0.01, 0.2 if self.lossy else 3.0)
        look_s = self.dice.uniform(asked_s, answer_s)
        shown: list[Order] = []

        def look() -> None:
            theirs = [
                placement
                for placement in self.orders
                if placement.number % 2 == LISTS.index(name) and placement.open_at(self._now_s)
            ]
            shown.extend(Order(placement.id, "BTC", OrderState.LIVE, "open") for placement in theirs)

        def answer() -> None:
            whole = self.lossy or self.dice.random() > 0.2
            before = [self._whole.get(one) for one in LISTS]
            self._take(self._book.apply_listing(name, shown if whole else shown[:1], asked_ns, whole=whole))
            if whole and self._whole.get(name, -1.0) < asked_s:
                self._whole[name] = asked_s
                if None not in before:
                    self.rounds.append((min(one for one in before if one is not None), asked_s, self._now_s))
            if self._up and self._unseen_s is not None and all(self._whole.get(one, -1) >= self._up_s for one in LISTS):
                self.unseen.append((self._unseen_s, self._now_s))
                self._unseen_s = None

        self._at(look_s, look, outside=True)
        self._at(answer_s, answer)

    # what the judge says

    @property
    def blur_s(self) -> float:
        """Return how long the number of open orders may be wrong: until an end, or a list without it, has come."""
        return self.late_s + SLACK_S + (2 * self.probe_s * len(LISTS) + 0.4 if self.lossy else 0.0)

    def _clear(self, start_s: float, end_s: float) -> bool:
        """Say whether all of a time was seen and no stall touches it."""
        spans = [(start, end + HELD_S) for start, end in (*self.unseen, *self.stalls)]
        return not any(start <= end_s and start_s <= end for start, end in spans)

    def _tripped(self, start_s: float, end_s: float) -> bool:
        return any(start_s <= trip.at_s <= end_s for trip in self.trips)

    def false_new(self) -> list[Trip]:
        def counted(placement: Placement, start_s: float, end_s: float) -> bool:
            """Say whether it may count: a change is taken for a late push where the first push was lost."""
            return start_s <= placement.placed_s <= end_s or start_s <= placement.pushed_s <= end_s

        within_s = WINDOW_S + self.late_s + SLACK_S
        new = [trip for trip in self.trips if trip.new]
        spans = ((trip, trip.at_s - within_s) for trip in new)
        return [trip for trip, since_s in spans if sum(counted(o, since_s, trip.at_s) for o in self.orders) <= MAX_NEW]

    def missed_new(self) -> tuple[list[float], int]:
        """Return when a trip was missed, and how many there had to be."""
        missed, due = [], 0
        for first in range(len(self.orders) - MAX_NEW):
            burst = self.orders[first : first + MAX_NEW + 1]
            start_s, last_s = burst[0].placed_s, burst[-1].placed_s
            end_s = max(placement.pushed_s for placement in burst)
            if last_s - start_s > WINDOW_S - self.late_s - SLACK_S or end_s - start_s > WINDOW_S:
                continue
            if end_s - last_s > self.late_s or not self._clear(start_s, end_s):
                continue
            due += 1
            if not self._tripped(start_s, end_s + SLACK_S):
                missed.append(last_s)
        for before_s, asked_s, answered_s in self.rounds:
            listed = [
                placement
                for placement in self.orders
                if before_s < placement.placed_s < asked_s and placement.ended_s > answered_s
            ]
            if answered_s - before_s > WINDOW_S - SLACK_S or not self._clear(before_s, answered_s):
                continue
            for parity in range(len(LISTS)):  # one answer shows the orders of one list
                theirs = [placement for placement in listed if placement.number % 2 == parity]
                unpushed = [placement for placement in theirs if placement.pushed_s > answered_s]
                if len(unpushed) > MAX_NEW:
                    due += 1
                    if not self._tripped(before_s, answered_s + WINDOW_S):
                        missed.append(answered_s)
        return missed, due

    def _seen_back(self, at_s: float, seen_s: float) -> float:
        """Return when so much seen time begins that ends at a time."""
        for start, end in sorted((*self.unseen, *self.stalls), reverse=True):
            if start < at_s:
                if at_s - min(end, at_s) >= seen_s:
                    break
                seen_s -= at_s - min(end, at_s)
                at_s = start
        return at_s - seen_s

    def _few(self, start_s: float, end_s: float) -> float:
        """Return the longest time in a span in which the open orders were no more than may be."""
        steps = sorted(
            {start_s, end_s, *(at for placement in self.orders for at in (placement.placed_s, placement.ended_s))}
        )
        steps = [at for at in steps if start_s <= at <= end_s]
        longest = since = 0.0
        for at, after in pairwise(steps):
            few = sum(placement.open_at(at) for placement in self.orders) <= MAX_OPEN
            since = since + after - at if few else 0.0
            longest = max(longest, since)
        return longest

    def false_open(self) -> list[Trip]:
        """Return trips before which a time with few open orders had been seen for long enough to be known."""
        found = []
        for trip in self.trips:
            start_s = self._seen_back(trip.at_s, WINDOW_S - SLACK_S)
            spans = self._seen_spans(start_s, trip.at_s)
            if not trip.new and any(self._few(*span) > self.blur_s for span in spans):
                found.append(trip)
        return found

    def _seen_spans(self, start_s: float, end_s: float) -> list[tuple[float, float]]:
        spans, at_s = [], start_s
        for start, end in sorted((*self.unseen, *self.stalls)):
            if end > at_s and start < end_s:
                spans.append((at_s, max(at_s, start)))
                at_s = min(end, end_s)
        return [*spans, (at_s, end_s)]

    def missed_open(self) -> tuple[list[float], int]:
        missed, due = [], 0
        at_s = 0.0
        while (at_s := at_s + 2.0) < LENGTH_S - 5:
            start_s = self._seen_back(at_s, WINDOW_S + 4 * self.blur_s + 1.0)  # up to four spans between gaps
            gaps = [end - start for start, end in self.unseen if start < at_s and end > start_s]
            if start_s < 0 or any(gap > WINDOW_S - SLACK_S for gap in gaps) or self._few(start_s, at_s) > 0:
                continue
            if any(start < at_s and end > start_s for start, end in self.stalls):
                continue
            seen = self._seen_spans(start_s, at_s)
            usable = sum(max(0.0, end - start - self.blur_s) for start, end in seen)
            if usable < WINDOW_S + 1.0:
                continue
            due += 1
            if not self._tripped(start_s, at_s):
                missed.append(at_s)
        return missed, due


def run(seeds: range) -> tuple[Counter[str], list[str]]:
    """Play and judge a history of each kind for each seed; return counts, and what was wrong."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in seeds:
        for lossy in (False, True):
            story = Story(seed, lossy).play()
            new, due_new = story.missed_new()
            few, due_open = story.missed_open()
            counts.update(
                histories=1,
                orders=len(story.orders),
                gaps=len(story.unseen),
                stalls=len(story.stalls),
                trips_new=sum(trip.new for trip in story.trips),
                trips_open=sum(not trip.new for trip in story.trips),
                due_new=due_new,
                due_open=due_open,
            )
            found = {
                "false, new": [trip.at_s for trip in story.false_new()],
                "false, open": [trip.at_s for trip in story.false_open()],
                "missed, new": new,
                "missed, open": few,
            }
            wrong += [f"seed {seed} lossy {lossy}: {what} at {at}" for what, at in found.items() if at]
    return counts, wrong


if __name__ == "__main__":
    figures, errors = run(range(int(sys.argv[1])))
    print(dict(figures), *errors[:20], f"wrong: {len(errors)}", sep="\n")
    sys.exit(bool(errors))
