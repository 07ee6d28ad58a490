"""Each simulated venue answers wrong amends and edits as documented, and no order is another than it was."""

from __future__ import annotations

from typing import Any

import pytest

from .clients import Sim
from .raw import send
from .strict_changes import IDEAS, VENUES, changes
from .test_strictness import OTHER, started


async def resting(sim: Sim, venue: str) -> dict[str, tuple[Any, Any]]:
    """Return amount and price of each open order, of all accounts."""
    orders = (await sim.get("/orders", venue=venue))["orders"]
    return {order["id"]: (order["qty"], order["price"]) for order in orders}


@pytest.mark.anyio
@pytest.mark.parametrize("venue", VENUES)
async def test_a_change_that_is_wrong_in_one_way_gets_the_documented_answer_and_changes_nothing(venue: str) -> None:
    others, wrong = OTHER.get(venue, venue), list[str]()
    async with started(venue, accounts=2) as sim, started(others, accounts=2) as elsewhere:
        keys, ids = sim.venue(venue)["credentials"], ["", ""]
        foreign = elsewhere.venue(others)["accounts"][0]["credentials"]
        [ids[1]] = await sim.rest_orders(venue, 1, account=f"{venue}-2")
        count = len(list(changes(venue, keys, foreign, ids)))
        for number in range(count):
            if ids[0] not in await resting(sim, venue):  # none yet, or the last row has changed or replaced it
                [ids[0]] = await sim.rest_orders(venue, 1, account=f"{venue}-1")
            row, before = list(changes(venue, keys, foreign, ids))[number], await resting(sim, venue)
            assert row.idea in IDEAS
            if row.fault:
                await sim.fault(venue, row.fault)
            status, said = 0, ""
            for request in row.request():
                status, said = await send(sim.venue(venue)["rest_url"], sim.tls, request)
            await sim.clear(venue)
            after = await resting(sim, venue)
            ids[0] = "" if row.changes else ids[0]
            if (status, after != before) != (row.status, row.changes) or row.says not in said:
                wrong.append(f"{row.what}, {row.idea}: {status} {said[:200]} {after != before}; due {row[3:6]}")
    assert not wrong, "\n" + "\n".join(wrong)
