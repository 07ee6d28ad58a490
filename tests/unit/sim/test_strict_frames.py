"""Each simulated venue answers wrong WebSocket messages as documented, and the order rests or is gone as documented."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import anyio
import pytest
import websockets

from .clients import Sim
from .raw import kraken, send
from .strict_frames import GONE, IDEAS, UNIFIED, VENUES, FrameRow, frame_rows
from .test_strictness import OTHER, started

# where these take commands
PATHS = {"binance-usdm": "/ws-fapi/v1", "binance-coinm": "/ws-dapi/v1", UNIFIED: "/v2/private"}
TOKENS = {"kraken": ("kraken", ""), UNIFIED: ("kraken-futures", "unified_")}  # simulator and names of the keys


async def talk(sim: Sim, venue: str, path: str, row: FrameRow) -> str:
    """Have the row's conversation on a connection of its own; return what answered the last message."""
    entry = sim.venue(venue)
    url = f"wss://{entry['rest_url'].partition('://')[2]}{path}" if path else entry["ws_url"]
    heard: list[str] = [""]
    async with websockets.connect(url, ssl=sim.tls) as ws:
        for message in row.talk:
            if row.fault and message is row.talk[-1]:
                await sim.fault(venue, row.fault)
            await ws.send(message.make(heard[-1]))
            with anyio.move_on_after(2):
                while message.says not in heard[-1] or not heard[-1]:
                    heard.append(str(await ws.recv()))
    return heard[-1]


async def token_of(sim: Sim, asked: str) -> str:
    """Return a token for the WebSocket; empty where it takes none."""
    if asked not in TOKENS:
        return ""
    venue, prefix = TOKENS[asked]
    entry = sim.venue(venue)
    keys = {f"api_{part}": entry["credentials"][f"{prefix or 'api_'}{part}"] for part in ("key", "secret")}
    _, said = await send(entry["rest_url"], sim.tls, kraken(keys, "GetWebSocketsToken"))
    return str(json.loads(said)["result"]["token"])


@pytest.mark.anyio
@pytest.mark.parametrize("asked", VENUES)
async def test_a_message_that_is_wrong_in_one_way_gets_the_documented_answer(asked: str) -> None:
    venue = "kraken-futures" if asked == UNIFIED else asked
    others, wrong = OTHER.get(venue, venue), list[str]()
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(started(venue))
        elsewhere = await stack.enter_async_context(started(others, accounts=2))
        keys, foreign = sim.venue(venue)["credentials"], elsewhere.venue(others)["accounts"][0]["credentials"]
        foreign_token, ids = await token_of(elsewhere, asked), [""]

        def table(token: str) -> list[FrameRow]:
            rows = frame_rows(asked, keys, foreign, ids, [token, foreign_token])
            return sorted(rows, key=lambda row: list(IDEAS).index(row.idea))

        token = ""
        for number in range(len(table("a token that is not used"))):
            token = token or await token_of(sim, asked)
            row, before = table(token)[number], await sim.open(venue)
            for kind in row.kinds:
                ids[:] = await sim.rest_orders(venue, 1, kind=kind)
            said = await talk(sim, venue, PATHS.get(asked, ""), row)
            await sim.clear(venue)
            token = "" if row.fault else token  # which may have ended it
            due = 0 if row.order == GONE else before + len(row.kinds)
            with anyio.move_on_after(1):
                await sim.until_open(venue, due)
            left = await sim.open(venue)
            if row.says not in said or left != due:
                wrong.append(f"{row.idea}: {said[:200]!r} and {left} left; due {row.says} and {due}")
    assert not wrong, "\n" + "\n".join(wrong)
