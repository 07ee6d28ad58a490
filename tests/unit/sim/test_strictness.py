"""Each simulated venue answers wrong requests as its documents state, and the order rests or is gone as documented."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from .clients import Sim, running
from .raw import send
from .strictness import GONE, IDEAS, PAGE, VENUES, page, rows

# the venue whose key is the other plane's; where there is none, the key of a second simulator of the same venue
OTHER = {"binance-spot": "binance-usdm", "binance-usdm": "binance-spot", "binance-coinm": "binance-spot"}
OPTIONS = {
    "kraken": {"tier": "unlimited", "lockout_after": "0"},
    "kraken-futures": {"pool": "0"},
    "oxfun": {"engine_ms": "0", "limits": "off"},
    "kuna": {"auth": "hmac", "rest_per_min": "0"},
    "crosstrade": {"engine_ms": "0", "burst": "0"},
    "deribit": {"tier": "unlimited"},
}


@pytest.mark.anyio
@pytest.mark.parametrize("venue", VENUES)
async def test_a_request_that_is_wrong_in_one_way_gets_the_documented_answer(venue: str) -> None:
    others = OTHER.get(venue, venue)
    async with started(venue) as sim, started(others, accounts=2) as elsewhere:
        entry, foreign, ids = sim.venue(venue), elsewhere.venue(others)["accounts"][0]["credentials"], [""]
        table = list(rows(venue, entry["credentials"], foreign, ids))
        assert {row.idea for row in table} <= set(IDEAS)
        wrong: list[str] = []
        for row in sorted(table, key=lambda row: list(IDEAS).index(row.idea)):
            before = await sim.open(venue)
            for kind in row.kinds:
                ids[:] = await sim.rest_orders(venue, 1, kind=kind)
            if row.fault:
                await sim.fault(venue, row.fault)
            status, said = 0, ""
            for request in row.request():
                status, said = await send(entry["rest_url"], sim.tls, request)
            await sim.clear(venue)
            due = row.left if row.left is not None else 0 if row.order == GONE else before + len(row.kinds)
            with anyio.move_on_after(1):
                await sim.until_open(venue, due)
            left = await sim.open(venue)
            if (status, left) != (row.status, due) or row.says not in said:
                wrong.append(
                    f"{row.idea}: {status} {said[:150]} and {left} left; due {row.status} {row.says} and {due}"
                )
        assert not wrong, "\n" + "\n".join(wrong)


def started(venue: str, accounts: int = 1) -> AbstractAsyncContextManager[Sim]:
    return running(venue, accounts=accounts, options={venue: OPTIONS[venue]} if venue in OPTIONS else {})


def test_the_page_has_the_table() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.unit.sim.strictness --write"
