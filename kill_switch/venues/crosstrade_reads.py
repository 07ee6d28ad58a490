"""Read orders at CrossTrade, and positions where they count, with as few tokens as its paths allow (§5, §6).

One token covers all NT accounts' orders: `GET /orders`, whose path is inferred, or `GetAllOrders` over the WebSocket;
without either it is a list an account. Positions are read behind the orders, never beside them: what fills between the
two then shows in the positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kill_switch.domain import Now
from kill_switch.venues.base import Ask, Asks, Outputs, Request, WakeAfter
from kill_switch.venues.crosstrade_answers import Accounts, Held, Owned, Said, Words, failure
from kill_switch.venues.crosstrade_wire import Wire, path_of

READ_AGAIN_S = 1.0  # a read that is slow goes out once more: the relay to the add-on may take most of a second
LIST_WITHIN_S = 1.5  # GetAllOrders over the WebSocket


@dataclass(slots=True, eq=False)
class Read:
    """One read under way; a `probe` is housekeeping, speaks for the lane, and has no positions."""

    asked_ns: int
    probe: bool = False
    tried: bool = False  # over the WebSocket
    conn: int | None = None
    missing: set[str] = field(default_factory=set)
    orders: list[Owned] = field(default_factory=list)
    ordered: bool = False  # the orders are all there
    positions: list[Held] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


class Reads:
    """Carry reads out; `done` is told of a read that is whole, `failed` why one is not."""

    KINDS = frozenset({"orders", "list", "positions"})

    def __init__(
        self,
        wire: Wire,
        ours: Accounts,
        ask: Asks,
        words: Words,
        done: Callable[[Read, Now], Outputs],
        failed: Callable[[Read, str, Said | None], Outputs],
        *,
        positions: bool,
        hedge_after_s: Callable[[], float],
    ) -> None:
        self.has_path = True  # REST has GET /orders
        self.has_rpc = True  # the WebSocket has GetAllOrders
        self.orders = wire.request("GET", "/v1/api/orders")
        self._wire = wire
        self._ours = ours
        self._ask = ask
        self._words = words
        self._done = done
        self._failed = failed
        self._positions = wire.request("GET", "/v1/api/positions") if positions else None
        self._hedge_after_s = hedge_after_s
        self._frames: dict[str, Read] = {}  # over the WebSocket, by the id of their RPC
        self._count = 0

    def begin(self, read: Read, now: Now) -> Outputs:
        """Read every order of the user with one token; without such a call, account by account."""
        if self.has_path:
            return self._get("orders", self.orders, read, read, now)
        conn = self._wire.newest
        if self.has_rpc and conn is not None and not read.tried:
            read.tried, read.conn = True, conn
            self._count += 1
            tag = f"r{self._count}"
            self._frames[tag] = read
            return (self._wire.rpc(conn, tag, "GetAllOrders", {}, now), WakeAfter(f"list {tag}", LIST_WITHIN_S))
        read.missing = set(self._ours.names)
        outputs: Outputs = ()
        for name in self._ours.names:
            outputs += self._get("list", self._wire.request("GET", f"{path_of(name)}/orders"), read, (name, read), now)
        return outputs

    def _get(self, kind: str, request: Request, read: Read, context: object, now: Now) -> Outputs:
        again_s = None if read.probe else max(READ_AGAIN_S, 4 * self._hedge_after_s())
        build = self._wire.paid(request)
        return self._ask(kind, build, now, urgent=not read.probe, hedge_after_s=again_s, context=context)

    # what comes back

    def answered(self, ask: Ask, body: object, status: int, now: Now) -> Outputs | None:
        """Take the answer to a request; None if another route should be heard."""
        match ask.kind:
            case "orders" if status == 404:
                self.has_path = False
                return self.begin(ask.context, now)
            case "orders":
                return self._listed(ask.context, body, status, now)
            case "list":
                name, read = ask.context
                return self._listed_one(name, read, body, status, now)
            case _:
                return self._held(ask.context, body, status, now)

    def unanswered(self, ask: Ask, why: str, now: Now) -> Outputs:
        if ask.kind == "list":
            name, read = ask.context
            return self._gather(name, read, None, why, now)
        return self._failed(ask.context, why, None)

    def replied(self, conn: int, tag: str, body: object, said: Said | None, now: Now) -> Outputs:
        """Take the reply to an RPC, if it is one of a read's."""
        read = self._frames.get(tag)
        if read is None or read.conn != conn:
            return ()
        del self._frames[tag]
        orders = self.rpc_orders(body)
        if orders is not None:
            return self._ordered(read, orders, now)
        self.has_rpc = said is not None and (said.limited or said.offline)
        return self.begin(read, now)

    def rpc_orders(self, body: object) -> list[Owned] | None:
        return None if failure(None, body, self._words) is not None else self._ours.orders(body)

    def late(self, tag: str, now: Now) -> Outputs:
        """Read in another way what has not been answered in time."""
        read = self._frames.pop(tag, None)
        return () if read is None else self.begin(read, now)

    def closed(self, conn: int, now: Now) -> Outputs:
        outputs: Outputs = ()
        for tag in [tag for tag, read in self._frames.items() if read.conn == conn]:
            outputs += self.begin(self._frames.pop(tag), now)
        return outputs

    def _listed(self, read: Read, body: object, status: int, now: Now) -> Outputs | None:
        wrong = failure(status, body, self._words)
        if wrong is not None:
            return None if wrong.nothing else self._failed(read, wrong.words, wrong)
        orders = self._ours.orders(body)
        if orders is None:
            return self._failed(read, "the order list cannot be read", None)
        return self._ordered(read, orders, now)

    def _listed_one(self, name: str, read: Read, body: object, status: int, now: Now) -> Outputs | None:
        wrong = failure(status, body, self._words)
        if wrong is None:
            return self._gather(name, read, self._ours.orders(body, name), "the order list cannot be read", now)
        return None if wrong.nothing else self._gather(name, read, None, wrong.words, now)

    def _gather(self, name: str, read: Read, orders: list[Owned] | None, why: str, now: Now) -> Outputs:
        read.missing.discard(name)
        if orders is None:
            read.troubles.append(f"{name}: {why}")
        else:
            read.orders.extend(orders)
        if read.missing:
            return ()
        if read.troubles:
            return self._failed(read, self._words("; ".join(read.troubles)), None)
        return self._ordered(read, read.orders, now)

    def _ordered(self, read: Read, orders: list[Owned], now: Now) -> Outputs:
        read.orders, read.ordered = orders, True
        if self._positions is None or read.probe:
            return self._done(read, now)
        return self._get("positions", self._positions, read, read, now)

    def _held(self, read: Read, body: object, status: int, now: Now) -> Outputs | None:
        wrong = failure(status, body, self._words)
        if wrong is not None:
            return None if wrong.nothing else self._failed(read, f"positions: {wrong.words}", wrong)
        positions = self._ours.positions(body)
        if positions is None:
            return self._failed(read, "the list of positions cannot be read", None)
        read.positions = positions
        return self._done(read, now)
