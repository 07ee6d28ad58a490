"""One entry of a list that is not as documented hides no other order, and never passes for an order less."""

from __future__ import annotations

import copy
import json
from collections import UserList
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kill_switch.venues import VENUES
from kill_switch.venues.messages import Call, OrdersRead
from tests.harness.venue_playbook import Player, Read, answer, payload
from tests.harness.venue_profiles import STANDS, VenueProfile

from .test_crosstrade import LONG, flattening, flattens, looked, struck_and_answered

COUNT = 50
MISSING = "<missing>"
WRONG: tuple[Any, ...] = (
    *(MISSING, None, True, False, 7, 10**40, -1.5),
    *("", " ", "UNKNOWN_STATE", "x" * 100_000, [], [None], {}, {"a": {}}),
)
FIELDS = {  # as the venues document an order of a list
    "oxfun": "orderId clientOrderId marketCode status side price stopPrice isTriggered quantity orderType",
    "roxom": "id orderId symbol instType status side orderType limitPrice remainingQty",
    "kuna": "id orderId type quantity side pair price stopPrice status createdAt updatedAt closedAt",
    "kraken-futures": "order_id symbol side orderType limitPrice stopPrice unfilledSize filledSize status cliOrdId",
    "kraken": "refid userref status opentm starttm expiretm descr vol vol_exec price stopprice misc oflags",
    "deribit": "order_id order_state order_type instrument_name label trigger_order_id cancel_reason",
    "crosstrade": "orderId id account instrument instrumentType orderType orderState quantity filled gtd",
}
STATUS = {"oxfun": "status", "roxom": "status", "kuna": "status", "crosstrade": "orderState"}  # Kraken's id is a key
STATUS |= {"kraken-futures": "status", "deribit": "order_state"}
for _futures in ("binance-usdm", "binance-coinm"):
    FIELDS[_futures] = "symbol orderId clientOrderId status positionSide type side price origQty algoId algoStatus"
    STATUS[_futures] = "status"
FIELDS["binance-spot"] = "symbol orderId orderListId clientOrderId status type side price origQty isWorking"
STATUS["binance-spot"] = "status"
ID = {"binance-spot": "orderId", "binance-usdm": "orderId", "binance-coinm": "orderId", "deribit": "order_id"}
ID |= {"oxfun": "orderId", "roxom": "id", "kuna": "id", "crosstrade": "orderId", "kraken-futures": "order_id"}


def ids(stand: VenueProfile) -> list[str]:
    """Return so many ids that are formed as the venue's are."""
    return [stand.ids[0][:-4] + f"{number:04d}" for number in range(COUNT)]


class Values(UserList[Any]):
    """The values of a body's object as a list; what is set in it is set in the object."""

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__(found.values())
        self._found = found

    def __setitem__(self, number: Any, value: Any) -> None:
        self._found[list(self._found)[number]] = value


def entries(body: Any) -> Any:
    """Find a body's list of orders."""
    if isinstance(body, list):
        return body
    if "openOrders" in body:
        return body["openOrders"]
    if "result" in body:
        result = body["result"]
        return result if isinstance(result, list) else Values(result["open"])
    data = body.get("orders", body.get("data"))
    found = data["orders"] if isinstance(data, dict) else data
    assert isinstance(found, list)
    return found


def read(player: Player, body: Any, status: int = 200) -> OrdersRead:
    """Read back; the first list has this body, others are empty."""
    stand = STANDS[player.adapter.NAME]
    bodies = [(body, status)]
    calls = [output for output in player.put(Read()) if isinstance(output, Call)]
    while calls:
        call = calls.pop(0)
        told, code = bodies.pop() if bodies else (stand.listed(status=stand.live[0]), 200)
        outputs = player.put(answer(call.tag, json.dumps(told).encode(), code))  # there are huge integers
        calls += [output for output in outputs if isinstance(output, Call)]
    orders_read = [output for output in player.outputs if isinstance(output, OrdersRead)][-1]
    assert orders_read.asked_ns == player.now.mono_ns
    return orders_read


@pytest.mark.parametrize("venue", list(VENUES))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_wrong_with_one_entry_the_others_are_seen_and_it_is_seen_or_the_read_is_incomplete(
    venue: str, data: st.DataObject
) -> None:
    stand = STANDS[venue]
    known = ids(stand)
    body = copy.deepcopy(stand.listed(*known, status=stand.live[0]))
    number = data.draw(st.integers(0, COUNT - 1))
    field = data.draw(st.sampled_from(["", *FIELDS[venue].split()]))
    wrong = data.draw(st.sampled_from(WRONG))
    entry = entries(body)[number]
    if not field:
        entries(body)[number] = wrong
    elif wrong == MISSING:
        entry.pop(field, None)
    else:
        entry[field] = wrong
    orders_read = read(stand.ready(), body)
    seen = {order.id for order in orders_read.orders}
    assert set(known) - seen <= {known[number]}
    if field == "account" and isinstance(wrong, str) and wrong.strip() and wrong != MISSING:
        return  # somebody else's, by its own words
    assert len(seen) == COUNT or not orders_read.complete


@pytest.mark.parametrize("venue", list(STATUS))
def test_an_ended_order_without_an_id_does_not_spoil_the_list(venue: str) -> None:
    stand = STANDS[venue]
    body = copy.deepcopy(stand.listed(*stand.ids, status=stand.live[0]))
    ended = dict(entries(body)[0]) | {STATUS[venue]: stand.gone}
    del ended[ID[venue]]
    entries(body).append(ended)
    orders_read = read(stand.ready(), body)
    assert ({order.id for order in orders_read.orders}, orders_read.complete) == (set(stand.ids), True)
    del entries(body)[-1][STATUS[venue]]  # then it may be alive
    assert not read(stand.ready(), body).complete


REFUSALS: dict[str, tuple[int, dict[str, Any]]] = {
    "oxfun": (400, {"success": False, "code": "20001", "message": "half of it"}),
    "roxom": (200, {"error": True, "message": "half of it"}),
    "kuna": (200, {"errors": [{"code": "BAD_REQUEST", "message": "half of it"}]}),
    "crosstrade": (400, {"success": False, "error": "half of it"}),
    "kraken": (200, {"error": ["EGeneral:half of it"]}),
    "kraken-futures": (200, {"result": "error", "error": "half of it"}),
    "deribit": (200, {"error": {"code": 10001, "message": "half of it"}}),
}


@pytest.mark.parametrize("venue", list(VENUES))
def test_orders_that_come_beside_an_error_are_seen_and_the_read_is_incomplete(venue: str) -> None:
    stand = STANDS[venue]
    body = stand.listed(*stand.ids, status=stand.live[0])
    if isinstance(body, list):
        pytest.skip("an answer is a list or an error")
    status, error = REFUSALS[venue]
    assert isinstance(body, dict)
    orders_read = read(stand.ready(), body | error, status)
    assert ({order.id for order in orders_read.orders}, orders_read.complete) == (set(stand.ids), False)
    assert "half of it" in orders_read.why


@pytest.mark.parametrize("owner", ["Eval50K", "eval50k", {"name": "Eval50K"}])
def test_a_live_order_without_an_id_of_an_account_that_is_not_ours_does_not_spoil_the_list(owner: object) -> None:
    stand = STANDS["crosstrade"]
    body = copy.deepcopy(stand.listed(*stand.ids, status="Working"))
    stranger = {**payload("crosstrade/order"), "orderId": None, "account": owner}
    entries(body).insert(0, stranger)
    orders_read = read(stand.ready(), body)
    assert ({order.id for order in orders_read.orders}, orders_read.complete) == (set(stand.ids), True)
    others: tuple[Any, ...] = ("Sim101", " sim101", None, 7, {"name": None}, [])  # ours, or nobody says
    for whose in others:
        stranger["account"] = whose
        orders_read = read(stand.ready(), body)
        assert ({order.id for order in orders_read.orders}, orders_read.complete) == (set(stand.ids), False), whose


@pytest.mark.parametrize(
    ("entry", "whole"),
    [
        ({"account": "Eval50K", "instrument": "ES 09-26", "marketPosition": "Long"}, True),  # not ours
        ({"account": "Sim101", "marketPosition": "Flat", "quantity": 0}, True),  # nothing to close
        ({"account": "Sim101", "instrument": "NQ 09-26", "marketPosition": "Long", "quantity": None}, False),
        ({"account": "Sim101", "marketPosition": "Long", "quantity": 1}, False),
        (None, False),
        (7, False),
    ],
)
def test_a_position_that_cannot_be_read_hides_no_other_and_that_one_is_closed(entry: object, whole: bool) -> None:
    player = flattening()
    struck_and_answered(player)
    outputs = looked(player, entry, LONG)  # type: ignore[arg-type]
    assert flattens(outputs) == ["Sim101"]
    [orders_read] = [output for output in outputs if isinstance(output, OrdersRead)]
    assert [order.id for order in orders_read.orders] == ["position:Sim101:ES 09-26"]
    assert orders_read.complete is whole
