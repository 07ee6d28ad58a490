"""Each simulated venue answers requests that are wrong in a detail as documented; the order rests or is gone."""

from __future__ import annotations

import anyio
import pytest

from .raw import send
from .strict_details import GONE, IDEAS, VENUES, detail_rows
from .test_strictness import started


@pytest.mark.anyio
@pytest.mark.parametrize("venue", VENUES)
async def test_a_request_that_is_wrong_in_a_detail_gets_the_documented_answer(venue: str) -> None:
    wrong, ids = list[str](), ["1"]
    async with started(venue, accounts=2) as sim:
        entry = sim.venue(venue)
        keys, other = entry["credentials"], entry["accounts"][0]["credentials"]
        assert keys != other
        for number in range(len(list(detail_rows(venue, keys, other, ids)))):
            before = await sim.open(venue)
            ids[:] = await sim.rest_orders(venue, 1, account=f"{venue}-1")
            row = list(detail_rows(venue, keys, other, ids))[number]
            assert row.idea in IDEAS
            status, said = 0, ""
            for request in row.request():
                status, said = await send(entry["rest_url"], sim.tls, request)
            due = before + (row.order != GONE)
            with anyio.move_on_after(1):
                await sim.until_open(venue, due)
            left = await sim.open(venue)
            if (status, left) != (row.status, due) or row.says not in said:
                wrong.append(f"{row.idea}: {status} {said[:150]}, {left} left; due {row.status} {row.says}, {due}")
    assert not wrong, "\n" + "\n".join(wrong)
