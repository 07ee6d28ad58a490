"""Play CrossTrade's flatten against a relay that delays, loses and reorders: no position is ever turned round.

The adapter and the sweep are the real ones, in virtual time; NinjaTrader behind the relay is a few lines: a flatten
closes what is there *when it arrives*, with a market order that is filled later. Two at once would be one too many.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from kill_switch.core import sweep, sweep_state
from kill_switch.core.domain import Instant, Phase, Route
from kill_switch.core.sweep import SweepAction
from kill_switch.venues import messages
from kill_switch.venues.crosstrade.adapter import CrossTrade
from tests.harness.venue_playbook import START

S = 1_000_000_000
NAMES = ("Sim101", "Live1")
QUIET_S = 60  # the relay and the bot trouble us for so long


@dataclass
class Order:
    account: str
    kind: str
    size: int = 0
    state: str = "Working"


@dataclass
class Ninja:
    """Hold what NinjaTrader holds; `long` says on which side of nothing each account's bot trades."""

    long: dict[str, int]
    held: dict[str, int]
    orders: dict[str, Order] = field(default_factory=dict)
    flattened: int = 0

    def call(self, what: str, account: str, one: str = "") -> tuple[dict[str, Any], list[str]]:
        """Carry a command out; return its answer, and the orders that it has submitted or begun to cancel."""
        items: list[dict[str, object]]
        alive = {name: order for name, order in self.orders.items() if order.state == "Working"}
        match what:
            case "orders":
                items = [
                    {"orderId": name, "account": o.account, "orderState": o.state, "orderType": o.kind}
                    for name, o in self.orders.items()
                ]
                return {"orders": items, "success": True}, []
            case "positions":
                items = [
                    {"account": name, "instrument": "ES", "marketPosition": "Long" if held > 0 else "Short"}
                    | {"quantity": abs(held)}
                    for name, held in self.held.items()
                    if held
                ]
                return {"positions": items, "success": True}, []
            case "snapshot":
                items = [{"account": {"name": name, "connectionStatus": "Connected"}} for name in NAMES]
                return {"accounts": items}, []
            case "cancel":
                found = [name for name, order in alive.items() if order.account == account and one in ("", name)]
                for name in found:
                    self.orders[name].state = "CancelPending"
                return {"orderIds": found, "success": True}, found
            case _:
                self.flattened += 1
                found = [name for name, order in alive.items() if order.account == account]
                for name in found:
                    self.orders[name].state = "CancelPending"
                if not self.held[account]:
                    return {"closedPositions": [], "warning": "No positions to flatten", "success": True}, found
                name = self.submit(account, "Market", -self.held[account])
                return {"closedPositions": [{}], "success": True}, [*found, name]

    def submit(self, account: str, kind: str, size: int = 0) -> str:
        name = f"{len(self.orders):032x}"
        self.orders[name] = Order(account, kind, size)
        return name

    def cancelled(self, name: str) -> None:
        if self.orders[name].state == "CancelPending":
            self.orders[name].state = "Cancelled"

    def fill(self, name: str) -> None:
        order = self.orders[name]
        if order.state in ("Working", "CancelPending"):
            order.state = "Filled"
            self.held[order.account] += order.size
            assert self.held[order.account] * self.long[order.account] >= 0, f"{order.account} was turned round"


class World:
    """Drive adapter, sweep and relay; `rough` is how much goes wrong, from 0 on."""

    def __init__(self, seed: int, rough: float, slow_fill_s: float) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a seed that can be played again
        self.rough, self.slow_fill_s = rough, slow_fill_s
        self.now_ns = START.mono_ns
        self.ninja = Ninja({"Sim101": 1, "Live1": -1}, {"Sim101": 3, "Live1": -2})
        options = CrossTrade.Options(nt_accounts=NAMES, order_events=False, flatten=True)
        self.adapter = CrossTrade(options, {"token": "token-0123456789"}, 0.06)
        self.sweep: sweep_state.Sweep | None = None
        self.conn = 0
        self._queue: list[tuple[int, int, Any]] = []
        self._count = itertools.count()
        self.cleared: list[int] = []

    @property
    def now(self) -> Instant:
        return Instant(self.now_ns, START.wall_ns + self.now_ns - START.mono_ns)

    @property
    def bad(self) -> bool:
        return self.now_ns < START.mono_ns + QUIET_S * S and self.dice.random() < self.rough

    def at(self, wait_s: float, what: Any) -> None:
        heapq.heappush(self._queue, (self.now_ns + int(wait_s * S), next(self._count), what))

    def latency_s(self) -> float:
        return self.dice.uniform(1, 16) if self.bad else self.dice.uniform(0.005, 0.3)

    def run(self, seconds: float) -> None:
        until_ns = self.now_ns + int(seconds * S)
        while self._queue and self._queue[0][0] <= until_ns:
            self.now_ns, _, what = heapq.heappop(self._queue)
            what()
        self.now_ns = until_ns

    # the adapter's side

    def feed(self, event: messages.Event) -> None:
        self.carry_out(self.adapter.handle(event, self.now))

    def carry_out(self, outputs: messages.Outputs) -> None:
        for output in outputs:
            match output:
                case messages.Send(conn, text):
                    asked = orjson.loads(text)
                    api = {"CancelOrders": "cancel", "Cancel": "cancel", "GetAllOrders": "orders", "Flatten": "flatten"}
                    args = asked["args"]
                    given = (api[asked["api"]], args.get("account", ""), args.get("orderId", ""))
                    self.ask(lambda body, tag=asked["id"], conn=conn: self.framed(conn, tag, body), *given)
                case messages.Call(tag, request, route):
                    self.called(tag, request.target, route)
                case messages.WakeAfter(tag, seconds):
                    self.at(seconds, lambda tag=tag: self.feed(messages.VenueTimerFired(tag)))
                case messages.CancelAnswered(answer):
                    self.step(sweep.StrikeAnswered(self.now_ns, answer))
                case messages.OrdersRead(orders, complete, asked_ns):
                    self.step(sweep.count_read(orders, complete, asked_ns, self.now_ns))
                case _:
                    pass

    def called(self, tag: str, target: str, route: Route) -> None:
        parts = target.split("/")
        what = parts[-1] if parts[-1] in ("cancel", "flatten", "orders", "positions", "snapshot") else ""
        account = parts[4] if len(parts) > 5 else ""
        ended: list[bool] = []

        def end(event: messages.Event) -> None:
            if not ended:
                ended.append(True)
                self.feed(event)

        if self.bad and route is Route.HTTP and self.dice.random() < 0.3:
            self.at(0.01, lambda: end(messages.CallLost(tag, False, "refused")))
            return
        self.at(3.0, lambda: end(messages.CallLost(tag, True, "no answer in time")))
        one = parts[6] if what == "cancel" and len(parts) == 8 else ""
        self.ask(lambda body: end(messages.Replied(tag, 200, {}, orjson.dumps(body))), what, account, one)

    def framed(self, conn: int, tag: str, body: object) -> None:
        if conn == self.conn:
            self.feed(messages.Received(conn, orjson.dumps({"id": tag, "data": body})))

    def ask(self, tell: Any, what: str, account: str, one: str = "") -> None:
        """Let a command arrive, sooner or later, and its answer come back, or not."""
        if what and not (self.bad and self.dice.random() < 0.3):  # else it is lost on its way
            self.at(self.latency_s() / 2, lambda: self.arrived(tell, what, account, one))

    def arrived(self, tell: Any, what: str, account: str, one: str) -> None:
        body, submitted = self.ninja.call(what, account, one)
        for name in submitted:
            if self.ninja.orders[name].state == "CancelPending":
                self.at(self.dice.uniform(0, 2), lambda name=name: self.ninja.cancelled(name))
            else:
                self.at(self.dice.uniform(0, self.slow_fill_s), lambda name=name: self.ninja.fill(name))
        if not self.bad:
            self.at(self.latency_s() / 2, lambda: tell(body))

    # the sweep's side

    def trip(self) -> None:
        self.sweep = sweep.start_sweep(CrossTrade.TIMING, self.now_ns)
        self.due()
        self.carry_out((*self.adapter.strike(self.now, 1),))

    def step(self, event: sweep.Event) -> None:
        if self.sweep is None:
            return
        self.sweep, acts = sweep.step(self.sweep, event)
        self.due()
        for act in acts:
            match act:
                case SweepAction.STRIKE:
                    self.carry_out((*self.adapter.strike(self.now, self.sweep.strikes),))
                case SweepAction.READ:
                    self.carry_out(self.adapter.read(self.now))
                case SweepAction.CLEAR:
                    self.cleared.append(self.now_ns)
                case SweepAction.RESIDUE:
                    pass

    def due(self) -> None:
        assert self.sweep is not None
        at_ns = self.sweep.due_ns
        self.at(
            max(0, at_ns - self.now_ns) / S,
            lambda: self.step(sweep.SweepTimerFired(self.now_ns)) if self.is_due(at_ns) else 0,
        )

    def is_due(self, at_ns: int) -> bool:
        return self.sweep is not None and self.sweep.due_ns == at_ns

    def bot(self) -> None:
        """Trade on, always to the same side."""
        account = self.dice.choice(NAMES)
        if self.now_ns < START.mono_ns + QUIET_S * S:
            if self.dice.random() < 0.5:
                self.ninja.submit(account, "Limit")
            elif not any(o.state == "Working" and o.kind == "Market" for o in self.ninja.orders.values()):
                self.ninja.held[account] += self.ninja.long[account]
            self.at(self.dice.uniform(2, 15), self.bot)

    def reconnect(self) -> None:
        """Let the WebSocket come and go."""
        if self.conn % 2:
            self.feed(messages.Closed(Route.WS, self.conn, "gone"))
        self.conn += 1
        if self.conn % 2:
            self.feed(messages.Opened(Route.WS, self.conn))
        if self.now_ns < START.mono_ns + QUIET_S * S:
            self.at(self.dice.uniform(5, 30), self.reconnect)


@pytest.mark.parametrize("slow_fill_s", [0.1, 4.0, 40.0])
@pytest.mark.parametrize("rough", [0.0, 0.15, 0.5])
def test_no_position_is_turned_round_and_all_are_closed_in_the_end(rough: float, slow_fill_s: float) -> None:
    for seed in range(25):
        world = World(seed, rough, slow_fill_s)
        world.reconnect()
        world.at(1.0, world.trip)
        world.at(2.0, world.bot)
        world.run(QUIET_S + 400)
        assert world.sweep is not None and world.sweep.phase is Phase.CLEAR, (seed, world.ninja)
        assert world.ninja.held == dict.fromkeys(NAMES, 0), (seed, world.ninja)
        assert not [o for o in world.ninja.orders.values() if o.state in ("Working", "CancelPending")], (
            seed,
            world.ninja,
        )
        assert world.ninja.flattened >= 2


def test_on_a_good_day_each_position_costs_one_flatten_and_little_time() -> None:
    world = World(0, 0.0, 0.1)
    world.reconnect()
    world.at(1.0, world.trip)
    world.run(10)
    assert world.ninja.flattened == 2 and world.ninja.held == dict.fromkeys(NAMES, 0)
    assert len(world.cleared) == 1 and world.cleared[0] - START.mono_ns < 5 * S
