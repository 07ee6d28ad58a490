"""A venue of a few tables has signatures, lists, cancels, events, limits, a countdown and all faults."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import httpx
import orjson
import pytest
import websockets

import kill_switch.sim.main as registry
from kill_switch.sim.kit.auth import Lockout, NonceLedger, TokenStore
from kill_switch.sim.kit.book import Account, Order
from kill_switch.sim.kit.countdown import Countdown
from kill_switch.sim.kit.exchange import Session
from kill_switch.sim.kit.limits import CostWindow, DecayingCounter, PoolSpec, RatePools
from kill_switch.sim.kit.options import Options
from kill_switch.sim.kit.protocol import Request, Understood
from kill_switch.sim.kit.table_venue import TableVenue
from kill_switch.sim.kit.tables import OMIT, Op, Params, Refused, RouteSpec, fill
from kill_switch.sim.kit.values import positive
from kill_switch.sim.kit.ws_protocol import WsProtocol

from .clients import Sim, receive, running

pytestmark = pytest.mark.anyio


class Hmac:
    def key_of(self, request: Request) -> str:
        return request.headers.get("key", "")

    def check(self, request: Request, account: Account) -> str | None:
        right = hmac.digest(account.credentials["api_secret"].encode(), request.body, "sha256").hex()
        return None if request.headers.get("sign") == right else "bad signature"


class Socket(WsProtocol):
    def __init__(self, venue: Corner) -> None:
        super().__init__()
        self.venue = venue
        self.ops |= {
            "login": Op("login", self.log_in, private=False),
            "cancel": Op("cancel", lambda session, account, data: len(venue.cancel_all(account))),
        }

    def op_of(self, data: dict[str, Any]) -> tuple[str, str | None]:
        return str(data.get("op")), None

    def good(self, heard: Understood, result: object) -> object:
        return {"op": heard.op, "result": result}

    def bad(self, heard: Understood, code: str, text: str = "") -> object:
        return {"op": heard.op, "error": code}

    def log_in(self, session: Session, account: Account, data: dict[str, Any]) -> object:
        if data.get("key") not in self.venue.keys:
            raise Refused("unknown key")
        self.venue.attach(session, self.venue.keys[data["key"]])
        return "ok"

    def push_orders(self, session: Session, orders: Sequence[Order], news: str) -> None:
        self.venue.event(session, orjson.dumps({"news": news, "ids": [order.id for order in orders]}), "order")


class Corner(TableVenue):
    name = "corner"
    options_type = Options
    symbols = ("BTC",)
    lists = ("orders",)

    def __init__(self, options: Options, accounts: int) -> None:
        self.ids = itertools.count(1)
        self.auth = Hmac()
        super().__init__(options, accounts)
        self.sockets["/ws"] = Socket(self)
        self.routes |= {
            ("GET", "/time"): RouteSpec("other", "time", lambda account, params: account.name, public=True),
            ("POST", "/list"): RouteSpec("read", "orders", self.list_page, 2),
            ("POST", "/cancel"): RouteSpec("cancel", "cancel", self.cancel_some),
            ("POST", "/cancel/{id}/now"): RouteSpec("cancel", "cancel-one", lambda a, params: params),
            ("POST", "/cancel-all"): RouteSpec("cancel", "cancel-all", lambda a, params: len(self.cancel_all(a))),
            ("POST", "/place"): RouteSpec("other", "place", lambda a, params: self.place(a, self.new(a, params)).id),
        }

    def pool_specs(self) -> list[PoolSpec]:
        return [PoolSpec("rest", 10, seconds=60)]

    def make_account(self, number: int) -> Account:
        account = Account(f"corner-{number}", str(number), {"api_key": f"k{number}", "api_secret": "s"})
        self.keys[f"k{number}"] = account
        return account

    def make_order(self, account: Account, symbol: str, kind: str, category: str, number: int) -> Order:
        return Order(
            str(next(self.ids)), symbol, kind, "buy", Decimal(1), Decimal(100), "open", self.now_ns(), category=category
        )

    def new(self, account: Account, params: Params) -> Order:
        return self.make_order(account, "BTC", str(params.get("kind", "limit")), "", 0)

    def id_format(self, text: str) -> bool:
        return text.isdigit()

    def good(self, result: object) -> object:
        return {"result": result}

    def bad(self, code: str, text: str = "") -> object:
        return {"error": code}

    def list_page(self, account: Account, params: Params) -> object:
        return self.list_open(account, "orders", lambda order: fill({"id": "{id}"}, {"id": order.id}), count=2)

    def cancel_some(self, account: Account, params: Params) -> object:
        return len(self.cancel_ids(account, params["ids"], "unknown order"))


@pytest.fixture
async def sim(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sim]:
    monkeypatch.setattr(registry, "VENUES", {"corner": Corner})
    async with running("corner", accounts=2) as started:
        yield started


async def call(sim: Sim, path: str, *, sign: str | None = None, **params: Any) -> httpx.Response:
    body = json.dumps(params)
    right = hmac.digest(b"s", body.encode(), "sha256").hex()
    headers = {"key": "k1", "sign": sign or right, "Content-Type": "application/json"}
    return await sim.web.post(sim.venue("corner")["rest_url"] + path, content=body, headers=headers)


async def test_routes_answer_by_the_table_and_other_paths_are_refused(sim: Sim) -> None:
    ids = await sim.rest_orders("corner", 3)
    public = await sim.web.get(sim.venue("corner")["rest_url"] + "/time")
    assert (public.json(), (await call(sim, "/nowhere")).status_code) == ({"result": ""}, 404)
    assert (await call(sim, "/list", sign="00")).json() == {"error": "bad signature"}
    assert (await call(sim, "/list")).json() == {"result": [{"id": ids[0]}, {"id": ids[1]}]}
    unknown = await call(sim, "/cancel", ids=[ids[0], "99"])
    assert (unknown.json(), await sim.open("corner")) == ({"error": "unknown order"}, 3)
    assert (await call(sim, "/cancel", ids=ids[:1])).json() == {"result": 1}
    assert (await call(sim, "/cancel-all")).json() == {"result": 2}
    placed = (await call(sim, "/place")).json()["result"]
    await call(sim, "/place", kind="market")  # filled at once
    assert [order["id"] for order in (await sim.get("/orders", venue="corner"))["orders"]] == [placed]


async def test_a_segment_of_a_path_is_a_parameter_that_the_body_cannot_replace(sim: Sim) -> None:
    assert (await call(sim, "/cancel/7/now", id="8", more=1)).json() == {"result": {"id": "7", "more": 1}}
    for path in ("/cancel/7", "/cancel/7/later", "/cancel/7/now/x"):
        assert (await call(sim, path)).status_code == 404
    assert next(line["what"] for line in await sim.requests("corner")) == "cancel-one"


async def test_requests_for_unknown_paths_are_charged_as_well(sim: Sim) -> None:
    assert [(await call(sim, "/nowhere")).status_code for _ in range(11)] == [404] * 10 + [429]


@pytest.mark.parametrize("body", ["{", "[]", "1"])
async def test_a_body_that_is_no_json_object_is_refused(sim: Sim, body: str) -> None:
    sign = hmac.digest(b"s", body.encode(), "sha256").hex()
    headers = {"key": "k1", "sign": sign, "Content-Type": "application/json"}
    answer = await sim.web.post(sim.venue("corner")["rest_url"] + "/cancel-all", content=body, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize("value", [None, "", "x", "nan", "inf", "0", "-1", True, []])
def test_only_a_finite_number_above_zero_is_positive(value: object) -> None:
    assert positive(value) is None
    assert (positive("0.5"), positive(2)) == (Decimal("0.5"), Decimal(2))


async def test_the_pool_is_charged_by_weight_and_shared_with_another_program(sim: Sim) -> None:
    for _ in range(4):
        assert (await call(sim, "/list")).status_code == 200
    await sim.fault("corner", "foreign_use", per_s=0.1)  # one at once
    assert (await call(sim, "/list")).status_code == 429
    assert (await call(sim, "/cancel-all")).status_code == 200
    assert [line["weight"] for line in await sim.requests("corner")] == [2, 2, 2, 2, 2, 1]


async def test_a_websocket_answers_by_its_table_and_pushes_to_its_own_account(sim: Sim) -> None:
    async with websockets.connect(sim.venue("corner")["ws_url"], ssl=sim.tls) as ws:

        async def say(**message: str) -> Any:
            await ws.send(json.dumps(message))
            return await receive(ws)

        assert (await say(op="dance"))["error"] == "unknown operation"
        assert (await say(op="cancel"))["error"] == "not logged in"
        assert (await say(op="login", key="x"))["error"] == "unknown key"
        assert (await say(op="login", key="k1"))["result"] == "ok"
        await sim.rest_orders("corner", 1, account="corner-2")
        [one] = await sim.rest_orders("corner", 1)
        assert await receive(ws) == {"news": "opened", "ids": [one]}
        await ws.send('{"op":"cancel"}')
        assert [await receive(ws), await receive(ws)] == [
            {"news": "cancelled", "ids": [one]},
            {"op": "cancel", "result": 1},
        ]


def test_a_template_is_filled_where_it_names_a_value() -> None:
    template = {"id": "{id}", "kept": "x", "none": None, "list": [{"price": "{price}"}], "gone": "{client}"}
    shown = fill(template, {"id": 7, "price": "1.5", "client": OMIT})
    assert shown == {"id": 7, "kept": "x", "none": None, "list": [{"price": "1.5"}]}


def test_a_decaying_counter_refuses_a_cost_that_does_not_fit_and_falls_with_time() -> None:
    counter = DecayingCounter(15, 0.5)
    assert counter.charge(14, 0.0) and not counter.charge(2, 0.0) and counter.charge(1, 0.0)
    assert not counter.charge(1, 1.0) and counter.charge(1, 2.0)
    assert counter.level(100.0) == 0


def test_a_window_of_costs_forgets_older_ones() -> None:
    window = CostWindow(500, 10)
    assert window.charge(475, 0.0) and window.charge(25, 5.0) and not window.charge(1, 9.9)
    assert window.charge(475, 10.0) and not window.charge(1, 14.9) and window.charge(25, 15.0)


def test_a_pool_is_shared_by_accounts_or_addresses() -> None:
    pools = RatePools([PoolSpec("account", 2, seconds=1), PoolSpec("address", 3, seconds=1, shared_by="address")])
    assert pools.charge(2, 0.0, account="a", address="x") and not pools.charge(1, 0.0, account="a", address="y")
    assert pools.charge(1, 0.0, account="b", address="x") and not pools.charge(1, 0.0, account="b", address="x")


def test_a_token_ends_after_its_life_unless_it_is_kept_and_when_it_is_revoked() -> None:
    now = [0.0]
    mine, other = Account("a", "a", {}), Account("b", "b", {})
    tokens = TokenStore(lambda: 900.0, lambda: now[0])
    first, kept, foreign = tokens.issue(mine), tokens.issue(mine), tokens.issue(other)
    tokens.keep(kept)
    now[0] = 899.9
    assert tokens.owner(first) is mine and tokens.owner("x") is None and tokens.owner(None) is None
    now[0] = 900.0
    assert tokens.owner(first) is None and tokens.owner(kept) is mine
    tokens.revoke(mine)
    assert tokens.owner(kept) is None
    now[0] = 899.0
    assert tokens.owner(foreign) is other


def test_nonces_of_two_keys_do_not_meet() -> None:
    nonces = NonceLedger()
    assert nonces.accept("a", "2") and not nonces.accept("a", "2") and nonces.accept("b", "1")


def test_a_client_is_locked_out_by_as_many_failures_in_the_time() -> None:
    lockout = Lockout(3, 60.0, 900.0)
    for at in (0.0, 1.0, 61.5, 62.0):
        lockout.fail("x", at)
        assert not lockout.locked("x", at)
    lockout.fail("x", 63.0)
    assert lockout.locked("x", 900.0) and not lockout.locked("x", 963.0) and not lockout.locked("y", 63.0)


async def test_a_countdown_that_is_armed_again_or_disarmed_does_not_end() -> None:
    loop, ends = asyncio.get_running_loop(), []
    countdown = Countdown(lambda seconds, call, *given: loop.call_later(seconds, call, *given), lambda: ends.append(1))
    countdown.arm(0.01)
    countdown.arm(60)
    await asyncio.sleep(0.05)
    left = countdown.state().fires_in_s
    assert not ends and left is not None and 50 < left <= 60
    countdown.arm(0.01)
    await asyncio.sleep(0.05)
    assert ends == [1] and countdown.state() == (None, 1)
    countdown.arm(0.01)
    countdown.arm(0)
    await asyncio.sleep(0.05)
    assert ends == [1] and countdown.state() == (None, 1)
