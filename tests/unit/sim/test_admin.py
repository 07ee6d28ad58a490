"""Hold the admin API against its documented interface."""

from __future__ import annotations

import json
import re
from typing import Any, cast
from uuid import UUID

import pytest
import websockets

from kill_switch.sim.admin import Admin
from kill_switch.sim.kit.book import Account
from kill_switch.sim.kit.exchange import DeadMan
from kill_switch.sim.kit.protocol import Request
from kill_switch.sim.main import VENUES, make_venues, read_options, with_key_types
from kill_switch.sim.oxfun.venue import Oxfun

from .clients import Sim, receive, running

pytestmark = pytest.mark.anyio


async def test_orders_are_rested_and_shown(sim: Sim) -> None:
    ids = await sim.rest_orders("roxom", 2, symbol="GOLD-BTC", kind="stop")
    assert [UUID(order_id).version for order_id in ids] == [7, 7]
    shown = await sim.get("/orders", venue="roxom")
    assert (shown["open"], shown["by_state"]) == (2, {"waitingtrigger": 2})
    assert [row["id"] for row in shown["orders"]] == ids
    assert shown["orders"][0]["symbol"] == "GOLD-BTC" and shown["orders"][0]["account"] == "roxom-1"


async def test_closed_orders_are_shown_when_asked_for(sim: Sim) -> None:
    [one] = await sim.rest_orders("roxom", 1)
    await sim.roxom_cancel_all()
    assert (await sim.get("/orders", venue="roxom"))["orders"] == []
    [row] = (await sim.get("/orders", venue="roxom", all="1"))["orders"]
    assert (row["id"], row["state"]) == (one, "cancelled")


async def test_positions_are_moved_and_shown(sim: Sim) -> None:
    await sim.post("/positions", venue="oxfun", qty="2.5", price=100)
    moved = await sim.post("/positions", venue="oxfun", qty=-1)
    shown = {"account": "oxfun-1", "symbol": "BTC-USD-SWAP-LIN", "inst_type": "", "qty": "1.5", "entry": "100"}
    assert moved == {"positions": [shown]} == await sim.get("/positions", venue="oxfun")
    assert await sim.get("/positions", venue="oxfun", account="oxfun-1") == moved


@pytest.mark.parametrize("venue", sorted(VENUES))
async def test_every_symbol_and_kind_of_the_ready_line_can_be_rested_and_no_other(venue: str) -> None:
    async with running(venue) as sim:
        entry = sim.venue(venue)
        for symbol in entry["symbols"]:
            for kind in entry["kinds"]:
                await sim.rest_orders(venue, 1, symbol=symbol, kind=kind)
        rows = (await sim.get("/orders", venue=venue))["orders"]
        assert [row["symbol"] for row in rows] == [symbol for symbol in entry["symbols"] for _ in entry["kinds"]]
        [unnamed] = await sim.rest_orders(venue, 1)
        rows = (await sim.get("/orders", venue=venue))["orders"]
        assert {row["id"]: row["symbol"] for row in rows}[unnamed] == entry["symbols"][0]
        for key, known in (("symbol", entry["symbols"]), ("kind", entry["kinds"])):
            for wrong in ("no-such", *entry["not_covered"], "", None, 7, [known[0]]):
                answer = await sim.admin.post("/orders", json={"venue": venue, key: wrong})
                assert answer.status_code == 400
                assert answer.json()["error"].endswith(f"Known: {', '.join(sorted(known))}.")
        assert await sim.open(venue) == len(rows)


async def test_the_weight_of_a_request_is_its_cost_in_the_venues_pool() -> None:
    async with running("oxfun", "crosstrade") as sim:
        await sim.oxfun_cancel_all()
        entry = sim.venue("crosstrade")
        headers = {"Authorization": f"Bearer {entry['credentials']['token']}"}
        async with websockets.connect(entry["ws_url"], ssl=sim.tls, additional_headers=headers) as ws:
            for message in ({"action": "ping"}, {"action": "rpc", "id": "1", "api": "GetAllOrders", "args": {}}):
                await ws.send(json.dumps(message))
                await receive(ws)
        weights = [(line["what"], line["weight"]) for line in await sim.get("/requests")]
        assert weights == [("cancel-all", 1), ("connect", 0), ("ping", 0), ("all-orders", 1)]


class OxfunWithCountdown(Oxfun):
    """Give the second account a countdown that is armed, and the first one that has fired."""

    def dead_man(self, account: Account) -> DeadMan:
        return DeadMan(None, 1) if account is self.account() else DeadMan(12.5, 0)


async def test_the_countdown_of_the_first_account_is_shown_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cast(dict[str, object], VENUES), "oxfun", OxfunWithCountdown)
    async with running("oxfun", accounts=2) as sim:
        fired = {"armed": False, "fires_in_s": None, "fired": 1}
        assert await sim.get("/deadman", venue="oxfun") == fired
        assert await sim.get("/deadman", venue="oxfun", account="oxfun-1") == fired
        shown = await sim.get("/deadman", venue="oxfun", account="oxfun-2")
        assert shown == {"armed": True, "fires_in_s": 12.5, "fired": 0}
        answer = await sim.admin.get("/deadman", params={"venue": "oxfun", "account": "oxfun-3"})
        assert answer.status_code == 400 and "unknown oxfun account 'oxfun-3'" in answer.json()["error"]


async def test_a_venue_without_a_countdown_says_so(sim: Sim) -> None:
    answer = await sim.admin.get("/deadman", params={"venue": "roxom"})
    assert answer.status_code == 400 and answer.json()["error"].startswith("roxom has no dead-man countdown")


async def test_requests_are_a_list_and_can_be_forgotten(sim: Sim) -> None:
    await sim.roxom_cancel_all()
    await sim.oxfun_cancel_all()
    await sim.oxfun("GET", "/v3/orders/working", change={"Signature": "AAAA"})
    lines = await sim.get("/requests")
    assert [(line["venue"], line["route"], line["what"], line["ok"]) for line in lines] == [
        ("roxom", "http", "cancel-all", True),
        ("oxfun", "http", "cancel-all", True),
        ("oxfun", "http", "orders", False),
    ]
    assert [line["t_ns"] for line in lines] == sorted(line["t_ns"] for line in lines)
    assert (await sim.admin.delete("/requests", params={"venue": "roxom"})).json() == {"removed": 1}
    assert len(await sim.get("/requests")) == 2
    assert (await sim.admin.delete("/requests")).status_code == 200
    assert await sim.get("/requests") == []


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/orders", {}, "'venue' is missing"),
        ("/orders", {"venue": "oxfan"}, "Did you mean 'oxfun'?"),
        ("/orders", {"venue": "oxfun", "count": -1}, "'count' is a whole number"),
        ("/orders", {"venue": "oxfun", "count": True}, "'count' is a whole number"),
        ("/orders", {"venue": "oxfun", "kind": "iceberg"}, "unknown kind 'iceberg'"),
        ("/orders", {"venue": "oxfun", "account": "nobody"}, "unknown oxfun account"),
        ("/orders", {"venue": "oxfun", "cuont": 2}, "Did you mean 'count'?"),
        ("/orders", {"venue": "oxfun", "ids": ["x"]}, "no order id of oxfun"),
        ("/orders", {"venue": "roxom", "inst_type": "perpetuel"}, "Did you mean 'perpetual'?"),
        ("/equity", {"venue": "oxfun", "equity": "lots"}, "'equity' is a number"),
        ("/equity", {"venue": "oxfun"}, "'equity' is a number"),
        ("/positions", {"venue": "oxfun"}, "'qty' is a number"),
        ("/positions", {"venue": "roxom", "qty": 1, "inst_type": "perpetuel"}, "Did you mean 'perpetual'?"),
        ("/options", {"venue": "roxom", "auth": "api-key"}, "at start-up only"),
        ("/options", {"venue": "roxom", "fields": "odd"}, "Known: new, old."),
        ("/options", {"venue": "oxfun", "greeting": "maybe"}, "true or false"),
        ("/options", {"venue": "oxfun", "engine_ms": -1}, "0 or more"),
        ("/options", {"venue": "oxfun", "engine": 1}, "Did you mean 'engine_ms'?"),
    ],
)
async def test_bad_input_is_400_and_one_line(sim: Sim, path: str, body: dict[str, Any], says: str) -> None:
    answer = await sim.admin.post(path, json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"] and "\n" not in answer.json()["error"]


async def test_a_body_that_is_no_json_is_400(sim: Sim) -> None:
    for content in (b"", b"{", b"[]", b"\xff"):
        assert (await sim.admin.post("/orders", content=content)).status_code == 400


async def test_unknown_calls_are_404(sim: Sim) -> None:
    answer = await sim.admin.get("/order")
    assert answer.status_code == 404 and "GET /orders" in answer.json()["error"]


async def test_a_web_page_cannot_reach_the_admin_api(sim: Sim) -> None:
    assert (await sim.admin.get("/requests", headers={"Host": "evil.example:80"})).status_code == 403


def test_a_client_from_elsewhere_is_dropped() -> None:
    class Elsewhere:
        """Be a connection from another machine."""

        peer = "192.0.2.1"
        dropped = False

        def abort(self) -> None:
            self.dropped = True

    connection: Any = Elsewhere()
    Admin({}).connected(connection)
    assert connection.dropped


async def test_options_are_listed_with_their_effect(sim: Sim) -> None:
    options = (await sim.get("/options", venue="oxfun"))["options"]
    assert options["engine_ms"]["value"] == 5.0 and options["limits"]["choices"] == ["ip", "account", "off"]
    assert all(row["says"] for row in options.values())


async def test_many_accounts_share_a_venue() -> None:
    async with running("roxom", accounts=20) as sim:
        entry = sim.venue("roxom")
        keys = {entry["credentials"]["api_key"], *(login["credentials"]["api_key"] for login in entry["accounts"])}
        assert len(keys) == 20
        assert all(login["options"] == entry["options"] for login in entry["accounts"])


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (["oxfan"], {}, f"unknown venue 'oxfan'. Did you mean 'oxfun'? Known: {', '.join(sorted(VENUES))}."),
        ([], {}, "name at least one venue"),
        (["oxfun"], {"roxom": {"auth": "rsa"}}, "not simulated here"),
        (["oxfun"], {"oxfun": {"greting": "off"}}, "Did you mean 'greeting'?"),
    ],
)
def test_a_wrong_start_is_refused_in_one_line(names: list[str], options: dict[str, dict[str, str]], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        make_venues(names, 1, options)
    assert "\n" not in str(refused.value)


def test_a_key_type_is_the_credentials_that_the_venue_expects() -> None:
    given: dict[str, dict[str, str]]
    for given in ({}, {"roxom": {"auth": "rsa", "unit": "sats"}}):
        chosen = with_key_types(given, ["roxom=rsa"])
        assert chosen == {"roxom": {"auth": "rsa"} | given.get("roxom", {})}
        account = make_venues(["roxom"], 1, chosen)["roxom"].account()
        assert set(account.credentials) == {"api_key", "private_key"}


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_each_key_type_that_a_venue_names_can_be_chosen(venue: str) -> None:
    for kind in VENUES[venue].key_types:
        assert kind in ("ed25519", "rsa")
        make_venues([venue], 1, with_key_types({}, [f"{venue}={kind}"]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("roxom", "key type 'roxom' is not written VENUE=ed25519 or VENUE=rsa"),
        ("roxom=", "is not written"),
        ("=rsa", "is not written"),
        ("rxom=rsa", "unknown venue 'rxom'. Did you mean 'roxom'?"),
        ("roxom=ed25519", "unknown key type of roxom 'ed25519'. Known: rsa."),
        ("kuna=rsa", "kuna has one type of credentials: it takes no key type"),
    ],
)
def test_a_wrong_key_type_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        with_key_types({}, [text])
    assert "\n" not in str(refused.value)


def test_a_key_type_and_an_option_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"key type 'roxom=rsa' contradicts roxom\.auth=api-key"):
        with_key_types({"roxom": {"auth": "api-key"}}, ["roxom=rsa"])


def test_options_are_read_as_the_command_line_has_them() -> None:
    texts = ["roxom.auth=api-key", "oxfun.greeting=off", "roxom.unit=sats"]
    assert read_options(texts) == {"roxom": {"auth": "api-key", "unit": "sats"}, "oxfun": {"greeting": "off"}}
    for text in ("roxom.auth", "auth=rsa", ".auth=rsa", "roxom.=1"):
        with pytest.raises(ValueError, match="is not written venue"):
            read_options([text])


def test_a_querys_last_value_wins() -> None:
    request = Request("GET", "/x?a=1&a=2&b=", "/x", "a=1&a=2&b=", {}, b"", 0, True)
    assert request.parameters() == {"a": "2", "b": ""}
