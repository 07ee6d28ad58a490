"""Measure what thousands of open orders cost: the strike's first message, all of it, and the read-back.

    python -m tests.system.load.many_orders

No sockets: what is measured is the venue's own work, from the strike to the bytes of its first message, and from the
bytes of a list of orders to the facts in it. Exit code 1 if a list is read at less than a hundred thousand orders a
second, or if the first message takes more than it may.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Mapping
from typing import NamedTuple

from kill_switch.venues.adapter import Adapter
from kill_switch.venues.messages import Call, OrdersRead, Send
from tests.harness.venue_playbook import Pause, Player, Read
from tests.harness.venue_profiles import STANDS, VenueProfile

ORDERS_PER_S = 100_000  # to be read at least
FACTOR = 2.0  # what the first message may take with ten thousand orders, of what it takes with few
# without an account-wide cancel the first message is a batch of orders, or a symbol's cancel
FEW: Mapping[str, int] = {"kuna": 1_000, "binance-spot": 1, "binance-usdm": 1, "binance-coinm": 1}
MANY = 10_000
TRIES = 5  # one quiet moment is enough
_OTHER_WORK = bytearray(16 << 20)  # between two strikes: it leaves nothing of them in the processor's caches
PLAYERS, STRIKES, READS = 3, 8, 5  # the least of all counts: what else the machine does only adds to it


class Cost(NamedTuple):
    """What a strike takes, in microseconds."""

    first_us: float
    whole_us: float


def holding(stand: VenueProfile, orders: int) -> Player:
    """Return a venue that is ready and knows of so many orders."""
    player = stand.ready()
    read_back(stand, player, ids(stand, orders))
    assert len(player.adapter.book.orders) == orders
    return player


def ids(stand: VenueProfile, count: int, first: int = 0) -> list[str]:
    """Make ids of the venue's own format: the digits at the end of one count."""
    pattern = stand.ids[0]
    return [f"{pattern[:-6]}{number:06d}" for number in range(first, first + count)]


def strike(adapter: Adapter, player: Player, number: int) -> Cost:
    """Strike once; what is built for a lane is built, nothing is sent."""
    began_s = time.perf_counter()
    first_s = 0.0
    for output in adapter.strike(player.now, number):
        match output:
            case Call():
                _ = output.request.wire
            case Send():
                pass
            case _:
                continue
        first_s = first_s or time.perf_counter()
    return Cost((first_s - began_s) * 1e6, (time.perf_counter() - began_s) * 1e6)


def cheapest(stand: VenueProfile, orders: int, players: int = PLAYERS) -> Cost:
    costs = []
    for _ in range(players):
        player = holding(stand, orders)
        for number in range(1, STRIKES + 1):
            bytes(_OTHER_WORK)
            costs.append(strike(player.adapter, player, number))
            player.put(Pause(60))
    return Cost(min(cost.first_us for cost in costs), min(cost.whole_us for cost in costs))


def read_back(stand: VenueProfile, player: Player, found: list[str]) -> float:
    """Have a list of these orders read; return how many seconds it took to take it in."""
    took_s = 0.0
    read = None
    work = [*player.put(Read())]
    while work:
        call = work.pop(0)
        if isinstance(call, Call):
            reply = stand.reads(call, *found)
            tracemalloc.clear_traces()
            began_s = time.perf_counter()
            outputs = player.put(reply)
            took_s += time.perf_counter() - began_s
            read = next((output for output in outputs if isinstance(output, OrdersRead)), read)
            work += outputs
    assert read is not None and len(read.orders) == len(found)
    return took_s


def main() -> int:
    print(
        f"{'venue':<12}{'few':>7}{'first':>9}{'whole':>10}{'many':>8}{'first':>9}{'whole':>10}{'reads/s':>12}{'KiB':>8}"
    )
    failed = False
    for venue, stand in STANDS.items():
        number = FEW.get(venue, 0)
        for _ in range(TRIES):
            few, many = cheapest(stand, number), cheapest(stand, MANY)
            if many.first_us <= FACTOR * few.first_us:
                break
        player, found = stand.ready(), ids(stand, MANY)
        per_s = MANY / min(read_back(stand, player, found) for _ in range(READS))
        tracemalloc.start()
        read_back(stand, player, found)
        peak_kib = tracemalloc.get_traced_memory()[1] / 1024
        tracemalloc.stop()
        cells = f"{few.first_us:>7.0f}µs{few.whole_us:>8.0f}µs{MANY:>8}{many.first_us:>7.0f}µs{many.whole_us:>8.0f}µs"
        print(f"{venue:<12}{number:>7}{cells}{per_s:>12,.0f}{peak_kib:>8,.0f}")
        failed = failed or per_s < ORDERS_PER_S or many.first_us > FACTOR * few.first_us
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
