"""A bot places orders, at times too many: an order-rate trigger fires for what it could see."""

from __future__ import annotations

from collections import deque

from kill_switch.core.domain import LaneState, Order, OrderState
from kill_switch.dispatch.session import AccountSession
from kill_switch.venues.messages import OrderPlaced, OrdersFound
from tests.deterministic.year.model import DAY, EARLY_S, HOUR, LATE_S, STEP_S, Due, Model, Since

MAX_NEW, MAX_OPEN, WINDOW_S = 20, 50, 1800.0


class Orders(Model):
    NAME = "runaway"
    ACCOUNTS = ("orders",)
    TOML = 'kind = "order-rate"\nmax_new = 20\nmax_open = 50\nwindow = "1800s"\n'

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._placed: deque[tuple[float, bool]] = deque()  # when, and whether it was seen as it came
        self._book: dict[str, Order] = {}
        self._count = 0
        self._flood = 0  # orders that a bot gone wild still places
        self._heap = 0  # orders that it leaves open
        self._down_until_s = 0.0
        self._seen: Since | None = None
        self._over: Since | None = None
        self._over_s = 0.0  # how long too many were open while they were seen, since they were last few
        self._next_s = 0.0

    @property
    def _session(self) -> AccountSession:
        return self.session(self.ACCOUNTS[0])

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────

    def play(self) -> None:
        now_s = self.world.now_s
        if now_s >= self._down_until_s and self.happens(8 * HOUR):
            self._down_until_s = now_s + self.random.uniform(0, self.random.choice((60.0, 1200.0, 3 * HOUR)))
        if self.world.up:
            up = self.world.connected and now_s >= self._down_until_s
            self._session.ws.state = LaneState.UP if up else LaneState.DOWN  # type: ignore[misc]
        if self.tripped:
            self._flood = self._heap = 0
        elif self.happens(2 * DAY):
            self._flood = 60
        elif self.happens(2 * DAY):
            self._heap = 70
        for _ in range(min(3, self._flood)):
            self._flood -= 1
            self._place()
        if self._heap and self._room:
            self._heap -= 1
            self._place(stays=True)
        elif now_s >= self._next_s:
            self._next_s = now_s + self.random.uniform(150, 450)
            self._place()
        few = 10 if self.tripped else 12
        while len(self._book) > few and (self.tripped or not (self._heap or self._stays)):
            self._end(next(iter(self._book)))
        if self.world.up:
            self._read()

    def _read(self) -> None:
        """Have the venue's lists read whole while the WebSocket is up; while it is down nothing is pushed."""
        venue, now_ns = self._session.venue, self.world.loop.now().mono_ns
        if self._session.ws.state is not LaneState.UP:
            venue.book.end_pushes(1)
            return
        if not venue.book.is_current:
            venue.book.start_pushes(1, now_ns)
        for name in venue.book.lists:
            self._tell(*venue.book.apply_listing(name, self._book.values(), now_ns, whole=True))

    def _tell(self, *facts: object) -> None:
        for fact in facts:
            if isinstance(fact, OrderPlaced | OrdersFound):
                self.world.watch.on_fact(self.ACCOUNTS[0], fact)

    def _end(self, order_id: str) -> None:
        order = self._book.pop(order_id)
        if self.world.up and self._session.ws.state is LaneState.UP:
            self._tell(*self._session.venue.book.apply_push(order._replace(state=OrderState.GONE)))

    _stays = 0

    @property
    def _room(self) -> bool:
        """So many orders are placed at a time that none of it is a flood."""
        recent = sum(at_s > self.world.now_s - WINDOW_S - EARLY_S for at_s, _ in self._placed)
        return recent < MAX_NEW // 2

    def _place(self, *, stays: bool = False) -> None:
        self._count += 1
        order = Order(f"order-{self._count}", "OX-USD-SWAP-LIN", OrderState.LIVE, "OPEN")
        self._book[order.id] = order
        self._stays = len(self._book) if stays else self._stays
        seen = self.world.up and self._session.ws.state is LaneState.UP
        steadily = seen and self._seen is not None and self._seen.seconds > 3 * STEP_S
        self._placed.append((self.world.now_s, steadily))
        if seen:
            self._tell(*self._session.venue.book.apply_push(order))

    # ── what is right ─────────────────────────────────────────────────────────────────────────────────────────────

    def due(self) -> Due:
        now_s = self.world.now_s
        while self._placed and self._placed[0][0] < now_s - WINDOW_S - LATE_S:
            self._placed.popleft()
        seen = self._session.ws.state is LaneState.UP
        self._seen = (self._seen or Since(self.world)) if seen else None
        return max(self._too_fast(now_s), self._too_many(seen))

    def _too_fast(self, now_s: float) -> Due:
        sure = [at_s for at_s, seen in self._placed if seen and at_s > now_s - WINDOW_S + EARLY_S]
        if len(sure) > MAX_NEW and now_s - sure[MAX_NEW] > LATE_S:
            return Due.MUST
        return Due.MAY if len(self._placed) > MAX_NEW else Due.NO

    def _too_many(self, seen: bool) -> Due:
        if len(self._book) <= MAX_OPEN:
            self._over, self._over_s = None, 0.0
            return Due.NO
        if not seen:
            self._over = None
            return Due.MAY if self._over_s > WINDOW_S - EARLY_S else Due.NO
        self._over_s += STEP_S
        self._over = self._over or Since(self.world)
        return max(self._over.due(WINDOW_S), Due.MAY if self._over_s > WINDOW_S - 2 * EARLY_S else Due.NO)

    def booted(self) -> None:
        self._seen = self._over = None
        self._placed = deque((at_s, False) for at_s, _ in self._placed)

    def stood_still(self, seconds: float) -> None:
        self._placed = deque((at_s, False) for at_s, _ in self._placed)
        self._over_s += seconds  # what is open may have been so all the time

    def rearmed(self) -> None:
        self._placed = deque((at_s, False) for at_s, _ in self._placed)  # a restart forgets that it has fired for them
        self._over, self._over_s, self._stays = None, 0.0, 0

    def mend(self) -> None:
        self._down_until_s = 0.0
        self._flood = self._heap = 0
