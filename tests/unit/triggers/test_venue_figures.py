"""What venues tell of accounts that trade, lose their connection or move money, and what a pnl trigger makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from kill_switch.core.domain import Route
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.crosstrade.adapter import CrossTrade
from kill_switch.venues.messages import Call, Equity, Opened, Outputs, Send, Transferred, VenueTimerFired, WakeAfter
from kill_switch.venues.roxom.adapter import Roxom
from tests.harness.venue_playbook import answer, hears, payload
from tests.unit.triggers.test_pnl import Desk, limits, watching

pytestmark = pytest.mark.anyio


class Venue:
    """An adapter whose calls are answered after 50 ms, and whose figures go to a trigger."""

    def __init__(self, desk: Desk, adapter: Adapter, serve: Callable[[str], object], group: TaskGroup) -> None:
        self.desk, self.adapter, self.serve, self.group = desk, adapter, serve, group

    def put(self, event: Any) -> None:
        self.carry_out(self.adapter.handle(event, self.desk.loop.now()))

    def carry_out(self, outputs: Outputs) -> None:
        for output in outputs:
            match output:
                case Call(tag, request):
                    self.group.start_soon(self._answer, tag, request.target)
                case WakeAfter(tag, seconds):
                    self.group.start_soon(self._wake, tag, seconds)
                case Equity(amounts, asked_ns):
                    self.desk.trigger.on_equity("a", amounts, asked_ns)
                case Transferred(currency, amount):
                    self.desk.trigger.on_transfer("a", currency, amount)
                case Send():
                    pass

    async def _answer(self, tag: str, target: str) -> None:
        await anyio.sleep(0.02)
        body = self.serve(target)  # as it is in the middle of the way
        await anyio.sleep(0.03)
        self.put(answer(tag, body))

    async def _wake(self, tag: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        self.put(VenueTimerFired(tag))

    async def measure(self) -> None:
        while True:
            self.carry_out(self.adapter.request_equity(self.desk.loop.now()))
            await anyio.sleep(5)


class RoxomAccount:
    """Trade without a position on Roxom: the balance is all there is."""

    def __init__(self) -> None:
        self.cash, self.others, self.stamp = Decimal(100), dict[str, str](), 0
        self.venue: Venue

    def serve(self, target: str) -> object:
        if "instruments" in target:
            return payload("roxom/instruments")
        if "positions" in target:
            return {"data": {"positions": []}}
        held = {"BTC": str(self.cash * 100_000_000), **self.others}
        return {"data": {"balances": [{"asset": asset, "current": current} for asset, current in held.items()]}}

    def move(self, amount: str, kind: str = "ordersettle", told: str = "") -> None:
        before, self.stamp = self.cash, self.stamp + 1
        self.cash += Decimal(amount)
        data = {"balanceBefore": str(before), "balanceAfter": str(self.cash), "amount": told or amount}
        fields = {"unit": "btc", "updateType": kind, "timestamp": self.stamp}
        self.venue.put(hears(1, {"type": "balance", "data": data | fields}))


@asynccontextmanager
async def roxom(**changed: Any) -> AsyncIterator[tuple[Desk, RoxomAccount]]:
    terms = {"currency": "BTC", "rates": {}, "limits": limits(max_loss=1), **changed}
    account = RoxomAccount()
    adapter = Roxom(Roxom.Options(auth="api-key", inst_types=("perpetual",)), {"api_key": "xrxk_key_1"}, 0.06)
    async with watching(**terms) as desk, anyio.create_task_group() as group:
        account.venue = Venue(desk, adapter, account.serve, group)
        account.venue.put(Opened(Route.WS, 1))
        account.venue.put(hears(1, {"event": "subscribe"}))
        group.start_soon(account.venue.measure)
        yield desk, account
        group.cancel_scope.cancel()


async def test_thirty_bitcoin_that_are_lost_in_small_steps_all_the_time_trip_a_limit_of_one() -> None:
    async with roxom() as (desk, account):
        for _ in range(50):  # 20 s
            await anyio.sleep(0.4)
            account.move("0.001")
        assert desk.state == "ok"
        for _ in range(50):
            await anyio.sleep(0.4)
            account.move("-0.6")
        [reason] = desk.reasons
        assert reason.text.startswith("max_loss reached")


async def test_an_account_that_trades_at_constant_equity_is_never_blind_and_trips_nothing() -> None:
    async with roxom() as (desk, account):
        await anyio.sleep(20)
        for number in range(1500):  # ten minutes
            await anyio.sleep(0.4)
            account.move("0.5" if number % 2 else "-0.5")
            assert desk.state == "ok"
        assert not desk.reasons


@pytest.mark.parametrize("told", ["30", "-30", ""])
async def test_a_withdrawal_with_a_sign_or_without_one_is_no_loss(told: str) -> None:
    async with roxom() as (desk, account):
        await anyio.sleep(120)
        account.move("-30", "withdrawal", told or "nothing that can be read")
        await anyio.sleep(120)
        assert not desk.reasons and desk.state == "ok"
        account.move("-2")
        await anyio.sleep(20)
        assert len(desk.reasons) == 1


async def test_a_purchase_on_roxom_needs_a_rate_and_is_no_loss() -> None:
    for rates, state in (({}, "blind"), ({"GOLD": Decimal("0.05")}, "ok")):
        async with roxom(rates=rates) as (desk, account):
            await anyio.sleep(20)
            account.others["GOLD"] = "800"
            account.move("-40")
            await anyio.sleep(60)
            assert not desk.reasons and desk.state == state
            assert state == "ok" or "a holds 800 GOLD, and rates has none" in desk.detail


class Desktop:
    """Push what two NT accounts are worth, as CrossTrade does."""

    def __init__(self, venue: Venue) -> None:
        self.venue, self.epoch = venue, 0

    def push(self, worth: float, status: str = "Connected", *, again: bool = False) -> None:
        self.epoch += 0 if again else 1000
        item = {"netLiquidation": worth}
        accounts = [
            {"account": {"name": "Sim101", "connectionStatus": "Connected", "item": {"netLiquidation": 1000.0}}},
            {"account": {"name": "Live1", "connectionStatus": status, "item": item}},
        ]
        self.venue.put(hears(1, {"type": "pnlUpdate", "epoch": self.epoch, "accounts": accounts}))


@asynccontextmanager
async def crosstrade() -> AsyncIterator[tuple[Desk, Desktop]]:
    options = CrossTrade.Options(nt_accounts=("Sim101", "Live1"))
    adapter = CrossTrade(options, {"token": "crosstrade-token"}, 0.06)
    async with watching() as desk, anyio.create_task_group() as group:
        venue = Venue(desk, adapter, lambda target: {"error": "Invalid request"}, group)
        venue.put(Opened(Route.WS, 1))
        venue.put(hears(1, {"id": "hello", "data": {"orders": [], "success": True}}))
        yield desk, Desktop(venue)
        group.cancel_scope.cancel()


async def test_the_zeros_of_an_account_that_has_lost_its_connection_make_the_trigger_blind_and_trip_nothing() -> None:
    async with crosstrade() as (desk, desktop):
        for _ in range(10):
            await anyio.sleep(1)
            desktop.push(5000)
        assert desk.state == "ok"
        for _ in range(60):
            await anyio.sleep(1)
            desktop.push(0, "ConnectionLost")
        assert desk.state == "blind" and not desk.reasons
        for _ in range(5):
            await anyio.sleep(1)
            desktop.push(4990)
        assert desk.state == "ok" and not desk.reasons


async def test_frames_of_one_moment_confirm_nothing() -> None:
    async with crosstrade() as (desk, desktop):
        for _ in range(10):
            await anyio.sleep(1)
            desktop.push(5000)
        desktop.push(4000)
        for _ in range(10):
            await anyio.sleep(0.2)
            desktop.push(4000, again=True)
        desktop.push(5000)
        await anyio.sleep(1)
        assert desk.state == "ok" and not desk.reasons
        for _ in range(2):
            desktop.push(4000)
            await anyio.sleep(1)
        assert len(desk.reasons) == 1
