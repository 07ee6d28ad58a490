"""Decide what a venue's documents leave open, each way, and see it on real sockets."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from websockets.exceptions import ConnectionClosed

from kill_switch.sim.main import VENUES, make_venues

from .clients import Sim, oxfun_login, receive, receive_until_closed, running
from .desks import DESKS, OPTIONS, Desk, KunaDesk, upgraded
from .test_crosstrade import Cross
from .test_kuna import call as kuna_call
from .test_kuna import cancel as kuna_cancel
from .test_kuna import login_of, signed

pytestmark = pytest.mark.anyio

SNAPSHOTS = ("kraken", "kraken-futures")  # whose subscriptions always show the orders that rest


def desk_of(sim: Sim, name: str) -> Desk:
    return DESKS[name](sim)


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_one_option_decides_everything_and_a_single_one_beside_it_wins(venue: str) -> None:
    kind = VENUES[venue].options_type
    assert len(kind.unknowns()) >= 2
    for how in ("kind", "harsh"):
        options = make_venues([venue], 1, {venue: {"engine_ms": "7", "unknown": how}})[venue].base_options
        assert options.engine_ms == 7
        for field in kind.unknowns():
            chosen = field.default if field.metadata[how] is None else field.metadata[how]
            assert getattr(options, field.name) == chosen or field.name == "engine_ms"


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_every_harsh_value_is_one_that_its_option_takes_and_differs_from_the_kind_one(venue: str) -> None:
    for field in VENUES[venue].options_type.unknowns():
        kind, harsh = field.metadata["kind"], field.metadata["harsh"]
        assert (field.default if kind is None else kind) != (field.default if harsh is None else harsh)
        for value in (kind, harsh):
            if value is not None:
                VENUES[venue].options_type().set(field.name, value)


async def test_it_is_switched_while_it_runs_and_is_shown() -> None:
    async with running("roxom") as sim:
        shown = (await sim.post("/options", venue="roxom", unknown="harsh"))["options"]
        assert (shown["nothing"]["value"], shown["nothing"]["harsh"]) == ("404", "404")
        shown = (await sim.post("/options", venue="roxom", unknown="default"))["options"]
        assert shown["nothing"]["value"] == "empty"
        wrong = await sim.admin.post("/options", json={"venue": "roxom", "unknown": "cruel"})
        assert wrong.status_code == 400 and "Known: default, harsh, kind" in wrong.json()["error"]


@pytest.mark.parametrize("venue", [name for name in sorted(VENUES) if name not in SNAPSHOTS])
async def test_a_subscription_may_show_the_orders_that_rest(venue: str) -> None:
    async with running(venue, options={venue: {**OPTIONS.get(venue, {}), "snapshot": "on"}}) as sim:
        desk = desk_of(sim, venue)
        [one] = await desk.rest()
        async with desk.listening() as ws:
            assert await desk.heard(ws) == one


@pytest.mark.parametrize("venue", sorted(VENUES))
async def test_a_websocket_may_be_closed_however_alive_it_is(venue: str) -> None:
    async with running(venue, options={venue: {"life_s": "0.2"}}) as sim, upgraded(sim, venue) as ws:
        with pytest.raises(ConnectionClosed) as end, anyio.fail_after(5):
            await receive_until_closed(ws)
        assert end.value.rcvd is not None and end.value.rcvd.code == 1001


async def test_roxoms_cancel_all_may_spare_stops_and_refuse_to_cancel_nothing() -> None:
    options = {"nothing": "404", "cancel_all_includes_stops": "off", "error_texts": "other", "error_status": "200"}
    async with running("roxom", options={"roxom": options}) as sim:
        await sim.rest_orders("roxom", 1, kind="stop")
        answer = await sim.roxom_cancel_all()
        assert answer.status_code == 200 and answer.json()["error"]["message"] == "Request failed"
        assert await sim.open("roxom") == 1


async def test_roxoms_cancel_all_may_close_positions() -> None:
    async with running("roxom", options={"roxom": {"cancel_all_closes": "on"}}) as sim:
        await sim.post("/positions", venue="roxom", qty="2")
        await sim.roxom_cancel_all()
        assert (await sim.get("/positions", venue="roxom"))["positions"] == []


async def test_roxom_may_refuse_to_cancel_an_order_with_a_pending_cancel() -> None:
    async with running("roxom", options={"roxom": {"cancels_pending": "off", "engine_ms": "60000"}}) as sim:
        [one] = await sim.rest_orders("roxom", 1)
        assert (await sim.roxom("POST", f"/orders/{one}/cancel")).status_code == 200
        again = await sim.roxom("POST", f"/orders/{one}/cancel")
        assert (again.status_code, again.json()["error"]["message"]) == (400, "Cannot Cancel")


@pytest.mark.parametrize(("ack", "said"), [("bare", {"event": "subscribe"}), ("none", None)])
async def test_roxoms_acknowledgement_may_be_shorter_or_empty(ack: str, said: object) -> None:
    async with running("roxom", options={"roxom": {"ack": ack}}) as sim, upgraded(sim, "roxom") as ws:
        await ws.send('{"op":"subscribe","args":[{"channel":"orders"}]}')
        if said is not None:
            assert await receive(ws) == said
        [one] = await sim.rest_orders("roxom", 1)
        assert (await receive(ws))["data"]["orderId"] == one


async def test_roxom_may_close_behind_an_error() -> None:
    async with running("roxom", options={"roxom": {"errors_close": "on"}}) as sim, upgraded(sim, "roxom") as ws:
        await ws.send("nonsense")
        assert (await receive(ws))["code"] == "60017"
        with pytest.raises(ConnectionClosed):
            await receive(ws)


@pytest.mark.parametrize("venue", ["roxom", "oxfun", "crosstrade"])
async def test_a_list_may_be_cut_without_a_word(venue: str) -> None:
    async with running(venue, options={venue: {**OPTIONS.get(venue, {}), "page_limit": "2"}}) as sim:
        desk = desk_of(sim, venue)
        await desk.rest(3)
        assert len(await desk.ids()) == 2


async def test_oxfuns_cancel_all_may_need_a_market_and_spare_stops() -> None:
    options = {"cancel_all": "market", "cancel_all_includes_stops": "off", "engine_ms": "0"}
    async with running("oxfun", options={"oxfun": options}) as sim:
        await sim.rest_orders("oxfun", 1)
        await sim.rest_orders("oxfun", 1, kind="stop")
        assert (await sim.oxfun_cancel_all()).json()["code"] == "20011"
        body = '{"marketCode":"BTC-USD-SWAP-LIN"}'
        assert (await sim.oxfun("DELETE", "/v3/orders/cancel-all", body=body)).status_code == 200
        assert [order["kind"] for order in (await sim.get("/orders", venue="oxfun"))["orders"]] == ["stop"]


async def test_oxfuns_login_may_expire_without_a_word() -> None:
    async with running("oxfun", options={"oxfun": {"login_s": "0.2"}}) as sim, sim.oxfun_socket("order:all") as ws:
        await anyio.sleep(0.3)
        await sim.rest_orders("oxfun", 1)
        await ws.send(oxfun_login(sim.venue("oxfun")))
        assert (await receive(ws))["event"] == "login"  # what came between was not pushed


async def test_kunas_login_may_expire_with_its_token() -> None:
    async with running("kuna", options={"kuna": {"token_s": "0.1"}}) as sim, KunaDesk(sim).listening() as ws:
        assert (await receive(ws))["event"] == "#removeAuthToken"


async def test_kunas_pushes_may_be_named_otherwise_and_its_cancels_be_slow() -> None:
    async with running("kuna", options={"kuna": {"push_event": "update", "engine_ms": "200"}}) as sim:
        desk = KunaDesk(sim)
        async with desk.listening() as ws:
            [one] = await desk.rest()
            assert (await receive(ws))["data"]["data"]["event"] == "update"
            assert (await kuna_cancel(sim, one)).json()["data"] == [{"id": one, "success": True}]
            assert await desk.ids() == {one}
            assert (await receive(ws))["data"]["data"]["data"]["status"] == "Canceled"


async def test_crosstrades_lists_and_errors_may_look_otherwise() -> None:
    options: dict[str, Any] = {"orders_key": "data", "errors": "empty", "retry_after": "off", "burst": "2"}
    async with running("crosstrade", options={"crosstrade": options}) as sim:
        cross = Cross(sim)
        assert (await cross.call("GET", "/orders")).json()["data"] == []
        await cross.options(addon=False)
        offline = await cross.call("GET", "/orders")
        assert (offline.status_code, offline.content) == (408, b"")
        limited = await cross.call("GET", "/orders")
        while limited.status_code == 408:
            limited = await cross.call("GET", "/orders")
        assert limited.status_code == 429 and "retry-after" not in limited.headers


@pytest.mark.parametrize(("counts", "said"), [("off", "login"), ("on", None)])
async def test_oxfuns_pings_may_count_before_the_login(counts: str, said: str | None) -> None:
    async with running("oxfun", options={"oxfun": {"counts_pings": counts}}) as sim, upgraded(sim, "oxfun") as ws:
        assert "nonce" in await receive(ws)
        await ws.send("ping")
        assert await ws.recv() == "pong"
        await ws.send(oxfun_login(sim.venue("oxfun")))
        answer = await receive(ws)
        assert answer["success"] is (said is not None) and answer.get("code") == (None if said else "20007")


@pytest.mark.parametrize(("compact", "status"), [("on", 200), ("off", 401)])
async def test_kuna_may_sign_a_body_without_its_blanks(compact: str, status: int) -> None:
    async with running("kuna", options={"kuna": {"auth": "hmac", "signs_compact": compact}}) as sim:
        [one] = await sim.rest_orders("kuna", 1)
        target = "/v4/order/private/cancel"
        headers = signed(login_of(sim), target, f'{{"orderId":"{one}"}}')
        answer = await kuna_call(sim, "POST", target, f'{{"orderId": "{one}"}}', headers=headers)
        assert answer.status_code == status
